"""``cocuyo train`` and ``cocuyo paper``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cocuyo.cli.common import _counted, _typed, cli
from cocuyo.cli.progress import ProgressPrinter

if TYPE_CHECKING:
    from types import ModuleType

    from cocuyo.laboratory import SizeName
    from cocuyo.pipeline import PresetName


@cli.command(
    epilog="""\b
Examples:
  cocuyo paper --quick --out try
  cocuyo paper --out paper --seed 1
  cocuyo paper --annotated dg13.avi dg13_labels.tif --frame-rate 5
""",
)
@click.option(
    "--out", default="cocuyo-paper", show_default=True, metavar="DIR", help="Folder to make."
)
@click.option(
    "--full",
    "size",
    flag_value="full",
    help="The paper's geometry, width and epochs: days, and a GPU.",
)
@click.option(
    "--standard",
    "size",
    flag_value="standard",
    default=True,
    help="21 recordings of 600 x 256 x 256 and fewer epochs, for two cores (default).",
)
@click.option(
    "--quick",
    "size",
    flag_value="quick",
    help="Tries the command in a minute or two; too small for any conclusion.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="Seed of everything.",
)
@click.option(
    "--annotated",
    nargs=2,
    multiple=True,
    metavar="REC LABELS",
    help="Also try the trained networks on a real recording and the cells marked in it; may be "
    "given several times.",
)
@click.option(
    "--frame-rate",
    "frame_rate_hz",
    type=float,
    metavar="HZ",
    help="Frames per second of annotated recordings whose files do not say it.",
)
def paper(
    *,
    out: str,
    size: "SizeName",
    seed: int,
    annotated: tuple[tuple[str, str], ...],
    frame_rate_hz: float | None,
) -> None:
    """Do the experiments of the paper on simulated recordings: its tables and figures.

    Simulates seven experiments, trains both networks with the paper's recipe (needs the extra
    `train`), and writes Tables 1 and 2 and figures 2, 5, 6, 7 and 8 beside the published values.
    Started again with the same folder it goes on where it was stopped.
    """
    from cocuyo.io import load_ground_truth, open_recording

    training = _training()
    from cocuyo.laboratory import reproduce

    marked = []
    for recording, labels in annotated:
        opened = open_recording(recording, frame_rate_hz=frame_rate_hz)
        opened.rate_hz  # noqa: B018 - raises before hours of training where no rate is known
        marked.append((opened, load_ground_truth(labels, frame_shape=opened.frame_shape)))
    with training.open_team() as team, ProgressPrinter() as progress:
        done = reproduce(out, size=size, seed=seed, annotated=marked, team=team, progress=progress)
    click.echo(_paper_summary(done.results))
    click.echo(f"Tables and figures: {done.folder / 'README.md'}")


def _paper_summary(results: dict[str, Any]) -> str:
    """Table 2 in short: SDC with the teacher's mask, published values beside."""
    lines = [f"{'SDC with the SRNAME-like teacher':<46}{'measured':>10}{'published':>11}"]
    for row in results["table_2"]:
        if row["reference"] != "srname":
            continue
        name = f"test experiment {row['experiment']}, {row['method']}"
        found, published = (
            "-" if row[column] is None else f"{row[column]:.3f}"
            for column in ("SDC", "published SDC")
        )
        lines.append(f"{name:<46}{found:>10}{published:>11}")
    if results["size"] == "quick":
        lines.append("This size tries the command; it is too small for any conclusion.")
    return "\n".join(lines)


@cli.group()
def train() -> None:
    """Train the networks and the verifier on simulated recordings (needs the extra `train`)."""


def _training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that the training commands share."""
    options = (
        click.option(
            "--preset",
            type=click.Choice(["default", "paper"]),
            default="default",
            show_default=True,
            help="What to train.",
        ),
        click.option(
            "--work",
            required=True,
            metavar="DIR",
            help="Folder for data, checkpoints and the model; a stopped training goes on there.",
        ),
        click.option("--seed", type=int, default=1, show_default=True, help="Seed of everything."),
        click.option(
            "--workers", type=int, default=2, show_default=True, help="Processes for simulation."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _training() -> "ModuleType":
    from cocuyo.core import MissingExtraError

    try:
        from cocuyo import training
    except ImportError as error:
        msg = f'Training needs the extra "train": pip install "cocuyo[train]" ({error}).'
        raise MissingExtraError(msg) from error
    return training


def _train(what: str, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    training = _training()
    steps = {
        "unet": training.train_unet,
        "temporal": training.train_temporal,
        "outline": training.train_outline,
        "events": training.train_events,
        "verifier": training.train_verifier,
    }
    with training.open_team() as team:
        shop = training.open_workshop(work, preset=preset, seed=seed, n_workers=workers, team=team)
        if not team.leads:  # one of several processes; the first one speaks
            steps[what](shop)
            return
        with ProgressPrinter() as progress:
            steps[what](shop, progress=progress)
    click.echo(f"{what} of preset {preset} is trained; everything lies in {shop.folder}.")


@train.command(
    name="unet",
    epilog="""\b
Examples:
  cocuyo train unet --work training/default
  cocuyo train unet --preset paper --work training/paper
""",
)
@_training_options
def train_unet(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """First: fit the spatial network (simulates the recordings where they are absent)."""
    _train("unet", preset, work, seed, workers)


@train.command(
    name="temporal",
    epilog="""\b
Examples:
  cocuyo train temporal --work training/default
""",
)
@_training_options
def train_temporal(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """Second: fit the temporal network on the spatial one; writes the folder DIR/model."""
    _train("temporal", preset, work, seed, workers)


@train.command(
    name="outline",
    epilog="""\b
Examples:
  cocuyo train outline --work training/default
""",
)
@_training_options
def train_outline(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """Third: fit the network that draws the outlines of candidates; adds it to DIR/model."""
    _train("outline", preset, work, seed, workers)


@train.command(
    name="events",
    epilog="""\b
Examples:
  cocuyo train events --work training/default
""",
)
@_training_options
def train_events(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """Fourth: fit the network that finds events in traces; adds it to DIR/model."""
    _train("events", preset, work, seed, workers)


@train.command(
    name="verifier",
    epilog="""\b
Examples:
  cocuyo train verifier --work training/default
  cocuyo run slice.tif --model training/default/model
""",
)
@_training_options
def train_verifier(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """Fifth: fit the verifier of candidates; completes the folder DIR/model."""
    _train("verifier", preset, work, seed, workers)


@train.command(
    name="curated",
    epilog="""\b
Examples:
  cocuyo view slice1.cocuyo                               correct several results
  cocuyo train curated slice1.cocuyo slice2.cocuyo --out ours
  cocuyo run slice3.tif --model ours
""",
)
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@click.option("--out", required=True, metavar="DIR", help="Model folder to make.")
@click.option(
    "--model",
    "model_name",
    default="default",
    show_default=True,
    metavar="NAME|DIR",
    help="Trained model to start from.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the fit.")
def train_curated(*, results: tuple[str, ...], out: str, model_name: str, seed: int) -> None:
    """Teach the verifier of a model what was corrected on the curation page.

    RESULT is a result folder with edits; its recording is read again. The model is written only if
    it agrees better with candidates held out: of one recording after the other, or of parts of a
    single one.
    """
    from pathlib import Path

    from cocuyo.core import ModelError
    from cocuyo.io import load_result, read_edits, reopen_recording
    from cocuyo.pipeline import load_model

    training = _training()
    from cocuyo.training.curated import check_taught

    model = load_model(model_name)
    if model.verifier is None:
        msg = f"The model {model_name} has no verifier that could be taught."
        raise ModelError(msg)
    if Path(out).exists():
        msg = f"{out} exists; choose another folder with --out."
        raise ModelError(msg)
    for folder in results:  # all of them first: each lesson takes minutes
        result = load_result(folder)
        check_taught(result, read_edits(folder), folder)
        reopen_recording(result, folder)
    lessons = []
    for folder in results:
        result, edits = load_result(folder), read_edits(folder)
        recording = reopen_recording(result, folder)
        with ProgressPrinter() as progress:
            lessons.append(
                training.learn_from(recording, result, edits, model=model, progress=progress)
            )
    adapted = training.train_curated(lessons, out, model=model, seed=seed)
    click.echo(
        f"{_counted(adapted.n_judged, 'judged candidate')} among {adapted.n_examples} of "
        f"{_counted(adapted.n_recordings, 'recording')}. On those held out the model agreed with "
        f"{adapted.agreement_before:.0%} before and {adapted.agreement_after:.0%} after; "
        f"cross-entropy {adapted.loss_before:.3f} and {adapted.loss_after:.3f} (lower is better)."
    )
    if adapted.n_recordings < 3:
        click.echo(
            f"Learnt from {_counted(adapted.n_recordings, 'recording')} only: it may know no more "
            "than what is peculiar to them. Correct three or more before you rely on it."
        )
    click.echo(f"Use it: cocuyo run REC --model {_typed(Path(out))}")


@train.command(
    name="quantise",
    epilog="""\b
Examples:
  cocuyo train quantise --model training/default/model
""",
)
@click.option(
    "--model", required=True, metavar="DIR", help="Finished model folder; it gets the graph."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the recordings.")
def train_quantise(*, model: str, seed: int) -> None:
    """Last: make the U-Net's int8 graph and store it if it finds what f32 finds.

    Whole runs on simulated recordings decide: masks and maps must agree with those of f32 to an SDC
    of 0.98, and the mean SDC with the truth may not fall by more than 0.005.
    """
    from pathlib import Path

    from cocuyo.core import SettingsError

    training = _training()
    with training.open_team() as team:
        if team.size > 1:
            msg = "`train quantise` is the work of one process; start it without torchrun."
            raise SettingsError(msg)
    with ProgressPrinter() as progress:
        checks = training.quantise(Path(model), seed=seed, progress=progress)
    for name, found in checks.items():
        calls = "; ".join(f"{ms:.1f} ms at {what}" for what, ms in found.call_ms.items())
        click.echo(
            f"{name}: SDC of masks with f32 {found.mask_sdc:.4f}, of maps {found.map_sdc:.4f}, of "
            f"masks with the truth {found.truth_sdc:.4f} ({len(found.rows)} recordings); a call "
            f"of the U-Net {calls}."
        )
    click.echo(f"int8 may be used; its graph lies in {model}.")

"""``cocuyo batch``."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from cocuyo.cli.common import (
    _SETTINGS_OPTIONS,
    _counted,
    _pipeline_settings,
    _problems,
    _say,
    cli,
)
from cocuyo.cli.program import EXIT_FAILURE
from cocuyo.cli.progress import ProgressPrinter, _duration
from cocuyo.cli.reading import _RECORDING_OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from cocuyo.batch import BatchCounts, Method, Planned, Reading, Slurm, Workplace


def _batch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of `cocuyo batch`: those of reading, of finding, of the method, of who works."""
    alone = ("--timestamps", "--join")  # of one recording: columns of a list say them
    for option in reversed(
        (
            click.option(
                "--out", required=True, metavar="DIR", help="Folder for results, index and tables."
            ),
            click.option(
                "--files",
                multiple=True,
                metavar="GLOB",
                help="Take files of these names only, such as '*.tif'; may be given again.",
            ),
            click.option(
                "--each",
                type=click.Choice(["file", "folder"]),
                default="file",
                show_default=True,
                help="What one recording is: a file, or a folder of frames or parts.",
            ),
            click.option(
                "--group",
                default="",
                metavar="RULE",
                help="Group of a recording: 'folder' (that it lies in), 'parent' (the one above), "
                "or a regular expression with one parenthesis, searched in its path.",
            ),
            click.option(
                "--experiment",
                default="",
                metavar="RULE",
                help="Field of view that a recording shows; rules as for --group. Recordings of "
                "one field are analysed together, as by `run`: one set of ROIs, activity in each.",
            ),
            click.option(
                "--animal",
                default="",
                metavar="RULE",
                help="Animal, slice or culture that a recording comes from: the unit of "
                "observation when groups are compared; rules as for --group.",
            ),
            *_SETTINGS_OPTIONS,
            click.option(
                "--seed", type=int, default=0, show_default=True, help="Seed, kept in run.json."
            ),
            click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
            click.option("--retry-failed", is_flag=True, help="Do again what failed before."),
            click.option("--redo", is_flag=True, help="Do everything again."),
            click.option(
                "--processes",
                type=click.IntRange(1),
                metavar="N",
                help="Recordings at the same time; by cores and memory if not given.",
            ),
            click.option(
                "--threads",
                type=click.IntRange(1),
                metavar="N",
                help="Cores for each recording.",
            ),
            click.option(
                "--memory",
                "memory_gb",
                type=click.FloatRange(0, min_open=True),
                metavar="GB",
                help="Memory for all recordings together; with --slurm, of each job.",
            ),
            click.option("--dask", metavar="ADDRESS", help="Use this Dask scheduler (tcp://...)."),
            click.option("--slurm", is_flag=True, help="Ask SLURM for jobs that do the work."),
            click.option(
                "--jobs",
                "slurm_jobs",
                type=click.IntRange(1),
                metavar="N",
                help="SLURM: jobs; 4 by default.",
            ),
            click.option(
                "--partition", "slurm_partition", metavar="NAME", help="SLURM: partition."
            ),
            click.option("--account", "slurm_account", metavar="NAME", help="SLURM: account."),
            click.option(
                "--time", "slurm_time_limit", metavar="H:MM:SS", help="SLURM: time limit of a job."
            ),
            click.option(
                "--gpus",
                "slurm_gpus",
                type=click.IntRange(0),
                metavar="N",
                help="SLURM: GPUs of a job.",
            ),
            click.option(
                "--slurm-option",
                "slurm_options",
                multiple=True,
                metavar="OPTION",
                help="SLURM: a further option of sbatch, such as '--qos=long'.",
            ),
        )
    ):
        command = option(command)
    for option in reversed(_RECORDING_OPTIONS):
        names = getattr(option(lambda: None), "__click_params__")[0].opts  # noqa: B009
        if not set(names) & set(alone):
            command = option(command)
    return command


@cli.command(
    epilog="""\b
Examples:
  cocuyo batch recordings --out results --dry-run
  cocuyo batch recordings --out results --frame-rate 6.67 --group folder
  cocuyo batch recordings --out results --experiment '(slice[0-9]+)_' --group '_(before|drug)'
  cocuyo batch list.csv --out results --retry-failed
  cocuyo batch recordings --out /shared/results --dask tcp://10.0.0.5:8786
  cocuyo batch recordings --out /shared/results --slurm --jobs 20 --partition short --time 4:00:00
""",
)
@click.argument("source", metavar="FOLDER|LIST.csv")
@_batch_options
def batch(
    source: str,
    *,
    out: str,
    files: tuple[str, ...],
    each: Literal["file", "folder"],
    group: str,
    experiment: str,
    animal: str,
    preset: str,
    model: str | None,
    config_file: str | None,
    seed: int,
    dry_run: bool,
    retry_failed: bool,
    redo: bool,
    processes: int | None,
    threads: int | None,
    memory_gb: float | None,
    dask: str | None,
    **options: Any,
) -> int:
    """Analyse many recordings: those below FOLDER, or in the rows of LIST.csv.

    Each is analysed alone, or with the others of its field of view where --experiment (or a column
    of the list) tells. One that cannot be used is listed and never stops the others. Started again,
    the batch goes on where it stopped and does again only what has changed. DIR/index.html shows
    all.
    """
    from pathlib import Path

    from cocuyo import batch as many

    slurm = _slurm_options(options)
    folder = many.prepare_folder(Path(out), [Path(source)])
    method = _batch_method(preset, model, config_file, seed)
    entries = many.find_recordings(
        Path(source),
        search=many.Search(
            files=files, each=each, group=group, experiment=experiment, animal=animal
        ),
        reading=_batch_reading(options),
        out=folder,
    )
    with ProgressPrinter() as progress:
        planned = many.plan_batch(
            entries,
            method,
            folder=folder,
            retry_failed=retry_failed,
            redo=redo,
            progress=progress,
        )
    place = many.choose_workplace(
        planned, dask=dask, slurm=slurm, processes=processes, threads=threads, memory_gb=memory_gb
    )
    if place.warning:
        _say("warning", place.warning)
    if dry_run:
        click.echo(_describe_plan(planned, place))
        return 0
    facts = {"source": source, "preset": preset, "model": model, "seed": seed}
    with many.start_folder(folder, {**facts, "settings": method.config}):
        counts = _run_batch(planned, place, folder)
    click.echo(
        f"{counts.n_done} of {_counted(len(entries), 'recording')} done ({counts.n_now} looked at "
        f"now), {counts.n_failed} failed."
    )
    click.echo(f"Index: {folder / 'index.html'}")
    if counts.n_failed:
        _say("error", f"{_counted(counts.n_failed, 'recording')} failed; the index says why.")
    return EXIT_FAILURE if counts.n_failed else 0


def _run_batch(planned: "Sequence[Planned]", place: "Workplace", folder: "Path") -> "BatchCounts":
    from cocuyo import batch as many

    to_do = [p for p in planned if p.state == "to do" and not p.problem]
    if to_do:
        click.echo(f"{_count_to_do(planned)} to do, by {place.describe()}.")
    else:  # ask nobody for nothing
        place = many.choose_workplace(planned)
    with (
        many.open_workplace(place, folder) as executor,
        many.BatchPrinter(sys.stderr, log=folder / "batch.log") as printer,
    ):
        return many.run_batch(
            planned,
            executor,
            folder=folder,
            n_threads=place.n_threads,
            show=printer,
        )


def _slurm_options(options: dict[str, Any]) -> "Slurm | None":
    """Take the options of SLURM out of those of a command."""
    from cocuyo.batch import Slurm

    asked = options.pop("slurm")
    wish = {name: options.pop(f"slurm_{name}") for name in Slurm.__dataclass_fields__}
    stray = [name for name, value in wish.items() if value]
    if stray and not asked:
        option = {"time_limit": "time", "options": "slurm-option"}.get(stray[0], stray[0])
        msg = f"--{option} is an option of --slurm."
        raise click.UsageError(msg)
    return Slurm(**wish) if asked else None


def _batch_method(preset: str, model: str | None, config_file: str | None, seed: int) -> "Method":
    from cocuyo.batch import Method
    from cocuyo.pipeline import hash_weights, load_model

    settings = _pipeline_settings(model, preset, config_file)
    loaded = load_model(model or preset)
    if model is not None and not loaded.shipped:
        model = str(loaded.folder.resolve())  # a worker may stand in another folder
    weights = hash_weights(loaded, method=settings.method)
    return Method(preset=preset, model=model, config=settings, model_hash=weights, seed=seed)


def _batch_reading(given: dict[str, Any]) -> "Reading":
    from pydantic import ValidationError

    from cocuyo.batch import Reading
    from cocuyo.core import SettingsError

    try:
        return Reading.model_validate(given)
    except ValidationError as error:
        msg = f"The recordings cannot be read so: {_problems(error)}."
        raise SettingsError(msg) from None


def _count_to_do(planned: "Sequence[Planned]") -> str:
    """Write how many recordings of how many are to do, and in how many experiments."""
    to_do = [p for p in planned if p.state == "to do" and not p.problem]
    n, n_all = (sum(p.n_recordings for p in some) for some in (to_do, planned))
    together = [p for p in to_do if p.n_recordings > 1]
    text = f"{n} of {_counted(n_all, 'recording')}"
    if together:
        n_together = sum(p.n_recordings for p in together)
        text += f" ({n_together} of them in {_counted(len(together), 'experiment')})"
    return text


def _describe_plan(planned: "Sequence[Planned]", place: "Workplace") -> str:
    """Write what a batch would do, with expected time and memory."""
    rows = [("recording", "frames", "size", "group", "animal", "memory", "time", "what")]
    for p in planned:
        several, first = p.n_recordings > 1, p.entries[0]
        size = f"{p.n_columns} x {p.n_rows}" if p.n_rows else ""
        will = p.state == "to do" and not p.problem
        what = f"to do: {p.why}" if p.state == "to do" else p.state
        if p.problem or p.state == "failed":
            what = f"cannot be used: {p.problem}" if p.problem else f"failed before: {p.why}"
        rows.append(
            (
                f"{p.name} ({p.n_recordings} recordings)" if several else p.name,
                str(sum(p.lengths) or ""),
                size,
                "" if several else first.group,
                first.animal,
                f"{p.task.memory_mb / 1000:.1f} GB" if will else "",
                _duration(p.task.cost) if will else "",
                what,
            )
        )
        if several:
            lengths = p.lengths or [""] * p.n_recordings
            for entry, length in zip(p.entries, lengths, strict=True):
                rows.append((f"  {entry.name}", str(length), "", entry.group, "", "", "", ""))
    shown = [i for i in range(len(rows[0])) if i in (0, 7) or any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in shown[:-1]}
    lines = [
        "  ".join([*(row[i].ljust(widths[i]) for i in shown[:-1]), row[7]]).rstrip() for row in rows
    ]
    to_do = [p for p in planned if p.state == "to do" and not p.problem]
    if not to_do:
        return "\n".join([*lines, "", f"{_count_to_do(planned)} to do."])
    total = sum(p.task.cost for p in to_do)
    summary = f"{_count_to_do(planned)} to do, by {place.describe()}: "
    if place.n_at_once:
        longest = max(p.task.cost for p in to_do)
        summary += f"about {_duration(max(total / place.n_at_once, longest))}"
    else:
        summary += f"about {_duration(total)} of one core"
    most = max(p.task.memory_mb for p in to_do)
    summary += f", at most {most / 1000:.1f} GB for a recording (rough; the first ones tell more)."
    return "\n".join([*lines, "", summary])

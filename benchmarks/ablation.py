"""What carries the gain: from the paper's recipe to the default's, one switch at a time.

    python benchmarks/ablation.py --out benchmarks/results/ablation.md

trains both networks again and again at a small scale (`SCALES`): from all settings of the preset
`paper` to all of `default`, one switch after the other, and `default` with one switch turned back.
A switch is one or more fields of the settings (`SWITCHES`); what is no switch is equal in all rows.
Training and validation recordings are drawn by `training_config`. The test recordings are presets
of the simulator that it does not make; the hard ones among them have motion that is left over,
flashes, bursts of neuropil, crowds or little signal (`HARD`). Each row's map is cut at the
threshold that is best on the validation recordings, and beside it stand the maps that need no
temporal network, of the same U-Net and cut in the same way.

Seeds change weights, crops and which of the training recordings are taken. Everything that is
finished is kept in ``--work``, so that the command goes on where it stopped. ``--quick`` takes a
minute or two, to try the command.

    python benchmarks/ablation.py --shipped --out benchmarks/results/unlearned.md

trains nothing: it scores the map of the shipped default beside the maps that need no temporal
network, of the same shipped U-Net, on more of these test recordings (some minutes).
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure

from cocuyo.core import AnyArray, BoolArray, FloatArray
from cocuyo.evaluation import pixel_scores
from cocuyo.pipeline import PRESETS as PIPELINES
from cocuyo.pipeline import UNLEARNED, PipelineConfig, load_model
from cocuyo.pipeline.stream import resize_to
from cocuyo.preprocessing import valid_pixels
from cocuyo.segmentation import temporal_inputs, unet_multiple
from cocuyo.segmentation.engine import computes_in_bf16, pad_to_multiple
from cocuyo.segmentation.networks import TemporalNetwork, UNet
from cocuyo.segmentation.weights import load_networks
from cocuyo.simulation import PRESETS, SimulationConfig, simulate, training_config
from cocuyo.simulation.config import Split
from cocuyo.training import TRAININGS, TrainingConfig
from cocuyo.training.dataset import Example, load_example, make_example, save_example
from cocuyo.training.networks import fit_temporal, fit_unet

SWITCHES: dict[str, tuple[str, ...]] = {
    "loss and schedule": (
        "training.unet.loss",
        "training.unet.schedule",
        "training.unet.learning_rate",
        "training.temporal.loss",
        "training.temporal.schedule",
        "training.temporal.learning_rate",
        "training.temporal.clip",
    ),
    "step means": (
        "pipeline.networks.unet.input_frames",
        "pipeline.networks.temporal.step_s",
        "training.unet.single_share",
    ),
    "exact labels": ("training.dataset.labels",),
    "half resolution": ("pipeline.networks.temporal.resolution",),
    "U-Net with a stem": (
        "pipeline.networks.unet.base_width",
        "pipeline.networks.unet.n_levels",
        "pipeline.networks.unet.stem_stride",
        "pipeline.networks.unet.aspp_rates",
    ),
    "contrast input": ("pipeline.networks.temporal.contrast_input",),
    "target fired so far": ("training.temporal.target",),
    "read-out with maximum": ("pipeline.networks.temporal.readout",),
    "starts": ("training.temporal.update_bias", "training.temporal.norm_start"),
    "augmentation": ("training.unet.augment", "training.temporal.augment"),
}
"""Fields that a switch takes from `default` in place of `paper`, in the order of the ladder."""
COSTLY = "step means"
"""The one switch that is not turned back alone: a row that looks at every frame takes as long as
all the other rows of that table together."""
HELD: dict[str, str] = {
    "training.dataset": "`labels` is a switch; numbers and sizes are those of the scale",
    "training.unet.epochs": "scale",
    "training.unet.patience": "scale",
    "training.unet.crop_px": "scale",
    "training.temporal.epochs": "scale",
    "training.temporal.patience": "scale",
    "training.temporal.crop_px": "scale",
    "pipeline.motion": "the default's in all rows",
    "pipeline.traces": "not reached",
    "pipeline.finish": "not reached",
    "pipeline.networks.outline": "not reached",
}
"""Other differences of the two presets, and why no row shows them."""
ORDINARY = ("slice", "sparse", "slice_mixed", "slice_gcamp6f")
HARD = {
    "miniscope": "motion that is left over: jumps, non-rigid",
    "slice_stimulated": "flashes of a stimulus",
    "slice_ogb1": "bursts of neuropil",
    "crowded": "crowds",
    "dim": "little signal, drift and flashes",
}
"""Presets of the test, and what makes the second half hard."""
TRAINING_SEED, VALIDATION_SEED, TEST_SEED = 61_000, 62_000, 9_400
LADDER = np.linspace(0.02, 0.98, 49, dtype=np.float32)
"""Thresholds worth trying for a temporal network."""
LEARNED, BASELINE = "temporal network", "contrast x probability"
VISIBLE = "all visible cells"


@dataclass(frozen=True)
class Scale:
    """Size of the data and of the trainings, equal in all rows."""

    n_training: int
    n_pool: int
    n_validation: int
    n_frames: int
    side_px: int
    n_test_frames: int
    test_side_px: int
    per_preset: tuple[int, int]
    """Test recordings of each ordinary preset, and of each hard one."""
    unet_updates: int
    temporal_epochs: int
    temporal_epochs_of_frames: int
    """Epochs where every frame is a step: there are about five times as many updates in each."""
    unet_crop_px: int
    temporal_crop_px: int

    def recordings(self) -> dict[str, Any]:
        """What says which recordings validate and test, whatever is trained."""
        sizes = ("n_frames", "side_px", "n_test_frames", "test_side_px")
        return {name: getattr(self, name) for name in ("n_validation", *sizes, "per_preset")}


SCALES = {
    "standard": Scale(12, 16, 5, 160, 128, 200, 144, (1, 2), 400, 36, 6, 96, 96),
    "quick": Scale(2, 3, 1, 32, 64, 32, 64, (0, 1), 4, 1, 1, 64, 32),
}
SHIPPED_PER_PRESET = (4, 4)
"""Test recordings of each preset where nothing is trained; the first are those of the ablation."""
BATCH, TEMPORAL_BATCH, UNET_EPOCHS = 8, 4, 6


@dataclass(frozen=True)
class Variant:
    """The settings of one row."""

    on: frozenset[str]

    def settings(self, scale: Scale) -> tuple[PipelineConfig, TrainingConfig]:
        """Take each switch's fields from `default` where it is on, else from `paper`."""
        trees = {
            name: {
                "pipeline": PIPELINES[name].model_dump(),
                "training": TRAININGS[name].model_dump(),
            }
            for name in ("paper", "default")
        }
        made = trees["paper"]
        for switch, paths in SWITCHES.items():
            for path in paths if switch in self.on else ():
                _put(made, path, _get(trees["default"], path))
        made["pipeline"]["motion"] = trees["default"]["pipeline"]["motion"]
        frames = made["pipeline"]["networks"]["temporal"]["step_s"] is None
        # As many updates, whatever is switched.
        per_epoch = BATCH * scale.unet_updates // (UNET_EPOCHS * scale.n_training)
        made["training"]["unet"] |= {
            "epochs": UNET_EPOCHS,
            "patience": UNET_EPOCHS,
            "batch": BATCH,
            "crop_px": scale.unet_crop_px,
            "frames_per_recording": max(1, per_epoch),
        }
        epochs = scale.temporal_epochs_of_frames if frames else scale.temporal_epochs
        made["training"]["temporal"] |= {
            "epochs": epochs,
            "patience": epochs,
            "batch": TEMPORAL_BATCH,
            "crop_px": scale.temporal_crop_px,
        }
        return (
            PipelineConfig.model_validate(made["pipeline"]),
            TrainingConfig.model_validate(made["training"]),
        )


def _get(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = tree[name]
    return tree


def _put(tree: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        tree = tree[name]
    tree[last] = value


def ladder() -> dict[str, Variant]:
    """From `paper` to `default`: each row has the switches of the one before, and one more."""
    names = list(SWITCHES)
    rows = {"paper": Variant(frozenset())}
    for i, name in enumerate(names):
        rows[f"+ {name}"] = Variant(frozenset(names[: i + 1]))
    return rows


def without_one() -> dict[str, Variant]:
    """The default with one switch as in `paper`."""
    every = frozenset(SWITCHES)
    return {f"- {name}": Variant(every - {name}) for name in SWITCHES if name != COSTLY}


# ------------------------------------------------------------------------------- recordings


@dataclass(frozen=True)
class Source:
    """One simulated recording."""

    name: str
    split: Split
    config: SimulationConfig
    seed: int


def make_sources(scale: Scale) -> list[Source]:
    """All recordings: the pool of training, validation, test."""
    sources: list[Source] = []
    shape = (scale.side_px, scale.side_px)
    splits: tuple[tuple[Split, int, int], ...] = (
        ("training", TRAINING_SEED, scale.n_pool),
        ("validation", VALIDATION_SEED, scale.n_validation),
    )
    for split, first, number in splits:
        for seed in range(first, first + 2 * number + 10):
            config = training_config(seed, split=split, n_frames=scale.n_frames, shape=shape)
            taken = sum(source.split == split for source in sources)
            # Without activity there is nothing to choose a threshold on.
            if taken < number and (split == "training" or config.n_active):
                sources.append(Source(f"{split}-{seed}", split, config, seed))
    for names, repeats in zip((ORDINARY, tuple(HARD)), scale.per_preset, strict=True):
        for i, name in enumerate(names):
            for repeat in range(repeats):
                sources.append(
                    Source(
                        f"{name}-{repeat + 1}",
                        "test",
                        _test_config(name, scale),
                        TEST_SEED + 100 * (names is ORDINARY) + 10 * i + repeat,
                    )
                )
    return sources


def _test_config(name: str, scale: Scale) -> SimulationConfig:
    preset = PRESETS[name]
    # The presets' numbers are for 256 x 256 pixels.
    factor = 1.0 if name == "sparse" else (scale.test_side_px / 256) ** 2
    counts = {
        key: round(getattr(preset, key) * factor)
        for key in ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent")
    }
    size = {
        "n_frames": scale.n_test_frames,
        "n_rows": scale.test_side_px,
        "n_columns": scale.test_side_px,
        "split": "test",
    }
    return preset.model_copy(update=counts | size)


@dataclass(frozen=True)
class Preparation:
    """How recordings are prepared: what they look like, and who labels them."""

    step_s: float | None
    labels: str

    @property
    def name(self) -> str:
        """Name of the folder."""
        return f"{'frames' if self.step_s is None else 'steps'}-{self.labels}"


def preparation_of(pipeline: PipelineConfig, training: TrainingConfig) -> Preparation:
    """Say which prepared recordings a row learns from."""
    return Preparation(pipeline.networks.temporal.step_s, training.dataset.labels)


def prepare(source: Source, folder: Path, preparations: Sequence[Preparation]) -> None:
    """Simulate a recording once, and prepare it in each way, where it is not there yet."""
    use_one_thread()
    if source.split == "test":
        preparations = list(
            {p.step_s: Preparation(p.step_s, "truth") for p in preparations}.values()
        )
    missing = [p for p in preparations if not (folder / p.name / source.name).is_dir()]
    if not missing:
        return
    simulation = simulate(source.config, seed=source.seed)
    recording, truth = simulation.recording(name=source.name), simulation.truth
    default = PIPELINES["default"]
    for preparation in missing:
        temporal = default.networks.temporal.model_copy(update={"step_s": preparation.step_s})
        networks = default.networks.model_copy(update={"temporal": temporal})
        example = make_example(
            simulation,
            recording,
            config=default.model_copy(update={"networks": networks}),
            labels=preparation.labels,  # type: ignore[arg-type]
            seed=source.seed,
        )
        shape = (example.images.shape[1], example.images.shape[2])
        # Cells of which nothing is known, and pixels that motion takes out of view.
        unknown = truth.ignore_pixels | ~valid_pixels(recording.frame_shape, truth.shifts)
        path = folder / preparation.name / source.name
        partial_path = path.with_name(f"{path.name}.partial-{os.getpid()}")
        shutil.rmtree(partial_path, ignore_errors=True)
        partial_path.mkdir(parents=True)
        save_example(partial_path, example)
        for name, mask in (("truth", truth.mask()), ("ignore", unknown)):
            np.save(partial_path / f"{name}.npy", resize_to(mask.astype(np.float32), shape) > 0.5)
        partial_path.rename(path)


def use_one_thread() -> None:
    """One process of several: threads of their own would fight."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


# --------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Workplace:
    """Where everything lies."""

    folder: Path
    scale: Scale
    seed: int

    def path(self, preparation: Preparation, source: Source) -> Path:
        """A prepared recording; those of the test are labelled by the truth alone."""
        labels = "truth" if source.split == "test" else preparation.labels
        name = Preparation(preparation.step_s, labels).name
        return self.folder / "recordings" / name / source.name

    def sources(self) -> list[Source]:
        """The recordings of this seed: it takes its own from the pool."""
        pool = [s for s in make_sources(self.scale) if s.split == "training"]
        order = np.random.default_rng(self.seed).permutation(len(pool))[: self.scale.n_training]
        others = [s for s in make_sources(self.scale) if s.split != "training"]
        return [pool[i] for i in sorted(order)] + others


def hash_of(*parts: Any) -> str:
    """A short name for settings."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:12]


def unet_key(work: Workplace, pipeline: PipelineConfig, training: TrainingConfig) -> str:
    """Rows with the same key share their U-Net."""
    return hash_of(
        work.seed,
        preparation_of(pipeline, training).name,
        pipeline.networks.unet.model_dump(mode="json"),
        training.unet.model_dump(mode="json"),
        work.scale.__dict__,
    )


def row_key(work: Workplace, pipeline: PipelineConfig, training: TrainingConfig) -> str:
    """Name of what is known of a row."""
    return hash_of(
        unet_key(work, pipeline, training),
        pipeline.networks.temporal.model_dump(mode="json"),
        training.temporal.model_dump(mode="json"),
    )


def run_rows(work: Workplace, variants: Sequence[Variant]) -> None:
    """Train and score the rows of one seed that are not there yet, U-Net by U-Net."""
    use_one_thread()
    groups: dict[str, list[Variant]] = {}
    for variant in variants:
        pipeline, training = variant.settings(work.scale)
        if not (work.folder / "rows" / f"{row_key(work, pipeline, training)}.json").is_file():
            groups.setdefault(unet_key(work, pipeline, training), []).append(variant)
    # The U-Net that most rows look through comes first.
    for key, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        _run_group(work, key, group)


def _run_group(work: Workplace, key: str, group: Sequence[Variant]) -> None:
    """Train a U-Net, and every temporal network that looks through it."""
    pipeline, training = group[0].settings(work.scale)
    preparation = preparation_of(pipeline, training)
    sources = work.sources()
    paths = {s.name: work.path(preparation, s) for s in sources}
    own = work.folder / f"unet-{key}"
    own.mkdir(parents=True, exist_ok=True)
    start = time.process_time()
    unet, _ = fit_unet(
        [paths[s.name] for s in sources if s.split == "training"],
        [paths[s.name] for s in sources if s.split == "validation"],
        config=pipeline.networks,
        recipe=training.unet,
        seed=work.seed,
        checkpoint=own / "unet.checkpoint",
    )
    seen = {s.name: look(unet, paths[s.name], pipeline) for s in sources}
    unet_seconds = time.process_time() - start
    scored = unlearned_scores(work, sources, seen, paths)
    scored["unet_seconds"] = round(unet_seconds, 1)
    for variant in group:
        pipeline, training = variant.settings(work.scale)
        start = time.process_time()
        temporal = fit_row(work, own, variant, sources, seen)

        def learned(
            source: Source,
            temporal: TemporalNetwork = temporal,
            pipeline: PipelineConfig = pipeline,
        ) -> FloatArray:
            return follow(temporal, seen[source.name], load_example(paths[source.name]), pipeline)

        result = {
            **scored,
            LEARNED: cut_and_score(sources, learned, LADDER, paths),
            "temporal_seconds": round(time.process_time() - start, 1),
        }
        _keep(work.folder / "rows" / f"{row_key(work, pipeline, training)}.json", result)
        means = {m: summary(result[m]["SDC"]) for m in (LEARNED, BASELINE)}
        print(
            f"seed {work.seed}, {len(variant.on)} switches on: "
            + "; ".join(f"{m} {o:.3f} ordinary, {h:.3f} hard" for m, (o, h) in means.items())
            + f" ({unet_seconds:.0f} + {result['temporal_seconds']:.0f} s)",
            file=sys.stderr,
            flush=True,
        )


def _keep(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(".partial")
    partial_path.write_text(json.dumps(value), encoding="utf-8")
    partial_path.replace(path)


def look(unet: UNet, path: Path, pipeline: PipelineConfig) -> AnyArray:
    """Probability of "cell" in every image of a prepared recording, float16."""
    multiple = unet_multiple(pipeline.networks.unet)
    found = []
    with torch.inference_mode():
        for image in load_example(path).images:
            grey = image.astype(np.float32) / 255
            padded = torch.from_numpy(pad_to_multiple(grey, multiple))[None, None]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=computes_in_bf16()):
                logits = unet(padded)
            probability = torch.sigmoid(logits.float())[0, 0].numpy()
            found.append(probability[: grey.shape[0], : grey.shape[1]].astype(np.float16))
    return np.stack(found)


def inputs_of(seen: AnyArray, example: Example, pipeline: PipelineConfig) -> Iterable[AnyArray]:
    """What the temporal network sees in each step."""
    for probability, contrast in zip(seen, example.contrast, strict=True):
        yield temporal_inputs(
            probability.astype(np.float32),
            contrast.astype(np.float32),
            pipeline.networks.temporal,
        ).astype(np.float16)


def fit_row(
    work: Workplace,
    own: Path,
    variant: Variant,
    sources: Sequence[Source],
    seen: dict[str, AnyArray],
) -> TemporalNetwork:
    """Train the temporal network of a row on its inputs."""
    pipeline, training = variant.settings(work.scale)
    key = row_key(work, pipeline, training)
    folder = own / f"inputs-{key}"
    shutil.rmtree(folder, ignore_errors=True)
    parts: dict[str, list[Path]] = {"training": [], "validation": []}
    for source in sources:
        if source.split == "test":
            continue
        path = folder / source.name
        path.mkdir(parents=True)
        example = load_example(work.path(preparation_of(pipeline, training), source))
        # Nothing else of a recording is looked at.
        nothing = np.zeros((1, 1, 1), np.uint8)
        save_example(path, Example(nothing, nothing, nothing, nothing, nothing, example.first_step))
        inputs = list(inputs_of(seen[source.name], example, pipeline))
        np.save(path / "inputs.npy", np.stack(inputs))
        parts[source.split].append(path)
    temporal, _ = fit_temporal(
        parts["training"],
        parts["validation"],
        config=pipeline.networks,
        recipe=training.temporal,
        seed=work.seed,
        checkpoint=own / f"temporal-{key}.checkpoint",
    )
    shutil.rmtree(folder)
    return temporal.eval()


# ---------------------------------------------------------------------------------- scoring


def follow(
    temporal: TemporalNetwork, seen: AnyArray, example: Example, pipeline: PipelineConfig
) -> FloatArray:
    """The temporal network's map at the end of a recording."""
    rows, columns = example.first_step.shape
    steps = [torch.from_numpy(one)[None] for one in inputs_of(seen, example, pipeline)]
    with torch.inference_mode():
        state, maximum = temporal.start(1, *steps[0].shape[-2:])
        for step in steps:
            state, maximum = temporal.step(step.float(), state, maximum)
        found = torch.sigmoid(temporal.classify(state, maximum))[0, 0].numpy()
    if found.shape != (rows, columns):
        found = cv2.resize(
            found, (2 * found.shape[1], 2 * found.shape[0]), interpolation=cv2.INTER_LINEAR
        )
    return np.asarray(found[:rows, :columns], np.float32)


def cut_and_score(
    sources: Sequence[Source],
    make_map: Callable[[Source], FloatArray],
    thresholds: FloatArray,
    paths: dict[str, Path],
) -> dict[str, Any]:
    """Choose the threshold of the best mean SDC on the validation recordings; score the test's."""
    held = []
    for source in (s for s in sources if s.split == "validation"):
        image = make_map(source)
        held.append([_score(image >= t, source, paths)["SDC"] for t in thresholds])
    threshold = float(thresholds[int(np.argmax(np.mean(held, axis=0)))])
    lines = {
        s.name: _score(make_map(s) >= threshold, s, paths) for s in sources if s.split == "test"
    }
    return {
        "threshold": round(threshold, 4),
        **{
            column: {name: line[column] for name, line in lines.items()}
            for column in ("SDC", "precision", "recall")
        },
    }


def _score(mask: BoolArray, source: Source, paths: dict[str, Path]) -> dict[str, float]:
    path = paths[source.name]
    scores = pixel_scores(mask, np.load(path / "truth.npy"), ignore=np.load(path / "ignore.npy"))
    numbers = {"SDC": scores.sdc, "precision": scores.precision, "recall": scores.recall}
    return {name: round(float(np.nan_to_num(value)), 4) for name, value in numbers.items()}


def unlearned_scores(
    work: Workplace,
    sources: Sequence[Source],
    seen: dict[str, AnyArray],
    paths: dict[str, Path],
) -> dict[str, Any]:
    """Scores of the maps that need no temporal network, and of a perfect U-Net's maximum."""
    steps = Preparation(PIPELINES["default"].networks.temporal.step_s, "truth")

    def unlearned(source: Source, name: str) -> FloatArray:
        probability = seen[source.name]
        if name == "average":
            return np.asarray(probability.mean(axis=0, dtype=np.float32), np.float32)
        highest = np.asarray(probability.max(axis=0), np.float32)
        if name == "maximum":
            return highest
        # The contrast as it serves best: of steps, not of single frames.
        contrast = load_example(work.path(steps, source)).contrast
        return np.asarray(contrast.max(axis=0).astype(np.float32) * highest, np.float32)

    scored: dict[str, Any] = {
        name: cut_and_score(sources, partial(unlearned, name=name), thresholds, paths)
        for name, thresholds in UNLEARNED.items()
    }
    visible = {
        s.name: _score(np.logical_or.reduce(load_example(paths[s.name]).visible), s, paths)
        for s in sources
        if s.split == "test"
    }
    scored[VISIBLE] = {"SDC": {name: line["SDC"] for name, line in visible.items()}}
    return scored


def shipped_scores(work: Workplace) -> dict[str, Any]:
    """The default as shipped, cut and scored in the same way."""
    use_one_thread()
    path = work.folder / "rows" / f"shipped-{hash_of(work.scale.recordings())}.json"
    if not path.is_file():
        model = load_model("default")
        pipeline = model.settings.pipeline
        sources = [s for s in work.sources() if s.split != "training"]
        preparation = Preparation(pipeline.networks.temporal.step_s, "truth")
        paths = {s.name: work.path(preparation, s) for s in sources}
        unet, temporal = load_networks(model.folder, pipeline.networks)
        seen = {s.name: look(unet, paths[s.name], pipeline) for s in sources}

        def learned(source: Source) -> FloatArray:
            return follow(temporal, seen[source.name], load_example(paths[source.name]), pipeline)

        scored = unlearned_scores(work, sources, seen, paths)
        scored[LEARNED] = cut_and_score(sources, learned, LADDER, paths)
        _keep(path, scored)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def summary(sdc: dict[str, float]) -> tuple[float, float]:
    """Mean over the ordinary and over the hard recordings; NaN without any."""
    hard = [value for name, value in sdc.items() if name.rpartition("-")[0] in HARD]
    ordinary = [value for name, value in sdc.items() if name.rpartition("-")[0] not in HARD]
    return tuple(float(np.mean(v)) if v else float("nan") for v in (ordinary, hard))  # type: ignore[return-value]


# ------------------------------------------------------------------------------------ report


def collect(works: Sequence[Workplace], rows: dict[str, Variant]) -> dict[str, dict[str, Any]]:
    """Read the rows that every seed has finished, by seed."""
    kept: dict[str, dict[str, Any]] = {}
    for work in works:
        paths = {
            name: work.folder / "rows" / f"{row_key(work, *variant.settings(work.scale))}.json"
            for name, variant in rows.items()
        }
        kept[str(work.seed)] = {
            name: json.loads(path.read_text(encoding="utf-8"))
            for name, path in paths.items()
            if path.is_file()
        }
    done = [name for name in rows if all(name in seed for seed in kept.values())]
    return {seed: {name: found[name] for name in done} for seed, found in kept.items()}


Results = dict[str, Any]


def halves(results: Results, part: str, row: str, method: str) -> AnyArray:
    """Mean SDC of the ordinary and the hard recordings, shape (n_seeds, 2)."""
    return np.array([summary(seed[row][method]["SDC"]) for seed in results[part].values()])


def with_spread(values: AnyArray, *, sign: bool = False) -> str:
    """Mean and standard deviation over seeds."""
    if np.isnan(values).any():
        return "-"
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():{'+' if sign else ''}.3f}{spread}"


def table(results: Results) -> str:
    """Markdown: the ladder, the default without one switch, and methods on each recording."""
    scale, seeds = results["scale"], results["seeds"]
    rows = list(results["ladder"][str(seeds[0])])
    last = rows[-1]
    training, test = (
        f"{scale[n]} x {scale[side]} x {scale[side]}"
        for n, side in (("n_frames", "side_px"), ("n_test_frames", "test_side_px"))
    )
    lines = [
        "# From `paper` to the default, one switch at a time",
        "",
        f"Mean pixel SDC ± standard deviation over {len(seeds)} seeds. Both networks of every row "
        f"are trained on {scale['n_training']} recordings of {training} (of {scale['n_pool']}; "
        f"`training_config`), with {scale['unet_updates']} updates of the U-Net and "
        f"{scale['temporal_epochs']} passes of the temporal network "
        f"({scale['temporal_epochs_of_frames']} where every frame is a step). Test: "
        f"{results['n_test'][0]} ordinary and {results['n_test'][1]} hard recordings of {test}, "
        "of presets that training does not make. Thresholds are those of "
        f"{scale['n_validation']} validation recordings.",
        "",
        "## Ladder",
        "",
        "Each row has the switches of the rows above. `c x p` is contrast x probability with the "
        "U-Net of the row, without a temporal network.",
        "",
        "| row | ordinary | ordinary, c x p | hard | hard, c x p | hard, gain over the row above "
        "| hard, temporal network - c x p |",
        "|---" * 7 + "|",
    ]
    before = None
    for row in rows:
        own, plain = (halves(results, "ladder", row, m) for m in (LEARNED, BASELINE))
        gain = "" if before is None else with_spread(own[:, 1] - before[:, 1], sign=True)
        cells = [
            *(with_spread(v[:, half]) for half in (0, 1) for v in (own, plain)),
            gain,
            with_spread(own[:, 1] - plain[:, 1], sign=True),
        ]
        name = f"{row} = default" if row == last else row
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        before = own
    alone = results["without one"][str(seeds[0])]
    whole = halves(results, "ladder", last, LEARNED)
    if alone:
        lines += [
            "",
            "## The default with one switch as in `paper`",
            "",
            "Difference to the default of the same seed; below 0: the switch helps.",
            "",
            "| row | ordinary | hard | ordinary, difference | hard, difference |",
            "|---" * 5 + "|",
            f"| default | {with_spread(whole[:, 0])} | {with_spread(whole[:, 1])} | | |",
        ]
    for row in alone:
        own = halves(results, "without one", row, LEARNED)
        cells = [with_spread(own[:, k]) for k in (0, 1)]
        cells += [with_spread(own[:, k] - whole[:, k], sign=True) for k in (0, 1)]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    methods = [LEARNED, *UNLEARNED, VISIBLE]
    shipped = results["shipped"]
    lines += [
        "",
        "## Methods on each recording",
        "",
        "With the U-Net of the last row, mean over seeds; *shipped*: the model `default` of the "
        f"package. `{VISIBLE}`: what a perfect U-Net and the maximum over time would find.",
        "",
        "| recording | "
        + " | ".join([*methods, f"shipped: {LEARNED}", f"shipped: {BASELINE}"])
        + " |",
        "|---" * (len(methods) + 3) + "|",
    ]
    seen = list(results["ladder"].values())
    for name in seen[0][last][LEARNED]["SDC"]:
        values = [np.mean([s[last][m]["SDC"][name] for s in seen]) for m in methods]
        values += [shipped[m]["SDC"][name] for m in (LEARNED, BASELINE)]
        lines.append(f"| {name} | " + " | ".join(f"{v:.3f}" for v in values) + " |")
    for k, title in enumerate(("ordinary, mean", "hard, mean")):
        values = [halves(results, "ladder", last, m)[:, k].mean() for m in methods]
        values += [summary(shipped[m]["SDC"])[k] for m in (LEARNED, BASELINE)]
        lines.append(f"| **{title}** | " + " | ".join(f"{v:.3f}" for v in values) + " |")
    seconds = sum(
        result["temporal_seconds"] + result["unet_seconds"]
        for part in ("ladder", "without one")
        for seed in results[part].values()
        for result in seed.values()
    )
    lines += ["", "## The switches", "", "| switch | fields |", "|---|---|"]
    for name, paths in SWITCHES.items():
        fields = ", ".join(f"`{path.partition('.')[2]}`" for path in paths)
        lines.append(f"| {name} | {fields} |")
    lines += [
        "",
        f"Training and scoring took {seconds / 60:.0f} minutes of processor time if every row had "
        "trained a U-Net of its own; rows with the same U-Net share it.",
    ]
    return "\n".join(lines) + "\n"


def shipped_table(results: Results) -> str:
    """Markdown: the shipped default's map and the unlearned ones, preset by preset."""
    scores, scale = results["shipped"], results["scale"]
    methods = [LEARNED, *UNLEARNED, VISIBLE]
    names = list(scores[LEARNED]["SDC"])
    groups = {
        preset: [name for name in names if name.rpartition("-")[0] == preset]
        for preset in (*ORDINARY, *HARD)
    }
    groups = {preset: group for preset, group in groups.items() if group}
    titles = {p: f"{p} ({HARD[p]})" if p in HARD else p for p in groups}
    for half, presets in (("ordinary", ORDINARY), ("hard", HARD)):
        title = f"**all {half}**"
        groups[title] = [name for preset in presets for name in groups.get(preset, [])]
        titles[title] = title
    thresholds = ", ".join(f"{m} {scores[m]['threshold']:.3f}" for m in methods[:-1])
    size = f"{scale['n_test_frames']} x {scale['test_side_px']} x {scale['test_side_px']}"
    lines = [
        "# The shipped temporal network and what needs none",
        "",
        f"Mean pixel SDC over simulated recordings of {size} (split `test`), of presets that no "
        "training makes. All maps are those of the shipped model `default` and its U-Net, each "
        f"cut at the best threshold on {scale['n_validation']} recordings of the split "
        f"`validation`: {thresholds}. `{VISIBLE}`: a perfect U-Net and its maximum over time. The "
        "difference is that of each recording, mean ± standard error.",
        "",
        "| preset | recordings | "
        + " | ".join(methods)
        + f" | {LEARNED} - {BASELINE} | {LEARNED} better in |",
        "|---" * (len(methods) + 4) + "|",
    ]
    for group, members in groups.items():
        if not members:
            continue
        values = {m: np.array([scores[m]["SDC"][name] for name in members]) for m in methods}
        change = values[LEARNED] - values[BASELINE]
        error = f" ± {change.std(ddof=1) / np.sqrt(len(change)):.3f}" if len(change) > 1 else ""
        cells = [f"{values[m].mean():.3f}" for m in methods]
        cells += [f"{change.mean():+.3f}{error}", f"{int((change > 0).sum())} of {len(change)}"]
        lines.append(f"| {titles[group]} | {len(members)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def measure_shipped(folder: Path, scale: Scale, *, workers: int = 1) -> Results:
    """Score the shipped default; no network is trained."""
    scale = replace(scale, per_preset=SHIPPED_PER_PRESET if scale.per_preset[0] else (0, 1))
    work = Workplace(folder, scale, 1)
    sources = [s for s in work.sources() if s.split != "training"]
    steps = Preparation(PIPELINES["default"].networks.temporal.step_s, "truth")
    make = partial(prepare, folder=folder / "recordings", preparations=[steps])
    for done, _ in enumerate(each(make, sources, workers=workers), start=1):
        print(f"recordings: {done} of {len(sources)}", file=sys.stderr, flush=True)
    return {"scale": scale.recordings(), "shipped": shipped_scores(work)}


def draw(results: Results, path: Path) -> None:
    """The ladder on the hard recordings beside its baseline, and the default without a switch."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    seeds = [str(s) for s in results["seeds"]]
    rows = list(results["ladder"][seeds[0]])
    at = np.arange(len(rows))
    for k, half, style in ((1, "hard", "-"), (0, "ordinary", ":")):
        for method, colour in ((LEARNED, "tab:green"), (BASELINE, "tab:grey")):
            values = np.array([halves(results, "ladder", row, method)[:, k] for row in rows])
            left.plot(at, values.mean(axis=1), style, color=colour, label=f"{method}, {half}")
            if k:
                left.plot(at, values, ".", color=colour, alpha=0.5)
    left.set_xticks(at, rows, rotation=55, ha="right")
    left.set(ylim=(0, 1), ylabel="pixel SDC, unseen presets", title="each row adds a switch")
    left.legend(fontsize=8)
    names = list(results["without one"][seeds[0]])
    whole = halves(results, "ladder", rows[-1], LEARNED)
    for k, half, colour in ((1, "hard", "tab:green"), (0, "ordinary", "tab:blue")):
        shift = 0.18 * (1 - 2 * k)
        change = [halves(results, "without one", n, LEARNED)[:, k] - whole[:, k] for n in names]
        height = np.arange(len(names)) + shift
        right.barh(height, [c.mean() for c in change], 0.34, color=colour, alpha=0.6, label=half)
        for y, c in zip(height, change, strict=True):
            right.plot(c, np.full(len(c), y), ".", color="black", markersize=3)
    right.set_yticks(np.arange(len(names)), names)
    right.invert_yaxis()
    right.axvline(0, color="black", linewidth=0.8)
    right.set(xlabel="change of the SDC", title="default with one switch as in paper")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def each(do: Callable[[Any], None], items: Sequence[Any], *, workers: int) -> Iterable[None]:
    """Do the same for all items, some at a time; one after the other in this process with 1."""
    if workers == 1:
        yield from map(do, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(do, items)


def measure(
    folder: Path,
    scale: Scale,
    seeds: Sequence[int],
    *,
    workers: int = 1,
    report: bool = False,
) -> Results:
    """Prepare, train and score everything that is not there yet; `report` trains nothing more."""
    rows, lessons = ladder(), without_one()
    every = [variant.settings(scale) for variant in (*rows.values(), *lessons.values())]
    preparations = sorted({preparation_of(*settings) for settings in every}, key=lambda p: p.name)
    sources = make_sources(scale)
    works = [Workplace(folder, scale, seed) for seed in seeds]
    make = partial(prepare, folder=folder / "recordings", preparations=preparations)
    for done, _ in enumerate(each(make, () if report else sources, workers=workers), start=1):
        print(f"recordings: {done} of {len(sources)}", file=sys.stderr, flush=True)
    for part in () if report else (rows, lessons):
        for _ in each(partial(run_rows, variants=list(part.values())), works, workers=workers):
            pass
    climbed, alone = collect(works, rows), collect(works, lessons)
    unfinished = len(rows) - len(climbed[str(seeds[0])])
    if unfinished:
        msg = f"{unfinished} rows of the ladder are not finished in {folder}; run without --report."
        raise SystemExit(msg)
    tests = [s.name.rpartition("-")[0] in HARD for s in sources if s.split == "test"]
    return {
        "scale": scale.__dict__,
        "seeds": list(seeds),
        "n_test": [tests.count(False), tests.count(True)],
        "ladder": climbed,
        "without one": alone,
        "shipped": shipped_scores(works[0]),
    }


def main() -> None:
    """Measure, and write table, numbers and picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file; .json and .png go beside it.")
    parser.add_argument("--work", type=Path, help="Kept between calls; ablation-work if not given.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--workers", type=int, default=1, help="Recordings, then seeds, at a time.")
    parser.add_argument(
        "--report", action="store_true", help="Write what is finished; train nothing more."
    )
    parser.add_argument(
        "--shipped", action="store_true", help="Train nothing: score the shipped default."
    )
    parser.add_argument("--quick", action="store_true", help="Tiny: tries the command.")
    given = parser.parse_args()
    size = "quick" if given.quick else "standard"
    folder = (given.work or Path("ablation-work")) / size
    if given.shipped:
        results = measure_shipped(folder, SCALES[size], workers=given.workers)
        text = shipped_table(results)
    else:
        results = measure(
            folder, SCALES[size], given.seeds, workers=given.workers, report=given.report
        )
        text = table(results)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        if not given.shipped:
            picture = given.out.with_suffix(".png")
            draw(results, picture)
            text += f"\n![SDC along the ladder, and without each switch]({picture.name})\n"
        given.out.write_text(text, encoding="utf-8")
        given.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""Simulated recordings, preprocessed as the pipeline does, with labels for both networks.

Each recording is a folder of `.npy` files that are memory-mapped in training. Recordings are
grouped into experiments (a seed each); splits are by experiment, so that test frames come from
experiments never seen.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from cocuyo.core import (
    AnyArray,
    FrozenConfig,
    LabelArray,
    ProgressCallback,
    Recording,
    SettingsError,
    ignore_progress,
    stream,
)
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.pipeline.srname import blob_labels
from cocuyo.pipeline.stream import resize, set_up, stream_steps
from cocuyo.preprocessing import equalise
from cocuyo.segmentation import detect_blobs
from cocuyo.simulation import Simulation, broad_training_config, simulate, training_config
from cocuyo.training.team import ALONE, Team, collect

Split = Literal["training", "validation", "test"]
Labels = Literal["truth", "srname"]
Preparations = Literal["slices", "all"]
_USERS_ERROR = 0.15
"""How wrong a user is about the soma diameter: sd of its logarithm."""
FORMAT = 5
"""Version of the folders; folders of another version are made again."""


class DatasetConfig(FrozenConfig):
    """How many recordings of which size a training sees."""

    n_training: int = Field(default=64, ge=1, description="Recordings to train on.")
    n_validation: int = Field(
        default=8, ge=1, description="Recordings to stop early on, from other experiments."
    )
    preparations: Preparations = Field(
        default="slices",
        description="`slices` alone (`training_config`), or in every second recording a slice, "
        "a culture or a miniscope of any size, rate and camera (`broad_training_config`). The "
        "first two networks, which see each pixel and step, gained nothing from the latter.",
    )
    n_frames: int = Field(default=480, ge=32, description="Frames of each recording.")
    side_px: int = Field(default=320, ge=64, description="Rows and columns of each recording.")
    labels: Labels = Field(
        default="truth",
        description="`truth`: exact, from the simulator; `srname`: from the SRNAME-like "
        "detector, as the paper was taught.",
    )


@dataclass(frozen=True, eq=False)
class Example:
    """One recording, ready to train on; the arrays are memory maps.

    Attributes
    ----------
    images : ndarray of uint8, shape (n_steps, rows, columns)
        Equalised, blurred step means, grey 0 to 255.
    single_images : ndarray of uint8, shape (n_single, rows, columns)
        Equalised single frames.
    single_labels : ndarray of bool, shape (n_single, rows, columns)
        Cells in them.
    contrast : ndarray of float16, shape (n_steps, rows, columns)
        Temporal contrast of each step; (n_steps, 1, 1) of zeros where no network sees it.
    visible : ndarray of bool, shape (n_steps, rows, columns)
        Cells in the step means.
    first_step : ndarray of int32, shape (rows, columns)
        Step in which a functional neuron at the pixel first fired; -1 where there is none.
    """

    images: AnyArray
    single_images: AnyArray
    single_labels: AnyArray
    contrast: AnyArray
    visible: AnyArray
    first_step: LabelArray


def prepare_recordings(
    folder: Path,
    *,
    dataset: DatasetConfig,
    config: PipelineConfig,
    split: Split,
    seed: int,
    n_workers: int = 1,
    progress: ProgressCallback = ignore_progress,
    team: Team = ALONE,
) -> list[Path]:
    """Simulate and preprocess the recordings of one split, where they are not there yet.

    Parameters
    ----------
    folder : Path
        Where the recordings lie; made if absent. Present recordings with the same settings
        are kept.
    dataset : DatasetConfig
        Numbers and sizes.
    config : PipelineConfig
        Preprocessing of the model that is trained.
    split : {"training", "validation", "test"}
        Random streams of the splits never meet.
    seed : int
        Seed of the training.
    n_workers : int, default: 1
        Processes.
    progress : callable, optional
        Called after each recording.
    team : Team, optional
        Those who share the work.

    Returns
    -------
    list of Path
        A folder for each recording, in order.
    """
    number = dataset.n_training if split == "training" else dataset.n_validation
    seeds = [1000 * seed + i for i in range(number)]
    make = partial(_prepare_one, folder / split, dataset, config, split)
    stage = f"simulating ({split})"
    return collect(make, seeds, n_workers=n_workers, stage=stage, progress=progress, team=team)


def load_example(path: Path) -> Example:
    """Open one prepared recording.

    Parameters
    ----------
    path : Path
        Its folder.

    Returns
    -------
    Example
        Memory-mapped arrays.
    """
    names = Example.__dataclass_fields__
    arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in names}
    return Example(**arrays)


def save_example(path: Path, example: Example) -> None:
    """Write the arrays of one recording for `load_example`.

    Parameters
    ----------
    path : Path
        An existing folder.
    example : Example
        The arrays.
    """
    for name in Example.__dataclass_fields__:
        np.save(path / f"{name}.npy", getattr(example, name), allow_pickle=False)


def training_simulation(
    seed: int, *, split: Split, n_frames: int, side_px: int, preparations: Preparations
) -> tuple[Simulation, Recording]:
    """Simulate one randomised recording.

    Parameters
    ----------
    seed : int
        Seed of the recording.
    split : {"training", "validation", "test"}
        Split it belongs to.
    n_frames, side_px : int
        Length and size.
    preparations : {"slices", "all"}
        With "all", odd seeds give a slice, a culture or a miniscope of any kind.

    Returns
    -------
    simulation : Simulation
        Frames and truth.
    recording : Recording
        The frames with rate and pixel size.
    """
    draw = broad_training_config if is_broad(seed, preparations) else training_config
    settings = draw(seed, split=split, n_frames=n_frames, shape=(side_px, side_px))
    simulation = simulate(settings, seed=seed)
    return simulation, simulation.recording(name=f"{split} {seed}")


def is_broad(seed: int, preparations: Preparations) -> bool:
    """Say whether a recording is one of any preparation.

    Parameters
    ----------
    seed : int
        Seed of the recording.
    preparations : {"slices", "all"}
        What a training sees.

    Returns
    -------
    bool
        Every second one, with "all".
    """
    return preparations == "all" and seed % 2 == 1


def diameter_error(seed: int, preparations: Preparations) -> float:
    """Say how wrong the soma diameter is that a run would take: the sd of its logarithm.

    Parameters
    ----------
    seed : int
        Seed of the recording.
    preparations : {"slices", "all"}
        What a training sees.

    Returns
    -------
    float
        Larger where the usual diameter of a soma says less.
    """
    return 0.2 if is_broad(seed, preparations) else _USERS_ERROR


def _prepare_one(
    folder: Path, dataset: DatasetConfig, config: PipelineConfig, split: Split, seed: int
) -> Path:
    cv2.setNumThreads(1)  # one process of several: threads of their own would fight
    path = folder / f"{seed:07d}"
    key = {
        "format": FORMAT,
        "n_frames": dataset.n_frames,
        "side_px": dataset.side_px,
        "labels": dataset.labels,
        "preparations": dataset.preparations,
        "preprocessing": json.loads(
            config.model_dump_json(include={"motion", "equalisation", "contrast", "scale"})
        ),
        "step_s": config.networks.temporal.step_s,
        "contrast_input": config.networks.temporal.contrast_input,
    }
    marker = path / "settings.json"
    if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == key:
        return path
    partial_path = path.with_name(f"{path.name}.partial-{os.getpid()}")
    shutil.rmtree(partial_path, ignore_errors=True)
    partial_path.mkdir(parents=True)
    simulation, recording = training_simulation(
        seed,
        split=split,
        n_frames=dataset.n_frames,
        side_px=dataset.side_px,
        preparations=dataset.preparations,
    )
    example = make_example(
        simulation,
        recording,
        config=config,
        labels=dataset.labels,
        seed=seed,
        wrong=diameter_error(seed, dataset.preparations),
    )
    save_example(partial_path, example)
    (partial_path / "settings.json").write_text(json.dumps(key), encoding="utf-8")
    shutil.rmtree(path, ignore_errors=True)
    partial_path.rename(path)
    return path


def make_example(
    simulation: Simulation,
    recording: Recording,
    *,
    config: PipelineConfig,
    labels: Labels,
    seed: int,
    diameter_px: float | None = None,
    wrong: float = _USERS_ERROR,
) -> Example:
    """Preprocess a simulated recording as the pipeline does, and label it.

    Parameters
    ----------
    simulation : Simulation
        Frames and truth.
    recording : Recording
        The same frames.
    config : PipelineConfig
        Preprocessing.
    labels : {"truth", "srname"}
        Where labels come from.
    seed : int
        Seed of the choice of single frames and of the error of the diameter.
    diameter_px : float, optional
        Soma diameter in place of one as wrong as a user's.
    wrong : float, default: 0.15
        How wrong that is: sd of its logarithm.

    Returns
    -------
    Example
        Arrays in memory.
    """
    truth = simulation.truth
    rng = stream(seed, f"training.{simulation.config.split}.examples")
    # Users know the diameter roughly: the networks must bear to be wrong about it.
    typical = simulation.config.soma_diameter_um / simulation.config.pixel_size_um
    told = float(typical * np.exp(rng.normal(0.0, wrong)))
    diameter_px = told if diameter_px is None else diameter_px
    setup = set_up(recording, config=config, diameter_px=diameter_px)
    diameter = setup.network_diameter_px
    images, contrasts, visible, singles, single_labels = [], [], [], [], []
    starts = []

    def label(image: AnyArray, start: int, stop: int) -> AnyArray:
        if labels == "srname":
            return detect_blobs(image, diameter_px=diameter, config=config.blobs)
        # A mean of n frames shows cells that are fainter by the root of n.
        seen = truth.frame_labels((start + stop - 1) // 2, k=1.5 / np.sqrt(stop - start))
        return resize(seen.astype(np.float32), setup.factor) > 0.5

    for step in stream_steps(recording, setup):
        if not step.usable:
            continue
        image = equalise(
            step.mean, setup.grey_range, diameter_px=diameter, config=config.equalisation
        )
        images.append(_to_bytes(image))
        if config.networks.temporal.contrast_input:
            contrasts.append(step.contrast.astype(np.float16))
        else:  # not seen by the network: not stored
            contrasts.append(np.zeros((1, 1), np.float16))
        visible.append(label(image, step.start, step.stop))
        starts.append(step.start)
        if rng.random() < 48 / max(1, recording.n_frames // setup.frames_per_step):
            frame = resize(step.frames[0], setup.factor)
            one = equalise(
                frame, setup.grey_range, diameter_px=diameter, config=config.equalisation
            )
            singles.append(_to_bytes(one))
            single_labels.append(label(one, step.start, step.start + 1))
    if not images:
        msg = f"{recording.name} has no usable step; the simulation settings are unusable."
        raise SettingsError(msg)
    shape = images[0].shape
    if labels == "srname":
        mask = blob_labels(recording, config=config, diameter_px=diameter_px) > 0
        first = np.where(resize(mask.astype(np.float32), setup.factor) > 0.5, 0, -1)
    else:
        first = _first_steps(simulation, starts, setup.frames_per_step, setup.factor, shape)
    return Example(
        np.stack(images),
        np.stack(singles or images[:1]),
        np.stack(single_labels or visible[:1]),
        np.stack(contrasts),
        np.stack(visible),
        first.astype(np.int32),
    )


def _first_steps(
    simulation: Simulation,
    starts: Iterable[int],
    frames_per_step: int,
    factor: float,
    shape: tuple[int, int],
) -> AnyArray:
    """Step of the first strong event of the functional neuron at each pixel, or -1."""
    truth = simulation.truth
    stops = np.asarray(list(starts)) + frames_per_step
    first = np.full(shape, -1, np.int32)
    masks = truth.cell_masks()
    for cell in np.flatnonzero(truth.functional):
        trace = truth.traces[cell]
        # It counts as seen once a transient has reached half of the cell's largest.
        fired = int(np.argmax(trace >= 0.5 * trace.max()))
        step = min(int(np.searchsorted(stops, fired, side="right")), len(stops) - 1)
        mask = masks[[cell]].toarray().reshape(simulation.frames.shape[1:])
        where = resize(mask.astype(np.float32), factor) > 0.5
        earlier = where & ((first < 0) | (first > step))
        first[earlier] = step
    return first


def _to_bytes(image: AnyArray) -> AnyArray:
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), np.uint8)

"""What simulated recordings teach beyond the first two networks, kept recording by recording."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cocuyo.core import AnyArray, Recording, stream
from cocuyo.pipeline.analysis import Analysis, analyse, network_shape
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.segmentation import Engine, load_engine
from cocuyo.segmentation.weights import OUTLINE_WEIGHTS, WEIGHTS
from cocuyo.simulation import Simulation
from cocuyo.training.dataset import (
    DatasetConfig,
    Split,
    diameter_error,
    training_simulation,
)


@dataclass(frozen=True, eq=False)
class Case:
    """A simulated recording after the first pass.

    Attributes
    ----------
    simulation : Simulation
        With its truth.
    recording : Recording
        Its frames.
    analysis : Analysis
        Maps and motion.
    diameter_px : float
        Typical soma diameter, as wrong as a user's.
    engine : Engine
        The networks.
    """

    simulation: Simulation
    recording: Recording
    analysis: Analysis
    diameter_px: float
    engine: Engine


def analyse_one(
    folder: Path, dataset: DatasetConfig, config: PipelineConfig, split: Split, seed: int
) -> Case:
    """Simulate one recording and look at it as a run does, on one thread.

    Parameters
    ----------
    folder : Path
        Model folder with the networks.
    dataset : DatasetConfig
        Size of the recording; its length varies around its number of frames.
    config : PipelineConfig
        Settings.
    split : {"training", "validation", "test"}
        Which split it belongs to.
    seed : int
        Seed of the recording.

    Returns
    -------
    Case
        The recording and what the first pass found.
    """
    cv2.setNumThreads(1)  # one process of several
    rng = stream(seed, f"training.{split}.examples")
    # Users know the diameter roughly, and record for longer or shorter.
    wrong = diameter_error(seed, dataset.preparations)
    length, error = np.exp(rng.uniform(np.log(0.7), np.log(2.0))), np.exp(rng.normal(0.0, wrong))
    simulation, recording = training_simulation(
        seed,
        split=split,
        n_frames=max(32, round(dataset.n_frames * length)),
        side_px=dataset.side_px,
        preparations=dataset.preparations,
    )
    diameter_px = float(error * simulation.config.soma_diameter_um / recording.pixel_size_um)
    engine = load_engine(
        folder,
        config.networks,
        frame_shape=network_shape(recording.frame_shape, config.scale.factor(diameter_px)),
        engine="openvino",  # one process of several: a GPU would have to hold each
        precision="f32",
        n_threads=1,
    )
    analysis = analyse(recording, config=config, diameter_px=diameter_px, engine=engine)
    return Case(simulation, recording, analysis, diameter_px, engine)


def kept_folder(
    cache: Path,
    folder: Path,
    *,
    facts: object,
    dataset: DatasetConfig,
    config: PipelineConfig,
    split: Split,
) -> Path:
    """Make the folder for what was collected with some networks and settings.

    Parameters
    ----------
    cache : Path
        Holds such folders.
    folder : Path
        Model folder with the networks that `config` names.
    facts : object
        What else the collected depends on; its text counts.
    dataset : DatasetConfig
        Size of the recordings.
    config : PipelineConfig
        Settings.
    split : {"training", "validation", "test"}
        Which recordings.

    Returns
    -------
    Path
        An existing folder; another one for anything that differs.
    """
    key = hashlib.sha256((folder / WEIGHTS).read_bytes())
    if config.networks.outline is not None:
        key.update((folder / OUTLINE_WEIGHTS).read_bytes())
    key.update(f"{facts} {dataset.model_dump_json()} {config.model_dump_json()}".encode())
    kept = cache / f"{split}-{key.hexdigest()[:16]}"
    kept.mkdir(parents=True, exist_ok=True)
    return kept


def keep(path: Path, make: Callable[[], dict[str, AnyArray]]) -> dict[str, Any]:
    """Read arrays that were made before, or make and keep them.

    Parameters
    ----------
    path : Path
        File ending in ``.npz``; its folder exists.
    make : callable
        Makes the arrays where the file is not there.

    Returns
    -------
    dict of ndarray
        The arrays by name.
    """
    if not path.is_file():
        partial_path = path.with_name(f"{path.stem}.partial-{os.getpid()}.npz")
        arrays: dict[str, Any] = make()
        np.savez(partial_path, **arrays)
        partial_path.rename(path)
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}

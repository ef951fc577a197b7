"""Fitting the verifier on the candidates that the rest of the pipeline finds."""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cocuyo.core import (
    BoolArray,
    FloatArray,
    ModelError,
    Progress,
    ProgressCallback,
    RoiSet,
    ignore_progress,
    stream,
)
from cocuyo.pipeline.analysis import analyse, network_shape
from cocuyo.pipeline.finish import finish_candidates
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.postprocessing import Verifier
from cocuyo.segmentation import load_engine
from cocuyo.simulation import Simulation
from cocuyo.training.dataset import DatasetConfig, Split, training_simulation
from cocuyo.training.settings import VerifierRecipe

SAME_NEURON_IOU = 0.4
"""A candidate that overlaps a functional neuron at least this much is one."""
UNCERTAIN_IOU = 0.2
"""Between this and `SAME_NEURON_IOU` a candidate teaches nothing."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates of several recordings with what they are.

    Attributes
    ----------
    features : ndarray of float32, shape (n, n_features)
        What the verifier sees.
    functional : ndarray of bool, shape (n,)
        Whether each is a functional neuron.
    """

    features: FloatArray
    functional: BoolArray


def collect_candidates(
    folder: Path,
    *,
    dataset: DatasetConfig,
    config: PipelineConfig,
    split: Split,
    seed: int,
    n_workers: int = 1,
    progress: ProgressCallback = ignore_progress,
) -> Candidates:
    """Run the pipeline without verifier on simulated recordings and label its candidates.

    Parameters
    ----------
    folder : Path
        Model folder with both networks.
    dataset : DatasetConfig
        Number and size of the recordings.
    config : PipelineConfig
        Settings.
    split : {"training", "validation", "test"}
        Which recordings.
    seed : int
        Seed of the training.
    n_workers : int, default: 1
        Processes.
    progress : callable, optional
        Called after each recording.

    Returns
    -------
    Candidates
        Features and labels; uncertain ones are left out.
    """
    number = dataset.n_training if split == "training" else dataset.n_validation
    # Other recordings than the networks were fitted on: there their maps are too good.
    seeds = [500_000 + 1000 * seed + i for i in range(number)]
    one = partial(_candidates_of, folder, dataset, config, split)
    parts: list[Candidates] = []

    def add(found: Iterable[Candidates]) -> None:
        for part in found:
            parts.append(part)
            progress(Progress(f"collecting candidates ({split})", len(parts), number))

    if n_workers <= 1:
        add(map(one, seeds))
    else:
        with ProcessPoolExecutor(n_workers) as pool:
            add(pool.map(one, seeds))
    return Candidates(
        np.concatenate([p.features for p in parts]), np.concatenate([p.functional for p in parts])
    )


def fit_verifier(
    training: Candidates,
    validation: Candidates,
    *,
    recipe: VerifierRecipe,
    seed: int,
) -> tuple[Verifier, dict[str, float]]:
    """Fit the verifier; the epoch with the least validation loss is kept.

    Parameters
    ----------
    training, validation : Candidates
        From different recordings.
    recipe : VerifierRecipe
        Widths and epochs.
    seed : int
        Seed of weights and order.

    Returns
    -------
    verifier : Verifier
        The fitted verifier.
    metrics : dict of float
        Validation loss, accuracy, share of functional candidates, numbers.

    Raises
    ------
    ModelError
        If the training candidates are all of one kind, or there are none for validation.
    """
    if training.functional.all() or not training.functional.any():
        msg = (
            f"All {len(training.functional)} training candidates are of one kind; "
            "simulate more recordings."
        )
        raise ModelError(msg)
    if len(validation.functional) == 0:
        msg = "No candidate was found for validation; simulate more or longer recordings."
        raise ModelError(msg)
    torch.manual_seed(seed)
    mean = training.features.mean(axis=0)
    scale = np.maximum(training.features.std(axis=0), 1e-3)

    def standardise(features: FloatArray) -> torch.Tensor:
        return torch.from_numpy(np.clip((features - mean) / scale, -6, 6).astype(np.float32))

    widths = [training.features.shape[1], *recipe.hidden, 1]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(0.1)]
    network = nn.Sequential(*layers[:-2])
    inputs, wanted = standardise(training.features), torch.from_numpy(training.functional).float()
    held, truth = standardise(validation.features), torch.from_numpy(validation.functional).float()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    batch = 128
    n_batches = -(-len(inputs) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate, total_steps=recipe.epochs * n_batches
    )
    rng = stream(seed, "training.verifier")
    best, best_loss = [p.detach().clone() for p in network.parameters()], np.inf
    for _ in range(recipe.epochs):
        network.train()
        for rows in np.array_split(rng.permutation(len(inputs)), n_batches):
            noisy = inputs[rows] + 0.05 * torch.randn(len(rows), inputs.shape[1])
            logits = network(noisy)[:, 0]
            loss = functional.binary_cross_entropy_with_logits(logits, wanted[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
            optimiser.step()
            schedule.step()
        network.eval()
        with torch.inference_mode():
            held_loss = float(
                functional.binary_cross_entropy_with_logits(network(held)[:, 0], truth)
            )
        if held_loss < best_loss:
            best_loss = held_loss
            best = [p.detach().clone() for p in network.parameters()]
    arrays = [p.numpy() for p in best]
    verifier = Verifier(
        mean.astype(np.float32),
        scale.astype(np.float32),
        tuple(arrays[0::2]),
        tuple(arrays[1::2]),
    )
    right = (verifier.score(validation.features) >= 0.5) == validation.functional
    metrics = {
        "validation_loss": float(best_loss),
        "validation_accuracy": float(right.mean()),
        "validation_share_functional": float(validation.functional.mean()),
        "n_training": float(len(inputs)),
        "n_validation": float(len(held)),
    }
    return verifier, metrics


def label_candidates(rois: RoiSet, simulation: Simulation) -> tuple[BoolArray, BoolArray]:
    """Say which candidates are functional neurons of the truth.

    Parameters
    ----------
    rois : RoiSet
        Candidates.
    simulation : Simulation
        With its truth.

    Returns
    -------
    functional : ndarray of bool, shape (n_rois,)
        Overlaps a functional neuron by `SAME_NEURON_IOU` or more.
    certain : ndarray of bool, shape (n_rois,)
        Clearly one or clearly none.
    """
    masks = simulation.truth.cell_masks()[np.flatnonzero(simulation.truth.functional)]
    masks = masks.astype(np.float32)
    own = rois.footprints.copy()
    own.data = np.ones_like(own.data)
    if masks.shape[0] == 0:
        return np.zeros(len(rois), np.bool_), np.ones(len(rois), np.bool_)
    shared = (own @ masks.T).toarray()
    areas = np.asarray(masks.sum(axis=1)).ravel()
    union = np.asarray(own.sum(axis=1)).ravel()[:, None] + areas[None] - shared
    best = (shared / np.maximum(union, 1)).max(axis=1)
    functional = best >= SAME_NEURON_IOU
    return functional, functional | (best < UNCERTAIN_IOU)


def _candidates_of(
    folder: Path, dataset: DatasetConfig, config: PipelineConfig, split: Split, seed: int
) -> Candidates:
    cv2.setNumThreads(1)  # one process of several
    simulation, recording = training_simulation(
        seed, split=split, n_frames=dataset.n_frames, side_px=dataset.side_px
    )
    rng = stream(seed, "training.verifier.diameter")
    typical = simulation.config.soma_diameter_um / simulation.config.pixel_size_um
    diameter_px = float(typical * np.exp(rng.normal(0.0, 0.15)))
    engine = load_engine(
        folder,
        config.networks,
        frame_shape=network_shape(recording.frame_shape, config.scale.factor(diameter_px)),
        engine="openvino",
        precision="f32",
        n_threads=1,
    )
    analysis = analyse(recording, config=config, diameter_px=diameter_px, engine=engine)
    found = finish_candidates(
        recording,
        analysis.motion,
        analysis.maps,
        config=config,
        diameter_px=diameter_px,
        verifier=None,
    )
    functional, certain = label_candidates(found.rois, simulation)
    return Candidates(found.features[certain], functional[certain])

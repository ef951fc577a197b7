"""Fitting the verifier on the candidates that the rest of the pipeline finds.

What a recording teaches is kept in a file of its own, so that a stopped collection goes on.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import block_diag
from torch import nn
from torch.nn import functional

from cocuyo.core import (
    AnyArray,
    BoolArray,
    FloatArray,
    LabelArray,
    ModelError,
    ProgressCallback,
    RoiSet,
    ignore_progress,
    stream,
)
from cocuyo.pipeline.finish import finish_candidates
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.postprocessing import CANDIDATE_FEATURES, Verifier, add_field
from cocuyo.simulation import Simulation
from cocuyo.training.collect import analyse_one, keep, kept_folder
from cocuyo.training.dataset import DatasetConfig, Split
from cocuyo.training.settings import VerifierRecipe
from cocuyo.training.team import ALONE, Team, collect

SAME_NEURON_IOU = 0.4
"""A candidate that overlaps a functional neuron at least this much is one."""
_COOLER = tuple(float(t) for t in np.round(np.geomspace(1.0, 4.0, 15), 3))
"""Temperatures that are tried: what was fitted is too sure of itself on what it has not seen."""
UNCERTAIN_IOU = 0.2
"""Between this and `SAME_NEURON_IOU` a candidate teaches nothing."""


FORMAT = 3
"""Version of the files of collected examples; those of another version are made again."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Described candidates with what they are.

    Attributes
    ----------
    features : ndarray of float32, shape (n, n_features)
        What the verifier sees.
    right : ndarray of bool, shape (n,)
        Whether each is a functional neuron.
    """

    features: FloatArray
    right: BoolArray


def collect_examples(
    folder: Path,
    *,
    cache: Path,
    dataset: DatasetConfig,
    recipe: VerifierRecipe,
    config: PipelineConfig,
    split: Split,
    seed: int,
    n_workers: int = 1,
    progress: ProgressCallback = ignore_progress,
    team: Team = ALONE,
) -> Examples:
    """Run the pipeline without verifier on simulated recordings and label what it finds.

    Parameters
    ----------
    folder : Path
        Model folder with both networks.
    cache : Path
        Folder for what has been collected; made if absent.
    dataset : DatasetConfig
        Size of the recordings; their length varies around its number of frames.
    recipe : VerifierRecipe
        Number of the recordings.
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
    team : Team, optional
        Those who share the work.

    Returns
    -------
    Examples
        Features and labels; uncertain candidates are left out.
    """
    dataset = dataset.model_copy(update={"preparations": recipe.preparations})
    number = recipe.n_training if split == "training" else recipe.n_validation
    # Other recordings than the networks were fitted on: there their maps are too good.
    seeds = [500_000 + 1000 * seed + i for i in range(number)]
    facts = (FORMAT, SAME_NEURON_IOU, UNCERTAIN_IOU, CANDIDATE_FEATURES)
    kept = kept_folder(cache, folder, facts=facts, dataset=dataset, config=config, split=split)
    parts = collect(
        partial(_examples_of, folder, kept, dataset, config, split),
        seeds,
        n_workers=n_workers,
        stage=f"collecting examples ({split})",
        progress=progress,
        team=team,
    )
    return Examples(
        np.concatenate([add_field(part.features) for part in parts]),
        np.concatenate([part.right for part in parts]),
    )


def fit_verifier(
    training: Examples, validation: Examples, *, recipe: VerifierRecipe, seed: int
) -> tuple[Verifier, dict[str, float]]:
    """Fit the verifier: some perceptrons whose mean opinion, in logits, counts.

    How sure it is of that opinion is chosen on the validation examples, so that a score is the
    share of neurons among candidates of that score.

    Parameters
    ----------
    training, validation : Examples
        From different recordings.
    recipe : VerifierRecipe
        Widths and epochs.
    seed : int
        Seed of weights and order.

    Returns
    -------
    verifier : Verifier
        The fitted one.
    metrics : dict of float
        Validation loss, accuracy, share of right examples, numbers.

    Raises
    ------
    ModelError
        If the training examples are all of one kind, or there are none for validation.
    """
    if training.right.all() or not training.right.any():
        msg = (
            f"All {len(training.right)} examples for the verifier are of one kind; "
            "simulate more recordings."
        )
        raise ModelError(msg)
    if len(validation.right) == 0:
        msg = "The verifier has no examples for validation; simulate more or longer recordings."
        raise ModelError(msg)
    mean = training.features.mean(axis=0)
    scale = np.maximum(training.features.std(axis=0), 1e-3)
    standard: FloatArray = np.clip((training.features - mean) / scale, -6, 6).astype(np.float32)
    members = [
        _fit_member(standard, training.right, recipe, seed=seed, member=member)
        for member in range(recipe.members)
    ]
    weights, biases = _side_by_side(members)
    sure = Verifier(mean.astype(np.float32), scale.astype(np.float32), weights, biases)
    losses = {t: _loss(_cooler(sure, t).score(validation.features), validation) for t in _COOLER}
    temperature = min(losses, key=losses.__getitem__)
    fitted = _cooler(sure, temperature)
    score = fitted.score(validation.features)
    right = (score >= 0.5) == validation.right
    metrics = {
        "validation_loss": losses[temperature],
        "temperature": float(temperature),
        "validation_accuracy": float(right.mean()),
        "validation_share_right": float(validation.right.mean()),
        "n_training": float(len(training.right)),
        "n_validation": float(len(validation.right)),
    }
    return Verifier.from_tensors(fitted.tensors()), metrics


def _cooler(verifier: Verifier, temperature: float) -> Verifier:
    """The same order of candidates, with logits divided by the temperature (Guo et al. 2017)."""
    *weights, last = verifier.weights
    *biases, shift = verifier.biases
    return Verifier(
        verifier.mean,
        verifier.scale,
        (*weights, np.asarray(last / temperature, np.float32)),
        (*biases, np.asarray(shift / temperature, np.float32)),
    )


def _loss(score: FloatArray, examples: Examples) -> float:
    """Binary cross-entropy of scores."""
    wanted = torch.from_numpy(examples.right).float()
    return float(functional.binary_cross_entropy(torch.from_numpy(score), wanted))


def _fit_member(
    inputs: FloatArray, right: BoolArray, recipe: VerifierRecipe, *, seed: int, member: int
) -> list[FloatArray]:
    """Fit one perceptron; weights and biases of its layers in turn."""
    rng = stream(seed, f"training.verifier.{member}")
    torch.manual_seed(int(rng.integers(2**31)))
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise([inputs.shape[1], *recipe.hidden, 1]):
        layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(recipe.dropout)]
    network = nn.Sequential(*layers[:-2])
    seen, wanted = torch.from_numpy(inputs), torch.from_numpy(right).float()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    n_batches = -(-len(seen) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate, total_steps=recipe.epochs * n_batches
    )
    for _ in range(recipe.epochs):
        for rows in np.array_split(rng.permutation(len(seen)), n_batches):
            noisy = seen[rows] + 0.05 * torch.randn(len(rows), seen.shape[1])
            logits = network(noisy)[:, 0]
            loss = functional.binary_cross_entropy_with_logits(logits, wanted[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
            optimiser.step()
            schedule.step()
    return [np.asarray(p.detach().numpy(), np.float32) for p in network.parameters()]


def _side_by_side(
    members: list[list[FloatArray]],
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """One perceptron that gives the mean of the logits of several."""
    layers = list(zip(*members, strict=True))
    weights, biases = layers[0::2], layers[1::2]
    # All see the same features, later each only what is its own; the last layer takes the mean.
    joined = [np.concatenate(weights[0]), *(block_diag(*own) for own in weights[1:-1])]
    joined.append(np.concatenate(weights[-1], axis=1) / len(members))
    shifts = [*(np.concatenate(own) for own in biases[:-1]), np.mean(biases[-1], axis=0)]
    return (
        tuple(np.asarray(weight, np.float32) for weight in joined),
        tuple(np.asarray(bias, np.float32) for bias in shifts),
    )


def label_candidates(rois: RoiSet, simulation: Simulation) -> tuple[LabelArray, BoolArray]:
    """Say which candidates are functional neurons of the truth.

    Parameters
    ----------
    rois : RoiSet
        Candidates.
    simulation : Simulation
        With its truth.

    Returns
    -------
    cell : ndarray of int64, shape (n_rois,)
        Functional neuron of the truth that it overlaps by `SAME_NEURON_IOU` or more; else -1.
    certain : ndarray of bool, shape (n_rois,)
        Clearly one or clearly none.
    """
    functional = np.flatnonzero(simulation.truth.functional)
    masks = simulation.truth.cell_masks()[functional].astype(np.float32)
    if masks.shape[0] == 0:
        return np.full(len(rois), -1), np.ones(len(rois), np.bool_)
    overlap = overlap_with(rois, masks)
    best = overlap.max(axis=1)
    cell = np.where(best >= SAME_NEURON_IOU, functional[overlap.argmax(axis=1)], -1)
    return cell, (cell >= 0) | (best < UNCERTAIN_IOU)


def overlap_with(rois: RoiSet, masks: sparse.csr_array) -> FloatArray:
    """Intersection over union of each ROI with each mask.

    Parameters
    ----------
    rois : RoiSet
        The ROIs.
    masks : scipy.sparse.csr_array of float, shape (n_masks, n_pixels)
        1 in the mask.

    Returns
    -------
    ndarray of float, shape (n_rois, n_masks)
        From 0 to 1.
    """
    own = rois.footprints.copy()
    own.data = np.ones_like(own.data)
    shared = (own @ masks.T).toarray()
    areas = np.asarray(masks.sum(axis=1)).ravel()
    union = np.asarray(own.sum(axis=1)).ravel()[:, None] + areas[None] - shared
    return np.asarray(shared / np.maximum(union, 1))


def _examples_of(
    folder: Path,
    kept: Path,
    dataset: DatasetConfig,
    config: PipelineConfig,
    split: Split,
    seed: int,
) -> Examples:
    def make() -> dict[str, AnyArray]:
        found = _collect_one(folder, dataset, config, split, seed)
        return {"features": found.features, "right": found.right}

    return Examples(**keep(kept / f"{seed:07d}.npz", make))


def _collect_one(
    folder: Path, dataset: DatasetConfig, config: PipelineConfig, split: Split, seed: int
) -> Examples:
    case = analyse_one(folder, dataset, config, split, seed)
    found = finish_candidates(
        case.recording,
        case.analysis.motion,
        case.analysis.maps,
        config=config,
        diameter_px=case.diameter_px,
        verifier=None,
        engine=case.engine,
    )
    cell, certain = label_candidates(found.rois, case.simulation)
    described = found.features[:, : len(CANDIDATE_FEATURES)]
    return Examples(described[certain], (cell >= 0)[certain])

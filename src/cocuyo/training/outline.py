"""Fitting the outline network on the candidates that the first two networks give.

What a recording teaches is kept in a file of its own, so that a stopped collection goes on.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cocuyo.core import (
    AnyArray,
    BoolArray,
    FloatArray,
    LabelArray,
    ModelError,
    ProgressCallback,
    ignore_progress,
    stream,
)
from cocuyo.pipeline.finish import draw_candidates
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.postprocessing import CHANNELS, VIEW_SIDE, Scene, to_view, view_candidates
from cocuyo.segmentation import OutlineConfig
from cocuyo.segmentation.engine import computes_in_bf16
from cocuyo.segmentation.networks import OutlineNetwork
from cocuyo.training.collect import Case, analyse_one, keep, kept_folder
from cocuyo.training.dataset import DatasetConfig, Split
from cocuyo.training.loop import Curve, Update, fit, segmentation_loss
from cocuyo.training.settings import OutlineRecipe
from cocuyo.training.team import ALONE, Team, collect

FORMAT = 1
"""Version of the files of collected views; those of another version are made again."""
_TEACHES_OUTLINE = 0.15
_IS_NEURON = 0.35
"""Overlap with a functional neuron from which a candidate at half maximum teaches its outline, and
from which it counts as that neuron; below the first it is none."""


@dataclass(frozen=True, eq=False)
class Views:
    """Candidates as the outline network sees them, with what they are.

    Attributes
    ----------
    views : ndarray of float16, shape (n, n_channels, side, side)
        In the order of `CHANNELS`.
    soma : ndarray of uint8, shape (n, side, side)
        The functional neuron that each shows, 0 to 255; 0 everywhere for others.
    is_neuron : ndarray of int8, shape (n,)
        1 a functional neuron, 0 none, -1 uncertain.
    """

    views: AnyArray
    soma: AnyArray
    is_neuron: AnyArray


def collect_views(
    folder: Path,
    *,
    cache: Path,
    dataset: DatasetConfig,
    recipe: OutlineRecipe,
    config: PipelineConfig,
    split: Split,
    seed: int,
    n_workers: int = 1,
    progress: ProgressCallback = ignore_progress,
    team: Team = ALONE,
) -> Views:
    """Draw the candidates of simulated recordings and say which neurons they show.

    Parameters
    ----------
    folder : Path
        Model folder with the spatial and the temporal network.
    cache : Path
        Folder for what has been collected; made if absent.
    dataset : DatasetConfig
        Size of the recordings.
    recipe : OutlineRecipe
        Number of the recordings.
    config : PipelineConfig
        Settings; the outline network in them is not used.
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
    Views
        All candidates that are certain or show a part of a neuron.
    """
    bare = config.model_copy(
        update={"networks": config.networks.model_copy(update={"outline": None})}
    )
    dataset = dataset.model_copy(update={"preparations": recipe.preparations})
    number = recipe.n_training if split == "training" else recipe.n_validation
    # Other recordings than those of the first networks, and than the verifier's.
    seeds = [700_000 + 1000 * seed + i for i in range(number)]
    facts = (FORMAT, CHANNELS, VIEW_SIDE, _TEACHES_OUTLINE, _IS_NEURON)
    kept = kept_folder(cache, folder, facts=facts, dataset=dataset, config=bare, split=split)
    one = partial(_views_of, folder, kept, dataset, bare, split)
    parts = collect(
        one,
        seeds,
        n_workers=n_workers,
        stage=f"collecting outlines ({split})",
        progress=progress,
        team=team,
    )
    return Views(
        np.concatenate([part.views for part in parts]),
        np.concatenate([part.soma for part in parts]),
        np.concatenate([part.is_neuron for part in parts]),
    )


def fit_outline_network(
    training: Views,
    validation: Views,
    *,
    config: OutlineConfig,
    recipe: OutlineRecipe,
    seed: int,
    checkpoint: Path,
    progress: ProgressCallback = ignore_progress,
    team: Team = ALONE,
) -> tuple[OutlineNetwork, Curve]:
    """Fit the outline network; on a GPU where there is one.

    Parameters
    ----------
    training, validation : Views
        From different recordings.
    config : OutlineConfig
        The network.
    recipe : OutlineRecipe
        Loss, schedule, epochs.
    seed : int
        Seed of weights and order.
    checkpoint : Path
        Written after each epoch, resumed from where it exists.
    progress : callable, optional
        Called after each epoch.
    team : Team, optional
        Those who fit it together.

    Returns
    -------
    network : OutlineNetwork
        With the weights of the best epoch, on the processor.
    curve : Curve
        Losses, and mean SDC of the outlines of validation neurons.

    Raises
    ------
    ModelError
        If no candidate shows a functional neuron.
    """
    for what in (training, validation):
        if not (what.is_neuron == 1).any():
            msg = "No candidate shows a functional neuron; simulate more or longer recordings."
            raise ModelError(msg)
    torch.manual_seed(seed)
    device = team.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = OutlineNetwork(training.views.shape[1], config).to(device)
    views = torch.from_numpy(training.views).to(device)
    soma = torch.from_numpy(training.soma).to(device)
    right = torch.from_numpy(training.is_neuron).to(device)
    n_batches = max(1, len(views) // recipe.batch)
    quick = device.type == "cuda" or computes_in_bf16()
    held = torch.from_numpy(validation.views[validation.is_neuron == 1])
    wanted = torch.from_numpy(validation.soma[validation.is_neuron == 1])

    def train_epoch(epoch: int, update: Update) -> None:
        rng = stream(seed, f"training.outline.{epoch}")
        own = team.own(rng)
        for batch in np.array_split(rng.permutation(len(views)), n_batches):
            rows = batch[team.share(len(batch))]
            at = torch.from_numpy(rows).to(device)
            known, functional_ = right[at] >= 0, (right[at] == 1).float()
            if not known.any():
                update(None, 0)
                continue
            seen, target = _vary(views[at].float(), soma[at].float() / 255, own)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=quick):
                outline, score = network(seen)
            loss = functional.binary_cross_entropy_with_logits(
                score.float()[known, 0], functional_[known]
            )
            shown = target.amax(dim=(1, 2, 3)) > 0
            if shown.any():
                loss = loss + segmentation_loss(outline.float()[shown], target[shown], recipe.loss)
            update(loss, len(rows))

    def validate() -> float:
        scores = []
        for start in range(0, len(held), 256):
            part = slice(start, start + 256)
            outline, _ = network(held[part].to(device).float())
            found, true = outline[:, 0] > 0, wanted[part].to(device) >= 128
            both = (found & true).sum(dim=(1, 2))
            scores.append(2 * both / (found.sum(dim=(1, 2)) + true.sum(dim=(1, 2))).clamp(min=1))
        return float(torch.cat(scores).mean())

    curve = fit(
        network,
        recipe=recipe,
        updates_per_epoch=n_batches,
        train_epoch=train_epoch,
        validate=validate,
        checkpoint=checkpoint,
        progress=progress,
        stage="outline network",
        team=team,
    )
    return network.cpu(), curve


def _vary(seen: Tensor, target: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Turn, mirror and regrade a batch; sometimes hide what other microscopes may not show."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    seen, target = torch.rot90(seen, turns, (2, 3)), torch.rot90(target, turns, (1, 2))
    if mirror:
        seen, target = seen.flip(3), target.flip(2)
    n = len(seen)
    gain = torch.ones(n, seen.shape[1], 1, 1)
    for name in ("image over noise", "rest", "probability", "contrast"):
        channel = CHANNELS.index(name)
        shown = rng.random(n) >= 0.08
        gain[:, channel, 0, 0] = torch.from_numpy(shown * rng.uniform(0.85, 1.15, n)).float()
    return seen * gain.to(seen.device), target[:, None]


def _views_of(
    folder: Path,
    kept: Path,
    dataset: DatasetConfig,
    config: PipelineConfig,
    split: Split,
    seed: int,
) -> Views:
    def make() -> dict[str, AnyArray]:
        return vars(label_views(analyse_one(folder, dataset, config, split, seed), config))

    return Views(**keep(kept / f"{seed:07d}.npz", make))


def label_views(case: Case, config: PipelineConfig) -> Views:
    """Draw the candidates of a recording and say which neuron each shows.

    Parameters
    ----------
    case : Case
        A simulated recording after the first pass.
    config : PipelineConfig
        Settings without an outline network.

    Returns
    -------
    Views
        Its candidates.
    """
    maps, shape = case.analysis.maps, case.recording.frame_shape
    drawn = draw_candidates(
        case.recording,
        case.analysis.motion,
        maps,
        config=config,
        diameter_px=case.diameter_px,
    )
    views = view_candidates(
        drawn.images,
        scene=Scene(maps.mean, maps.probability, maps.contrast, case.diameter_px),
        index=drawn.index,
        inside=drawn.inside,
        weights=drawn.weights,
        diameter_px=case.diameter_px,
    )
    neurons, overlap = _neurons(
        [image.pixels for image in drawn.images], case, n_pixels=shape[0] * shape[1]
    )
    soma = np.zeros((len(views), VIEW_SIDE, VIEW_SIDE), np.uint8)
    for i, image in enumerate(drawn.images):
        if overlap[i] < _TEACHES_OUTLINE:
            continue
        side = len(image.mask)
        own = neurons[i][drawn.index[i]].reshape(side, side) & drawn.inside[i]
        seen = to_view(own.astype(np.float32), diameter_px=case.diameter_px)
        soma[i] = np.rint(255 * np.clip(seen, 0, 1))
    is_neuron = np.where(
        overlap >= _IS_NEURON, 1, np.where(overlap < _TEACHES_OUTLINE, 0, -1)
    ).astype(np.int8)
    return Views(views.astype(np.float16), soma, is_neuron)


def _neurons(
    pixels: list[LabelArray], case: Case, *, n_pixels: int
) -> tuple[list[BoolArray], FloatArray]:
    """Functional neuron that each candidate overlaps most, and how much."""
    truth = case.simulation.truth
    masks = truth.cell_masks()[np.flatnonzero(truth.functional)].toarray().astype(np.bool_)
    areas = masks.sum(axis=1)
    neurons, overlap = [], np.zeros(len(pixels), np.float32)
    for i, own in enumerate(pixels):
        if len(masks) == 0:
            neurons.append(np.zeros(n_pixels, np.bool_))
            continue
        shared = masks[:, own].sum(axis=1)
        share = shared / (areas + len(own) - shared)
        neurons.append(masks[int(np.argmax(share))])
        overlap[i] = share.max()
    return neurons, overlap

"""What a laboratory corrected teaches the verifier of a model."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from cocuyo.core import (
    BoolArray,
    FloatArray,
    ModelError,
    ProgressCallback,
    Recording,
    Result,
    ResultError,
    RoiSet,
    ignore_progress,
    stream,
)
from cocuyo.core.curation import Curation, Edit, curate
from cocuyo.pipeline.analysis import analyse, network_shape
from cocuyo.pipeline.finish import finish_candidates
from cocuyo.pipeline.model import Model, load_model, write_part
from cocuyo.postprocessing import Verifier
from cocuyo.segmentation import load_engine
from cocuyo.training.quantise import withdraw_int8
from cocuyo.training.settings import CuratedRecipe
from cocuyo.training.verifier import SAME_NEURON_IOU, UNCERTAIN_IOU, overlap_with


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one corrected result teaches.

    Attributes
    ----------
    name : str
        The recording.
    features : ndarray of float32, shape (n, n_features)
        Candidates that the model finds in the recording, as the verifier sees them.
    right : ndarray of bool, shape (n,)
        Whether each is a neuron in the corrected result.
    judged : ndarray of bool, shape (n,)
        Whether a person said so; the others are as cocuyo left them.
    """

    name: str
    features: FloatArray
    right: BoolArray
    judged: BoolArray


@dataclass(frozen=True)
class Adapted:
    """How a model took what it was taught.

    Attributes
    ----------
    n_recordings, n_examples, n_judged : int
        What it learnt from.
    loss_before, loss_after : float
        Mean loss on held-out candidates, judged ones weighing more.
    agreement_before, agreement_after : float
        Share of the held-out judged candidates on which verifier and person agree.
    """

    n_recordings: int
    n_examples: int
    n_judged: int
    loss_before: float
    loss_after: float
    agreement_before: float
    agreement_after: float


def check_taught(result: Result, edits: Sequence[Edit], where: str | None = None) -> None:
    """Refuse a result that teaches nothing, before hours are spent on others.

    Parameters
    ----------
    result : Result
        The result as it was found.
    edits : sequence of Edit
        What a person changed.
    where : str, optional
        What messages call it; its name if not given.

    Raises
    ------
    ResultError
        If nobody judged an ROI of the result, or it is an experiment of several recordings.
    """
    where = where or result.name
    if result.parts:
        msg = (
            f"{where} is an experiment of {len(result.parts)} recordings: its ROIs are judged over "
            "all of them, and a verifier judges what a single one shows. Run its recordings one by "
            "one (cocuyo run, or cocuyo batch without --group) and correct those results."
        )
        raise ResultError(msg)
    if not curate(result.rois, edits, valid=result.valid).judged.any():
        msg = f"Nobody judged an ROI of {where}; correct it with cocuyo view first."
        raise ResultError(msg)


def learn_from(
    recording: Recording,
    result: Result,
    edits: Sequence[Edit],
    *,
    model: Model,
    progress: ProgressCallback = ignore_progress,
) -> Lesson:
    """Find the candidates of a recording again, and label them by its corrected result.

    Parameters
    ----------
    recording : Recording
        The recording of the result.
    result : Result
        The result as it was found.
    edits : sequence of Edit
        What a person changed.
    model : Model
        With networks and verifier; its candidates are those that the verifier will see.
    progress : callable, optional
        Called as the work goes on.

    Returns
    -------
    Lesson
        Candidates that clearly are or are not an accepted ROI.

    Raises
    ------
    ResultError
        If nobody judged an ROI of the result, or it is an experiment of several recordings.
    """
    check_taught(result, edits)
    state = curate(result.rois, edits, valid=result.valid)
    config = model.settings.pipeline
    engine = load_engine(
        model.folder,
        config.networks,
        frame_shape=network_shape(recording.frame_shape, config.scale.factor(result.diameter_px)),
        formats=model.settings.precisions,
    )
    analysis = analyse(
        recording,
        config=config,
        diameter_px=result.diameter_px,
        engine=engine,
        progress=progress,
    )
    found = finish_candidates(
        recording,
        analysis.motion,
        analysis.maps,
        config=config,
        diameter_px=result.diameter_px,
        verifier=None,
        judge=model.judge,
        engine=engine,
        progress=progress,
    )
    right, certain, judged = label_by_person(found.rois, state)
    y, x = np.rint(found.rois.centroids).astype(int).T
    certain &= result.valid[y, x]  # what was left out of the run by hand teaches nothing
    return Lesson(result.name, found.features[certain], right[certain], judged[certain])


def label_by_person(rois: RoiSet, state: Curation) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Say which candidates are neurons of a corrected result.

    Parameters
    ----------
    rois : RoiSet
        Candidates.
    state : Curation
        ROIs as a person left them.

    Returns
    -------
    right : ndarray of bool, shape (n_rois,)
        Overlaps an accepted ROI.
    certain : ndarray of bool, shape (n_rois,)
        Clearly does, or clearly does not.
    judged : ndarray of bool, shape (n_rois,)
        The ROI that it overlaps most was judged by a person.
    """
    masks = state.rois.footprints.copy()
    masks.data = np.ones_like(masks.data)
    overlap = overlap_with(rois, masks)
    accepted = overlap[:, state.rois.accepted].max(axis=1, initial=0)
    right = accepted >= SAME_NEURON_IOU
    judged = np.zeros(len(rois), np.bool_)
    if overlap.shape[1]:
        most = overlap.argmax(axis=1)
        judged = state.judged[most] & (overlap.max(axis=1) >= SAME_NEURON_IOU)
    return right, right | (accepted < UNCERTAIN_IOU), judged


def adapt_verifier(
    base: Verifier, lessons: Sequence[Lesson], *, recipe: CuratedRecipe, seed: int
) -> tuple[Verifier, Adapted]:
    """Go on from a fitted verifier with what people judged.

    Whether it helps is measured on candidates held out: those of one recording after the other,
    or parts of the candidates where there is a single recording.

    Parameters
    ----------
    base : Verifier
        Where to start.
    lessons : sequence of Lesson
        One for each recording.
    recipe : CuratedRecipe
        How.
    seed : int
        Seed of parts and order.

    Returns
    -------
    verifier : Verifier
        Fitted on everything.
    adapted : Adapted
        Agreement before and after on what was held out.
    """
    features = np.concatenate([lesson.features for lesson in lessons])
    right = np.concatenate([lesson.right for lesson in lessons])
    judged = np.concatenate([lesson.judged for lesson in lessons])
    weight = np.where(judged, recipe.judged_weight, 1.0).astype(np.float32)
    part = np.repeat(np.arange(len(lessons)), [len(lesson.right) for lesson in lessons])
    if len(lessons) == 1:
        part = stream(seed, "training.curated.parts").permutation(len(right)) % recipe.n_parts
    after = np.zeros(len(right), np.float32)
    for held in np.unique(part):
        rest = part != held
        fitted = _fit(base, features[rest], right[rest], weight[rest], recipe, seed)
        after[~rest] = fitted.score(features[~rest])
    before = base.score(features)
    adapted = Adapted(
        n_recordings=len(lessons),
        n_examples=len(right),
        n_judged=int(judged.sum()),
        loss_before=_loss(before, right, weight),
        loss_after=_loss(after, right, weight),
        agreement_before=_agreement(before, right, judged),
        agreement_after=_agreement(after, right, judged),
    )
    return _fit(base, features, right, weight, recipe, seed), adapted


def write_adapted(model: Model, verifier: Verifier, adapted: Adapted, folder: Path) -> None:
    """Make a model folder with the networks of a model and another verifier.

    Parameters
    ----------
    model : Model
        Gives all but the verifier.
    verifier : Verifier
        The other one.
    adapted : Adapted
        What ``metrics.json`` says of it.
    folder : Path
        The folder to make; it is not there yet.

    Raises
    ------
    ModelError
        If the folder is there.
    """
    if folder.exists():
        msg = f"{folder} exists; choose another folder with --out."
        raise ModelError(msg)
    shutil.copytree(model.folder, folder)
    withdraw_int8(folder)  # it was checked in whole runs with the other verifier
    write_part(folder, verifier)
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    text = json.dumps(metrics | {"curated": adapted.__dict__}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def train_curated(
    lessons: Sequence[Lesson],
    folder: str | Path,
    *,
    model: Model | None = None,
    recipe: CuratedRecipe | None = None,
    seed: int = 1,
) -> Adapted:
    """Make a model that judges candidates as a laboratory does.

    Parameters
    ----------
    lessons : sequence of Lesson
        From `learn_from`, with the same model.
    folder : str or Path
        The model folder to make.
    model : Model, optional
        Where to start; the shipped default if not given.
    recipe : CuratedRecipe, optional
        How.
    seed : int, default: 1
        Seed of parts and order.

    Returns
    -------
    Adapted
        Agreement before and after, on candidates held out.

    Raises
    ------
    ModelError
        If the model has no verifier, the folder is there, or what was taught does not help on
        candidates held out; nothing is written then.
    """
    model = model or load_model("default")
    if model.verifier is None:
        msg = f"The model {model.settings.name} has no verifier that could be taught."
        raise ModelError(msg)
    verifier, adapted = adapt_verifier(
        model.verifier, lessons, recipe=recipe or CuratedRecipe(), seed=seed
    )
    if adapted.loss_after >= adapted.loss_before:
        msg = (
            f"{adapted.n_judged} judged candidates teach nothing that helps on others (loss "
            f"{adapted.loss_before:.3f} before, {adapted.loss_after:.3f} after); nothing is "
            "written. Correct more recordings."
        )
        raise ModelError(msg)
    write_adapted(model, verifier, adapted, Path(folder))
    return adapted


def _fit(
    base: Verifier,
    features: FloatArray,
    right: BoolArray,
    weight: FloatArray,
    recipe: CuratedRecipe,
    seed: int,
) -> Verifier:
    torch.manual_seed(seed)
    start = [torch.from_numpy(array.copy()) for array in (*base.weights, *base.biases)]
    moved = [array.clone().requires_grad_() for array in start]
    n_layers = len(base.weights)
    inputs = torch.from_numpy(
        np.clip((features - base.mean) / base.scale, -6, 6).astype(np.float32)
    )
    wanted, weights = torch.from_numpy(right).float(), torch.from_numpy(weight)
    optimiser = torch.optim.Adam(moved, lr=recipe.learning_rate)
    for _ in range(recipe.steps):
        hidden = inputs
        for layer in range(n_layers):
            hidden = functional.linear(hidden, moved[layer], moved[n_layers + layer])
            if layer < n_layers - 1:
                hidden = functional.relu(hidden)
        each = functional.binary_cross_entropy_with_logits(hidden[:, 0], wanted, reduction="none")
        loss = (each * weights).sum() / weights.sum()
        for now, before in zip(moved, start, strict=True):
            loss = loss + recipe.pull * ((now - before) ** 2).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        optimiser.step()
    arrays = [array.detach().numpy() for array in moved]
    return Verifier(base.mean, base.scale, tuple(arrays[:n_layers]), tuple(arrays[n_layers:]))


def _loss(score: FloatArray, right: BoolArray, weight: FloatArray) -> float:
    p = np.clip(score.astype(np.float64), 1e-4, 1 - 1e-4)
    return float(np.average(-np.where(right, np.log(p), np.log1p(-p)), weights=weight))


def _agreement(score: FloatArray, right: BoolArray, judged: BoolArray) -> float:
    return float(((score >= 0.5) == right)[judged].mean()) if judged.any() else float("nan")

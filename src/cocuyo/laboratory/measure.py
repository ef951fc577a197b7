"""What the trained networks, and methods without them, find in the test recordings."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import sparse

from cocuyo.core import AnyArray, BoolArray, FloatArray, Progress, ProgressCallback, stream
from cocuyo.evaluation import PixelScores, centroids_of, match_rois, pixel_scores
from cocuyo.io import save_npz_atomic
from cocuyo.laboratory.data import Prepared, Take, load_exact_labels
from cocuyo.pipeline import (
    PRESETS,
    UNLEARNED,
    Model,
    analyse,
    final_mask,
    find_rois,
    unlearned_map,
)
from cocuyo.postprocessing import refine_mask
from cocuyo.segmentation import Engine, load_engine
from cocuyo.training.dataset import load_example

REFERENCES = ("srname", "truth")
"""What masks are compared with: the SRNAME-like teacher, as published, and the exact truth."""
_LEVEL = 0.5
"""Probability from which a pixel belongs to a mask; the paper names none."""
_SHOWN_FRAMES = 2


@dataclass(frozen=True, eq=False)
class Seen:
    """A recording, as every method sees it.

    Attributes
    ----------
    maps : dict of ndarray of float32, shape (n_rows, n_columns)
        Map of each of `UNLEARNED`, for a threshold to be chosen.
    masks : dict of ndarray of bool, shape (n_rows, n_columns)
        Masks that need no choice: ``ours``, ``max``, ``avg``, ``refined``, ``validated``,
        ``perfect``; and the references, ``srname`` and ``truth``.
    ignore : ndarray of bool, shape (n_rows, n_columns)
        Pixels of cells cut by the border, which count neither way against the truth.
    mean : ndarray of float32, shape (n_rows, n_columns)
        Mean of the corrected frames.
    rois, cells : csr_array, shape (n, n_rows * n_columns)
        Accepted ROIs; masks of all cells in focus.
    functional : ndarray of bool, shape (n_cells,)
        Which cells are functional in this recording.
    trace, dog, active : ndarray, shape (n_frames,)
        ΔF/F₀, DoG signal and raster of the accepted ROI of the largest SNR; empty without any.
    threshold, rate_hz : float
        Height of an event in `dog`; frames per second.
    """

    maps: dict[str, FloatArray]
    masks: dict[str, BoolArray]
    ignore: BoolArray
    mean: FloatArray
    rois: sparse.csr_array
    cells: sparse.csr_array
    functional: BoolArray
    trace: FloatArray
    dog: FloatArray
    active: BoolArray
    threshold: float
    rate_hz: float


def look_at_take(take: Take, prepared: Path, model: Model) -> Seen:
    """Analyse a recording with the trained networks and with what needs none.

    Parameters
    ----------
    take : Take
        The recording.
    prepared : Path
        Its folder from `prepare_take`.
    model : Model
        The trained networks.

    Returns
    -------
    Seen
        Maps and masks.
    """
    simulation = take.simulate()
    recording, truth = simulation.recording(name=take.name), simulation.truth
    config, diameter = model.settings.pipeline, take.diameter_px
    engine = _engine(model, recording.frame_shape)
    analysis = analyse(recording, config=config, diameter_px=diameter, engine=engine)
    # Contrast as it serves best: in steps of 0.6 s, not in single frames.
    plain = analyse(recording, config=PRESETS["srname"], diameter_px=diameter, engine=None)
    contrast = replace(analysis, maps=replace(analysis.maps, contrast=plain.maps.contrast))
    found = find_rois(recording, analysis, config=config, diameter_px=diameter)
    example = load_example(prepared)
    mask = final_mask(analysis, config)
    perfect = load_exact_labels(prepared).any(axis=0) if take.test else np.zeros_like(mask)
    masks = {
        "ours": mask,
        "max": analysis.probability_max >= _LEVEL,
        "avg": analysis.probability_mean >= _LEVEL,
        "refined": refine_mask(mask & analysis.maps.valid, diameter_px=diameter),
        "validated": found.rois.mask(),
        "perfect": perfect,
        "srname": np.asarray(example.first_step >= 0),
        "truth": truth.mask(),
    }
    best = (
        int(np.argmax(np.where(found.rois.accepted, found.rois.snr, -1.0)))
        if len(found.rois)
        else -1
    )
    shown = best >= 0 and bool(found.rois.accepted[best])
    none = np.zeros(0, np.float32)
    n_cells = int(truth.in_focus.sum())
    return Seen(
        maps={name: unlearned_map(contrast, name) for name in UNLEARNED},
        masks={name: np.asarray(one, np.bool_) for name, one in masks.items()},
        ignore=truth.ignore_pixels,
        mean=analysis.maps.mean,
        rois=sparse.csr_array(found.rois.footprints[np.flatnonzero(found.rois.accepted)]),
        cells=sparse.csr_array(truth.cell_masks()[:n_cells].astype(np.float32)),
        functional=truth.functional[:n_cells],
        trace=found.traces.delta_f_over_f[best] if shown else none,
        dog=found.traces.dog[best] if shown else none,
        active=found.raster[best] if shown else none.astype(np.bool_),
        threshold=float(found.traces.threshold[best]) if shown else 0.0,
        rate_hz=recording.rate_hz,
    )


def _engine(model: Model, shape: tuple[int, int]) -> Engine:
    return load_engine(
        model.folder,
        model.settings.pipeline.networks,
        frame_shape=shape,
        precision="f32",
    )


def keep_seen(path: Path, make: Callable[[], Seen]) -> Seen:
    """Read what was seen before, or look and keep it.

    Parameters
    ----------
    path : Path
        File ending in ``.npz``; its folder exists.
    make : callable
        Looks, where the file is not there.

    Returns
    -------
    Seen
        As it was seen.
    """
    if not path.is_file():
        seen = make()
        arrays: dict[str, AnyArray] = {
            **{f"map.{name}": one for name, one in seen.maps.items()},
            **{f"mask.{name}": one for name, one in seen.masks.items()},
            "numbers": np.array([seen.threshold, seen.rate_hz]),
        }
        for name in ("ignore", "mean", "functional", "trace", "dog", "active"):
            arrays[name] = getattr(seen, name)
        for name in ("rois", "cells"):
            one = getattr(seen, name)
            arrays[f"{name}.shape"] = np.array(one.shape)
            for part in ("data", "indices", "indptr"):
                arrays[f"{name}.{part}"] = getattr(one, part)
        save_npz_atomic(path, arrays)
    with np.load(path, allow_pickle=False) as stored:
        kept = {name: stored[name] for name in stored.files}

    def group(prefix: str) -> dict[str, AnyArray]:
        return {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}

    def footprints(name: str) -> sparse.csr_array:
        part = group(f"{name}.")
        return sparse.csr_array(
            (part["data"], part["indices"], part["indptr"]), shape=tuple(part["shape"])
        )

    threshold, rate_hz = kept["numbers"].tolist()
    plain = {
        name: kept[name] for name in ("ignore", "mean", "functional", "trace", "dog", "active")
    }
    return Seen(
        maps=group("map."),
        masks=group("mask."),
        rois=footprints("rois"),
        cells=footprints("cells"),
        threshold=threshold,
        rate_hz=rate_hz,
        **plain,
    )


def pool(scores: Iterable[PixelScores]) -> PixelScores:
    """Add up the pixels of several comparisons.

    Parameters
    ----------
    scores : iterable of PixelScores
        Each of a frame, or of a mask.

    Returns
    -------
    PixelScores
        Of all pixels together.
    """
    every = list(scores)
    return PixelScores(
        sum(one.tp for one in every), sum(one.fp for one in every), sum(one.fn for one in every)
    )


@dataclass(frozen=True, eq=False)
class FrameTest:
    """The spatial network on frames of experiments that it has never seen.

    Attributes
    ----------
    scores : dict of PixelScores
        Against each of `REFERENCES`, all pixels of all frames together.
    n_frames : int
        Number of frames.
    shown : tuple of tuple of ndarray
        Some frames: image, teacher's mask, the network's.
    """

    scores: dict[str, PixelScores]
    n_frames: int
    shown: tuple[tuple[AnyArray, BoolArray, BoolArray], ...]


def score_frames(prepared: Prepared, model: Model, *, progress: ProgressCallback) -> FrameTest:
    """Segment the test frames and compare them with teacher and truth.

    Parameters
    ----------
    prepared : Prepared
        With frames of the test experiments.
    model : Model
        The trained networks.
    progress : callable
        Called after each recording.

    Returns
    -------
    FrameTest
        Table 1's first row, and figure 5.
    """
    scores: dict[str, list[PixelScores]] = {name: [] for name in REFERENCES}
    shown: list[tuple[AnyArray, BoolArray, BoolArray]] = []
    engine: Engine | None = None
    for done, path in enumerate(prepared.frames_test, start=1):
        frames, exact = load_example(path), load_exact_labels(path)
        for image, teacher, true in zip(
            frames.single_images, frames.single_labels, exact, strict=True
        ):
            if engine is None:
                engine = _engine(model, (image.shape[0], image.shape[1]))
            mask = engine.segment(image.astype(np.float32) / 255) >= _LEVEL
            scores["srname"].append(pixel_scores(mask, teacher))
            scores["truth"].append(pixel_scores(mask, true))
        last = np.asarray(frames.single_images[-1]), np.asarray(frames.single_labels[-1]), mask
        shown.append(last)
        progress(Progress("segmenting test frames", done, len(prepared.frames_test)))
    # The last frame of the first recording of either test experiment.
    chosen = shown[:: max(1, len(shown) // _SHOWN_FRAMES)][:_SHOWN_FRAMES]
    return FrameTest(
        {name: pool(every) for name, every in scores.items()},
        len(scores["truth"]),
        tuple(chosen),
    )


def choose_thresholds(held_back: Sequence[Seen]) -> dict[tuple[str, str], float]:
    """Choose a threshold for each unlearned map on recordings that validate.

    Parameters
    ----------
    held_back : sequence of Seen
        Recordings of the training experiments that no network was fitted to.

    Returns
    -------
    dict of float
        By map and reference: the best mean SDC.
    """
    chosen = {}
    for reference in REFERENCES:
        for name, ladder in UNLEARNED.items():
            mean = [
                np.mean(
                    [
                        np.nan_to_num(pixel_scores(s.maps[name] >= t, s.masks[reference]).sdc)
                        for s in held_back
                    ]
                )
                for t in ladder
            ]
            chosen[name, reference] = float(ladder[int(np.argmax(mean))])
    return chosen


@dataclass(frozen=True)
class Row:
    """One method in one experiment of Table 2.

    Attributes
    ----------
    experiment : int
        From 0: the first or the second test experiment.
    method : str
        What made the mask.
    reference : str
        One of `REFERENCES`.
    scores : PixelScores
        Of the masks of all recordings of the experiment, combined by maximum.
    threshold : float or None
        Chosen threshold of the map; None for masks that need none.
    """

    experiment: int
    method: str
    reference: str
    scores: PixelScores
    threshold: float | None = None


METHODS = {
    "ours": "ours",
    "max": "max",
    "avg": "avg",
    "validated": "ours, refined and validated",
    "srname": "SRNAME-like",
    "perfect": "perfect U-Net + max",
}
"""Masks of Table 2, and what they are called; those of `UNLEARNED` follow."""
_CHOSEN = {
    "maximum": "max, threshold chosen",
    "average": "avg, threshold chosen",
    "contrast x probability": "contrast x probability",
}


def score_experiment(
    experiment: int, seen: Sequence[Seen], thresholds: dict[tuple[str, str], float]
) -> list[Row]:
    """Combine the masks of an experiment's recordings by maximum and score them.

    Parameters
    ----------
    experiment : int
        The first (0) or second (1) test experiment.
    seen : sequence of Seen
        Its recordings.
    thresholds : dict of float
        From `choose_thresholds`.

    Returns
    -------
    list of Row
        Each method against each reference.
    """
    combined = {name: combine(one.masks[name] for one in seen) for name in seen[0].masks}
    ignore = combine(one.ignore for one in seen) & ~combined["truth"]
    rows = []
    for reference in REFERENCES:
        wanted = combined[reference]
        left_out = ignore if reference == "truth" else None
        for name, title in METHODS.items():
            if name != reference:  # the teacher agrees with itself
                scores = pixel_scores(combined[name], wanted, ignore=left_out)
                rows.append(Row(experiment, title, reference, scores))
        for name, title in _CHOSEN.items():
            threshold = thresholds[name, reference]
            mask = combine(one.maps[name] >= threshold for one in seen)
            scores = pixel_scores(mask, wanted, ignore=left_out)
            rows.append(Row(experiment, title, reference, scores, threshold))
    return rows


def combine(masks: Iterable[BoolArray]) -> BoolArray:
    """Take the maximum of the masks of an experiment's recordings, pixel by pixel.

    Parameters
    ----------
    masks : iterable of ndarray of bool
        One of each recording.

    Returns
    -------
    ndarray of bool
        The experiment's mask.
    """
    return np.asarray(np.logical_or.reduce(list(masks)))


@dataclass(frozen=True, eq=False)
class Annotation:
    """A person's marks in one experiment, and which of them were found.

    Attributes
    ----------
    found, missed : ndarray of float64, shape (n, 2)
        Centroids (y, x) of marked cells with an accepted ROI within 5 px, and without one.
    n_functional : int
        Functional neurons of the experiment.
    n_rois : int
        Accepted ROIs of its recordings, without those that repeat one of an earlier recording.
    n_unmarked : int
        Of these, ROIs without a mark.
    n_overlooked : int
        Of these, ROIs on a functional neuron that the person overlooked.
    """

    found: AnyArray
    missed: AnyArray
    n_functional: int
    n_rois: int
    n_unmarked: int
    n_overlooked: int

    @property
    def recall(self) -> float:
        """Share of the marked cells that were found; NaN where nothing is marked."""
        n = len(self.found) + len(self.missed)
        return len(self.found) / n if n else float("nan")


def annotate(experiment: int, seen: Sequence[Seen], *, misses: float, seed: int) -> Annotation:
    """Let a simulated person mark cells, and look which of them have an ROI.

    Parameters
    ----------
    experiment : int
        The first (0) or second (1) test experiment.
    seen : sequence of Seen
        Its recordings, of the same cells.
    misses : float
        Share of the functional neurons that the person overlooks.
    seed : int
        Seed of which.

    Returns
    -------
    Annotation
        Figure 8.
    """
    shape = (seen[0].mean.shape[0], seen[0].mean.shape[1])
    functional = np.flatnonzero(np.logical_or.reduce([one.functional for one in seen]))
    cells = sparse.csr_array(seen[0].cells[functional])
    rng = stream(seed, f"laboratory.annotator{experiment}")
    marked = rng.random(len(functional)) >= misses
    rois = sparse.csr_array((0, cells.shape[1]), dtype=np.float32)
    for one in seen:
        again = match_rois(one.rois, rois, frame_shape=shape).predicted
        new = np.setdiff1d(np.arange(one.rois.shape[0]), again)
        rois = sparse.vstack([rois, one.rois[new]], format="csr")
    known = match_rois(rois, sparse.csr_array(cells[np.flatnonzero(marked)]), frame_shape=shape)
    left = np.setdiff1d(np.arange(rois.shape[0]), known.predicted)
    overlooked = match_rois(
        sparse.csr_array(rois[left]),
        sparse.csr_array(cells[np.flatnonzero(~marked)]),
        frame_shape=shape,
    )
    centres = centroids_of(sparse.csr_array(cells[np.flatnonzero(marked)]), shape)
    hit = np.zeros(len(centres), np.bool_)
    hit[known.truth] = True
    return Annotation(
        centres[hit],
        centres[~hit],
        len(functional),
        rois.shape[0],
        len(left),
        len(overlooked.truth),
    )

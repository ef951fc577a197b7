"""ROIs that a person should look at first, and why: one definition for report and curation page."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from cocuyo.core.arrays import BoolArray, FloatArray, LabelArray
from cocuyo.core.quality import Quality
from cocuyo.core.result import Result
from cocuyo.core.rois import RoiSet

_NEAR_ACCEPTED, _NEAR_REJECTED = 0.2, 0.4
"""Closeness to the limit from which it is a reason. With a limit of 0.5 these are scores below 0.9
and from 0.2 on: of those accepted below 0.9 four in ten are not neurons, of those rejected from 0.2
on three in ten are (`benchmarks/results/calibration.md`)."""
_LEAST = {
    "motion": 0.5,  # a quarter of the trace's variance goes with the shifts
    "edge": 0.1,
    "saturated": 0.1,
    "overlap": 0.3,
}
"""Figures from which on they are a reason."""
_MOST = {
    "agreement": 0.5,
    "skewness": 0.0,
    "snr": 5.0,  # noise alone reaches 3.5 to 4 in a recording of thousands of frames
    "compactness": 0.6,  # an ellipse twice as long as wide has 0.8
}
"""Figures below which they are a reason."""


_USUAL_SHARE = 0.5
"""A single event is no reason where at least this share of the accepted ROIs has no more."""


@dataclass(frozen=True)
class Suspicion:
    """How much an ROI asks for a look, and why.

    Attributes
    ----------
    value : float
        In [0, 1]; ROIs are sorted by it, the largest first. It orders and is no probability.
    reasons : tuple of str
        In words, the weightiest first; empty where only its place in the order is known.
    """

    value: float
    reasons: tuple[str, ...]


def acceptance_limit(result: Result) -> float | None:
    """Say from which score on a run accepted candidates.

    Parameters
    ----------
    result : Result
        The result.

    Returns
    -------
    float or None
        The setting where a verifier decided; else the least score of an accepted ROI; None without
        any score.
    """
    rois = result.rois
    scores = rois.score[rois.accepted]
    scores = scores[np.isfinite(scores)]
    if score_decides(result):
        return float(result.info.settings["verification"]["min_score"])
    return float(scores.min()) if len(scores) else None


def score_decides(result: Result) -> bool:
    """Say whether a verifier's score decided about the candidates of a result.

    Parameters
    ----------
    result : Result
        The result.

    Returns
    -------
    bool
        False for ``paper`` and ``srname``, whose score is the mean of a map, and for given ROIs.
    """
    wanted = result.info.settings.get("verification", {}).get("min_score")
    return (
        result.info.preset == "default"
        and result.info.task != "extract"
        and isinstance(wanted, float)
    )


def find_suspects(
    rois: RoiSet, n_events: LabelArray, *, min_score: float | None, score_decides: bool = True
) -> list[Suspicion | None]:
    """Find the ROIs that a person should look at first.

    Of the accepted ones those with a score near the limit, a trace that follows the shifts, a
    footprint that does not agree with the trace, a single event, pixels shared with another, at the
    edge or saturated, a low peak, no transients in the trace's shape, or an unusual outline; of the
    rejected ones those whose score is near the limit. Each reason has a weight w in [0, 1], and the
    suspicion is ``1 - product(1 - w)``: several faint reasons weigh as one clear one.

    Parameters
    ----------
    rois : RoiSet
        The ROIs, with `RoiSet.quality` where it is known.
    n_events : ndarray of int, shape (n_rois,)
        Number of events of each; below 0 where it is not known.
    min_score : float or None
        Least score of an accepted ROI; None if there are no scores.
    score_decides : bool, default: True
        Whether a score near the limit is a reason, or only orders ROIs.

    Returns
    -------
    list of Suspicion or None
        One entry for each ROI; None for those that were rejected for another reason than their
        score, and for accepted ones that give no reason and have no score to order them by.
    """
    quality = rois.quality if rois.quality is not None else Quality.unknown(len(rois))
    shared, partner = overlaps(rois)
    events = np.asarray(n_events)[np.asarray(rois.accepted)]
    usual = len(events) > 0 and np.mean(events == 1) >= _USUAL_SHARE
    found: list[Suspicion | None] = []
    for i in range(len(rois)):
        accepted, score = bool(rois.accepted[i]), float(rois.score[i])
        near = _closeness(score, min_score)
        if not accepted and not (near is not None and score < (min_score or 0.0)):
            found.append(None)
            continue
        weighed: list[tuple[float, str]] = []
        least = _NEAR_ACCEPTED if accepted else _NEAR_REJECTED
        if near is not None and score_decides and near >= least:
            words = "score" if accepted else "rejected, but its score"
            weighed.append((near, f"{words} {score:.2f} is near the limit of {min_score:.2f}"))
        if accepted:
            weighed += _doubts(quality, i, float(rois.snr[i]))
            if n_events[i] == 1 and not usual:
                weighed.append((0.4, "it has a single event"))
            if shared[i] >= _LEAST["overlap"]:
                weighed.append(
                    (
                        float(shared[i]),
                        f"shares {100 * shared[i]:.0f} % of its pixels with {rois.ids[partner[i]]}",
                    )
                )
        weighed.sort(key=lambda pair: -pair[0])
        if not weighed and near is None:
            found.append(None)
            continue
        weights = [weight for weight, _ in weighed]
        # A score far from the limit is no reason, but still orders what has none.
        if near is not None and not (score_decides and near >= least):
            weights.append(near * least)
        value = 1 - float(np.prod([1 - min(max(w, 0.0), 1.0) for w in weights]))
        found.append(Suspicion(value, tuple(words for _, words in weighed)))
    return found


def _closeness(score: float, limit: float | None) -> float | None:
    """1 at the limit, 0 at a score of 0 or 1."""
    if limit is None or not np.isfinite(score):
        return None
    room = (1 - limit) if score >= limit else limit
    return float(np.clip(1 - abs(score - limit) / max(room, 1e-9), 0.0, 1.0))


def _doubts(quality: Quality, i: int, snr: float) -> list[tuple[float, str]]:
    """Weights and words of what speaks against an accepted ROI; NaN compares as no reason."""
    motion, edge = float(quality.motion_correlation[i]), float(quality.edge_share[i])
    saturated, agreement = float(quality.saturated_share[i]), float(quality.agreement[i])
    skewness, compactness = float(quality.skewness[i]), float(quality.compactness[i])
    doubts = []
    if motion >= _LEAST["motion"]:
        doubts.append((motion, f"its trace follows the shifts (correlation {motion:.2f})"))
    if agreement < _MOST["agreement"]:
        doubts.append(
            (
                1 - max(agreement, 0.0),
                "what flashes with its trace has another shape than its outline "
                f"(agreement {agreement:.2f})",
            )
        )
    if skewness < _MOST["skewness"]:
        doubts.append((0.5, f"its trace falls more than it rises (skewness {skewness:.1f})"))
    if snr < _MOST["snr"]:
        doubts.append((0.5, f"its largest transient is only {snr:.1f} times its noise"))
    if saturated >= _LEAST["saturated"]:
        doubts.append((0.4, f"{100 * saturated:.0f} % of its pixels reach the camera's limit"))
    if compactness < _MOST["compactness"]:
        doubts.append((0.4, f"its outline is not compact ({compactness:.2f})"))
    if edge >= _LEAST["edge"]:
        doubts.append(
            (
                0.3,
                f"{100 * edge:.0f} % of its border is the edge of the view or of excluded pixels",
            )
        )
    return doubts


def overlaps(rois: RoiSet) -> tuple[FloatArray, LabelArray]:
    """Find for each ROI the accepted one with which it shares most of its pixels.

    Parameters
    ----------
    rois : RoiSet
        The ROIs.

    Returns
    -------
    share : ndarray of float32, shape (n_rois,)
        Share of its pixels; 0 where none is shared.
    partner : ndarray of int32, shape (n_rois,)
        Index of the other; -1 for none.
    """
    n = len(rois)
    share, partner = np.zeros(n, np.float32), np.full(n, -1, np.int32)
    if n == 0:
        return share, partner
    masks = sparse.csr_array(
        (
            np.ones(rois.footprints.nnz, np.float32),
            rois.footprints.indices,
            rois.footprints.indptr,
        ),
        shape=rois.footprints.shape,
    )
    common = sparse.coo_array(masks @ masks.T)
    i, j = common.coords
    kept: BoolArray = (i != j) & np.asarray(rois.accepted)[j]
    i, j = i[kept], j[kept]
    part = common.data[kept] / np.maximum(rois.area_px, 1)[i]
    order = np.lexsort((-j, part))  # the largest last, of equal ones the first ROI
    share[i[order]], partner[i[order]] = part[order], j[order]
    return share, partner

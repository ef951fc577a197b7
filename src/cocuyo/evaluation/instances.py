"""Which predicted ROI is which true cell, and how many were found."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cocuyo.core import BoolArray, LabelArray, SettingsError, TimeArray
from cocuyo.evaluation.pixels import ratio

Criterion = Literal["iou", "distance"]
IOU_THRESHOLD = 0.5
"""Smallest intersection over union of a match; the usual one of instance segmentation."""
MAX_DISTANCE_PX = 5.0
"""Largest distance between the centroids of a match: about half a soma at 1-2 µm a pixel."""

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of predicted ROIs and true cells; each is in at most one pair.

    Attributes
    ----------
    predicted, truth : ndarray of int32, shape (n_matches,)
        Indices of the pairs, sorted by `truth`.
    quality : ndarray of float64, shape (n_matches,)
        Intersection over union, or distance of the centroids in pixels.
    n_predicted, n_truth : int
        Number of ROIs and cells that were to be matched.
    """

    predicted: LabelArray
    truth: LabelArray
    quality: TimeArray
    n_predicted: int
    n_truth: int

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, eq=False)
class InstanceScores:
    """How many cells were found, and how many ROIs are cells.

    Attributes
    ----------
    tp, fp, fn : int
        Cells found, ROIs that match no cell, cells not found.
    n_neutral : int
        ROIs that match an ignored cell and count neither way.
    matches : Matches
        The pairs behind `tp`.
    """

    tp: int
    fp: int
    fn: int
    n_neutral: int
    matches: Matches

    @property
    def precision(self) -> float:
        """Share of the ROIs that are cells; NaN without ROIs."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the cells that were found; NaN without cells."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two, 2 tp / (2 tp + fp + fn); NaN without ROIs and cells."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


@dataclass(frozen=True)
class SilentScores:
    """How many silent cells were taken for functional ones.

    Attributes
    ----------
    n_accepted, n_silent : int
        Silent cells that an ROI matches, and all of them.
    """

    n_accepted: int
    n_silent: int

    @property
    def share(self) -> float:
        """Share of the silent cells that were accepted; NaN without silent cells."""
        return ratio(self.n_accepted, self.n_silent)


def binary_of(footprints: sparse.csr_array) -> sparse.csr_array:
    """Set every weight that is not 0 to 1.

    Parameters
    ----------
    footprints : scipy.sparse.csr_array, shape (n, n_pixels)
        Weights.

    Returns
    -------
    scipy.sparse.csr_array of int64, shape (n, n_pixels)
        A copy of 0 and 1 without stored zeros.
    """
    matrix = footprints.copy()
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix = matrix.astype(np.int64)
    matrix.data[:] = 1
    return matrix


def centroids_of(footprints: sparse.csr_array, frame_shape: tuple[int, int]) -> TimeArray:
    """Find the centre of the pixels of each cell.

    Weights play no part, so that a weighted and a drawn footprint of one outline agree.

    Parameters
    ----------
    footprints : scipy.sparse.csr_array, shape (n, n_rows * n_columns)
        Non-zero pixels are the cell.
    frame_shape : tuple of int
        Number of rows and columns.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        (y, x) in pixels; NaN for a cell without pixels.
    """
    matrix = binary_of(footprints)
    index = np.arange(matrix.shape[1])
    size = np.diff(matrix.indptr).astype(np.float64)
    size[size == 0] = np.nan
    columns = frame_shape[1]
    return np.column_stack([matrix @ (index // columns) / size, matrix @ (index % columns) / size])


def _check(
    predicted: sparse.csr_array, truth: sparse.csr_array, frame_shape: tuple[int, int]
) -> None:
    n_pixels = frame_shape[0] * frame_shape[1]
    if predicted.shape[1] != n_pixels or truth.shape[1] != n_pixels:
        msg = (
            f"Predicted footprints have {predicted.shape[1]} pixels, true ones "
            f"{truth.shape[1]}, and a frame of {frame_shape[0]} x {frame_shape[1]} has "
            f"{n_pixels}. Give footprints of one field of view, flattened row by row."
        )
        raise SettingsError(msg)


def _eligible_pairs(
    predicted: sparse.csr_array,
    truth: sparse.csr_array,
    frame_shape: tuple[int, int],
    criterion: Criterion,
    threshold: float,
) -> tuple[LabelArray, LabelArray, TimeArray]:
    """Find all pairs that reach the threshold, with their overlap or distance."""
    if criterion == "iou":
        left, right = binary_of(predicted), binary_of(truth)
        shared = sparse.coo_array(left @ right.T)
        rows, columns = shared.coords
        union = np.diff(left.indptr)[rows] + np.diff(right.indptr)[columns] - shared.data
        quality = shared.data / union
        good = quality >= threshold - _ROUNDING
        return rows[good].astype(np.int32), columns[good].astype(np.int32), quality[good]
    points, targets = centroids_of(predicted, frame_shape), centroids_of(truth, frame_shape)
    # A cell without pixels lies nowhere and so is near nothing.
    kept_points = np.flatnonzero(np.isfinite(points[:, 0]))
    kept_targets = np.flatnonzero(np.isfinite(targets[:, 0]))
    near: list[list[int]] = []
    if len(kept_points) and len(kept_targets):
        tree = cKDTree(points[kept_points])
        near = tree.query_ball_tree(cKDTree(targets[kept_targets]), threshold + _ROUNDING)
    pairs = [(point, target) for point, found in enumerate(near) for target in found]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    first, second = kept_points[first], kept_targets[second]
    distance = np.hypot(*(points[first] - targets[second]).T)
    return first.astype(np.int32), second.astype(np.int32), distance


def _assign(
    rows: LabelArray, columns: LabelArray, benefit: TimeArray, n_rows: int, n_columns: int
) -> LabelArray:
    """Choose pairs one to one: as many as possible, and of these the best sum.

    `benefit` lies in [0, 1]. Returns the indices of the chosen pairs. Pairs that share no row
    or column cannot hinder each other, so each connected group is solved by itself.
    """
    if len(rows) == 0:
        return np.zeros(0, np.int32)
    n_nodes = n_rows + n_columns
    graph = sparse.coo_array((np.ones(len(rows)), (rows, n_rows + columns)), (n_nodes, n_nodes))
    _, group = connected_components(graph, directed=False)
    order = np.argsort(group[rows], kind="stable")
    starts = np.flatnonzero(np.diff(group[rows[order]])) + 1
    chosen = []
    for pairs in np.split(order, starts):
        if len(pairs) == 1:
            chosen.append(pairs)
            continue
        group_rows, row = np.unique(rows[pairs], return_inverse=True)
        group_columns, column = np.unique(columns[pairs], return_inverse=True)
        # One more pair outweighs any gain of benefit in the group.
        one_more = min(len(group_rows), len(group_columns)) + 1.0
        gain = np.zeros((len(group_rows), len(group_columns)))
        which = np.full(gain.shape, -1)
        gain[row, column] = one_more + benefit[pairs]
        which[row, column] = pairs
        best = which[linear_sum_assignment(gain, maximize=True)]
        chosen.append(best[best >= 0])
    return np.concatenate(chosen).astype(np.int32)


def match_rois(
    predicted: sparse.csr_array,
    truth: sparse.csr_array,
    *,
    frame_shape: tuple[int, int],
    criterion: Criterion = "distance",
    threshold: float | None = None,
) -> Matches:
    """Pair predicted ROIs and true cells, one to one.

    Of all ways to pair ROIs and cells that reach the threshold, the one with the most pairs is
    taken, and of those the one with the largest sum of overlaps or the smallest sum of
    distances (an assignment problem, solved exactly; Kuhn 1955, as in
    `scipy.optimize.linear_sum_assignment`). The order of ROIs and cells plays no part.

    Parameters
    ----------
    predicted : scipy.sparse.csr_array, shape (n_predicted, n_rows * n_columns)
        Predicted footprints; non-zero pixels are the ROI.
    truth : scipy.sparse.csr_array, shape (n_truth, n_rows * n_columns)
        True footprints, likewise.
    frame_shape : tuple of int
        Number of rows and columns.
    criterion : {"distance", "iou"}, default: "distance"
        Distance of the centroids in pixels, or intersection over union.
    threshold : float, optional
        Largest distance (5 px by default) or smallest overlap (0.5 by default) of a pair; a
        pair exactly at the threshold matches.

    Returns
    -------
    Matches
        The pairs, sorted by true cell.

    Raises
    ------
    SettingsError
        If the footprints are not of the frame's size, or criterion or threshold make no sense.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> truth = sparse.csr_array(np.array([[1, 1, 0, 0], [0, 0, 1, 1]]))
    >>> predicted = sparse.csr_array(np.array([[0, 0, 0, 1]]))
    >>> found = match_rois(predicted, truth, frame_shape=(1, 4), criterion="iou")
    >>> found.truth.tolist(), found.quality.tolist()
    ([1], [0.5])
    """
    _check(predicted, truth, frame_shape)
    if criterion not in ("iou", "distance"):
        msg = f"criterion is {criterion!r}; it must be 'iou' or 'distance'."
        raise SettingsError(msg)
    if threshold is None:
        threshold = IOU_THRESHOLD if criterion == "iou" else MAX_DISTANCE_PX
    if criterion == "iou" and not 0 < threshold <= 1:
        msg = f"The smallest intersection over union is {threshold}; it must lie in (0, 1]."
        raise SettingsError(msg)
    if criterion == "distance" and not (np.isfinite(threshold) and threshold >= 0):
        msg = f"The largest distance is {threshold} px; it must be a number of at least 0."
        raise SettingsError(msg)
    rows, columns, quality = _eligible_pairs(predicted, truth, frame_shape, criterion, threshold)
    benefit = quality if criterion == "iou" else _nearness(quality, threshold)
    chosen = _assign(rows, columns, benefit, predicted.shape[0], truth.shape[0])
    chosen = chosen[np.argsort(columns[chosen], kind="stable")]
    return Matches(
        rows[chosen], columns[chosen], quality[chosen], predicted.shape[0], truth.shape[0]
    )


def _nearness(distance: TimeArray, largest: float) -> TimeArray:
    return np.clip(1.0 - distance / max(largest, _ROUNDING), 0.0, 1.0)


def instance_scores(
    predicted: sparse.csr_array,
    truth: sparse.csr_array,
    *,
    frame_shape: tuple[int, int],
    criterion: Criterion = "distance",
    threshold: float | None = None,
    ignored: BoolArray | None = None,
) -> InstanceScores:
    """Count cells found, ROIs that are none, and cells missed.

    Strict scores, where a hit on a silent cell is false, come of a `truth` that holds the
    functional cells only. With `ignored`, the ROIs are first matched to the other cells; those
    left over that match an ignored cell count neither way, and an ignored cell is never missed.

    Parameters
    ----------
    predicted : scipy.sparse.csr_array, shape (n_predicted, n_rows * n_columns)
        Predicted footprints; non-zero pixels are the ROI.
    truth : scipy.sparse.csr_array, shape (n_truth, n_rows * n_columns)
        True footprints, likewise.
    frame_shape : tuple of int
        Number of rows and columns.
    criterion : {"distance", "iou"}, default: "distance"
        As in `match_rois`.
    threshold : float, optional
        As in `match_rois`.
    ignored : ndarray of bool, shape (n_truth,), optional
        True cells that count neither way.

    Returns
    -------
    InstanceScores
        Scores and counts; the indices of its matches are those of `predicted` and `truth`.

    Raises
    ------
    SettingsError
        As in `match_rois`, or if `ignored` does not have one value per cell.
    """
    if ignored is None:
        ignored = np.zeros(truth.shape[0], np.bool_)
    ignored = np.asarray(ignored, dtype=np.bool_)
    if ignored.shape != (truth.shape[0],):
        msg = (
            f"ignored has shape {ignored.shape} for {truth.shape[0]} true cells; "
            "give one value per cell."
        )
        raise SettingsError(msg)
    counted = np.flatnonzero(~ignored)
    found = match_rois(
        predicted,
        truth[counted],
        frame_shape=frame_shape,
        criterion=criterion,
        threshold=threshold,
    )
    left = np.setdiff1d(np.arange(predicted.shape[0]), found.predicted)
    neutral = match_rois(
        predicted[left],
        truth[np.flatnonzero(ignored)],
        frame_shape=frame_shape,
        criterion=criterion,
        threshold=threshold,
    )
    return InstanceScores(
        tp=len(found),
        fp=len(left) - len(neutral),
        fn=len(counted) - len(found),
        n_neutral=len(neutral),
        matches=Matches(
            found.predicted,
            counted[found.truth].astype(np.int32),
            found.quality,
            predicted.shape[0],
            truth.shape[0],
        ),
    )


def silent_accepted(
    predicted: sparse.csr_array,
    functional: sparse.csr_array,
    silent: sparse.csr_array,
    *,
    frame_shape: tuple[int, int],
    max_distance_px: float = MAX_DISTANCE_PX,
) -> SilentScores:
    """Count the silent cells that a predicted ROI stands on.

    An ROI that is matched to a functional cell speaks for a silent one only where the silent
    one is nearer. Silent cells and ROIs are paired one to one.

    Parameters
    ----------
    predicted : scipy.sparse.csr_array, shape (n_predicted, n_rows * n_columns)
        Predicted footprints; non-zero pixels are the ROI.
    functional, silent : scipy.sparse.csr_array, shape (n, n_rows * n_columns)
        Footprints of the functional and of the silent cells.
    frame_shape : tuple of int
        Number of rows and columns.
    max_distance_px : float, default: 5.0
        Largest distance between the centroids, in pixels.

    Returns
    -------
    SilentScores
        How many of how many.

    Raises
    ------
    SettingsError
        If the footprints are not of the frame's size.
    """
    _check(predicted, silent, frame_shape)
    own = match_rois(predicted, functional, frame_shape=frame_shape, threshold=max_distance_px)
    to_functional = np.full(predicted.shape[0], np.inf)
    to_functional[own.predicted] = own.quality
    rows, columns, distance = _eligible_pairs(
        predicted, silent, frame_shape, "distance", max_distance_px
    )
    free = distance < to_functional[rows]
    rows, columns, distance = rows[free], columns[free], distance[free]
    chosen = _assign(
        rows,
        columns,
        _nearness(distance, max_distance_px),
        predicted.shape[0],
        silent.shape[0],
    )
    return SilentScores(len(chosen), int(silent.shape[0]))


def cut_by_border(
    footprints: sparse.csr_array, *, frame_shape: tuple[int, int], border_px: float = 3.0
) -> BoolArray:
    """Find the cells that the frame's border cuts.

    A cell counts as cut if its centroid lies less than `border_px` from the outermost row or
    column of pixels: more than half of a soma is then outside, or so near to the edge that
    motion takes it out of the frame. A cell whose mask only touches the border is not cut.

    Parameters
    ----------
    footprints : scipy.sparse.csr_array, shape (n, n_rows * n_columns)
        Non-zero pixels are the cell.
    frame_shape : tuple of int
        Number of rows and columns.
    border_px : float, default: 3.0
        Width of the border in pixels; 0 for none.

    Returns
    -------
    ndarray of bool, shape (n,)
        Whether each cell is cut.
    """
    centres = centroids_of(footprints, frame_shape)
    far = np.array(frame_shape) - 1 - centres
    return np.asarray(np.any((centres < border_px) | (far < border_px), axis=1), dtype=np.bool_)

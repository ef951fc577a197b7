"""Traces of ROIs: raw counts, surrounding ring, correction, ΔF/F₀."""

from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import Field
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from cocuyo.core import (
    MEMORY,
    AnyArray,
    BoolArray,
    FloatArray,
    FrozenConfig,
    InvalidTraceError,
    Scratch,
    median,
    roi_blocks,
)

_N_DIRECTIONS = 8
_FRAMES_AT_ONCE = 8  # that traces are read from
N_SECTORS = 2 * _N_DIRECTIONS
"""Sectors of a ring: eight directions, near and far."""
_SMALLEST_SECTOR = 4  # pixels; fewer are too noisy to be of use
_LEAST_SHARE = 0.4  # of the ring's changes in an ROI; below, their distribution is unknown
_STEP_S = 3.0
"""Half of the time that the light lasts before and after a step, in seconds."""
_LEAST_STEP = 0.015  # share of the light; less changes a trace by less than a usual transient
_STEP_SD = 6.0  # of the changes from frame to frame
_STEP_SUDDEN = 0.6  # share of it that comes from one frame to the next, and that lasts
_STEP_AGREE = 0.8  # share of the rings that change by half to twice the common step
_STEP_ROIS, _STEP_LEAST_ROIS = 64, 3  # that are looked at, at most and at least
_STEP_ROIS_LONG, _STEP_VALUES = 16, 500_000  # of recordings with so many frames that memory counts
_SAME_SHARE = 0.5  # of the smaller of two ROIs; with more in common their noise would grow twofold
_LEAST_DIFFERENCE = 0.1  # of mixtures of ROIs, relative to their sum
_RIDGE = 0.005
"""Pull of the sectors' weights to 0, relative to their mean power. 0.003 to 0.01 give the same
event F1 within 0.003 on simulated recordings of the split `validation`."""
_WEIGHTS = (-0.1, 0.3)
"""Least and largest weight of a sector. A little below 0 lets the fit follow a slope across the
ROI; further below, a flash in the ring would become one in the ROI. Above, a sector that shows the
ROI's own transients (a dendrite, a neighbour that fires with it) would take them away."""


class TraceConfig(FrozenConfig):
    """Neuropil and baseline of the traces."""

    ring_inner_diameters: float = Field(
        default=0.6,
        ge=0,
        description="Gap between an ROI and its ring, in soma diameters. Larger keeps the cell's "
        "own blur out of the ring.",
    )
    ring_outer_diameters: float = Field(
        default=2.2,
        gt=0,
        description="Outer distance of the ring from the ROI, in soma diameters. Larger has less "
        "noise and is less local.",
    )
    local: bool = Field(
        default=True,
        description="Weigh the parts of the ring by how they show in the ROI while it is quiet. "
        "Off: the ring's plain mean, which misses light that comes from one side or is focused "
        "above or below the ROI.",
    )
    unmix: bool = Field(
        default=True,
        description="Part the changes of ROIs that share pixels. Off: each has the light of the "
        "other in those pixels.",
    )
    max_coefficient: float = Field(
        default=1.3,
        ge=0,
        description="Largest share of the ring's changes that is subtracted. Above 1 serves ROIs "
        "that lie brighter than their ring.",
    )
    baseline_window_s: float = Field(
        default=30.0,
        gt=0,
        description="Window of the running baseline, in seconds. Several times the longest "
        "transient.",
    )
    baseline_percentile: float = Field(
        default=30.0,
        ge=0,
        le=50,
        description="Percentile that defines the baseline. Lower suits cells that are active "
        "most of the time and lies further below the mean of the noise.",
    )


@dataclass(frozen=True, eq=False)
class CorrectedTraces:
    """Traces freed of their surround, and relative to their baseline.

    Attributes
    ----------
    coefficient : ndarray of float32, shape (n_rois,)
        Share of the ring's changes that was subtracted, in [0, 1.3].
    corrected : ndarray of float32, shape (n_rois, n_frames)
        Camera counts.
    delta_f_over_f : ndarray of float32, shape (n_rois, n_frames)
        Relative to the running baseline.
    noise : ndarray of float32, shape (n_rois,)
        Standard deviation of ΔF/F₀ from frame to frame.
    """

    coefficient: FloatArray
    corrected: FloatArray
    delta_f_over_f: FloatArray
    noise: FloatArray


def ring_weights(
    footprints: sparse.csr_array,
    *,
    frame_shape: tuple[int, int],
    diameter_px: float,
    avoid: BoolArray,
    config: TraceConfig = TraceConfig(),
) -> sparse.csr_array:
    """Choose the ring of pixels around each ROI that shows its neuropil.

    Parameters
    ----------
    footprints : csr_array, shape (n_rois, n_rows * n_columns)
        Pixels of each ROI.
    frame_shape : tuple of int
        Rows and columns.
    diameter_px : float
        Typical soma diameter in pixels.
    avoid : ndarray of bool, shape (n_rows, n_columns)
        Pixels of cells and invalid pixels; no ring uses them, unless it would have
        fewer than 12 pixels without them.
    config : TraceConfig
        Distances.

    Returns
    -------
    csr_array of float32, shape (n_rois, n_rows * n_columns)
        Equal weights that sum to 1 in each row.
    """
    rows, columns = frame_shape
    inner = max(1.0, config.ring_inner_diameters * diameter_px)
    outer = max(inner + 2.0, config.ring_outer_diameters * diameter_px)
    reach = int(np.ceil(outer)) + 1
    indices: list[AnyArray] = []
    for roi in range(footprints.shape[0]):
        flat = footprints.indices[footprints.indptr[roi] : footprints.indptr[roi + 1]]
        y, x = flat // columns, flat % columns
        top, left = max(int(y.min()) - reach, 0), max(int(x.min()) - reach, 0)
        bottom, right = min(int(y.max()) + reach + 1, rows), min(int(x.max()) + reach + 1, columns)
        outside = np.ones((bottom - top, right - left), np.bool_)
        outside[y - top, x - left] = False
        distance = ndimage.distance_transform_edt(outside)
        ring = (distance > inner) & (distance <= outer)
        free = ring & ~avoid[top:bottom, left:right]
        if free.sum() < 12:
            free = ring if ring.any() else outside
        if not free.any():
            free = ~outside
        ring_y, ring_x = np.nonzero(free)
        indices.append((ring_y + top) * columns + ring_x + left)
    return averaging_weights(indices, size=rows * columns)


def ring_sectors(
    footprints: sparse.csr_array, rings: sparse.csr_array, *, frame_shape: tuple[int, int]
) -> sparse.csr_array:
    """Part each ring into `N_SECTORS` sectors: by direction, and into a near and a far half.

    Parameters
    ----------
    footprints, rings : csr_array, shape (n_rois, n_rows * n_columns)
        ROIs and their rings.
    frame_shape : tuple of int
        Rows and columns.

    Returns
    -------
    csr_array of float32, shape (n_rois * N_SECTORS, n_rows * n_columns)
        Equal weights that sum to 1 in each row; a row is empty where a sector would have fewer
        than 4 pixels.
    """
    columns = frame_shape[1]
    lengths: list[AnyArray] = []
    indices: list[AnyArray] = []
    for roi in range(footprints.shape[0]):
        own = footprints.indices[footprints.indptr[roi] : footprints.indptr[roi + 1]]
        ring = rings.indices[rings.indptr[roi] : rings.indptr[roi + 1]]
        y, x = ring // columns - (own // columns).mean(), ring % columns - (own % columns).mean()
        turn = np.floor((np.arctan2(y, x) / (2 * np.pi) + 0.5) * _N_DIRECTIONS).astype(np.int64)
        distance = np.hypot(y, x)
        far = distance > np.median(distance) if len(distance) else distance > 0
        sector = np.clip(turn, 0, _N_DIRECTIONS - 1) + _N_DIRECTIONS * far
        count = np.bincount(sector, minlength=N_SECTORS)
        kept = np.argsort(sector, kind="stable")
        kept = kept[count[sector[kept]] >= _SMALLEST_SECTOR]
        indices.append(ring[kept])
        lengths.append(np.where(count >= _SMALLEST_SECTOR, count, 0))
    length = np.concatenate([np.zeros(0, np.int64), *lengths])
    data = np.repeat(1.0 / np.maximum(length, 1), length).astype(np.float32)
    return sparse.csr_array(
        (
            data,
            np.concatenate([np.zeros(0, np.int32), *indices]),
            np.concatenate([[0], np.cumsum(length)]),
        ),
        shape=(len(length), footprints.shape[1]),
        dtype=np.float32,
    )


def sector_shares(
    raw: FloatArray,
    sectors: FloatArray,
    *,
    frame_rate_hz: float,
    n_stretches: int = 1,
    config: TraceConfig = TraceConfig(),
) -> FloatArray:
    """Weigh the sectors of each ring by how they show in the ROI while it is quiet.

    The ROI's trace is regressed (ridge) on those of its sectors, in the frames in which the rest
    is small: light of the neuropil, of cells above and below and of neighbours, which reaches
    the ROI more from one side than from another, is in the fit. The ROI's own transients are not,
    unless a sector shows them too (a dendrite, a neighbour that always fires with it): then a
    bounded part of them is.

    Parameters
    ----------
    raw : ndarray of float32, shape (n_rois, n_frames)
        Traces of the ROIs, in camera counts; finite.
    sectors : ndarray of float32, shape (n_rois * N_SECTORS, n_frames)
        Traces of their sectors (`ring_sectors`); 0 in empty ones.
    frame_rate_hz : float
        Frames per second.
    n_stretches : int, default: 1
        Stretches of one length that the frames consist of; time is missing between them.
    config : TraceConfig
        Baseline.

    Returns
    -------
    ndarray of float32, shape (n_rois, N_SECTORS)
        Weights that sum to 1 in each row, some may be below 0; all 0 where the sectors do not
        show in the ROI.
    """

    def changes(traces: FloatArray) -> FloatArray:
        """Without what changes slowly, stretch by stretch."""
        length = traces.shape[1] // n_stretches
        each = np.asarray(traces, np.float32).reshape(len(traces) * n_stretches, length)
        slow = running_baseline(each, frame_rate_hz=frame_rate_hz, config=config)
        return np.asarray((each - slow).reshape(traces.shape), np.float32)

    shares = np.zeros((len(raw), N_SECTORS), np.float32)
    for roi, trace in enumerate(changes(raw)):
        of_roi = changes(sectors[roi * N_SECTORS : (roi + 1) * N_SECTORS])
        fit = _quiet_fit(trace, of_roi, of_roi.mean(axis=0))
        if fit.sum() >= _LEAST_SHARE:
            shares[roi] = fit / fit.sum()
    return shares


def weigh_sectors(
    sectors: sparse.csr_array, shares: FloatArray, rings: sparse.csr_array
) -> sparse.csr_array:
    """Make one row of pixel weights for each ring from the shares of its sectors.

    Parameters
    ----------
    sectors : csr_array, shape (n_rois * N_SECTORS, n_rows * n_columns)
        From `ring_sectors`.
    shares : ndarray of float32, shape (n_rois, N_SECTORS)
        From `sector_shares`.
    rings : csr_array, shape (n_rois, n_rows * n_columns)
        Plain rings, for ROIs whose shares are all 0.

    Returns
    -------
    csr_array of float32, shape (n_rois, n_rows * n_columns)
        Weights that sum to 1 in each row.
    """
    n_rois = len(shares)
    mixing = sparse.csr_array(
        (
            shares.ravel(),
            np.arange(n_rois * N_SECTORS),
            np.arange(0, n_rois * N_SECTORS + 1, N_SECTORS),
        ),
        shape=(n_rois, n_rois * N_SECTORS),
    )
    plain = (~shares.any(axis=1)).astype(np.float32)
    weighed = rings.copy()
    weighed.data *= np.repeat(plain, np.diff(rings.indptr))
    return sparse.csr_array(mixing @ sectors + weighed)


def averaging_weights(pixels: list[AnyArray], *, size: int) -> sparse.csr_array:
    """Make the matrix that averages given pixels.

    Parameters
    ----------
    pixels : list of ndarray of int
        Flat pixel indices of each row; none is empty.
    size : int
        Number of pixels of a frame.

    Returns
    -------
    csr_array of float32, shape (len(pixels), size)
        Equal weights that sum to 1 in each row.
    """
    lengths = np.array([len(p) for p in pixels], np.int64)
    if len(pixels) == 0:
        return sparse.csr_array(np.zeros((0, size), np.float32))
    data = np.repeat(1.0 / lengths, lengths).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_array(
        (data, np.concatenate(pixels), starts), shape=(len(pixels), size), dtype=np.float32
    )


def project(weights: sparse.csr_array, frames: FloatArray) -> FloatArray:
    """Average the weighted pixels in each frame.

    Parameters
    ----------
    weights : csr_array of float32, shape (n_rois, n_rows * n_columns)
        One row for each trace.
    frames : ndarray of float32, shape (n_frames, n_rows, n_columns)
        Motion-corrected frames.

    Returns
    -------
    ndarray of float32, shape (n_rois, n_frames)
        One value for each row and frame.
    """
    values = np.empty((weights.shape[0], len(frames)), np.float32)
    flat = np.asarray(frames, np.float32).reshape(len(frames), weights.shape[1])
    # A few frames fit a processor's cache; side by side, each pixel's weight is looked up once.
    for start in range(0, len(flat), _FRAMES_AT_ONCE):
        some = slice(start, start + _FRAMES_AT_ONCE)
        values[:, some] = weights @ cv2.transpose(flat[some])
    return values


@dataclass(frozen=True)
class LightStep:
    """A lasting change of all light from one frame to the next.

    Attributes
    ----------
    frame : int
        First frame in the new light.
    factor : float
        New light over old.
    """

    frame: int
    factor: float


def find_light_steps(
    raw: FloatArray, neuropil: FloatArray, *, frame_rate_hz: float
) -> list[LightStep]:
    """Find where the light of the lamp changed at once and for long.

    Such a step changes each ROI and each ring by the same share, from one frame to the next, and
    lasts. Transients of a network decay, and change the ROIs by a larger share than the rings.

    Parameters
    ----------
    raw, neuropil : ndarray of float32, shape (n_rois, n_frames)
        ROIs and their rings as read, in camera counts.
    frame_rate_hz : float
        Frames per second.

    Returns
    -------
    list of LightStep
        In the order of time; none with fewer than three ROIs or less than 12 s.
    """
    width = max(5, round(_STEP_S * frame_rate_hz))
    n_rois, n_frames = raw.shape
    if n_rois < _STEP_LEAST_ROIS or n_frames < 4 * width:
        return []
    most = int(np.clip(_STEP_VALUES // n_frames, _STEP_ROIS_LONG, _STEP_ROIS))
    rows = np.unique(np.linspace(0, n_rois - 1, most).astype(int))
    rows = rows[np.isfinite(raw[rows]).any(axis=1)]  # an ROI may have no pixel
    both = [np.asarray(traces[rows], np.float32) for traces in (raw, neuropil)]
    known = np.asarray(np.isfinite(both[0]).all(axis=0) & np.isfinite(both[1]).all(axis=0))
    both = [interpolate_frames(traces, known) for traces in both]
    positive = (both[0] > 0).all(axis=1) & (both[1] > 0).all(axis=1)
    if positive.sum() < _STEP_LEAST_ROIS:
        return []
    own, around = (np.log(traces[positive]) for traces in both)
    common = np.median(around - np.median(around, axis=1, keepdims=True), axis=0)
    change = np.diff(common)
    noise = 1.4826 * float(np.median(np.abs(change))) / np.sqrt(2.0)
    least = max(_STEP_SUDDEN * _LEAST_STEP, _STEP_SD * noise)
    steps: list[LightStep] = []
    for t in np.flatnonzero(np.abs(change) > least).tolist():
        first = t + 1  # in the new light
        if not 2 * width <= first <= n_frames - 2 * width:
            continue
        earlier, before = slice(first - 2 * width, first - width), slice(first - width, first)
        after, later = slice(first, first + width), slice(first + width, first + 2 * width)
        size = float(_jump(common, before, after))
        if not abs(size) >= _LEAST_STEP:
            continue
        rings = _jump(around, before, after) / size
        cells = float(np.median(_jump(own, before, after))) / size
        if (
            change[t] / size >= _STEP_SUDDEN
            and _jump(common, before, later) / size >= _STEP_SUDDEN
            and _jump(common, earlier, after) / size >= _STEP_SUDDEN
            and np.mean((rings > 0.5) & (rings < 2.0)) >= _STEP_AGREE
            and 0.6 < cells < 1.6
        ):
            steps.append(LightStep(first, float(np.exp(size))))
    return steps


def _jump(courses: AnyArray, before: slice, after: slice) -> AnyArray:
    """Median after less median before, of each course."""
    return np.asarray(
        np.median(courses[..., after], axis=-1) - np.median(courses[..., before], axis=-1)
    )


def level_light(
    traces: FloatArray, steps: list[LightStep], *, scratch: Scratch = MEMORY
) -> FloatArray:
    """Bring traces to the light in which the recording begins.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        Camera counts.
    steps : list of LightStep
        From `find_light_steps`.
    scratch : Scratch
        Where the traces are kept.

    Returns
    -------
    ndarray of float32, shape (n_rois, n_frames)
        The traces; themselves where the light did not change.
    """
    if not steps:
        return traces
    light = np.ones(traces.shape[1], np.float32)
    for step in steps:
        light[step.frame :] *= step.factor
    levelled = scratch.array(traces.shape)
    for rows in roi_blocks(traces.shape):
        levelled[rows] = traces[rows] / light
        scratch.release()
    return levelled


def shared_pixels(footprints: sparse.csr_array) -> sparse.csr_array:
    """Say which part of each ROI's pixels belongs to others as well.

    Parameters
    ----------
    footprints : csr_array, shape (n_rois, n_rows * n_columns)
        Pixels of each ROI, the surest ROIs first.

    Returns
    -------
    csr_array of float32, shape (n_rois, n_rois)
        Share of the pixels of the row's ROI that the column's has too. Of two that have more than
        half of the smaller one in common, which may be the same cell, the second is left out.
    """
    masks = sparse.csr_array(
        (np.ones(footprints.nnz, np.float32), footprints.indices, footprints.indptr),
        shape=footprints.shape,
    )
    area = np.maximum(np.diff(footprints.indptr), 1).astype(np.float32)
    common = sparse.coo_array(masks @ masks.T)
    i, j = common.coords
    other = i != j
    i, j, common = i[other], j[other], common.data[other]
    same = (common > _SAME_SHARE * np.minimum(area[i], area[j])) & (j < i)
    doubles = np.zeros(len(area), np.bool_)
    for second, first in sorted(zip(i[same].tolist(), j[same].tolist(), strict=True)):
        doubles[second] |= not doubles[first]
    kept = ~(doubles[i] | doubles[j])
    return sparse.csr_array(
        (common[kept] / area[i[kept]], (i[kept], j[kept])), shape=(len(area), len(area))
    )


def unmix_traces(
    raw: FloatArray,
    shared: sparse.csr_array,
    *,
    frame_rate_hz: float,
    usable: BoolArray | None = None,
    config: TraceConfig = TraceConfig(),
    scratch: Scratch = MEMORY,
) -> FloatArray:
    r"""Part the changes of ROIs that have pixels in common.

    A shared pixel shows the sum of its cells. With :math:`S_{ij}` the share of the pixels of ROI
    i that are also those of j, the mean over i changes by :math:`c_i + \sum_j S_{ij} c_j`, where
    the :math:`c` are the cells' own changes; this is solved for them in each group of ROIs that
    hang together. The level of each trace stays, and traces of ROIs that share nothing do.

    Parameters
    ----------
    raw : ndarray of float32, shape (n_rois, n_frames)
        Means over the pixels of each ROI, in camera counts; finite where usable.
    shared : csr_array of float32, shape (n_rois, n_rois)
        From `shared_pixels`.
    frame_rate_hz : float
        Frames per second.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames whose values count; the others are interpolated. All by default.
    config : TraceConfig
        Baseline from which changes count.
    scratch : Scratch
        Where the traces are kept.

    Returns
    -------
    ndarray of float32, shape (n_rois, n_frames)
        The traces; `raw` itself where nothing is shared.
    """
    if shared.nnz == 0:
        return raw
    every = np.ones(raw.shape[1], np.bool_) if usable is None else usable
    known = finite_frames(raw, every, scratch=scratch)
    own = scratch.array(raw.shape)
    for rows in roi_blocks(raw.shape):
        own[rows] = raw[rows]
        scratch.release()
    _, group = csgraph.connected_components(shared, directed=False)
    for members in np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]):
        if len(members) == 1:
            continue
        mixed = interpolate_frames(raw[members], known)
        level = running_baseline(mixed, frame_rate_hz=frame_rate_hz, config=config)
        mixing = np.eye(len(members)) + shared[members][:, members].toarray()
        # Mixtures that hardly differ stay mixed: parting them would be noise.
        parting = np.linalg.pinv(mixing, rcond=_LEAST_DIFFERENCE)
        own[members] = level + parting @ (mixed - level)
        scratch.release()
    return own


def running_baseline(
    traces: FloatArray, *, frame_rate_hz: float, config: TraceConfig = TraceConfig()
) -> FloatArray:
    """Follow the slow lower level of traces.

    A running percentile on a grid of eight points per window, smoothed and interpolated:
    its cost does not grow with the window.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        Any unit; finite.
    frame_rate_hz : float
        Frames per second.
    config : TraceConfig
        Window and percentile.

    Returns
    -------
    ndarray of float32, shape (n_rois, n_frames)
        The baseline in the traces' unit.
    """
    n_rois, n_frames = traces.shape
    window = min(n_frames, max(8, round(config.baseline_window_s * frame_rate_hz)))
    hop = max(1, window // 8)
    centres = np.arange(0, n_frames + hop, hop).clip(0, n_frames - 1)
    centres = np.unique(centres)
    if n_rois == 0:
        return traces.copy()
    levels = np.empty((n_rois, len(centres)), np.float32)
    # The percentile by hand: `np.percentile` takes longer to begin than to find it.
    rank = (window - 1) * (config.baseline_percentile / 100)
    below = int(rank)
    share = rank - below
    for i, centre in enumerate(centres):
        start = min(max(int(centre) - window // 2, 0), n_frames - window)
        ordered = np.partition(traces[:, start : start + window], below, axis=1)
        low = ordered[:, below]
        high = ordered[:, below + 1 :].min(axis=1) if share > 0 else low
        # From the nearer of the two, as `np.percentile` does.
        between = high - low
        levels[:, i] = low + between * share if share < 0.5 else high - between * (1 - share)
    levels = ndimage.gaussian_filter1d(levels, 1.5, axis=1, mode="nearest")
    time = np.arange(n_frames)
    left = np.clip(np.searchsorted(centres, time, side="right") - 1, 0, max(0, len(centres) - 2))
    right = np.minimum(left + 1, len(centres) - 1)
    way = (time - centres[left]) / np.maximum(centres[right] - centres[left], 1)
    between = np.take(levels, right, axis=1)
    before = np.take(levels, left, axis=1)
    between -= before
    between *= way.astype(np.float32)
    between += before
    return between


def interpolate_frames(traces: FloatArray, usable: BoolArray) -> FloatArray:
    """Replace the values of unusable frames by interpolation between usable ones.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        Traces; values of unusable frames may be anything.
    usable : ndarray of bool, shape (n_frames,)
        Frames whose values count.

    Returns
    -------
    ndarray of float32, shape (n_rois, n_frames)
        Finite traces; unchanged where usable. Zeros where no frame is usable.
    """
    good = usable & np.isfinite(traces).all(axis=0) if len(traces) else usable
    if good.all():
        return traces
    if not good.any():
        return np.zeros_like(traces)
    time, known = np.arange(traces.shape[1]), np.flatnonzero(good)
    filled = np.array(traces, np.float32)
    missing = time[~good]
    for trace in filled:
        trace[missing] = np.interp(missing, known, trace[good])
    return filled


def finite_frames(traces: FloatArray, usable: BoolArray, *, scratch: Scratch = MEMORY) -> BoolArray:
    """Find the usable frames in which every trace has a value.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        Traces.
    usable : ndarray of bool, shape (n_frames,)
        Frames whose values count.
    scratch : Scratch
        Where the traces are kept.

    Returns
    -------
    ndarray of bool, shape (n_frames,)
        As `interpolate_frames` takes it.
    """
    finite = usable.copy()
    for rows in roi_blocks(traces.shape):
        finite &= np.isfinite(traces[rows]).all(axis=0)
        scratch.release()
    return finite


def correct_traces(
    raw: FloatArray,
    neuropil: FloatArray,
    *,
    frame_rate_hz: float,
    offset_counts: float = 0.0,
    usable: BoolArray | None = None,
    config: TraceConfig = TraceConfig(),
    scratch: Scratch = MEMORY,
) -> CorrectedTraces:
    r"""Subtract what the surround does and express the rest relative to the baseline.

    The corrected trace is ``raw - c * (neuropil - its median)``: the level of the raw
    trace stays, only the surround's changes leave, slow ones (bleaching, flicker) too.
    ``c`` in [0, `config.max_coefficient`] is fitted by least squares on the frames in which
    the ROI is quiet, after slow changes are removed from both. ΔF/F₀ divides by the running
    baseline of the corrected trace, which in
    one-photon data holds the background and is therefore never near zero; where it
    is (offset-subtracted data), a floor of 5 % of the median ROI's median level serves.

    Parameters
    ----------
    raw, neuropil : ndarray of float32, shape (n_rois, n_frames)
        ROI and ring, in camera counts; finite where usable.
    frame_rate_hz : float
        Frames per second.
    offset_counts : float, default: 0.0
        Counts of the camera in the dark, subtracted from the baseline only.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames whose values count; the others are interpolated. All by default.
    config : TraceConfig
        Baseline.
    scratch : Scratch
        Where the traces are kept.

    Returns
    -------
    CorrectedTraces
        Coefficients, corrected traces, ΔF/F₀ and its noise.

    Raises
    ------
    InvalidTraceError
        If a value is not finite.
    """
    n_rois, n_frames = raw.shape
    every = np.ones(n_frames, np.bool_) if usable is None else usable
    known = [finite_frames(traces, every, scratch=scratch) for traces in (raw, neuropil)]
    if usable is None and not all(frames.all() for frames in known):
        msg = "Raw or neuropil traces hold values that are not finite; interpolate them first."
        raise InvalidTraceError(msg)
    coefficient, noise = np.zeros(n_rois, np.float32), np.zeros(n_rois, np.float32)
    corrected, ratio = scratch.array(raw.shape), scratch.array(raw.shape)
    levels = np.zeros(n_rois)
    for rows in roi_blocks(raw.shape):
        own, surround = (
            interpolate_frames(traces[rows], frames)
            for traces, frames in zip((raw, neuropil), known, strict=True)
        )
        slow_own, slow_surround = (
            running_baseline(traces, frame_rate_hz=frame_rate_hz, config=config)
            for traces in (own, surround)
        )
        coefficient[rows] = [
            _quiet_slope(o, s, largest=config.max_coefficient)
            for o, s in zip(own - slow_own, surround - slow_surround, strict=True)
        ]
        changes = surround - np.median(surround, axis=1, keepdims=True)
        corrected[rows] = own - coefficient[rows, None] * changes
        level = running_baseline(corrected[rows], frame_rate_hz=frame_rate_hz, config=config)
        levels[rows] = np.median(np.abs(level - np.float32(offset_counts)), axis=1)
        ratio[rows] = level
        scratch.release()
    floor = max(0.05 * float(np.median(levels)), 1e-3) if n_rois else 1e-3
    for rows in roi_blocks(raw.shape):
        baseline = ratio[rows].copy()
        divisor = np.maximum(baseline - np.float32(offset_counts), np.float32(floor))
        ratio[rows] = (corrected[rows] - baseline) / divisor
        noise[rows] = step_noise(ratio[rows])
        scratch.release()
    return CorrectedTraces(coefficient, corrected, ratio, noise)


def step_noise(traces: FloatArray) -> FloatArray:
    """Measure the noise of traces by what changes from frame to frame.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        The traces, such as ΔF/F₀.

    Returns
    -------
    ndarray of float32, shape (n_rois,)
        Standard deviation of the noise, in the unit of the traces.
    """
    # Differences between neighbours hold noise only; 1.4826 makes the MAD a standard deviation.
    steps = np.diff(traces, axis=1) if traces.shape[1] > 1 else np.zeros_like(traces)
    middle = np.median(steps, axis=1, keepdims=True)
    noise = 1.4826 * np.median(np.abs(steps - middle), axis=1) / np.sqrt(2)
    return np.asarray(noise, np.float32)


def _quiet_fit(own: FloatArray, sources: FloatArray, plain: FloatArray) -> FloatArray:
    """Fit own = sources' mixture + constant on the frames in which the residual is small.

    All 0 unless that explains more than `plain`, their mean in fixed proportions, by Akaike's
    criterion: where nothing is shared, the mixture would follow the noise.
    """
    quiet = _quiet_frames(own, below=np.inf)
    fit = np.zeros(len(sources), np.float64)
    for _ in range(5):
        basis = sources[:, quiet].astype(np.float64)
        basis -= basis.mean(axis=1, keepdims=True)
        gram = basis @ basis.T
        power = float(np.trace(gram))
        if power <= 0 or quiet.sum() < 4 * len(sources):
            return np.zeros(len(sources), np.float32)
        gram[np.diag_indices_from(gram)] += _RIDGE * power / len(gram)
        target = own[quiet] - own[quiet].mean()
        fit = _bounded_solve(gram, basis @ target)
        left = float(np.sum((target - fit @ basis) ** 2))
        one = plain[quiet] - plain[quiet].mean()
        slope = float(one @ target) / max(float(one @ one), 1e-12)
        left_of_one = float(np.sum((target - slope * one) ** 2))
        gain = len(target) * np.log(max(left_of_one, 1e-12) / max(left, 1e-12))
        before, quiet = quiet, _quiet_frames(own - fit @ sources, below=4.0)
        if np.array_equal(quiet, before):  # the next round would find the same
            break
    n_free = int(np.count_nonzero(np.any(sources, axis=1)))
    return np.asarray(fit if gain > 2 * (n_free - 1) else 0 * fit, np.float32)


def _quiet_frames(values: AnyArray, *, below: float) -> BoolArray:
    """Frames near the middle; transients only rise, so what lies above is sooner the ROI's own."""
    middle = median(values)
    # The lower quartile by hand, as in `running_baseline`.
    rank = 0.25 * (len(values) - 1)
    ordered = np.partition(values, int(rank))
    low, high = ordered[int(rank)], ordered[int(rank) + 1 :].min(initial=middle)
    quartile = float(low + (rank - int(rank)) * (high - low))
    spread = max((middle - quartile) / 0.6745, 1e-9)
    return np.asarray((values <= middle + 2 * spread) & (values >= middle - below * spread))


def _bounded_solve(gram: AnyArray, right: AnyArray) -> AnyArray:
    """Solve normal equations with all weights within `_WEIGHTS`."""
    free = np.ones(len(gram), np.bool_)
    fit = np.zeros(len(gram))
    while free.any():
        known = gram[np.ix_(free, ~free)] @ fit[~free]
        fit[free] = np.linalg.solve(gram[np.ix_(free, free)], right[free] - known)
        bounded = np.clip(fit, *_WEIGHTS)
        beyond = free & (fit != bounded)
        if not beyond.any():
            break
        fit[beyond] = bounded[beyond]
        free &= ~beyond
    return fit


def _quiet_slope(own: FloatArray, surround: FloatArray, *, largest: float) -> float:
    """Fit own = c * surround + constant on the frames in which the residual is small."""
    quiet = _quiet_frames(own, below=np.inf)
    slope = 0.0
    for _ in range(4):
        s, o = surround[quiet], own[quiet]
        s = s - s.mean()
        power = float(s @ s)
        if power <= 0 or quiet.sum() < 10:
            return 0.0
        slope = float(np.clip(s @ (o - o.mean()) / power, 0.0, largest))
        before, quiet = quiet, _quiet_frames(own - slope * surround, below=4.0)
        if np.array_equal(quiet, before):
            break
    return slope

"""Figures of quality: from footprints, traces, shifts and pictures that a run has anyway."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

from cocuyo.core import (
    AnyArray,
    BoolArray,
    FloatArray,
    Quality,
    median,
    release_pages,
    roi_blocks,
)

_AROUND_DIAMETERS = 0.6
"""How far around an ROI its picture is compared with its footprint, in soma diameters."""
_SLOW_S = 30.0
"""Changes of the shifts over a longer time do not count: ΔF/F₀ has none either."""
_INDEPENDENT_S = 2.0
"""Values of a trace this far apart count as independent: a transient lasts about as long."""
_LIMITS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
"""Highest values of cameras of 8 to 16 bits."""
_LEAST_FULL = 5
"""Pixels with the highest value of the recording from which on it may be a limit."""
_NEAR_FULL = 0.75
"""An ROI whose raw trace never reaches this share of the limit is not saturated itself."""
_BELOW_SHARE = 0.1
"""It is one if more pixels have it than lie just below, within this share of the range."""


def measure_quality(
    footprints: sparse.csr_array,
    delta_f_over_f: FloatArray,
    *,
    frame_rate_hz: float,
    raw: FloatArray,
    shifts: FloatArray,
    usable: BoolArray,
    valid: BoolArray,
    max_raw: FloatArray | None = None,
    agreement: FloatArray | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
) -> Quality:
    """Measure how far ROIs and their traces can be trusted.

    Parameters
    ----------
    footprints : csr_array, shape (n_rois, n_rows * n_columns)
        Pixels of each ROI.
    delta_f_over_f : ndarray of float32, shape (n_rois, n_frames)
        Their traces; may lie on the disk, a few are read at a time. NaN for ROIs without.
    frame_rate_hz : float
        Frames per second.
    raw : ndarray of float32, shape (n_rois, n_frames)
        Their raw traces, in camera counts; read where the recording is saturated.
    shifts : ndarray of float32, shape (n_frames, 2)
        Motion of the recording, in pixels.
    usable : ndarray of bool, shape (n_frames,)
        Frames that count.
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels in view at all times and not excluded.
    max_raw : ndarray of float32, shape (n_rows, n_columns), optional
        Largest value of each pixel before motion correction, in camera counts.
    agreement : ndarray of float32, shape (n_rois,), optional
        From `footprint_agreement`, where it is known.
    spans : sequence of (int, int), optional
        First frame of each recording of an experiment, and the one after its last.

    Returns
    -------
    Quality
        One value for each ROI; NaN where it cannot be said.
    """
    n_rois, n_frames = delta_f_over_f.shape
    skewness, motion = (np.full(n_rois, np.nan, np.float32) for _ in range(2))
    basis = _shift_basis(shifts, usable, frame_rate_hz, spans or [(0, n_frames)])
    n_independent = int(usable.sum()) / max(1.0, _INDEPENDENT_S * frame_rate_hz)
    for rows in roi_blocks(delta_f_over_f.shape):
        traces = np.asarray(delta_f_over_f[rows], np.float32)[:, usable]
        skewness[rows], motion[rows] = _of_traces(traces, basis, n_independent)
        release_pages(delta_f_over_f)
    level = None if max_raw is None else saturation_level(np.where(valid, max_raw, np.nan))
    full = np.zeros(valid.size, np.bool_)
    if max_raw is not None and level is not None:
        full = np.asarray(max_raw >= level * (1 - 1e-3)).ravel()
    compactness, edge, saturated = _of_pixels(footprints, valid, full)
    if max_raw is None:
        saturated[:] = np.nan
    elif level is not None and usable.any():
        for rows in roi_blocks(raw.shape):
            # A flash fills pixels too; what counts is light that the traces have.
            highest = np.asarray(raw[rows], np.float32)[:, usable].max(axis=1)
            saturated[rows] = np.where(highest < _NEAR_FULL * level, 0.0, saturated[rows])
            release_pages(raw)
    if agreement is None:
        agreement = np.full(n_rois, np.nan, np.float32)
    return Quality(
        skewness, compactness, np.asarray(agreement, np.float32), motion, edge, saturated
    )


def footprint_agreement(
    picture: FloatArray, footprint: FloatArray, inside: BoolArray, *, diameter_px: float
) -> float:
    """Correlate a footprint with the picture of what flashes together with its trace.

    Parameters
    ----------
    picture : ndarray of float32, shape (side, side)
        Frames regressed on the events of the trace.
    footprint : ndarray of float32, shape (side, side)
        Weights of the ROI's pixels; 0 elsewhere.
    inside : ndarray of bool, shape (side, side)
        Pixels inside the frame and valid.
    diameter_px : float
        Typical soma diameter in pixels.

    Returns
    -------
    float
        In [-1, 1], over the ROI and what lies within 0.6 diameters around it; NaN without pixels
        or without events.
    """
    mask = footprint > 0
    if not mask.any():
        return float("nan")
    near = inside & (ndimage.distance_transform_edt(~mask) <= _AROUND_DIAMETERS * diameter_px)
    if not near.any():
        return float("nan")
    a, b = footprint[near] - footprint[near].mean(), picture[near] - picture[near].mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 0 else float("nan")


def saturation_level(max_raw: FloatArray) -> float | None:
    """Find the highest value that the camera gives, if the recording reaches it.

    Parameters
    ----------
    max_raw : ndarray of float32, shape (n_rows, n_columns)
        Largest value of each pixel, in camera counts.

    Returns
    -------
    float or None
        The highest value, if it is the last one of 8, 10, 12, 14 or 16 bits, or if more pixels
        share it than come close to it: light is spread, a limit is not. None also where more than
        half of the pixels have it: a flash, or a recording that says nothing.
    """
    values = max_raw[np.isfinite(max_raw)]
    if values.size == 0:
        return None
    top = float(values.max())
    full = int((values >= top - 1e-3 * abs(top)).sum())
    span = top - median(values)
    close = int((values >= top - _BELOW_SHARE * span).sum()) - full
    if full > values.size / 2 or not (top in _LIMITS or (full >= _LEAST_FULL and full > close)):
        return None
    return top


def _shift_basis(
    shifts: FloatArray, usable: BoolArray, rate_hz: float, spans: Sequence[tuple[int, int]]
) -> AnyArray:
    """Orthonormal courses of the shifts, and of their square, in the usable frames."""
    moves = np.asarray(shifts, np.float64)
    courses = np.column_stack([moves, (moves**2).sum(axis=1)])
    window = max(3, round(_SLOW_S * rate_hz))
    for start, stop in spans:
        own = courses[start:stop]
        courses[start:stop] = own - ndimage.uniform_filter1d(own, window, axis=0, mode="nearest")
    courses = courses[usable]
    if len(courses) == 0:
        return courses
    courses = courses - courses.mean(axis=0)
    # Still to a hundredth of a pixel is still: placing is no more exact.
    there = courses.std(axis=0) > (1e-2, 1e-2, 1e-3)
    if not there.any():
        return np.zeros((len(courses), 0))
    left, size, _ = np.linalg.svd(courses[:, there], full_matrices=False)
    return np.asarray(left[:, size > 1e-6 * size.max(initial=0.0)])


def _of_traces(
    traces: FloatArray, basis: AnyArray, n_independent: float
) -> tuple[FloatArray, FloatArray]:
    """Skewness of traces, and their multiple correlation with the shifts."""
    n_rois, n_frames = traces.shape
    unknown = np.full(n_rois, np.nan, np.float32)
    if n_frames < 3:
        return unknown, unknown
    centred = traces - traces.mean(axis=1, keepdims=True)
    power = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
    there = np.isfinite(power)
    # A constant trace differs from its mean by rounding.
    highest = np.abs(traces).max(axis=1)
    moving = power > n_frames * (1e-6 * np.where(there, highest, 0.0)) ** 2
    spread = np.sqrt(np.where(moving, power, 1.0) / n_frames)
    third = np.einsum("ij,ij,ij->i", centred, centred, centred, dtype=np.float64) / n_frames
    skewness = np.where(there, np.where(moving, third / spread**3, 0.0), np.nan)
    n_free = basis.shape[1]
    room = n_independent - n_free - 1
    if n_free == 0:
        explained = np.zeros(n_rois)
    elif room < 1:
        return np.asarray(skewness, np.float32), unknown
    else:
        share = ((centred @ basis) ** 2).sum(axis=1) / np.where(moving, power, 1.0)
        # As many frames as are independent would explain a part of anything by chance.
        explained = np.clip(1 - (1 - share) * (n_independent - 1) / room, 0.0, 1.0)
    motion = np.where(there, np.sqrt(np.where(moving, explained, 0.0)), np.nan)
    return np.asarray(skewness, np.float32), np.asarray(motion, np.float32)


def _of_pixels(
    footprints: sparse.csr_array, valid: BoolArray, full: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compactness, share of the border at an edge, and share of saturated pixels."""
    n_rois, columns = footprints.shape[0], valid.shape[1]
    compactness, edge, saturated = (np.full(n_rois, np.nan, np.float32) for _ in range(3))
    beyond = np.pad(~valid, 1, constant_values=True)
    beside = ndimage.binary_dilation(beyond, structure=np.ones((3, 3), np.bool_))[
        1:-1, 1:-1
    ].ravel()
    for roi in range(n_rois):
        flat = footprints.indices[footprints.indptr[roi] : footprints.indptr[roi + 1]]
        if len(flat) == 0:
            continue
        y, x = np.divmod(np.asarray(flat, np.int64), columns)
        radius = np.sqrt(len(flat) / np.pi)
        compactness[roi] = np.mean(np.hypot(y - y.mean(), x - x.mean()) <= radius + 0.5)
        crop = np.zeros((int(np.ptp(y)) + 3, int(np.ptp(x)) + 3), np.bool_)
        crop[y - y.min() + 1, x - x.min() + 1] = True
        rim = crop & ~ndimage.binary_erosion(crop)
        edge[roi] = beside[flat[rim[y - y.min() + 1, x - x.min() + 1]]].mean()
        saturated[roi] = full[flat].mean()
    return compactness, edge, saturated

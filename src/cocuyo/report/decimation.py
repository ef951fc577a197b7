"""Traces and rasters made small without losing a short event."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cocuyo.core import AnyArray, BoolArray, LabelArray, Result, TimeArray, release_pages

# The highest code of a quantised trace; one above means "no value".
_TOP = 65534


def active_runs(active: BoolArray) -> LabelArray:
    """Find the stretches in which a row of the raster is active.

    Parameters
    ----------
    active : ndarray of bool, shape (n_frames,)
        One row of the raster.

    Returns
    -------
    ndarray of int32, shape (n_runs, 2)
        First active frame, and the first one that is not any more.
    """
    edges = np.diff(np.concatenate([[0], np.asarray(active, np.int8), [0]]))
    return np.column_stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)]).astype(
        np.int32
    )


def extremes(values: AnyArray, n_bins: int) -> AnyArray:
    """Keep the smallest and the largest value of each bin, so that no peak is lost.

    Parameters
    ----------
    values : ndarray, shape (n_frames,)
        A signal; NaN are left out, a bin of NaN only stays NaN.
    n_bins : int
        Number of bins, at most n_frames.

    Returns
    -------
    ndarray of float64, shape (2 * n_bins,)
        Smallest and largest value of each bin, in turn.
    """
    values = np.asarray(values, np.float64)
    starts = bin_starts(len(values), n_bins)
    pairs = np.empty(2 * n_bins)
    # fmin and fmax pass over NaN.
    pairs[::2] = np.fmin.reduceat(values, starts)
    pairs[1::2] = np.fmax.reduceat(values, starts)
    return pairs


def bin_starts(n_frames: int, n_bins: int) -> AnyArray:
    """Give the first frame of each of `n_bins` bins that differ by a frame at most.

    Parameters
    ----------
    n_frames, n_bins : int
        Length of the recording; number of bins, at most n_frames.

    Returns
    -------
    ndarray of int64, shape (n_bins,)
        Rising, from 0.
    """
    return np.arange(n_bins, dtype=np.int64) * n_frames // n_bins


@dataclass(frozen=True)
class EmbeddedTraces:
    """Quantised traces of some ROIs as text for the page.

    Attributes
    ----------
    rois : tuple of int
        Indices of the ROIs that are embedded.
    codes : str
        Base64 of uint16, little-endian, shape (n, n_signals, n_points).
    times : str
        Base64 of float32, little-endian, shape (n_points,): seconds.
    ranges : tuple of tuple of float
        For each ROI: the values of code 0 and of the highest code, of one signal after the other.
    n_points : int
        Points of each trace.
    frames_per_bin : float
        1 where each frame is a point, else the frames behind a pair of points.
    """

    rois: tuple[int, ...]
    codes: str
    times: str
    ranges: tuple[tuple[float, ...], ...]
    n_points: int
    frames_per_bin: float


def embed_traces(
    result: Result, rois: AnyArray, signals: Sequence[str], *, max_bytes: int
) -> EmbeddedTraces:
    """Quantise traces to 16 bits and decimate them until they fit.

    Parameters
    ----------
    result : Result
        What a run found; traces are read one ROI at a time.
    rois : array of int, shape (n,)
        The ROIs to embed.
    signals : sequence of str
        Which of the result's traces, such as ``("delta_f_over_f", "dog")``.
    max_bytes : int
        Room for the codes, before base64 makes them a third longer.

    Returns
    -------
    EmbeddedTraces
        The traces.
    """
    n_frames = result.n_frames
    room = max(64, max_bytes // (2 * len(signals) * max(len(rois), 1)))  # codes of two bytes
    whole = n_frames <= room
    n_bins = n_frames if whole else max(1, room // 2)
    n_points = n_frames if whole else 2 * n_bins
    codes = np.zeros((len(rois), len(signals), n_points), "<u2")
    ranges = []
    for row, roi in enumerate(rois):
        limits: list[float] = []
        for column, name in enumerate(signals):
            signal = np.asarray(getattr(result.traces, name)[int(roi)], np.float64)
            signal = np.where(np.isfinite(signal), signal, np.nan)
            points = signal if whole else extremes(signal, n_bins)
            codes[row, column], low, high = _quantise(points)
            limits += [low, high]
            release_pages(getattr(result.traces, name))
        ranges.append(tuple(limits))
    return EmbeddedTraces(
        rois=tuple(int(roi) for roi in rois),
        codes=_base64(codes),
        times=_base64(_point_times(result.times_s, n_bins, whole).astype("<f4")),
        ranges=tuple(ranges),
        n_points=n_points,
        frames_per_bin=1.0 if whole else n_frames / n_bins,
    )


def _point_times(times_s: TimeArray, n_bins: int, whole: bool) -> TimeArray:
    if whole:
        return np.asarray(times_s, np.float64)
    starts = bin_starts(len(times_s), n_bins)
    last = np.concatenate([starts[1:], [len(times_s)]]) - 1
    return np.column_stack([times_s[starts], times_s[last]]).ravel()


def _quantise(values: AnyArray) -> tuple[AnyArray, float, float]:
    finite = np.isfinite(values)
    if not finite.any():
        return np.full(values.shape, _TOP + 1, "<u2"), 0.0, 1.0
    low, high = float(values[finite].min()), float(values[finite].max())
    span = high - low or 1.0
    scaled = np.where(finite, (np.where(finite, values, low) - low) / span * _TOP, _TOP + 1)
    return np.round(scaled).astype("<u2"), low, low + span


def _base64(array: AnyArray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")

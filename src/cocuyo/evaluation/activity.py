"""Agreement in time: traces and events of matched cells."""

from dataclasses import dataclass

import numpy as np

from cocuyo.core import AnyArray, BoolArray, Periods, SettingsError, TimeArray
from cocuyo.evaluation.instances import Matches
from cocuyo.evaluation.pixels import ratio

MAX_GAP_S = 0.5
"""Spikes or active periods at most this far apart are one event (DESIGN: scoring)."""
TOLERANCE_S = 0.5
"""How far before the first or after the last spike of an event an onset may lie."""

_ROUNDING_S = 1e-6  # times that went through float32 or a table of six decimals


@dataclass(frozen=True, eq=False)
class TraceScores:
    """How well the traces of matched cells agree.

    Attributes
    ----------
    correlation : ndarray of float64, shape (n_matches,)
        Pearson correlation of each pair; NaN where a trace is constant or has fewer than two
        common finite values.
    """

    correlation: TimeArray

    @property
    def n_pairs(self) -> int:
        """Number of matched pairs."""
        return len(self.correlation)

    @property
    def n(self) -> int:
        """Number of pairs that have a correlation."""
        return int(np.count_nonzero(np.isfinite(self.correlation)))

    @property
    def median(self) -> float:
        """Median correlation of the pairs that have one; NaN without any."""
        values = self.correlation[np.isfinite(self.correlation)]
        return float(np.median(values)) if len(values) else float("nan")


@dataclass(frozen=True, eq=False)
class EventScores:
    """How well the events of matched cells agree.

    Attributes
    ----------
    cell_tp, cell_fp, cell_fn : ndarray of int64, shape (n_matches,)
        Of each pair: events hit, onsets that hit none, events missed.
    """

    cell_tp: np.ndarray[tuple[int], np.dtype[np.int64]]
    cell_fp: np.ndarray[tuple[int], np.dtype[np.int64]]
    cell_fn: np.ndarray[tuple[int], np.dtype[np.int64]]

    @property
    def n_pairs(self) -> int:
        """Number of matched pairs."""
        return len(self.cell_tp)

    @property
    def tp(self) -> int:
        """Events hit, over all pairs."""
        return int(self.cell_tp.sum())

    @property
    def fp(self) -> int:
        """Onsets that hit no event, over all pairs."""
        return int(self.cell_fp.sum())

    @property
    def fn(self) -> int:
        """Events missed, over all pairs."""
        return int(self.cell_fn.sum())

    @property
    def precision(self) -> float:
        """Share of the onsets that hit an event, pooled; NaN without onsets."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the events that were hit, pooled; NaN without events."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 tp / (2 tp + fp + fn), pooled; NaN without onsets and events."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def cell_f1(self) -> TimeArray:
        """F1 of each pair, shape (n_matches,); NaN where neither has an event."""
        total = 2 * self.cell_tp + self.cell_fp + self.cell_fn
        return np.where(total > 0, 2 * self.cell_tp / np.maximum(total, 1), np.nan)

    @property
    def n_cells(self) -> int:
        """Number of pairs that have an event in the truth or in the prediction."""
        return int(np.count_nonzero(np.isfinite(self.cell_f1)))

    @property
    def median_f1(self) -> float:
        """Median F1 of the cells that have one; NaN without any."""
        values = self.cell_f1
        values = values[np.isfinite(values)]
        return float(np.median(values)) if len(values) else float("nan")


def trace_correlation(
    predicted_traces: AnyArray, truth_traces: AnyArray, matches: Matches
) -> TraceScores:
    """Correlate the traces of matched cells.

    Pearson's correlation: offset and scale of a trace play no part. Frames in which either
    trace is not finite are left out of that pair.

    Parameters
    ----------
    predicted_traces : ndarray of float, shape (n_predicted, n_frames)
        Traces of the predicted ROIs, usually unsmoothed ΔF/F₀.
    truth_traces : ndarray of float, shape (n_truth, n_frames)
        Traces of the true cells, usually noise-free ΔF/F.
    matches : Matches
        Which ROI is which cell.

    Returns
    -------
    TraceScores
        Correlation of each pair, in the order of the matches, their median and number.

    Raises
    ------
    SettingsError
        If the numbers of frames differ, or the rows do not fit the matches.
    """
    predicted_traces, truth_traces = np.asarray(predicted_traces), np.asarray(truth_traces)
    if predicted_traces.shape[1:] != truth_traces.shape[1:]:
        msg = (
            f"Predicted traces have {predicted_traces.shape[1:]} frames, true ones "
            f"{truth_traces.shape[1:]}; give traces of the same frames."
        )
        raise SettingsError(msg)
    if (len(predicted_traces), len(truth_traces)) != (matches.n_predicted, matches.n_truth):
        msg = (
            f"{len(predicted_traces)} predicted and {len(truth_traces)} true traces for matches "
            f"among {matches.n_predicted} ROIs and {matches.n_truth} cells; "
            "give one trace for each."
        )
        raise SettingsError(msg)
    values = [
        _pearson(predicted_traces[roi], truth_traces[cell])
        for roi, cell in zip(matches.predicted, matches.truth, strict=True)
    ]
    return TraceScores(np.array(values, dtype=np.float64))


def _pearson(left: AnyArray, right: AnyArray) -> float:
    left, right = left.astype(np.float64), right.astype(np.float64)
    good = np.isfinite(left) & np.isfinite(right)
    left, right = left[good], right[good]
    if len(left) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return float("nan")
    left, right = left - left.mean(), right - right.mean()
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(np.clip(left @ right / norm, -1.0, 1.0)) if norm > 0 else float("nan")


def periods_from_raster(
    raster: BoolArray, *, frame_rate_hz: float | None = None, times_s: TimeArray | None = None
) -> Periods:
    """List the stretches of frames in which each ROI is active.

    Parameters
    ----------
    raster : ndarray of bool, shape (n_rois, n_frames)
        True while an ROI is active.
    frame_rate_hz : float, optional
        Frames per second; not needed with `times_s`.
    times_s : ndarray of float64, shape (n_frames,), optional
        Time of each frame in seconds.

    Returns
    -------
    Periods
        Times of the first and of the last active frame of each stretch.

    Raises
    ------
    SettingsError
        If neither rate nor times are given, or the times do not fit.
    """
    raster = np.asarray(raster, dtype=np.bool_)
    n_frames = raster.shape[1]
    if times_s is None:
        if frame_rate_hz is None or not frame_rate_hz > 0:
            msg = (
                f"The frame rate of the raster is {frame_rate_hz}; "
                "give frame_rate_hz in frames per second, or times_s."
            )
            raise SettingsError(msg)
        times_s = np.arange(n_frames, dtype=np.float64) / frame_rate_hz
    times_s = np.asarray(times_s, dtype=np.float64)
    if times_s.shape != (n_frames,):
        msg = f"{times_s.size} times for {n_frames} frames of raster; give one time per frame."
        raise SettingsError(msg)
    steps = np.diff(np.pad(raster, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    roi, start = np.nonzero(steps == 1)
    _, stop = np.nonzero(steps == -1)
    return Periods(roi.astype(np.int32), times_s[start], times_s[stop - 1])


def join_periods(periods: Periods, *, max_gap_s: float = MAX_GAP_S) -> Periods:
    """Join the periods of a cell that lie close together.

    Makes events of spikes, and one active period of two that are hardly apart. The gap is the
    time from the end of one period (its last spike or last active frame) to the start of the
    next.

    Parameters
    ----------
    periods : Periods
        In any order; they may overlap.
    max_gap_s : float, default: 0.5
        Largest gap that is closed, in seconds; a gap of exactly this length is closed.

    Returns
    -------
    Periods
        Sorted by cell, then time.

    Examples
    --------
    >>> import numpy as np
    >>> spikes = Periods.from_times(np.array([0, 0, 0]), np.array([1.0, 1.5, 2.1]))
    >>> events = join_periods(spikes)
    >>> events.first_s.tolist(), events.last_s.tolist()
    ([1.0, 2.1], [1.5, 2.1])
    """
    order = np.lexsort((periods.last_s, periods.first_s, periods.roi))
    roi: list[int] = []
    first: list[float] = []
    last: list[float] = []
    for i in order:
        start, stop = float(periods.first_s[i]), float(periods.last_s[i])
        if roi and roi[-1] == periods.roi[i] and start - last[-1] <= max_gap_s + _ROUNDING_S:
            last[-1] = max(last[-1], stop)
        else:
            roi.append(int(periods.roi[i]))
            first.append(start)
            last.append(stop)
    return Periods(
        np.array(roi, dtype=np.int32),
        np.array(first, dtype=np.float64),
        np.array(last, dtype=np.float64),
    )


def event_scores(
    predicted: Periods,
    truth: Periods,
    matches: Matches,
    *,
    max_gap_s: float = MAX_GAP_S,
    tolerance_s: float = TOLERANCE_S,
) -> EventScores:
    """Compare the events of matched cells.

    Truth: spikes (or events) at most `max_gap_s` apart are one event. Prediction: active
    periods at most `max_gap_s` apart are one, and its onset is what is scored. An onset hits an
    event if it lies in [first spike - `tolerance_s`, last spike + `tolerance_s`], borders
    included. Onsets and events are paired one to one, as many as possible: of two onsets in one
    event, one is false.

    Parameters
    ----------
    predicted : Periods
        Active periods of the predicted ROIs (`periods_from_raster` makes them of a raster).
    truth : Periods
        Spikes or events of the true cells.
    matches : Matches
        Which ROI is which cell; other ROIs and cells play no part.
    max_gap_s : float, default: 0.5
        Largest gap that is closed, in seconds.
    tolerance_s : float, default: 0.5
        Tolerance of the onset, in seconds.

    Returns
    -------
    EventScores
        Counts of each pair, with pooled scores and the median over cells.
    """
    onsets, events = (
        join_periods(predicted, max_gap_s=max_gap_s),
        join_periods(truth, max_gap_s=max_gap_s),
    )
    counts = np.zeros((3, len(matches)), np.int64)
    margin = tolerance_s + _ROUNDING_S
    for pair, (roi, cell) in enumerate(zip(matches.predicted, matches.truth, strict=True)):
        times = onsets.first_s[slice(*np.searchsorted(onsets.roi, [roi, roi + 1]))]
        of_cell = slice(*np.searchsorted(events.roi, [cell, cell + 1]))
        hits = _count_hits(times, events.first_s[of_cell] - margin, events.last_s[of_cell] + margin)
        n_events = of_cell.stop - of_cell.start
        counts[:, pair] = hits, len(times) - hits, n_events - hits
    return EventScores(*counts)


def _count_hits(times: TimeArray, opens: TimeArray, closes: TimeArray) -> int:
    """Pair points and windows one to one, as many as possible.

    Both are sorted, and the windows open and close in the same order; each point in turn then
    takes the first window still open, which leaves the most for those that follow.
    """
    hits = window = 0
    for time in times:
        while window < len(closes) and closes[window] < time:
            window += 1
        if window < len(closes) and opens[window] <= time:
            hits += 1
            window += 1
    return hits

"""Activity around stimuli: averages and responders."""

from collections.abc import Sequence

import numpy as np

from cocuyo.core import (
    AnyArray,
    BoolArray,
    FloatArray,
    SettingsError,
    StimulusResponse,
    TimeArray,
    stream,
)
from cocuyo.population.statistics import discovery_rate


def measure_responses(
    raster: BoolArray,
    times_s: TimeArray,
    stimuli_s: TimeArray,
    *,
    frame_rate_hz: float,
    delta_f_over_f: FloatArray | None = None,
    before_s: float = 2.0,
    after_s: float = 5.0,
    n_shuffles: int = 1000,
    significance: float = 0.05,
    seed: int = 0,
    label: str = "",
) -> StimulusResponse:
    """Average the activity around stimuli and find the neurons that respond.

    The response of a neuron is the share of time it is active in the window after a stimulus,
    averaged over the stimuli, minus that in the whole recording (a short window before each
    stimulus would be a noisier reference). It is compared with the responses to as many stimuli at
    random times of the recording, drawn independently and evenly; the test is one-sided (activity
    that rises) and corrected by the false discovery rate over neurons (Benjamini, Hochberg 1995).
    A stimulus counts from the frame nearest to it.

    Parameters
    ----------
    raster : ndarray of bool, shape (n_neurons, n_frames)
        Activity of each neuron in each frame.
    times_s : ndarray of float64, shape (n_frames,)
        Time of each frame, in seconds, rising.
    stimuli_s : ndarray of float64, shape (n_stimuli,)
        Times of the stimuli, in seconds. Those whose window is not wholly within the recording are
        left out.
    frame_rate_hz : float
        Frames per second.
    delta_f_over_f : ndarray of float32, shape (n_neurons, n_frames), optional
        Traces to average as well.
    before_s, after_s : float, default: 2.0, 5.0
        Window before and after a stimulus, in seconds; at least a frame each.
    n_shuffles : int, default: 1000
        Number of sets of random times.
    significance : float, default: 0.05
        False discovery rate of responders.
    seed : int, default: 0
        Seed of the random times (stream ``population.stimuli``).
    label : str, optional
        Name of the stimulus.

    Returns
    -------
    StimulusResponse
        Averages and responders.

    Raises
    ------
    SettingsError
        If no window is wholly within the recording.
    """
    raster = np.asarray(raster, np.bool_)
    before = max(1, round(before_s * frame_rate_hz))
    after = max(1, round(after_s * frame_rate_hz))
    at, used = frames_of(stimuli_s, times_s, before, after)
    if not len(at):
        named = f" {label!r}" if label else ""
        msg = (
            f"None of {len(stimuli_s)} stimuli{named} has its window of {before_s:g} s before to "
            f"{after_s:g} s after it within the recording of {_end(times_s):.6g} s. Give the times "
            "in seconds of the recording, or a shorter window."
        )
        raise SettingsError(msg)
    n_neurons, n_frames = raster.shape
    lags = np.arange(-before, after + 1)
    window = at[:, None] + lags
    n_active = raster.sum(axis=0, dtype=np.float64)
    random = stream(seed, "population.stimuli").integers(
        before, n_frames - after, (n_shuffles, len(at))
    )
    shuffled = np.stack([n_active[random + lag].mean(axis=1) for lag in lags], axis=1)
    low, high = np.percentile(shuffled, (2.5, 97.5), axis=0)
    response = np.zeros(n_neurons, np.float32)
    p_value = np.ones(n_neurons)
    for neuron in np.flatnonzero(raster.any(axis=1)):
        value, p_value[neuron] = _test(raster[neuron], at, random, after)
        response[neuron] = value
    q_value = discovery_rate(p_value)
    _, population_p = _test(n_active, at, random, after)
    return StimulusResponse(
        label=label,
        times_s=np.asarray(stimuli_s, np.float64)[used],
        lags_s=lags / frame_rate_hz,
        active=_average(raster, window),
        delta_f_over_f=(
            np.full((n_neurons, len(lags)), np.nan, np.float32)
            if delta_f_over_f is None
            else _average(delta_f_over_f, window)
        ),
        n_active=n_active[window].mean(axis=0).astype(np.float32),
        n_active_low=low.astype(np.float32),
        n_active_high=high.astype(np.float32),
        response=response,
        p_value=p_value.astype(np.float32),
        q_value=q_value.astype(np.float32),
        responders=q_value <= significance,
        population_p_value=population_p,
    )


def frames_of(
    stimuli_s: TimeArray, times_s: TimeArray, before: int, after: int
) -> tuple[AnyArray, BoolArray]:
    """Find the frames of the stimuli whose windows are within the recording.

    Parameters
    ----------
    stimuli_s : ndarray of float64, shape (n_stimuli,)
        Times of the stimuli, in seconds.
    times_s : ndarray of float64, shape (n_frames,)
        Times of the frames, in seconds, rising.
    before, after : int
        Frames of the window before and after a stimulus.

    Returns
    -------
    frames : ndarray of int64, shape (n_used,)
        The frame nearest to each stimulus that is used.
    used : ndarray of bool, shape (n_stimuli,)
        Which ones are.
    """
    stimuli_s = np.asarray(stimuli_s, np.float64)
    if len(times_s) == 0:
        return np.zeros(0, np.int64), np.zeros(len(stimuli_s), np.bool_)
    edges = (times_s[1:] + times_s[:-1]) / 2
    nearest = np.searchsorted(edges, stimuli_s)
    inside = (stimuli_s >= times_s[0]) & (stimuli_s <= times_s[-1])
    used = inside & (nearest >= before) & (nearest + after < len(times_s))
    return nearest[used], used


def _test(row: AnyArray, at: AnyArray, random: AnyArray, after: int) -> tuple[float, float]:
    """Response of one row to the stimuli, and the share of random times with one as large."""
    total = np.concatenate([[0.0], np.cumsum(row, dtype=np.float64)])

    def later(frames: AnyArray) -> AnyArray:
        return np.asarray((total[frames + after + 1] - total[frames]).mean(axis=-1) / (after + 1))

    value = later(at)
    as_large = np.count_nonzero(later(random) >= value - 1e-9)
    return float(value - total[-1] / len(row)), (1 + as_large) / (1 + len(random))


def _average(rows: AnyArray, window: AnyArray) -> FloatArray:
    """Mean over the windows, neuron by neuron; values that are not finite are left out."""
    means = np.full((len(rows), window.shape[1]), np.nan, np.float32)
    for i in range(len(rows)):
        values = np.asarray(rows[i], np.float64)[window]
        finite = np.isfinite(values)
        n = finite.sum(axis=0)
        total = np.where(finite, values, 0).sum(axis=0)
        means[i] = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
    return means


def _end(times_s: TimeArray) -> float:
    return float(times_s[-1]) if len(times_s) else 0.0


def group_by_label(times_s: Sequence[float], labels: Sequence[str]) -> dict[str, TimeArray]:
    """Sort stimuli by label.

    Parameters
    ----------
    times_s : sequence of float
        Times of the stimuli, in seconds.
    labels : sequence of str
        Their names.

    Returns
    -------
    dict of str to ndarray of float64
        Rising times of each label, labels in the order of their first times.
    """
    groups: dict[str, list[float]] = {}
    for time, label in sorted(zip(times_s, labels, strict=True)):
        groups.setdefault(label, []).append(float(time))
    return {label: np.array(times, np.float64) for label, times in groups.items()}

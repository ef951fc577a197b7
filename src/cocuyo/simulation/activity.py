"""When cells fire, and the fluorescence that follows."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from cocuyo.core import BoolArray, FloatArray, TimeArray
from cocuyo.simulation.config import SimulationConfig
from cocuyo.simulation.indicators import INDICATORS, calcium

EVENT_GAP_S = 0.5
"""Spikes at most this far apart form one event."""
_SUBSTEPS = 8  # samples of the calcium dynamics in one exposure


@dataclass(frozen=True, eq=False)
class CellActivity:
    """Spikes and fluorescence of one active cell.

    Attributes
    ----------
    spike_times_s : ndarray of float64
        Times of the spikes, rising.
    delta_f_over_f : ndarray of float32, shape (n_frames,)
        Mean over each frame's exposure.
    raster : ndarray of bool, shape (n_frames,)
        From the first spike of an event until its fluorescence is below half its peak.
    events_s : ndarray of float64, shape (n_events, 2)
        First and last spike of each event.
    """

    spike_times_s: TimeArray
    delta_f_over_f: FloatArray
    raster: BoolArray
    events_s: TimeArray


@dataclass(frozen=True)
class _Response:
    """ΔF/F that spikes of one cell bring about."""

    rise_s: float
    decay_s: float
    step_s: float
    indicator: str

    def __call__(self, drive: TimeArray) -> TimeArray:
        level = calcium(drive, self.rise_s, self.decay_s, self.step_s)
        if self.indicator == "none":
            return level
        return INDICATORS[self.indicator].delta_f_over_f(level)


def network_bursts(rng: np.random.Generator, *, config: SimulationConfig) -> TimeArray:
    """Draw the times of the bursts that neuropil and cells share, in seconds."""
    regularity = config.network_burst_regularity
    if regularity == 0 or config.network_burst_rate_hz == 0:
        n_bursts = rng.poisson(config.network_burst_rate_hz * config.duration_s)
        return np.sort(rng.uniform(0.03, 0.95, n_bursts)) * config.duration_s
    mean_s = 1 / config.network_burst_rate_hz
    # Gamma intervals with a coefficient of variation of 1 - regularity.
    shape = (1 - regularity) ** -2
    times: list[float] = [float(rng.uniform(0, mean_s))]
    while times[-1] < 0.97 * config.duration_s:
        times.append(times[-1] + float(rng.gamma(shape, mean_s / shape)))
    return np.asarray(times[:-1], np.float64)


def stimulus_times(config: SimulationConfig) -> TimeArray:
    """Give the times of the stimuli, in seconds; the first comes after one interval."""
    if config.stimulus_interval_s == 0:
        return np.zeros(0)
    number = int(np.ceil(config.duration_s / config.stimulus_interval_s)) - 1
    return config.stimulus_interval_s * np.arange(1, number + 1, dtype=np.float64)


def draw_activity(
    rng: np.random.Generator, *, config: SimulationConfig, bursts_s: TimeArray
) -> CellActivity:
    """Draw spikes of one active cell, and its noise-free ΔF/F.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    config : SimulationConfig
        Rates, amplitudes and time constants.
    bursts_s : ndarray of float64
        Times of the network's bursts, in seconds.

    Returns
    -------
    CellActivity
        At least one event. ΔF/F is a sum of double exponentials, one for each spike,
        integrated over the exposure; with an indicator, that sum is its calcium.
    """
    duration_s = config.duration_s
    rate_hz = config.event_rate_hz * np.exp(config.event_rate_spread * rng.standard_normal())
    if rng.random() < config.rare_share:
        n_events = int(rng.integers(1, 4))
        joins = False
    else:
        n_events = max(1, int(rng.poisson(rate_hz * duration_s)))
        joins = rng.random() < config.synchrony_share
    onsets = rng.uniform(0.02, 0.97, n_events) * duration_s
    if joins:
        taking_part = bursts_s[rng.random(len(bursts_s)) < config.network_burst_participation]
        delays = config.network_burst_jitter_s * rng.random(len(taking_part))
        onsets = np.concatenate([onsets, taking_part + delays])
    mean_spikes = 1 + (config.spikes_per_event - 1) * rng.gamma(2.0, 0.5)
    response, height = _draw_response(rng, config=config, mean_spikes=mean_spikes)
    sizes = np.full(len(onsets), mean_spikes)  # mean number of spikes of each event
    if joins and config.network_burst_spikes is not None:
        sizes[n_events:] = config.network_burst_spikes
    if config.bursting_share > 0 and rng.random() < config.bursting_share:
        sizes[:n_events] = config.burst_spikes
    more, more_sizes = _draw_answers_and_single_spikes(rng, config=config, mean_spikes=mean_spikes)
    onsets, sizes = np.concatenate([onsets, more]), np.concatenate([sizes, more_sizes])

    times, weights = [], []
    for onset, size in zip(onsets, sizes, strict=True):
        n_spikes = int(rng.geometric(1 / size))
        intervals = rng.exponential(config.spike_interval_s, n_spikes - 1)
        times.append(onset + np.concatenate([[0.0], np.cumsum(intervals)]))
        # A typical event has a peak of `amplitude`; spikes vary by a sixth. What a spike lets
        # in is a matter of the cell, not of the event.
        varied = np.exp(rng.normal(0, 0.17)) if config.indicator == "none" else 1.0
        weights.append(np.full(n_spikes, height * varied))
    spikes = np.concatenate(times)
    weight = np.concatenate(weights)
    # Spikes lie on the grid of the dynamics, so that truth and movie agree exactly.
    step_s = response.step_s
    index = np.floor(spikes / step_s).astype(int)
    order = np.argsort(index, kind="stable")
    order = order[index[order] < config.n_frames * _SUBSTEPS]
    index, weight = index[order], weight[order]
    spikes = index * step_s

    drive = np.zeros(config.n_frames * _SUBSTEPS)
    np.add.at(drive, index, weight)
    delta = _frame_means(response(drive))
    raster, events = _active_periods(index, weight, response=response, n_frames=config.n_frames)
    return CellActivity(spikes, delta, raster, events)


def _draw_response(
    rng: np.random.Generator, *, config: SimulationConfig, mean_spikes: float
) -> tuple[_Response, float]:
    """Draw the kinetics of a cell and the height of its spikes."""
    amplitude = np.exp(rng.uniform(np.log(config.amplitude_min), np.log(config.amplitude_max)))
    rise_s = config.rise_s * rng.uniform(0.7, 1.4)
    decay_s = np.exp(rng.uniform(np.log(config.decay_min_s), np.log(config.decay_max_s)))
    decay_s = max(decay_s, 1.5 * rise_s)
    height = amplitude / mean_spikes
    if config.indicator != "none":
        scale = np.exp(config.indicator_spread * rng.standard_normal(2))
        constants = INDICATORS[config.indicator].time_constants_s
        rise_s, decay_s = (float(scale[0]) * constant for constant in constants)
        height = float(scale[1])
    step_s = 1 / (config.frame_rate_hz * _SUBSTEPS)
    return _Response(rise_s, decay_s, step_s, config.indicator), height


def _draw_answers_and_single_spikes(
    rng: np.random.Generator, *, config: SimulationConfig, mean_spikes: float
) -> tuple[TimeArray, TimeArray]:
    """Draw times of events after stimuli and of single spikes, and their mean spikes."""
    onsets, sizes = np.zeros(0), np.zeros(0)
    if config.stimulus_response_share > 0:
        responds = rng.random() < config.stimulus_response_share
        stimuli_s = stimulus_times(config)
        onsets = stimuli_s[rng.random(len(stimuli_s)) < 0.8 * responds]
        onsets = onsets + rng.uniform(0.01, 0.06, len(onsets))
        sizes = np.full(len(onsets), mean_spikes)
    if config.tonic_share > 0 and rng.random() < config.tonic_share:
        n_single = int(rng.poisson(config.tonic_rate_hz * config.duration_s))
        single = rng.uniform(0, 0.99, n_single) * config.duration_s
        onsets = np.concatenate([onsets, single])
        sizes = np.concatenate([sizes, np.ones(n_single)])
    return onsets, sizes


def _frame_means(samples: TimeArray) -> FloatArray:
    return np.asarray(samples.reshape(-1, _SUBSTEPS).mean(axis=1), dtype=np.float32)


def _active_periods(
    index: np.ndarray[tuple[int], np.dtype[np.int_]],
    weight: TimeArray,
    *,
    response: _Response,
    n_frames: int,
) -> tuple[BoolArray, TimeArray]:
    """Group spikes to events and mark the frames in which each is above half its peak."""
    raster = np.zeros(n_frames, np.bool_)
    if len(index) == 0:
        return raster, np.zeros((0, 2))
    step_s = response.step_s
    starts = np.flatnonzero(np.diff(index) * step_s > EVENT_GAP_S + 1e-9) + 1
    events = []
    for members in np.split(np.arange(len(index)), starts):
        first, last = int(index[members[0]]), int(index[members[-1]])
        events.append((first * step_s, last * step_s))
        start = first // _SUBSTEPS
        tail = int(np.ceil((last * step_s + 8 * response.decay_s) / (step_s * _SUBSTEPS)))
        stop = min(n_frames, tail + 1)
        drive = np.zeros((stop - start) * _SUBSTEPS)
        np.add.at(drive, index[members] - start * _SUBSTEPS, weight[members])
        course = _frame_means(response(drive))
        above = np.flatnonzero(course >= 0.5 * course.max())
        raster[start : start + int(above[-1]) + 1] = True
    return raster, np.asarray(events)


def neuropil_courses(
    rng: np.random.Generator, n_modes: int, *, config: SimulationConfig, bursts_s: TimeArray
) -> tuple[FloatArray, FloatArray]:
    """Draw the time courses of the neuropil.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n_modes : int
        Number of independent courses.
    config : SimulationConfig
        Frame rate, number of frames.
    bursts_s : ndarray of float64
        Times of the network's bursts, in seconds.

    Returns
    -------
    modes : ndarray of float32, shape (n_modes, n_frames)
        Slow fluctuations and calcium transients, mean 0 and standard deviation 1 each.
    burst : ndarray of float32, shape (n_frames,)
        The bursts' transient, about 1 at its peaks.
    """
    step_s = 1 / (config.frame_rate_hz * _SUBSTEPS)
    n_samples = config.n_frames * _SUBSTEPS
    modes = np.zeros((n_modes, config.n_frames), np.float32)
    for mode in range(n_modes):
        keep = np.exp(-1 / (config.frame_rate_hz * rng.uniform(2.0, 12.0)))
        start = rng.standard_normal(400 + config.n_frames)
        slow = np.asarray(lfilter([1.0], [1.0, -keep], start))[400:]
        drive = (rng.random(n_samples) < 0.15 * step_s) * rng.exponential(1.0, n_samples)
        quick = _frame_means(calcium(drive, 0.15, rng.uniform(0.6, 1.8), step_s))
        course = slow / max(slow.std(), 1e-6) + 0.8 * quick / max(quick.std(), 1e-6)
        modes[mode] = (course - course.mean()) / max(float(course.std()), 1e-6)
    drive = np.zeros(n_samples)
    index = (bursts_s / step_s).astype(int)
    np.add.at(drive, index, rng.uniform(0.4, 1.3, len(index)))
    return modes, _frame_means(calcium(drive, 0.2, 1.2, step_s))

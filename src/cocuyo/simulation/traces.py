"""Traces with known events, without a movie: many in the time that one recording takes.

What a movie would add is drawn from wide ranges: the camera's noise, light of other cells and of
the neuropil that correction left in the trace, slow changes, frames that had to be interpolated.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cocuyo.core import BoolArray, FloatArray, Periods, SettingsError
from cocuyo.simulation.activity import draw_activity, network_bursts, neuropil_courses
from cocuyo.simulation.config import SimulationConfig
from cocuyo.simulation.population import stream_of

_SILENT_SHARE = 0.06
_N_MODES = 6


@dataclass(frozen=True, eq=False)
class SimulatedTraces:
    """Traces of functional neurons, a few of silent ones, and what is in them.

    Attributes
    ----------
    traces : ndarray of float32, shape (n_cells, n_frames)
        In units of their white noise.
    clean : ndarray of float32, shape (n_cells, n_frames)
        The cell's own signal in them; 0 for silent cells.
    usable : ndarray of bool, shape (n_frames,)
        False where frames were interpolated.
    frame_rate_hz : float
        Frames per second.
    events : Periods
        First and last spike of each event.
    """

    traces: FloatArray
    clean: FloatArray
    usable: BoolArray
    frame_rate_hz: float
    events: Periods


def simulate_traces(config: SimulationConfig, *, seed: int, n_cells: int = 48) -> SimulatedTraces:
    """Draw traces as a recording with these settings would give them.

    Firing and kinetics are those of `simulate`. The largest transient of each cell stands 2.5 to 80
    times above the noise, drawn around a value of the recording.

    Parameters
    ----------
    config : SimulationConfig
        Frame rate, length, firing, kinetics; its optics and its camera play no part.
    seed : int
        Seed of all random numbers.
    n_cells : int, default: 48
        Number of traces, at least 2.

    Returns
    -------
    SimulatedTraces
        Traces with their events.

    Raises
    ------
    SettingsError
        If there are fewer than two cells.
    """
    if n_cells < 2:
        msg = f"{n_cells} cells cannot lend each other light; draw at least 2."
        raise SettingsError(msg)
    rng = stream_of(config, seed, "traces")
    bursts_s = network_bursts(rng, config=config)
    modes, burst = neuropil_courses(rng, _N_MODES, config=config, bursts_s=bursts_s)
    cells = [draw_activity(rng, config=config, bursts_s=bursts_s) for _ in range(n_cells)]
    courses = np.stack([cell.delta_f_over_f for cell in cells])
    shapes = courses / np.maximum(courses.max(axis=1, keepdims=True), 1e-6)
    typical = float(np.exp(rng.normal(np.log(8.0), 0.5)))
    largest = np.clip(typical * np.exp(rng.normal(0, 0.55, n_cells)), 2.5, 80)
    silent = rng.random(n_cells) < _SILENT_SHARE
    clean = np.where(silent, 0.0, largest)[:, None] * shapes
    usable = np.ones(config.n_frames, np.bool_)
    for start in rng.integers(0, config.n_frames, rng.integers(0, 4)):
        usable[start : start + rng.integers(1, 3)] = False
    traces = clean + _foreign_light(rng, shapes, modes, burst, 1.3 * typical)
    traces += _slow_changes(rng, traces.shape, config.frame_rate_hz) + _noise(rng, traces.shape)
    time = np.arange(config.n_frames)
    for trace in traces:
        trace[~usable] = np.interp(time[~usable], time[usable], trace[usable])
    events = [
        np.zeros((0, 2)) if is_silent else cell.events_s
        for cell, is_silent in zip(cells, silent, strict=True)
    ]
    rows = np.concatenate(events)
    return SimulatedTraces(
        traces.astype(np.float32),
        clean.astype(np.float32),
        usable,
        config.frame_rate_hz,
        Periods(
            np.repeat(np.arange(n_cells), [len(own) for own in events]).astype(np.int32),
            rows[:, 0],
            rows[:, 1],
        ),
    )


def _foreign_light(
    rng: np.random.Generator, shapes: FloatArray, modes: FloatArray, burst: FloatArray, most: float
) -> FloatArray:
    """What correction left of two other cells, of the neuropil and of its bursts."""
    n = len(shapes)
    light = np.zeros(shapes.shape)
    for _ in range(2):
        other = (np.arange(n) + rng.integers(1, n, n)) % n
        share = most * rng.exponential(0.06, n) * (rng.random(n) < 0.4)
        light += share[:, None] * shapes[other]
    weights = rng.standard_normal((n, len(modes))) * rng.exponential(0.12, (n, 1))
    light += weights @ modes
    if rng.random() < 0.4:
        light += burst * rng.normal(0, 0.3, (n, 1))
    return np.asarray(light, np.float32)


def _slow_changes(
    rng: np.random.Generator, shape: tuple[int, ...], frame_rate_hz: float
) -> FloatArray:
    slow = ndimage.gaussian_filter1d(
        rng.standard_normal(shape), 8 * frame_rate_hz, axis=1, mode="reflect"
    )
    slow /= np.maximum(slow.std(axis=1, keepdims=True), 1e-6)
    return np.asarray(slow * rng.exponential(0.15, (len(slow), 1)), np.float32)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """White, but in one recording of seven smoothed in time, as cameras and codecs may do."""
    noise = rng.standard_normal(shape)
    if rng.random() < 1 / 7:
        noise = ndimage.gaussian_filter1d(noise, rng.uniform(0.3, 0.7), axis=1)
        noise /= noise.std()
    return np.asarray(noise, np.float32)

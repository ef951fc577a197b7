"""Surrogates: time courses that keep some properties of the measured ones and lose the others.

What a method still finds in them it does not owe to what they have lost (Theiler et al. 1992,
"Testing for nonlinearity in time series: the method of surrogate data").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from cocuyo.core import BoolArray, FloatArray, LabelArray, release_pages, stream
from cocuyo.postprocessing.judge import EventJudge
from cocuyo.postprocessing.validation import ValidationConfig, find_events

_MOST_VALUES = 60_000
"""Values of surrogate traces in which false events are sought: 0.2 s of one core, whatever the
length of the recording and the number of its neurons."""
_MOST_REPEATS = 8
_LEAST_FRAMES = 32
"""A trace that rests for less tells nothing of its spectrum."""


def randomise_phases(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Give each row random phases; its mean and its power spectrum stay.

    Noise, its colour and slow fluctuations stay as strong as they were. Transients, which rise
    fast and decay slowly and never go down, become fluctuations up and down.

    Parameters
    ----------
    values : ndarray of float32, shape (n, n_frames)
        Time courses; finite.
    rng : numpy.random.Generator
        Source of the phases, which are independent from row to row.

    Returns
    -------
    ndarray of float32, shape (n, n_frames)
        The surrogates.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(5, 1, (1, 99)).astype(np.float32)
    >>> surrogate = randomise_phases(values, np.random.default_rng(1))
    >>> power = [np.abs(np.fft.rfft(one[0])) for one in (values, surrogate)]
    >>> bool(np.allclose(*power, rtol=1e-3)), bool(np.allclose(values, surrogate))
    (True, False)
    """
    n_frames = values.shape[1]
    spectrum = fft.rfft(values, axis=1)
    # The mean is not turned, nor is the fastest frequency of an even length: both are real.
    turned = spectrum[:, 1 : (n_frames + 1) // 2]
    turned *= np.exp(2j * np.pi * rng.random(turned.shape, np.float32)).astype(spectrum.dtype)
    return np.asarray(fft.irfft(spectrum, n=n_frames, axis=1), np.float32)


def shift_circularly(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Move each row in time by its own random number of frames, around the end.

    Each time course stays as it is, transients included; what rows did at one time they now do at
    different times.

    Parameters
    ----------
    values : ndarray, shape (n, n_frames)
        Time courses.
    rng : numpy.random.Generator
        Source of the shifts.

    Returns
    -------
    ndarray, shape (n, n_frames)
        The surrogates.

    Examples
    --------
    >>> rows = np.tile(np.arange(5, dtype=np.float32), (2, 1))
    >>> shifted = shift_circularly(rows, np.random.default_rng(3))
    >>> bool((np.sort(shifted, axis=1) == rows).all())
    True
    """
    n, n_frames = values.shape
    starts = rng.integers(0, n_frames, size=(n, 1))
    at = (starts + np.arange(n_frames)) % n_frames
    return np.take_along_axis(values, at, axis=1)


@dataclass(frozen=True)
class FalseEvents:
    """Events found where there are none.

    Attributes
    ----------
    n_rois : int
        Traces of which surrogates were made.
    n_resting, n_whole : int
        Events in surrogates of the traces at rest, and of whole traces.
    resting_min, whole_min : float
        Length of these surrogates, in minutes.
    """

    n_rois: int
    n_resting: int
    resting_min: float
    n_whole: int
    whole_min: float

    def record(self) -> dict[str, float | int | None]:
        """Return the figures as plain JSON.

        Returns
        -------
        dict
            The counts, and the rates per minute and ROI; None where nothing was measured.
        """
        return {
            "n_rois": self.n_rois,
            "at_rest_per_min": _rate(self.n_resting, self.resting_min),
            "at_rest_events": self.n_resting,
            "at_rest_min": round(self.resting_min, 3),
            "whole_per_min": _rate(self.n_whole, self.whole_min),
            "whole_events": self.n_whole,
            "whole_min": round(self.whole_min, 3),
        }


def _rate(number: int, minutes: float) -> float | None:
    return round(number / minutes, 4) if minutes > 0 else None


def count_false_events(
    traces: FloatArray,
    raster: BoolArray,
    *,
    rois: LabelArray,
    usable: BoolArray,
    frame_rate_hz: float,
    spans: Sequence[tuple[int, int]],
    seed: int,
    judge: EventJudge | None = None,
    config: ValidationConfig = ValidationConfig(),
) -> FalseEvents:
    """Count the events that are found in phase-randomised traces.

    Twice: in surrogates of what the traces do at rest, outside the events that were found in them
    and the decay after each; and in surrogates of whole traces. At rest there is noise with its
    colour, residual motion and neuropil, and all events in its surrogates are false. The spectrum
    of a whole trace holds its transients, and their power becomes fluctuations as large: for an
    active cell that is a bound, not a rate.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        ΔF/F₀.
    raster : ndarray of bool, shape (n_rois, n_frames)
        When each is active.
    rois : ndarray of int, shape (n,)
        Those to look at, by their rows.
    usable : ndarray of bool, shape (n_frames,)
        Frames that were measured and not interpolated.
    frame_rate_hz : float
        Frames per second.
    spans : sequence of tuple of int
        First and one-past-last frame of each recording.
    seed : int
        Seed of the phases.
    judge : EventJudge, optional
        Judges events; a threshold does if None.
    config : ValidationConfig
        The settings with which the raster was made.

    Returns
    -------
    FalseEvents
        Counts and minutes, of a sample of the traces where there are many or long ones.
    """
    rng = stream(seed, "postprocessing.surrogates")
    n_rois, n_frames = len(rois), traces.shape[1]
    if n_rois == 0 or n_frames == 0:
        return FalseEvents(0, 0, 0.0, 0, 0.0)
    most = max(1, _MOST_VALUES // n_frames)
    chosen = rois[np.unique(np.linspace(0, n_rois - 1, min(n_rois, most)).astype(int))]
    repeats = int(np.clip(_MOST_VALUES // (len(chosen) * n_frames), 1, _MOST_REPEATS))
    before = round(2 * config.fast_s * frame_rate_hz)
    after = round(2 * config.slow_s * frame_rate_hz)

    def count(trace: FloatArray) -> tuple[int, float]:
        if len(trace) < _LEAST_FRAMES:
            return 0, 0.0
        copies = np.tile(trace[:_MOST_VALUES], (repeats, 1))
        found = find_events(
            randomise_phases(copies, rng),
            frame_rate_hz=frame_rate_hz,
            judge=judge,
            config=config,
        )
        return len(found.events), copies.size / frame_rate_hz / 60

    resting, whole = [(0, 0.0)], [(0, 0.0)]
    for roi in chosen.tolist():
        for start, stop in spans:
            trace, active = traces[roi, start:stop], raster[roi, start:stop]
            if np.ptp(trace) == 0:
                continue  # not in view of this recording
            near = np.convolve(active, np.ones(before + after + 1))
            rests = (near[before : before + len(trace)] < 0.5) & usable[start:stop]
            resting.append(count(trace[rests]))
            whole.append(count(trace[usable[start:stop]]))
        release_pages(traces)
    return FalseEvents(
        len(chosen),
        sum(n for n, _ in resting),
        sum(minutes for _, minutes in resting),
        sum(n for n, _ in whole),
        sum(minutes for _, minutes in whole),
    )

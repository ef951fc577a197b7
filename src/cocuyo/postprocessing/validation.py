"""Events in traces: the paper's 1-D difference of Gaussians in units of the trace's own noise.

Either a threshold decides (paper), or a small learned judge looks at each peak: a cell that has
fired ten times is believed a faint eleventh, a faint peak of a cell that never fired is not.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy import ndimage

from cocuyo.core import (
    AnyArray,
    BoolArray,
    Events,
    FloatArray,
    FrozenConfig,
    InvalidTraceError,
    LabelArray,
)
from cocuyo.postprocessing.perceptron import Perceptron

_SPREAD_SHARE = 0.3
"""Share of a DoG signal's own spread that its noise is at least. In white noise the spread is
the noise; in busy cells it is transients. 0.3 to 0.5 give the same event F1 within 0.01 on
simulated recordings of the split `validation`, 1 gives 0.1 less."""

_OTHER_WIDTHS_S = ((0.15, 0.6), (0.4, 2.0), (1.0, 4.0))
_DECAYS_S = (0.4, 1.0, 2.5, 5.0)
_LAGS_S = (-1.2, -0.6, -0.3, 0.3, 0.6, 1.2)
_WINDOWS_S = ((-0.5, -0.2), (-0.1, 0.3), (0.3, 0.9), (0.9, 1.8), (1.8, 3.0), (3.0, 6.0))
_CLEAR_SD = 3.5
_ROIS_AT_ONCE = 64  # described together: the copies of their traces are many
_STRETCH_SHARE = 0.7
"""A peak lower than `active_sd` over this share lasts while the signal is above the share."""
EVENT_FEATURES = (
    "dog",
    *(f"dog_{fast}_{slow}_s" for fast, slow in _OTHER_WIDTHS_S),
    *(f"jump_{decay}_s" for decay in _DECAYS_S),
    *(f"dog_at_{lag}_s" for lag in _LAGS_S),
    *(f"level_{start}_{stop}_s" for start, stop in _WINDOWS_S),
    "since_previous",
    "previous",
    "other_clear_per_min",
    "strong_per_min",
    "largest",
    "typical",
    "over_largest",
    "over_typical",
    "lowest",
    "spread",
    "duration",
)
"""Names of what the judge of events looks at, in order."""


class ValidationConfig(FrozenConfig):
    """Detection of calcium transients in one trace (paper, section 3 and figure 2)."""

    fast_s: float = Field(
        default=0.25,
        gt=0,
        description="Sigma of the narrow Gaussian, in seconds. About the rise of a transient; "
        "larger averages more noise and moves onsets earlier.",
    )
    slow_s: float = Field(
        default=1.0,
        gt=0,
        description="Sigma of the wide Gaussian, in seconds. About a decay time; smaller cuts "
        "long transients short and parts trains better.",
    )
    threshold_sd: float = Field(
        default=3.5,
        gt=0,
        description="Height an event must reach, in standard deviations of the noise of the DoG "
        "signal. Higher misses small events and reports fewer false ones.",
    )
    active_sd: float = Field(
        default=2.5,
        gt=0,
        description="An event lasts while the DoG signal stays above this many standard "
        "deviations; at most `threshold_sd`.",
    )
    min_duration_s: float = Field(
        default=0.2, ge=0, description="Shorter active periods are no events, in seconds."
    )
    proposal_sd: float = Field(
        default=1.75,
        gt=0,
        description="Height of the peaks that the model's judge of events looks at, in standard "
        "deviations of the noise. Where a model has a judge, it replaces `threshold_sd`.",
    )
    min_probability: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Peaks that the judge finds less probable are no events. Higher misses more "
        "small events and reports fewer false ones.",
    )


@dataclass(frozen=True, eq=False)
class Activity:
    """Events of a set of traces and what they were found in.

    Attributes
    ----------
    dog : ndarray of float32, shape (n_rois, n_frames)
        DoG signal in units of its noise.
    threshold : ndarray of float32, shape (n_rois,)
        Height an event must reach, in the units of `dog`.
    raster : ndarray of bool, shape (n_rois, n_frames)
        True from onset to offset of each event.
    events : Events
        The events.
    """

    dog: FloatArray
    threshold: FloatArray
    raster: BoolArray
    events: Events


class EventJudge(Perceptron):
    """Judges peaks of a trace by what `propose_events` says of them.

    Attributes
    ----------
    mean, scale : ndarray of float32, shape (n_features,)
        Standardisation of the features.
    weights, biases : tuple of ndarray of float32
        Layers; ReLU between them, a sigmoid after the last.
    """

    inputs: ClassVar[tuple[str, ...]] = EVENT_FEATURES
    role: ClassVar[str] = "judge of events"


@dataclass(frozen=True, eq=False)
class Proposals:
    """Peaks that may be events.

    Attributes
    ----------
    spans : ndarray of int32, shape (n, 3)
        ROI, first and last active frame of each.
    features : ndarray of float32, shape (n, n_features)
        In the order of `EVENT_FEATURES`.
    """

    spans: LabelArray
    features: FloatArray


def difference_of_gaussians(
    traces: FloatArray, *, frame_rate_hz: float, config: ValidationConfig = ValidationConfig()
) -> FloatArray:
    """Filter traces with a narrow minus a wide Gaussian.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        Traces in any unit; finite.
    frame_rate_hz : float
        Frames per second.
    config : ValidationConfig
        Sigmas of the two Gaussians, in seconds.

    Returns
    -------
    ndarray of float32, shape (n_rois, n_frames)
        The filtered traces in the same unit; constant traces give 0.

    Raises
    ------
    InvalidTraceError
        If a value is not finite.

    Examples
    --------
    >>> flat = np.full((1, 50), 3.0, dtype=np.float32)
    >>> float(np.abs(difference_of_gaussians(flat, frame_rate_hz=5.0)).max()) < 1e-5
    True
    """
    if not np.isfinite(traces).all():
        n_bad = int((~np.isfinite(traces)).sum())
        msg = f"{n_bad} trace values are not finite; interpolate them before event detection."
        raise InvalidTraceError(msg)
    fast = max(config.fast_s * frame_rate_hz, 0.3)
    slow = max(config.slow_s * frame_rate_hz, 2 * fast)
    # "mirror" keeps a transient at the very start or end from being doubled.
    narrow = ndimage.gaussian_filter1d(traces, fast, axis=1, mode="mirror")
    wide = ndimage.gaussian_filter1d(traces, slow, axis=1, mode="mirror")
    return np.asarray(narrow - wide, np.float32)


def noise_of(signal: FloatArray) -> FloatArray:
    """Measure the noise of signals whose excursions are mostly upward.

    Transients raise the upper half of the values, the DoG's undershoot after each of them
    lowers a few; the lower quartile against the median moves least.

    Parameters
    ----------
    signal : ndarray of float32, shape (n_rois, n_frames)
        Signals around 0.

    Returns
    -------
    ndarray of float32, shape (n_rois,)
        Standard deviation of the noise; 0 for constant signals.
    """
    low, middle = np.percentile(signal, [25.0, 50.0], axis=1)
    # 0.6745: quartile of the standard normal distribution.
    return np.asarray((middle - low) / 0.6745, np.float32)


def dog_noise(
    traces: FloatArray,
    dog: FloatArray,
    *,
    frame_rate_hz: float,
    usable: BoolArray | None = None,
    config: ValidationConfig = ValidationConfig(),
) -> FloatArray:
    """Measure the noise of DoG signals, also of cells that are active most of the time.

    What changes from one frame to the next is noise: the trace's second differences give its
    standard deviation, and the filter's gain what is left of it in the DoG signal. Where the
    noise is not white (residual motion, neuropil) that is too little; then the signal's own
    spread (`noise_of`) bounds it from below.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        The traces.
    dog : ndarray of float32, shape (n_rois, n_frames)
        Their DoG signals, from `difference_of_gaussians`.
    frame_rate_hz : float
        Frames per second.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames that were measured; the others are interpolated and have no noise to look at.
    config : ValidationConfig
        The same settings.

    Returns
    -------
    ndarray of float32, shape (n_rois,)
        Standard deviation of the noise in the DoG's unit; 0 for constant traces.
    """
    if dog.size == 0:
        return np.zeros(len(dog), np.float32)
    spread = _SPREAD_SHARE * noise_of(dog)
    if dog.shape[1] < 3:
        return np.asarray(spread, np.float32)
    white = _white_noise(traces, usable) * _filter_norm(frame_rate_hz, config)
    return np.asarray(np.maximum(white, spread), np.float32)


def _filter_norm(frame_rate_hz: float, config: ValidationConfig) -> float:
    """Share of a trace's white noise that is left in its DoG signal."""
    reach = int(np.ceil(8 * max(config.slow_s, config.fast_s) * frame_rate_hz)) + 4
    impulse = np.zeros((1, 2 * reach + 1), np.float32)
    impulse[0, reach] = 1.0
    response = difference_of_gaussians(impulse, frame_rate_hz=frame_rate_hz, config=config)
    return float(np.linalg.norm(response))


def _white_noise(traces: FloatArray, usable: BoolArray | None) -> FloatArray:
    """Standard deviation of what changes from one measured frame to the next, for each trace."""
    second = np.diff(traces, n=2, axis=1)
    if usable is not None:
        second = second[:, usable[2:] & usable[1:-1] & usable[:-2]]
    if second.shape[1] == 0:
        return np.zeros(len(traces), np.float32)
    # 1.4826 makes the median a standard deviation; sqrt 6 is the norm of (1, -2, 1).
    return np.asarray(1.4826 * np.median(np.abs(second), axis=1) / np.sqrt(6.0), np.float32)


def find_events(
    traces: FloatArray,
    *,
    frame_rate_hz: float,
    usable: BoolArray | None = None,
    judge: EventJudge | None = None,
    config: ValidationConfig = ValidationConfig(),
) -> Activity:
    """Find the calcium transients of each trace (paper, section 3, figure 2).

    The trace is filtered by a 1-D difference of Gaussians; an event is a stretch above
    `config.active_sd` that reaches `config.threshold_sd`, in units of the noise of that
    trace's own DoG signal. The paper leaves sigmas and threshold open. With a judge, an event
    is a peak of the same signal that the judge finds probable.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        ΔF/F₀ or corrected fluorescence; finite.
    frame_rate_hz : float
        Frames per second.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames that may reach the threshold; flashes and unplaced frames may not.
    judge : EventJudge, optional
        Decides in place of the threshold.
    config : ValidationConfig
        Sigmas and thresholds.

    Returns
    -------
    Activity
        DoG signal, threshold, raster and events.

    Raises
    ------
    InvalidTraceError
        If a value is not finite.
    """
    n_rois, n_frames = traces.shape
    dog = difference_of_gaussians(traces, frame_rate_hz=frame_rate_hz, config=config)
    noise = dog_noise(traces, dog, frame_rate_hz=frame_rate_hz, usable=usable, config=config)
    # A constant trace has no noise and no events: dividing by 1 leaves its zeros.
    dog = np.asarray(dog / np.where(noise > 0, noise, 1.0)[:, None], np.float32)
    shortest = max(1, round(config.min_duration_s * frame_rate_hz))
    if judge is None:
        spans = _reaching(dog, shortest=shortest, usable=usable, config=config)
        least = config.threshold_sd
    else:
        proposals = propose_events(
            traces, dog, frame_rate_hz=frame_rate_hz, usable=usable, config=config
        )
        lasting = proposals.spans[:, 2] - proposals.spans[:, 1] + 1 >= shortest
        probable = judge.score(proposals.features) >= config.min_probability
        spans = proposals.spans[lasting & probable]
        least = config.proposal_sd
    raster = np.zeros((n_rois, n_frames), np.bool_)
    found: list[tuple[int, int, int, int, float]] = []
    for roi, onset, last in spans.tolist():
        raster[roi, onset : last + 1] = True
        peak = onset + int(np.argmax(traces[roi, onset : last + 1]))
        before = traces[roi, max(0, onset - 1) : onset + 1].min()
        found.append((roi, onset, peak, last, float(traces[roi, peak] - before)))
    if not found:
        events = Events.empty()
    else:
        rois, onsets, peaks, offsets, heights = zip(*found, strict=True)
        events = Events(
            np.asarray(rois, np.int32),
            np.asarray(onsets, np.int32),
            np.asarray(peaks, np.int32),
            np.asarray(offsets, np.int32),
            np.asarray(heights, np.float32),
        )
    threshold = np.full(n_rois, least, np.float32)
    return Activity(dog, threshold, raster, events)


def propose_events(
    traces: FloatArray,
    dog: FloatArray,
    *,
    frame_rate_hz: float,
    usable: BoolArray | None = None,
    config: ValidationConfig = ValidationConfig(),
) -> Proposals:
    """Describe each peak of the DoG signals for the judge of events.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        ΔF/F₀ or corrected fluorescence; finite.
    dog : ndarray of float32, shape (n_rois, n_frames)
        Their DoG signals, in units of their noise.
    frame_rate_hz : float
        Frames per second.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames that may hold a peak.
    config : ValidationConfig
        Height of the peaks.

    Returns
    -------
    Proposals
        The peaks, sorted by ROI and time.
    """
    parts = [
        _propose(
            np.asarray(traces[start : start + _ROIS_AT_ONCE], np.float32),
            dog[start : start + _ROIS_AT_ONCE],
            rate=frame_rate_hz,
            usable=np.ones(traces.shape[1], np.bool_) if usable is None else usable,
            config=config,
        )
        for start in range(0, max(1, len(traces)), _ROIS_AT_ONCE)
    ]
    for i, part in enumerate(parts):
        part.spans[:, 0] += i * _ROIS_AT_ONCE
    return Proposals(
        np.concatenate([part.spans for part in parts]),
        np.concatenate([part.features for part in parts]),
    )


def _propose(
    traces: FloatArray, dog: FloatArray, *, rate: float, usable: BoolArray, config: ValidationConfig
) -> Proposals:
    n_frames = traces.shape[1]
    near = max(1, round(0.4 * rate))
    seen = np.where(usable, dog, -np.inf)
    peaks = (seen >= ndimage.maximum_filter1d(seen, 2 * near + 1, axis=1)) & (
        seen >= config.proposal_sd
    )
    at, spans = _spans(dog, peaks, config.active_sd)
    if len(at) == 0:
        return Proposals(spans, np.zeros((0, len(EVENT_FEATURES)), np.float32))
    roi, peak = spans[:, 0], at
    own = difference_of_gaussians(traces, frame_rate_hz=rate, config=config)
    noise = dog_noise(traces, own, frame_rate_hz=rate, usable=usable, config=config)
    noise = noise / _filter_norm(rate, config)
    scaled = np.asarray(traces / np.where(noise > 0, noise, 1.0)[:, None], np.float32)

    def of_width(fast_s: float, slow_s: float) -> FloatArray:
        other = config.model_copy(update={"fast_s": fast_s, "slow_s": slow_s})
        signal = difference_of_gaussians(traces, frame_rate_hz=rate, config=other)
        noise = dog_noise(traces, signal, frame_rate_hz=rate, usable=usable, config=other)
        return np.asarray(signal / np.where(noise > 0, noise, 1.0)[:, None], np.float32)

    def later(seconds: float) -> LabelArray:
        return np.clip(peak + round(seconds * rate), 0, n_frames - 1).astype(np.int32)

    total = np.cumsum(np.pad(scaled.astype(np.float64), ((0, 0), (1, 0))), axis=1)

    def level(start_s: float, stop_s: float) -> FloatArray:
        start = np.clip(peak + round(start_s * rate), 0, n_frames - 1)
        stop = np.clip(peak + round(stop_s * rate) + 1, start + 1, n_frames)
        return np.asarray((total[roi, stop] - total[roi, start]) / (stop - start), np.float32)

    height = dog[roi, peak]
    columns = [_compress(height)]
    columns += [_compress(of_width(*widths)[roi, peak]) for widths in _OTHER_WIDTHS_S]
    for decay_s in _DECAYS_S:
        jumps = ndimage.maximum_filter1d(_jumps(scaled, rate, decay_s), near + 2, axis=1)
        columns.append(_compress(jumps[roi, np.maximum(peak - near // 2, 0)]))
    columns += [_compress(dog[roi, later(lag)]) for lag in _LAGS_S]
    before = level(-2.0, -0.6)
    columns += [_compress(level(*window) - before) for window in _WINDOWS_S]
    columns += _history(dog, roi, peak, n_seconds=n_frames / rate)
    columns.append(np.log((spans[:, 2] - spans[:, 1] + 1) / rate).astype(np.float32))
    described = np.clip(np.nan_to_num(np.column_stack(columns)), -20, 20)
    return Proposals(spans, described.astype(np.float32))


def _reaching(
    dog: FloatArray, *, shortest: int, usable: BoolArray | None, config: ValidationConfig
) -> LabelArray:
    """ROI, first and last frame of each stretch that reaches the threshold."""
    low = min(config.active_sd, config.threshold_sd)
    spans = []
    for roi, signal in enumerate(dog):
        reached = signal >= config.threshold_sd
        if usable is not None:
            reached &= usable
        for onset, stop in _stretches(signal > low):
            if stop - onset >= shortest and reached[onset:stop].any():
                spans.append((roi, onset, stop - 1))
    return np.array(spans, np.int32).reshape(-1, 3)


def _spans(dog: FloatArray, peaks: BoolArray, active_sd: float) -> tuple[LabelArray, LabelArray]:
    """Peaks that lie in no higher one's stretch, with ROI, first and last frame of their own."""
    at, spans = [], []
    for roi in np.flatnonzero(peaks.any(axis=1)).tolist():
        signal = dog[roi].tolist()
        taken = [False] * len(signal)
        own = np.flatnonzero(peaks[roi])
        for t in own[np.argsort(-dog[roi, own], kind="stable")].tolist():
            if taken[t]:
                continue
            level = min(active_sd, _STRETCH_SHARE * signal[t])
            first = last = t
            while first > 0 and signal[first - 1] > level and not taken[first - 1]:
                first -= 1
            while last + 1 < len(signal) and signal[last + 1] > level and not taken[last + 1]:
                last += 1
            taken[first : last + 1] = [True] * (last + 1 - first)
            at.append(t)
            spans.append((roi, first, last))
    found = np.array(spans, np.int32).reshape(-1, 3)
    order = np.lexsort((found[:, 1], found[:, 0]))
    return np.array(at, np.int32)[order], found[order]


def _jumps(scaled: FloatArray, rate: float, decay_s: float) -> FloatArray:
    """Height of a step with the given decay at each frame, in units of white noise.

    A matched filter, blind to a constant and to what still decays from before.
    """
    before = max(1, int(np.ceil(max(1.5, 1.5 * decay_s) * rate)))
    after = max(2, int(np.ceil(1.5 * decay_s * rate)))
    time_s = np.arange(-before, after + 1) / rate
    step = np.where(time_s >= 0, np.exp(-np.maximum(time_s + 0.5 / rate, 0) / decay_s), 0)
    past = np.column_stack([np.ones(len(time_s)), np.exp(-(time_s - time_s[0]) / decay_s)])
    basis, _ = np.linalg.qr(past)
    kernel = step - basis @ (basis.T @ step)
    kernel /= max(float(np.linalg.norm(kernel)), 1e-9)
    padded = np.pad(scaled, ((0, 0), (before, after)), mode="edge")
    return np.stack([np.correlate(trace, kernel, mode="valid") for trace in padded])


def _history(
    dog: FloatArray, roi: LabelArray, peak: LabelArray, *, n_seconds: float
) -> list[FloatArray]:
    """What the rest of its trace says of each peak."""
    minutes = max(n_seconds / 60, 1e-3)
    columns = np.zeros((10, len(peak)), np.float32)
    for one in np.unique(roi):
        signal, own = dog[one], np.flatnonzero(roi == one)
        height = signal[peak[own]]
        clear = height >= _CLEAR_SD
        largest = _compress(height.max(keepdims=True))
        typical = _compress(np.median(height[clear], keepdims=True) if clear.any() else np.zeros(1))
        # Among those of the other peaks, this one is no evidence for itself.
        others = (clear.sum() - clear) / minutes
        strong = np.where(height >= 3.0, np.arange(len(own)), -1)
        previous = np.concatenate([[-1], np.maximum.accumulate(strong)[:-1]])
        gap = (peak[own] - peak[own][np.maximum(previous, 0)]) * n_seconds / dog.shape[1]
        for row, values in enumerate(
            (
                np.where(previous >= 0, np.log1p(gap), 3.0),
                np.where(previous >= 0, _compress(height[np.maximum(previous, 0)]), 0.0),
                np.log1p(others),
                np.log1p((height >= 5.0).sum() / minutes),
                largest,
                typical,
                _compress(height) - largest,
                _compress(height) - typical,
                np.log1p(max(0.0, -float(signal.min()))),
                np.log(noise_of(signal[None]) + 0.1),
            )
        ):
            columns[row, own] = values
    return list(columns)


def _compress(values: AnyArray) -> FloatArray:
    """Sign and logarithm of the size."""
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)), np.float32)


def _stretches(active: BoolArray) -> list[tuple[int, int]]:
    """First and one-past-last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]

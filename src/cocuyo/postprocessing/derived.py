"""What follows from finished traces: z-scores, denoised traces, deconvolved activity.

All three start from ΔF/F₀ and the events found in it, a few ROIs at a time. Nothing of it decides
about ROIs or events, so it is computed when it is asked for.
"""

import numpy as np

from cocuyo.core import (
    AnyArray,
    BoolArray,
    Events,
    FloatArray,
    InvalidTraceError,
    MissingExtraError,
    median,
)

_LEAST_QUIET = 10
"""Quiet frames that it takes to speak of a level between events."""
_NO_CHANGE = 1e-5
"""Changes below this share of the largest one are rounding: the frame was repeated."""
_USUAL_DECAY_S = 1.0
_DECAYS_S = (0.1, 5.0)
"""Decay where there is no event to learn it from, and the range in which it is believed."""
_AFTER_S = 0.5
"""The decay is looked at until this long after an event's offset."""
_QUIET_SHARE, _ACTIVE_SHARE, _JUMP_SHARE = 0.05, 0.15, 1.0
"""What the signal may do on its own: its variance between events, and that of its changes within
events, in variances of the noise; the variance of its steps as it rises, in squares of the event's
height. On simulated traces of the split `validation` 0.02 to 0.07, 0.02 to 0.5 and 0.25 to 2 give
the same correlation with the truth within 0.007; steps of 0.25 cost 3 % of the height."""


def trace_noise(traces: FloatArray) -> FloatArray:
    """Measure the frame-to-frame noise of traces, also where frames are repeated.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        Traces in any unit; finite.

    Returns
    -------
    ndarray of float32, shape (n_rois,)
        Standard deviation, from the median of the changes that are changes; 0 only for constant
        traces. Where no frame is repeated it is that of `step_noise`.
    """
    noise = np.zeros(len(traces), np.float32)
    for row, steps in enumerate(np.diff(traces, axis=1)):
        size = np.abs(steps)
        changes = steps[size > _NO_CHANGE * size.max(initial=0.0)]
        if len(changes):
            spread = median(np.abs(changes - median(changes)))
            # Changes of one size only have no spread; their size is then all there is to go by.
            noise[row] = 1.4826 * (spread or median(np.abs(changes))) / np.sqrt(2)
    return noise


def quiet_level(
    traces: FloatArray, active: BoolArray, *, usable: BoolArray | None = None
) -> FloatArray:
    """Find the level of traces between their events.

    F₀ is a low percentile of the trace, so that quiet frames lie about half a standard deviation
    of the noise above it; this is where they lie.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        ΔF/F₀; finite.
    active : ndarray of bool, shape (n_rois, n_frames)
        The raster.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames that were measured; all by default.

    Returns
    -------
    ndarray of float32, shape (n_rois,)
        Median of the quiet frames; 0, which is F₀, with fewer than 10 of them.
    """
    quiet = ~np.asarray(active, np.bool_)
    if usable is not None:
        quiet = quiet & usable
    level = np.zeros(len(traces), np.float32)
    for row in np.flatnonzero(quiet.sum(axis=1) >= _LEAST_QUIET):
        level[row] = median(traces[row, quiet[row]])
    return level


def z_score_traces(
    traces: FloatArray, active: BoolArray, *, usable: BoolArray | None = None
) -> FloatArray:
    """Express traces in standard deviations of their own noise, from their own quiet level.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        ΔF/F₀; finite.
    active : ndarray of bool, shape (n_rois, n_frames)
        The raster: these frames do not count for the level.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames that were measured; all by default.

    Returns
    -------
    ndarray of float32, shape (n_rois, n_frames)
        ``(trace - quiet_level) / trace_noise``. 0 everywhere for a constant trace, which has no
        noise to measure by.

    Raises
    ------
    InvalidTraceError
        If a value is not finite.

    Examples
    --------
    >>> trace = np.random.default_rng(1).normal(0.4, 0.02, (1, 500)).astype(np.float32)
    >>> z = z_score_traces(trace, np.zeros(trace.shape, np.bool_))
    >>> round(abs(float(np.median(z))), 2), round(float(z.std()), 1)
    (0.0, 1.0)
    """
    _require_finite(traces)
    changes = traces - quiet_level(traces, active, usable=usable)[:, None]
    noise = trace_noise(traces)
    there = noise > 0
    return np.asarray(
        np.where(there[:, None], changes / np.where(there, noise, 1.0)[:, None], 0.0), np.float32
    )


def denoise_traces(
    traces: FloatArray,
    events: Events,
    *,
    frame_rate_hz: float,
    usable: BoolArray | None = None,
) -> FloatArray:
    r"""Smooth traces by what is known of them: their noise, their events and how these decay.

    A trace is a signal plus white noise of `trace_noise`. The signal decays,
    :math:`x_t = g x_{t-1} + w_t`, with g learnt from the frames after the peaks of the trace's own
    events. How freely it may change, the variance of :math:`w_t`, follows from the events: widely
    from the frame before an onset to the frame after its peak, a little while an event lasts, and
    hardly between events. The estimate is the mean of x given all frames (Kalman filter and
    Rauch-Tung-Striebel smoother), so that it is not delayed.

    Because it knows where events are, it keeps their height and their rise where a filter of one
    width would flatten both. What was not found as an event is taken for noise, and nearly goes.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        ΔF/F₀; finite.
    events : Events
        Their events; `Events.roi` is the row.
    frame_rate_hz : float
        Frames per second.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames that were measured; the others do not count. All by default.

    Returns
    -------
    ndarray of float32, shape (n_rois, n_frames)
        In the unit of the traces and around the same level; a constant trace as it is.

    Raises
    ------
    InvalidTraceError
        If a value is not finite.

    Examples
    --------
    >>> flat = np.full((1, 40), 0.25, np.float32)
    >>> bool(np.allclose(denoise_traces(flat, Events.empty(), frame_rate_hz=10.0), flat))
    True
    """
    _require_finite(traces)
    n_rois, n_frames = traces.shape
    if n_rois == 0 or n_frames == 0:
        return np.asarray(traces, np.float32).copy()
    known = np.ones(n_frames, np.bool_) if usable is None else np.asarray(usable, np.bool_)
    active = _raster_of(events, traces.shape)
    level = quiet_level(traces, active, usable=known)[:, None]
    values = np.asarray(traces - level, np.float64)
    variance = np.asarray(trace_noise(traces), np.float64) ** 2
    noisy = variance > 0
    decay = _decays(values, events, frame_rate_hz)
    at_rest = _QUIET_SHARE * variance * (1 - decay**2)
    freedom = np.where(active, _ACTIVE_SHARE * variance[:, None], at_rest[:, None])
    for roi, onset, peak in zip(events.roi, events.onset, events.peak, strict=True):
        first = max(0, int(onset) - 1)
        height = max(float(values[roi, onset : peak + 1].max() - values[roi, first]), 0.0)
        freedom[roi, first : peak + 2] += _JUMP_SHARE * height**2 + 0.5 * variance[roi]
    smooth = _smooth(values[noisy], decay[noisy], freedom[noisy], variance[noisy], known)
    denoised = np.array(traces, np.float32)
    denoised[noisy] = smooth + level[noisy]
    return denoised


def deconvolve_traces(
    traces: FloatArray,
    events: Events,
    *,
    frame_rate_hz: float,
    usable: BoolArray | None = None,
) -> FloatArray:
    """Infer the activity behind traces with OASIS (Friedrich et al., 2017).

    An autoregressive decay of the first order is undone under an L1 penalty, such that what is left
    over has the variance of the noise. The decay is learnt from the trace's own events, as in
    `denoise_traces`: OASIS's own estimate is drawn at random where it fails. Needs the extra
    ``oasis``.

    Parameters
    ----------
    traces : ndarray of float32, shape (n_rois, n_frames)
        ΔF/F₀; finite.
    events : Events
        Their events; `Events.roi` is the row.
    frame_rate_hz : float
        Frames per second.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames that were measured; the others show no activity. All by default.

    Returns
    -------
    ndarray of float32, shape (n_rois, n_frames)
        At least 0: by how much ΔF/F₀ jumps in each frame, not a number of spikes. 0 for a trace
        that is constant or has fewer than 10 frames.

    Raises
    ------
    MissingExtraError
        If oasis-deconv is not installed.
    InvalidTraceError
        If a value is not finite.
    """
    require_oasis()
    from oasis.functions import deconvolve

    _require_finite(traces)
    activity = np.zeros(traces.shape, np.float32)
    if traces.shape[1] < _LEAST_QUIET:
        return activity
    active = _raster_of(events, traces.shape)
    values = np.asarray(traces - quiet_level(traces, active, usable=usable)[:, None], np.float64)
    decays_s = -1 / (frame_rate_hz * np.log(_decays(values, events, frame_rate_hz)))
    noises = trace_noise(traces)
    for row in np.flatnonzero(noises > 0):
        # In units of its noise: the solver's tolerances are meant for values around 1.
        found = deconvolve(
            values[row] / noises[row],
            sn=1.0,
            penalty=1,
            b_nonneg=False,
            tau_d=float(decays_s[row]),
            framerate=frame_rate_hz,
        )
        activity[row] = np.maximum(np.nan_to_num(found.s), 0.0) * noises[row]
    if usable is not None:
        activity[:, ~np.asarray(usable, np.bool_)] = 0.0
    return activity


def require_oasis() -> None:
    """Say which extra deconvolution needs, where it is missing.

    Raises
    ------
    MissingExtraError
        If oasis-deconv is not installed.
    """
    from importlib.util import find_spec

    if find_spec("oasis") is None:
        msg = 'Deconvolution needs the extra "oasis": pip install "cocuyo[oasis]".'
        raise MissingExtraError(msg)


def _require_finite(traces: FloatArray) -> None:
    if not np.isfinite(traces).all():
        n_bad = int((~np.isfinite(traces)).sum())
        msg = f"{n_bad} trace values are not finite; leave out ROIs without traces."
        raise InvalidTraceError(msg)


def _raster_of(events: Events, shape: tuple[int, ...]) -> BoolArray:
    """True from onset to offset of each event."""
    active = np.zeros(shape, np.bool_)
    for roi, onset, offset in zip(events.roi, events.onset, events.offset, strict=True):
        active[roi, onset : offset + 1] = True
    return active


def _decays(values: AnyArray, events: Events, rate_hz: float) -> AnyArray:
    """Share of the signal that is left after a frame, from what follows the peaks of events.

    Products of values one and two frames apart: white noise is in neither.
    """
    near, far = np.zeros(len(values)), np.zeros(len(values))
    after = round(_AFTER_S * rate_hz)
    for roi, peak, offset in zip(events.roi, events.peak, events.offset, strict=True):
        course = values[roi, peak : offset + 1 + after]
        if len(course) > 3:
            near[roi] += course[1:-1] @ course[:-2]
            far[roi] += course[2:] @ course[:-2]
    usual = np.exp(-1 / (_USUAL_DECAY_S * rate_hz))
    share = np.where(near > 0, far / np.where(near > 0, near, 1.0), usual)
    least, most = (np.exp(-1 / (decay * rate_hz)) for decay in _DECAYS_S)
    return np.asarray(np.clip(share, least, most))


def _smooth(
    values: AnyArray, decay: AnyArray, freedom: AnyArray, noise: AnyArray, known: BoolArray
) -> AnyArray:
    """Kalman filter forward, Rauch-Tung-Striebel smoother backward, for all rows at once."""
    n_rois, n_frames = values.shape
    expected, predicted, filtered, certain = (np.empty((n_frames, n_rois)) for _ in range(4))
    mean, variance = np.zeros(n_rois), noise.copy()
    for t in range(n_frames):
        if t:
            mean = decay * mean
            variance = decay**2 * variance + freedom[:, t]
        expected[t], predicted[t] = mean, variance
        if known[t]:
            gain = variance / (variance + noise)
            mean = mean + gain * (values[:, t] - mean)
            variance = (1 - gain) * variance
        filtered[t], certain[t] = mean, variance
    for t in range(n_frames - 2, -1, -1):
        back = certain[t] * decay / predicted[t + 1]
        filtered[t] += back * (filtered[t + 1] - expected[t + 1])
    return filtered.T

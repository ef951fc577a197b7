"""z-scores, denoised traces and deconvolved activity, against what is known of the traces."""

import sys

import numpy as np
import pytest
from scipy import ndimage

from cocuyo.core import Events, InvalidTraceError, MissingExtraError
from cocuyo.pipeline import load_model
from cocuyo.postprocessing import (
    deconvolve_traces,
    denoise_traces,
    find_events,
    quiet_level,
    running_baseline,
    step_noise,
    trace_noise,
    z_score_traces,
)
from cocuyo.simulation import broad_training_config, simulate_traces, training_config

RATE_HZ = 8.0


def noisy(n_frames=600, *, sd=0.02, level=0.01, seed=0):
    return np.random.default_rng(seed).normal(level, sd, (1, n_frames)).astype(np.float32)


def with_events(onsets=(100, 250, 400), *, height=0.3, n_frames=600, sd=0.02):
    """Traces with the events in them, their true course, and the events."""
    course = np.zeros((1, n_frames), np.float32)
    for onset in onsets:
        t = np.arange(n_frames - onset)
        course[0, onset:] += height * np.minimum(1, (t + 1) / 2) * np.exp(-t / RATE_HZ)
    first = np.array(onsets, np.int32)
    events = Events(
        np.zeros(len(first), np.int32),
        first,
        first + 1,
        first + 12,
        np.full(len(first), height, np.float32),
    )
    return course + noisy(n_frames, sd=sd, level=0.0), course, events


def active_in(events, n_frames=600):
    raster = np.zeros((1, n_frames), np.bool_)
    for onset, offset in zip(events.onset, events.offset, strict=True):
        raster[0, onset : offset + 1] = True
    return raster


# --- Noise and z-scores --------------------------------------------------------------------------


def test_the_noise_is_that_of_the_steps_and_the_same_with_every_frame_repeated():
    traces = noisy(900)
    assert trace_noise(traces)[0] == pytest.approx(step_noise(traces)[0], rel=1e-5)
    assert trace_noise(traces)[0] == pytest.approx(0.02, rel=0.1)
    twice = np.repeat(traces, 2, axis=1)
    assert step_noise(twice)[0] < 0.01  # half of the steps are none
    assert trace_noise(twice)[0] == pytest.approx(0.02, rel=0.1)


def test_quiet_frames_have_a_z_score_of_0_and_a_deviation_of_1_and_events_their_height_in_sd():
    traces, _, events = with_events()
    active = active_in(events)
    z = z_score_traces(traces + 0.01, active)
    assert np.median(z[~active]) == pytest.approx(0, abs=1e-4)
    far = ~ndimage.binary_dilation(active, iterations=25)
    assert z[far].std() == pytest.approx(1.0, rel=0.1)
    assert z[0, events.peak].mean() == pytest.approx(0.3 * 0.88 / 0.02, rel=0.15)


def test_the_unit_and_the_level_of_a_trace_do_not_change_its_z_score():
    traces, _, events = with_events()
    active = active_in(events)
    z = z_score_traces(traces, active)
    np.testing.assert_allclose(z_score_traces(7 * traces + 3, active), z, atol=2e-3)


def test_a_constant_trace_has_a_z_score_of_0_and_stays_as_it_is_denoised():
    flat = np.full((2, 50), 0.4, np.float32)
    none = np.zeros(flat.shape, np.bool_)
    assert not z_score_traces(flat, none).any()
    assert np.array_equal(denoise_traces(flat, Events.empty(), frame_rate_hz=RATE_HZ), flat)


def test_a_trace_that_is_always_active_has_its_level_at_f0():
    traces = noisy()
    assert quiet_level(traces, np.ones(traces.shape, np.bool_))[0] == 0
    usable = np.zeros(traces.shape[1], np.bool_)
    assert quiet_level(traces, np.zeros(traces.shape, np.bool_), usable=usable)[0] == 0


@pytest.mark.parametrize("n_frames", [0, 1, 2, 30])
def test_short_traces_and_none_at_all_are_no_trouble(n_frames):
    traces = noisy(n_frames)
    none = np.zeros(traces.shape, np.bool_)
    for values in (
        z_score_traces(traces, none),
        denoise_traces(traces, Events.empty(), frame_rate_hz=RATE_HZ),
        denoise_traces(traces[:0], Events.empty(), frame_rate_hz=RATE_HZ),
    ):
        assert np.isfinite(values).all()
        assert values.shape[1] == n_frames


def test_traces_that_are_not_finite_are_refused():
    traces = noisy()
    traces[0, 5] = np.nan
    with pytest.raises(InvalidTraceError, match="1 trace values are not finite"):
        z_score_traces(traces, np.zeros(traces.shape, np.bool_))
    with pytest.raises(InvalidTraceError):
        denoise_traces(traces, Events.empty(), frame_rate_hz=RATE_HZ)


# --- Denoised ------------------------------------------------------------------------------------


def test_noise_between_events_goes_and_their_height_and_rise_stay():
    traces, course, events = with_events(height=0.2, sd=0.03)
    smooth = denoise_traces(traces, events, frame_rate_hz=RATE_HZ)
    quiet = ~active_in(events)
    left = np.std((smooth - course)[quiet])
    assert left < 0.3 * np.std((traces - course)[quiet])
    for onset, peak in zip(events.onset, events.peak, strict=True):
        rise = smooth[0, peak] - smooth[0, onset - 2]
        assert rise == pytest.approx(course[0, peak], rel=0.25)


def test_frames_that_do_not_count_have_no_influence():
    traces, _, events = with_events()
    usable = np.ones(600, np.bool_)
    usable[[40, 41, 300]] = False
    spoilt = np.where(usable, traces, 9.0).astype(np.float32)
    kept = denoise_traces(traces, events, frame_rate_hz=RATE_HZ, usable=usable)
    # The noise is measured on all steps; a few more large ones move its median a little.
    np.testing.assert_allclose(
        denoise_traces(spoilt, events, frame_rate_hz=RATE_HZ, usable=usable), kept, atol=2e-3
    )


def test_the_smoother_is_the_mean_of_the_signal_given_all_frames():
    """Against the solution of the normal equations of the same model, by a dense solver."""
    from cocuyo.postprocessing.derived import _smooth

    rng = np.random.default_rng(3)
    n, decay, noise = 40, 0.8, 0.7
    freedom = rng.uniform(0.05, 2.0, n)
    y = rng.standard_normal(n)
    known = np.ones(n, np.bool_)
    known[[7, 8]] = False
    # Prior precision of x: x_0 has variance `noise`, x_t - decay x_{t-1} has `freedom[t]`.
    change = np.eye(n) - decay * np.eye(n, k=-1)
    prior = change.T @ np.diag(1 / np.concatenate([[noise], freedom[1:]])) @ change
    expected = np.linalg.solve(prior + np.diag(known / noise), known * y / noise)
    found = _smooth(y[None], np.array([decay]), freedom[None], np.array([noise]), known)
    np.testing.assert_allclose(found[0], expected, atol=1e-10)


def test_denoised_traces_are_nearer_to_the_truth_than_raw_ones_without_losing_height():
    """On simulated traces with the events that the default model finds in them."""
    model = load_model("default")
    of_raw, of_smooth, heights, of_trace = [], [], [], []
    for seed in range(947_500, 947_506):
        draw = training_config if seed % 2 else broad_training_config
        made = simulate_traces(draw(seed, split="test", n_frames=600), seed=seed, n_cells=16)
        rate = made.frame_rate_hz
        traces = made.traces - running_baseline(made.traces, frame_rate_hz=rate)
        found = find_events(
            traces, frame_rate_hz=rate, judge=model.judge, config=model.settings.pipeline.validation
        )
        smooth = denoise_traces(traces, found.events, frame_rate_hz=rate)
        level = quiet_level(traces, found.raster)
        for row, clean in enumerate(made.clean):
            if clean.max() <= 0:
                continue
            of_raw.append(np.corrcoef(traces[row], clean)[0, 1])
            of_smooth.append(np.corrcoef(smooth[row], clean)[0, 1])
            top = clean == ndimage.maximum_filter1d(clean, 2 * round(rate) + 1)
            seen = top & (clean > 5) & found.raster[row]
            heights += ((smooth[row] - level[row])[seen] / clean[seen]).tolist()
            of_trace += ((traces[row] - level[row])[seen] / clean[seen]).tolist()
    assert np.median(of_smooth) >= np.median(of_raw) + 0.1
    assert np.mean(np.array(of_smooth) >= np.array(of_raw) - 0.005) >= 0.9
    assert len(heights) > 100
    # What is missing of the height is missing in the trace: its baseline took it.
    assert np.median(heights) == pytest.approx(np.median(of_trace), abs=0.03)
    assert np.median(heights) == pytest.approx(1.0, abs=0.06)


# --- Deconvolved ---------------------------------------------------------------------------------


def test_deconvolved_activity_lies_at_the_onsets_and_is_never_negative():
    traces, _, events = with_events()
    activity = deconvolve_traces(traces, events, frame_rate_hz=RATE_HZ)
    assert activity.shape == traces.shape
    assert (activity >= 0).all()
    near = np.zeros(600, np.bool_)
    for onset in events.onset:
        near[onset - 1 : onset + 3] = True
    assert activity[0, near].sum() > 0.8 * activity.sum() > 0
    assert activity[0, near].sum() == pytest.approx(0.9, rel=0.3)  # three jumps of 0.3


def test_deconvolution_gives_the_same_each_time():
    traces = noisy(120, seed=4)  # OASIS's own estimate of a decay fails here, and is random
    first, second = (
        deconvolve_traces(traces, Events.empty(), frame_rate_hz=RATE_HZ) for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_nothing_is_inferred_where_there_is_nothing():
    flat = np.full((1, 60), 0.2, np.float32)
    assert not deconvolve_traces(flat, Events.empty(), frame_rate_hz=RATE_HZ).any()
    short = noisy(5)
    assert not deconvolve_traces(short, Events.empty(), frame_rate_hz=RATE_HZ).any()


def test_without_oasis_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "oasis", None)
    with pytest.raises(MissingExtraError, match=r'pip install "cocuyo\[oasis\]"'):
        deconvolve_traces(noisy(), Events.empty(), frame_rate_hz=RATE_HZ)

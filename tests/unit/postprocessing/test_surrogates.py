"""Surrogate time courses, and the false events found in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocuyo.postprocessing import count_false_events, randomise_phases, shift_circularly

RATE_HZ = 7.0


def courses(seed, n=3, n_frames=64):
    return np.random.default_rng(seed).normal(50, 4, (n, n_frames)).astype(np.float32)


@given(st.integers(0, 1000), st.integers(2, 90))
def test_random_phases_keep_mean_and_spectrum_and_nothing_else(seed, n_frames):
    values = courses(seed, n_frames=n_frames)
    changed = randomise_phases(values, np.random.default_rng(seed))
    assert changed.shape == values.shape
    power, kept = (np.abs(np.fft.rfft(one, axis=1)) for one in (values, changed))
    np.testing.assert_allclose(kept, power, rtol=1e-3, atol=1e-2)
    if n_frames > 4:
        assert not np.allclose(changed, values)


@given(st.integers(0, 1000), st.integers(1, 40))
def test_a_shifted_course_is_the_same_one_turned(seed, n_frames):
    values = courses(seed, n_frames=n_frames)
    shifted = shift_circularly(values, np.random.default_rng(seed))
    for one, other in zip(values, shifted, strict=True):
        assert any(np.array_equal(np.roll(one, -k), other) for k in range(n_frames))


def test_rows_are_changed_independently():
    values = np.tile(courses(1, n=1), (2, 1))
    for change in (randomise_phases, shift_circularly):
        first, second = change(values, np.random.default_rng(2))
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.5


def transients(n_rois=6, n_frames=1400, *, events=8, seed=0):
    """Noise with transients of 10 sd, and the raster of them."""
    rng = np.random.default_rng(seed)
    traces = rng.normal(0, 0.1, (n_rois, n_frames))
    raster = np.zeros((n_rois, n_frames), np.bool_)
    decay = np.exp(-np.arange(40) / RATE_HZ)
    for roi in range(n_rois):
        for start in rng.choice(np.arange(20, n_frames - 60, 60), events, replace=False):
            traces[roi, start : start + 40] += decay
            raster[roi, start : start + 12] = True
    return traces.astype(np.float32), raster


def counted(traces, raster, **changes):
    n_frames = traces.shape[1]
    how = {"usable": np.ones(n_frames, np.bool_), "spans": [(0, n_frames)], "seed": 0}
    rois = np.arange(len(traces), dtype=np.int32)
    return count_false_events(traces, raster, rois=rois, frame_rate_hz=RATE_HZ, **(how | changes))


def test_traces_at_rest_hold_few_false_events_and_whole_ones_those_of_their_transients():
    found = counted(*transients(events=14))
    record = found.record()
    assert found.n_rois == 6
    assert found.resting_min > 10
    assert record["at_rest_per_min"] < 0.3
    assert record["whole_per_min"] > 10 * record["at_rest_per_min"] + 1


def test_an_event_that_the_raster_lacks_counts_as_noise():
    traces, raster = transients()
    assert counted(traces, np.zeros_like(raster)).n_resting > counted(traces, raster).n_resting


def test_frames_that_were_not_measured_are_left_out():
    traces, raster = transients(n_rois=1)
    usable = np.ones(traces.shape[1], np.bool_)
    usable[::2] = False
    whole = counted(traces, raster)
    half = counted(traces, raster, usable=usable)
    assert half.whole_min == pytest.approx(whole.whole_min / 2)
    assert half.resting_min < 0.6 * whole.resting_min


def test_the_recordings_of_an_experiment_are_looked_at_one_by_one():
    traces, raster = transients(n_rois=2, n_frames=1400)
    traces[:, 700:] += 30.0  # another level: a jump, if they were taken as one
    apart = counted(traces, raster, spans=[(0, 700), (700, 1400)])
    assert apart.record()["at_rest_per_min"] < 0.3


def test_many_and_long_traces_are_sampled_and_none_give_nothing():
    traces, raster = transients(n_rois=50, n_frames=3000)
    found = counted(traces, raster)
    assert found.n_rois < 50
    assert found.whole_min <= 60_000 / RATE_HZ / 60
    assert counted(traces[:0], raster[:0]).record()["at_rest_per_min"] is None


def test_an_roi_out_of_view_is_left_out():
    traces, raster = transients(n_rois=1)
    found = counted(np.zeros_like(traces), np.zeros_like(raster))
    assert found.whole_min == 0


def test_the_seed_decides():
    assert counted(*transients()) == counted(*transients())
    assert counted(*transients()) != counted(*transients(), seed=1)

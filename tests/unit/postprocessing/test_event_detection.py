"""Events: the paper's difference of Gaussians on each trace, thresholded by its own noise."""

import numpy as np
import pytest
from fake_judge import rise_judge, still_judge
from flashing_movie import transients
from scipy import ndimage

from cocuyo.core import InvalidTraceError
from cocuyo.postprocessing import (
    ValidationConfig,
    difference_of_gaussians,
    dog_noise,
    find_events,
    interpolate_frames,
    noise_of,
    scale_traces,
)

RATE_HZ = 8.0
N_FRAMES = 480


def white(n_rois, *, n_frames=N_FRAMES, seed=0):
    return np.random.default_rng(seed).standard_normal((n_rois, n_frames)).astype(np.float32)


def planted(onsets, *, snr, n_rois=1, seed=0, decay_s=1.0):
    """White noise of standard deviation 1 with transients whose first frame is `snr` high."""
    return (white(n_rois, seed=seed) + snr * transients(N_FRAMES, onsets, decay_s=decay_s)).astype(
        np.float32
    )


def find(traces, rate_hz=RATE_HZ, usable=None, **settings):
    traces = np.asarray(traces, np.float32)
    traces.flags.writeable = False
    return find_events(
        traces, frame_rate_hz=rate_hz, usable=usable, config=ValidationConfig(**settings)
    )


def naive_gaussian(trace, sigma):
    """Convolution by the definition, with the trace mirrored at its ends."""
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    mirrored = np.pad(trace.astype(float), reach, mode="reflect")
    return np.convolve(mirrored, kernel / kernel.sum(), mode="valid")


@pytest.mark.parametrize("rate_hz", [0.5, 4.0, 20.0])
def test_the_filter_is_a_narrow_minus_a_wide_gaussian(rate_hz):
    trace = planted((50, 200), snr=8)[0]
    config = ValidationConfig(fast_s=0.3, slow_s=1.8)
    fast = max(0.3 * rate_hz, 0.3)
    reference = naive_gaussian(trace, fast) - naive_gaussian(trace, max(1.8 * rate_hz, 2 * fast))
    found = difference_of_gaussians(trace[None], frame_rate_hz=rate_hz, config=config)[0]
    np.testing.assert_allclose(found, reference, atol=1e-5)


def test_the_filter_refuses_values_that_are_not_finite_and_counts_them():
    traces = white(2)
    traces[0, 3] = np.nan
    traces[1, 9] = -np.inf
    with pytest.raises(InvalidTraceError, match="2 trace values"):
        difference_of_gaussians(traces, frame_rate_hz=RATE_HZ)


def test_the_noise_is_the_standard_deviation_of_normal_values():
    found = noise_of(3 * white(4, n_frames=20000))
    np.testing.assert_allclose(found, 3, rtol=0.05)


@pytest.mark.parametrize("rate_hz", [1.0, 8.0, 30.0])
def test_the_noise_of_a_filtered_white_trace_is_its_standard_deviation(rate_hz):
    traces = white(40)
    dog = difference_of_gaussians(traces, frame_rate_hz=rate_hz)
    noise = dog_noise(traces, dog, frame_rate_hz=rate_hz)
    assert noise.mean() == pytest.approx(dog.std(axis=1).mean(), rel=0.12)


def test_a_cell_that_is_always_active_has_hardly_more_noise_than_a_silent_one():
    quiet, busy = planted((), snr=0, n_rois=20), planted(range(20, 460, 12), snr=5, n_rois=20)
    noise = [
        dog_noise(
            traces, difference_of_gaussians(traces, frame_rate_hz=RATE_HZ), frame_rate_hz=RATE_HZ
        ).mean()
        for traces in (quiet, busy)
    ]
    assert noise[0] < noise[1] < 1.5 * noise[0]


def test_interpolated_frames_do_not_lower_the_noise():
    traces = white(20)
    usable = np.ones(N_FRAMES, np.bool_)
    for start in range(20, 460, 20):
        usable[start : start + 12] = False
    filled = interpolate_frames(traces, usable)
    dog = difference_of_gaussians(filled, frame_rate_hz=RATE_HZ)
    blind = dog_noise(filled, dog, frame_rate_hz=RATE_HZ)
    told = dog_noise(filled, dog, frame_rate_hz=RATE_HZ, usable=usable)
    measured = difference_of_gaussians(traces, frame_rate_hz=RATE_HZ).std(axis=1)
    assert told.mean() == pytest.approx(measured.mean(), rel=0.15)
    assert blind.mean() == pytest.approx(measured.mean(), rel=0.25)


@pytest.mark.parametrize("sigma_frames", [2, 6])
def test_noise_that_is_not_white_is_most_of_what_shows(sigma_frames):
    slow = ndimage.gaussian_filter1d(white(8, n_frames=4000), sigma_frames, axis=1)
    dog = difference_of_gaussians(slow, frame_rate_hz=RATE_HZ)
    noise = dog_noise(slow, dog, frame_rate_hz=RATE_HZ)
    assert 0.65 * dog.std() < noise.mean() < dog.std()
    few = find_events(slow, frame_rate_hz=RATE_HZ).events
    assert len(few) < 100  # in an hour; with the noise of second differences above 400


@pytest.mark.parametrize("times", [2, 3, 4])
def test_repeated_frames_do_not_make_events_of_noise(times):
    traces = np.repeat(white(8, n_frames=3000 // times), times, axis=1)
    dog = difference_of_gaussians(traces, frame_rate_hz=RATE_HZ)
    noise = dog_noise(traces, dog, frame_rate_hz=RATE_HZ)
    assert 0.65 * dog.std() < noise.mean() < 1.1 * dog.std()
    assert (
        len(find(traces).events) < 100
    )  # in 50 minutes; with that of second differences above 400


@pytest.mark.parametrize("level", [1.0, 3.0, 5.0])
def test_traces_of_few_levels_have_the_noise_of_a_level(level):
    """Five levels of noise: no more than one value in a hundred is on another level."""
    traces = level * np.round(white(8, n_frames=3000) / level)
    events = find(traces).events
    assert len(events) < 20


def test_transients_in_traces_of_few_levels_are_found():
    traces = 3.0 * np.round(planted((60, 160, 260, 360), snr=12, n_rois=6) / 3.0)
    assert len(find(traces).events) == 24


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_the_noise_of_very_short_traces_is_finite(n_frames):
    traces = white(3, n_frames=n_frames)
    dog = difference_of_gaussians(traces, frame_rate_hz=RATE_HZ)
    assert np.isfinite(dog_noise(traces, dog, frame_rate_hz=RATE_HZ)).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1234.567])
def test_a_constant_trace_has_no_event(value):
    found = find(np.full((2, 200), value))
    assert len(found.events) == 0
    assert not found.raster.any()
    assert np.abs(found.dog).max() < 1e-3


def test_slow_drift_is_no_event():
    assert len(find(planted((), snr=0) + np.linspace(0, 20, N_FRAMES)).events) == 0


def test_transients_of_six_noise_sd_are_all_found_at_their_frame():
    onsets = (40, 130, 215, 300, 400)
    traces = planted(onsets, snr=6, n_rois=20)
    events = find(traces).events
    assert len(events) >= 100
    for roi in range(20):
        starts, peaks = events.onset[events.roi == roi], events.peak[events.roi == roi]
        for onset in onsets:
            assert np.abs(starts - onset).min() <= 4  # half a second
            assert np.abs(peaks - onset).min() <= 8  # noise on the decay may be higher


def test_white_noise_has_less_than_one_event_in_four_minutes():
    # Measured: 0.05 to 0.08 at 8 Hz with the default 3.5 standard deviations.
    traces = white(60)
    n_minutes = traces.size / RATE_HZ / 60
    assert len(find(traces).events) < 0.25 * n_minutes


def test_at_five_standard_deviations_white_noise_has_almost_no_event():
    assert len(find(white(60), threshold_sd=5.0).events) <= 2


def test_the_amplitude_is_the_height_above_the_onset():
    trace = 0.3 * transients(N_FRAMES, (100, 300)) + 0.001 * white(1)[0]
    found = find(trace[None])
    np.testing.assert_allclose(found.events.amplitude, 0.3, rtol=0.05)
    assert found.events.peak.tolist() == [100, 300]


def test_an_event_at_the_very_start_or_end_is_found():
    found = find(planted((0, N_FRAMES - 6), snr=15)).events
    assert 0 in found.onset
    assert N_FRAMES - 1 in found.offset


def test_unusable_frames_alone_make_no_event():
    traces = planted((200,), snr=0)
    traces[0, 200:204] = 60
    usable = np.ones(N_FRAMES, np.bool_)
    usable[196:208] = False
    assert np.abs(find(traces).events.peak - 201).min() <= 3
    around = find(traces, usable=usable).raster[0, 190:215]
    assert not around.any()


def test_without_a_usable_frame_there_is_no_event():
    found = find(planted((100,), snr=20), usable=np.zeros(N_FRAMES, np.bool_))
    assert len(found.events) == 0


def test_shorter_than_the_least_duration_is_no_event():
    traces = planted((100,), snr=12, decay_s=0.15)
    lengths = [e - s + 1 for s, e in zip(*_spans(find(traces, min_duration_s=0.0)), strict=True)]
    longest = max(lengths) / RATE_HZ
    assert len(find(traces, min_duration_s=longest).events) == 1
    assert len(find(traces, min_duration_s=longest + 0.2).events) == 0


def test_events_are_sorted_by_roi_then_onset():
    events = find(planted((60, 200, 400), snr=9, n_rois=4)).events
    keys = list(zip(events.roi.tolist(), events.onset.tolist(), strict=True))
    assert keys == sorted(keys)


def test_the_raster_is_exactly_the_union_of_the_events():
    found = find(planted((60, 200, 400), snr=7, n_rois=8))
    union = np.zeros_like(found.raster)
    for roi, onset, offset in zip(
        found.events.roi, found.events.onset, found.events.offset, strict=True
    ):
        assert not union[roi, onset : offset + 1].any()
        union[roi, onset : offset + 1] = True
    np.testing.assert_array_equal(found.raster, union)


def test_the_signal_is_in_units_of_its_noise():
    traces = planted((60, 200), snr=8, n_rois=3)
    dog = difference_of_gaussians(traces, frame_rate_hz=RATE_HZ)
    noise = dog_noise(traces, dog, frame_rate_hz=RATE_HZ)
    np.testing.assert_allclose(find(traces).dog, dog / noise[:, None], rtol=1e-5)


def test_an_active_level_above_the_threshold_is_the_threshold():
    traces = planted((60, 200), snr=8, n_rois=3)
    high, equal = find(traces, active_sd=9.0), find(traces, active_sd=3.5)
    np.testing.assert_array_equal(high.raster, equal.raster)


def test_the_threshold_of_each_roi_is_returned():
    assert find(white(3), threshold_sd=4.25).threshold.tolist() == [4.25] * 3


def test_no_trace_has_no_event():
    found = find(np.zeros((0, 30)))
    assert found.raster.shape == found.dog.shape == (0, 30)
    assert len(found.events) == 0


@pytest.mark.parametrize("n_frames", [2, 3, 9])
def test_very_short_traces_can_be_searched(n_frames):
    assert np.isfinite(find(white(2, n_frames=n_frames)).dog).all()


def _spans(found):
    return found.events.onset.tolist(), found.events.offset.tolist()


def judged(traces, judge, usable=None, rate_hz=RATE_HZ, **settings):
    traces = np.asarray(traces, np.float32)
    traces.flags.writeable = False
    return find_events(
        traces,
        frame_rate_hz=rate_hz,
        usable=usable,
        judge=judge,
        config=ValidationConfig(**settings),
    )


def step_judge():
    """Believes sudden rises to about 8 standard deviations and more."""
    return rise_judge(above=1.7)


@pytest.mark.parametrize("unit", [0.01, 1.0, 300.0])
def test_traces_are_scaled_to_their_noise(unit):
    scaled = scale_traces(unit * white(4), frame_rate_hz=RATE_HZ)
    np.testing.assert_allclose(scaled.std(axis=1), np.ones(4), rtol=0.12)


def test_a_constant_trace_is_scaled_to_zero():
    assert not scale_traces(np.full((1, 50), 3, np.float32), frame_rate_hz=RATE_HZ).any()


def test_the_judge_decides_in_place_of_the_threshold():
    traces = planted((60, 200, 320), snr=20, n_rois=3)
    assert len(find(traces).events) >= 9
    assert len(judged(traces, still_judge()).events) == 0
    found = judged(traces, step_judge())
    assert found.events.onset.tolist() == pytest.approx(3 * [60, 200, 320], abs=1)


def test_a_judged_event_lasts_while_the_signal_does():
    traces = planted((200,), snr=20)
    found, plain = judged(traces, step_judge()), find(traces)
    onset, peak, offset = (
        int(x[0]) for x in (found.events.onset, found.events.peak, found.events.offset)
    )
    assert onset <= peak <= offset
    assert peak == pytest.approx(200, abs=2)
    assert offset == int(plain.events.offset[0])
    np.testing.assert_array_equal(np.flatnonzero(found.raster[0]), np.arange(onset, offset + 1))


def test_the_threshold_stays_that_of_clear_events():
    assert judged(planted((200,), snr=20), step_judge()).threshold[0] == pytest.approx(3.5)


class Told:
    """A judge that was told where events begin."""

    def __init__(self, *onsets):
        self.onsets = list(onsets)

    def probability(self, scaled, usable, *, frame_rate_hz):
        probability = np.zeros(scaled.shape, np.float32)
        probability[:, self.onsets] = 1
        return probability


@pytest.mark.parametrize("gap", [6, 8])
def test_of_two_judged_events_the_first_ends_half_a_second_before_the_second(gap):
    found = judged(planted((200, 200 + gap), snr=40), Told(200, 200 + gap))
    assert found.events.onset.tolist() == [200, 200 + gap]
    silence = (int(found.events.onset[1]) - int(found.events.offset[0])) / RATE_HZ
    assert 0.5 < silence < 0.7


def test_a_judged_event_lasts_through_a_slow_rise():
    time = np.arange(N_FRAMES)
    ramp = np.clip((time - 200) / 24, 0, 1) * np.exp(-np.clip(time - 224, 0, None) / 40)
    found = judged(white(1) + 60 * ramp, Told(200))  # three seconds until the peak
    assert int(found.events.peak[0]) == pytest.approx(224, abs=3)
    assert float(found.events.amplitude[0]) == pytest.approx(60, rel=0.1)


def test_a_judged_event_before_the_next_one_in_a_falling_trace_is_none():
    falling = 40 * np.exp(-np.arange(N_FRAMES) / 30)
    found = judged(white(1) * 0.001 + falling, Told(200, 206))
    assert 200 not in found.events.onset.tolist()
    assert not found.raster[0, 200:206].any()


def test_a_judged_event_at_the_very_end_ends_with_the_recording():
    found = judged(planted((N_FRAMES - 2,), snr=40), step_judge())
    assert found.events.offset.tolist() == [N_FRAMES - 1]


def test_a_judged_event_lasts_at_least_the_shortest_duration():
    blip = white(1)
    blip[0, 200] += 30
    found = judged(blip, step_judge(), min_duration_s=1.0)
    at = int(np.argmin(np.abs(found.events.onset - 200)))
    assert found.events.offset[at] - found.events.onset[at] + 1 >= 8


def test_nothing_begins_in_a_frame_that_was_not_measured():
    traces = planted((200,), snr=20)
    usable = np.ones(N_FRAMES, bool)
    usable[195:206] = False
    assert len(judged(traces, step_judge(), usable=usable).events) == 0


@pytest.mark.parametrize("n_frames", [1, 2, 3, 10])
def test_very_short_or_constant_traces_have_nothing_to_judge(n_frames):
    always = still_judge(onset_bias=5.0)
    assert len(judged(np.ones((2, n_frames)), always).events) == 0


def test_the_judge_has_nothing_to_do_without_traces():
    assert len(judged(np.zeros((0, 40)), step_judge()).events) == 0


@pytest.mark.parametrize("rate_hz", [0.5, 1.0])
def test_recordings_slower_than_the_judge_learnt_from_go_by_the_threshold(rate_hz):
    noise = np.random.default_rng(0).normal(size=(10, 300)).astype(np.float32)
    judged = find_events(noise, frame_rate_hz=rate_hz, judge=still_judge(onset_bias=0.0))
    plain = find_events(noise, frame_rate_hz=rate_hz)
    np.testing.assert_array_equal(judged.raster, plain.raster)
    assert judged.raster.mean() < 0.01

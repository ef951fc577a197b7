"""Events: the paper's difference of Gaussians on each trace, thresholded by its own noise."""

import numpy as np
import pytest
from flashing_movie import transients
from scipy import ndimage

from cocuyo.core import InvalidTraceError
from cocuyo.postprocessing import (
    EVENT_FEATURES,
    EventJudge,
    ValidationConfig,
    difference_of_gaussians,
    dog_noise,
    find_events,
    interpolate_frames,
    noise_of,
    propose_events,
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
    assert blind.mean() < 0.7 * told.mean()


def test_noise_that_is_not_white_is_bounded_by_the_spread_of_the_signal():
    slow = ndimage.gaussian_filter1d(white(4, n_frames=4000), 6, axis=1)
    dog = difference_of_gaussians(slow, frame_rate_hz=RATE_HZ)
    noise = dog_noise(slow, dog, frame_rate_hz=RATE_HZ)
    np.testing.assert_allclose(noise, 0.3 * noise_of(dog), rtol=1e-5)


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


def judge(feature="dog", *, above=3.0):
    """A judge that believes peaks whose one (compressed) figure is above a value."""
    n = len(EVENT_FEATURES)
    weight = np.zeros((1, n), np.float32)
    weight[0, EVENT_FEATURES.index(feature)] = 50
    bias = np.array([-50 * np.log1p(above)], np.float32)
    return EventJudge(np.zeros(n, np.float32), np.ones(n, np.float32), (weight,), (bias,))


def propose(traces, usable=None, rate_hz=RATE_HZ, **settings):
    config = ValidationConfig(**settings)
    dog = find_events(traces, frame_rate_hz=rate_hz, usable=usable, config=config).dog
    return propose_events(traces, dog, frame_rate_hz=rate_hz, usable=usable, config=config), dog


def figure(proposals, name):
    return proposals.features[:, EVENT_FEATURES.index(name)]


def test_every_peak_above_the_proposal_height_is_looked_at_and_no_lower_one():
    traces = planted((60, 200, 320), snr=12, n_rois=3)
    proposals, dog = propose(traces)
    for roi, first, last in proposals.spans.tolist():
        assert dog[roi, first : last + 1].max() >= 1.75
    for roi in range(3):
        spans = proposals.spans[proposals.spans[:, 0] == roi]
        covered = np.zeros(N_FRAMES, bool)
        for _, first, last in spans.tolist():
            assert not covered[first : last + 1].any()
            covered[first : last + 1] = True
        assert not ((dog[roi] > 2.5) & ~covered).any()


def test_proposals_are_sorted_and_their_figures_finite():
    proposals, _ = propose(planted((60, 200), snr=9, n_rois=4))
    assert proposals.features.shape == (len(proposals.spans), len(EVENT_FEATURES))
    assert np.isfinite(proposals.features).all()
    assert proposals.spans.tolist() == sorted(proposals.spans.tolist())


def test_a_peak_does_not_count_as_evidence_for_itself():
    alone, _ = propose(planted((200,), snr=15))
    several, _ = propose(planted((60, 200, 320), snr=15))
    others = figure(alone, "other_clear_per_min")[figure(alone, "dog").argmax()]
    assert others == 0
    assert figure(several, "other_clear_per_min")[figure(several, "dog").argmax()] > 0


def test_the_figures_of_a_peak_do_not_depend_on_the_unit_of_the_trace():
    traces = planted((60, 200), snr=9, n_rois=2)
    small, _ = propose(traces)
    large, _ = propose(1000 * traces + 5)
    np.testing.assert_allclose(large.features, small.features, rtol=2e-2, atol=2e-2)


def test_the_time_since_the_previous_peak_is_in_seconds():
    proposals, _ = propose(planted((100, 180), snr=30))
    second = proposals.features[np.argsort(-figure(proposals, "dog"))[:2]]
    gaps = second[:, EVENT_FEATURES.index("since_previous")]
    assert np.log1p(80 / RATE_HZ) == pytest.approx(gaps.min(), abs=0.05)


def test_the_judge_decides_in_place_of_the_threshold():
    traces = planted((60, 200, 320), snr=12, n_rois=3)
    traces.flags.writeable = False
    credulous = find_events(traces, frame_rate_hz=RATE_HZ, judge=judge(above=0.0))
    strict = find_events(traces, frame_rate_hz=RATE_HZ, judge=judge(above=1e4))
    usual = find_events(traces, frame_rate_hz=RATE_HZ)
    assert len(strict.events) == 0 < len(usual.events) < len(credulous.events)
    assert not strict.raster.any()


def test_a_judged_event_has_the_shape_of_any_other():
    found = find_events(planted((200,), snr=15), frame_rate_hz=RATE_HZ, judge=judge(above=8.0))
    assert len(found.events) == 1
    onset, peak, offset = (
        int(x[0]) for x in (found.events.onset, found.events.peak, found.events.offset)
    )
    assert onset <= peak <= offset
    assert abs(peak - 200) <= 2
    np.testing.assert_array_equal(np.flatnonzero(found.raster[0]), np.arange(onset, offset + 1))
    assert found.threshold[0] == pytest.approx(1.75)


def test_an_unusable_frame_is_no_peak():
    traces = planted((200,), snr=15)
    usable = np.ones(N_FRAMES, bool)
    usable[195:206] = False
    proposals, _ = propose(traces, usable=usable)
    heights = figure(proposals, "dog")
    assert not len(heights) or np.expm1(heights).max() < 8


@pytest.mark.parametrize("n_frames", [1, 2, 3, 10])
def test_very_short_or_constant_traces_have_nothing_to_judge(n_frames):
    found = find_events(np.ones((2, n_frames), np.float32), frame_rate_hz=RATE_HZ, judge=judge())
    assert len(found.events) == 0


def test_the_judge_has_nothing_to_do_without_traces():
    none = np.zeros((0, 40), np.float32)
    assert len(find_events(none, frame_rate_hz=RATE_HZ, judge=judge()).events) == 0

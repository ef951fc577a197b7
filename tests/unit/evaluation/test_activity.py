"""Traces and events of matched cells."""

import math

import numpy as np
import pytest

from cocuyo.core import Periods, SettingsError
from cocuyo.evaluation import (
    Matches,
    event_scores,
    join_periods,
    periods_from_raster,
    trace_correlation,
)


def pairs(predicted, truth, n_predicted=4, n_truth=4):
    return Matches(
        np.array(predicted, np.int32),
        np.array(truth, np.int32),
        np.zeros(len(truth)),
        n_predicted,
        n_truth,
    )


def times(*values, roi=0):
    return Periods.from_times(np.full(len(values), roi), np.array(values, float))


ONE = pairs([0], [0])


def counts(predicted, truth, **options):
    scores = event_scores(times(*predicted), times(*truth), ONE, **options)
    return scores.tp, scores.fp, scores.fn


def test_spikes_exactly_half_a_second_apart_are_one_event_and_further_apart_two():
    assert join_periods(times(1.0, 1.5)).last_s.tolist() == [1.5]
    assert join_periods(times(1.0, 1.51)).first_s.tolist() == [1.0, 1.51]


def test_a_gap_of_half_a_second_survives_rounding():
    spikes = np.arange(5) * 0.5 + 0.1
    assert len(join_periods(times(*spikes.astype(np.float32)))) == 1
    assert len(join_periods(times(*(np.arange(0, 200, 5) * 0.1)))) == 1


def test_spikes_of_different_cells_are_never_joined():
    spikes = Periods.from_times(np.array([1, 0, 1]), np.array([1.0, 1.1, 1.2]))
    joined = join_periods(spikes)
    assert joined.roi.tolist() == [0, 1]
    assert joined.first_s.tolist() == [1.1, 1.0]
    assert joined.last_s.tolist() == [1.1, 1.2]


def test_a_period_inside_a_longer_one_does_not_shorten_it():
    inside = Periods(np.zeros(2, np.int32), np.array([0.0, 1.0]), np.array([5.0, 2.0]))
    joined = join_periods(inside)
    assert (joined.first_s.tolist(), joined.last_s.tolist()) == ([0.0], [5.0])


@pytest.mark.parametrize("onset", [1.5, 2.0, 2.4, 2.9])
def test_an_onset_in_the_window_borders_included_is_a_hit(onset):
    assert counts([onset], [2.0, 2.4]) == (1, 0, 0)


@pytest.mark.parametrize("onset", [1.49, 2.91])
def test_an_onset_outside_the_window_is_false_and_the_event_is_missed(onset):
    assert counts([onset], [2.0, 2.4]) == (0, 1, 1)


def test_only_the_onset_of_an_active_period_counts():
    early = Periods(np.zeros(1, np.int32), np.array([1.0]), np.array([9.0]))
    scores = event_scores(early, times(2.0), ONE)
    assert (scores.tp, scores.fp, scores.fn) == (0, 1, 1)


def test_active_periods_close_together_are_one_onset():
    close = Periods(np.zeros(2, np.int32), np.array([2.0, 2.7]), np.array([2.2, 3.0]))
    scores = event_scores(close, times(2.0), ONE)
    assert (scores.tp, scores.fp, scores.fn) == (1, 0, 0)


def test_two_onsets_in_one_long_event_are_one_hit_and_one_false():
    burst = np.arange(2.0, 4.0, 0.4)
    assert counts([2.0, 3.4], burst) == (1, 1, 0)


def test_one_onset_between_two_events_hits_one_of_them():
    assert counts([2.4], [2.0, 2.8]) == (1, 0, 1)


def test_onsets_are_paired_so_that_most_events_are_hit():
    # Windows [1.5, 2.5] and [2.3, 3.3]: the first onset fits both, the second the later one only.
    assert counts([2.4, 3.2], [2.0, 2.8]) == (2, 0, 0)


def test_unmatched_rois_and_cells_play_no_part():
    predicted = Periods.from_times(np.array([0, 2, 2]), np.array([5.0, 1.0, 8.0]))
    truth = Periods.from_times(np.array([1, 3]), np.array([1.0, 4.0]))
    scores = event_scores(predicted, truth, pairs([2], [1]))
    assert (scores.tp, scores.fp, scores.fn) == (1, 1, 0)


def test_scores_are_pooled_and_given_as_the_median_of_cells():
    predicted = Periods.from_times(np.array([0, 1, 1]), np.array([1.0, 1.0, 9.0]))
    truth = Periods.from_times(np.array([0, 1, 2]), np.array([1.0, 1.0, 1.0]))
    scores = event_scores(predicted, truth, pairs([0, 1, 2, 3], [0, 1, 2, 3]))
    assert (scores.tp, scores.fp, scores.fn) == (2, 1, 1)
    assert scores.precision == scores.recall == scores.f1 == pytest.approx(2 / 3)
    np.testing.assert_allclose(scores.cell_f1, [1.0, 2 / 3, 0.0, np.nan])
    assert (scores.n_pairs, scores.n_cells) == (4, 3)
    assert scores.median_f1 == pytest.approx(2 / 3)


def test_without_matches_or_events_there_are_no_event_scores():
    none = times()
    for scores in (event_scores(none, none, ONE), event_scores(none, none, pairs([], []))):
        assert (scores.tp, scores.fp, scores.fn, scores.n_cells) == (0, 0, 0, 0)
        assert all(map(math.isnan, (scores.f1, scores.precision, scores.recall, scores.median_f1)))


def test_periods_of_a_raster_are_its_first_and_last_active_frames():
    raster = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0]], bool)
    found = periods_from_raster(raster, frame_rate_hz=10.0)
    assert found.roi.tolist() == [0, 0, 2]
    np.testing.assert_allclose(found.first_s, [0.0, 0.4, 0.1])
    np.testing.assert_allclose(found.last_s, [0.1, 0.4, 0.3])


def test_times_of_frames_come_before_the_frame_rate():
    found = periods_from_raster(
        np.array([[0, 1, 1]], bool), frame_rate_hz=10.0, times_s=np.array([0.0, 3.0, 7.0])
    )
    assert (found.first_s.tolist(), found.last_s.tolist()) == ([3.0], [7.0])


def test_a_raster_without_rate_or_with_other_times_is_refused():
    with pytest.raises(SettingsError, match="frame_rate_hz"):
        periods_from_raster(np.zeros((1, 3), bool))
    with pytest.raises(SettingsError, match="2 times for 3 frames"):
        periods_from_raster(np.zeros((1, 3), bool), times_s=np.zeros(2))


def test_an_empty_raster_has_no_periods():
    assert len(periods_from_raster(np.zeros((0, 5), bool), frame_rate_hz=1.0)) == 0
    assert len(periods_from_raster(np.zeros((2, 0), bool), frame_rate_hz=1.0)) == 0


def test_periods_that_end_before_they_begin_are_refused():
    with pytest.raises(SettingsError, match="ends before"):
        Periods(np.zeros(1, np.int32), np.ones(1), np.zeros(1))


def test_correlation_ignores_offset_and_scale_and_keeps_the_sign():
    trace = np.array([[0.0, 1.0, 0.0, 3.0]], np.float32)
    truth = np.vstack([5 + 2 * trace, -trace])
    scores = trace_correlation(np.vstack([trace, trace]), truth, pairs([0, 1], [0, 1], 2, 2))
    np.testing.assert_allclose(scores.correlation, [1.0, -1.0])
    assert scores.median == pytest.approx(0.0, abs=1e-12)


def test_a_constant_trace_has_no_correlation_and_is_left_out_of_the_median():
    predicted = np.array([[1, 1, 1], [0, 1, 2]], np.float32)
    truth = np.array([[0, 1, 2], [0, 1, 2]], np.float32)
    scores = trace_correlation(predicted, truth, pairs([0, 1], [0, 1], 2, 2))
    assert np.isnan(scores.correlation[0])
    assert (scores.n, scores.n_pairs) == (1, 2)
    assert scores.median == pytest.approx(1.0)


def test_frames_without_finite_values_are_left_out():
    predicted = np.array([[0, np.nan, 2, 7]], np.float32)
    truth = np.array([[0, 99, 2, 7]], np.float32)
    scores = trace_correlation(predicted, truth, pairs([0], [0], 1, 1))
    assert scores.median == pytest.approx(1.0)


def test_traces_that_do_not_fit_are_refused():
    with pytest.raises(SettingsError, match="same frames"):
        trace_correlation(np.zeros((1, 3)), np.zeros((1, 4)), pairs([0], [0], 1, 1))
    with pytest.raises(SettingsError, match="one trace for each"):
        trace_correlation(np.zeros((1, 3)), np.zeros((2, 3)), pairs([0], [0], 1, 1))


def test_without_pairs_there_is_no_median():
    scores = trace_correlation(np.zeros((0, 3)), np.zeros((0, 3)), pairs([], [], 0, 0))
    assert scores.n == 0
    assert math.isnan(scores.median)

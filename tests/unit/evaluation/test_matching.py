"""Matching of ROIs and cells, and what follows of it."""

import math

import numpy as np
import pytest
from scipy import sparse

from cocuyo.core import SettingsError
from cocuyo.evaluation import (
    centroids_of,
    cut_by_border,
    instance_scores,
    match_rois,
    silent_accepted,
)

SHAPE = (40, 50)


def squares(*centres, side=5):
    """Square cells of an odd side around the given centres."""
    rows = np.zeros((len(centres), *SHAPE), np.float32)
    half = side // 2
    for row, (y, x) in zip(rows, centres, strict=True):
        row[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1] = 0.5
    return sparse.csr_array(rows.reshape(len(centres), SHAPE[0] * SHAPE[1]))


def test_the_centroid_does_not_depend_on_weights_or_stored_zeros():
    footprint = sparse.csr_array(
        (np.array([0.1, 1.0, 0.0]), np.array([50, 52, 199]), np.array([0, 3])), shape=(1, 2000)
    )
    np.testing.assert_array_equal(centroids_of(footprint, SHAPE), [[1.0, 1.0]])


def test_a_pair_exactly_at_the_largest_distance_matches_and_one_beyond_does_not():
    truth = squares((20, 20))
    assert len(match_rois(squares((23, 24)), truth, frame_shape=SHAPE)) == 1  # 3-4-5
    assert len(match_rois(squares((20, 26)), truth, frame_shape=SHAPE)) == 0


def test_an_overlap_of_exactly_one_half_matches_and_a_smaller_one_does_not():
    # 3 x 3 against 3 x 3 shifted by one: 6 of 12 pixels are shared.
    truth = squares((20, 20), side=3)
    found = match_rois(squares((20, 21), side=3), truth, frame_shape=SHAPE, criterion="iou")
    assert found.quality.tolist() == [0.5]
    moved = match_rois(squares((21, 21), side=3), truth, frame_shape=SHAPE, criterion="iou")
    assert len(moved) == 0


def test_each_roi_and_each_cell_is_used_once():
    found = match_rois(squares((20, 20), (20, 21)), squares((20, 20)), frame_shape=SHAPE)
    assert found.predicted.tolist() == [0]
    assert found.truth.tolist() == [0]


def test_more_pairs_are_better_than_nearer_ones():
    # The nearest pair (cell 20, ROI 21) would leave ROI 16 within reach of nothing else.
    truth = squares((20, 20), (20, 25))
    found = match_rois(squares((20, 16), (20, 21)), truth, frame_shape=SHAPE)
    assert dict(zip(found.truth.tolist(), found.predicted.tolist(), strict=True)) == {0: 0, 1: 1}


def test_of_equally_many_pairs_the_nearest_are_taken():
    truth = squares((20, 20), (20, 23))
    found = match_rois(squares((20, 23), (20, 20)), truth, frame_shape=SHAPE)
    assert found.predicted.tolist() == [1, 0]
    assert found.quality.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("criterion", ["iou", "distance"])
def test_matches_do_not_depend_on_the_order(criterion):
    random = np.random.default_rng(3)
    truth = squares(*random.integers(3, 37, (15, 2)))
    predicted = squares(*random.integers(3, 37, (18, 2)))
    rows, columns = random.permutation(18), random.permutation(15)
    first = match_rois(predicted, truth, frame_shape=SHAPE, criterion=criterion)
    second = match_rois(predicted[rows], truth[columns], frame_shape=SHAPE, criterion=criterion)
    assert len(first) == len(second) > 0
    assert first.quality.sum() == pytest.approx(second.quality.sum())


def test_a_footprint_without_pixels_matches_nothing():
    nothing = sparse.csr_array((1, 2000))
    for criterion in ("iou", "distance"):
        assert len(match_rois(nothing, nothing, frame_shape=SHAPE, criterion=criterion)) == 0


@pytest.mark.parametrize(
    ("criterion", "threshold"),
    [("iou", 0.0), ("iou", 1.5), ("distance", -1.0), ("distance", np.nan), ("area", 1.0)],
)
def test_criteria_that_make_no_sense_are_refused(criterion, threshold):
    with pytest.raises(SettingsError, match="must"):
        match_rois(
            squares((9, 9)),
            squares((9, 9)),
            frame_shape=SHAPE,
            criterion=criterion,
            threshold=threshold,
        )


def test_footprints_of_another_frame_are_refused():
    with pytest.raises(SettingsError, match="2000"):
        match_rois(sparse.csr_array((1, 99)), squares((9, 9)), frame_shape=SHAPE)


def test_missed_and_false_are_counted_exactly():
    truth = squares((10, 10), (10, 30), (30, 10), (30, 30))
    predicted = squares((10, 11), (11, 30), (20, 20), (35, 45), (20, 40))
    scores = instance_scores(predicted, truth, frame_shape=SHAPE)
    assert (scores.tp, scores.fp, scores.fn, scores.n_neutral) == (2, 3, 2, 0)
    assert scores.precision == pytest.approx(2 / 5)
    assert scores.recall == pytest.approx(2 / 4)
    assert scores.f1 == pytest.approx(4 / 9)


def test_an_roi_on_an_ignored_cell_counts_neither_way_and_an_ignored_cell_is_not_missed():
    truth = squares((10, 10), (10, 30), (30, 10))
    ignored = np.array([False, True, True])
    scores = instance_scores(squares((10, 10), (10, 30)), truth, frame_shape=SHAPE, ignored=ignored)
    assert (scores.tp, scores.fp, scores.fn, scores.n_neutral) == (1, 0, 0, 1)
    assert scores.f1 == 1.0


def test_a_counted_cell_comes_before_an_ignored_one_that_is_nearer():
    scores = instance_scores(
        squares((20, 24)),
        squares((20, 20), (20, 25)),
        frame_shape=SHAPE,
        ignored=np.array([False, True]),
    )
    assert (scores.tp, scores.fp, scores.fn, scores.n_neutral) == (1, 0, 0, 0)


def test_indices_of_matches_are_those_of_all_cells():
    scores = instance_scores(
        squares((30, 30)),
        squares((10, 10), (30, 30)),
        frame_shape=SHAPE,
        ignored=np.array([True, False]),
    )
    assert scores.matches.truth.tolist() == [1]


def test_ignored_needs_one_value_per_cell():
    with pytest.raises(SettingsError, match="one value per cell"):
        instance_scores(
            squares((9, 9)), squares((9, 9)), frame_shape=SHAPE, ignored=np.zeros(2, bool)
        )


def test_without_rois_and_cells_there_is_no_score():
    none = squares()
    scores = instance_scores(none, none, frame_shape=SHAPE)
    assert all(map(math.isnan, (scores.precision, scores.recall, scores.f1)))


def test_without_rois_recall_is_zero_and_without_cells_precision_is():
    cells = squares((10, 10), (30, 30))
    missed = instance_scores(squares(), cells, frame_shape=SHAPE, criterion="iou")
    assert (missed.tp, missed.fp, missed.fn, missed.recall, missed.f1) == (0, 0, 2, 0.0, 0.0)
    assert math.isnan(missed.precision)
    false = instance_scores(cells, squares(), frame_shape=SHAPE)
    assert (false.tp, false.fp, false.fn, false.precision, false.f1) == (0, 2, 0, 0.0, 0.0)
    assert math.isnan(false.recall)


def test_a_silent_cell_under_an_roi_is_accepted():
    scores = silent_accepted(
        squares((10, 10), (30, 31)),
        squares((10, 10)),
        squares((30, 30), (30, 10), (20, 40)),
        frame_shape=SHAPE,
    )
    assert (scores.n_accepted, scores.n_silent) == (1, 3)
    assert scores.share == pytest.approx(1 / 3)


def test_an_roi_nearer_to_its_functional_cell_does_not_speak_for_a_silent_neighbour():
    functional, silent = squares((20, 20)), squares((20, 24))
    near = silent_accepted(squares((20, 21)), functional, silent, frame_shape=SHAPE)
    far = silent_accepted(squares((20, 23)), functional, silent, frame_shape=SHAPE)
    assert (near.n_accepted, far.n_accepted) == (0, 1)


def test_one_roi_accepts_one_silent_cell_at_most():
    scores = silent_accepted(
        squares((20, 22)), squares(), squares((20, 20), (20, 24)), frame_shape=SHAPE
    )
    assert (scores.n_accepted, scores.n_silent) == (1, 2)


def test_without_silent_cells_there_is_no_share():
    scores = silent_accepted(squares((9, 9)), squares(), squares(), frame_shape=SHAPE)
    assert scores.n_silent == 0
    assert math.isnan(scores.share)


@pytest.mark.parametrize(
    ("centre", "cut"),
    [
        *(((y, x), False) for y, x in ((3, 20), (20, 3), (36, 20), (20, 46), (20, 20))),
        *(((y, x), True) for y, x in ((2, 20), (20, 2), (37, 20), (20, 47))),
    ],
)
def test_a_cell_is_cut_where_its_centroid_is_less_than_the_border_from_the_edge(centre, cut):
    assert cut_by_border(squares(centre, side=1), frame_shape=SHAPE).tolist() == [cut]


def test_a_border_of_width_zero_cuts_no_cell():
    corners = squares((0, 0), (39, 49), side=1)
    assert not cut_by_border(corners, frame_shape=SHAPE, border_px=0.0).any()

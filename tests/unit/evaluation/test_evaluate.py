"""All scores together."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from synthetic_result import make_result

from cocuyo.core import Periods, Regions, SettingsError
from cocuyo.evaluation import evaluate, regions_of

SHAPE = (40, 50)
N_FRAMES = 60


def squares(*centres):
    rows = np.zeros((len(centres), *SHAPE), np.float32)
    for row, (y, x) in zip(rows, centres, strict=True):
        row[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 1.0
    return sparse.csr_array(rows.reshape(len(centres), SHAPE[0] * SHAPE[1]))


def regions(*centres, **fields):
    random = np.random.default_rng(len(centres))
    raster = np.zeros((len(centres), N_FRAMES), bool)
    raster[:, 10:13] = raster[:, 40:45] = True
    traces = random.normal(size=raster.shape).astype(np.float32)
    return Regions(
        SHAPE,
        **{
            "footprints": squares(*centres),
            "traces": traces,
            "raster": raster,
            "frame_rate_hz": 10.0,
        }
        | fields,
    )


def leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    return [value]


TRUTH = regions((10, 10), (10, 30), (30, 10), (30, 30), name="truth")


def test_the_truth_scores_one_against_itself():
    scores = evaluate(TRUTH, TRUTH)
    found = scores.to_dict()
    assert [found["pixels"][k] for k in ("sdc", "iou", "precision", "recall")] == [1.0] * 4
    for criterion in ("iou", "distance"):
        part = found["instances"][criterion]
        assert [part[k] for k in ("f1", "precision", "recall")] == [1.0] * 3
        assert (part["tp"], part["fp"], part["fn"]) == (4, 0, 0)
    assert found["traces"]["median_correlation"] == pytest.approx(1.0)
    assert [found["events"][k] for k in ("f1", "precision", "recall", "median_cell_f1")] == [1] * 4
    assert found["events"]["tp"] == 8
    assert scores.not_scored == ()


def test_the_truth_with_silent_cells_scores_one_against_itself():
    truth = replace(TRUTH, ignore=np.array([False, True, False, False]))
    scores = evaluate(truth, truth)
    assert scores.pixels.sdc == scores.pixels_silent_ignored.sdc == 1.0
    assert scores.distance_strict.f1 == scores.distance_silent_ignored.f1 == 1.0
    assert scores.iou_strict.f1 == scores.iou_silent_ignored.f1 == 1.0
    assert (scores.silent.n_accepted, scores.silent.n_silent) == (0, 1)


def test_an_roi_on_a_silent_cell_is_false_in_strict_scores_and_neutral_in_the_others():
    truth = replace(TRUTH, ignore=np.array([False, True, False, True]))
    scores = evaluate(TRUTH, truth)
    for strict in (scores.distance_strict, scores.iou_strict):
        assert (strict.tp, strict.fp, strict.fn) == (2, 2, 0)
    for lenient in (scores.distance_silent_ignored, scores.iou_silent_ignored):
        assert (lenient.tp, lenient.fp, lenient.fn, lenient.n_neutral) == (2, 0, 0, 2)
    assert scores.silent.share == 1.0
    assert (scores.pixels.tp, scores.pixels.fp) == (50, 50)
    assert (scores.pixels_silent_ignored.tp, scores.pixels_silent_ignored.fp) == (50, 0)


def test_scores_with_silent_cells_ignored_are_absent_where_there_are_none():
    scores = evaluate(TRUTH, TRUTH)
    assert scores.pixels_silent_ignored is None
    assert scores.distance_silent_ignored is None
    assert scores.silent is None


def test_pixels_shared_by_a_functional_and_a_silent_cell_stay_functional():
    truth = regions((20, 20), (20, 22), ignore=np.array([False, True]))
    scores = evaluate(regions((20, 20)), truth)
    assert scores.pixels_silent_ignored.sdc == 1.0
    assert scores.pixels_silent_ignored.tp == 25


def test_rejected_candidates_of_the_prediction_are_not_scored():
    prediction = regions((10, 10), (20, 20), ignore=np.array([False, True]))
    scores = evaluate(prediction, TRUTH)
    assert (scores.distance_strict.tp, scores.distance_strict.fp) == (1, 0)
    assert (scores.pixels.tp, scores.pixels.fp) == (25, 0)


def test_traces_and_events_follow_the_matches_and_not_the_order():
    order = [2, 0, 3, 1]
    prediction = replace(
        TRUTH,
        footprints=TRUTH.footprints[order],
        traces=TRUTH.traces[order],
        raster=TRUTH.raster[order],
    )
    scores = evaluate(prediction, TRUTH)
    np.testing.assert_allclose(scores.traces.correlation, 1.0)
    assert scores.matches.predicted.tolist() == [1, 3, 0, 2]


def test_indices_of_matches_are_those_of_the_regions_given():
    truth = replace(TRUTH, ignore=np.array([True, False, False, False]))
    prediction = replace(TRUTH, ignore=np.array([False, True, False, False]))
    scores = evaluate(prediction, truth)
    assert scores.matches.truth.tolist() == [2, 3]
    assert scores.matches.predicted.tolist() == [2, 3]
    np.testing.assert_allclose(scores.traces.correlation, 1.0)


def test_spikes_are_the_truth_of_events_where_they_are_known():
    spikes = Periods.from_times(np.array([0, 0, 1]), np.array([1.0, 1.4, 3.0]))
    truth = replace(TRUTH, spikes=spikes)
    scores = evaluate(TRUTH, truth)
    assert scores.events.tp + scores.events.fn == 2


def test_a_cell_cut_by_the_border_counts_neither_way():
    truth = regions((1, 20), (20, 20))
    missed = evaluate(regions((20, 20)), truth)
    found = evaluate(regions((1, 20), (20, 20)), truth)
    assert (missed.distance_strict.fn, missed.distance_strict.tp) == (0, 1)
    assert (found.distance_strict.fp, found.distance_strict.n_neutral) == (0, 1)
    assert missed.n_border == 1
    assert evaluate(regions((20, 20)), truth, border_px=0.0).distance_strict.fn == 1


def test_a_silent_cell_at_the_border_is_still_false_in_strict_scores():
    truth = regions((1, 20), (20, 20), ignore=np.array([True, False]))
    scores = evaluate(regions((1, 20), (20, 20)), truth)
    assert scores.distance_strict.fp == 1
    assert scores.distance_silent_ignored.fp == 0


def test_cells_and_rois_mostly_in_unknown_pixels_count_neither_way():
    unknown = np.zeros(SHAPE, bool)
    unknown[:, :20] = True
    prediction = regions((10, 30), (20, 10), (30, 40))
    for scores in (
        evaluate(prediction, TRUTH, ignore_pixels=unknown),
        evaluate(prediction, replace(TRUTH, ignore_pixels=unknown)),
    ):
        strict = scores.distance_strict
        assert (strict.tp, strict.fp, strict.fn) == (1, 1, 1)
        assert (scores.pixels.tp, scores.pixels.fp, scores.pixels.fn) == (25, 25, 25)


def test_a_mask_is_scored_by_pixels_and_the_rest_says_why_it_is_not():
    mask = Regions(SHAPE, mask=TRUTH.union())
    scores = evaluate(mask, TRUTH)
    assert scores.pixels.sdc == 1.0
    assert scores.distance_strict is None
    assert scores.traces is None
    assert scores.events is None
    assert len(scores.not_scored) == 3
    assert "prediction is a mask" in scores.not_scored[0]
    assert "truth is a mask" in evaluate(TRUTH, mask).not_scored[0]


def test_what_only_one_side_has_is_not_scored_and_the_side_is_named():
    bare = Regions(SHAPE, footprints=TRUTH.footprints)
    scores = evaluate(bare, TRUTH)
    assert scores.distance_strict.f1 == 1.0
    assert scores.not_scored == (
        "Traces: there are none in the prediction.",
        "Events: the prediction has neither raster, events nor spikes.",
    )


def test_traces_of_other_lengths_are_not_scored_and_both_lengths_are_named():
    shorter = replace(TRUTH, traces=TRUTH.traces[:, :50])
    scores = evaluate(shorter, TRUTH)
    assert scores.traces is None
    assert "50" in scores.not_scored[0]
    assert "60" in scores.not_scored[0]


def test_a_rate_known_on_one_side_serves_both():
    scores = evaluate(replace(TRUTH, frame_rate_hz=None), TRUTH)
    assert scores.events.f1 == 1.0
    unknown = replace(TRUTH, frame_rate_hz=None)
    assert "frame rate" in evaluate(unknown, unknown).not_scored[0]


def test_an_empty_prediction_finds_nothing():
    scores = evaluate(regions(), TRUTH)
    assert (scores.distance_strict.fn, scores.distance_strict.recall) == (4, 0.0)
    assert scores.pixels.recall == 0.0
    assert math.isnan(scores.traces.median)
    assert math.isnan(scores.events.f1)


def test_without_any_cell_every_score_is_absent_and_the_counts_are_zero():
    scores = evaluate(regions(), regions())
    found = scores.to_dict()
    assert found["pixels"]["sdc"] is None
    assert found["instances"]["distance"]["f1"] is None
    assert "- (0/0)" in scores.to_text()


def test_frames_of_different_shape_are_refused_with_both_named():
    other = Regions((50, 40), mask=np.zeros((50, 40), bool))
    with pytest.raises(SettingsError, match=r"50 x 40 .* 40 x 50.*exchanged"):
        evaluate(other, TRUTH)
    other = Regions((20, 25), mask=np.zeros((20, 25), bool))
    with pytest.raises(SettingsError, match=r"20 x 25 .* 40 x 50"):
        evaluate(other, TRUTH)


def test_an_image_to_ignore_of_another_shape_is_refused():
    with pytest.raises(SettingsError, match=r"\(5, 5\)"):
        evaluate(TRUTH, TRUTH, ignore_pixels=np.zeros((5, 5), bool))


@pytest.mark.parametrize(
    "options", [{"border_px": -1.0}, {"max_distance_px": -1.0}, {"min_iou": 0.0}]
)
def test_criteria_out_of_range_are_refused(options):
    with pytest.raises(SettingsError, match="must"):
        evaluate(TRUTH, TRUTH, **options)


def test_the_dictionary_is_strict_json():
    truth = replace(TRUTH, ignore=np.array([True, False, False, False]))
    for prediction in (TRUTH, regions(), Regions(SHAPE, mask=TRUTH.union())):
        found = evaluate(prediction, truth).to_dict()
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_text_states_scores_with_numerator_and_denominator():
    truth = replace(TRUTH, ignore=np.array([False, False, False, True]))
    text = evaluate(TRUTH, truth).to_text()
    assert "0.857 (150/175)" in text  # SDC: 75 true pixels of 100
    assert "0.750 (3/4)" in text  # strict precision
    assert "silent cells accepted  1.000 (1/1)" in text
    assert "median of 3 of 3 pairs" in text


def test_the_text_calls_rejected_candidates_of_a_result_by_their_name():
    result = make_result()
    assert regions_of(result).ignored.any()
    text = evaluate(result, result).to_text()
    assert "without rejected candidates" in text
    assert "rejected candidates accepted  0.000 (0/1)" in text
    assert "rejected ignored" in text
    assert "silent" not in text.lower()


def test_all_columns_of_a_table_are_aligned():
    lines = evaluate(TRUTH, TRUTH).to_text().splitlines()
    header, row = lines[lines.index("Pixels") + 1 : lines.index("Pixels") + 3]
    assert header.index("SDC") == row.index("1.000")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mask": np.zeros((3, 3), bool)},
        {"footprints": sparse.csr_array((1, 7))},
        {"footprints": squares((9, 9)), "ignore": np.zeros(2, bool)},
        {"footprints": squares((9, 9)), "traces": np.zeros((2, 5), np.float32)},
        {"mask": np.zeros(SHAPE, bool), "raster": np.zeros((1, 5), bool)},
    ],
)
def test_regions_whose_parts_do_not_fit_are_refused(fields):
    with pytest.raises(SettingsError):
        Regions(SHAPE, **fields)

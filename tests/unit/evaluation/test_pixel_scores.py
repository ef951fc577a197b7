"""Pixel scores."""

import math

import numpy as np
import pytest

from cocuyo.core import SettingsError
from cocuyo.evaluation import pixel_scores


def test_scores_of_a_small_case_are_those_computed_by_hand():
    predicted = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool)
    truth = np.array([[0, 1, 1, 1], [1, 0, 0, 0]], bool)
    scores = pixel_scores(predicted, truth)
    assert (scores.tp, scores.fp, scores.fn) == (2, 1, 2)
    assert scores.sdc == pytest.approx(4 / 7)
    assert scores.iou == pytest.approx(2 / 5)
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.recall == pytest.approx(2 / 4)


def test_ignored_pixels_count_neither_way():
    predicted = np.array([[1, 1, 0, 0]], bool)
    truth = np.array([[1, 0, 1, 0]], bool)
    scores = pixel_scores(predicted, truth, ignore=np.array([[0, 1, 1, 0]], bool))
    assert (scores.tp, scores.fp, scores.fn) == (1, 0, 0)


def test_two_empty_masks_have_no_scores():
    empty = np.zeros((2, 3), bool)
    scores = pixel_scores(empty, empty)
    assert all(map(math.isnan, (scores.sdc, scores.iou, scores.precision, scores.recall)))


def test_an_empty_prediction_has_recall_zero_and_no_precision():
    scores = pixel_scores(np.zeros((2, 3), bool), np.ones((2, 3), bool))
    assert scores.sdc == scores.iou == scores.recall == 0.0
    assert math.isnan(scores.precision)


def test_an_empty_truth_has_precision_zero_and_no_recall():
    scores = pixel_scores(np.ones((2, 3), bool), np.zeros((2, 3), bool))
    assert scores.sdc == scores.precision == 0.0
    assert math.isnan(scores.recall)


def test_masks_of_different_shapes_are_refused_with_both_shapes():
    with pytest.raises(SettingsError, match=r"\(2, 3\), \(3, 2\)"):
        pixel_scores(np.zeros((2, 3), bool), np.zeros((3, 2), bool))

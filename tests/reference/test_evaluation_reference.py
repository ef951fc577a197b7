"""Scores against naive loops and exhaustive search."""

import itertools

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cocuyo.core import Periods
from cocuyo.evaluation import (
    Matches,
    event_scores,
    join_periods,
    match_rois,
    pixel_scores,
    trace_correlation,
)

SHAPE = (6, 7)
masks = arrays.arrays(bool, SHAPE)


@given(masks, masks, masks)
def test_pixel_counts_are_those_of_a_loop(predicted, truth, ignore):
    counts = [0, 0, 0]
    for y, x in np.ndindex(SHAPE):
        if ignore[y, x]:
            continue
        counts[0] += predicted[y, x] and truth[y, x]
        counts[1] += predicted[y, x] and not truth[y, x]
        counts[2] += truth[y, x] and not predicted[y, x]
    scores = pixel_scores(predicted, truth, ignore=ignore)
    assert [scores.tp, scores.fp, scores.fn] == counts
    if scores.tp:
        assert scores.sdc == pytest.approx(2 * scores.iou / (1 + scores.iou))
        harmonic = 2 / (1 / scores.precision + 1 / scores.recall)
        assert scores.sdc == pytest.approx(harmonic)


def quality_table(predicted, truth, criterion):
    """Quality of each pair, NaN where there is none, by loops over pixels."""
    table = np.full((len(predicted), len(truth)), np.nan)
    for i, j in np.ndindex(table.shape):
        left = set(map(tuple, np.argwhere(predicted[i])))
        right = set(map(tuple, np.argwhere(truth[j])))
        if not left or not right:
            continue
        if criterion == "iou":
            table[i, j] = len(left & right) / len(left | right)
        else:
            difference = np.mean(list(left), axis=0) - np.mean(list(right), axis=0)
            table[i, j] = np.sqrt((difference**2).sum())
    return table


def best_by_search(table, eligible, sign):
    """Most pairs and, of these, the best sum, over all ways to pair."""
    n, m = table.shape
    best = (0, 0.0)
    for columns in itertools.product([*range(m), None], repeat=n):
        used = [c for c in columns if c is not None]
        if len(set(used)) < len(used):
            continue
        chosen = [(i, c) for i, c in enumerate(columns) if c is not None]
        if all(eligible[pair] for pair in chosen):
            best = max(best, (len(chosen), sign * sum(table[pair] for pair in chosen)))
    return best


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(bool, st.tuples(st.integers(0, 4), st.just(6), st.just(7))),
    arrays.arrays(bool, st.tuples(st.integers(0, 4), st.just(6), st.just(7))),
    st.sampled_from([("iou", 0.2), ("iou", 0.5), ("distance", 0.7), ("distance", 2.0)]),
)
def test_the_assignment_is_the_best_of_all(predicted, truth, rule):
    criterion, threshold = rule
    table = quality_table(predicted, truth, criterion)
    with np.errstate(invalid="ignore"):
        eligible = (
            table >= threshold - 1e-9 if criterion == "iou" else table <= threshold + 1e-9
        ) & np.isfinite(table)
    n_best, sum_best = best_by_search(table, eligible, 1 if criterion == "iou" else -1)
    found = match_rois(
        sparse.csr_array(predicted.reshape(len(predicted), 42).astype(np.float32)),
        sparse.csr_array(truth.reshape(len(truth), 42).astype(np.float32)),
        frame_shape=SHAPE,
        criterion=criterion,
        threshold=threshold,
    )
    assert len(found) == n_best
    assert len(set(found.predicted)) == len(set(found.truth)) == n_best
    np.testing.assert_allclose(found.quality, table[found.predicted, found.truth], atol=1e-9)
    total = found.quality.sum() * (1 if criterion == "iou" else -1)
    assert total == pytest.approx(sum_best, abs=1e-6)


# Times on a grid of a quarter second, so that gaps and windows meet their limits exactly.
quarters = st.lists(st.integers(0, 40), max_size=8).map(lambda ticks: np.array(ticks) / 4)


def groups_by_loop(times):
    groups = []
    for time in sorted(times):
        if groups and time - groups[-1][-1] <= 0.5:
            groups[-1].append(time)
        else:
            groups.append([time])
    return groups


@given(quarters)
def test_events_are_the_groups_of_a_loop(times):
    joined = join_periods(Periods.from_times(np.zeros(len(times)), times))
    groups = groups_by_loop(times)
    assert joined.first_s.tolist() == [group[0] for group in groups]
    assert joined.last_s.tolist() == [group[-1] for group in groups]


@given(quarters, quarters)
def test_the_number_of_hits_is_the_largest_of_all_pairings(onsets, spikes):
    starts = [group[0] for group in groups_by_loop(onsets)]
    events = [(group[0], group[-1]) for group in groups_by_loop(spikes)]
    can = np.array(
        [[first - 0.5 <= start <= last + 0.5 for first, last in events] for start in starts]
    ).reshape(len(starts), len(events))
    most = len(
        [
            pair
            for pair in sparse.csgraph.maximum_bipartite_matching(
                sparse.csr_array(can.astype(int)), perm_type="column"
            )
            if pair >= 0
        ]
        if can.size
        else []
    )
    one = Matches(np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1), 1, 1)
    scores = event_scores(
        Periods.from_times(np.zeros(len(onsets)), onsets),
        Periods.from_times(np.zeros(len(spikes)), spikes),
        one,
    )
    assert (scores.tp, scores.fp, scores.fn) == (most, len(starts) - most, len(events) - most)


def test_correlations_are_those_of_numpy():
    random = np.random.default_rng(8)
    predicted, truth = random.normal(size=(5, 30)), random.normal(size=(4, 30))
    matches = Matches(np.array([4, 0], np.int32), np.array([1, 3], np.int32), np.zeros(2), 5, 4)
    expected = [
        np.corrcoef(predicted[4], truth[1])[0, 1],
        np.corrcoef(predicted[0], truth[3])[0, 1],
    ]
    scores = trace_correlation(predicted, truth, matches)
    np.testing.assert_allclose(scores.correlation, expected)
    assert scores.median == pytest.approx(np.mean(expected))

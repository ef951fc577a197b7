"""Coactivity: its threshold is that of chance, its peaks are where they are."""

import numpy as np
import pytest
from planted_ensembles import independent_raster

from cocuyo.core import stream
from cocuyo.population import find_peaks, measure_coactivity

N_RECORDINGS = 60


def test_the_number_of_active_neurons_is_counted_in_each_bin():
    raster = np.array([[True, False, True], [True, True, False]])
    assert measure_coactivity(raster, n_shuffles=20).n_active.tolist() == [2, 1, 1]


def test_chance_is_that_of_rows_rolled_one_by_one():
    raster = independent_raster(8, 120, seed=4, rate=0.02)
    found = measure_coactivity(raster, n_shuffles=50, seed=3)
    lags = stream(3, "population.shuffles").integers(0, 120, (50, 8))
    counts = np.array(
        [
            sum(np.roll(row, -lag).astype(int) for row, lag in zip(raster, some, strict=True))
            for some in lags
        ]
    )
    for n in range(10):
        assert found.chance_recording[n] == (1 + (counts.max(axis=1) >= n).sum()) / 51
        assert found.chance_bin[n] == (1 + (counts >= n).sum()) / 6001


def test_independent_neurons_have_a_peak_of_the_maximum_in_few_recordings():
    with_peak = 0
    for seed in range(N_RECORDINGS):
        raster = independent_raster(20, 300, seed=seed)
        found = measure_coactivity(raster, rule="maximum", n_shuffles=100, seed=seed)
        with_peak += bool(found.significant.any())
    # 5 % or fewer, as counts are whole numbers; P(more than 8 of 60) is 0.003.
    assert with_peak <= 8


def test_independent_neurons_are_significant_in_at_most_the_stated_share_of_bins():
    shares = []
    for seed in range(N_RECORDINGS):
        raster = independent_raster(20, 300, seed=seed)
        shares.append(measure_coactivity(raster, n_shuffles=100, seed=seed).significant.mean())
    assert 0.005 < np.mean(shares) <= 0.05


def test_the_threshold_is_never_below_two():
    raster = np.zeros((3, 50), np.bool_)
    raster[0, 10] = True
    for rule in ("pooled", "maximum"):
        assert measure_coactivity(raster, rule=rule, n_shuffles=20).threshold == 2


def test_neurons_that_are_always_active_put_the_threshold_out_of_reach():
    found = measure_coactivity(np.ones((4, 30), np.bool_), n_shuffles=20)
    assert found.threshold == 5
    assert not found.significant.any()


@pytest.mark.parametrize("n_neurons", [0, 1])
def test_fewer_than_two_neurons_are_never_active_together(n_neurons):
    found = measure_coactivity(np.ones((n_neurons, 9), np.bool_), n_shuffles=20)
    assert not found.significant.any()


def synchronous():
    """Six neurons fire together at bins 20 to 22, four of them again at 26; else nothing."""
    raster = np.zeros((6, 200), np.bool_)
    raster[:, 20:23] = True
    raster[5, 20] = False
    raster[:4, 26] = True
    return raster


def test_a_peak_has_onset_peak_and_offset_and_its_neurons():
    raster = synchronous()
    coactivity = measure_coactivity(raster, rule="maximum", n_shuffles=200)
    peaks = find_peaks(raster, coactivity)
    assert len(peaks) == 2
    found = (peaks.onset[0], peaks.peak[0], peaks.offset[0], peaks.n_active[0])
    assert found == (20, 21, 22, 6)
    np.testing.assert_allclose(peaks.vectors[0], [1, 1, 1, 1, 1, 2 / 3], rtol=1e-6)
    assert peaks.p_bin[0] <= peaks.p_recording[0] <= 0.05


def test_stretches_closer_than_asked_are_one_peak_of_its_significant_bins():
    raster = synchronous()
    coactivity = measure_coactivity(raster, rule="maximum", n_shuffles=200)
    assert len(find_peaks(raster, coactivity, join_bins=2)) == 2
    peaks = find_peaks(raster, coactivity, join_bins=3)
    assert (peaks.onset.tolist(), peaks.offset.tolist()) == ([20], [26])
    np.testing.assert_allclose(peaks.vectors[0], [1, 1, 1, 1, 3 / 4, 2 / 4], rtol=1e-6)


def test_nothing_significant_gives_no_peak():
    raster = np.zeros((3, 40), np.bool_)
    peaks = find_peaks(raster, measure_coactivity(raster, n_shuffles=20))
    assert (len(peaks), peaks.vectors.shape) == (0, (0, 3))

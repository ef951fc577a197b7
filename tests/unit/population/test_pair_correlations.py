"""Correlation of pairs: that of NumPy, and significant for pairs that fire together only."""

import numpy as np
from planted_ensembles import independent_raster, planted_raster

from cocuyo.population import correlate_pairs, correlation_matrix
from cocuyo.population.statistics import discovery_rate, overlaps, spectrum


def test_correlations_are_those_of_numpy():
    raster = independent_raster(7, 301, seed=1, rate=0.04)
    found = correlate_pairs(raster)
    np.testing.assert_allclose(found.matrix, np.corrcoef(raster), atol=1e-6)


def test_overlaps_are_counted_at_every_circular_shift():
    first, second = independent_raster(2, 97, seed=2, rate=0.03)
    counted = overlaps(spectrum(first), spectrum(second), 97)
    assert counted.tolist() == [
        np.count_nonzero(first & np.roll(second, -lag)) for lag in range(97)
    ]


def test_a_common_p_value_is_the_share_of_shifts_with_as_much_overlap():
    raster = independent_raster(2, 200, seed=5, rate=0.03)
    counts = [np.count_nonzero(raster[0] & np.roll(raster[1], lag)) for lag in range(200)]
    share = np.mean(np.array(counts) >= counts[0])
    assert share > 0.05  # so that no tail is fitted
    assert correlate_pairs(raster).p_value[0, 1] == np.float32(share)


def test_pairs_of_an_ensemble_are_significant_and_few_others():
    raster = planted_raster(seed=3)
    significant = np.triu(correlate_pairs(raster).significant, 1)
    member = np.repeat([1, 2, 0], [9, 8, 33])
    together = np.triu((member[:, None] == member) & (member > 0), 1)
    assert significant[together].mean() > 0.9
    assert np.count_nonzero(significant & ~together) <= 0.1 * np.count_nonzero(significant)


def test_independent_neurons_have_a_significant_pair_in_few_recordings():
    found = [
        correlate_pairs(independent_raster(20, 400, seed=seed)).n_significant > 0
        for seed in range(60)
    ]
    assert sum(found) <= 8  # 5 % expected at most; P(more than 8) is 0.003


def test_a_silent_and_an_always_active_neuron_correlate_with_nothing():
    raster = independent_raster(4, 100, seed=0, rate=0.05).copy()
    raster[1] = False
    raster[2] = True
    found = correlate_pairs(raster)
    assert np.isnan(found.matrix[[1, 2]]).all()
    assert (found.p_value[[1, 2]] == 1).all()
    assert not found.significant[[1, 2]].any()


def test_discovery_rates_are_those_of_scipy():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).random(50) ** 2
    np.testing.assert_allclose(discovery_rate(p), false_discovery_control(p))


def test_no_p_value_gives_no_discovery_rate():
    assert discovery_rate(np.zeros(0)).shape == (0,)


def test_the_matrix_alone_is_that_of_numpy_and_of_the_test():
    raster = np.random.default_rng(5).random((9, 300)) < 0.2
    raster[3], raster[6] = False, True
    matrix = correlation_matrix(raster)
    np.testing.assert_array_equal(matrix, correlate_pairs(raster).matrix)
    known = np.delete(np.arange(9), [3, 6])
    np.testing.assert_allclose(
        matrix[np.ix_(known, known)], np.corrcoef(raster[known].astype(float)), atol=1e-6
    )
    assert np.isnan(matrix[[3, 6]]).all()
    assert np.isnan(matrix[:, [3, 6]]).all()

"""Laws of the analysis of a population."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_ensembles import planted_raster

from cocuyo.population import (
    EnsembleConfig,
    analyse_population,
    correlate_pairs,
    measure_coactivity,
)

QUICK = EnsembleConfig(n_shuffles=20)


def rasters():
    return st.tuples(st.integers(0, 6), st.integers(1, 40), st.integers(0, 2**32 - 1)).map(
        lambda shape: np.random.default_rng(shape[2]).random(shape[:2]) < 0.3
    )


def analyse(raster):
    times = np.arange(raster.shape[1]) / 5
    return analyse_population(raster, times, frame_rate_hz=5.0, config=QUICK)


def expect_permuted(raster, order):
    found, other = analyse(raster), analyse(raster[order])
    assert other.coactivity.threshold == found.coactivity.threshold
    assert np.array_equal(other.peaks.ensemble, found.peaks.ensemble)
    assert np.array_equal(other.peaks.vectors, found.peaks.vectors[:, order])
    assert np.array_equal(other.ensembles.core, found.ensembles.core[:, order])
    for name in ("matrix", "p_value", "q_value", "significant"):
        theirs, ours = getattr(other.correlations, name), getattr(found.correlations, name)
        np.testing.assert_array_equal(theirs, ours[np.ix_(order, order)])


@settings(max_examples=25)
@given(rasters(), st.randoms())
def test_permuted_neurons_permute_what_is_found(raster, random):
    order = list(range(len(raster)))
    random.shuffle(order)
    expect_permuted(raster, np.array(order, int))


def test_permuted_neurons_permute_the_ensembles():
    expect_permuted(planted_raster(seed=0), np.random.default_rng(0).permutation(50))


@settings(max_examples=40)
@given(rasters(), st.integers(-50, 50))
def test_shifting_all_neurons_together_shifts_coactivity_and_keeps_the_threshold(raster, lag):
    found = measure_coactivity(raster, n_shuffles=20)
    shifted = measure_coactivity(np.roll(raster, lag, axis=1), n_shuffles=20)
    assert np.array_equal(shifted.n_active, np.roll(found.n_active, lag))
    assert shifted.threshold == found.threshold
    assert np.array_equal(shifted.chance_bin, found.chance_bin)
    assert np.array_equal(shifted.chance_recording, found.chance_recording)


@settings(max_examples=40)
@given(rasters(), st.integers(-50, 50))
def test_shifting_all_neurons_together_keeps_their_correlations(raster, lag):
    found, shifted = correlate_pairs(raster), correlate_pairs(np.roll(raster, lag, axis=1))
    np.testing.assert_allclose(shifted.matrix, found.matrix, atol=1e-6)
    np.testing.assert_allclose(shifted.p_value, found.p_value, atol=1e-6)


@settings(max_examples=25)
@given(rasters())
def test_every_probability_lies_between_0_and_1_and_peaks_are_in_the_recording(raster):
    found = analyse(raster)
    for values in (found.peaks.p_bin, found.peaks.p_recording, found.correlations.q_value):
        assert ((values >= 0) & (values <= 1)).all()
    assert (found.peaks.onset <= found.peaks.peak).all()
    assert (found.peaks.peak <= found.peaks.offset).all()
    assert (found.peaks.offset < raster.shape[1]).all()

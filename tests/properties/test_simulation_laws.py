"""Laws that every simulation obeys, whatever its settings."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cocuyo.simulation import SimulationConfig, random_config, simulate

SPLITS = ("training", "validation", "test")


def small(seed: int, split: str, rows: int = 40, columns: int = 56) -> SimulationConfig:
    return random_config(seed, split=split, n_frames=24, shape=(rows, columns))  # type: ignore[arg-type]


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    split=st.sampled_from(SPLITS),
    rows=st.integers(24, 50),
    columns=st.integers(24, 50),
)
def test_truth_and_movie_fit_together(seed: int, split: str, rows: int, columns: int) -> None:
    config = small(seed, split, rows, columns)
    simulation = simulate(config, seed=seed)
    truth = simulation.truth
    assert simulation.frames.shape == (24, rows, columns)
    assert simulation.frames.max() <= config.max_count
    assert truth.footprints.shape == (len(truth), rows * columns)
    assert truth.traces.shape == truth.raster.shape == truth.spikes.shape == (len(truth), 24)
    assert np.isfinite(truth.traces).all()
    assert np.isfinite(truth.snr).all()
    assert np.all(truth.cell_masks().sum(axis=1) > 0)
    assert np.all((truth.spikes.sum(axis=1) > 0) == truth.active)
    assert np.all(truth.raster[truth.spikes > 0])
    assert not (truth.functional & truth.ignore).any()
    assert not (truth.mask() & ~truth.union(truth.in_focus)).any()
    assert np.all(truth.events[:, 2] >= truth.events[:, 1])
    assert len(truth.events) == 0 or truth.events[:, 2].max() < config.duration_s
    inside = truth.in_focus & ~truth.cut
    assert inside.sum() >= 0.8 * (config.n_active + config.n_silent) - 8


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.floats(1.5, 20.0))
def test_noise_changes_what_is_detectable_and_nothing_else(seed: int, factor: float) -> None:
    config = small(seed, "training")
    noisier = config.model_copy(
        update={"gain_counts_per_photon": factor * config.gain_counts_per_photon}
    )
    quiet, loud = (simulate(each, seed=seed).truth for each in (config, noisier))
    np.testing.assert_array_equal(quiet.traces, loud.traces)
    np.testing.assert_array_equal(quiet.shifts, loud.shifts)
    np.testing.assert_array_equal(quiet.footprints.toarray(), loud.footprints.toarray())
    np.testing.assert_array_equal(quiet.events, loud.events)
    assert np.all(loud.snr <= quiet.snr)
    assert not (loud.functional & ~quiet.functional).any()


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), extra=st.integers(1, 10))
def test_more_silent_cells_never_change_the_active_ones(seed: int, extra: int) -> None:
    config = small(seed, "validation")
    more = config.model_copy(update={"n_silent": config.n_silent + extra})
    few, many = (simulate(each, seed=seed).truth for each in (config, more))
    for truth_few, truth_many in (
        (few.traces[few.active], many.traces[many.active]),
        (few.events[:, 1:], many.events[:, 1:]),
        (few.shifts, many.shifts),
    ):
        np.testing.assert_array_equal(truth_few, truth_many)

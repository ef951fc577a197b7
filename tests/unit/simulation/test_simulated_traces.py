"""Traces without a movie: their noise, their events, what does not belong to the cell."""

import numpy as np
import pytest

from cocuyo.core import SettingsError
from cocuyo.simulation import PRESETS, random_config, simulate_traces
from cocuyo.simulation.traces import SimulatedTraces

CONFIG = PRESETS["slice"].model_copy(update={"n_frames": 400})


@pytest.fixture(scope="module")
def made() -> SimulatedTraces:
    return simulate_traces(CONFIG, seed=3, n_cells=40)


def test_shapes_and_rate_are_those_that_were_asked_for(made):
    assert made.traces.shape == made.clean.shape == (40, 400)
    assert made.usable.shape == (400,)
    assert made.frame_rate_hz == CONFIG.frame_rate_hz


def test_the_noise_is_the_unit(made):
    second = np.diff(made.traces, n=2, axis=1)
    noise = 1.4826 * np.median(np.abs(second), axis=1) / np.sqrt(6)
    assert np.median(noise) == pytest.approx(1.0, abs=0.1)


def test_a_cells_own_signal_is_in_its_trace(made):
    active = made.clean.max(axis=1) > 10
    assert active.any()
    for trace, clean in zip(made.traces[active], made.clean[active], strict=True):
        assert np.corrcoef(trace, clean)[0, 1] > 0.5


def test_each_event_is_followed_by_fluorescence_and_silent_cells_have_none(made):
    active = made.clean.max(axis=1) > 0
    assert set(made.events.roi.tolist()) == set(np.flatnonzero(active).tolist())
    for roi, first_s in zip(made.events.roi, made.events.first_s, strict=True):
        frame = int(first_s * made.frame_rate_hz)
        course = made.clean[roi, max(0, frame - 1) : frame + round(made.frame_rate_hz)]
        # It rises, or falls less steeply than before where an earlier event still decays.
        assert np.diff(course, n=2).max() > 0


def test_events_lie_in_the_recording_in_order(made):
    assert (made.events.last_s >= made.events.first_s).all()
    assert made.events.last_s.max() <= 400 / made.frame_rate_hz
    order = np.lexsort((made.events.first_s, made.events.roi))
    np.testing.assert_array_equal(order, np.arange(len(order)))


def test_frames_that_were_not_measured_are_interpolated():
    made = next(
        one
        for one in (simulate_traces(CONFIG, seed=seed, n_cells=4) for seed in range(20))
        if not one.usable.all()
    )
    (first, *_) = np.flatnonzero(~made.usable)
    known = np.flatnonzero(made.usable)
    expected = [np.interp(first, known, trace[known]) for trace in made.traces]
    np.testing.assert_allclose(made.traces[:, first], expected, atol=1e-5)


def test_the_same_seed_gives_the_same_traces_and_another_gives_others():
    again = simulate_traces(CONFIG, seed=3, n_cells=40)
    np.testing.assert_array_equal(again.traces, simulate_traces(CONFIG, seed=3, n_cells=40).traces)
    assert not np.array_equal(again.traces, simulate_traces(CONFIG, seed=4, n_cells=40).traces)


def test_splits_share_no_random_number():
    config = random_config(1, split="training", n_frames=200)
    other = config.model_copy(update={"split": "validation"})
    ours, theirs = (simulate_traces(one, seed=1, n_cells=3).traces for one in (config, other))
    assert np.abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.5


def test_one_cell_alone_is_refused():
    with pytest.raises(SettingsError, match="at least 2"):
        simulate_traces(CONFIG, seed=0, n_cells=1)

"""The judge of events: what it is taught, that it learns, and that it is what runs later."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cocuyo.core import ModelError, Periods
from cocuyo.postprocessing import ValidationConfig, look_at
from cocuyo.training.events import (
    OnsetNetwork,
    TraceSet,
    _event_f1,
    _loss,
    _onsets,
    _vary,
    _without_movie,
    fit_judge,
    label_traces,
)
from cocuyo.training.settings import EventsRecipe

RATE_HZ = 8.0
N_FRAMES = 200


def traces(*onsets, n=3, seed=0, height=12.0):
    """The same events in each of some traces, in noise of 1."""
    noise = np.random.default_rng(seed).standard_normal((n, N_FRAMES))
    clean = np.zeros(N_FRAMES)
    for onset in onsets:
        clean[onset:] += height * np.exp(-np.arange(N_FRAMES - onset) / RATE_HZ)
    times = np.tile(np.array(onsets, float) / RATE_HZ, n)
    return TraceSet(
        (noise + clean).astype(np.float32),
        np.tile(clean, (n, 1)).astype(np.float32),
        np.ones(N_FRAMES, np.bool_),
        RATE_HZ,
        Periods(np.repeat(np.arange(n), len(onsets)).astype(np.int32), times, times + 0.1),
    )


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    network = OnsetNetwork(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("rate_hz", [0.5, 8.0, 30.0])
def test_what_was_fitted_is_what_runs_without_torch(network, rate_hz):
    shown = traces(40, 120)
    view = look_at(shown.scaled, shown.usable, frame_rate_hz=rate_hz)
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(view.channels), view.context)[0]).numpy()
    found = network.judge().probability(shown.scaled, shown.usable, frame_rate_hz=rate_hz)
    at = np.minimum(view.group * np.arange(expected.shape[1]) + view.group // 2, found.shape[1] - 1)
    np.testing.assert_allclose(found[:, at], expected, atol=2e-5)


def test_the_second_output_is_not_shipped(network):
    assert not any("clean" in name for name in network.judge().layers)


def test_onsets_are_marked_in_the_frame_of_the_first_spike():
    shown = traces(40, 120)
    marked = _onsets(shown, look_at(shown.scaled, shown.usable, frame_rate_hz=RATE_HZ))
    np.testing.assert_array_equal(np.argwhere(marked[1]).ravel(), [40, 120])


def test_onsets_of_fast_recordings_are_marked_in_their_group():
    shown = traces(41, 122)
    view = look_at(shown.scaled, shown.usable, frame_rate_hz=40.0)
    fast = TraceSet(
        shown.scaled,
        shown.clean,
        shown.usable,
        40.0,
        Periods(shown.events.roi, shown.events.first_s / 5, shown.events.last_s / 5),
    )
    np.testing.assert_array_equal(np.argwhere(_onsets(fast, view)[0]).ravel(), [10, 30])


def test_some_of_the_traces_keep_their_events():
    shown = traces(40, 120, n=10)
    some = _vary(shown, np.array([7, 1, 4, 2]), np.random.default_rng(1))
    assert some.scaled.shape == (4, N_FRAMES)
    assert np.bincount(some.events.roi).tolist() == [2, 2, 2, 2]


def test_made_fainter_the_noise_stays_the_unit():
    silent = traces(n=40, height=0.0)
    for seed in range(6):
        some = _vary(silent, np.arange(40), np.random.default_rng(seed))
        assert some.scaled.std() == pytest.approx(1.0, rel=0.03)


def test_traces_without_a_movie_have_events_in_them():
    shown = _without_movie(5, n_cells=12)
    assert len(shown.scaled) == 12
    assert len(shown.events) > 0
    assert np.isfinite(shown.scaled).all()


def test_a_judge_that_sees_events_everywhere_has_the_greater_loss():
    shown, few, many = traces(40, 120), OnsetNetwork(5), OnsetNetwork(5)
    with torch.no_grad():
        many.onset.bias.fill_(9.0)
        assert float(_loss(many, shown)) > 2 * float(_loss(few, shown)) > 0


def test_the_judge_learns_to_find_events(tmp_path):
    training = [
        traces(
            *sorted(np.random.default_rng(seed).choice(np.arange(8, 180, 12), 5, replace=False)),
            n=12,
            seed=seed,
        )
        for seed in range(6)
    ]
    held = [traces(30, 66, 140, n=12, seed=90)]
    recipe = EventsRecipe(
        epochs=12, width=6, batch=12, simulated_share=0.0, learning_rate=2e-2, loss="bce"
    )
    judge, curve = fit_judge(
        training,
        held,
        recipe=recipe,
        config=ValidationConfig(),
        seed=0,
        checkpoint=tmp_path / "events.checkpoint",
    )
    assert max(curve.score) > 0.9
    assert _event_f1(judge, held[0], ValidationConfig()) == pytest.approx(max(curve.score))


def test_without_events_there_is_nothing_to_learn(tmp_path):
    with pytest.raises(ModelError, match="No neuron for validation has an event"):
        fit_judge(
            [traces(40)],
            [traces()],
            recipe=EventsRecipe(epochs=1),
            config=ValidationConfig(),
            seed=0,
            checkpoint=tmp_path / "events.checkpoint",
        )


def simulation():
    """Two cells; the second fires twice, with spikes 0.4 s apart the first time."""
    course = np.zeros((2, N_FRAMES), np.float32)
    course[1, 40:60] = course[1, 120:140] = 0.5
    events = np.array([[1, 5.0, 5.2], [1, 5.6, 5.7], [1, 15.0, 15.0], [0, 9.0, 9.0]])
    return SimpleNamespace(truth=SimpleNamespace(fps=RATE_HZ, traces=course, events=events))


def label(rows, cell):
    return label_traces(
        rows,
        np.array(cell, np.int64),
        simulation(),
        usable=np.ones(N_FRAMES, np.bool_),
        config=ValidationConfig(),
    )


def test_each_trace_gets_the_events_of_its_cell_and_close_ones_are_joined():
    noise = np.random.default_rng(0).normal(0, 0.1, (2, N_FRAMES)).astype(np.float32)
    labelled = label(noise, [1, 0])
    assert labelled.events.roi.tolist() == [0, 0, 1]
    assert labelled.events.first_s.tolist() == [5.0, 15.0, 9.0]
    assert labelled.events.last_s.tolist() == [5.7, 15.0, 9.0]


def test_the_clean_signal_has_the_size_that_it_has_in_the_trace():
    truth = simulation().truth.traces
    noise = np.random.default_rng(0).normal(0, 0.1, (1, N_FRAMES)).astype(np.float32)
    trace = noise + 2 * truth[[1]]
    labelled = label(trace, [1])
    unit = np.ptp(trace) / np.ptp(labelled.scaled)  # in which the trace is seen
    assert np.ptp(labelled.clean) * unit == pytest.approx(2 * np.ptp(truth[1]), rel=0.15)


def test_no_traces_are_no_examples():
    labelled = label(np.zeros((0, N_FRAMES), np.float32), [])
    assert labelled.scaled.shape == (0, N_FRAMES)
    assert len(labelled.events) == 0

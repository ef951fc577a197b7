"""Averages around stimuli are plain means; neurons that respond are told from others."""

import numpy as np
import pytest
from planted_ensembles import independent_raster

from cocuyo.core import SettingsError
from cocuyo.population import EnsembleConfig, analyse_population, measure_responses

RATE = 5.0


def responding(seed, *, n_responders=5, n_stimuli=12):
    """Neurons of which the first ones fire within half a second after most stimuli."""
    rng = np.random.default_rng(seed)
    raster = independent_raster(20, 1000, seed=seed, rate=0.004).copy()
    stimuli_s = np.sort(rng.choice(np.arange(4, 32), n_stimuli, replace=False) * 6.0)
    for time in stimuli_s:
        for neuron in range(n_responders):
            if rng.random() < 0.8:
                onset = int(time * RATE) + rng.integers(0, 3)
                raster[neuron, onset : onset + 6] = True
    return raster, stimuli_s


def respond(raster, stimuli_s, **options):
    times = np.arange(raster.shape[1]) / RATE
    return measure_responses(raster, times, stimuli_s, frame_rate_hz=RATE, **options)


@pytest.mark.parametrize("seed", range(3))
def test_neurons_that_fire_after_stimuli_are_responders(seed):
    found = respond(*responding(seed), after_s=2.0)
    assert found.responders[:5].all()
    assert found.responders[5:].sum() <= 1
    assert found.population_p_value < 0.05


def test_random_times_have_responders_in_few_recordings():
    with_responder = 0
    for seed in range(40):
        raster, _ = responding(seed, n_responders=0)
        stimuli_s = np.random.default_rng(seed + 100).uniform(5, 190, 12)
        found = respond(raster, stimuli_s, n_shuffles=400, seed=seed)
        with_responder += bool(found.responders.any())
    assert with_responder <= 6  # 5 % expected at most; P(more than 6 of 40) is 0.003


def test_averages_are_means_over_the_stimuli():
    raster, stimuli_s = responding(1)
    dff = np.random.default_rng(0).normal(size=raster.shape).astype(np.float32)
    found = respond(raster, stimuli_s, delta_f_over_f=dff, before_s=1.0, after_s=2.0)
    frames = np.round(stimuli_s * RATE).astype(int)
    np.testing.assert_allclose(found.lags_s, np.arange(-5, 11) / RATE)
    for k, lag in enumerate(range(-5, 11)):
        np.testing.assert_allclose(found.active[:, k], raster[:, frames + lag].mean(axis=1))
        np.testing.assert_allclose(
            found.delta_f_over_f[:, k], dff[:, frames + lag].mean(axis=1), atol=1e-6
        )
        assert found.n_active[k] == pytest.approx(raster[:, frames + lag].sum(axis=0).mean())


def test_values_that_are_not_finite_are_left_out_of_the_mean():
    raster, stimuli_s = responding(1)
    dff = np.ones(raster.shape, np.float32)
    dff[0, round(stimuli_s[0] * RATE)] = np.nan
    dff[1] = np.nan
    found = respond(raster, stimuli_s, delta_f_over_f=dff)
    assert (found.delta_f_over_f[0] == 1).all()
    assert np.isnan(found.delta_f_over_f[1]).all()


def test_the_response_is_the_share_of_time_after_the_stimulus_beyond_that_of_the_recording():
    raster = np.zeros((1, 200), np.bool_)
    raster[0, 100:105] = True
    found = respond(raster, np.array([20.0]), after_s=1.8)
    assert found.response[0] == pytest.approx(5 / 10 - 5 / 200)


def test_a_stimulus_counts_from_the_nearest_frame_of_irregular_times():
    raster = np.zeros((1, 20), np.bool_)
    raster[0, 10] = True
    times = np.arange(20.0)
    times[10:] += 50  # a pause
    found = measure_responses(
        raster, times, np.array([60.3]), frame_rate_hz=1.0, before_s=1, after_s=2
    )
    assert found.active[0].tolist() == [0, 1, 0, 0]


def test_stimuli_without_their_whole_window_are_left_out_with_a_note():
    raster, stimuli_s = responding(1)
    times = np.arange(1000) / RATE
    found = analyse_population(
        raster,
        times,
        frame_rate_hz=RATE,
        stimuli_s=np.array([*stimuli_s, 1.0, 199.0, 500.0]),
        config=EnsembleConfig(n_shuffles=20),
    )
    assert len(found.stimuli[0].times_s) == len(stimuli_s)
    assert found.notes[0].startswith("3 of 15 stimuli were left out")


def test_stimuli_of_each_label_are_averaged_apart():
    raster, stimuli_s = responding(2)
    labels = tuple("light" if k % 2 else "sham" for k in range(len(stimuli_s)))
    found = analyse_population(
        raster,
        np.arange(1000) / RATE,
        frame_rate_hz=RATE,
        stimuli_s=stimuli_s,
        stimulus_labels=labels,
        config=EnsembleConfig(n_shuffles=20),
    )
    assert [each.label for each in found.stimuli] == ["sham", "light"]
    assert found.stimuli[1].times_s.tolist() == stimuli_s[1::2].tolist()


def test_stimuli_outside_the_recording_are_refused():
    raster, _ = responding(0)
    with pytest.raises(SettingsError, match="None of 2 stimuli"):
        respond(raster, np.array([-1.0, 3600.0]))


def test_no_neuron_gives_no_responder():
    found = respond(np.zeros((0, 200), np.bool_), np.array([20.0]))
    assert found.responders.shape == (0,)
    assert found.active.shape == (0, len(found.lags_s))

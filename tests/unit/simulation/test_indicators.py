"""Indicators: the transients of a rendered movie are the published ones."""

import numpy as np
import pytest

from cocuyo.simulation import INDICATORS, SimulationConfig, simulate

RATE_HZ = 100.0
# One neuron under a perfect microscope.
CONFIG = SimulationConfig(
    n_frames=600,
    n_rows=32,
    n_columns=32,
    frame_rate_hz=RATE_HZ,
    n_active=1,
    n_silent=0,
    n_defocused_active=0,
    n_defocused_silent=0,
    min_distance=4.0,
    rare_share=1.0,
    spikes_per_event=1.0,
    brightness=1.0,
    brightness_spread=0.0,
    dim_at_rest_share=0.0,
    indicator_spread=0.0,
    gain_counts_per_photon=0.0,
    read_noise_counts=0.0,
    baseline_counts=12000.0,
    neuropil_amplitude=0.0,
    network_burst_rate_hz=0.0,
    network_burst_amplitude=0.0,
    drift_px=0.0,
    jitter_px=0.0,
    bleaching=0.0,
    vignetting=0.0,
    n_dirt=0,
    n_hot_pixels=0,
)


@pytest.mark.parametrize("name", list(INDICATORS))
def test_one_spike_gives_the_published_transient_in_the_movie(name: str) -> None:
    indicator = INDICATORS[name]
    config = CONFIG.model_copy(update={"indicator": name})
    for seed in range(40):
        # Another neuron may lie beyond the border; the first is the one inside.
        simulation = simulate(config, seed=seed)
        truth = simulation.truth
        inside = np.flatnonzero(~truth.cut)
        if len(truth) == 1 and truth.spikes[inside].sum() == 1 and truth.spikes[0, :300].any():
            break
    else:
        pytest.fail("no seed with a single neuron that fires once, early")
    mask = truth.cell_masks()[0].toarray().reshape(32, 32)
    course = simulation.frames[:, mask].mean(axis=1)
    onset = int(np.flatnonzero(truth.spikes[0])[0])
    measured = (course - course[:onset].mean()) / truth.rest_counts[0]
    peak = int(measured.argmax())
    half = peak + int(np.flatnonzero(measured[peak:] < measured[peak] / 2)[0])
    assert measured[peak] == pytest.approx(indicator.response, rel=0.03)
    assert (peak - onset) / RATE_HZ == pytest.approx(indicator.peak_s, abs=1.5 / RATE_HZ)
    assert (half - peak) / RATE_HZ == pytest.approx(indicator.half_decay_s, abs=2 / RATE_HZ)


@pytest.mark.parametrize("name", list(INDICATORS))
def test_fluorescence_rises_with_calcium_and_saturates(name: str) -> None:
    indicator = INDICATORS[name]
    levels = np.geomspace(0.01, 1e5, 60)
    answer = indicator.delta_f_over_f(levels)
    assert indicator.delta_f_over_f(np.zeros(1))[0] == 0
    assert np.all(np.diff(answer) > 0)
    assert answer[-1] == pytest.approx(indicator.largest, rel=0.01)
    assert answer.max() < indicator.largest


def test_two_spikes_give_more_than_twice_one_with_gcamp_and_less_with_a_dye() -> None:
    ratio = {
        name: float(np.divide(*indicator.delta_f_over_f(np.array([2.0, 1.0]))))
        for name, indicator in INDICATORS.items()
    }
    assert min(ratio["GCaMP6f"], ratio["GCaMP6s"]) > 2.1
    assert max(ratio["OGB-1"], ratio["Fluo-4"]) < 2.0


def test_a_burst_in_the_movie_stays_below_saturation_and_above_one_spike() -> None:
    burst = CONFIG.model_copy(
        update={"indicator": "OGB-1", "bursting_share": 1.0, "burst_spikes": 60.0,
                "spike_interval_s": 0.01, "n_frames": 400}
    )  # fmt: skip
    largest = max(float(simulate(burst, seed=seed).truth.traces.max()) for seed in range(6))
    assert 0.6 * INDICATORS["OGB-1"].largest < largest < INDICATORS["OGB-1"].largest


def test_cells_differ_in_what_a_spike_lets_in() -> None:
    config = CONFIG.model_copy(
        update={"indicator": "GCaMP6f", "indicator_spread": 0.3, "n_active": 40, "n_rows": 128,
                "n_columns": 128, "n_frames": 400, "min_distance": 1.0}
    )  # fmt: skip
    truth = simulate(config, seed=1).truth
    single = truth.traces[truth.spikes.sum(axis=1) == 1].max(axis=1)
    assert len(single) > 8
    assert single.std() / single.mean() > 0.1

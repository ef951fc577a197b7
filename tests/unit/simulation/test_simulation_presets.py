"""Presets and the random settings of training data."""

import numpy as np
import pytest

from cocuyo.simulation import PRESETS, SimulationConfig, random_config, simulate, training_config


@pytest.mark.parametrize("name", ["slice", "crowded", "dim"])
def test_presets_are_hard_enough(name: str) -> None:
    preset = PRESETS[name]
    smaller = preset.model_copy(
        update={
            "n_rows": 128,
            "n_columns": 128,
            "n_frames": 300,
            "n_active": preset.n_active // 3,
            "n_silent": preset.n_silent // 3,
            "n_defocused_active": preset.n_defocused_active // 4,
            "n_defocused_silent": preset.n_defocused_silent // 4,
        }
    )
    simulation = simulate(smaller, seed=101)
    truth = simulation.truth
    in_focus = truth.in_focus
    assert (in_focus & ~truth.active).sum() / in_focus.sum() >= 0.6
    assert np.hypot(*truth.shifts.T).max() >= 2.9
    assert 3 <= np.median(truth.transient_snr) <= 10
    maximum = simulation.frames.max(axis=0)
    scores = []
    for percentile in np.linspace(50, 99.5, 34):
        found = maximum > np.percentile(maximum, percentile)
        scores.append(2 * (found & truth.mask()).sum() / (found.sum() + truth.mask().sum()))
    assert max(scores) <= 0.5


def test_the_silent_preset_has_visible_cells_and_no_activity() -> None:
    truth = simulate(PRESETS["silent"].model_copy(update={"n_frames": 2}), seed=1).truth
    assert not truth.active.any()
    assert not truth.mask().any()
    assert (truth.in_focus & truth.visible_at_rest & ~truth.cut).sum() >= 190


def test_random_settings_repeat_with_their_seed_and_differ_between_splits() -> None:
    assert random_config(3, split="training") == random_config(3, split="training")
    drawn = [random_config(3, split=split) for split in ("training", "validation", "test")]
    assert len({config.pixel_size_um for config in drawn}) == 3
    assert [config.split for config in drawn] == ["training", "validation", "test"]


def test_random_settings_cover_what_training_needs() -> None:
    drawn = [random_config(seed, n_frames=50, shape=(96, 128)) for seed in range(150)]
    assert {config.bit_depth for config in drawn} == {8, 12, 16}
    assert all(
        (config.n_frames, config.n_rows, config.n_columns) == (50, 96, 128) for config in drawn
    )

    def span(name: str) -> tuple[float, float]:
        values = [getattr(config, name) for config in drawn]
        return min(values), max(values)

    assert span("drift_px")[0] < 0.5
    assert span("drift_px")[1] > 7.5
    assert span("n_flashes") == (0, 3)
    assert 4 <= span("frame_rate_hz")[0] < 5
    assert 11 < span("frame_rate_hz")[1] <= 12
    diameters = [config.soma_diameter_um / config.pixel_size_um for config in drawn]
    assert 4.9 <= min(diameters) < 6
    assert 11 < max(diameters) <= 13
    silent = [config.n_silent / (config.n_silent + config.n_active) for config in drawn]
    assert sum(share == 1 for share in silent) >= 1
    assert np.percentile(silent, 5) >= 0.35
    assert all(config.n_active == 0 or config.n_active >= 5 for config in drawn)


def test_random_settings_give_detectable_transients() -> None:
    medians = []
    for seed in range(6):
        config = random_config(seed, split="test", n_frames=150, shape=(96, 96))
        truth = simulate(config, seed=seed).truth
        if truth.functional.any():
            medians.append(np.median(truth.transient_snr))
    assert min(medians) > 1
    assert max(medians) < 30
    assert 2.5 < np.median(medians) < 15


def test_presets_are_settings_by_name() -> None:
    assert set(PRESETS) == {"demo", "slice", "sparse", "crowded", "silent", "dim"}
    assert all(isinstance(preset, SimulationConfig) for preset in PRESETS.values())


def test_training_goes_beyond_the_slice_in_optics_and_indicator() -> None:
    usual = [random_config(seed) for seed in range(120)]
    wide = [training_config(seed) for seed in range(120)]
    soft = [w for u, w in zip(usual, wide, strict=True) if w.blur_um != u.blur_um]
    slow = [w for u, w in zip(usual, wide, strict=True) if w.decay_max_s != u.decay_max_s]
    assert 25 <= len(soft) <= 55
    assert 18 <= len(slow) <= 45
    assert all(1.2 <= w.blur_um <= 3.0 and w.defocus_min_um > 2 * w.blur_um for w in soft)
    assert all(w.decay_max_s <= 5.0 for w in slow)
    assert max(w.decay_max_s for w in slow) > 3.5


def test_the_rest_of_a_training_recording_is_as_random_settings_say() -> None:
    changed = {"blur_um", "defocus_min_um", "defocus_max_um", "halo"}
    changed |= {"rise_s", "decay_min_s", "decay_max_s", "event_rate_hz"}
    for seed in range(20):
        usual = random_config(seed, split="validation").model_dump(exclude=changed)
        assert training_config(seed, split="validation").model_dump(exclude=changed) == usual

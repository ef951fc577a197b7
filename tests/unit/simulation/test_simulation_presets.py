"""Presets and the random settings of training data."""

import numpy as np
import pytest

from cocuyo.simulation import (
    INDICATORS,
    PRESETS,
    SimulationConfig,
    broad_training_config,
    preparation_of,
    random_config,
    simulate,
    training_config,
)


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


SLICES = ("demo", "slice", "sparse", "crowded", "silent", "dim")
NEW = (
    *("slice_gcamp6f", "slice_ogb1", "slice_mixed", "slice_stimulated"),
    *("culture", "culture_bursts", "miniscope", "miniscope_video", "miniscope_delta_f"),
)


def test_presets_are_settings_by_name() -> None:
    assert tuple(PRESETS) == SLICES + NEW
    for preset in PRESETS.values():
        assert SimulationConfig.model_validate(preset.model_dump()) == preset


@pytest.mark.parametrize("name", NEW)
def test_each_preset_has_active_cells_that_can_be_found_and_others(name: str) -> None:
    counts = ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent")
    fewer = {key: max(3, getattr(PRESETS[name], key) // 5) for key in counts}
    size = {"n_frames": 100, "n_rows": 112, "n_columns": 112}
    simulation = simulate(PRESETS[name].model_copy(update=size | fewer), seed=11)
    truth = simulation.truth
    assert truth.functional.sum() >= 2
    assert (truth.in_focus & ~truth.active).sum() >= 2
    assert (~truth.in_focus).sum() >= 4
    assert 2 < np.median(truth.transient_snr) < 60
    limit = np.iinfo(simulation.frames.dtype).max
    clipped = (simulation.frames >= limit).mean()
    assert clipped < 0.02
    assert simulation.frames.std() > 0.02 * simulation.frames.mean()


def test_broad_settings_repeat_and_differ_between_splits() -> None:
    first = broad_training_config(5, split="validation")
    assert first == broad_training_config(5, split="validation")
    assert first != broad_training_config(5, split="training")
    assert first.split == "validation"


def test_broad_settings_cover_preparations_cameras_sizes_and_rates() -> None:
    seeds = range(240)
    drawn = [broad_training_config(seed, n_frames=1800, shape=(256, 256)) for seed in seeds]
    kinds = np.array([preparation_of(seed) for seed in seeds])
    shares = [float((kinds == name).mean()) for name in ("slice", "culture", "miniscope")]
    np.testing.assert_allclose(shares, [0.45, 0.2, 0.35], atol=0.1)
    sizes = np.array([config.soma_diameter_um / config.pixel_size_um for config in drawn])
    assert 4.9 < sizes.min() < 6
    assert 25 < sizes.max() <= 30
    rates = [config.frame_rate_hz for config in drawn]
    assert 2.0 <= min(rates) < 2.5
    assert 50 < max(rates) <= 60
    assert {config.indicator for config in drawn} == {"none", *INDICATORS}
    assert {config.excess_noise for config in drawn} == {1.0, 2.0}
    assert {config.bit_depth for config in drawn} == {8, 12, 16}
    mixed = [config.soma_diameter_distribution == "log_uniform" for config in drawn]
    assert 0.2 < np.mean(mixed) < 0.5
    for chosen in (
        *("numerical_aperture", "lamp_drift", "lamp_flicker", "illumination_tilt", "nonrigid_px"),
        *("n_dead_pixels", "n_dropped_frames", "stimulus_interval_s", "bursting_share"),
        *("tonic_share", "saved_blur_px", "vessel_shadow"),
    ):
        share = np.mean([getattr(config, chosen) > 0 for config in drawn])
        assert 0.03 < share < 0.97, chosen
    assert 0.02 < np.mean([config.saved_as == "delta_f_over_f" for config in drawn]) < 0.25
    assert 0.1 < np.mean([config.jpeg_quality is not None for config in drawn]) < 0.5
    assert sum(config.n_active == 0 for config in drawn) >= 1
    vessels = [config.n_vessels for config, kind in zip(drawn, kinds, strict=True)
               if kind == "culture"]  # fmt: skip
    assert set(vessels) == {0}


def test_a_short_broad_recording_is_not_too_fast_to_show_anything() -> None:
    for seed in range(60):
        config = broad_training_config(seed, n_frames=400)
        assert config.duration_s >= 29.9


def test_broad_settings_give_detectable_transients() -> None:
    medians, clipped = [], []
    for seed in range(8):
        config = broad_training_config(seed, split="test", n_frames=100, shape=(80, 80))
        simulation = simulate(config, seed=seed)
        clipped.append((simulation.frames >= config.max_count).mean())
        if simulation.truth.functional.any():
            medians.append(np.median(simulation.truth.transient_snr))
    assert len(medians) >= 5
    assert min(medians) > 0.5
    assert 2.5 < np.median(medians) < 20
    assert max(clipped) < 0.06


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

"""Cameras and files: noise, saturation, broken pixels, lost frames, smoothing, compression."""

import numpy as np
import pytest

from cocuyo.core import AnyArray
from cocuyo.simulation import CAMERAS, CameraName, SimulationConfig, simulate, with_camera

# A still, even field without cells.
FIELD = SimulationConfig(
    n_frames=160,
    n_rows=48,
    n_columns=64,
    n_active=0,
    n_silent=0,
    n_defocused_active=0,
    n_defocused_silent=0,
    background_texture=0.0,
    n_vessels=0,
    neuropil_amplitude=0.0,
    network_burst_amplitude=0.0,
    network_burst_rate_hz=0.0,
    drift_px=0.0,
    jitter_px=0.0,
    bleaching=0.0,
    vignetting=0.0,
    n_dirt=0,
    n_hot_pixels=0,
)


def changed(config: SimulationConfig, **changes: object) -> SimulationConfig:
    return SimulationConfig.model_validate(config.model_dump() | changes)


def frames_of(config: SimulationConfig, seed: int = 3) -> AnyArray:
    return np.asarray(simulate(config, seed=seed).frames, np.float64)


@pytest.mark.parametrize("name", list(CAMERAS))
@pytest.mark.parametrize("photons", [[4.0, 8.0, 14.0], [300.0, 900.0, 2000.0]])
def test_variance_grows_with_the_mean_as_the_camera_says(
    name: CameraName, photons: list[float]
) -> None:
    camera = CAMERAS[name]
    points = []
    for light in photons:
        # 16 bits, so that whole counts do not add steps; rows apart from the rest.
        config = changed(
            with_camera(FIELD, name, photons=light), bit_depth=16, row_noise_counts=0.0
        )
        frames = frames_of(config)
        points.append((frames.mean(), frames.var(axis=0, ddof=1).mean()))
    (first, *_, last) = points
    slope = (last[1] - first[1]) / (last[0] - first[0])
    gain = camera.gain_counts_per_photon
    # The dimmer pair lies close together: its slope is known less well.
    read = (gain * camera.read_noise_electrons) ** 2 * np.exp(2 * camera.read_noise_spread**2)
    doubt = 4 * np.sqrt(2) * (last[1] + read) / np.sqrt(160 * 48 * 64) / (last[0] - first[0])
    assert slope == pytest.approx(gain * camera.excess_noise, rel=0.04, abs=doubt)
    # What is left in the dark is read noise and rounding.
    dark = first[1] - slope * (first[0] - camera.offset_counts)
    assert dark == pytest.approx(read + 1 / 12, rel=0.15, abs=doubt * (last[0] - first[0]))


def test_the_truth_states_the_noise_that_the_camera_makes() -> None:
    for name in CAMERAS:
        cell = changed(FIELD, n_silent=3, n_frames=200, brightness=0.5)
        config = with_camera(cell, name, photons=400.0)
        simulation = simulate(changed(config, bit_depth=16, row_noise_counts=0.0), seed=2)
        truth = simulation.truth
        masks = truth.cell_masks().toarray().reshape(len(truth), 48, 64)
        spread = simulation.frames.astype(float).var(axis=0, ddof=1)
        for cell_index in np.flatnonzero(~truth.cut):
            measured = np.sqrt(spread[masks[cell_index]].mean())
            assert truth.noise_counts[cell_index] == pytest.approx(measured, rel=0.1)


def test_pixels_fill_up_at_the_full_well() -> None:
    config = with_camera(FIELD, "sCMOS", photons=29_000.0)
    frames = frames_of(config)
    # 30 000 electrons at 2.17 counts are more than 16 bits hold with the offset.
    assert config.saturation_counts == pytest.approx(100 + 2.17 * 30_000)
    low = frames_of(changed(config, saturation_counts=60_000.0))
    assert frames.max() > 63_000
    assert low.max() == 60_000
    assert (low == 60_000).mean() > 0.9


def test_counts_beyond_the_range_are_clipped_even_where_cells_shine() -> None:
    config = changed(with_camera(FIELD, "CMOS", photons=2400.0), n_silent=6, brightness=1.0)
    frames = frames_of(config)
    assert frames.max() == 255
    assert (frames == 255).mean() > 0.02


def test_dead_pixels_see_nothing_and_hot_ones_stay_put() -> None:
    bright = changed(FIELD, n_dead_pixels=5, n_hot_pixels=0, read_noise_counts=2.0)
    mean = frames_of(bright).mean(axis=0)
    dead = mean < 0.5 * np.median(mean)
    assert 1 <= dead.sum() <= 5
    np.testing.assert_allclose(mean[dead], FIELD.offset_counts, atol=2)
    moving = frames_of(changed(bright, drift_px=4.0))
    assert np.all(moving[:, dead].max(axis=0) < 0.5 * np.median(mean))


def test_read_noise_differs_between_the_pixels_of_an_scmos() -> None:
    dark = changed(FIELD, gain_counts_per_photon=0.0, read_noise_counts=20.0, baseline_counts=1.0)
    even, uneven = (
        frames_of(changed(dark, read_noise_spread=spread)).std(axis=0) for spread in (0.0, 0.7)
    )
    assert np.log(even).std() < 0.1
    assert np.log(uneven).std() == pytest.approx(0.7, rel=0.05)
    assert np.median(uneven) == pytest.approx(20.0, rel=0.05)


def test_a_fixed_pattern_stays_and_rows_flicker_together() -> None:
    silent = changed(FIELD, gain_counts_per_photon=0.0, read_noise_counts=1.0)
    pattern = frames_of(changed(silent, gain_spread=0.02, offset_spread_counts=5.0))
    first, second = pattern[:80].mean(axis=0), pattern[80:].mean(axis=0)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.99
    assert first.std() == pytest.approx(np.hypot(0.02 * 2000, 5.0), rel=0.05)
    rows = frames_of(changed(silent, row_noise_counts=8.0))
    rows -= rows.mean(axis=0)
    assert rows.mean(axis=2).std() == pytest.approx(8.0, rel=0.05)
    assert (rows - rows.mean(axis=2, keepdims=True)).std() == pytest.approx(1.04, rel=0.05)


def test_lost_frames_repeat_the_one_before_or_are_dark() -> None:
    drawn = {}
    for how in ("repeat", "blank"):
        config = changed(FIELD, n_dropped_frames=6, dropped_frames=how, n_frames=40)
        drawn[how] = simulate(config, seed=5)
    whole = frames_of(changed(FIELD, n_frames=40), seed=5)
    lost = drawn["repeat"].truth.dropped
    np.testing.assert_array_equal(lost, drawn["blank"].truth.dropped)
    assert lost.sum() == 6
    assert not lost[0]
    repeated, dark = (np.asarray(drawn[how].frames, float) for how in ("repeat", "blank"))
    for t in np.flatnonzero(lost):
        np.testing.assert_array_equal(repeated[t], repeated[t - 1])
        assert dark[t].mean() == pytest.approx(FIELD.offset_counts, abs=2)
    np.testing.assert_array_equal(repeated[~lost], whole[~lost])


TISSUE = with_camera(
    SimulationConfig(n_frames=60, n_rows=64, n_columns=80, n_active=5, n_silent=6,
                     event_rate_hz=0.3, drift_px=0.0, jitter_px=0.0, n_hot_pixels=0),
    "CMOS", photons=1000.0, fill=0.4,
)  # fmt: skip


def noise_of_neighbours(frames: AnyArray) -> float:
    steps = np.diff(np.asarray(frames, float), axis=0)
    return float((steps[:, :, 1:] * steps[:, :, :-1]).mean() / steps.var())


def test_video_loses_detail_and_keeps_the_light() -> None:
    plain = frames_of(TISSUE)
    fine, coarse = (frames_of(changed(TISSUE, jpeg_quality=quality)) for quality in (95, 30))
    assert 0 < np.abs(fine - plain).mean() < np.abs(coarse - plain).mean() < 12
    assert coarse.mean() == pytest.approx(plain.mean(), rel=0.01)
    smooth = frames_of(changed(TISSUE, saved_blur_px=1.5))
    assert noise_of_neighbours(plain) < 0.1
    assert noise_of_neighbours(smooth) > 0.7
    np.testing.assert_array_equal(coarse, frames_of(changed(TISSUE, jpeg_quality=30)))


def test_delta_f_hides_what_is_still_and_shows_what_fires() -> None:
    even = changed(TISSUE, bleaching=0.0, neuropil_amplitude=0.0, network_burst_amplitude=0.0)
    simulation = simulate(changed(even, saved_as="delta_f_over_f"), seed=3)
    truth = simulation.truth
    counts = simulate(even, seed=3).frames.astype(float)
    shown = simulation.frames.astype(float)
    assert simulation.frames.dtype == np.uint8
    assert shown.min() == 0
    assert shown.max() == 255
    silent = truth.union(truth.in_focus & ~truth.active) & ~truth.union(truth.active)
    elsewhere = ~truth.union(np.ones(len(truth), bool))
    rest = np.median(counts, axis=0)
    assert rest[silent].mean() > 1.03 * rest[elsewhere].mean()
    still = np.median(shown, axis=0)
    assert abs(still[silent].mean() - still[elsewhere].mean()) < 8
    assert not truth.visible_at_rest.any()
    clearest = int(np.argmax(truth.snr * truth.functional))
    mask = truth.cell_masks()[clearest].toarray().reshape(64, 80)
    course = shown[:, mask].mean(axis=1)
    assert np.corrcoef(course, truth.traces[clearest])[0, 1] > 0.8
    moment = int(truth.traces[clearest].argmax())
    assert truth.visible(moment)[clearest]
    assert not truth.visible(moment)[~truth.active].any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jpeg_quality": 80}, "JPEG holds 8 bits"),
        ({"numerical_aperture": 0.5, "focus_depth_um": 20.0}, "must rise"),
        ({"n_dropped_frames": 160}, "at least the first must stay"),
        ({"vessel_depth_min": 0.5}, "vessel_depth: the minimum 0.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        changed(FIELD, **changes)


def test_a_camera_can_be_filled_by_turning_its_gain() -> None:
    config = with_camera(FIELD, "CMOS", photons=500.0, fill=0.5)
    assert config.baseline_counts == pytest.approx(0.5 * (255 - 8))
    assert config.baseline_counts / config.gain_counts_per_photon == pytest.approx(500)
    assert config.read_noise_counts / config.gain_counts_per_photon == pytest.approx(18)

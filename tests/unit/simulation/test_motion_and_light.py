"""Uneven motion, jumps, dirt and the lamp: what moves, what stays, what the truth says of it."""

import numpy as np
import pytest

from cocuyo.core import AnyArray, stream
from cocuyo.simulation import SimulationConfig, simulate
from cocuyo.simulation.motion import draw_deformation

# A perfect camera over still, evenly lit tissue.
CLEAN = SimulationConfig(
    n_frames=60,
    n_rows=96,
    n_columns=128,
    n_active=0,
    n_silent=0,
    n_defocused_active=0,
    n_defocused_silent=0,
    gain_counts_per_photon=0.0,
    read_noise_counts=0.0,
    baseline_counts=10000.0,
    drift_px=0.0,
    jitter_px=0.0,
    bleaching=0.0,
    vignetting=0.0,
    n_dirt=0,
    n_hot_pixels=0,
    neuropil_amplitude=0.0,
    network_burst_amplitude=0.0,
)
MOVING = {"drift_px": 3.0, "jitter_px": 0.1, "n_jumps": 2, "nonrigid_px": 2.0}


def changed(config: SimulationConfig, **changes: object) -> SimulationConfig:
    return SimulationConfig.model_validate(config.model_dump() | changes)


def light_of(config: SimulationConfig, seed: int = 3) -> AnyArray:
    return np.asarray(simulate(config, seed=seed).frames, float) - config.offset_counts


def test_planted_landmarks_move_as_the_truth_says_wherever_they_lie() -> None:
    config = changed(CLEAN, **MOVING, n_silent=5, min_distance=4.0, halo=0.0, brightness=2.0)
    config = changed(config, dendrite_share=0.0)
    simulation = simulate(config, seed=4)
    truth = simulation.truth
    # The tissue alone, moved in the same way, is taken away: the landmarks are left.
    alone = light_of(changed(config, n_silent=0), seed=4)
    images = np.asarray(simulation.frames, float) - config.offset_counts - alone
    paths = truth.displacements(*truth.centres.T)
    checked = 0
    for (y, x), path in zip(truth.centres, paths, strict=True):
        if not (16 < y < 80 and 16 < x < 112):
            continue
        centroids = np.array([centroid(image, y + dy, x + dx) for image, (dy, dx) in
                              zip(images, path, strict=True)])  # fmt: skip
        moved = centroids - centroids[0]
        assert np.abs(moved - path).max() < 0.08
        assert np.sqrt(((moved - path) ** 2).mean()) < 0.03
        checked += 1
    assert checked >= 3
    # Two landmarks do not move alike, and neither moves as the frame does.
    assert np.abs(paths - truth.shifts[None]).max() > 0.5
    assert np.abs(paths[0] - paths[1]).max() > 0.3


def centroid(image: AnyArray, y: float, x: float) -> tuple[float, float]:
    rows, columns = (slice(round(v) - 9, round(v) + 10) for v in (y, x))
    patch = image[rows, columns]
    grid_y, grid_x = np.mgrid[rows, columns]
    return float((grid_y * patch).sum() / patch.sum()), float((grid_x * patch).sum() / patch.sum())


def test_where_a_pixel_comes_from_is_the_inverse_of_where_a_point_goes() -> None:
    config = changed(CLEAN, nonrigid_px=2.5)
    deformation = draw_deformation(stream(1, "here"), config=config)
    shift = np.array([1.7, -2.4], np.float32)
    for t in (0, 20, 59):
        y, x = deformation.sources(t, shift)
        back = deformation.at(t, y, x)
        rows, columns = np.mgrid[:96, :128]
        np.testing.assert_allclose(y + shift[0] + back[0], rows, atol=0.015)
        np.testing.assert_allclose(x + shift[1] + back[1], columns, atol=0.015)
    assert not deformation.at(0, y, x).any()


def test_uneven_motion_reaches_what_was_asked_slowly() -> None:
    truth = simulate(changed(CLEAN, nonrigid_px=1.5), seed=1).truth
    y, x = (values.ravel().astype(np.float32) for values in np.mgrid[0:96:8, 0:128:8])
    paths = truth.displacements(y, x)
    reach = np.hypot(paths[..., 0], paths[..., 1])
    assert reach.max() == pytest.approx(1.5, rel=0.06)
    assert np.abs(np.diff(paths, axis=1)).max() < 0.35
    assert np.abs(paths.mean(axis=0)).max() < 0.12  # the frame as a whole stays


def test_cells_carry_their_own_shifts_only_where_motion_is_uneven() -> None:
    rigid = simulate(changed(CLEAN, n_silent=4, drift_px=3.0), seed=4).truth
    uneven = simulate(changed(CLEAN, n_silent=4, **MOVING), seed=4).truth
    assert "cell_shifts" not in rigid.arrays()
    n = int(uneven.in_focus.sum())
    assert uneven.arrays()["cell_shifts"].shape == (n, 60, 2)
    np.testing.assert_array_equal(rigid.displacements(*rigid.centres.T)[0], rigid.shifts)


def test_jumps_are_short_and_go_back() -> None:
    still = simulate(changed(CLEAN, n_frames=200), seed=2).truth.shifts
    shifts = simulate(changed(CLEAN, n_frames=200, n_jumps=3, jump_px=5.0), seed=2).truth.shifts
    away = np.hypot(*shifts.T) > 0.01
    assert not still.any()
    assert 2 <= away.sum() <= 18
    assert 2.0 < np.hypot(*shifts.T).max() <= 5.0
    assert not away[0]


def test_moved_labels_follow_uneven_motion() -> None:
    truth = simulate(changed(CLEAN, n_silent=20, **MOVING, brightness=1.0), seed=4).truth
    reach = np.abs(truth.displacements(*truth.centres.T)).max(axis=(0, 2))
    t = int(reach.argmax())
    moved = truth.frame_labels(t, moved=True)
    masks = truth.cell_masks().toarray().reshape(len(truth), 96, 128)
    paths = truth.displacements(*truth.centres.T)[:, t]
    expected = np.zeros_like(moved)
    for mask, (dy, dx) in zip(masks, np.rint(paths).astype(int), strict=True):
        expected |= np.roll(mask, (dy, dx), axis=(0, 1))
    inner = (slice(8, -8), slice(8, -8))
    overlap = (moved & expected)[inner].sum() / (moved | expected)[inner].sum()
    still = truth.frame_labels(t)
    assert overlap > 0.8
    assert overlap > (moved & still)[inner].sum() / (moved | still)[inner].sum() + 0.1


def test_dirt_stays_where_it_is_while_tissue_moves_unevenly() -> None:
    dirty = light_of(changed(CLEAN, **MOVING, n_dirt=3, dirt_depth_max=0.6))
    clear = light_of(changed(CLEAN, **MOVING))
    shade = dirty / clear
    assert shade.min() < 0.9
    np.testing.assert_allclose(shade, np.broadcast_to(shade[0], shade.shape), atol=0.002)
    assert np.abs(clear - clear[0]).max() > 100  # the tissue did move


def test_the_lamp_changes_all_light_as_the_truth_says() -> None:
    config = changed(
        CLEAN, lamp_drift=0.02, lamp_wander=0.003, lamp_flicker=0.01, n_lamp_steps=1, lamp_step=0.1
    )
    simulation = simulate(config, seed=5)
    means = (np.asarray(simulation.frames, float) - config.offset_counts).mean(axis=(1, 2))
    light = simulation.truth.light
    np.testing.assert_allclose(means / means[0], light / light[0], rtol=2e-4)
    assert np.diff(np.log(light)).std() > 0.01
    step = np.abs(np.diff(np.log(simulate(
        changed(CLEAN, n_lamp_steps=1, lamp_step=0.1), seed=5).truth.light)))  # fmt: skip
    assert (step > 0.03).sum() == 1
    assert (step > 0).sum() == 1


def test_illumination_tilts_slowly_and_keeps_its_mean() -> None:
    light = light_of(changed(CLEAN, n_frames=240, illumination_tilt=0.1, background_texture=0.0))
    tilt = light / light[0]
    np.testing.assert_allclose(tilt.mean(axis=(1, 2)), 1, atol=0.002)
    assert np.abs(tilt - 1).max() == pytest.approx(0.1, rel=0.02)
    assert np.abs(np.diff(tilt, axis=0)).max() < 0.02


def test_stimuli_flash_on_time_and_make_cells_fire() -> None:
    config = changed(
        CLEAN,
        n_frames=200,
        frame_rate_hz=10.0,
        n_active=12,
        event_rate_hz=0.001,
        stimulus_interval_s=4.0,
        stimulus_duration_s=0.25,
        stimulus_light=0.5,
        stimulus_response_share=1.0,
    )
    simulation = simulate(config, seed=3)
    truth = simulation.truth
    np.testing.assert_allclose(truth.stimuli_s, [4, 8, 12, 16])
    np.testing.assert_array_equal(
        np.flatnonzero(truth.flashes), [40, 41, 42, 80, 81, 82, 120, 121, 122, 160, 161, 162]
    )
    dark = light_of(changed(config, stimulus_light=0.0))
    stray = np.asarray(simulation.frames, float) - config.offset_counts - dark
    # Half the background in whole frames, a quarter in the frame that it half fills; the same
    # in every pixel, whatever lies there.
    np.testing.assert_allclose(stray[40], 5000, atol=1)
    np.testing.assert_allclose(stray[42], 2500, atol=1)
    assert not stray[[39, 43]].any()
    onsets = truth.events[:, 1]
    soon = [np.any((onsets > s) & (onsets < s + 0.07)) for s in truth.stimuli_s]
    assert all(soon)
    near = ((onsets[:, None] > truth.stimuli_s) & (onsets[:, None] < truth.stimuli_s + 0.07)).sum()
    assert near == pytest.approx(0.8 * 4 * truth.active.sum(), rel=0.25)


def test_a_lamp_that_wanders_walks_at_random() -> None:
    config = changed(CLEAN, n_frames=400, n_rows=16, n_columns=16, lamp_wander=0.004)
    steps = np.diff(np.log(simulate(config, seed=5).truth.light))
    assert steps.std() == pytest.approx(0.004, rel=0.15)
    assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1]) < 0.2

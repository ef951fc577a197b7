"""Temporal contrast: silent where nothing changes, however bright."""

import cv2
import numpy as np
import pytest

from cocuyo.preprocessing import (
    ContrastConfig,
    contrast_of_soma,
    contrast_peaks,
    contrast_step,
    gather_peaks,
    start_contrast,
)
from cocuyo.preprocessing.contrast import relative_brightness

DIAMETER = 8.0
STEP_S = 0.5
SHAPE = (48, 60)


def disc(centre, radius=4.0, shape=SHAPE, soft=0.7):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return 1 / (1 + np.exp((np.hypot(y - centre[0], x - centre[1]) - radius) / soft))


def scene(cells=1.0):
    """Three still cells on an uneven background, in counts."""
    y, _ = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = 1000 * (1 - 0.3 * y / SHAPE[0])
    for centre in ((12, 15), (30, 40), (36, 12)):
        image = image * (1 + cells * disc(centre))
    return image


def noisy(image, n=40, noise=8.0, seed=0):
    random = np.random.default_rng(seed)
    return (image + noise * random.standard_normal((n, *image.shape))).astype(np.float32)


def follow(steps, config=ContrastConfig(), n_first=12, inside=None):
    state = start_contrast(steps[:n_first], diameter_px=DIAMETER, config=config)
    seen = []
    for step in steps:
        contrast, state = contrast_step(
            step, state, step_s=STEP_S, diameter_px=DIAMETER, inside=inside, config=config
        )
        seen.append(contrast)
    return np.stack(seen)


@pytest.mark.parametrize("cells", [0.0, 0.5, 5.0])
def test_a_still_scene_has_the_contrast_of_noise_however_bright_its_cells(cells):
    seen = follow(noisy(scene(cells)))
    assert np.abs(seen).mean() < 1.5
    assert np.abs(seen).max() < 8


def test_a_flash_of_one_cell_is_a_positive_peak_there_and_nowhere_else():
    steps = noisy(scene())
    steps[20:23] += (300 * disc((30, 40))).astype(np.float32)
    seen = follow(steps)
    highest = seen[20:23].max(axis=0)
    y, x = np.unravel_index(np.argmax(highest), SHAPE)
    assert np.hypot(y - 30, x - 40) < 3
    assert highest.max() > 12
    far = np.hypot(*(np.mgrid[: SHAPE[0], : SHAPE[1]] - np.array([30, 40])[:, None, None])) > 14
    assert highest[far].max() < 0.5 * highest.max()


def test_the_contrast_does_not_depend_on_the_gain():
    steps = noisy(scene())
    np.testing.assert_allclose(follow(7.5 * steps), follow(steps), rtol=1e-2, atol=1e-2)


def test_a_flickering_lamp_adds_no_contrast():
    steps = noisy(scene())
    light = 1 + 0.3 * np.random.default_rng(1).standard_normal(len(steps)).clip(-2, 2)
    flickering = (steps * light[:, None, None]).astype(np.float32)
    np.testing.assert_allclose(follow(flickering), follow(steps), atol=0.05)


def test_slow_bleaching_leaves_no_contrast():
    steps = noisy(scene())
    light = np.linspace(1.0, 0.6, len(steps))
    seen = follow((steps * light[:, None, None]).astype(np.float32))
    assert np.abs(seen).max() < 9


def test_a_slow_change_of_a_cell_fades_into_its_baseline():
    steps = np.concatenate([noisy(scene(), 20), noisy(scene() * (1 + 0.01 * disc((30, 40))), 200)])
    seen = follow(steps)
    assert seen[22, 30, 40] > 2
    assert abs(seen[-30:, 30, 40].mean()) < 0.5 * seen[20:30, 30, 40].mean()


def test_motion_tolerance_lowers_what_a_tenth_of_a_pixel_shows_at_an_edge():
    still, moved = scene(0.0) * (1 + 5 * disc((24, 30))), scene(0.0) * (1 + 5 * disc((24.1, 30)))
    steps = noisy(still, noise=2.0)
    steps[20] = noisy(moved, 1, noise=2.0, seed=9)[0]
    edge = (disc((24, 30)) > 0.2) & (disc((24, 30)) < 0.8)

    def response(tolerance):
        return np.abs(follow(steps, ContrastConfig(motion_tolerance_px=tolerance))[20][edge]).max()

    assert response(0.3) < 0.6 * response(0.0)


def test_outside_pixels_stay_zero_and_keep_their_state():
    inside = np.ones(SHAPE, np.bool_)
    inside[:, :10] = False
    steps = noisy(scene())
    steps[20:, :, :10] += 5000
    state = start_contrast(steps[:12], diameter_px=DIAMETER)
    contrast, after = contrast_step(
        steps[20], state, step_s=STEP_S, diameter_px=DIAMETER, inside=inside
    )
    assert not contrast[:, :10].any()
    np.testing.assert_array_equal(after.baseline[:, :10], state.baseline[:, :10])
    np.testing.assert_array_equal(after.variance[:, :10], state.variance[:, :10])
    assert contrast[:, 10:].any()


@pytest.mark.parametrize("value", [0.0, 50.0])
def test_a_constant_movie_has_no_contrast(value):
    seen = follow(np.full((6, 20, 24), value, np.float32), n_first=3)
    assert np.isfinite(seen).all()
    assert np.abs(seen).max() < 1e-2


def test_one_first_step_is_enough_to_start():
    seen = follow(noisy(scene(), 5), n_first=1)
    assert np.isfinite(seen).all()


def test_relative_brightness_is_the_excess_over_the_surround():
    frame = np.full(SHAPE, 100, np.float32)
    assert np.abs(relative_brightness(frame, diameter_px=DIAMETER)).max() < 1e-5
    bump = (100 * (1 + 0.1 * disc((24, 30), radius=5, soft=0.1))).astype(np.float32)
    config = ContrastConfig(blur_diameters=0.01, surround_diameters=6.0)
    seen = relative_brightness(bump, diameter_px=DIAMETER, config=config)
    side = 2 * round(6.0 * DIAMETER / 2) + 1
    surround = cv2.blur(bump, (side, side), borderType=cv2.BORDER_REFLECT)[24, 30]
    assert seen[24, 30] == pytest.approx(110 / surround - 1, rel=1e-2)


def test_data_around_zero_does_not_blow_up():
    random = np.random.default_rng(3)
    steps = random.normal(0, 1, (10, *SHAPE)).astype(np.float32)
    assert np.isfinite(follow(steps, n_first=4)).all()


def test_neither_step_nor_state_is_modified():
    steps = noisy(scene(), 4)
    steps.flags.writeable = False
    state = start_contrast(steps, diameter_px=DIAMETER)
    for array in (state.baseline, state.variance, state.previous):
        array.flags.writeable = False
    contrast_step(steps[0], state, step_s=STEP_S, diameter_px=DIAMETER)


def faint_soma(height):
    noise = np.random.default_rng(4).normal(0, 1, (96, 96)).astype(np.float32)
    y, x = np.mgrid[:96, :96]
    return noise + np.float32(height) * (np.hypot(y - 40, x - 50) <= 4)


def test_a_soma_stands_out_whose_pixels_do_not():
    contrast = faint_soma(1.5)
    seen = contrast_of_soma(contrast, diameter_px=8.0)
    assert contrast[40, 50] < contrast.max()
    assert np.unravel_index(seen.argmax(), seen.shape) == pytest.approx((40, 50), abs=2)
    assert seen.max() > 5


def test_the_contrast_of_somas_is_in_units_of_its_noise_in_the_field():
    noise = contrast_of_soma(faint_soma(0), diameter_px=8.0)
    assert noise.std() == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(
        contrast_of_soma(3 * faint_soma(2), diameter_px=8.0),
        contrast_of_soma(faint_soma(2), diameter_px=8.0),
        rtol=1e-3,
        atol=1e-3,
    )


def test_a_field_without_noise_has_no_contrast_of_somas():
    flat = np.full((40, 50), 2.0, np.float32)
    assert not contrast_of_soma(flat, diameter_px=8.0).any()


def test_pixels_without_tissue_have_no_contrast_of_somas():
    inside = np.ones((96, 96), np.bool_)
    inside[:, :30] = False
    seen = contrast_of_soma(faint_soma(2), diameter_px=8.0, inside=inside)
    assert not seen[~inside].any()
    assert not contrast_of_soma(faint_soma(2), diameter_px=8.0, inside=~inside & inside).any()


def test_each_flash_of_a_step_is_a_peak_and_little_ones_are_not():
    height = sum(
        h * disc(c, 2.0) for h, c in ((9, (10, 10)), (30, (10, 30)), (4, (35, 20)))
    ).astype(np.float32)
    peaks = contrast_peaks(height, distance_px=4.0, least=5.0)
    assert np.argwhere(peaks).tolist() == [[10, 10], [10, 30]]
    assert peaks[10, 10] == height[10, 10]
    assert peaks[10, 30] == 20


def test_a_lone_peak_keeps_its_height_and_close_ones_add_up():
    votes = np.zeros(SHAPE, np.float32)
    votes[12, 12] = 6.0
    votes[30, 40], votes[30, 41] = 5.0, 5.0
    gathered = gather_peaks(votes, diameter_px=DIAMETER)
    assert gathered[12, 12] == pytest.approx(6.0, rel=0.03)
    assert gathered[30, 40] > 8.0


def test_a_lone_peak_in_a_corner_keeps_its_height_too():
    votes = np.zeros(SHAPE, np.float32)
    votes[1, 1] = 6.0
    assert gather_peaks(votes, diameter_px=DIAMETER)[1, 1] == pytest.approx(6.0, rel=0.03)

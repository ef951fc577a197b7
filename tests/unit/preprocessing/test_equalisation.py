"""Equalised frames: what the spatial network sees."""

import numpy as np
import pytest

from cocuyo.preprocessing import EqualisationConfig, GreyRange, equalise, measure_grey_range


def scene(shape=(48, 70), seed=0):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 500 + 300 * x / shape[1]
    for _ in range(12):
        centre = random.uniform(0, shape[0]), random.uniform(0, shape[1])
        image = image + 150 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 18)
    return random.poisson(image).astype(np.float32)


@pytest.mark.parametrize("shape", [(48, 70), (17, 9), (5, 64)])
def test_equalised_values_lie_between_zero_and_one(shape):
    frame = scene(shape)
    image = equalise(frame, measure_grey_range(frame[None]), diameter_px=8.0)
    assert image.shape == shape
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.std() > 0.02


@pytest.mark.parametrize("value", [0.0, 7.0, 1e6, -3.0])
def test_a_constant_frame_stays_constant_and_finite(value):
    frame = np.full((20, 30), value, np.float32)
    image = equalise(frame, measure_grey_range(frame[None]), diameter_px=8.0)
    assert np.isfinite(image).all()
    assert np.ptp(image) < 1e-6


def test_missing_values_harm_only_their_surroundings():
    frame = scene()
    grey_range = measure_grey_range(frame[None])
    holed = frame.copy()
    holed[:3, :3] = np.nan
    image = equalise(holed, grey_range, diameter_px=8.0)
    assert np.isfinite(image).all()
    whole = equalise(frame, grey_range, diameter_px=8.0)
    assert np.abs(image - whole)[:, 48:].max() < 0.05


def test_the_range_ignores_missing_values_and_outlives_frames_without_any():
    frame = scene()[None]
    holed = frame.copy()
    holed[0, :, :10] = np.nan
    full = measure_grey_range(frame[:, :, 10:])
    assert measure_grey_range(holed) == full
    empty = measure_grey_range(np.full((2, 8, 8), np.nan, np.float32))
    assert empty.low < empty.high


def test_one_range_serves_all_frames_so_that_brightness_still_tells_them_apart():
    frame = scene()
    grey_range = measure_grey_range(frame[None])
    brighter = frame.copy()
    brighter[20:26, 30:36] += 250
    config = EqualisationConfig(clip_limit=1.0)
    first = equalise(frame, grey_range, diameter_px=8.0, config=config)
    second = equalise(brighter, grey_range, diameter_px=8.0, config=config)
    assert second[23, 33] > first[23, 33]


def test_the_range_leaves_room_above_the_brightest_pixels():
    frame = scene()
    grey_range = measure_grey_range(frame[None])
    assert grey_range.high > frame.max()
    assert grey_range.low < np.percentile(frame, 1)


def test_gain_and_offset_of_the_camera_do_not_change_the_equalised_frame():
    frame = scene()
    other = 3 * frame + 1000
    first = equalise(frame, measure_grey_range(frame[None]), diameter_px=8.0)
    second = equalise(other, measure_grey_range(other[None]), diameter_px=8.0)
    # Rounding to 8 bits may move a value by a grey level or two.
    np.testing.assert_allclose(first, second, atol=0.03)


def test_uneven_illumination_is_evened_out_the_more_the_higher_the_clip():
    y, x = np.mgrid[:160, :240]
    random = np.random.default_rng(0)
    cells = np.zeros(x.shape)
    for centre in random.uniform(0, 1, (60, 2)) * x.shape:
        cells += 0.25 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 12)
    frame = random.normal(1000 * (1 - 0.6 * x / 240) * (1 + cells), 10).astype(np.float32)

    def slope(image):
        return (image[:, :40].mean() - image[:, -40:].mean()) / image.std()

    def equalised(clip_limit):
        return equalise(
            frame,
            measure_grey_range(frame[None]),
            diameter_px=8.0,
            config=EqualisationConfig(clip_limit=clip_limit),
        )

    assert slope(equalised(3.0)) < 0.95 * slope(frame)
    assert slope(equalised(40.0)) < 0.5 * slope(frame)


def test_the_frame_is_not_modified():
    frame = scene()
    frame.flags.writeable = False
    equalise(frame, GreyRange(0.0, 1000.0), diameter_px=8.0)

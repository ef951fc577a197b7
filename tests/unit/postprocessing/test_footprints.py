"""The image of a candidate shows what flashes with it, and its outline lies at half maximum."""

import numpy as np
import pytest
from flashing_movie import disc, transients
from scipy import ndimage

from cocuyo.postprocessing import (
    FootprintConfig,
    add_to_images,
    cut_patches,
    event_weights,
    outline,
)

DIAMETER = 8.0
SHAPE = (50, 60)
RATE_HZ = 8.0
N_FRAMES = 320
FLASHER, NEIGHBOUR = (24, 26), (24, 34)
ONSETS = (40, 130, 210, 260)
NOISE = 10.0


@pytest.fixture(scope="module")
def movie():
    """A flashing disc beside a silent one twice as bright, in noise and bleaching light."""
    random = np.random.default_rng(2)
    still = 1000 + 200 * disc(FLASHER, 4, SHAPE) + 800 * disc(NEIGHBOUR, 4, SHAPE)
    flashes = 150 * transients(N_FRAMES, ONSETS)
    frames = still + flashes[:, None, None] * disc(FLASHER, 4, SHAPE)
    frames = frames * np.linspace(1, 0.9, N_FRAMES)[:, None, None]
    frames = (frames + random.normal(0, NOISE, frames.shape)).astype(np.float32)
    frames.flags.writeable = False
    return frames


@pytest.fixture(scope="module")
def weights(movie):
    core = movie[:, disc(FLASHER, 3, SHAPE) > 0.5].mean(axis=1)
    ring = movie[:, disc((24, 10), 4, SHAPE) > 0.5].mean(axis=1)
    return weigh((core - ring)[None])


def weigh(traces, usable=None, **settings):
    traces = np.asarray(traces, np.float32)
    usable = np.ones(traces.shape[1], np.bool_) if usable is None else usable
    config = FootprintConfig(**settings)
    return event_weights(traces, frame_rate_hz=RATE_HZ, usable=usable, config=config)


def squares(*points):
    return cut_patches(np.array(points), diameter_px=DIAMETER, frame_shape=SHAPE)


def draw(frames, weights, *points):
    patches = squares(*points)
    images = np.zeros(patches.index.shape, np.float32)
    add_to_images(images, frames, weights, patches)
    return images.reshape(len(points), patches.side, patches.side), patches


def outlined(image, noise=1.0, inside=None, **settings):
    side = len(image)
    return outline(
        np.asarray(image, np.float32),
        noise=noise,
        index=np.arange(side * side, dtype=np.int32),
        inside=np.ones((side, side), np.bool_) if inside is None else inside,
        diameter_px=DIAMETER,
        config=FootprintConfig(**settings),
    )


def square(radius=4.0, height=10.0, soft=0.3, centre=(0, 0), noise=0.0, seed=0):
    """A disc around the middle of a square of the usual side."""
    side = 2 * int(np.ceil(FootprintConfig().reach_diameters * DIAMETER)) + 1
    at = (side // 2 + centre[0], side // 2 + centre[1])
    image = height * disc(at, radius, (side, side), soft)
    return image + noise * np.random.default_rng(seed).standard_normal(image.shape)


def test_a_square_has_its_point_in_the_middle():
    patches = squares((20, 31), (5, 50))
    middle = patches.side**2 // 2
    assert patches.side % 2 == 1
    assert patches.index[:, middle].tolist() == [20 * SHAPE[1] + 31, 5 * SHAPE[1] + 50]


def test_what_is_outside_the_frame_is_marked_and_its_index_stays_inside():
    patches = squares((0, 0), (49, 59))
    reach = patches.side // 2
    assert patches.inside[0].sum() == (reach + 1) ** 2
    assert patches.inside[1].sum() == (reach + 1) ** 2
    assert patches.index.min() == 0
    assert patches.index.max() == SHAPE[0] * SHAPE[1] - 1


def test_the_squares_of_no_point_are_none():
    assert len(squares().index) == 0


def test_weights_are_balanced_and_have_norm_one():
    random = np.random.default_rng(0)
    traces = random.normal(0, 1, (6, N_FRAMES)) + 8 * transients(N_FRAMES, ONSETS)
    found = weigh(traces)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-4)


def test_weights_are_positive_in_events_and_at_most_slightly_negative_beside_them():
    random = np.random.default_rng(0)
    found = weigh(random.normal(0, 1, (1, N_FRAMES)) + 12 * transients(N_FRAMES, ONSETS))[0]
    assert all(found[onset + 1] > 0.05 for onset in ONSETS)
    assert found.min() > -0.2 * found.max()


@pytest.mark.parametrize("value", [0.0, 3.3, 1234.567])
def test_a_trace_without_events_has_no_weight(value):
    assert not weigh(np.full((2, 100), value)).any()


def test_unusable_frames_have_no_weight():
    random = np.random.default_rng(0)
    usable = np.ones(N_FRAMES, np.bool_)
    usable[125:140] = False
    found = weigh(random.normal(0, 1, (3, N_FRAMES)) + 8 * transients(N_FRAMES, ONSETS), usable)
    assert not found[:, ~usable].any()
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-4)


def test_without_a_usable_frame_there_is_no_weight():
    traces = np.random.default_rng(0).normal(0, 1, (2, 50))
    assert not weigh(traces, np.zeros(50, np.bool_)).any()


def test_slow_changes_leave_no_image_also_where_all_events_are_late():
    n_frames = 800
    onsets = (610, 660, 700)
    event = transients(n_frames, onsets)
    noise = np.random.default_rng(0).normal(0, 1, n_frames)
    (weights,) = weigh((noise + 12 * event)[None])
    # Bleaching by as much as an event is high.
    assert abs(weights @ np.linspace(1.0, 0.0, n_frames)) < 0.15 * (weights @ event)


def test_the_image_shows_the_flasher_and_not_its_brighter_neighbour(movie, weights):
    images, patches = draw(movie, weights, FLASHER)
    middle = patches.side // 2
    image = ndimage.gaussian_filter(images[0], 1.0)
    at_neighbour = image[middle, middle + NEIGHBOUR[1] - FLASHER[1]]
    assert image[middle, middle] > 20 * NOISE
    assert abs(at_neighbour) < 0.1 * image[middle, middle]


def test_the_noise_of_an_image_is_that_of_a_frame(weights):
    frames = np.random.default_rng(5).normal(500, NOISE, (N_FRAMES, *SHAPE)).astype(np.float32)
    images, _ = draw(frames, weights, FLASHER)
    assert images[0].std() == pytest.approx(NOISE, rel=0.15)


def test_the_outline_in_the_image_is_that_of_the_flasher(movie, weights):
    images, patches = draw(movie, weights, FLASHER)
    found = outline(
        images[0],
        noise=NOISE,
        index=patches.index[0],
        inside=patches.inside[0],
        diameter_px=DIAMETER,
    )
    mask = np.zeros(SHAPE, np.bool_)
    mask.ravel()[found.pixels] = True
    truth = disc(FLASHER, 4, SHAPE) >= 0.5
    assert (mask & truth).sum() / (mask | truth).sum() > 0.85


def test_images_are_the_weighted_sums_of_the_frames(movie):
    random = np.random.default_rng(3)
    some = random.normal(0, 1, (2, 12)).astype(np.float32)
    images, patches = draw(movie[:12], some, (5, 6), (40, 57))
    for image, index, row in zip(images, patches.index, some, strict=True):
        naive = sum(w * frame.ravel()[index] for w, frame in zip(row, movie[:12], strict=True))
        np.testing.assert_allclose(image.ravel(), naive, rtol=1e-4, atol=0.05)


def test_frames_without_weight_do_not_count_even_if_they_hold_no_values(movie):
    row = np.array([[0.5, 0.0, -0.5]], np.float32)
    frames = movie[:3].copy()
    expected, _ = draw(frames, row, FLASHER)
    frames[1] = np.nan
    with_gap, _ = draw(frames, row, FLASHER)
    np.testing.assert_array_equal(with_gap, expected)


def test_a_candidate_without_weights_keeps_an_empty_image(movie):
    images, _ = draw(movie[:4], np.zeros((1, 4), np.float32), FLASHER)
    assert not images.any()


@pytest.mark.parametrize("radius", [2.6, 3.3, 4.3, 5.3, 6.2])
def test_the_outline_has_the_area_of_a_sharp_disc(radius):
    image = square(radius, height=100.0)
    assert outlined(image).mask.sum() == pytest.approx((image >= 50).sum(), rel=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_noise_changes_the_area_of_the_outline_by_less_than_a_third(seed):
    image = square(4.0, height=12.0, noise=1.0, seed=seed)
    assert outlined(image).mask.sum() == pytest.approx(np.pi * 16, rel=0.33)


def test_the_outline_does_not_depend_on_level_and_slope_of_the_surround():
    image = square(4.0, height=100.0)
    tilted = image + 300 + 2.0 * np.arange(len(image))
    np.testing.assert_array_equal(outlined(tilted).mask, outlined(image).mask)


def test_a_higher_level_lies_within_a_lower_one():
    image = square(5.0, height=100.0, soft=1.5)
    low, high = outlined(image, level=0.3).mask, outlined(image, level=0.7).mask
    assert high.sum() < low.sum()
    assert not (high & ~low).any()


def test_weights_are_shares_of_the_peak_with_the_largest_one():
    found = outlined(square(4.0, height=30.0, noise=1.0))
    assert found.weights.max() == 1
    assert found.weights.min() > 0
    assert len(found.weights) == len(found.pixels) == found.mask.sum()


def test_peak_and_image_are_in_units_of_the_blob():
    found = outlined(square(4.0, height=30.0))
    middle = len(found.image) // 2
    assert found.peak == pytest.approx(30, rel=0.05)
    assert found.image[middle, middle] == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    "image",
    [
        square(height=0.0),
        square(height=-20.0),
        np.full((33, 33), 7.5),
        100 * (square(9, 1) - square(6.5, 1)) - 50 * square(5.5, 1),
    ],
    ids=["empty", "dip", "flat", "ring"],
)
def test_where_no_blob_stands_out_near_the_centre_the_outline_is_empty(image):
    found = outlined(image)
    assert not found.mask.any()
    assert found.pixels.shape == found.weights.shape == (0,)
    assert found.peak == 0


def test_pure_noise_never_has_a_high_peak():
    peaks = [outlined(square(height=0.0, noise=1.0, seed=seed)).peak for seed in range(30)]
    assert max(peaks) < 2.0  # standard deviations of a pixel


def test_the_outline_keeps_to_pixels_inside():
    inside = np.ones((33, 33), np.bool_)
    inside[:, :15] = False
    found = outlined(square(4.0), inside=inside)
    assert found.mask.any()
    assert not (found.mask & ~inside).any()


def test_a_neighbour_on_a_thin_bridge_is_cut_off():
    image = square(4.0, height=100.0) + square(4.0, height=90.0, centre=(0, 12))
    image[16, 20:25] = 80.0
    found = outlined(image)
    assert found.mask[:, 23:].sum() == 0
    assert found.mask.sum() == pytest.approx(np.pi * 16, rel=0.15)


def test_no_outline_is_larger_than_the_largest_diameter():
    found = outlined(square(14.0, height=100.0), max_diameters=2.0)
    assert found.mask.sum() <= np.pi * DIAMETER**2 * 1.05

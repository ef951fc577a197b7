"""Motion compensation on small scenes whose motion is known."""

import cv2
import numpy as np
import pytest

from cocuyo.core import FLAG_FLASH, FLAG_INVALID, FLAG_UNPLACED, SettingsError
from cocuyo.preprocessing import (
    MotionConfig,
    apply_shifts,
    crispness,
    place_frames,
    start_motion,
    valid_pixels,
)
from cocuyo.preprocessing.motion import _correlate, _landmarks

METHODS = ("template_correlation", "lucas_kanade")
DIAMETER = 9.0
LOST = FLAG_UNPLACED | FLAG_INVALID


def tissue(shape, *, seed=0, margin=24):
    """A field of soft discs and haze, larger than the frame by a margin, twice as fine."""
    random = np.random.default_rng(seed)
    rows, columns = shape[0] + 2 * margin, shape[1] + 2 * margin
    haze = random.standard_normal((2 * rows, 2 * columns)).astype(np.float32)
    haze = cv2.GaussianBlur(haze, (0, 0), 8.0)
    image = 1.0 + 0.05 * haze / haze.std()
    for _ in range(max(8, rows * columns // 600)):
        y, x = int(random.uniform(0, 2 * rows)), int(random.uniform(0, 2 * columns))
        spot = np.zeros_like(image)
        cv2.circle(spot, (x, y), int(random.uniform(7, 11)), float(random.uniform(0.15, 0.6)), -1)
        image += cv2.GaussianBlur(spot, (0, 0), 2.0)
    return image


def film(truth, *, shape=(97, 131), photons=300.0, gain=None, still=None, seed=0):
    """Frames of moving tissue under a vignette, with shot noise; counts."""
    random = np.random.default_rng(seed + 1)
    field, margin = tissue(shape, seed=seed), 24
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot((y / shape[0] - 0.5), (x / shape[1] - 0.5))
    vignette = 1.0 - 0.8 * distance**2
    if still is not None:
        vignette = vignette * still
    frames = []
    for index, (dy, dx) in enumerate(truth):
        move = np.array([[2, 0, 2 * (margin - dx)], [0, 2, 2 * (margin - dy)]], np.float32)
        image = cv2.warpAffine(
            field, move, (shape[1], shape[0]), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        light = photons * (1.0 if gain is None else gain[index])
        frames.append(random.poisson(image * vignette * light) + random.normal(100, 2, shape))
    movie = np.clip(np.round(frames), 0, 65535).astype(np.uint16)
    movie.flags.writeable = False
    return movie


def drift(n_frames, *, reach=10.0, jitter=0.4, seed=0):
    random = np.random.default_rng(seed)
    time = np.linspace(0, 1, n_frames)
    truth = np.stack([reach * time, -0.6 * reach * np.sin(2 * time)], axis=1)
    truth += random.normal(0, jitter, truth.shape)
    return truth - truth[0]


def place(movie, *, method="template_correlation", n_first=32, exclude=None, **settings):
    config = MotionConfig(method=method, **settings)
    state = start_motion(movie[:n_first], config=config, diameter_px=DIAMETER, exclude=exclude)
    return place_frames(movie, state)[0]


def rms(found, truth):
    return float(np.sqrt(np.mean((found - truth) ** 2)))


@pytest.fixture(scope="module")
def moving():
    truth = drift(90)
    return film(truth), truth


@pytest.mark.parametrize(
    ("method", "limit"), [("template_correlation", 0.1), ("lucas_kanade", 0.25)]
)
def test_drift_and_jitter_are_recovered(moving, method, limit):
    movie, truth = moving
    motion = place(movie, method=method)
    assert not np.any(motion.flags & LOST)
    assert rms(motion.shifts, truth) <= limit


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_frame_0_has_shift_exactly_0(moving, method):
    motion = place(moving[0][:40], method=method)
    assert motion.shifts[0].tolist() == [0.0, 0.0]
    assert motion.shifts.dtype == np.float32
    assert motion.flags.dtype == np.uint8


def test_without_a_method_nothing_moves(moving):
    motion = place(moving[0][:40], method="none")
    assert not motion.shifts.any()
    assert np.all(motion.confidence == 1)


@pytest.mark.parametrize(
    ("method", "limit"), [("template_correlation", 0.05), ("lucas_kanade", 0.1)]
)
def test_a_still_recording_stays_still(method, limit):
    movie = film(np.zeros((50, 2)), photons=1000)
    motion = place(movie, method=method)
    assert np.abs(motion.shifts).max() < limit


def test_gain_offset_flash_and_bleaching_do_not_move_the_estimate(moving):
    movie, truth = moving
    gain = np.exp(-np.linspace(0, 0.5, len(movie)))
    gain[30] *= 1.7
    gain[50:] *= 1.2
    changed = movie * gain[:, None, None] + np.linspace(0, 300, len(movie))[:, None, None]
    plain, other = place(movie), place(changed)
    assert np.abs(plain.shifts - other.shifts).max() < 0.05
    assert rms(other.shifts, truth) <= 0.1


def test_a_flash_is_flagged_and_its_neighbours_are_not():
    gain = np.ones(50)
    gain[30] = 1.5
    motion = place(film(np.zeros((50, 2)), gain=gain))
    assert np.flatnonzero(motion.flags & FLAG_FLASH).tolist() == [30]
    assert not np.any(motion.flags & LOST)


def test_dirt_and_hot_pixels_on_the_sensor_do_not_hold_the_tissue():
    shape = (97, 131)
    dirt = np.ones(shape, np.float32)
    for y, x, radius in ((30, 40, 4), (60, 90, 5), (75, 30, 3)):
        cv2.circle(dirt, (x, y), radius, 0.5, -1)
    truth = drift(120)
    movie = film(truth, photons=1000, still=dirt).copy()
    random = np.random.default_rng(5)
    movie[:, random.integers(0, 97, 20), random.integers(0, 131, 20)] = 6000
    motion = place(movie)
    assert rms(motion.shifts, truth) <= 0.1


def test_hot_pixels_are_mended_whatever_the_order_of_the_values_in_memory():
    movie = film(drift(30), photons=1000).copy()
    random = np.random.default_rng(5)
    movie[:, random.integers(0, 97, 20), random.integers(0, 131, 20)] = 6000
    turned = np.ascontiguousarray(movie.transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_array_equal(place(movie).shifts, place(turned).shifts)


@pytest.mark.parametrize("photons", [20.0, 60.0])
def test_the_error_that_halves_of_the_field_tell_is_that_of_the_shifts(photons):
    config = MotionConfig()
    claimed, true = [], []
    for seed in range(4):
        movie = film(np.zeros((90, 2)), photons=photons, seed=seed)
        state = start_motion(movie[:32], config=config, diameter_px=DIAMETER)
        geometry, template = state._geometry, state._template
        for frame in movie[32:]:
            found = _correlate(
                _landmarks(frame, geometry),
                template,
                geometry,
                config,
                last=(0.0, 0.0),
                support=state._support,
            )
            claimed.append(found.error)
            true.append((seed, *found.shift))
    places = np.array(true).reshape(4, -1, 3)[:, :, 1:]
    variance = places.var(axis=1).mean()
    # The template is noisy too, and shared by both halves: they tell a little less than all.
    assert 0.7 < np.mean(claimed) / variance < 1.25


def test_lucas_kanade_does_not_accumulate_drift_over_300_frames():
    random = np.random.default_rng(3)
    truth = random.normal(0, 0.3, (300, 2))
    truth -= truth[0]
    motion = place(film(truth, shape=(72, 90), photons=150), method="lucas_kanade")
    error = motion.shifts - truth
    assert np.abs(error[-50:].mean(axis=0) - error[:50].mean(axis=0)).max() < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_frames_without_values_are_flagged_and_keep_the_last_shift(moving, method):
    movie = moving[0][:50].astype(np.float32)
    movie[40] = np.nan
    movie[41] = 7.0
    motion = place(movie, method=method)
    assert motion.flags[40] == FLAG_INVALID
    assert motion.flags[41] == FLAG_INVALID
    assert np.array_equal(motion.shifts[40], motion.shifts[39])
    assert np.array_equal(motion.shifts[41], motion.shifts[39])
    assert np.isfinite(motion.shifts).all()
    assert np.isfinite(motion.confidence).all()


def test_some_missing_pixels_do_not_hinder(moving):
    movie, truth = moving[0][:40].astype(np.float32), moving[1][:40]
    random = np.random.default_rng(0)
    movie[random.random(movie.shape) < 0.02] = np.nan
    movie[:, 20:26, 30:40] = np.inf
    assert rms(place(movie).shifts, truth) <= 0.15


@pytest.mark.parametrize("method", METHODS)
def test_a_frame_of_something_else_is_unplaced_and_keeps_the_last_shift(moving, method):
    movie = moving[0][:60].copy()
    movie[45] = np.random.default_rng(9).poisson(300, movie.shape[1:])
    motion = place(movie, method=method)
    assert np.flatnonzero(motion.flags & FLAG_UNPLACED).tolist() == [45]
    assert np.array_equal(motion.shifts[45], motion.shifts[44])


def test_a_first_frame_without_values_does_not_stop_the_rest(moving):
    movie, truth = moving[0][:40].astype(np.float32), moving[1][:40]
    movie[0] = np.nan
    motion = place(movie)
    assert motion.flags[0] == FLAG_INVALID
    error = motion.shifts[1:] - truth[1:]
    assert np.std(error, axis=0).max() < 0.1


def test_a_wild_frame_does_not_eat_the_valid_pixels():
    shifts = np.zeros((10, 2), np.float32)
    shifts[3] = (2.0, -1.0)
    shifts[7] = (40.0, 40.0)
    flags = np.zeros(10, np.uint8)
    flags[7] = FLAG_UNPLACED
    valid = valid_pixels((50, 60), shifts, flags=flags)
    expected = np.zeros((50, 60), np.bool_)
    expected[:48, 1:] = True
    assert np.array_equal(valid, expected)


def test_excluded_pixels_are_not_valid():
    exclude = np.zeros((20, 30), np.bool_)
    exclude[4:9, 5:7] = True
    valid = valid_pixels((20, 30), np.zeros((3, 2), np.float32), exclude=exclude)
    assert np.array_equal(valid, ~exclude)


def test_an_excluded_pipette_does_not_hold_the_tissue():
    shape = (97, 131)
    still = np.ones(shape, np.float32)
    still[40:60, :80] = np.where(np.indices((20, 80)).sum(axis=0) % 12 < 6, 2.5, 0.4)
    exclude = still != 1
    truth = drift(40, reach=4)
    motion = place(film(truth, still=still), exclude=exclude)
    assert rms(motion.shifts, truth) <= 0.15


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(20, 30), (5, 7), (1, 9), (33, 64)])
def test_tiny_frames_give_finite_answers(method, shape):
    movie = np.random.default_rng(1).poisson(50, (12, *shape)).astype(np.uint16)
    motion = place(movie, method=method)
    assert np.isfinite(motion.shifts).all()
    assert np.abs(motion.shifts).max() <= max(shape)


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_a_constant_movie_is_invalid_and_does_not_move(method):
    motion = place(np.full((10, 40, 50), 12, np.uint8), method=method)
    assert np.all(motion.flags == FLAG_INVALID)
    assert not motion.shifts.any()


def test_pure_noise_does_not_move():
    movie = np.random.default_rng(2).poisson(100, (80, 64, 80)).astype(np.uint16)
    motion = place(movie)
    assert np.mean((motion.flags[32:] & FLAG_UNPLACED) > 0) > 0.9


def test_large_somata_are_placed_on_averaged_frames():
    truth = drift(30, reach=6)
    movie = film(truth, shape=(257, 263), photons=100)
    state = start_motion(movie, diameter_px=DIAMETER)
    assert state._geometry.binning == 2
    assert rms(place_frames(movie, state)[0].shifts, truth) <= 0.1


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_moving_a_ramp_back_gives_its_values_at_the_new_places(interpolation):
    y, x = np.mgrid[:21, :34].astype(np.float32)
    frame = (1000 + 3 * y + 5 * x)[None]
    moved = apply_shifts(frame, np.array([[1.25, -2.4]], np.float32), interpolation=interpolation)
    inner = np.s_[0, 4:-4, 5:-4]
    assert np.allclose(moved[inner], frame[inner] + 3 * 1.25 - 5 * 2.4, atol=2e-3)


def test_moving_back_by_whole_pixels_keeps_every_count():
    frames = np.random.default_rng(0).integers(0, 65536, (1, 12, 15)).astype(np.uint16)
    moved = apply_shifts(frames, np.array([[2.0, -3.0]], np.float32))
    assert np.array_equal(moved[0, :10, 3:], frames[0, 2:, :12].astype(np.float32))
    assert np.array_equal(moved[0, 10, 3:], frames[0, 11, :12].astype(np.float32))


def test_a_frame_that_did_not_move_is_untouched():
    frames = np.random.default_rng(0).integers(0, 65536, (2, 9, 8)).astype(np.uint16)
    assert np.array_equal(apply_shifts(frames, np.zeros((2, 2), np.float32)), frames)


def test_moving_beyond_the_frame_repeats_the_border():
    frames = np.arange(20, dtype=np.float32).reshape(1, 4, 5)
    moved = apply_shifts(frames, np.array([[100.0, -0.0]], np.float32))
    assert np.array_equal(moved[0], np.repeat(frames[0, -1:], 4, axis=0))


def test_missing_values_do_not_spread_when_frames_move():
    frames = np.full((1, 12, 12), 5.0, np.float32)
    frames[0, 6, 6] = np.nan
    moved = apply_shifts(frames, np.array([[0.5, 0.5]], np.float32))
    assert np.array_equal(moved, np.full((1, 12, 12), 5.0, np.float32))


def test_the_mean_is_crisper_after_the_correction(moving):
    movie, _ = moving
    motion = place(movie)
    valid = valid_pixels(movie.shape[1:], motion.shifts, flags=motion.flags)
    after = crispness(apply_shifts(movie, motion.shifts).mean(axis=0), valid=valid)
    before = crispness(movie.mean(axis=0, dtype=np.float32), valid=valid)
    assert after > 1.2 * before


def test_crispness_of_a_flat_image_is_0():
    assert crispness(np.full((9, 9), 3.0, np.float32)) == pytest.approx(0.0, abs=1e-6)


def test_what_does_not_fit_is_refused():
    frames = np.zeros((3, 8, 9), np.uint16)
    state = start_motion(frames, diameter_px=4.0)
    with pytest.raises(SettingsError, match="at least one frame"):
        start_motion(frames[:0], diameter_px=4.0)
    with pytest.raises(SettingsError, match="positive"):
        start_motion(frames, diameter_px=float("nan"))
    with pytest.raises(SettingsError, match="mask of the frames' size"):
        start_motion(frames, diameter_px=4.0, exclude=np.zeros((2, 2), np.bool_))
    with pytest.raises(SettingsError, match="8 x 9"):
        place_frames(np.zeros((1, 9, 8)), state)
    with pytest.raises(SettingsError, match="one"):
        apply_shifts(frames, np.zeros((2, 2), np.float32))


def test_no_frames_leave_the_state_as_it_was(moving):
    state = start_motion(moving[0][:5], diameter_px=DIAMETER)
    motion, after = place_frames(moving[0][:0], state)
    assert motion.shifts.shape == (0, 2)
    assert after is state


def test_shrinking_steadies_a_dim_still_recording_and_leaves_a_clear_moving_one(moving):
    truth = np.zeros((150, 2))
    truth[10:] = 2.0  # it counts as moving from then on
    still = film(truth, photons=15)
    steady, shaken = place(still).shifts[100:], place(still, shrink=False).shifts[100:]
    assert 0 < np.std(steady - steady.mean(axis=0)) < 0.9 * np.std(shaken - shaken.mean(axis=0))
    movie, _ = moving
    assert rms(place(movie).shifts, place(movie, shrink=False).shifts) < 0.02


@pytest.mark.parametrize("photons", [1000, 100, 15])
def test_a_recording_that_stands_still_is_not_moved_at_all(photons):
    gain = np.exp(-np.linspace(0, 0.4, 120))
    gain[70] = 1.6
    movie = film(np.zeros((120, 2)), photons=photons, gain=gain)
    assert not place(movie).shifts.any()
    assert place(movie, shrink=False).shifts.any()


@pytest.mark.parametrize("photons", [1000, 15])
def test_a_recording_that_stood_still_is_followed_as_soon_as_it_moves(photons):
    truth = np.zeros((150, 2))
    truth[60:64] = (1.5, -1.0)
    truth[90:, 0] = np.linspace(0, 0.6, 60)
    motion = place(film(truth, photons=photons))
    assert not motion.shifts[:60].any()
    assert rms(motion.shifts, truth) <= (0.03 if photons == 1000 else 0.1)


def test_drift_below_the_error_of_a_frame_is_followed_in_time():
    truth = np.zeros((300, 2))
    truth[:, 1] = np.linspace(0, 0.5, 300)
    movie = film(truth, photons=15)
    found, measured = place(movie).shifts, place(movie, shrink=False).shifts
    assert np.std(measured[:, 0]) > 0.1
    assert rms(found, truth) <= rms(measured, truth)
    assert abs(found[-20:, 1].mean() - truth[-20:, 1].mean()) <= 0.1

"""A recording as a stream of corrected steps, whatever the size of the blocks read."""

import numpy as np
import pytest
from flashing_movie import ACTIVE, DIAMETER_PX, RATE_HZ, make_movie

from cocuyo.core import FLAG_INVALID, MissingFrameRateError, Recording, RecordingError
from cocuyo.pipeline import PRESETS
from cocuyo.pipeline.stream import (
    block_frames,
    corrected_blocks,
    require_frames,
    resize,
    resize_to,
    set_up,
    stream_steps,
)
from cocuyo.preprocessing import MotionConfig, apply_shifts

CONFIG = PRESETS["default"]
PER_STEP = CONFIG.networks.temporal.frames_per_step(RATE_HZ)
N_FRAMES = 68  # 13 steps of 5 frames, and 3 more


@pytest.fixture(scope="module")
def movie():
    random = np.random.default_rng(1)
    shifts = np.cumsum(random.normal(0, 0.15, (N_FRAMES, 2)), axis=0)
    shifts[0] = 0
    return make_movie(n_frames=N_FRAMES, shifts=shifts)


@pytest.fixture(scope="module")
def steps(movie):
    return follow(movie.recording())


def follow(recording, config=CONFIG, diameter_px=DIAMETER_PX, exclude=None):
    setup = set_up(recording, config=config, diameter_px=diameter_px, exclude=exclude)
    return list(stream_steps(recording, setup))


def one_frame(movie):
    return 4 * movie.frames[0].size


def test_steps_cover_each_frame_once_and_in_order(movie, steps):
    assert steps[0].start == 0
    assert [s.stop for s in steps[:-1]] == [s.start for s in steps[1:]]
    assert steps[-1].stop == N_FRAMES
    np.testing.assert_array_equal(np.concatenate([s.raw for s in steps]), movie.frames)


def test_a_step_lasts_as_the_settings_say(steps):
    assert PER_STEP == 5
    assert {s.stop - s.start for s in steps[:-1]} == {PER_STEP}


def test_a_step_shows_the_mean_of_its_corrected_frames(movie, steps):
    for step in steps[::4]:
        shifts = step.motion.shifts
        corrected = apply_shifts(
            movie.frames[step.start : step.stop], shifts, interpolation="cubic"
        )
        np.testing.assert_allclose(step.mean, corrected.mean(axis=0), rtol=1e-5)


def test_the_shifts_are_those_of_the_tissue(movie, steps):
    found = np.concatenate([s.motion.shifts for s in steps])
    assert np.abs(found - movie.shifts).max() < 0.3


@pytest.mark.parametrize("frames_read", [1, 7, 1000])
def test_steps_do_not_depend_on_how_much_is_read_at_once(movie, steps, monkeypatch, frames_read):
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", frames_read * one_frame(movie))
    for step, expected in zip(follow(movie.recording()), steps, strict=True):
        for name in ("start", "stop", "usable", "raw", "frames", "mean", "contrast", "inside"):
            np.testing.assert_array_equal(getattr(step, name), getattr(expected, name))
        for name in ("shifts", "confidence", "flags"):
            found, wanted = getattr(step.motion, name), getattr(expected.motion, name)
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("surplus", "usable"), [(2, False), (3, True)])
def test_a_last_step_of_less_than_half_the_length_is_not_shown(movie, surplus, usable):
    last = follow(movie.recording(movie.frames[: 10 + surplus]))[-1]
    assert last.usable == usable
    assert len(last.frames) == len(last.motion.shifts) == surplus
    assert bool(last.mean.any()) == usable


def test_a_frame_without_values_is_left_out_of_its_step(movie):
    frames = movie.frames.copy()
    frames[51] = np.nan
    step = follow(movie.recording(frames))[10]
    assert step.motion.flags.tolist() == [0, FLAG_INVALID, 0, 0, 0]
    assert len(step.frames) == 4
    assert np.isfinite(step.mean).all()


def test_a_step_without_any_values_is_not_usable(movie):
    frames = movie.frames.copy()
    frames[50:55] = np.nan
    step = follow(movie.recording(frames))[10]
    assert not step.usable
    assert not step.contrast.any()


@pytest.mark.parametrize("bad", [[0], [4], [0, 1, 2, 3, 4, 5, 6], [47]])
def test_first_frames_without_values_leave_the_contrast_of_the_others(bad):
    movie = make_movie(n_frames=N_FRAMES)
    frames = movie.frames.copy()
    frames[bad] = np.nan
    found, whole = follow(movie.recording(frames)), follow(movie.recording())
    assert all(np.isfinite(step.contrast).all() for step in found)
    for step, expected in zip(found[6:11], whole[6:11], strict=True):  # cells flash
        assert np.corrcoef(step.contrast.ravel(), expected.contrast.ravel())[0, 1] > 0.6


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_a_head_without_values_longer_than_the_first_frames_is_skipped(value):
    movie = make_movie(n_frames=120)
    frames = movie.frames.copy()
    frames[: CONFIG.first_frames + 7] = value
    recording = movie.recording(frames)
    setup = set_up(recording, config=CONFIG, diameter_px=DIAMETER_PX)
    assert setup.grey_range.low > 0.5 * np.median(movie.frames)
    assert setup.motion.config.method == CONFIG.motion.method
    steps = list(stream_steps(recording, setup))
    assert not any(step.usable for step in steps[:11])
    assert all(step.usable and np.isfinite(step.contrast).all() for step in steps[11:])
    assert max(step.contrast.max() for step in steps[11:]) > 5


def test_contrast_is_high_where_a_cell_flashes_and_nowhere_else(movie, steps):
    onset = int(np.argmax(movie.courses[0] > 0.9))
    step = next(s for s in steps if s.start <= onset + 1 < s.stop)
    y, x = np.unravel_index(np.argmax(step.contrast), step.contrast.shape)
    assert np.hypot(y - ACTIVE[0][0], x - ACTIVE[0][1]) < 3


def test_excluded_pixels_are_outside_and_have_no_contrast(movie):
    exclude = np.zeros(movie.frames.shape[1:], np.bool_)
    exclude[:20] = True
    for step in follow(movie.recording(), exclude=exclude):
        assert not step.inside[exclude].any()
        assert not step.contrast[exclude].any()


@pytest.mark.parametrize("diameter", [4.0, 8.0, 20.0])
def test_the_networks_see_frames_at_their_magnification(movie, diameter):
    setup = set_up(movie.recording(), config=CONFIG, diameter_px=diameter)
    step = next(stream_steps(movie.recording(), setup))
    rows, columns = movie.frames.shape[1:]
    assert step.mean.shape == (round(rows * setup.factor), round(columns * setup.factor))
    assert step.contrast.shape == step.inside.shape == step.mean.shape
    assert setup.network_diameter_px == pytest.approx(8.0 if diameter == 8.0 else 10.0)


def test_progress_comes_after_each_block_and_ends_with_all_frames(movie, monkeypatch):
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", 20 * one_frame(movie))
    seen = []
    setup = set_up(movie.recording(), config=CONFIG, diameter_px=DIAMETER_PX)
    for _ in stream_steps(movie.recording(), setup, progress=seen.append, stage="looking"):
        pass
    assert [p.done for p in seen] == [20, 40, 60, 68]
    assert {(p.stage, p.total) for p in seen} == {("looking", 68)}


@pytest.mark.parametrize("n_frames", [0, 1])
def test_fewer_than_two_frames_are_refused(movie, n_frames):
    recording = movie.recording(movie.frames[:n_frames])
    with pytest.raises(RecordingError, match=f"{n_frames} frame"):
        require_frames(recording)
    with pytest.raises(RecordingError, match="two frames"):
        set_up(recording, config=CONFIG, diameter_px=DIAMETER_PX)


def test_a_mask_of_another_shape_is_refused(movie):
    with pytest.raises(RecordingError, match=r"\(3, 4\)"):
        follow(movie.recording(), exclude=np.zeros((3, 4), np.bool_))


def test_a_recording_without_frame_rate_is_refused(movie):
    with pytest.raises(MissingFrameRateError):
        follow(movie.recording(frame_rate_hz=None))


@pytest.mark.parametrize("frames_read", [0, 1, 7, 1000])
def test_corrected_blocks_together_are_the_corrected_movie(movie, steps, monkeypatch, frames_read):
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", frames_read * one_frame(movie))
    motion = type(steps[0].motion)(
        movie.shifts, np.ones(N_FRAMES, np.float32), np.zeros(N_FRAMES, np.uint8)
    )
    blocks = list(corrected_blocks(movie.recording(), motion, stage="again"))
    assert [start for start, _ in blocks] == list(range(0, N_FRAMES, max(1, frames_read)))
    whole = apply_shifts(movie.frames, movie.shifts, interpolation="cubic")
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), whole)


@pytest.mark.parametrize("multiple", [1, 5, 7, 500])
def test_a_block_is_a_whole_number_of_steps_and_at_least_one(movie, monkeypatch, multiple):
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", 23 * one_frame(movie))
    n_frames = block_frames(movie.recording(), multiple=multiple)
    assert n_frames == max(1, 23 // multiple) * multiple


def test_magnification_by_one_changes_nothing():
    image = np.random.default_rng(0).normal(0, 1, (9, 11)).astype(np.float32)
    np.testing.assert_array_equal(resize(image, 1.0), image)


@pytest.mark.parametrize("factor", [0.4, 0.73, 1.5, 2.0])
def test_a_magnified_image_comes_back_at_its_size(factor):
    y, x = np.mgrid[:61, :75]
    image = np.exp(-((y - 30) ** 2 + (x - 33) ** 2) / 200).astype(np.float32)
    seen = resize(image, factor)
    assert seen.shape == (round(61 * factor), round(75 * factor))
    np.testing.assert_allclose(resize_to(seen, (61, 75)), image, atol=0.03)


def test_motion_correction_can_be_switched_off(movie):
    still = CONFIG.model_copy(update={"motion": MotionConfig(method="none")})
    for step in follow(movie.recording(), config=still):
        assert not step.motion.shifts.any()
        np.testing.assert_array_equal(step.frames, step.raw)


def without_structure(n_frames=64):
    """A movie as ΔF/F gives: other blobs in each frame, nothing at rest."""
    random = np.random.default_rng(3)
    frames = random.normal(100, 10, (n_frames, 72, 80))
    y, x = np.mgrid[:72, :80]
    for t in range(n_frames):
        for cy, cx in random.uniform(5, 67, (6, 2)):
            frames[t] += 60 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 20)
    return Recording.from_array(frames.astype(np.float32), frame_rate_hz=RATE_HZ)


@pytest.mark.parametrize("method", ["template_correlation", "lucas_kanade"])
def test_a_movie_without_structure_at_rest_stays_where_it_is(method):
    config = CONFIG.model_copy(update={"motion": MotionConfig(method=method)})
    shifts = np.concatenate([s.motion.shifts for s in follow(without_structure(), config)])
    assert not shifts.any()

"""Frames and pictures for the page are those of the recording, and few are in memory."""

import numpy as np
import pytest
from flashing_movie import make_movie

from cocuyo.core import FLAG_UNPLACED, Motion, Recording
from cocuyo.preprocessing import apply_shifts
from cocuyo.server import frames as module
from cocuyo.server.frames import Deviation, Frames

N = 60


class Counting:
    """A movie that notes what is read of it."""

    def __init__(self, frames):
        self._frames = frames
        self.shape, self.dtype = frames.shape, frames.dtype
        self.read_frames = []

    def read(self, start, stop):
        self.read_frames.append((start, stop))
        return self._frames[start:stop]


@pytest.fixture
def parts():
    drift = np.cumsum(np.tile([0.03, -0.05], (N, 1)), axis=0).astype(np.float32)
    movie = make_movie(n_frames=N, shifts=drift)
    counting = Counting(movie.frames.astype(np.uint16))
    recording = Recording(counting, frame_rate_hz=8.0)
    flags = np.zeros(N, np.uint8)
    motion = Motion(drift, np.ones(N, np.float32), flags)
    mean = apply_shifts(movie.frames, drift).mean(axis=0)
    return recording, motion, mean


def test_raw_frames_are_the_counts(parts):
    recording, motion, mean = parts
    shown = Frames(recording, motion, mean, 8.0)
    scale = shown.scale("raw")
    assert (scale.offset, scale.step) == (0, 1)
    np.testing.assert_array_equal(shown.read("raw", 7, 12), recording.movie.read(7, 12))


def test_corrected_frames_lie_where_the_pipeline_puts_them(parts):
    recording, motion, mean = parts
    shown = Frames(recording, motion, mean, 8.0).read("corrected", 40, 60)
    expected = apply_shifts(recording.movie.read(40, 60), motion.shifts[40:60])
    inner = np.s_[:, 6:-6, 6:-6]
    # OpenCV places to a thirty-second of a pixel, and counts are rounded.
    assert np.abs(shown[inner] - expected[inner]).max() < 20
    assert np.abs(recording.movie.read(40, 60)[inner] - expected[inner]).max() > 100


def test_dff_is_the_change_against_the_mean(parts):
    recording, motion, mean = parts
    shown = Frames(recording, motion, mean, 8.0)
    scale = shown.scale("dff")
    values = scale.offset + scale.step * shown.read("dff", 0, N).astype(np.float64)
    assert abs(values.mean()) < 0.01
    assert 0.1 < values.max() < 0.4  # flashes of a quarter of the background


def test_steps_and_the_end_are_kept_to(parts):
    recording, motion, mean = parts
    shown = Frames(recording, motion, mean, 8.0)
    np.testing.assert_array_equal(
        shown.read("raw", 50, 1000, step=4), recording.movie.read(50, 60)[::4]
    )


def test_what_was_read_is_not_read_again_and_what_follows_is_read_at_once(parts):
    recording, motion, mean = parts
    shown = Frames(recording, motion, mean, 8.0)
    shown.scale("raw")
    recording.movie.read_frames.clear()
    shown.read("raw", 10, 20)
    shown.read("raw", 5, 25)
    assert recording.movie.read_frames == [(10, 20), (5, 10), (20, 25)]


def test_old_frames_are_forgotten(parts, monkeypatch):
    recording, motion, mean = parts
    monkeypatch.setattr(module, "_CACHE_BYTES", 0)
    shown = Frames(recording, motion, mean, 8.0)
    for start in range(0, N, 10):
        shown.read("raw", start, start + 10)
    assert len(shown._kept) == 16


def test_large_frames_are_reduced_for_the_screen(parts, monkeypatch):
    recording, motion, mean = parts
    monkeypatch.setattr(module, "_LONGEST_SIDE", 40)
    shown = Frames(recording, motion, mean, 8.0)
    assert shown.shape == (32, 36)
    small = shown.read("raw", 0, 1)[0]
    expected = recording.movie.read(0, 1)[0].reshape(32, 2, 36, 2).mean(axis=(1, 3))
    assert np.abs(small - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint8, np.bool_])
def test_values_of_any_type_come_back_within_a_level(parts, dtype):
    _, motion, mean = parts
    values = np.linspace(0, 100, N * 64 * 72).reshape(N, 64, 72).astype(dtype)
    if np.dtype(dtype).kind == "f":
        values[3, 4, 5] = np.nan
    shown = Frames(Recording.from_array(values, frame_rate_hz=8.0), motion, mean, 8.0)
    for kind in ("raw", "corrected", "dff"):
        scale = shown.scale(kind)
        got = shown.read(kind, 0, N)
        assert got.dtype == np.uint16
        if kind == "raw":
            back = scale.offset + scale.step * got
            wrong = np.abs(back - np.nan_to_num(values, nan=-50).astype(float))
            assert np.nanmax(
                np.delete(wrong.ravel(), np.ravel_multi_index((3, 4, 5), wrong.shape))
            ) <= max(scale.step, 0.01)


def test_deviation_and_correlation_are_those_of_a_naive_loop(parts):
    recording, motion, mean = parts
    motion.flags[20] = FLAG_UNPLACED
    deviation = Deviation(recording, motion, mean)
    std, correlation = deviation.image("std"), deviation.image("correlation")
    assert deviation.n_frames_used == N - 1
    frames = np.delete(apply_shifts(recording.movie.read(0, N), motion.shifts), 20, axis=0)
    frames = (frames - mean).astype(np.float64)
    frames -= frames.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(std, frames.std(axis=0), rtol=1e-3)
    for y, x in ((0, 0), (30, 40), (63, 10), (14, 14)):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [p for p in around if 0 <= p[0] < 64 and 0 <= p[1] < 72]
        naive = np.mean([np.corrcoef(frames[:, y, x], frames[:, a, b])[0, 1] for a, b in inside])
        assert correlation[y, x] == pytest.approx(naive, abs=2e-3)


def test_of_a_long_recording_only_stretches_are_looked_at(parts, monkeypatch):
    recording, motion, mean = parts
    monkeypatch.setattr(module, "_PROJECTION_FRAMES", 24)
    deviation = Deviation(recording, motion, mean)
    recording.movie.read_frames.clear()
    deviation.image("std")
    assert sum(stop - start for start, stop in recording.movie.read_frames) == 24
    assert recording.movie.read_frames[0][0] == 0
    assert recording.movie.read_frames[-1][1] == N

"""A recording: what it accepts, its blocks and its times."""

import numpy as np
import pytest

from cocuyo.core import (
    ArrayMovie,
    MissingFrameRateError,
    Movie,
    Recording,
    RecordingError,
    read_rows,
)


def movie(n_frames=7, rows=3, columns=5):
    frames = np.arange(n_frames * rows * columns, dtype=np.uint16).reshape(n_frames, rows, columns)
    frames.flags.writeable = False
    return frames


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_blocks_of_any_size_join_to_the_movie(size):
    frames = movie()
    blocks = list(Recording.from_array(frames).blocks(size))
    assert [start for start, _ in blocks] == list(range(0, 7, size))
    joined = np.concatenate([block for _, block in blocks])
    assert joined.dtype == np.uint16
    np.testing.assert_array_equal(joined, frames)


def test_a_recording_of_an_array_shares_its_memory():
    frames = movie()
    assert np.shares_memory(Recording.from_array(frames).movie.read(0, 3), frames)


def test_an_array_movie_is_a_movie():
    made = ArrayMovie(movie())
    assert isinstance(made, Movie)
    assert made.shape == (7, 3, 5)
    assert made.dtype == np.uint16


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5)])
def test_an_array_without_three_axes_is_refused(shape):
    with pytest.raises(RecordingError, match="axes"):
        Recording.from_array(np.zeros(shape))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["frame_rate_hz", "pixel_size_um", "diameter_um", "diameter_px"])
def test_metadata_must_be_positive_numbers(field, value):
    with pytest.raises(RecordingError, match=field):
        Recording(ArrayMovie(movie()), **{field: value})


@pytest.mark.parametrize(
    "times",
    [np.arange(6.0), np.zeros(7), np.arange(7.0)[::-1], np.array([0, 1, 2, np.nan, 4, 5, 6])],
    ids=["too few", "equal", "falling", "not finite"],
)
def test_timestamps_must_be_one_per_frame_and_rise(times):
    with pytest.raises(RecordingError, match=r"[Tt]imestamp"):
        Recording(ArrayMovie(movie()), timestamps_s=times)


def test_a_missing_frame_rate_names_the_option_that_gives_it():
    recording = Recording.from_array(movie())
    with pytest.raises(MissingFrameRateError, match="--frame-rate"):
        _ = recording.rate_hz
    with pytest.raises(MissingFrameRateError):
        _ = recording.times_s


def test_times_start_at_zero_and_follow_the_rate():
    times = Recording.from_array(movie(), frame_rate_hz=4.0).times_s
    np.testing.assert_allclose(times, np.arange(7) / 4)


def test_timestamps_win_over_the_rate_and_start_at_zero():
    stamps = 10.0 + np.array([0.0, 0.5, 1.0, 1.5, 4.0, 4.5, 5.0])
    recording = Recording(ArrayMovie(movie()), frame_rate_hz=99.0, timestamps_s=stamps)
    assert recording.rate_hz == pytest.approx(2.0)
    np.testing.assert_allclose(recording.times_s, stamps - 10.0)


def test_what_the_user_says_replaces_what_the_file_says_and_nothing_else():
    recording = Recording.from_array(movie(), frame_rate_hz=4.0, pixel_size_um=2.0)
    changed = recording.with_metadata(frame_rate_hz=8.0)
    assert (changed.frame_rate_hz, changed.pixel_size_um) == (8.0, 2.0)
    assert recording.frame_rate_hz == 4.0
    with pytest.raises(RecordingError):
        recording.with_metadata(pixel_size_um=-1.0)


def test_a_cut_recording_has_the_frames_and_times_asked_for():
    frames = np.arange(60, dtype=np.uint16).reshape(10, 2, 3)
    whole = Recording.from_array(frames, frame_rate_hz=5.0).with_metadata(
        timestamps_s=np.arange(10) * 0.25
    )
    part = whole.cut(4, 9)
    assert part.n_frames == 5
    np.testing.assert_array_equal(part.movie.read(1, 99), frames[5:9])
    np.testing.assert_array_equal(read_rows(part.movie, 0, 2, 1, 2), frames[4:6, 1:2])
    np.testing.assert_allclose(part.times_s, np.arange(5) * 0.25)
    assert whole.cut(0, 3).movie.shape == (3, 2, 3)


@pytest.mark.parametrize("rate_hz", [1e9, 10001.0, 9e-5, 1e-9])
def test_a_rate_that_no_camera_has_is_refused(rate_hz):
    frames = np.zeros((4, 8, 8), np.uint16)
    with pytest.raises(RecordingError, match=r"recordings have 0.0001 to 10000. Check the unit"):
        Recording.from_array(frames, frame_rate_hz=rate_hz)
    with pytest.raises(RecordingError, match="The timestamps say"):
        Recording(ArrayMovie(frames), timestamps_s=np.arange(4) / rate_hz)

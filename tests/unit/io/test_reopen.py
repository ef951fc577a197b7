"""The recording of a result is opened again as it was read then."""

import numpy as np
import pytest
from synthetic_result import make_result

from cocuyo.core import RecordingError
from cocuyo.io import READING_CHOICES, file_identity, open_recording, reopen_recording
from cocuyo.pipeline import with_inputs

N_FRAMES, SIDE = 12, 24


@pytest.fixture
def turned(tmp_path):
    """A movie saved as (X, Y, T), square, so that no shape tells a wrong order."""
    movie = np.random.default_rng(1).integers(0, 999, (N_FRAMES, SIDE, SIDE)).astype(np.uint16)
    np.save(tmp_path / "turned.npy", movie.transpose(2, 1, 0))
    return tmp_path / "turned.npy", movie


def made_of(path, **reading):
    result = make_result(n_rois=2, n_frames=N_FRAMES, frame_shape=(SIDE, SIDE))
    choices = {name: reading.get(name) for name in READING_CHOICES}
    return with_inputs(result, file_identity([path]), reading=choices)


def test_the_order_of_axes_that_was_said_counts_again(turned):
    path, movie = turned
    result = made_of(path, axes="XYT")
    opened = reopen_recording(result, path.parent / "turned.cocuyo")
    np.testing.assert_array_equal(opened.movie.read(0, N_FRAMES), movie)


def test_the_frames_that_were_chosen_are_those_again(turned):
    path, movie = turned
    result = make_result(n_rois=2, n_frames=5, frame_shape=(SIDE, SIDE))
    reading = {"axes": "XYT", "frames": (3, 8)}
    result = with_inputs(result, file_identity([path]), reading=reading)
    opened = reopen_recording(result, path.parent / "turned.cocuyo")
    np.testing.assert_array_equal(opened.movie.read(0, 5), movie[3:8])


def test_every_kept_choice_is_an_option_of_reading(turned):
    path, _ = turned
    open_recording(path, **dict.fromkeys(READING_CHOICES) | {"axes": "XYT"})


def test_another_recording_at_that_place_is_refused(turned):
    path, movie = turned
    result = made_of(path, axes="XYT")
    np.save(path, movie[:6])
    with pytest.raises(RecordingError, match="not the size"):
        reopen_recording(result, path.parent / "turned.cocuyo")

"""Frames kept as they arrive: a kill loses none, and the file is an ordinary one at the end."""

import shutil

import numpy as np
import pytest

from cocuyo.core import RecordingError
from cocuyo.io import open_recording
from cocuyo.io.live import LiveFacts
from cocuyo.io.livefolder import spooled_recording
from cocuyo.io.spool import FRAMES_FILE, TIMES_FILE, Spool

SHAPE = (5, 7)
FACTS = LiveFacts(SHAPE, "<u2", 10.0, None, "kept")


def frames_of(n, dtype="<u2"):
    return np.random.default_rng(n).integers(0, 200, (n, *SHAPE)).astype(dtype)


@pytest.fixture
def open_spool():
    """Open spools; let them go at the end."""
    opened = []

    def make(folder, shape=SHAPE, dtype="<u2"):
        opened.append(Spool(folder, shape, np.dtype(dtype)))
        return opened[-1]

    yield make
    for spool in opened:
        spool.close()


@pytest.fixture
def killed(open_spool, tmp_path):
    """What a program that was killed leaves of a spool of some frames."""

    def leave(frames):
        (tmp_path / "running").mkdir()
        fill(open_spool(tmp_path / "running", dtype=frames.dtype), frames)
        return shutil.copytree(tmp_path / "running", tmp_path / "killed")

    return leave


def fill(spool, frames, *, numbers=None, times=None):
    for i, frame in enumerate(frames):
        number = i if numbers is None else numbers[i]
        time_s = np.nan if times is None else times[i]
        spool.append(frame, number=number, time_s=time_s, arrived_s=100.0 + i)


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<f4", "<i4"])
def test_frames_come_back_as_they_were_while_the_file_grows(open_spool, tmp_path, dtype):
    frames = frames_of(9, dtype)
    spool = open_spool(tmp_path, dtype=dtype)
    for n in (4, 9):
        fill(spool, frames[spool.n_frames : n])
        assert spool.shape == (n, *SHAPE)
        np.testing.assert_array_equal(spool.read(0, n), frames[:n])
    np.testing.assert_array_equal(spool.read(3, 5), frames[3:5])
    assert spool.read(7, 99).shape == (2, *SHAPE)


def test_a_closed_spool_is_an_ordinary_npy_file(tmp_path):
    frames = frames_of(6)
    spool = Spool(tmp_path, SHAPE, frames.dtype)
    fill(spool, frames)
    spool.close()
    np.testing.assert_array_equal(np.load(tmp_path / FRAMES_FILE, allow_pickle=False), frames)
    recording = open_recording(tmp_path / FRAMES_FILE, frame_rate_hz=10)
    np.testing.assert_array_equal(recording.movie.read(0, 6), frames)


@pytest.mark.parametrize("torn", [1, 35, 69])
def test_after_a_kill_whole_frames_are_there_and_a_torn_one_is_written_again(
    open_spool, killed, torn
):
    frames = frames_of(8)
    folder = killed(frames[:5])
    with (folder / FRAMES_FILE).open("ab") as file:
        file.write(b"\xff" * torn)
    again = open_spool(folder)
    assert again.n_frames == 5
    fill(again, frames[5:], numbers=[5, 6, 7])
    again.close()
    np.testing.assert_array_equal(np.load(folder / FRAMES_FILE), frames)
    assert again.entries()[:, 0].tolist() == list(range(8))


def test_a_frame_without_its_entry_is_written_again(open_spool, killed):
    folder = killed(frames_of(5))
    entries = (folder / TIMES_FILE).read_bytes()
    (folder / TIMES_FILE).write_bytes(entries[:-10])
    assert open_spool(folder).n_frames == 4


@pytest.mark.parametrize("other", [((5, 8), "<u2"), (SHAPE, "<i2")])
def test_frames_of_another_kind_are_not_added(killed, other):
    folder = killed(frames_of(3))
    before = (folder / FRAMES_FILE).read_bytes()
    with pytest.raises(RecordingError, match="Move the folder away"):
        Spool(folder, other[0], np.dtype(other[1]))
    assert (folder / FRAMES_FILE).read_bytes() == before


def test_a_damaged_file_is_not_written_over(tmp_path):
    (tmp_path / FRAMES_FILE).write_bytes(b"something else" * 50)
    with pytest.raises(RecordingError, match="damaged"):
        Spool(tmp_path, SHAPE, np.dtype("<u2"))
    assert (tmp_path / FRAMES_FILE).read_bytes() == b"something else" * 50


@pytest.fixture
def recording_of(open_spool, tmp_path):
    """A recording of five kept frames with given numbers or times."""

    def make(**entries):
        spool = open_spool(tmp_path)
        fill(spool, frames_of(5), **entries)
        return spooled_recording(spool, FACTS, diameter_um=None)

    return make


def test_without_times_the_frames_are_regular(recording_of):
    recording = recording_of()
    assert recording.timestamps_s is None
    assert recording.rate_hz == 10


def test_times_of_the_sender_count(recording_of):
    times = [5.0, 5.1, 5.3, 5.4, 5.5]
    assert recording_of(times=times).timestamps_s.tolist() == times


def test_times_that_do_not_rise_are_not_used_and_the_notes_say_so(recording_of):
    recording = recording_of(times=[1.0, 2.0, 2.0, 3.0, 4.0])
    assert recording.timestamps_s is None
    assert "do not rise" in recording.notes[0]


def test_lost_frames_leave_gaps_in_time(recording_of):
    recording = recording_of(numbers=[0, 1, 2, 6, 7])
    np.testing.assert_allclose(recording.times_s, [0, 0.1, 0.2, 0.6, 0.7])
    assert recording.notes[0].startswith("3 frames never arrived")

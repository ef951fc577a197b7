"""Reading videos: frames in order, back and forth, and cut files."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cocuyo.core import RecordingError, TruncatedRecordingError
from cocuyo.io import open_recording

N, Y, X = 23, 34, 46  # codecs want even sizes


def write_video(path: Path, *, codec: str = "MJPG", colour: bool = False, rate_hz=12.5) -> Path:
    """Frames whose mean brightness rises by 8 from one to the next."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate_hz, (X, Y))
    if not writer.isOpened():
        pytest.skip(f"OpenCV cannot write {codec} here.")
    texture = np.random.default_rng(0).integers(0, 20, (Y, X, 3 if colour else 1))
    for t in range(N):
        frame = np.broadcast_to(texture + 10 + 8 * t, (Y, X, 3)).astype(np.uint8).copy()
        if colour:
            frame[..., 2] //= 2
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def avi(tmp_path):
    return write_video(tmp_path / "m.avi")


def read_all(recording):
    return recording.movie.read(0, recording.n_frames)


@pytest.mark.parametrize(
    ("codec", "name"), [("MJPG", "m.avi"), ("mp4v", "m.mp4"), ("MJPG", "m.mkv")]
)
def test_a_video_has_its_frames_in_order_and_its_rate(codec, name, tmp_path):
    recording = open_recording(write_video(tmp_path / name, codec=codec))
    assert recording.movie.shape == (N, Y, X)
    assert recording.movie.dtype == np.uint8
    assert recording.frame_rate_hz == pytest.approx(12.5)
    means = read_all(recording).mean(axis=(1, 2))
    np.testing.assert_allclose(np.diff(means), 8, atol=3)


def test_blocks_of_any_size_and_order_equal_the_whole(avi):
    recording = open_recording(avi)
    frames = read_all(recording)
    for size in (1, 4, N, N + 5):
        joined = np.concatenate([block for _, block in recording.blocks(size)])
        np.testing.assert_array_equal(joined, frames)
    for start, stop in ((20, 23), (3, 7), (3, 4), (15, 15), (0, 2)):
        np.testing.assert_array_equal(recording.movie.read(start, stop), frames[start:stop])


def test_grey_video_is_said_to_have_equal_channels(avi):
    assert any("equal but for the codec's rounding" in note for note in open_recording(avi).notes)


def test_colour_video_is_said_to_be_turned_grey(tmp_path):
    notes = open_recording(write_video(tmp_path / "m.avi", colour=True)).notes
    assert any("grey (luma) is taken" in note for note in notes)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_a_cut_avi_says_how_many_frames_are_good(share, avi, tmp_path):
    content = avi.read_bytes()
    frames = read_all(open_recording(avi))
    path = tmp_path / "cut.avi"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(TruncatedRecordingError, match="header says") as caught:
        open_recording(path)
    n_good = caught.value.n_good_frames
    assert 0 < n_good < N
    recording = open_recording(path, frames=(0, n_good))
    np.testing.assert_array_equal(read_all(recording), frames[:n_good])


def test_a_video_whose_header_promises_more_frames_is_damaged(avi, monkeypatch):
    class Promising:
        def __init__(self, capture, promised):
            self._capture = capture
            self._promised = promised

        def get(self, what):
            if what == cv2.CAP_PROP_FRAME_COUNT:
                return self._promised
            return self._capture.get(what)

        def __getattr__(self, name):
            return getattr(self._capture, name)

    make = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda *a: Promising(make(*a), N + 10))
    with pytest.raises(TruncatedRecordingError, match=f"{N - 1} of {N + 10} frames"):
        open_recording(avi)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *a: Promising(make(*a), N + 1))
    recording = open_recording(avi)  # an estimate may be off by a little
    assert recording.n_frames == N
    assert any(f"says {N + 1} frames" in note for note in recording.notes)


def test_a_nonsense_rate_is_no_rate(avi, monkeypatch):
    make = cv2.VideoCapture

    class Wrong:
        def __init__(self, *args):
            self._capture = make(*args)

        def get(self, what):
            return 90000.0 if what == cv2.CAP_PROP_FPS else self._capture.get(what)

        def __getattr__(self, name):
            return getattr(self._capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Wrong)
    assert open_recording(avi).frame_rate_hz is None


def test_a_video_without_its_index_is_a_clear_error(tmp_path):
    path = write_video(tmp_path / "m.mp4", codec="mp4v")
    short = tmp_path / "cut.mp4"
    short.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(RecordingError, match="cannot be opened"):
        open_recording(short)


def test_a_cut_video_gives_one_line_and_no_chatter_of_the_decoder(avi, tmp_path):
    # In a process of its own: FFmpeg takes its log level once, here perhaps from cv2.VideoWriter.
    path = tmp_path / "cut.avi"
    path.write_bytes(avi.read_bytes()[:-3000])
    done = subprocess.run(
        [sys.executable, "-m", "cocuyo", "inspect", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("cocuyo: error: ")
    assert done.stderr.count("\n") == 1


def test_the_parts_of_a_video_are_joined_in_natural_order(tmp_path):
    whole = read_all(open_recording(write_video(tmp_path / "m.avi")))
    folder = tmp_path / "session"
    folder.mkdir()
    for name in ("msCam1.avi", "msCam2.avi", "msCam10.avi"):
        write_video(folder / name)
    (folder / "timestamp.dat").write_text("nothing here")
    recording = open_recording(folder)
    assert recording.name == "session"
    assert recording.n_frames == 3 * N
    np.testing.assert_array_equal(recording.movie.read(N - 2, N + 3)[2:], whole[:3])
    joined = open_recording(
        [folder / n for n in ("msCam10.avi", "msCam1.avi", "msCam2.avi")], join=True
    )
    assert joined.notes[0].endswith("msCam10.avi.")

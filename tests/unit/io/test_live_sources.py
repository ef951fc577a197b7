"""Files and folders that grow, and replays."""

import time
from itertools import islice

import cv2
import numpy as np
import pytest
import tifffile

from cocuyo.core import Recording, RecordingError
from cocuyo.io import open_recording
from cocuyo.io.live import GrowingFolder, GrowingTiff, Replay
from cocuyo.io.tiff import walk_pages

N, Y, X = 9, 20, 26
GIVEN = {"frame_rate_hz": 10.0}


def movie(dtype="uint16"):
    return np.random.default_rng(3).integers(0, 250, (N, Y, X)).astype(dtype)


def append(path, frames, **options):
    for frame in frames:
        tifffile.imwrite(path, frame, append=path.exists(), photometric="minisblack", **options)


def never():
    return False


def take(frames, seconds=0.25):
    """Take what a source gives until it has given nothing for a while."""
    got, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        frame = next(frames)
        if frame is not None:
            got.append(frame)
            until = time.monotonic() + seconds
    return got


def expect(got, frames, first=0):
    assert [frame.number for frame in got] == list(range(first, first + len(frames)))
    for frame, wanted in zip(got, frames, strict=True):
        assert frame.pixels.dtype == wanted.dtype.newbyteorder("=")
        np.testing.assert_array_equal(frame.pixels, wanted)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"compression": "zlib"}])
def test_pages_are_given_as_they_are_appended(tmp_path, options):
    frames, path = movie(), tmp_path / "m.tif"
    append(path, frames[:2], **options)
    source = GrowingTiff(path, **GIVEN)
    facts = source.open(never)
    assert (facts.frame_shape, np.dtype(facts.dtype)) == ((Y, X), np.uint16)
    assert (facts.frame_rate_hz, facts.name, facts.paths) == (10.0, "m", (str(path),))
    stream = source.frames(0)
    expect(take(stream), frames[:2])
    append(path, frames[2:7], **options)
    expect(take(stream), frames[2:7], 2)
    append(path, frames[7:], **options)
    expect(take(stream), frames[7:], 7)


def one_directory(path, frames):
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX", "finterval": 0.05})


WRITERS = {
    "imagej": one_directory,
    "big-endian": lambda p, f: tifffile.imwrite(p, f, byteorder=">", photometric="minisblack"),
    "page by page": append,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_no_frame_is_given_before_it_is_whole(tmp_path, writer):
    frames, whole, path = movie(), tmp_path / "whole.tif", tmp_path / "m.tif"
    WRITERS[writer](whole, frames)
    content = whole.read_bytes()
    path.write_bytes(b"")
    source = GrowingTiff(path, **GIVEN)
    stream, got = None, []
    for end in [*range(0, len(content), 700), len(content)]:
        path.write_bytes(content[:end])
        if stream is None:
            deadline = time.monotonic() + 0.05
            if source.open(lambda until=deadline: time.monotonic() > until) is None:
                continue
            stream = source.frames(0)
        got += take(stream, 0.03)
    got += take(stream)
    expect(got, frames)


def test_a_start_in_the_middle_goes_on_from_there(tmp_path):
    frames = movie()
    append(tmp_path / "m.tif", frames)
    source = GrowingTiff(tmp_path / "m.tif", **GIVEN)
    source.open(never)
    expect(take(source.frames(6)), frames[6:], 6)


def test_rate_and_pixel_size_are_those_of_the_file(tmp_path):
    path = tmp_path / "m.tif"
    one_directory(path, movie())
    facts = GrowingTiff(path).open(never)
    recording = open_recording(path)
    assert facts.frame_rate_hz == recording.frame_rate_hz == 20
    assert facts.pixel_size_um == recording.pixel_size_um


def test_waiting_for_a_file_can_be_stopped(tmp_path):
    until = time.monotonic() + 0.1
    assert GrowingTiff(tmp_path / "no.tif").open(lambda: time.monotonic() > until) is None


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path):
    np.save(tmp_path / "m.npy", movie())
    with pytest.raises(RecordingError, match="--replay"):
        GrowingTiff(tmp_path / "m.npy").open(never)


def test_a_file_that_becomes_shorter_is_an_error(tmp_path):
    path = tmp_path / "m.tif"
    append(path, movie())
    source = GrowingTiff(path, **GIVEN)
    source.open(never)
    stream = source.frames(0)
    take(stream)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(RecordingError, match="became shorter"):
        take(stream)


def test_walking_on_finds_what_walking_anew_finds(tmp_path):
    path, frames = tmp_path / "m.tif", movie()
    known = None
    for n in range(N):
        append(path, frames[n : n + 1])
        known = walk_pages(path, known=known)
        assert known == walk_pages(path)
        assert len(known.pages) == n + 1


def write_frame(path, frame):
    if path.suffix == ".png":
        cv2.imwrite(str(path), frame)
    else:
        tifffile.imwrite(path, frame, photometric="minisblack")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_frames_of_a_folder_are_given_in_natural_order_as_they_come(tmp_path, suffix):
    frames = np.concatenate([movie(), movie()[::-1]])
    folder = tmp_path / "frames"
    source = GrowingFolder(folder, **GIVEN)
    folder.mkdir()
    (folder / "notes.txt").write_text("not a frame")
    for i in range(3):
        write_frame(folder / f"f{i}{suffix}", frames[i])
    facts = source.open(never)
    assert facts.frame_shape == (Y, X)
    stream = source.frames(0)
    expect(take(stream), frames[:3])
    for i in range(3, 12):  # f9 comes before f10
        write_frame(folder / f"f{i}{suffix}", frames[i])
    expect(take(stream), frames[3:12], 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_frame_that_is_being_written_is_waited_for(tmp_path, suffix):
    frames = movie()
    for i in range(2):
        write_frame(tmp_path / f"f{i}{suffix}", frames[i])
    write_frame(tmp_path / f"x{suffix}", frames[2])
    content = (tmp_path / f"x{suffix}").read_bytes()
    (tmp_path / f"x{suffix}").unlink()
    source = GrowingFolder(tmp_path, **GIVEN)
    source.open(never)
    stream = source.frames(0)
    for share in (0, 0.2, 0.9):
        (tmp_path / f"f2{suffix}").write_bytes(content[: int(share * len(content))])
        expect(take(stream), frames[:2] if share == 0 else frames[:0])
    (tmp_path / f"f2{suffix}").write_bytes(content)
    expect(take(stream), frames[2:3], 2)


def followed_folder(tmp_path, frames):
    for i, frame in enumerate(frames):
        write_frame(tmp_path / f"f{i + 5}.tif", frame)
    source = GrowingFolder(tmp_path, **GIVEN)
    source.open(never)
    stream = source.frames(0)
    expect(take(stream), frames)
    return stream


def test_a_frame_that_comes_too_late_is_an_error(tmp_path):
    stream = followed_folder(tmp_path, movie()[:3])
    write_frame(tmp_path / "f6b.tif", movie()[4])
    (tmp_path / "f6b.tif").rename(tmp_path / "f4.tif")
    with pytest.raises(RecordingError, match="order of their names"):
        take(stream)


def test_a_frame_of_another_size_is_an_error(tmp_path):
    stream = followed_folder(tmp_path, movie()[:3])
    write_frame(tmp_path / "f8.tif", movie()[4][:-1])
    with pytest.raises(RecordingError, match=r"f8\.tif has another size"):
        take(stream)


def test_a_damaged_frame_in_the_middle_is_an_error(tmp_path):
    stream = followed_folder(tmp_path, movie()[:3])
    (tmp_path / "f8.tif").write_bytes(b"II*\0")
    write_frame(tmp_path / "f9.tif", movie()[4])
    with pytest.raises(RecordingError, match=r"f8\.tif cannot be read"):
        take(stream)


def test_a_folder_of_movies_is_refused_in_one_line(tmp_path):
    tifffile.imwrite(tmp_path / "part1.tif", movie(), photometric="minisblack")
    with pytest.raises(RecordingError, match="several images"):
        GrowingFolder(tmp_path).open(never)


def replayed(rate_hz, **given):
    recording = Recording.from_array(movie(), frame_rate_hz=50.0)
    source = Replay(recording.with_metadata(**given), rate_hz=rate_hz)
    assert source.open(never).n_frames == N
    began = time.monotonic()
    got = [(frame, time.monotonic() - began) for frame in source.frames(0) if frame is not None]
    return [frame for frame, _ in got], np.array([at for _, at in got])


def test_a_replay_gives_all_frames_at_the_recordings_rate():
    got, at = replayed(None)
    expect(got, movie())
    assert (at >= np.arange(N) / 50 - 1e-3).all()
    assert at[-1] < (N - 1) / 50 + 1


def test_a_replay_at_another_rate_is_slower_or_as_fast_as_it_can():
    assert replayed(20.0)[1][-1] >= (N - 1) / 20 - 1e-3
    assert replayed(np.inf)[1][-1] < (N - 1) / 50


def test_a_replay_hands_on_irregular_times():
    times = np.cumsum(np.linspace(0.01, 0.03, N))
    got, at = replayed(None, timestamps_s=times)
    np.testing.assert_array_equal([frame.time_s for frame in got], times)
    assert (at >= times - times[0] - 1e-3).all()


def test_a_replay_goes_on_from_the_middle_at_once():
    source = Replay(Recording.from_array(movie(), frame_rate_hz=1.0))
    began = time.monotonic()
    frame = next(islice(source.frames(7), 1))
    assert frame.number == 7
    assert time.monotonic() - began < 0.5

"""Reading folders of images and of parts."""

import cv2
import numpy as np
import pytest
import tifffile

from cocuyo.core import RecordingError, TruncatedRecordingError
from cocuyo.io import open_recording

N, Y, X = 12, 5, 8


def movie(dtype="uint16"):
    return np.random.default_rng(2).integers(0, 200, (N, Y, X)).astype(dtype)


def write_frames(folder, frames, suffix=".tif", **options):
    folder.mkdir()
    for t, frame in enumerate(frames, start=1):  # frame2 before frame10
        path = folder / f"frame{t}{suffix}"
        if suffix == ".png":
            path.write_bytes(cv2.imencode(".png", frame)[1].tobytes())
        else:
            tifffile.imwrite(path, frame, **options)
    return folder


def read_all(recording):
    return recording.movie.read(0, recording.n_frames)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_images_are_frames_in_natural_order(suffix, dtype, tmp_path):
    folder = write_frames(tmp_path / "day 1", movie(dtype), suffix)
    (folder / ".hidden.tif").write_text("x")
    (folder / "settings.json").write_text("{}")
    recording = open_recording(folder)
    assert recording.name == "day 1"
    assert recording.movie.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read_all(recording), movie(dtype))
    np.testing.assert_array_equal(recording.movie.read(4, 6), movie(dtype)[4:6])


@pytest.mark.parametrize(
    "options", [{"compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True}]
)
def test_tiff_images_of_any_writing_are_frames(options, tmp_path):
    folder = write_frames(tmp_path / "f", movie(), **options)
    np.testing.assert_array_equal(read_all(open_recording(folder)), movie())


def test_colour_images_become_grey(tmp_path):
    frames = movie("uint8")
    blue_first = np.stack([frames // 4, frames // 2, frames], axis=-1)
    folder = write_frames(tmp_path / "f", blue_first, ".png")
    recording = open_recording(folder)
    expected = frames * 0.299 + (frames // 2) * 0.587 + (frames // 4) * 0.114
    assert np.abs(read_all(recording) - expected).max() <= 0.51
    assert any("grey" in note for note in recording.notes)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("damage", ["garbage", "cut", "empty"])
def test_an_unreadable_frame_ends_the_good_ones(suffix, damage, tmp_path):
    folder = write_frames(tmp_path / "f", movie(), suffix)
    bad = folder / f"frame8{suffix}"
    content = bad.read_bytes()
    bad.write_bytes({"garbage": b"no image", "cut": content[:-30], "empty": b""}[damage])
    with pytest.raises(TruncatedRecordingError, match=r"7 of 12 .*frame8.*--frames 0:7"):
        open_recording(folder)
    np.testing.assert_array_equal(read_all(open_recording(folder, frames=(0, 7))), movie()[:7])


def test_a_frame_of_another_size_is_named(tmp_path):
    folder = write_frames(tmp_path / "f", movie())
    tifffile.imwrite(folder / "frame8.tif", movie()[0, :-1])
    with pytest.raises(RecordingError, match=r"frame8.tif has 4 x 8 pixels"):
        open_recording(folder)


def test_missing_numbers_are_told(tmp_path):
    folder = write_frames(tmp_path / "f", movie())
    (folder / "frame5.tif").unlink()
    assert any("jump" in note and "frame4.tif" in note for note in open_recording(folder).notes)


def test_parts_of_a_movie_are_joined(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    for number, part in ((1, movie()[:3]), (2, movie()[3:4]), (10, movie()[4:])):
        tifffile.imwrite(folder / f"part_{number}.tif", part, photometric="minisblack")
    recording = open_recording(folder)
    for size in (1, 3, 5, N):
        joined = np.concatenate([block for _, block in recording.blocks(size)])
        np.testing.assert_array_equal(joined, movie())


def test_a_damaged_part_counts_the_frames_before_it(tmp_path):
    parts = []
    for number, part in enumerate((movie()[:4], movie()[4:8], movie()[8:])):
        parts.append(tmp_path / f"{number}.npy")
        np.save(parts[-1], part)
    parts[1].write_bytes(parts[1].read_bytes()[: 128 + 2 * Y * X * 2 + 1])
    with pytest.raises(TruncatedRecordingError, match=r"6 of 12 frames .*1.npy"):
        open_recording(parts, join=True)
    recording = open_recording(parts, join=True, frames=(2, 6))
    np.testing.assert_array_equal(read_all(recording), movie()[2:6])


def test_parts_must_agree(tmp_path):
    np.save(tmp_path / "a1.npy", movie())
    np.save(tmp_path / "a2.npy", movie()[:, :, :-1])
    with pytest.raises(RecordingError, match="same size"):
        open_recording(tmp_path)
    np.save(tmp_path / "a2.npy", movie("uint8"))
    with pytest.raises(RecordingError, match="same type"):
        open_recording(tmp_path)


def test_several_files_need_join(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", movie())
    with pytest.raises(RecordingError, match="--join"):
        open_recording([tmp_path / "a.npy", tmp_path / "b.npy"])


def test_a_folder_of_several_recordings_is_refused(tmp_path):
    for name in ("msCam1", "msCam2", "behavCam1"):
        np.save(tmp_path / f"{name}.npy", movie())
    with pytest.raises(RecordingError, match=r"more than one recording.*msCam1.npy and 1 more"):
        open_recording(tmp_path)


def test_a_folder_without_frames_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RecordingError, match="without frames"):
        open_recording(tmp_path)

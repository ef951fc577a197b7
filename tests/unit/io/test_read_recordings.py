"""What holds for recordings of every kind: errors, frames, rates, times, identity."""

import hashlib

import cv2
import numpy as np
import pytest
import tifffile

from cocuyo.core import MissingFrameRateError, RecordingError
from cocuyo.io import file_identity, inspect_recording, open_recording, read_exclusion

N, Y, X = 10, 5, 8


def movie(dtype="uint16"):
    return np.random.default_rng(3).integers(0, 200, (N, Y, X)).astype(dtype)


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "m.npy", movie())
    return tmp_path / "m.npy"


# --- Files that are no recordings --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.tif", b"", "empty"),
        ("m.tif", b"time,value\n0,1\n" * 9, "text file"),
        ("m.tif", bytes(range(128, 256)) * 9, "not a kind of file"),
        ("m.tif", b"II*\0" + bytes(60), "without a whole image"),
        ("m.tif", b"II*\0\xff\xff\xff\xff" + bytes(60), "without a whole image"),
        ("m.tif", b"II*\0", "without a whole image"),
        ("m.avi", b"RIFF\0\0\1\0AVI " + bytes(400), "cannot be opened"),
        ("m.mp4", b"\0\0\0\x20ftypisom" + bytes(400), "cannot be opened"),
        ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(400), "damaged"),
        ("m.npy", b"\x93NUMPY" + bytes(400), "damaged"),
        ("m.npz", b"PK\x03\x04" + bytes(400), "ZIP"),
        ("m.jpg", b"\xff\xd8\xff" + bytes(400), "JPEG"),
        ("m.xyz", b"hello, world", "cocuyo reads TIFF"),
    ],
)
def test_a_file_that_is_no_recording_gives_one_clear_line(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match=words) as caught:
        open_recording(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(RecordingError, match=r"nothing.tif does not exist"):
        open_recording(tmp_path / "nothing.tif")


def test_a_png_named_tif_is_recognised(tmp_path):
    path = tmp_path / "m.tif"
    path.write_bytes(cv2.imencode(".png", movie("uint8")[0])[1].tobytes())
    with pytest.raises(RecordingError, match="PNG image, a single frame"):
        open_recording(path)


def test_a_movie_with_a_wrong_name_is_read_by_its_content(npy, tmp_path):
    path = npy.rename(tmp_path / "m.tif")
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.movie.read(0, N), movie())
    assert any("ends in .tif, but the content is NumPy" in note for note in recording.notes)


def test_one_frame_is_no_recording(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", movie()[0])
    with pytest.raises(RecordingError, match="single frame"):
        open_recording(tmp_path / "m.tif")


def test_constant_frames_are_a_recording(tmp_path):
    np.save(tmp_path / "m.npy", np.full((N, Y, X), 7, np.uint8))
    assert open_recording(tmp_path / "m.npy").n_frames == N


# --- Frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ((0, N), slice(0, N)),
        ((2, None), slice(2, N)),
        ((None, 4), slice(0, 4)),
        ((3, 6), slice(3, 6)),
    ],
)
def test_a_range_of_frames_is_used(frames, expected, npy):
    recording = open_recording(npy, frames=frames)
    np.testing.assert_array_equal(recording.movie.read(0, recording.n_frames), movie()[expected])
    joined = np.concatenate([block for _, block in recording.blocks(2)])
    np.testing.assert_array_equal(joined, movie()[expected])


@pytest.mark.parametrize("frames", [(5, 5), (6, 2), (-3, 4), (0, N + 1), (N, None), (0, 0)])
def test_a_range_that_makes_no_sense_is_refused(frames, npy):
    with pytest.raises(RecordingError, match=r"has 10 frames; --frames A:B needs 0 <= A < B <= 10"):
        open_recording(npy, frames=frames)


def test_a_range_of_one_frame_is_refused(npy):
    with pytest.raises(RecordingError, match="single frame in the range"):
        open_recording(npy, frames=(3, 4))


# --- Rate, pixel size, times -------------------------------------------------------------------


def test_what_the_user_says_wins_and_a_difference_is_told(tmp_path):
    path = tmp_path / "m.tif"
    tifffile.imwrite(
        path, movie(), imagej=True, resolution=(1, 1),
        metadata={"axes": "TYX", "finterval": 0.1, "unit": "um"},
    )  # fmt: skip
    same = open_recording(path, frame_rate_hz=10.05, pixel_size_um=1)
    assert same.frame_rate_hz == 10.05
    assert not any("given" in note for note in same.notes)
    other = open_recording(path, frame_rate_hz=20, pixel_size_um=2, diameter_um=12)
    assert (other.frame_rate_hz, other.pixel_size_um, other.diameter_um) == (20, 2, 12)
    assert any("20 Hz" in note and "says 10 Hz" in note for note in other.notes)
    assert any("2 µm" in note and "says 1 µm" in note for note in other.notes)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["frame_rate_hz", "pixel_size_um", "diameter_um"])
def test_impossible_values_are_refused(name, value, npy):
    with pytest.raises(RecordingError, match="must be a positive number"):
        open_recording(npy, **{name: value})


def test_a_missing_rate_is_an_error_only_when_it_is_needed(npy):
    recording = open_recording(npy)
    with pytest.raises(MissingFrameRateError, match="--frame-rate"):
        _ = recording.rate_hz


TIMES = np.cumsum(np.linspace(0.1, 0.2, N)).round(6)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"{t}" for t in TIMES),
        "# seconds\n" + "\n".join(f"{t}" for t in TIMES) + "\n\n",
        "time_s\n" + "\n".join(f"{t}" for t in TIMES),
        "\n".join(f"{i} {t}" for i, t in enumerate(TIMES)),
        "frame;time (s)\n" + "\n".join(f"{i};{t}" for i, t in enumerate(TIMES)),
        "Frame Number,Time Stamp (ms),Buffer Index\n"
        + "\n".join(f"{i},{t * 1000:.4f},0" for i, t in enumerate(TIMES)),
        "camNum\tframeNum\tsysClock\tbuffer\n"
        + "\n".join(f"0\t{i + 1}\t{t * 1000:.4f}\t1" for i, t in enumerate(TIMES)),
        "camNum\tframeNum\tsysClock\tbuffer\n"
        + "\n".join(f"1\t{i + 1}\t{t * 1000:.4f}\t1" for i, t in enumerate(TIMES))
        + "\n"
        + "\n".join(f"0\t{i + 1}\t{i * 20}\t1" for i in range(2 * N)),
    ],
    ids=[
        "one column",
        "comment",
        "header",
        "numbered",
        "semicolons",
        "UCLA 4",
        "UCLA 3",
        "two cameras",
    ],
)
def test_times_are_read_from_text(text, npy, tmp_path):
    (tmp_path / "times.csv").write_text(text, encoding="utf-8")
    recording = open_recording(npy, timestamps=tmp_path / "times.csv")
    np.testing.assert_allclose(recording.timestamps_s, TIMES, atol=1e-6)
    assert recording.rate_hz == pytest.approx(1 / np.median(np.diff(TIMES)), rel=1e-3)
    part = open_recording(npy, timestamps=tmp_path / "times.csv", frames=(3, 8))
    np.testing.assert_allclose(part.timestamps_s, TIMES[3:8], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no times"),
        ("0\n1\n2", "3 times for 10 frames"),
        ("\n".join(["0", "1", "1", *map(str, range(3, 10))]), "time of frame 2"),
        ("\n".join(["0", "1", "nan", *map(str, range(3, 10))]), "Line 3"),
        ("\n".join(["0", "1", "two", *map(str, range(3, 10))]), "Line 3"),
        ("\n".join(f"{i * 0.1} {i * 0.2} {i}" for i in range(10)), "not clear which"),
        ("a,b\n" + "\n".join(f"{i},{i}" for i in range(10)), "not clear which"),
    ],
)
def test_wrong_times_say_what_is_wrong(text, words, npy, tmp_path):
    (tmp_path / "times.txt").write_text(text)
    with pytest.raises(RecordingError, match=words):
        open_recording(npy, timestamps=tmp_path / "times.txt")


def test_times_can_be_an_array(npy):
    np.testing.assert_array_equal(open_recording(npy, timestamps=TIMES).timestamps_s, TIMES)
    with pytest.raises(RecordingError, match="cannot be read"):
        open_recording(npy, timestamps="absent.csv")


# --- Inspection, identity, exclusion -----------------------------------------------------------


def test_inspection_says_what_is_there_and_what_is_missing(npy):
    facts = inspect_recording(npy)
    assert (facts.n_frames, facts.n_rows, facts.n_columns, facts.dtype) == (N, Y, X, "uint16")
    assert (facts.value_min, facts.value_max) == (movie().min(), movie().max())
    assert facts.value_mean == pytest.approx(movie().mean())
    assert facts.bytes_on_disk == npy.stat().st_size
    assert facts.frame_rate_hz is None
    assert facts.duration_s is None
    assert [what.partition(":")[0] for what in facts.missing] == ["frame rate", "pixel size"]


def test_inspection_with_everything_given_misses_nothing(npy):
    facts = inspect_recording(npy, frame_rate_hz=5, pixel_size_um=1)
    assert facts.missing == ()
    assert facts.duration_s == pytest.approx(N / 5)


def test_inspection_counts_saturated_and_not_finite_values(tmp_path):
    frames = movie("uint8")
    frames[:, 0] = 255
    np.save(tmp_path / "a.npy", frames)
    assert inspect_recording(tmp_path / "a.npy").share_at_limit == pytest.approx(1 / Y)
    real = movie("float32")
    real[:, :, 0] = np.nan
    np.save(tmp_path / "b.npy", real)
    facts = inspect_recording(tmp_path / "b.npy")
    assert facts.share_not_finite == pytest.approx(1 / X)
    assert facts.value_max == np.nanmax(real)
    np.save(tmp_path / "c.npy", np.full((N, Y, X), np.nan))
    assert inspect_recording(tmp_path / "c.npy").value_min is None


def test_identity_is_the_hash_of_the_whole_file(npy):
    (entry,) = file_identity(npy)
    content = npy.read_bytes()
    assert entry == {
        "path": str(npy),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_identity_of_a_folder_changes_with_any_file(npy, tmp_path):
    (before,) = file_identity([tmp_path])
    assert before["files"] == 1
    npy.write_bytes(npy.read_bytes()[:-1] + b"x")
    assert file_identity([tmp_path])[0]["sha256"] != before["sha256"]
    with pytest.raises(RecordingError, match="cannot be read"):
        file_identity(tmp_path / "absent.tif")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_an_exclusion_is_where_the_image_is_not_zero(suffix, tmp_path):
    mask = movie()[0] > 100
    path = tmp_path / f"mask{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, mask.astype(np.uint8) * 255)
    elif suffix == ".png":
        path.write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())
    else:
        np.save(path, mask)
    np.testing.assert_array_equal(read_exclusion(path, (Y, X)), mask)
    with pytest.raises(RecordingError, match="has shape"):
        read_exclusion(path, (X, Y))

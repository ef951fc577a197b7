"""What cannot be analysed: status 1, one line that says why, nothing written or changed."""

import os
import re
import struct
import sys
import zlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import tifffile

GARBAGE = np.random.default_rng(0).bytes(6000)


@pytest.fixture
def write(tmp_path):
    """Write bytes as a file."""

    def write_bytes(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write_bytes


# --- Files that are no recordings --------------------------------------------------------------


def test_a_missing_file_is_named(run_refused, tmp_path):
    assert "nothing.tif does not exist; check its name" in run_refused(tmp_path / "nothing.tif")


@pytest.mark.parametrize("name", ["m.tif", "m.avi", "m.h5", "m.npy"])
def test_an_empty_file_is_refused(run_refused, write, name):
    assert "is empty (0 bytes); copy it again" in run_refused(write(name, b""))


@pytest.mark.parametrize("name", ["m.tif", "m.avi", "m.mp4", "m.h5", "m.npy", "m"])
def test_random_bytes_are_refused_with_what_can_be_read(run_refused, write, name):
    line = run_refused(write(name, GARBAGE))
    assert "not a kind of file that cocuyo knows" in line
    assert "cocuyo reads TIFF, AVI" in line


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("m.tif", b"II*\0"),
        ("m.tif", b"MM\0+"),
        ("m.h5", b"\x89HDF\r\n\x1a\n"),
        ("m.npy", b"\x93NUMPY"),
    ],
)
def test_random_bytes_behind_a_true_beginning_are_damage(run_refused, write, name, start):
    line = run_refused(write(name, start + GARBAGE))
    assert name in line
    assert re.search("damaged|without a whole image", line)


def test_text_by_the_name_of_a_tiff_is_refused(run_refused, write):
    line = run_refused(write("m.tif", b"time,value\n0,1\n" * 9))
    assert "it is a text file. cocuyo reads TIFF" in line


def test_a_png_by_the_name_of_a_tiff_is_refused_as_a_single_frame(run_refused, write, small):
    png = cv2.imencode(".png", small[0])[1].tobytes()
    assert "PNG image, a single frame. Give the folder" in run_refused(write("m.tif", png))


def test_a_folder_without_frames_is_refused(run_refused, write, tmp_path):
    write("notes.txt", b"nothing")
    assert "folder without frames" in run_refused(tmp_path)


# --- Cut and damaged files ---------------------------------------------------------------------


def test_a_cut_tiff_names_the_frames_with_which_the_run_then_works(
    run, run_refused, write_tiff, look, tmp_path, small
):
    path = write_tiff(small)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    line = run_refused(path)
    n_good = int(re.search(r"--frames 0:(\d+)\.$", line).group(1))
    assert 25 <= n_good <= 30
    assert f"{n_good} of 60 frames are good" in line
    assert run(path, "--frames", f"0:{n_good}").status == 0
    folder = look(tmp_path / "slice.cocuyo")
    folder.expect_whole(n_good, (64, 72))
    assert "damaged or cut after frame" in " ".join(folder.record["notes"])


def test_a_damaged_frame_is_named_and_can_be_left_out(
    run, run_refused, write_tiff, look, tmp_path, small
):
    path = write_tiff(small, compression="zlib")
    with tifffile.TiffFile(path) as file:
        start, length = (
            tags[0] for tags in (file.pages[40].dataoffsets, file.pages[40].databytecounts)
        )
    content = bytearray(path.read_bytes())
    content[start + length // 3 : start + length // 2] = bytes(length // 2 - length // 3)
    path.write_bytes(content)
    line = run_refused(path)
    assert "Frame 40 of" in line
    assert "Leave it out with --frames A:B" in line
    assert run(path, "--frames", "0:40").status == 0
    look(tmp_path / "slice.cocuyo").expect_whole(40, (64, 72))


def test_a_damaged_frame_of_an_hdf5_file_is_named_and_can_be_left_out(
    run, run_refused, look, tmp_path, small
):
    path = tmp_path / "slice.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("movie", data=small, chunks=(1, 64, 72), compression="gzip")
        chunk = file["movie"].id.get_chunk_info(40)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    line = run_refused(path)
    assert re.search(r"Frames \d+:\d+ of .*slice.h5:/movie are damaged", line)
    assert "Leave them out with --frames A:B" in line
    assert run(path, "--frames", ":40").status == 0
    look(tmp_path / "slice.cocuyo").expect_whole(40, (64, 72))


def test_an_hdf5_file_of_damaged_structure_is_refused(run_refused, tmp_path, small):
    path = tmp_path / "slice.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("movie", data=small)
    assert path.read_bytes().count(b"TREE") == 1
    path.write_bytes(path.read_bytes().replace(b"TREE", b"BUSH"))
    assert "structure is damaged" in run_refused(path)


# --- Sizes that no recording has ---------------------------------------------------------------


def set_tags(path, **values):
    """Change numbers in the first directory of a little-endian TIFF."""
    content = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", content, 4)
    (n_tags,) = struct.unpack_from("<H", content, at)
    codes = {"width": 256, "length": 257}
    for entry in range(at + 2, at + 2 + 12 * n_tags, 12):
        for name, value in values.items():
            if struct.unpack_from("<H", content, entry)[0] == codes[name]:
                struct.pack_into("<HII", content, entry + 2, 4, 1, value)
    path.write_bytes(content)
    return path


def npy(place, shape):
    text = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path = place / "m.npy"
    path.write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", 118) + text.encode() + bytes(4000))
    return path


def hdf5(place, shape):
    path = place / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("movie", shape=shape, dtype="u2", chunks=(1, 64, 64))
    return path


def pngs(place, size):
    content = bytearray(cv2.imencode(".png", np.zeros((5, 5), np.uint8))[1].tobytes())
    struct.pack_into(">II", content, 16, *size)
    struct.pack_into(">I", content, 29, zlib.crc32(bytes(content[12:29])))
    (place / "frames").mkdir()
    for name in ("f1.png", "f2.png"):
        (place / "frames" / name).write_bytes(content)
    return place / "frames"


ENORMOUS = {
    "TIFF, a wide frame": lambda place, tiff: set_tags(tiff, width=2**31 - 1),
    "TIFF, a large frame": lambda place, tiff: set_tags(tiff, width=16384, length=16384),
    "npy, many large frames": lambda place, tiff: npy(place, (10**7, 9999, 9999)),
    "npy, many frames": lambda place, tiff: npy(place, (9 * 10**14, 64, 64)),
    "npy, a large frame": lambda place, tiff: npy(place, (2, 10**6, 10**6)),
    "npy, beyond 64 bits": lambda place, tiff: npy(place, (5, 10**30, 1)),
    "HDF5, never written": lambda place, tiff: hdf5(place, (10**6, 60000, 4000)),
    "HDF5, many frames": lambda place, tiff: hdf5(place, (10**12, 64, 64)),
    "HDF5, a large frame": lambda place, tiff: hdf5(place, (5, 10**6, 10**6)),
    "PNG": lambda place, tiff: pngs(place, (30000, 30000)),
}


# In a process of its own: other threads of the tests' process would find no memory, and end it.
LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import cocuyo.io, cocuyo.pipeline  # what is loaded now is not limited
from cocuyo.cli import main

pages = int(Path("/proc/self/statm").read_text().split()[0])
n_bytes = pages * resource.getpagesize() + 2**29
resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
main()
"""


@pytest.fixture
def refused_with_little_memory(process, state_of, tmp_path):
    """Analyse with half a gigabyte more than an idle process has; give the line of refusal."""
    if not Path("/proc/self/statm").is_file():
        pytest.skip("Only Linux says and limits how much memory a process has.")

    def call(path, *options):
        before = state_of(tmp_path)
        words = ("run", "--preset", "srname", path, "--frame-rate", 6.67, "--pixel-size", 1.5)
        outcome = process(*words, *options, code=LITTLE_MEMORY)
        assert (outcome.status, outcome.out) == (1, ""), outcome
        assert state_of(tmp_path) == before
        return outcome.error

    return call


@pytest.mark.parametrize("kind", ENORMOUS)
def test_enormous_sizes_in_a_header_are_damage_and_ask_for_no_memory(
    refused_with_little_memory, write_tiff, tmp_path, small, kind
):
    line = refused_with_little_memory(ENORMOUS[kind](tmp_path, write_tiff(small)))
    assert "memory" not in line
    assert re.search("damaged|damaged or cut|without a whole image|not written", line)


def test_a_video_that_promises_too_much_says_only_how_much_is_there(process, tmp_path, small):
    path = tmp_path / "m.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (72, 64))
    for frame in small[:10]:
        writer.write(cv2.cvtColor((frame // 16).astype(np.uint8), cv2.COLOR_GRAY2BGR))
    writer.release()
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 48, 2**31 - 1)  # frames in all
    struct.pack_into("<II", content, 64, 60000, 60000)  # columns and rows
    struct.pack_into("<I", content, content.find(b"strh") + 40, 2**31 - 1)  # frames of the stream
    path.write_bytes(content)
    outcome = process("run", "--preset", "srname", path)
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert "9 of 2147483647 frames are good" in outcome.error
    assert [file.name for file in tmp_path.iterdir()] == ["m.avi"]


# --- Frames and axes ---------------------------------------------------------------------------


def test_one_frame_is_no_recording(run_refused, write_tiff, small):
    assert "has a single frame; a recording needs at least 2" in run_refused(write_tiff(small[0]))


def test_frames_smaller_than_a_cell_are_refused(run_refused, write_tiff, small):
    line = run_refused(write_tiff(small[:, :7, :9]))
    assert "soma diameter comes out as 7.3 px in frames of 7 x 9" in line
    assert "This diameter was assumed from the usual 11 µm, not given." in line
    assert "Check --pixel-size and --diameter." in line


def test_a_given_diameter_that_does_not_fit_is_not_called_assumed(run_refused, write_tiff, small):
    line = run_refused(write_tiff(small), "--diameter", "200")
    assert "soma diameter comes out as" in line
    assert "Check --pixel-size and --diameter." in line
    assert "assumed" not in line


@pytest.mark.parametrize(
    ("axes", "option"), [("TCYX", "--channel N (0 to 1)"), ("TZYX", "--plane N (0 to 1)")]
)
def test_a_stack_of_four_axes_needs_a_choice(run_refused, write_tiff, small, axes, option):
    stack = np.stack([small[:30], small[30:]], 1)
    path = write_tiff(stack, photometric=None, imagej=True, metadata={"axes": axes})
    line = run_refused(path)
    assert "4 axes (30 times, 2" in line
    assert option in line


@pytest.mark.parametrize("choice", [("--channel", 2), ("--channel", -1), ("--plane", 1)])
def test_a_channel_or_plane_that_is_not_there_is_refused(run_refused, write_tiff, small, choice):
    stack = np.stack([small[:30], small[30:]], 1)
    path = write_tiff(stack, photometric=None, imagej=True, metadata={"axes": "TCYX"})
    assert f"{choice[0]} {choice[1]} was given, but" in run_refused(path, *choice)


# --- Options -----------------------------------------------------------------------------------


def test_a_missing_frame_rate_names_the_option(refused, write_tiff, small):
    line = refused("run", "--preset", "srname", write_tiff(small))
    assert "frame rate of slice is neither in the file nor given" in line
    assert "--frame-rate" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--frame-rate", "0"), "frame rate is given as 0.0; it must be a positive number"),
        (("--frame-rate", "-3"), "frame rate is given as -3.0; it must be a positive number"),
        (("--frame-rate", "nan"), "frame rate is given as nan; it must be a positive number"),
        (("--frame-rate", "inf"), "frame rate is given as inf; it must be a positive number"),
        (("--frame-rate", "1e9"), "given as 1e+09 frames per second; recordings have 0.0001 to"),
        (("--frame-rate", "1e-9"), "given as 1e-09 frames per second; recordings have 0.0001 to"),
        (("--pixel-size", "0"), "pixel size is given as 0.0; it must be a positive number"),
        (("--pixel-size", "-1"), "pixel size is given as -1.0; it must be a positive number"),
        (("--pixel-size", "nan"), "pixel size is given as nan; it must be a positive number"),
        (("--pixel-size", "500"), "Check --pixel-size and --diameter"),
        (("--pixel-size", "0.001"), "Check --pixel-size and --diameter"),
        (("--diameter", "0"), "diameter is given as 0.0; it must be a positive number"),
        (("--diameter", "5000"), "Check --pixel-size and --diameter"),
        (("--frames", "5:2"), "Frames 5:2 were asked for, but"),
        (("--frames", "7:7"), "--frames A:B needs 0 <= A < B <= 60"),
        (("--frames", "0:61"), "--frames A:B needs 0 <= A < B <= 60"),
        (("--frames", "-3:9"), "--frames A:B needs 0 <= A < B <= 60"),
        (("--frames", "60:"), "--frames A:B needs 0 <= A < B <= 60"),
        (("--frames", "3:4"), "a single frame in the range asked for"),
        (("--dataset", "movie"), "is a TIFF file and has none"),
        (("--timestamps", "absent.csv"), "cannot be read from absent.csv: No such file"),
        (("--exclude", "absent.png"), "absent.png cannot be read"),
        (("--config", "absent.toml"), "absent.toml cannot be read: No such file"),
        (("--model", "nonsense"), "There is no model 'nonsense': it is neither shipped"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(refused, write_tiff, small, options, words):
    known = {"--frame-rate": "6.67", "--pixel-size": "1.5", options[0]: options[1]}
    words_given = [word for pair in known.items() for word in pair]
    assert words in refused("run", "--preset", "srname", write_tiff(small), *words_given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--frame-rate", "fast"), "'fast' is not a valid float"),
        (("--frames", "3"), "'3' is not of the form A:B"),
        (("--frames", "a:b"), "'a:b' is not of the form A:B"),
        (("--preset", "best"), "'default', 'paper', 'srname'"),
        (("--nonsense",), "No such option"),
    ],
)
def test_wrong_usage_is_status_2(cocuyo, write_tiff, tmp_path, small, options, words):
    outcome = cocuyo("run", write_tiff(small), *options)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: cocuyo run")
    assert words in outcome.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["slice.tif"]


def test_no_recording_is_wrong_usage(run):
    assert run().status == 2


def test_parts_of_different_sizes_are_refused(run_refused, write_tiff, small):
    parts = write_tiff(small[:30], name="a.tif"), write_tiff(small[30:, 4:], name="b.tif")
    assert "parts of one recording have the same size" in run_refused(*parts, "--join")


def test_times_in_a_wrong_unit_are_refused(run_refused, write, write_tiff, small):
    times = write("times.csv", "\n".join(str(t * 1e-9) for t in range(60)).encode())
    line = run_refused(write_tiff(small), "--timestamps", times)
    assert "the times say 1e+09 frames per second" in line
    assert "times in seconds" in line


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((72, 64)), "has shape (72, 64); the recording's frames have (64, 72)"),
        (np.ones((64, 72)), "leaves out every pixel"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(run_refused, write_tiff, small, mask, words):
    path = write_tiff(mask.astype(np.uint8), name="mask.tif")
    assert words in run_refused(write_tiff(small), "--exclude", path)


def test_a_mask_that_is_no_image_is_refused(run_refused, write, write_tiff, small):
    line = run_refused(write_tiff(small), "--exclude", write("mask.tif", b"left,top\n0,0\n" * 9))
    assert "is not a mask: it is a text file" in line


def test_enormous_sizes_of_a_mask_ask_for_no_memory(
    refused_with_little_memory, write_tiff, small, tmp_path
):
    mask = npy(tmp_path, (10**6, 10**6))
    line = refused_with_little_memory(write_tiff(small), "--exclude", mask)
    assert "damaged .npy file" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nonsense = 3", "there is no setting nonsense"),
        (b"[validation]\nnonsense = 3", "there is no setting validation.nonsense"),
        (b"[validation]\nthreshold_sd = 'x'", "validation.threshold_sd: Input should be"),
        (b"[validation]\nthreshold_sd = nan", "validation.threshold_sd: Input should be a finite"),
        (b"validation = 3", "validation: Input should be"),
        (b"[validation", "is not a TOML file"),
        (b"\xff\xfe\0", "is not a TOML file"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_named(
    run_refused, write, write_tiff, small, content, words
):
    line = run_refused(write_tiff(small), "--config", write("mine.toml", content))
    assert "mine.toml" in line
    assert words in line


@pytest.mark.parametrize("content", [None, b"{", b"{}", b"[]"])
def test_a_model_folder_that_cannot_be_used_is_named(refused, write_tiff, tmp_path, small, content):
    (tmp_path / "mine").mkdir()
    if content is not None:
        (tmp_path / "mine" / "model.json").write_bytes(content)
    line = refused("run", write_tiff(small), "--frame-rate", 10, "--model", tmp_path / "mine")
    assert str(tmp_path / "mine") in line


# --- Names that are not text -------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux has file names that are no text.")
def test_a_name_that_is_no_text_is_said_as_well_as_can_be(process, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.tif")
    Path(path).write_bytes(b"")
    outcome = process("run", "--preset", "srname", path)
    assert outcome.status == 1
    assert "?.tif is empty" in outcome.error

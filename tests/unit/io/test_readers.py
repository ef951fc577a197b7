"""The table of readers: others may add one, a missing package is named, nothing is guessed."""

import importlib.util
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import tifffile

from cocuyo.cli import run_command_line
from cocuyo.core import MissingExtraError, RecordingError
from cocuyo.io import Reader, Source, open_recording, readers
from cocuyo.io.sources import RawMovie

N, Y, X = 7, 5, 8
FRAMES = np.random.default_rng(1).integers(0, 4000, (N, Y, X)).astype(np.uint16)


class LabReader(Reader):
    """What a laboratory's own program writes: a line with the shape, then the values."""

    name = "a file of our laboratory"
    suffixes = frozenset((".lab",))

    def recognises(self, path, head):
        return head.startswith(b"LAB ")

    def open(self, path, choice):
        with path.open("rb") as file:
            shape = tuple(map(int, file.readline().split()[1:]))
            start = file.tell()
        offsets = start + np.arange(shape[0], dtype=np.int64) * shape[1] * shape[2] * 2
        movie = RawMovie(path, np.dtype("<u2"), shape[1:], offsets)
        return Source(movie, "laboratory file", "directly", shape[0], frame_rate_hz=9.0)


class TiffToo(Reader):
    name = "a TIFF file of our laboratory"

    def recognises(self, path, head):
        return head.startswith(b"II*\0")

    def open(self, path, choice):
        msg = f"{path} came to the laboratory's reader."
        raise RecordingError(msg)


class Broken(LabReader):
    def __init__(self):
        msg = "no such camera"
        raise OSError(msg)


@pytest.fixture
def register(monkeypatch):
    """Register classes of this module as another package would."""

    def call(*classes):
        entries = [
            EntryPoint(cls.__name__, f"{__name__}:{cls.__name__}", readers.ENTRY_POINTS)
            for cls in classes
        ]
        monkeypatch.setattr(EntryPoint, "load", lambda self: globals()[self.name])
        monkeypatch.setattr(readers, "entry_points", lambda group: entries)

    return call


@pytest.fixture
def lab_file(tmp_path):
    path = tmp_path / "movie.lab"
    path.write_bytes(f"LAB {N} {Y} {X}\n".encode() + FRAMES.tobytes())
    return path


def test_a_reader_of_another_package_opens_its_files_and_is_named(register, lab_file):
    with pytest.raises(RecordingError, match="not a recording"):
        open_recording(lab_file)
    register(LabReader)
    recording = open_recording(lab_file)
    np.testing.assert_array_equal(recording.movie.read(0, N), FRAMES)
    assert recording.frame_rate_hz == 9.0
    assert any("LabReader" in note for note in recording.notes)


def test_a_reader_of_another_package_goes_before_ours(register, tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", FRAMES, byteorder="<")
    register(TiffToo)
    with pytest.raises(RecordingError, match="came to the laboratory's reader"):
        open_recording(tmp_path / "m.tif")


def test_a_broken_reader_is_passed_over_with_a_warning(register, lab_file):
    register(Broken, LabReader)
    with pytest.warns(UserWarning, match=r"reader Broken .* passed over: OSError: no such camera"):
        assert open_recording(lab_file).n_frames == N


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"dataset": "x"}, "is a file of our laboratory and has none"),
        ({"axes": "TYX"}, "whose axes are known"),
        ({"channel": 1}, "has one channel"),
        ({"plane": 2}, "has one plane"),
    ],
)
def test_a_choice_that_a_reader_does_not_take_is_refused(choice, words, register, lab_file):
    register(LabReader)
    with pytest.raises(RecordingError, match=words):
        open_recording(lab_file, **choice)
    assert open_recording(lab_file, channel=0, plane=0).n_frames == N


def test_all_our_readers_are_in_the_table_once():
    listed = [type(reader) for reader, package in readers.readers() if not package]
    assert len(listed) == len(set(listed)) == 13
    for reader, _ in readers.readers():
        assert reader.name
        assert bool(reader.modules) == bool(reader.install)


# What each kind begins with, and the package that its reader needs.
WITH_EXTRA = {
    "nd2": (b"\xda\xce\xbe\x0a", "slice.nd2", "cocuyo[formats]"),
    "pylibCZIrw": (b"ZISRAWFILE\0\0\0\0\0\0", "slice.czi", "cocuyo[formats]"),
    "liffile": (b"\x70\0\0\0\x40\0\0\0\x2a", "slice.lif", "cocuyo[formats]"),
    "isx": (b"\0\1\2\3", "slice.isxd", "pip install isx"),
    "zarr": (None, "slice.zarr", "cocuyo[formats]"),
}


@pytest.mark.parametrize("module", WITH_EXTRA)
def test_a_known_kind_without_its_package_says_what_to_install(
    module, tmp_path, monkeypatch, capsys
):
    head, name, install = WITH_EXTRA[module]
    path = tmp_path / name
    if head is None:
        path.mkdir()
        (path / "zarr.json").write_text("{}", encoding="utf-8")
    else:
        path.write_bytes(head + bytes(200))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda wanted: None if wanted == module else found(wanted)
    )
    with pytest.raises(MissingExtraError):
        open_recording(path)
    assert run_command_line(["inspect", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{module} must be installed" in error
    assert install in error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.oib", "an Olympus OIB file"),
        ("a.dcimg", "a Hamamatsu DCIMG file"),
        ("a.xyz", "not a kind"),
    ],
)
def test_a_kind_that_is_not_read_says_what_it_is(name, words, tmp_path):
    (tmp_path / name).write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    with pytest.raises(RecordingError, match=words):
        open_recording(tmp_path / name)

"""The table of readers: which class opens which kind of recording.

A reader is one small class. Ours stand in `_OWN_READERS`; those of other packages come from the
entry points of the group ``cocuyo.readers`` and are asked first. All are used in the same way.
"""

import codecs
import importlib
import importlib.util
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import ClassVar, Literal

from cocuyo.core import MissingExtraError, RecordingError
from cocuyo.io.sources import PICTURE_SUFFIXES, Source, natural_key

Option = Literal["dataset", "channel", "plane", "axes"]

FORMATS_READ = (
    "TIFF, AVI, MP4, MKV, HDF5, NWB, MATLAB, .npy, Zarr, OME-Zarr, ND2, CZI, LIF, Inscopix .isxd, "
    "folders of a UCLA Miniscope, and folders of parts or of PNG or TIFF images"
)
HEAD_BYTES = 1024
ENTRY_POINTS = "cocuyo.readers"

# Special kinds stand before general ones: an NWB file is an HDF5 file too.
_OWN_READERS = (
    "cocuyo.io.tiff:TiffReader",
    "cocuyo.io.arrays:NpyReader",
    "cocuyo.io.nwb_series:NwbReader",
    "cocuyo.io.hdf5:MatlabReader",
    "cocuyo.io.hdf5:Hdf5Reader",
    "cocuyo.io.microscopes:Nd2Reader",
    "cocuyo.io.microscopes:CziReader",
    "cocuyo.io.microscopes:LifReader",
    "cocuyo.io.video:VideoReader",
    "cocuyo.io.microscopes:InscopixReader",
    "cocuyo.io.zarr_arrays:ZarrReader",
    "cocuyo.io.miniscope:MiniscopeReader",
    "cocuyo.io.folders:FolderReader",
)


@dataclass(frozen=True)
class Choice:
    """What the user chose among several movies in one file.

    Attributes
    ----------
    dataset : str or None
        Name of a movie in a file that holds several.
    channel, plane : int or None
        Index from 0 in a stack with several.
    axes : str or None
        Letters of the axes in the order of the file, such as ``TXY``.
    """

    dataset: str | None = None
    channel: int | None = None
    plane: int | None = None
    axes: str | None = None


class Reader(ABC):
    """Opens one kind of recording.

    Subclass it, fill in the class attributes that apply, and register the class as an entry
    point of the group ``cocuyo.readers``.

    Attributes
    ----------
    name : str
        The kind, for people, with its article: "a TIFF file".
    suffixes : frozenset of str
        Endings that names of such files usually have, in small letters with the dot.
    options : frozenset of {"dataset", "channel", "plane", "axes"}
        Which fields of `Choice` the reader takes; others are refused before it is asked.
    modules : tuple of str
        Modules that must be installed to open such a file.
    install : str
        The command that installs them.
    """

    name: ClassVar[str]
    suffixes: ClassVar[frozenset[str]] = frozenset()
    options: ClassVar[frozenset[Option]] = frozenset()
    modules: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""

    @abstractmethod
    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file or folder is of this kind; quickly, and without raising.

        Parameters
        ----------
        path : Path
            The file or folder.
        head : bytes
            The first 1024 bytes of the file; empty for a folder.

        Returns
        -------
        bool
            Whether `open` is to be called for it.
        """

    @abstractmethod
    def open(self, path: Path, choice: Choice) -> Source:
        """Open it; frames are read later, in blocks.

        Parameters
        ----------
        path : Path
            The file or folder.
        choice : Choice
            What the user chose.

        Returns
        -------
        Source
            The movie, and what the file says of time and space.

        Raises
        ------
        RecordingError
            If it is damaged, no recording, or needs a choice that was not made.
        """

    def files(self, path: Path) -> list[Path]:
        """List the files that make the recording, whose content identifies it.

        Parameters
        ----------
        path : Path
            The file or folder.

        Returns
        -------
        list of Path
            The file itself; of a folder all files in it, in natural order.
        """
        if not path.is_dir():
            return [path]
        inside = (file for file in path.rglob("*") if file.is_file())
        return sorted(inside, key=lambda file: natural_key(file.relative_to(path).as_posix()))


# --- The table ---------------------------------------------------------------------------------


def readers() -> Iterator[tuple[Reader, str]]:
    """Go through the table in the order in which readers are asked.

    Yields
    ------
    reader : Reader
        The reader.
    package : str
        The package that it comes from; empty for our own.
    """
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        reader = _load_foreign(entry)
        if reader is not None:
            yield reader, entry.dist.name if entry.dist is not None else entry.value
    for place in _OWN_READERS:
        module, _, name = place.partition(":")
        reader = getattr(importlib.import_module(module), name)()
        assert isinstance(reader, Reader)
        yield reader, ""


def _load_foreign(entry: EntryPoint) -> Reader | None:
    """Make a reader of another package; a broken one must not stop the others."""
    try:
        reader = entry.load()()
        if not isinstance(reader, Reader):
            reason = "it is not a cocuyo.io.Reader"
        else:
            return reader
    except Exception as error:  # whatever another package does on import
        reason = f"{type(error).__name__}: {error}"
    warnings.warn(
        f"The reader {entry.name} ({entry.value}) cannot be used and is passed over: {reason}.",
        stacklevel=2,
    )
    return None


def recording_suffixes() -> frozenset[str]:
    """Name the suffixes that recordings usually have; what a file is, its content tells.

    Returns
    -------
    frozenset of str
        Such as ``.tif``, lower case; those of other packages' readers too.
    """
    return frozenset[str]().union(*(reader.suffixes for reader, _ in readers()))


def find_reader(path: Path) -> tuple[Reader, str]:
    """Find the reader of a file or folder by its content.

    Parameters
    ----------
    path : Path
        An existing file or folder.

    Returns
    -------
    reader : Reader
        The first that recognises it.
    package : str
        The package that it comes from; empty for our own.

    Raises
    ------
    RecordingError
        If it cannot be read, is empty, or nobody recognises it.
    """
    head = b"" if path.is_dir() else read_head(path)
    for reader, package in readers():
        if reader.recognises(path, head):
            return reader, package
    what = describe_unknown(path, head)
    msg = f"{path} is not a recording: it is {what}. cocuyo reads {FORMATS_READ}."
    raise RecordingError(msg)


def read_head(path: Path) -> bytes:
    """Read the first bytes of a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bytes
        At most `HEAD_BYTES`, at least 1.

    Raises
    ------
    RecordingError
        If it cannot be read or is empty.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}."
        raise RecordingError(msg) from error
    if not head:
        msg = f"{path} is empty (0 bytes); copy it again from where it was recorded."
        raise RecordingError(msg)
    return head


def open_file(path: Path, choice: Choice) -> Source:
    """Open a file or folder with the reader that recognises it.

    Parameters
    ----------
    path : Path
        An existing file or folder.
    choice : Choice
        What the user chose.

    Returns
    -------
    Source
        The movie; a note says where the name does not fit the content, and where the reader is
        another package's.

    Raises
    ------
    RecordingError
        If it cannot be used.
    MissingExtraError
        If a module is not installed; the message has the command that installs it.
    """
    reader, package = find_reader(path)
    _check_options(path, reader, choice)
    check_modules(path, reader)
    source = reader.open(path, choice)
    notes = []
    suffix = path.suffix.lower()
    if not path.is_dir() and suffix not in reader.suffixes and _is_known(suffix):
        notes.append(
            f"The name ends in {suffix}, but the content is {source.format}; it is read so."
        )
    if package:
        notes.append(f"It was read by {type(reader).__name__} of the package {package}.")
    return replace(source, notes=(*notes, *source.notes)) if notes else source


def _is_known(suffix: str) -> bool:
    return suffix in PICTURE_SUFFIXES | recording_suffixes()


def _check_options(path: Path, reader: Reader, choice: Choice) -> None:
    """Refuse a choice that the kind of file does not know.

    Raises
    ------
    RecordingError
        If one was made.
    """
    if choice.dataset is not None and "dataset" not in reader.options:
        msg = f"A data set ({choice.dataset}) was named, but {path} is {reader.name} and has none."
        raise RecordingError(msg)
    if choice.axes is not None and "axes" not in reader.options:
        msg = (
            f"The order of the axes ({choice.axes}) was given, but {path} is {reader.name}, whose "
            "axes are known. Leave --axes out."
        )
        raise RecordingError(msg)
    for option, value in (("channel", choice.channel), ("plane", choice.plane)):
        if value not in (None, 0) and option not in reader.options:
            msg = f"--{option} {value} was given, but {path} is {reader.name} and has one {option}."
            raise RecordingError(msg)


def check_modules(path: Path, reader: Reader) -> None:
    """Refuse a file whose reader needs what is not installed.

    Parameters
    ----------
    path : Path
        The file, for the message.
    reader : Reader
        Its reader.

    Raises
    ------
    MissingExtraError
        With the command that installs it.
    """
    absent = [module for module in reader.modules if importlib.util.find_spec(module) is None]
    if absent:
        msg = (
            f"{path} is {reader.name}. To read it, {' and '.join(absent)} must be installed: "
            f"{reader.install}"
        )
        raise MissingExtraError(msg)


# --- What nobody reads -------------------------------------------------------------------------

# Other microscopes' and cameras' files, told by their names: their content has no signature, or
# one that many kinds share.
_OTHER_KINDS = {
    ".oib": "an Olympus OIB file",
    ".oif": "an Olympus OIF file",
    ".oir": "an Olympus OIR file",
    ".vsi": "an Olympus VSI file",
    ".ims": "an Imaris file",
    ".sif": "an Andor SIF file",
    ".spe": "a Princeton Instruments SPE file",
    ".dcimg": "a Hamamatsu DCIMG file",
    ".cxd": "a Hamamatsu CXD file",
    ".sld": "a SlideBook file",
    ".zvi": "a Zeiss ZVI file",
    ".raw": "raw values without a header",
    ".dat": "raw values without a header, or settings",
    ".tsm": "a TSM file",
    ".da": "a RedShirtImaging file",
}


_KNOWN_STARTS = {
    b"\xff\xd8\xff": "a JPEG image, a single frame with lossy values",
    b"PK\x03\x04": (
        "a ZIP archive (as .npz and .zip are); unpack it, or save the movie as .npy or TIFF"
    ),
    b"GIF8": "a GIF or PDF file",
    b"%PDF": "a GIF or PDF file",
    b"\x89PNG\r\n\x1a\n": (
        "a PNG image, a single frame. Give the folder that holds the frames as images"
    ),
}


def describe_unknown(path: Path, head: bytes) -> str:
    """Say what a file seems to be that no reader recognises.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        Its first bytes.

    Returns
    -------
    str
        In words, with what to do where that is known.
    """
    for start, what in _KNOWN_STARTS.items():
        if head.startswith(start):
            return what
    if _is_text(head[:64]):
        return "a text file"
    other = _OTHER_KINDS.get(path.suffix.lower())
    if other is not None:
        return (
            f"{other} by its name, which cocuyo does not read; save it as TIFF with the program "
            "that made it, or with Fiji (Bio-Formats)"
        )
    return "not a kind of file that cocuyo knows, or its beginning is damaged"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\n\r\ufeff" for letter in text)

"""Recordings that are folders: one image per frame, or the parts of a movie."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cocuyo.core import AnyArray, Movie, RecordingError, TimeArray
from cocuyo.io.readers import Choice, Reader, open_file
from cocuyo.io.sources import (
    GREY_EQUAL_NOTE,
    GREY_NOTE,
    MAX_FRAME_PIXELS,
    PICTURE_SUFFIXES,
    TIFF_SUFFIXES,
    VIDEO_SUFFIXES,
    JoinedMovie,
    Source,
    decode_picture,
    equal_channels,
    natural_key,
    to_grey,
)
from cocuyo.io.tiff import Page, walk_pages

_MOVIE_SUFFIXES = VIDEO_SUFFIXES | {".npy", ".h5", ".hdf5", ".hdf"}


class FolderReader(Reader):
    """Folders of images, one per frame, or of the parts of a movie, in natural order."""

    name = "a folder"
    options = frozenset(("dataset", "channel", "plane", "axes"))

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether it is a folder; `open` says what is wrong with one."""
        return path.is_dir()

    def open(self, path: Path, choice: Choice) -> Source:
        """Open a folder as one recording.

        Raises
        ------
        RecordingError
            If the folder holds no frames, or those of more than one recording.
        """
        files = recording_files(path)
        if files[0].suffix.lower() in PICTURE_SUFFIXES:
            source = _open_images(path, files, _PngFrame)
        elif files[0].suffix.lower() in TIFF_SUFFIXES and _is_single(files[0], choice):
            source = _open_images(path, files, _TiffFrame)
        else:
            sources = [open_file(file, choice) for file in files]
            source = join_sources(sources, [str(f) for f in files])
        return replace(source, notes=(*source.notes, *_gaps(files)))

    def files(self, path: Path) -> list[Path]:
        """List the files of the recording; others in the folder are left aside."""
        return recording_files(path)


def recording_files(folder: Path) -> list[Path]:
    """List the files of a folder that make one recording, in natural order.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    list of Path
        Images, or parts of a movie; files of other kinds are left aside.

    Raises
    ------
    RecordingError
        If there are none, or those of several kinds or names.
    """
    groups: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(folder.iterdir(), key=lambda file: natural_key(file.name)):
        suffix = file.suffix.lower()
        if file.name.startswith(".") or not file.is_file():
            continue
        if suffix in _MOVIE_SUFFIXES | TIFF_SUFFIXES | PICTURE_SUFFIXES:
            kind = "tiff" if suffix in TIFF_SUFFIXES else suffix
            letters = re.sub(r"[\d\W_]+", "", file.stem).casefold()
            groups.setdefault((kind, letters), []).append(file)
    if not groups:
        msg = (
            f"{folder} is a folder without frames: it holds no TIFF, PNG, AVI, MP4, MKV, HDF5 "
            "or .npy file."
        )
        raise RecordingError(msg)
    if len(groups) > 1:
        listing = ", ".join(
            f"{files[0].name} and {len(files) - 1} more" if len(files) > 1 else files[0].name
            for files in list(groups.values())[:6]
        )
        msg = (
            f"{folder} holds files of more than one recording ({listing}). "
            "Give the files of one, with --join where they are several."
        )
        raise RecordingError(msg)
    return next(iter(groups.values()))


def _gaps(files: Sequence[Path]) -> tuple[str, ...]:
    """Tell where the numbers in the names jump."""
    numbers = [re.findall(r"\d+", file.stem) for file in files]
    if any(not found for found in numbers):
        return ()
    last = np.array([int(found[-1][-18:]) for found in numbers])
    jumps = np.flatnonzero(np.diff(last) != 1)
    step = np.diff(last)
    if len(jumps) == 0 or len(step) < 2 or (step[0] > 0 and np.all(step == step[0])):
        return ()
    at = int(jumps[0])
    return (
        f"The numbers of the files jump at {len(jumps)} place(s), first from {files[at].name} "
        f"to {files[at + 1].name}; frames may be missing.",
    )


# --- Parts of a movie --------------------------------------------------------------------------

_MAX_RATE_SPREAD = 0.01


def join_sources(sources: Sequence[Source], names: Sequence[str]) -> Source:
    """Put the parts of one recording one after the other.

    Parameters
    ----------
    sources : sequence of Source
        The parts, in order of time.
    names : sequence of str
        Their names, for messages.

    Returns
    -------
    Source
        One movie, damaged where its first damaged part is.

    Raises
    ------
    RecordingError
        If the parts differ in frame size or type of values.
    """
    first = sources[0]
    if len(sources) == 1:
        return first
    for source, name in zip(sources[1:], names[1:], strict=True):
        if source.movie.shape[1:] != first.movie.shape[1:]:
            msg = (
                f"{name} has frames of {_size(source.movie)} pixels, {names[0]} of "
                f"{_size(first.movie)}; the parts of one recording have the same size."
            )
            raise RecordingError(msg)
        if source.movie.dtype != first.movie.dtype:
            msg = (
                f"{name} holds {source.movie.dtype}, {names[0]} {first.movie.dtype}; "
                "the parts of one recording have the same type of values."
            )
            raise RecordingError(msg)
    used: list[Source] = []
    damage = ""
    for source, name in zip(sources, names, strict=True):
        used.append(source)
        if source.damage:
            damage = f"in {name} {source.damage}"
            break
    notes = [f"{len(sources)} parts are joined in time, from {names[0]} to {names[-1]}."]
    notes.extend(note for source in sources for note in source.notes)
    rates = [source.frame_rate_hz for source in sources if source.frame_rate_hz is not None]
    if rates and max(rates) > min(rates) * (1 + _MAX_RATE_SPREAD):
        notes.append(
            f"The parts say different frame rates ({min(rates):.6g} to {max(rates):.6g} Hz); "
            "that of the first is used."
        )
    times = _join_times(sources, notes)
    return replace(
        first,
        movie=JoinedMovie([source.movie for source in used]),
        format=f"{len(sources)} parts, {first.format}",
        n_promised=sum(source.n_promised for source in sources),
        damage=damage,
        notes=tuple(dict.fromkeys(notes)),
        timestamps_s=times,
    )


def _join_times(sources: Sequence[Source], notes: list[str]) -> TimeArray | None:
    """Put the times of the parts one after the other, where they go on from part to part."""
    given = [source.timestamps_s for source in sources if source.timestamps_s is not None]
    if not given:
        return None
    times = np.concatenate(given)
    if len(given) == len(sources) and np.all(np.diff(times) > 0):
        return times
    notes.append(
        "The times in the parts do not go on from one to the next; they are not used. "
        "Give them with --timestamps, or a rate with --frame-rate."
    )
    return None


def _size(movie: Movie) -> str:
    return f"{movie.shape[1]} x {movie.shape[2]}"


# --- One image per frame -----------------------------------------------------------------------


class _Bad(Exception):  # noqa: N818 - a finding, not a failure
    """Why an image cannot be a frame."""


class _TiffFrame:
    """A TIFF file with one image."""

    kind = "TIFF"

    def __init__(self, path: Path) -> None:
        chain = walk_pages(path)
        if not chain.pages:
            raise _Bad(chain.damage or "it holds no image")
        self._page: Page = chain.pages[0]
        self._order = chain.order
        self.path = path
        self.layout: tuple[object, ...] = self._page.layout

    def read(self, dtype: "np.dtype[np.generic] | None" = None) -> AnyArray:
        """Read the image: (Y, X), or (Y, X, samples) with red first."""
        if self._page.raw and dtype is not None:
            width, length = self._page.layout[:2]
            stored = dtype.newbyteorder(self._order)
            values = np.fromfile(self.path, stored, width * length, offset=self._page.start)
            return values.reshape(length, width)
        from cocuyo.io.tiff import read_first_page

        return read_first_page(self.path)


class _PngFrame:
    """A PNG file."""

    kind = "PNG"

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(26)
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 64))
            tail = file.read()
        if len(head) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
            what = "it is not a PNG image" if head else "it is empty"
            raise _Bad(what)
        if b"IEND" not in tail:
            what = "it is cut"
            raise _Bad(what)
        self.path = path
        self.layout = (
            int.from_bytes(head[16:20], "big"),
            int.from_bytes(head[20:24], "big"),
            (head[24],),
            head[25],
        )
        if not 0 < self.layout[0] * self.layout[1] <= MAX_FRAME_PIXELS:
            what = f"it says that it has {self.layout[1]} x {self.layout[0]} pixels; it is damaged"
            raise _Bad(what)

    def read(self, dtype: "np.dtype[np.generic] | None" = None) -> AnyArray:
        """Read the image: (Y, X), or (Y, X, samples) with red first."""
        picture = decode_picture(self.path)
        if picture is None:
            what = "it cannot be decoded"
            raise _Bad(what)
        return picture if picture.ndim == 2 else picture[..., 2::-1]


class ImagesMovie:
    """Frames that are files of their own.

    Parameters
    ----------
    frames : sequence of image files
        The files, all of one layout.
    first : ndarray, shape (n_rows, n_columns)
        The first frame.
    """

    def __init__(self, frames: Sequence[_TiffFrame | _PngFrame], first: AnyArray) -> None:
        self._frames = tuple(frames)
        self.shape = (len(frames), int(first.shape[0]), int(first.shape[1]))
        self.dtype = first.dtype

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        chosen = self._frames[start:stop]
        block = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        for target, frame in zip(block, chosen, strict=True):
            try:
                picture = frame.read(self.dtype)
                target[:] = picture if picture.ndim == 2 else to_grey(picture)
            except (_Bad, ValueError, OSError) as error:
                msg = f"Frame {frame.path} cannot be read: {error}."
                raise RecordingError(msg) from error
        return block


def _is_single(file: Path, choice: Choice) -> bool:
    return open_file(file, choice).movie.shape[0] == 1


def _open_images(
    folder: Path, files: Sequence[Path], make: type[_TiffFrame] | type[_PngFrame]
) -> Source:
    frames: list[_TiffFrame | _PngFrame] = []
    damage = ""
    for file in files:
        try:
            frame = make(file)
        except (_Bad, OSError) as error:
            what = error.strerror if isinstance(error, OSError) else error
            damage = f"{file.name} cannot be read: {what}"
            break
        if frames and frame.layout != frames[0].layout:
            msg = (
                f"{file} has {frame.layout[1]} x {frame.layout[0]} pixels or another type of "
                f"values than {files[0].name} ({frames[0].layout[1]} x {frames[0].layout[0]}); "
                "the frames of a recording are alike."
            )
            raise RecordingError(msg)
        frames.append(frame)
    if not frames:
        msg = f"The first frame of {folder} cannot be used: {damage}."
        raise RecordingError(msg)
    try:
        picture = frames[0].read()
    except _Bad as error:
        msg = f"The first frame of {folder} cannot be used: {files[0].name}: {error}."
        raise RecordingError(msg) from error
    notes: tuple[str, ...] = ()
    if picture.ndim == 3:
        notes = (GREY_EQUAL_NOTE if equal_channels(picture) else GREY_NOTE,)
        picture = to_grey(picture)
    return Source(
        ImagesMovie(frames, picture),
        format=f"folder of {len(files)} {make.kind} images",
        access="file by file",
        n_promised=len(files),
        damage=damage,
        notes=notes,
    )

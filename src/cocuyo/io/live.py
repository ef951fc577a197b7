"""Where frames come from while they are recorded: growing files, streams, replays.

A source first says what the frames are (`open`), then gives them one by one (`frames`). It never
waits for long: where no frame is there yet it gives None, so that its caller can stop.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from cocuyo.core import AnyArray, Recording, RecordingError, check_frame_rate
from cocuyo.io.folders import (
    MOVIE_SUFFIXES,
    FolderReader,
    FrameFile,
    UnusableFrame,
    open_frame,
    recording_files,
)
from cocuyo.io.readers import Choice
from cocuyo.io.recordings import choose_stated
from cocuyo.io.sources import PICTURE_SUFFIXES, TIFF_SUFFIXES, Source, to_grey
from cocuyo.io.tiff import Chain, open_tiff, walk_pages

_POLL_S = 0.005
"""Shortest time between two looks at a growing file, in seconds."""
_POLL_SHARE = 3.0
"""A look may take a share of 1 / (1 + this) of the time: long listings are made less often."""


@dataclass(frozen=True)
class LiveFacts:
    """What the frames of a source are.

    Attributes
    ----------
    frame_shape : tuple of int
        Rows and columns.
    dtype : str
        Type of the values, as NumPy names it.
    frame_rate_hz, pixel_size_um : float or None
        Frames per second, and side of a pixel in µm; None where nobody said it.
    name : str
        Short name of the recording.
    paths : tuple of str
        Files that hold the frames; empty for streams.
    notes : tuple of str
        How they are read.
    n_frames : int or None
        How many there will be; None where nobody knows.
    """

    frame_shape: tuple[int, int]
    dtype: str
    frame_rate_hz: float | None
    pixel_size_um: float | None
    name: str
    paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    n_frames: int | None = None


class LiveFrame(NamedTuple):
    """One frame of a source.

    Attributes
    ----------
    number : int
        Number that the sender gave it; a gap means that frames were lost on the way.
    time_s : float
        Its time in seconds; NaN where the sender did not say.
    pixels : ndarray, shape (n_rows, n_columns)
        The frame as acquired.
    """

    number: int
    time_s: float
    pixels: AnyArray


class LiveSource(Protocol):
    """Frames that come one by one."""

    def open(self, stopped: Callable[[], bool]) -> LiveFacts | None:
        """Wait for what the frames are; None if `stopped` said so before."""
        ...

    def frames(self, start: int) -> Iterator[LiveFrame | None]:
        """Give the frames from the `start`-th received one on; None where none is there yet."""
        ...

    def publish(self, message: dict[str, Any]) -> None:
        """Send a message to whoever listens; files have no listeners."""
        ...

    def close(self) -> None:
        """Let files and sockets go."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A source that can be told what was received before an interruption."""

    def expect(self, facts: LiveFacts, next_index: int) -> None:
        """Go on with these frames, from this number on."""
        ...


class _Quiet:
    """A source that nobody listens to."""

    def publish(self, message: dict[str, Any]) -> None:
        """Send a message to whoever listens: nobody does."""

    def close(self) -> None:
        """Let files and sockets go."""


class _Pace:
    """How often to look at something that grows."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def due(self) -> bool:
        """Say whether it is time for another look; wait a little where it is not."""
        left = self._next_s - time.monotonic()
        if left > 0:
            time.sleep(min(left, 0.05))
        return left <= 0.05

    def looked(self, since_s: float) -> None:
        """Note a look that began at `since_s`."""
        now = time.monotonic()
        self._next_s = now + max(_POLL_S, _POLL_SHARE * (now - since_s))


class GrowingTiff(_Quiet):
    """A TIFF file that a microscope's program is writing.

    Parameters
    ----------
    path : Path
        The file; it need not exist yet.
    frame_rate_hz, pixel_size_um : float, optional
        In place of what the file says.
    channel, plane : int, optional
        Which to read of several, from 0.
    """

    def __init__(
        self,
        path: Path,
        *,
        frame_rate_hz: float | None = None,
        pixel_size_um: float | None = None,
        channel: int | None = None,
        plane: int | None = None,
    ) -> None:
        self._path = path
        self._given = (frame_rate_hz, pixel_size_um)
        self._choice = {"channel": channel, "plane": plane}
        self._chain: Chain | None = None
        self._size = -1
        self._pace = _Pace()

    def open(self, stopped: Callable[[], bool]) -> LiveFacts | None:
        """Wait for the first whole page; None if `stopped` said so before."""
        while not stopped():
            source = self._look()
            if source is not None and source.movie.shape[0] > 0:
                self._size = -1
                return _facts(source, self._path, *self._given)
        return None

    def frames(self, start: int) -> Iterator[LiveFrame | None]:
        """Give the frames from the `start`-th on; None where none is there yet."""
        n = start
        while True:
            source = self._look()
            there = 0 if source is None else source.movie.shape[0]
            if source is None or there <= n:
                yield None
                continue
            while n < there:
                yield LiveFrame(n, np.nan, source.movie.read(n, n + 1)[0])
                n += 1

    def _look(self) -> Source | None:
        """Open the file anew if it has grown."""
        if not self._pace.due():
            return None
        since = time.monotonic()
        try:
            size = self._path.stat().st_size
            if size == self._size or size < 16:
                return None
            if size < self._size:
                msg = f"{self._path} became shorter while it was read."
                raise RecordingError(msg)
            self._expect_tiff()
            self._chain = walk_pages(self._path, known=self._chain)
            self._size = size
            if not self._chain.pages:
                return None
            return open_tiff(self._path, chain=self._chain, **self._choice)
        except FileNotFoundError:
            return None
        finally:
            self._pace.looked(since)

    def _expect_tiff(self) -> None:
        if self._chain is not None:
            return
        with self._path.open("rb") as file:
            head = file.read(4)
        if head not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            msg = (
                f"{self._path} is not a TIFF file. cocuyo follows TIFF files and folders of frames "
                "as they grow; add --replay for a finished recording of any kind."
            )
            raise RecordingError(msg)


class GrowingFolder(_Quiet):
    """A folder into which a microscope's program writes one image file per frame.

    Parameters
    ----------
    path : Path
        The folder; it need not exist yet.
    frame_rate_hz, pixel_size_um : float, optional
        In place of what the files say.
    """

    def __init__(
        self,
        path: Path,
        *,
        frame_rate_hz: float | None = None,
        pixel_size_um: float | None = None,
    ) -> None:
        self._path = path
        self._given = (frame_rate_hz, pixel_size_um)
        self._pace = _Pace()
        self._first: FrameFile | None = None
        self._dtype: np.dtype[np.generic] | None = None

    def open(self, stopped: Callable[[], bool]) -> LiveFacts | None:
        """Wait for the first whole frame; None if `stopped` said so before."""
        while not stopped():
            files = self._look()
            if not files:
                continue
            suffix = files[0].suffix.lower()
            if suffix not in PICTURE_SUFFIXES | TIFF_SUFFIXES:
                msg = (
                    f"{self._path} holds {suffix} files. cocuyo follows folders of TIFF or PNG "
                    "images as they grow; add --replay for finished recordings of any kind."
                )
                raise RecordingError(msg)
            try:
                self._first = open_frame(files[0])
                frame = self._first.read()
            except (UnusableFrame, OSError, RecordingError):
                continue
            picture = frame if frame.ndim == 2 else to_grey(frame)
            self._dtype = picture.dtype
            source = _first_of_folder(self._path, files[0], picture)
            return _facts(source, self._path, *self._given)
        return None

    def frames(self, start: int) -> Iterator[LiveFrame | None]:
        """Give the frames from the `start`-th on; None where none is there yet."""
        taken: Path | None = None
        n = start
        while True:
            files = self._look()
            if n and n <= len(files):
                if taken is not None and files[n - 1] != taken:
                    msg = (
                        f"A file came into {self._path} whose name sorts before {taken.name}, "
                        "which was read already; frames must come in the order of their names."
                    )
                    raise RecordingError(msg)
                taken = files[n - 1]
            got = False
            for file in files[n:]:
                pixels = self._read(file, last=file is files[-1])
                if pixels is None:
                    break
                taken, got = file, True
                yield LiveFrame(n, np.nan, pixels)
                n += 1
            if not got:
                yield None

    def _read(self, file: Path, *, last: bool) -> AnyArray | None:
        """Read a frame; None while it is being written."""
        assert self._first is not None
        try:
            frame = open_frame(file)
            alike = frame.layout == self._first.layout
            pixels = frame.read(self._dtype) if alike else None
        except (UnusableFrame, OSError, ValueError, RecordingError) as error:
            if last:
                return None
            msg = f"{file} cannot be read though a later frame is there: {error}."
            raise RecordingError(msg) from error
        if pixels is None:
            msg = (
                f"{file} has another size or type of values than {self._first.path.name}; the "
                "frames of a recording are alike."
            )
            raise RecordingError(msg)
        return pixels if pixels.ndim == 2 else to_grey(pixels)

    def _look(self) -> list[Path]:
        if not self._pace.due():
            return []
        since = time.monotonic()
        try:
            known = MOVIE_SUFFIXES | PICTURE_SUFFIXES | TIFF_SUFFIXES
            if not self._path.is_dir() or not any(
                file.suffix.lower() in known and not file.name.startswith(".")
                for file in self._path.iterdir()
            ):
                return []
            return recording_files(self._path)
        finally:
            self._pace.looked(since)


class Replay(_Quiet):
    """A finished recording, given frame by frame at some rate.

    Parameters
    ----------
    recording : Recording
        The recording.
    rate_hz : float or None
        Frames per second at which they are given; None for the recording's own times, infinity
        for as fast as they are taken.
    """

    def __init__(self, recording: Recording, *, rate_hz: float | None = None) -> None:
        self._recording = recording
        self._rate_hz = rate_hz

    def open(self, stopped: Callable[[], bool]) -> LiveFacts | None:
        """Say what the frames are."""
        recording = self._recording
        return LiveFacts(
            recording.frame_shape,
            recording.movie.dtype.str,
            recording.frame_rate_hz,
            recording.pixel_size_um,
            recording.name,
            recording.paths,
            recording.notes,
            recording.n_frames,
        )

    def frames(self, start: int) -> Iterator[LiveFrame | None]:
        """Give the frames from the `start`-th on; None while the next is not due."""
        recording = self._recording
        n_frames = recording.n_frames
        told = recording.timestamps_s
        times = recording.times_s if self._rate_hz is None else np.arange(n_frames) / self._rate_hz
        began = time.monotonic() - (times[start] if start < n_frames else 0.0)
        for n in range(start, n_frames):
            pixels = recording.movie.read(n, n + 1)[0]
            while (left := began + times[n] - time.monotonic()) > 0:
                if left > 0.02:
                    time.sleep(0.02)
                    yield None
                else:
                    time.sleep(left)
            yield LiveFrame(n, np.nan if told is None else float(told[n]), pixels)


def _facts(
    source: Source, path: Path, frame_rate_hz: float | None, pixel_size_um: float | None
) -> LiveFacts:
    if frame_rate_hz is not None:
        check_frame_rate(frame_rate_hz, "The frame rate is given as")
    rate, _, rate_notes = choose_stated(
        frame_rate_hz, source.frame_rate_hz, source.frame_rate_origin, "frame rate", "Hz"
    )
    pixel, _, pixel_notes = choose_stated(
        pixel_size_um, source.pixel_size_um, source.pixel_size_origin, "pixel size", "µm"
    )
    _, n_rows, n_columns = source.movie.shape
    resolved = path.resolve()
    name = (resolved.name if resolved.is_dir() else resolved.stem).removesuffix(".ome")
    return LiveFacts(
        (n_rows, n_columns),
        source.movie.dtype.str,
        rate,
        pixel,
        name or "recording",
        (str(path),),
        (*source.notes, *rate_notes, *pixel_notes),
    )


def _first_of_folder(folder: Path, file: Path, picture: AnyArray) -> Source:
    """Describe a folder by its first frame, as reading the finished folder would."""
    source = FolderReader().open(folder, Choice())
    if source.format.startswith("folder of"):
        return replace(source, damage="")
    msg = (
        f"{file} holds several images. cocuyo follows folders of single images as they grow; add "
        "--replay for finished recordings of any kind."
    )
    raise RecordingError(msg)

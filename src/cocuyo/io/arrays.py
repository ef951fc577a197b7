"""Recordings in arrays: NumPy files here; what HDF5 and Zarr files share with them."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import AnyArray, RecordingError
from cocuyo.io.readers import Choice, Reader
from cocuyo.io.sources import (
    GREY_EQUAL_NOTE,
    GREY_NOTE,
    MAX_FRAME_PIXELS,
    RawMovie,
    Source,
    check_dtype,
    equal_channels,
    select_frames,
    to_grey,
)

# Frames of one stored chunk that are kept so that the next block need not decode it again.
_MAX_KEPT_BYTES = 128 * 2**20
_AXIS_LETTERS = "TZCYX"


# --- Axes --------------------------------------------------------------------------------------


def guess_axes(shape: tuple[int, ...], name: str, choice: Choice, *, turned: bool = False) -> str:
    """Label the axes of an array that does not name them.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    name : str
        Name of the file, for messages.
    choice : Choice
        What the user chose; `axes` goes before any guess.
    turned : bool, default: False
        Whether files of this kind store columns before rows.

    Returns
    -------
    str
        A letter for each axis: T, Z, C, Y, X, S (colour, last), or Q where it may be several.

    Raises
    ------
    RecordingError
        If there are too few axes, one has no length, or those given do not fit.
    """
    if choice.axes is not None:
        return _given_axes(choice.axes, shape, name)
    if len(shape) < 2 or math.prod(shape) == 0:
        msg = f"{name} has shape {shape}; a recording has the axes (T, Y, X), each at least 1 long."
        raise RecordingError(msg)
    colour = (
        len(shape) == 4
        and shape[-1] in (3, 4)
        and min(shape[1:3]) > 4
        and choice.channel is None
        and not turned
    )
    frame = ("XY" if turned else "YX") + ("S" if colour else "")
    n_leading = len(shape) - len(frame)
    return ("T" if n_leading == 1 else "Q" * n_leading) + frame


def _given_axes(axes: str, shape: tuple[int, ...], name: str) -> str:
    letters = axes.upper()
    if (
        len(letters) != len(shape)
        or len(set(letters)) != len(letters)
        or not {"T", "Y", "X"} <= set(letters) <= set(_AXIS_LETTERS)
        or math.prod(shape) == 0
    ):
        msg = (
            f"The axes {axes!r} were given, but {name} has shape {shape}. Give one letter for each "
            "of its axes, in their order: T, Y and X, and Z or C where there are more, as in TXY."
        )
        raise RecordingError(msg)
    return letters


# --- Movies ------------------------------------------------------------------------------------


class IndexedMovie:
    """Frames picked out of an array with more axes, or with axes in another order.

    Parameters
    ----------
    array : array-like
        Anything that is indexed like an array and gives arrays.
    index : tuple of (int or slice)
        For each axis which position is taken; a slice on T, Y, X and S.
    order : tuple of int
        How the axes that are left are turned to (T, Y, X) or (T, Y, X, S).
    time : int
        Which of the axes is the time.
    colour : bool
        Whether an axis S is left, of which grey is made.
    name : str
        Name of the file, for messages.
    errors : tuple of type
        What the array raises on bad bytes.
    chunk_frames : int, default: 1
        Frames that are decoded together.
    """

    def __init__(
        self,
        array: Any,
        *,
        index: tuple[int | slice, ...],
        order: tuple[int, ...],
        time: int,
        colour: bool,
        name: str,
        errors: tuple[type[Exception], ...],
        chunk_frames: int = 1,
    ) -> None:
        self._array = array
        self._name = name
        self._index = index
        self._order = order
        self._time = time
        self._colour = colour
        self._errors = errors
        self._lock = threading.Lock()
        left = [at for at, value in enumerate(index) if isinstance(value, slice)]
        n_frames, n_rows, n_columns = (int(array.shape[left[at]]) for at in order[:3])
        self.shape = (n_frames, n_rows, n_columns)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        frame_bytes = n_rows * n_columns * self.dtype.itemsize
        keeps = chunk_frames > 1 and chunk_frames * frame_bytes <= _MAX_KEPT_BYTES
        self._chunk = chunk_frames if keeps else 1
        self._kept: tuple[int, AnyArray] | None = None

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        stop = min(stop, self.shape[0])
        if start >= stop:
            return np.zeros((0, *self.shape[1:]), self.dtype)
        with self._lock:
            if self._chunk == 1:
                return self._decode(start, stop)
            frames = np.empty((stop - start, *self.shape[1:]), self.dtype)
            at = start
            while at < stop:
                first = at - at % self._chunk
                if self._kept is None or self._kept[0] != first:
                    self._kept = None  # let go before the next one is made
                    self._kept = (first, self._decode(first, min(first + self._chunk, len(self))))
                last = min(stop, first + self._chunk)
                frames[at - start : last - start] = self._kept[1][at - first : last - first]
                at = last
            if stop == len(self):
                self._kept = None
        return frames

    def __len__(self) -> int:
        return self.shape[0]

    def _decode(self, start: int, stop: int) -> AnyArray:
        index = list(self._index)
        index[self._time] = slice(start, stop)
        try:
            frames = np.asarray(self._array[tuple(index)])
        except self._errors as error:
            msg = (
                f"Frames {start}:{stop} of {self._name} are damaged and cannot "
                f"be read ({error}). Leave them out with --frames A:B, or copy the file again."
            )
            raise RecordingError(msg) from error
        frames = frames.transpose(self._order)
        if self._colour:
            frames = np.stack([to_grey(frame) for frame in frames])
        return np.ascontiguousarray(frames, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class PickedFrames:
    """A movie picked out of an array, and what there is to say of it.

    Attributes
    ----------
    movie : IndexedMovie
        The frames.
    notes : tuple of str
        What was taken for what.
    """

    movie: IndexedMovie
    notes: tuple[str, ...]


def pick_frames(
    array: Any,
    axes: str,
    *,
    name: str,
    choice: Choice,
    errors: tuple[type[Exception], ...],
    chunk_frames: Callable[[int], int] | None = None,
) -> PickedFrames:
    """Make a movie of an array whose axes are labelled.

    Parameters
    ----------
    array : array-like
        Anything with ``shape`` and ``dtype`` that is indexed like an array.
    axes : str
        A letter for each axis, as `guess_axes` gives them.
    name : str
        Name of the file, for messages.
    choice : Choice
        Which channel and plane to read.
    errors : tuple of type
        What the array raises on bad bytes.
    chunk_frames : callable, optional
        Says how many frames are decoded together, given the number of the time axis.

    Returns
    -------
    PickedFrames
        The frames, read when they are wanted.

    Raises
    ------
    RecordingError
        If axes are left to choose on, or a single frame is left.
    """
    check_dtype(np.dtype(array.dtype), name)
    shape = tuple(int(n) for n in array.shape)
    rows, columns, colour = axes.index("Y"), axes.index("X"), "S" in axes
    if shape[rows] * shape[columns] > MAX_FRAME_PIXELS:
        msg = (
            f"{name} says that its shape is {shape}, with frames larger than any camera's; its "
            "header is damaged, or its axes are not (T, Y, X). Save it again."
        )
        raise RecordingError(msg)
    leading = [at for at, letter in enumerate(axes) if letter not in "YXS"]
    chosen = select_frames(
        [(axes[at], shape[at]) for at in leading],
        name=name,
        channel=choice.channel,
        plane=choice.plane,
    )
    index: list[int | slice] = [slice(None)] * len(axes)
    for at, value in zip(leading, chosen.index, strict=True):
        index[at] = value
    times = [at for at in leading if isinstance(index[at], slice)]
    if not times:
        msg = (
            f"{name} holds a single frame; a recording needs at least 2, "
            "and many more to show activity."
        )
        raise RecordingError(msg)
    time = times[0]
    left = [at for at, value in enumerate(index) if isinstance(value, slice)]
    wanted = [time, rows, columns, *([axes.index("S")] if colour else [])]
    order = tuple(left.index(at) for at in wanted)
    movie = IndexedMovie(
        array,
        index=tuple(index),
        order=order,
        time=time,
        colour=colour,
        name=name,
        errors=errors,
        chunk_frames=1 if chunk_frames is None else chunk_frames(time),
    )
    notes = list(chosen.notes)
    if colour:
        first = list(index)
        first[time] = slice(0, 1)
        picture = np.asarray(array[tuple(first)]).transpose(order)[0]
        notes.append(GREY_EQUAL_NOTE if equal_channels(picture) else GREY_NOTE)
    return PickedFrames(movie, tuple(notes))


# --- NumPy -------------------------------------------------------------------------------------


class NpyReader(Reader):
    """Arrays that NumPy saved."""

    name = "a NumPy array"
    suffixes = frozenset((".npy",))
    options = frozenset(("channel", "plane", "axes"))

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind."""
        return head.startswith(b"\x93NUMPY")

    def open(self, path: Path, choice: Choice) -> Source:
        """Open an array (T, Y, X), or one with more axes.

        Raises
        ------
        RecordingError
            If the file does not hold an array of numbers with these axes.
        """
        return _open_npy(path, choice)


def _open_npy(path: Path, choice: Choice) -> Source:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(file)
            start = file.tell()
    except ValueError as error:
        msg = f"{path} is a damaged .npy file: {error}"
        raise RecordingError(msg) from error
    name = str(path)
    check_dtype(dtype, name)
    axes = guess_axes(shape, name, choice)
    size = path.stat().st_size - start
    in_order = axes.endswith("YX")
    if fortran or not in_order:
        if size < dtype.itemsize * math.prod(shape):
            why = "in column order " if fortran else ""
            msg = (
                f"{path} is cut: its {math.prod(shape)} values {why}need "
                f"{dtype.itemsize * math.prod(shape)} bytes and {size} are there. "
                "No frame is whole; save it again."
            )
            raise RecordingError(msg)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        picked = pick_frames(array, axes, name=name, choice=choice, errors=(OSError, ValueError))
        n_frames = picked.movie.shape[0]
        return Source(picked.movie, "NumPy array", "memory-mapped", n_frames, notes=picked.notes)
    leading = [(letter, size) for letter, size in zip(axes[:-2], shape[:-2], strict=True)]
    if math.prod(shape[-2:]) > MAX_FRAME_PIXELS:
        msg = (
            f"{path} says that its shape is {shape}, with frames larger than any camera's; its "
            "header is damaged, or its axes are not (T, Y, X). Save it again."
        )
        raise RecordingError(msg)
    chosen = select_frames(leading, name=name, channel=choice.channel, plane=choice.plane)
    n_bytes = dtype.itemsize * math.prod(shape[-2:])
    whole = chosen.planes < size // n_bytes
    n_frames = len(whole) if whole.all() else int(np.argmin(whole))
    offsets = start + n_bytes * chosen.planes[:n_frames]
    frame_shape = (int(shape[-2]), int(shape[-1]))
    return Source(
        RawMovie(path, dtype, frame_shape, offsets),
        format="NumPy array",
        access="directly, uncompressed",
        n_promised=len(whole),
        damage="" if n_frames == len(whole) else "the file ends inside the next frame",
        notes=chosen.notes,
    )

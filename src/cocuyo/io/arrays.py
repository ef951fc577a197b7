"""Recordings in NumPy and HDF5 files."""

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import AnyArray, RecordingError
from cocuyo.io.sources import (
    GREY_EQUAL_NOTE,
    GREY_NOTE,
    MAX_FRAME_PIXELS,
    RawMovie,
    Selection,
    Source,
    check_dtype,
    equal_channels,
    plausible_pixel_size,
    plausible_rate,
    select_frames,
    to_grey,
)

_CHUNK_CACHE_BYTES = 64 * 2**20
# No filter of HDF5 packs tighter: deflate reaches 1032:1, Zstandard about 32 000:1.
_MAX_PACKING = 100_000
_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # on bad bytes
_RATE_NAMES = ("frame_rate_hz", "frame_rate", "framerate", "fps", "rate", "sampling_rate")
_PIXEL_NAMES = ("pixel_size_um", "pixel_size", "um_per_pixel", "element_size_um")


def _leading_axes(
    shape: tuple[int, ...], name: str, channel: int | None, *, need_time: bool = False
) -> tuple[tuple[tuple[str, int], ...], bool]:
    """Label the axes before Y and X; say whether a colour axis follows them."""
    if len(shape) < (3 if need_time else 2) or math.prod(shape) == 0:
        msg = f"{name} has shape {shape}; a recording has the axes (T, Y, X), each at least 1 long."
        raise RecordingError(msg)
    colour = len(shape) == 4 and shape[-1] in (3, 4) and min(shape[1:3]) > 4 and channel is None
    leading = shape[: -3 if colour else -2]
    if math.prod(shape[len(leading) :][:2]) > MAX_FRAME_PIXELS:
        msg = (
            f"{name} says that its shape is {shape}, with frames larger than any camera's; its "
            "header is damaged, or its axes are not (T, Y, X). Save it again."
        )
        raise RecordingError(msg)
    if len(leading) == 1:
        return (("T", leading[0]),), colour
    return tuple(("Q", size) for size in leading), colour


# --- NumPy -------------------------------------------------------------------------------------


class _IndexedMovie:
    """Frames picked out of an array with more axes, or with axes in another order."""

    def __init__(self, array: Any, index: tuple[int | slice, ...], colour: bool, name: str) -> None:
        self._array = array
        self._name = name
        self._index = index
        self._colour = colour
        self._lock = threading.Lock()
        time = next(at for at, value in enumerate(index) if isinstance(value, slice))
        n_rows, n_columns = array.shape[len(index) : len(index) + 2]
        self.shape = (int(array.shape[time]), int(n_rows), int(n_columns))
        self.dtype = np.dtype(array.dtype).newbyteorder("=")

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        index = tuple(
            slice(start, min(stop, self.shape[0])) if isinstance(value, slice) else value
            for value in self._index
        )
        try:
            with self._lock:
                frames = np.asarray(self._array[index])
        except _HDF5_ERRORS as error:
            msg = (
                f"Frames {start}:{min(stop, self.shape[0])} of {self._name} are damaged and cannot "
                f"be read ({error}). Leave them out with --frames A:B, or copy the file again."
            )
            raise RecordingError(msg) from error
        if self._colour:
            grey = [to_grey(frame) for frame in frames]
            frames = np.stack(grey) if grey else np.zeros((0, *self.shape[1:]))
        return np.ascontiguousarray(frames, dtype=self.dtype)


def open_npy(path: Path, *, channel: int | None = None, plane: int | None = None) -> Source:
    """Open an array that NumPy saved.

    Parameters
    ----------
    path : Path
        The file, with one array (T, Y, X).
    channel, plane : int, optional
        Which to read of an array with more axes, from 0.

    Returns
    -------
    Source
        Its frames.

    Raises
    ------
    RecordingError
        If the file does not hold an array of numbers with these axes.
    """
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
    check_dtype(dtype, str(path))
    axes, colour = _leading_axes(shape, str(path), channel)
    chosen = select_frames(axes, name=str(path), channel=channel, plane=plane)
    size = path.stat().st_size - start
    n_bytes = dtype.itemsize * math.prod(shape[len(axes) :])
    notes = list(chosen.notes)
    if fortran or colour:
        if size < dtype.itemsize * math.prod(shape):
            msg = (
                f"{path} is cut: its {math.prod(shape)} values in column order need "
                f"{dtype.itemsize * math.prod(shape)} bytes and {size} are there. "
                "No frame is whole; save it again."
            )
            raise RecordingError(msg)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        index = _with_time(chosen)
        if not axes:
            array = array[None]
        movie: Any = _IndexedMovie(array, index, colour, str(path))
        if colour:
            equal = equal_channels(array[0])
            notes.append(GREY_EQUAL_NOTE if equal else GREY_NOTE)
        return Source(movie, "NumPy array", "memory-mapped", movie.shape[0], notes=tuple(notes))
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
        notes=tuple(notes),
    )


def _with_time(chosen: Selection) -> tuple[int | slice, ...]:
    if any(isinstance(value, slice) for value in chosen.index):
        return chosen.index
    return (slice(None), *chosen.index[1:])


# --- HDF5 --------------------------------------------------------------------------------------


def open_hdf5(
    path: Path,
    *,
    dataset: str | None = None,
    channel: int | None = None,
    plane: int | None = None,
) -> Source:
    """Open a data set of an HDF5 file.

    Parameters
    ----------
    path : Path
        The file.
    dataset : str, optional
        Path of the data set in the file; needed unless exactly one has three axes.
    channel, plane : int, optional
        Which to read of a data set with more axes, from 0.

    Returns
    -------
    Source
        Its frames; the file stays open for reading as long as they are in use.

    Raises
    ------
    RecordingError
        If the file is damaged, or the data set absent, not named or of another shape.
    """
    import h5py

    try:
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
    except OSError as error:
        msg = f"{path} is an HDF5 file that cannot be opened; it is damaged or cut ({error})."
        raise RecordingError(msg) from error
    try:
        data = _find_dataset(file, path, dataset)
        name = f"{path}:{data.name}"
        check_dtype(data.dtype, name)
        axes, colour = _leading_axes(tuple(data.shape), name, channel, need_time=True)
        chosen = select_frames(axes, name=name, channel=channel, plane=plane)
        _check_stored(data, name)
        movie = _IndexedMovie(data, _with_time(chosen), colour, name)
        try:
            np.asarray(data[tuple(n - 1 for _, n in axes)])
            first = np.asarray(data[(0,) * len(axes)])
        except _HDF5_ERRORS as error:
            msg = f"{name} cannot be read; it is damaged or needs a filter plugin ({error})."
            raise RecordingError(msg) from error
        notes = list(chosen.notes)
        if colour:
            notes.append(GREY_EQUAL_NOTE if equal_channels(first) else GREY_NOTE)
        rate, rate_origin = _attribute(data, _RATE_NAMES)
        pixel, pixel_origin = _attribute(data, _PIXEL_NAMES)
    except _HDF5_ERRORS as error:
        file.close()
        msg = f"{path} is an HDF5 file whose structure is damaged ({error}); copy it again."
        raise RecordingError(msg) from error
    except BaseException:
        file.close()
        raise
    rate, pixel = plausible_rate(rate), plausible_pixel_size(pixel)
    return Source(
        movie,
        format=f"HDF5, data set {data.name}",
        access="in blocks",
        n_promised=movie.shape[0],
        frame_rate_hz=rate,
        frame_rate_origin=rate_origin if rate else "",
        pixel_size_um=pixel,
        pixel_size_origin=pixel_origin if pixel else "",
        notes=tuple(notes),
    )


def _check_stored(data: Any, name: str) -> None:
    """Refuse a data set whose values were never written: reading it would make them up.

    Raises
    ------
    RecordingError
        If hardly anything is stored of what the shape promises.
    """
    if data.is_virtual or data.external:
        return  # the values lie in other files
    stored = int(data.id.get_storage_size())
    if stored * _MAX_PACKING < math.prod(data.shape) * data.dtype.itemsize:
        msg = (
            f"{name} says that its shape is {tuple(data.shape)}, but {stored} bytes are stored; "
            "it was not written, or its header is damaged. Save it again."
        )
        raise RecordingError(msg)


def _find_dataset(file: Any, path: Path, name: str | None) -> Any:
    import h5py

    found: list[Any] = []

    def collect(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and len(item.shape or ()) >= 2:
            found.append(item)

    file.visititems(collect)
    listing = ", ".join(f"{item.name} {tuple(item.shape)}" for item in found[:20]) or "none"
    if name is not None:
        item = file.get(name)
        if not isinstance(item, h5py.Dataset):
            msg = f"{path} has no data set {name!r}. Data sets with two axes or more: {listing}."
            raise RecordingError(msg)
        return item
    movies = [item for item in found if len(item.shape) == 3 and item.dtype.kind in "buif"]
    if len(movies) == 1:
        return movies[0]
    if len(movies) == 0 and len(found) == 1:
        return found[0]
    msg = (
        f"{path} holds {len(movies)} data sets with the axes of a recording; "
        f"name one with --dataset. Data sets: {listing}."
    )
    raise RecordingError(msg)


def _attribute(data: Any, names: tuple[str, ...]) -> tuple[float | None, str]:
    """Look for a number in the attributes of a data set, its group and the file."""
    for where, owner in (("data set", data), ("group", data.parent), ("file", data.file)):
        for name in names:
            if name in owner.attrs:
                value = np.asarray(owner.attrs[name])
                if value.size >= 1 and value.dtype.kind in "uif":
                    return float(value.ravel()[0]), f"the attribute {name} of the HDF5 {where}"
    return None, ""

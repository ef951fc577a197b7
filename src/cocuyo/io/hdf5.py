"""Recordings in HDF5 files, and in those that MATLAB writes (version 7.3)."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import RecordingError
from cocuyo.io.arrays import PickedFrames, guess_axes, pick_frames
from cocuyo.io.readers import Choice, Option, Reader
from cocuyo.io.sources import Source, check_dtype, plausible_pixel_size, plausible_rate

_CHUNK_CACHE_BYTES = 64 * 2**20
# No filter of HDF5 packs tighter: deflate reaches 1032:1, Zstandard about 32 000:1.
_MAX_PACKING = 100_000
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # on bad bytes
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HDF5_SUFFIXES = frozenset((".h5", ".hdf5", ".hdf", ".nwb", ".mat"))
HDF5_OPTIONS: frozenset[Option] = frozenset(("dataset", "channel", "plane", "axes"))
RATE_NAMES = ("frame_rate_hz", "frame_rate", "framerate", "fps", "rate", "sampling_rate")
PIXEL_NAMES = ("pixel_size_um", "pixel_size", "um_per_pixel", "element_size_um")
_MATLAB_RATE_NAMES = (*RATE_NAMES, "fs", "fr")
_MATLAB_MARK = b"MATLAB 7.3 MAT-file"

TURNED_NOTE = (
    "{kind} stores the columns of a picture before its rows, {order}; frames are turned "
    "accordingly. If the picture looks mirrored at its diagonal, this file does not keep to that: "
    "--axes TYX."
)


def is_hdf5(path: Path, head: bytes) -> bool:
    """Say whether a file is HDF5; a block of the user's may stand before its signature.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        Its first 1024 bytes.

    Returns
    -------
    bool
        Whether the signature is there.
    """
    if head.startswith(HDF5_SIGNATURE) or head[512:520] == HDF5_SIGNATURE:
        return True
    if path.suffix.lower() not in HDF5_SUFFIXES or path.is_dir():
        return False
    import h5py

    return bool(h5py.is_hdf5(path))


@contextmanager
def hdf5_file(path: Path) -> Iterator[Any]:
    """Open an HDF5 file; it is closed only where something goes wrong inside.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    h5py.File
        The file; it stays open for the movie that reads from it.

    Raises
    ------
    RecordingError
        If it is damaged, also where h5py finds it inside the ``with`` block.
    """
    import h5py

    try:
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
    except OSError as error:
        msg = f"{path} is an HDF5 file that cannot be opened; it is damaged or cut ({error})."
        raise RecordingError(msg) from error
    try:
        yield file
    except HDF5_ERRORS as error:
        file.close()
        msg = f"{path} is an HDF5 file whose structure is damaged ({error}); copy it again."
        raise RecordingError(msg) from error
    except BaseException:
        file.close()
        raise


class Hdf5Reader(Reader):
    """HDF5 files of no special kind."""

    name = "an HDF5 file"
    suffixes = HDF5_SUFFIXES
    options = HDF5_OPTIONS

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind."""
        return is_hdf5(path, head)

    def open(self, path: Path, choice: Choice) -> Source:
        """Open the data set that is the movie, (T, Y, X).

        Raises
        ------
        RecordingError
            If the file is damaged, or the data set absent, not named or of another shape.
        """
        with hdf5_file(path) as file:
            data = _find_dataset(_movies(file), file, path, choice.dataset)
            picked = pick_dataset(data, guess_axes_of(data, path, choice), path, choice)
            rate, rate_origin = _attribute(data, RATE_NAMES)
            pixel, pixel_origin = _attribute(data, PIXEL_NAMES)
        return hdf5_source(
            picked,
            f"HDF5, data set {data.name}",
            rate=(rate, rate_origin),
            pixel=(pixel, pixel_origin),
        )


class MatlabReader(Reader):
    """MATLAB files of version 7.3, which are HDF5 with the axes in reverse order."""

    name = "a MATLAB file"
    suffixes = HDF5_SUFFIXES
    options = HDF5_OPTIONS

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind."""
        return head.startswith((_MATLAB_MARK, b"MATLAB 5.0 MAT-file"))

    def open(self, path: Path, choice: Choice) -> Source:
        """Open the variable that is the movie: rows x columns x frames in MATLAB.

        Raises
        ------
        RecordingError
            If the file is damaged or of an older version, or the variable absent, not named or
            of another shape.
        """
        with path.open("rb") as stream:
            head = stream.read(len(_MATLAB_MARK))
        if head != _MATLAB_MARK:
            msg = (
                f"{path} is a MATLAB file of a version before 7.3, which cannot be read in blocks. "
                "Save it in MATLAB with save('movie.mat', 'movie', '-v7.3')."
            )
            raise RecordingError(msg)
        with hdf5_file(path) as file:
            # Strings, and what cells hold, are data sets too.
            movies = [
                data
                for data in _movies(file)
                if _matlab_class(data) not in ("char", "cell")
                and (choice.dataset is not None or not data.name.startswith("/#"))
            ]
            wanted = None if choice.dataset is None else choice.dataset.replace(".", "/")
            data = _find_dataset(movies, file, path, wanted)
            axes = guess_axes_of(data, path, choice, turned=True)
            picked = pick_dataset(data, axes, path, choice)
            rate, rate_origin = _matlab_number(data, _MATLAB_RATE_NAMES)
            pixel, pixel_origin = _matlab_number(data, PIXEL_NAMES)
        note = TURNED_NOTE.format(kind="MATLAB", order="the first axis last (T, X, Y)")
        return hdf5_source(
            picked,
            f"MATLAB 7.3, variable {data.name.lstrip('/').replace('/', '.')}",
            rate=(rate, rate_origin),
            pixel=(pixel, pixel_origin),
            notes=() if choice.axes is not None else (note,),
        )


def hdf5_source(
    picked: PickedFrames,
    kind: str,
    *,
    rate: tuple[float | None, str],
    pixel: tuple[float | None, str],
    notes: Sequence[str] = (),
) -> Source:
    """Put together what a file says, without numbers that no recording has.

    Parameters
    ----------
    picked : PickedFrames
        The frames.
    kind : str
        The kind of file.
    rate, pixel : (float or None, str)
        Frames per second and pixel size in µm, each with where it stands.
    notes : sequence of str
        How it was read.

    Returns
    -------
    Source
        The movie.
    """
    rate_hz, pixel_um = plausible_rate(rate[0]), plausible_pixel_size(pixel[0])
    return Source(
        picked.movie,
        format=kind,
        access="in blocks",
        n_promised=picked.movie.shape[0],
        frame_rate_hz=rate_hz,
        frame_rate_origin=rate[1] if rate_hz else "",
        pixel_size_um=pixel_um,
        pixel_size_origin=pixel[1] if pixel_um else "",
        notes=(*picked.notes, *notes),
    )


def guess_axes_of(data: Any, path: Path, choice: Choice, *, turned: bool = False) -> str:
    """Label the axes of a data set.

    Parameters
    ----------
    data : h5py.Dataset
        The data set.
    path : Path
        Its file, for messages.
    choice : Choice
        What the user chose.
    turned : bool, default: False
        Whether files of this kind store columns before rows.

    Returns
    -------
    str
        A letter for each axis.

    Raises
    ------
    RecordingError
        If it has no axes of a movie.
    """
    shape, name = tuple(data.shape), f"{path}:{data.name}"
    if len(shape) < 3:
        msg = f"{name} has shape {shape}; a recording has the axes (T, Y, X), each at least 1 long."
        raise RecordingError(msg)
    return guess_axes(shape, name, choice, turned=turned)


def pick_dataset(data: Any, axes: str, path: Path, choice: Choice) -> PickedFrames:
    """Make a movie of a data set, after a look at its first and last values.

    Parameters
    ----------
    data : h5py.Dataset
        The data set.
    axes : str
        A letter for each axis.
    path : Path
        Its file, for messages.
    choice : Choice
        Which channel and plane to read.

    Returns
    -------
    PickedFrames
        The frames.

    Raises
    ------
    RecordingError
        If its values were not written, or need a filter that is not there.
    """
    name = f"{path}:{data.name}"
    check_dtype(data.dtype, name)
    _check_stored(data, name)
    try:
        np.asarray(data[tuple(n - 1 for n in data.shape)])
        np.asarray(data[(0,) * len(data.shape)])
    except HDF5_ERRORS as error:
        msg = f"{name} cannot be read; it is damaged or needs a filter plugin ({error})."
        raise RecordingError(msg) from error
    return pick_frames(data, axes, name=name, choice=choice, errors=HDF5_ERRORS)


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


def _movies(file: Any) -> list[Any]:
    """List the data sets with two axes or more."""
    import h5py

    found: list[Any] = []

    def collect(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and len(item.shape or ()) >= 2:
            found.append(item)

    file.visititems(collect)
    return found


def _find_dataset(found: Sequence[Any], file: Any, path: Path, name: str | None) -> Any:
    import h5py

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


def _matlab_class(data: Any) -> str:
    value = data.attrs.get("MATLAB_class", b"")
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _matlab_number(data: Any, names: tuple[str, ...]) -> tuple[float | None, str]:
    """Look for a scalar variable beside the movie, by its name without case and underscores."""
    import h5py

    wanted = [re.sub("_", "", name) for name in names]
    for name, item in data.parent.items():
        if re.sub("_", "", name).casefold() not in wanted or not isinstance(item, h5py.Dataset):
            continue
        if item.size == 1 and item.dtype.kind in "uif":
            return float(item[()].ravel()[0]), f"the variable {name} of the MATLAB file"
    return None, ""

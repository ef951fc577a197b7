"""What every reader gives back, and the movies that files of several formats share."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cocuyo.core import AnyArray, Movie, RecordingError, TimeArray

# What a camera or a stage can have; outside it the file's entry is a left-over default.
FRAME_RATE_RANGE_HZ = (1e-4, 1000.0)
PIXEL_SIZE_RANGE_UM = (0.01, 100.0)

# More than any recording has: numbers above these come from damaged headers.
MAX_FRAMES = 10**7
MAX_FRAME_PIXELS = 2**28

TIFF_SUFFIXES = frozenset((".tif", ".tiff", ".btf", ".tf8"))
PICTURE_SUFFIXES = frozenset((".png",))
VIDEO_SUFFIXES = frozenset((".avi", ".mp4", ".mkv", ".mov", ".m4v"))

_AXIS_NAMES = {"T": "times", "Z": "planes (Z)", "C": "channels (C)"}


@dataclass(frozen=True, eq=False)
class Source:
    """A movie as one file (or folder) holds it: what a reader gives back.

    Attributes
    ----------
    movie : Movie
        The frames that can be read.
    format : str
        The kind of file, for people.
    access : str
        How the frames are read, for people.
    n_promised : int
        Number of frames that the file says it has; equal to those of `movie` where the file
        does not say.
    damage : str
        What is broken after the last frame of `movie`; empty for a sound file.
    frame_rate_hz, pixel_size_um : float or None
        What the file says.
    frame_rate_origin, pixel_size_origin : str
        Where the file says it.
    notes : tuple of str
        How the file was read, in sentences.
    timestamps_s : ndarray of float64, shape (n_promised,), or None
        Time of each frame in seconds, where the file says it; finite and rising.
    timestamps_origin : str
        Where the file says it.
    """

    movie: Movie
    format: str
    access: str
    n_promised: int
    damage: str = ""
    frame_rate_hz: float | None = None
    frame_rate_origin: str = ""
    pixel_size_um: float | None = None
    pixel_size_origin: str = ""
    notes: tuple[str, ...] = ()
    timestamps_s: TimeArray | None = None
    timestamps_origin: str = ""


def plausible_rate(rate_hz: float | None) -> float | None:
    """Keep a frame rate that a recording can have.

    Parameters
    ----------
    rate_hz : float or None
        What a file says, in frames per second.

    Returns
    -------
    float or None
        The rate; None where it is nonsense (0, below 0.0001, 1000 or more, not finite).
    """
    return _within(rate_hz, FRAME_RATE_RANGE_HZ)


def plausible_pixel_size(size_um: float | None) -> float | None:
    """Keep a pixel size that a recording can have.

    Parameters
    ----------
    size_um : float or None
        What a file says, in µm.

    Returns
    -------
    float or None
        The size; None where it is nonsense (below 0.01, 100 or more, not finite).
    """
    return _within(size_um, PIXEL_SIZE_RANGE_UM)


def _within(value: float | None, limits: tuple[float, float]) -> float | None:
    if value is None or not math.isfinite(value) or not limits[0] <= value < limits[1]:
        return None
    return float(value)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Make a sort key that puts ``msCam2`` before ``msCam10``.

    Parameters
    ----------
    name : str
        Name of a file.

    Returns
    -------
    tuple
        Numbers compare as numbers, and stand before letters; upper and lower case are one.
    """
    parts = re.split(r"(\d+)", name.casefold())
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p)


def check_dtype(dtype: "np.dtype[np.generic]", name: str) -> None:
    """Refuse values that are not grey levels.

    Parameters
    ----------
    dtype : dtype
        Type of the values.
    name : str
        Name of the file, for messages.

    Raises
    ------
    RecordingError
        If the type is not boolean, integer or real.
    """
    if dtype.kind not in "buif":
        msg = f"{name} holds values of type {dtype}; a recording holds integers or real numbers."
        raise RecordingError(msg)


def to_grey(frame: AnyArray) -> AnyArray:
    """Turn a colour frame into grey of the same type.

    The weights are those of ITU-R BT.601 (0.299, 0.587, 0.114), which leave three equal
    channels as they are.

    Parameters
    ----------
    frame : ndarray, shape (n_rows, n_columns, 3 or 4)
        The frame, red first.

    Returns
    -------
    ndarray, shape (n_rows, n_columns)
        Its luma.
    """
    import cv2

    colour = np.ascontiguousarray(frame[..., :3])
    if colour.dtype in (np.uint8, np.uint16, np.float32):
        return np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))
    grey = colour.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return np.asarray((grey if colour.dtype.kind == "f" else np.rint(grey)).astype(colour.dtype))


def decode_picture(path: Path) -> AnyArray | None:
    """Decode a PNG (or another picture that OpenCV knows).

    Parameters
    ----------
    path : Path
        The file. Not ``cv2.imread``, which does not open every path on Windows.

    Returns
    -------
    ndarray, shape (n_rows, n_columns) or (n_rows, n_columns, n_samples), or None
        The picture as stored, blue first where it is in colour; None where it is damaged.
    """
    import cv2

    try:
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # nothing to decode, or sizes that no picture has
        return None
    return None if picture is None else np.asarray(picture)


def equal_channels(frame: AnyArray) -> bool:
    """Say whether the first three channels of a colour frame are the same.

    Parameters
    ----------
    frame : ndarray, shape (n_rows, n_columns, 3 or 4)
        The frame.

    Returns
    -------
    bool
        True where no pixel differs.
    """
    return bool(
        np.array_equal(frame[..., 0], frame[..., 1])
        and np.array_equal(frame[..., 0], frame[..., 2])
    )


GREY_NOTE = "The file is in colour; grey (luma) is taken from it."
GREY_EQUAL_NOTE = "The file is in colour with three equal channels; one is taken as grey."


GREY_NEARLY_EQUAL_NOTE = (
    "The file is in colour with three channels that are equal but for the codec's rounding; "
    "grey (luma) is taken from it."
)


@dataclass(frozen=True)
class Selection:
    """Which planes of a stack are the frames.

    Attributes
    ----------
    index : tuple of (int or slice)
        Index into the leading axes; one entry is a full slice, the time axis.
    planes : ndarray of int, shape (n_frames,)
        The same as numbers of planes, counted with the last leading axis fastest.
    notes : tuple of str
        What was taken for time, and what was selected.
    """

    index: tuple[int | slice, ...]
    planes: NDArray[np.int64]
    notes: tuple[str, ...]


def select_frames(
    axes: Sequence[tuple[str, int]], *, name: str, channel: int | None, plane: int | None
) -> Selection:
    """Find the time axis of a stack and apply the choice of channel and plane.

    Parameters
    ----------
    axes : sequence of (str, int)
        Label and length of each axis before Y and X: T, Z, C, or Q where unlabelled.
    name : str
        Name of the file, for messages.
    channel, plane : int or None
        Index from 0; either one also chooses on an unlabelled axis.

    Returns
    -------
    Selection
        The planes that are the frames.

    Raises
    ------
    RecordingError
        If more than one axis is left, or an index is outside its axis.
    """
    if math.prod(size for _, size in axes) > MAX_FRAMES:
        n_images = math.prod(size for _, size in axes)
        msg = f"{name} says that it holds {n_images} images; its header is damaged. Save it again."
        raise RecordingError(msg)
    labels = [label for label, _ in axes]
    sizes = [size for _, size in axes]
    index: list[int | slice | None] = [None] * len(axes)
    notes: list[str] = []
    for option, wanted, label in (("--channel", channel, "C"), ("--plane", plane, "Z")):
        if wanted is None:
            continue
        at = _axis_for(label, labels, sizes, index)
        size = 1 if at is None else sizes[at]
        if not 0 <= wanted < size:
            what = "channel" if label == "C" else "plane"
            msg = f"{option} {wanted} was given, but {name} has {size} {what}(s), counted from 0."
            raise RecordingError(msg)
        if at is not None:
            index[at] = wanted
            what = "Channel" if label == "C" else "Plane"
            notes.append(f"{what} {wanted} of {size} is read.")
    for at, size in enumerate(sizes):
        if index[at] is None and size == 1:
            index[at] = 0
    left = [at for at in range(len(axes)) if index[at] is None]
    if len(left) > 1:
        _refuse_axes(name, axes, index, left)
    if left:
        time = left[0]
        if labels[time] in "ZC":
            notes.append(
                f"The file labels its {sizes[time]} images as {_AXIS_NAMES[labels[time]]} "
                "and has no time axis; they are taken as frames in time."
            )
    else:  # a single plane: the caller says that one frame is not a recording
        time = next((at for at, label in enumerate(labels) if label in "TQ" and sizes[at] == 1), -1)
    final = tuple(
        slice(None) if at == time else (value if value is not None else 0)
        for at, value in enumerate(index)
    )
    planes = np.arange(math.prod(sizes), dtype=np.int64).reshape(sizes)[final]
    return Selection(final, np.atleast_1d(planes), tuple(notes))


def _axis_for(
    label: str, labels: list[str], sizes: list[int], index: list[int | slice | None]
) -> int | None:
    """Find the axis that an option chooses on; of unlabelled ones, the last after the first."""
    if label in labels:
        return labels.index(label)
    unlabelled = [at for at, other in enumerate(labels) if other == "Q" and index[at] is None]
    first_is_time = "T" not in labels
    usable = unlabelled[1:] if first_is_time else unlabelled
    usable = [at for at in usable if sizes[at] > 1]
    return usable[-1] if usable else None


def _refuse_axes(
    name: str,
    axes: Sequence[tuple[str, int]],
    index: Sequence[int | slice | None],
    left: Sequence[int],
) -> None:
    wording = ", ".join(
        f"{axes[at][1]} {_AXIS_NAMES.get(axes[at][0], 'images on an unlabelled axis')}"
        for at in left
    )
    options = []
    for at in left:
        label, size = axes[at]
        if label == "C":
            options.append(f"--channel N (0 to {size - 1})")
        elif label == "Z":
            options.append(f"--plane N (0 to {size - 1})")
        elif label == "Q" and (at != left[0] or any(axes[a][0] == "T" for a in left)):
            options.append(f"--channel N or --plane N (0 to {size - 1})")
    if not any(axes[at][0] in "TQ" for at in left):
        options = [f"one of {' or '.join(options)}"]
    n_axes = len(left) + 2
    msg = (
        f"{name} has {n_axes} axes ({wording}, and Y, X); a recording is one image per time. "
        f"Choose with {' and '.join(options)}."
    )
    raise RecordingError(msg)


class RawMovie:
    """Uncompressed frames that lie in one file at known places.

    They are read straight into a new array, not memory-mapped: pages of a map count as memory
    of the process and grow with the recording, and a file cut meanwhile would kill it.

    Parameters
    ----------
    path : Path
        The file.
    dtype : dtype
        Type of the values in the file, with its byte order.
    frame_shape : tuple of int
        Rows and columns.
    offsets : ndarray of int64, shape (n_frames,)
        Position of each frame's first byte.
    """

    def __init__(
        self,
        path: Path,
        dtype: "np.dtype[np.generic]",
        frame_shape: tuple[int, int],
        offsets: NDArray[np.int64],
    ) -> None:
        self._path = path
        self._stored = np.dtype(dtype)
        self._offsets = offsets
        self.shape = (len(offsets), *frame_shape)
        self.dtype = self._stored.newbyteorder("=")

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        return self.read_rows(start, stop, 0, self.shape[1])

    def read_rows(self, start: int, stop: int, top: int, bottom: int) -> AnyArray:
        """Read rows ``top`` to ``bottom`` (excluded) of some frames, and nothing else."""
        row_bytes = self._stored.itemsize * self.shape[2]
        offsets = self._offsets[start:stop] + top * row_bytes
        frames = np.empty((len(offsets), bottom - top, self.shape[2]), self._stored)
        if frames.size == 0:
            return frames.astype(self.dtype)
        target = frames.reshape(-1).view(np.uint8)
        n_bytes = row_bytes * (bottom - top)
        ends = np.flatnonzero(np.diff(offsets) != n_bytes) + 1
        bounds = [0, *ends.tolist(), len(offsets)]
        with self._path.open("rb", buffering=0) as file:
            for first, last in itertools.pairwise(bounds):
                file.seek(int(offsets[first]))
                part = memoryview(target.data)[first * n_bytes : last * n_bytes]
                while part:
                    n_read = file.readinto(part)
                    if not n_read:
                        msg = f"{self._path} became shorter while it was read."
                        raise RecordingError(msg)
                    part = part[n_read:]
        if not self._stored.isnative:
            frames = frames.byteswap(inplace=True).view(self.dtype)
        return frames


class JoinedMovie:
    """Several movies one after the other.

    Parameters
    ----------
    movies : sequence of Movie
        The movies, of one frame size.
    """

    def __init__(self, movies: Sequence[Movie]) -> None:
        self._movies = tuple(movies)
        self._starts = np.cumsum([0, *(movie.shape[0] for movie in movies)])
        self.shape = (int(self._starts[-1]), *movies[0].shape[1:])
        self.dtype = np.result_type(*(movie.dtype for movie in movies))

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        stop = min(stop, self.shape[0])
        frames = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        for movie, first in zip(self._movies, self._starts.tolist(), strict=False):
            low, high = max(start, first), min(stop, first + movie.shape[0])
            if low < high:
                frames[low - start : high - start] = movie.read(low - first, high - first)
        return frames

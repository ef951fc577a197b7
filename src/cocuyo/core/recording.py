"""A recording: a movie that is read in blocks, with its frame rate and pixel size."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from cocuyo.core.arrays import AnyArray, TimeArray
from cocuyo.core.errors import MissingFrameRateError, RecordingError

FRAME_RATE_LIMITS_HZ = (1e-4, 1e4)
"""Outside them a rate is a slip of the unit: the fastest cameras take some thousand frames per
second, the slowest time lapses one in some hours."""


def check_frame_rate(rate_hz: float, what: str) -> None:
    """Refuse a rate that no camera has.

    Parameters
    ----------
    rate_hz : float
        Frames per second.
    what : str
        Beginning of the message: who says so.

    Raises
    ------
    RecordingError
        If it lies outside `FRAME_RATE_LIMITS_HZ`.
    """
    low, high = FRAME_RATE_LIMITS_HZ
    if not low <= rate_hz <= high:
        msg = (
            f"{what} {rate_hz:.6g} frames per second; recordings have {low:g} to {high:g}. "
            "Check the unit: rates are in Hz, times in seconds."
        )
        raise RecordingError(msg)


@runtime_checkable
class Movie(Protocol):
    """Frames that can be read in blocks.

    `io` makes them from files; `ArrayMovie` makes one from an array.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of frames, rows and columns."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the values as acquired."""
        ...

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        ...


def read_rows(movie: Movie, start: int, stop: int, top: int, bottom: int) -> AnyArray:
    """Read some rows of some frames; where the file allows it, nothing else is read.

    Parameters
    ----------
    movie : Movie
        The movie.
    start, stop : int
        First frame, and the one after the last.
    top, bottom : int
        First row, and the one after the last.

    Returns
    -------
    ndarray, shape (stop - start, bottom - top, n_columns)
        The values as acquired.
    """
    direct = getattr(movie, "read_rows", None)
    if direct is not None:
        return np.asarray(direct(start, stop, top, bottom))
    return movie.read(start, stop)[:, top:bottom]


@dataclass(frozen=True, eq=False)
class ArrayMovie:
    """A movie that lies in memory (or in a memory map).

    Attributes
    ----------
    frames : ndarray, shape (n_frames, n_rows, n_columns)
        The frames, in camera counts.
    """

    frames: AnyArray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of frames, rows and columns."""
        n_frames, n_rows, n_columns = self.frames.shape
        return n_frames, n_rows, n_columns

    @property
    def dtype(self) -> np.dtype:
        """Type of the values as acquired."""
        return self.frames.dtype

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        return np.asarray(self.frames[start:stop])


class PartOfMovie:
    """Some frames of another movie.

    Parameters
    ----------
    movie : Movie
        The movie.
    start, stop : int
        First frame, and the one after the last.
    """

    def __init__(self, movie: Movie, start: int, stop: int) -> None:
        self._movie = movie
        self._start = start
        self.shape = (stop - start, *movie.shape[1:])
        self.dtype = movie.dtype

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        stop = min(stop, self.shape[0])
        return self._movie.read(self._start + start, self._start + max(start, stop))

    def read_rows(self, start: int, stop: int, top: int, bottom: int) -> AnyArray:
        """Read rows ``top`` to ``bottom`` (excluded) of some frames."""
        stop = min(stop, self.shape[0])
        return read_rows(
            self._movie, self._start + start, self._start + max(start, stop), top, bottom
        )


@dataclass(frozen=True, eq=False)
class Recording:
    """A movie with its frame rate, pixel size and what is known of its origin.

    Attributes
    ----------
    movie : Movie
        The frames, read lazily.
    frame_rate_hz : float or None
        Acquisition rate, in frames per second; None where nobody said it.
    pixel_size_um : float or None
        Side of a pixel in the tissue, in µm; None where nobody said it.
    diameter_um : float or None
        Typical diameter of a soma in µm, where the user gave it.
    diameter_px : float or None
        Typical diameter of a soma in pixels, where known without a pixel size.
    timestamps_s : ndarray of float64, shape (n_frames,), or None
        Time of each frame in seconds, where the frames are not regular.
    name : str
        A short name for people and for file names.
    paths : tuple of str
        Where it came from; empty for arrays.
    notes : tuple of str
        How the file was read, in sentences for the report (such as "grey taken
        from colour").
    """

    movie: Movie
    frame_rate_hz: float | None = None
    pixel_size_um: float | None = None
    diameter_um: float | None = None
    diameter_px: float | None = None
    timestamps_s: TimeArray | None = None
    name: str = "recording"
    paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, value in (
            ("frame_rate_hz", self.frame_rate_hz),
            ("pixel_size_um", self.pixel_size_um),
            ("diameter_um", self.diameter_um),
            ("diameter_px", self.diameter_px),
        ):
            if value is not None and not (np.isfinite(value) and value > 0):
                msg = f"{field} is {value}; it must be a positive number."
                raise RecordingError(msg)
        if self.frame_rate_hz is not None:
            check_frame_rate(self.frame_rate_hz, "The frame rate is given as")
        if self.timestamps_s is not None:
            times = np.asarray(self.timestamps_s)
            if times.shape != (self.n_frames,):
                msg = (
                    f"{times.size} timestamps for {self.n_frames} frames; "
                    "give one timestamp per frame."
                )
                raise RecordingError(msg)
            if not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
                msg = "Timestamps must be finite and rise from frame to frame."
                raise RecordingError(msg)
            if len(times) > 1:
                check_frame_rate(float(1 / np.median(np.diff(times))), "The timestamps say")

    @classmethod
    def from_array(
        cls,
        frames: AnyArray,
        *,
        frame_rate_hz: float | None = None,
        pixel_size_um: float | None = None,
        name: str = "recording",
    ) -> "Recording":
        """Make a recording of an array.

        Parameters
        ----------
        frames : ndarray, shape (n_frames, n_rows, n_columns)
            The movie, in camera counts.
        frame_rate_hz : float, optional
            Acquisition rate, in frames per second.
        pixel_size_um : float, optional
            Side of a pixel, in µm.
        name : str, default: "recording"
            Name for people.

        Returns
        -------
        Recording
            The recording; the array is not copied.

        Raises
        ------
        RecordingError
            If the array does not have three axes.
        """
        frames = np.asanyarray(frames)
        if frames.ndim != 3:
            msg = f"The array has shape {frames.shape}; a movie has the axes (T, Y, X)."
            raise RecordingError(msg)
        return cls(
            ArrayMovie(frames),
            frame_rate_hz=frame_rate_hz,
            pixel_size_um=pixel_size_um,
            name=name,
        )

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.movie.shape[0]

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.movie.shape[1:]

    @property
    def rate_hz(self) -> float:
        """The frame rate in Hz, from the timestamps where there are any.

        Raises
        ------
        MissingFrameRateError
            If neither a frame rate nor timestamps are known.
        """
        if self.timestamps_s is not None and self.n_frames > 1:
            return float(1.0 / np.median(np.diff(self.timestamps_s)))
        if self.frame_rate_hz is None:
            msg = (
                f"The frame rate of {self.name} is neither in the file nor given. "
                "Give it in frames per second with --frame-rate (frame_rate_hz in Python), "
                "or give a file of times with --timestamps."
            )
            raise MissingFrameRateError(msg)
        return self.frame_rate_hz

    @property
    def times_s(self) -> TimeArray:
        """Time of each frame in seconds, from 0."""
        if self.timestamps_s is not None:
            return np.asarray(self.timestamps_s - self.timestamps_s[0], dtype=np.float64)
        return np.arange(self.n_frames, dtype=np.float64) / self.rate_hz

    def blocks(self, n_frames: int) -> Iterator[tuple[int, AnyArray]]:
        """Read the movie from start to end in blocks.

        Parameters
        ----------
        n_frames : int
            Largest number of frames in a block.

        Yields
        ------
        start : int
            Index of the block's first frame.
        block : ndarray, shape (<= n_frames, n_rows, n_columns)
            The frames as acquired.
        """
        for start in range(0, self.n_frames, n_frames):
            yield start, self.movie.read(start, min(start + n_frames, self.n_frames))

    def cut(self, start: int, stop: int) -> "Recording":
        """Give some frames as a recording of its own.

        Parameters
        ----------
        start, stop : int
            First frame, and the one after the last.

        Returns
        -------
        Recording
            The frames, read lazily; everything else is the same.
        """
        times = None if self.timestamps_s is None else self.timestamps_s[start:stop]
        return replace(self, movie=PartOfMovie(self.movie, start, stop), timestamps_s=times)

    def with_metadata(
        self,
        *,
        frame_rate_hz: float | None = None,
        pixel_size_um: float | None = None,
        diameter_um: float | None = None,
        timestamps_s: TimeArray | None = None,
    ) -> "Recording":
        """Return the same recording with what the user says in place of what the file says.

        Parameters
        ----------
        frame_rate_hz, pixel_size_um, diameter_um : float, optional
            New values; None keeps the present ones.
        timestamps_s : ndarray of float64, shape (n_frames,), optional
            Time of each frame; None keeps the present ones.

        Returns
        -------
        Recording
            The recording with the new values.
        """
        given = {
            "frame_rate_hz": frame_rate_hz,
            "pixel_size_um": pixel_size_um,
            "diameter_um": diameter_um,
            "timestamps_s": timestamps_s,
        }
        changes = {key: value for key, value in given.items() if value is not None}
        return replace(self, **changes)  # type: ignore[arg-type]  # keys are field names

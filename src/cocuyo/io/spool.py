"""Frames kept on disk as they arrive, so that a kill loses none of them.

``frames.npy`` is an ordinary ``.npy`` file whose header is completed at the end; meanwhile its size
says how many frames there are. ``frames.times`` has three float64 per frame: the number that the
sender gave it, its time in seconds (NaN where not said), and when it arrived (seconds since 1970).
"""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cocuyo.core import AnyArray, RecordingError, TimeArray
from cocuyo.io.sources import RawMovie

FRAMES_FILE = "frames.npy"
TIMES_FILE = "frames.times"
_HEADER_BYTES = 128
_ENTRY = np.dtype("<f8")
_PER_FRAME = 3


class Spool:
    """A growing file of frames; a movie of those it holds.

    Parameters
    ----------
    folder : Path
        Existing folder for the two files. Frames that lie there already stay, but for one that
        was being written when its program was killed.
    frame_shape : tuple of int
        Rows and columns.
    dtype : dtype
        Type of the values.

    Raises
    ------
    RecordingError
        If the files there hold frames of another size or type.
    """

    def __init__(
        self, folder: Path, frame_shape: tuple[int, int], dtype: "np.dtype[np.generic]"
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.path = folder / FRAMES_FILE
        self._frame_shape = frame_shape
        self._frame_bytes = self.dtype.itemsize * frame_shape[0] * frame_shape[1]
        times = folder / TIMES_FILE
        n_frames = 0
        if self.path.exists() and self.path.stat().st_size >= _HEADER_BYTES:
            self._expect_alike()
            n_frames = (self.path.stat().st_size - _HEADER_BYTES) // self._frame_bytes
            if times.exists():
                n_frames = min(n_frames, times.stat().st_size // (_PER_FRAME * _ENTRY.itemsize))
            else:
                n_frames = 0
        # Unbuffered: what was written is with the system, whatever happens to this process.
        self._frames: BinaryIO = _open_at(self.path, _HEADER_BYTES + n_frames * self._frame_bytes)
        self._times: BinaryIO = _open_at(times, n_frames * _PER_FRAME * _ENTRY.itemsize)
        self._times_path = times
        self.n_frames = n_frames
        self._write_header(0)

    def expect(self, frame_shape: tuple[int, int], dtype: "np.dtype[np.generic]") -> None:
        """Refuse frames of another size or type.

        Parameters
        ----------
        frame_shape : tuple of int
            Rows and columns.
        dtype : dtype
            Type of the values.

        Raises
        ------
        RecordingError
            If these are not the spool's.
        """
        if (frame_shape, np.dtype(dtype)) != (self._frame_shape, self.dtype):
            self._refuse(frame_shape, np.dtype(dtype), self._frame_shape, self.dtype)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns so far."""
        return self.n_frames, *self._frame_shape

    def append(self, frame: AnyArray, *, number: int, time_s: float, arrived_s: float) -> None:
        """Keep one frame.

        Parameters
        ----------
        frame : ndarray, shape (n_rows, n_columns)
            The frame, of the spool's type.
        number : int
            Number that the sender gave it.
        time_s : float
            Its time in seconds; NaN where not said.
        arrived_s : float
            When it arrived, in seconds since 1970.

        Raises
        ------
        OSError
            If the disk is full. The frames before are kept.
        """
        _write_all(self._frames, np.ascontiguousarray(frame, self.dtype).tobytes())
        _write_all(self._times, np.array([number, time_s, arrived_s], _ENTRY).tobytes())
        self.n_frames += 1

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        stop = min(stop, self.n_frames)
        offsets = _HEADER_BYTES + np.arange(start, max(start, stop)) * self._frame_bytes
        return RawMovie(self.path, self.dtype, self._frame_shape, offsets).read(0, len(offsets))

    def entries(self) -> TimeArray:
        """Read number, time and arrival of each frame, as an array (n_frames, 3)."""
        values = np.fromfile(self._times_path, _ENTRY, self.n_frames * _PER_FRAME)
        return np.asarray(values.reshape(-1, _PER_FRAME), np.float64)

    def close(self) -> None:
        """Complete the header, so that the file is an ordinary ``.npy``, and let it go."""
        if not self._frames.closed:
            self._write_header(self.n_frames)
            self._frames.close()
            self._times.close()

    def delete(self) -> None:
        """Remove the files."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._times_path.unlink(missing_ok=True)

    def _write_header(self, n_frames: int) -> None:
        text = (
            f"{{'descr': '{np.lib.format.dtype_to_descr(self.dtype)}', 'fortran_order': False, "
            f"'shape': ({n_frames}, {self._frame_shape[0]}, {self._frame_shape[1]}), }}"
        )
        head = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
        head += text.ljust(_HEADER_BYTES - 11).encode("latin1") + b"\n"
        end = self._frames.tell()
        self._frames.seek(0)
        _write_all(self._frames, head)
        self._frames.seek(max(end, _HEADER_BYTES))

    def _expect_alike(self) -> None:
        with self.path.open("rb") as file:
            try:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            except ValueError as error:
                msg = f"{self.path} is damaged ({error}); move the folder away."
                raise RecordingError(msg) from error
        if shape[1:] != self._frame_shape or dtype != self.dtype:
            self._refuse(self._frame_shape, self.dtype, shape[1:], dtype)

    def _refuse(
        self,
        now: tuple[int, ...],
        now_dtype: "np.dtype[np.generic]",
        before: tuple[int, ...],
        before_dtype: "np.dtype[np.generic]",
    ) -> None:
        msg = (
            f"{self.path} holds frames of {before[0]} x {before[1]} ({before_dtype}); now they "
            f"have {now[0]} x {now[1]} ({now_dtype}). Move the folder away to begin a new one."
        )
        raise RecordingError(msg)


def _open_at(path: Path, end: int) -> BinaryIO:
    """Open a file for writing at a place, and cut what lies behind it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
    file.truncate(min(end, path.stat().st_size))
    file.seek(end)
    return file


def _write_all(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]

"""Traces of long recordings, kept on disk while a run works on them."""

import mmap
import os
import tempfile
import weakref
from pathlib import Path

import numpy as np

from cocuyo.core import AnyArray, Scratch
from cocuyo.io.atomic import reserve

_SMALLEST = 8_000_000
"""Bytes; smaller arrays stay in memory."""
_EVERY = 8
"""Calls of `release` of which one frees: what a block touched lies in the pages that the next one
touches, and each page that comes back takes a microsecond. Blocks are some megabytes."""


class DiskScratch(Scratch):
    """Arrays in files without a name, which go with the process however it ends.

    Parameters
    ----------
    folder : Path
        An existing folder on a disk with room for them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self._calls = 0

    def array(self, shape: tuple[int, int], dtype: type = np.float32) -> AnyArray:
        """Make an array, on disk if it is large.

        Parameters
        ----------
        shape : tuple of int
            ROIs and frames.
        dtype : type, default: float32
            Type of the values.

        Returns
        -------
        ndarray of `dtype`, shape `shape`
            Its values may be anything.

        Raises
        ------
        OSError
            If the disk is full.
        """
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if n_bytes < max(_SMALLEST, 1):  # an empty file cannot be mapped
            return super().array(shape, dtype)
        # Windows renames no folder in which a file is open.
        place = self._folder if os.name == "posix" else None
        with tempfile.TemporaryFile(dir=place) as file:
            # The space is taken now: a disk found full later would end the process by a signal.
            reserve(file.fileno(), n_bytes, self._folder)
            file.truncate(n_bytes)
            values = mmap.mmap(file.fileno(), n_bytes)
        self._maps.add(values)
        return np.frombuffer(values, dtype).reshape(shape)

    def release(self) -> None:
        """Free the memory of what lies on disk, now and then; its values stay."""
        self._calls += 1
        if hasattr(mmap, "MADV_DONTNEED") and self._calls % _EVERY == 0:
            for values in self._maps:
                values.madvise(mmap.MADV_DONTNEED)

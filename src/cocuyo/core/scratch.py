"""Arrays with a value for each ROI and frame: the only ones that grow with a recording."""

import mmap
from collections.abc import Iterator

import numpy as np

from cocuyo.core.arrays import AnyArray

_BLOCK_VALUES = 500_000


class Scratch:
    """Where a run keeps its traces; here in memory.

    `cocuyo.io.DiskScratch` keeps the large ones on disk, so that a long recording needs no more
    memory than a short one. Who goes through them ROI by ROI or block by block calls `release`.
    """

    def array(self, shape: tuple[int, int], dtype: type = np.float32) -> AnyArray:
        """Make an array.

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
        """
        return np.empty(shape, dtype)

    def release(self) -> None:
        """Free the memory of what lies on disk; its values stay."""


MEMORY = Scratch()


def release_pages(values: AnyArray) -> None:
    """Free the memory of an array that lies on disk; its values stay.

    Parameters
    ----------
    values : ndarray
        Any array; nothing happens to one in memory.
    """
    owner: object = values
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def roi_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Part an array (n_rois, n_frames) into blocks of ROIs of some megabytes.

    Parameters
    ----------
    shape : tuple of int
        ROIs and frames.

    Yields
    ------
    slice
        Consecutive ROIs.
    """
    n_rois, n_frames = shape
    step = max(1, _BLOCK_VALUES // max(1, n_frames))
    for start in range(0, n_rois, step):
        yield slice(start, min(start + step, n_rois))

"""Regions: what is scored, be it a result, another program's result or the truth."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from cocuyo.core.arrays import AnyArray, BoolArray, FloatArray, LabelArray, TimeArray
from cocuyo.core.errors import SettingsError


@dataclass(frozen=True, eq=False)
class Periods:
    """Stretches of time of many cells; a spike is one whose first and last time are equal.

    Attributes
    ----------
    roi : ndarray of int32, shape (n_periods,)
        Index of the cell among the regions.
    first_s, last_s : ndarray of float64, shape (n_periods,)
        First and last time of the period, in seconds from the first frame.
    """

    roi: LabelArray
    first_s: TimeArray
    last_s: TimeArray

    def __post_init__(self) -> None:
        shapes = {np.shape(self.roi), np.shape(self.first_s), np.shape(self.last_s)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            msg = (
                "roi, first_s and last_s of periods have the shapes "
                f"{np.shape(self.roi)}, {np.shape(self.first_s)}, {np.shape(self.last_s)}; "
                "give three lists of one length."
            )
            raise SettingsError(msg)
        if np.any(np.asarray(self.last_s) < np.asarray(self.first_s)):
            msg = "A period ends before it begins; last_s must be at least first_s."
            raise SettingsError(msg)

    def __len__(self) -> int:
        return len(self.roi)

    @classmethod
    def from_times(cls, roi: AnyArray, times_s: AnyArray) -> "Periods":
        """Make periods without length, such as spikes.

        Parameters
        ----------
        roi : array of int, shape (n,)
            Index of the cell of each.
        times_s : array of float, shape (n,)
            Time of each, in seconds from the first frame.

        Returns
        -------
        Periods
            One period for each time.
        """
        times = np.asarray(times_s, dtype=np.float64)
        return cls(np.asarray(roi, dtype=np.int32), times, times)


@dataclass(frozen=True, eq=False)
class Regions:
    """Cells of one field of view, as far as a file says what they are.

    Attributes
    ----------
    frame_shape : tuple of int
        Number of rows and columns.
    footprints : scipy.sparse.csr_array, shape (n_rois, n_rows * n_columns), or None
        One row per cell; its non-zero pixels are the cell (who reads a weighted truth cuts
        it at half of its maximum first). None where only a mask is known.
    mask : ndarray of bool, shape (n_rows, n_columns), or None
        Pixels of the functional cells; None takes the union of the footprints that are
        not ignored.
    ignore : ndarray of bool, shape (n_rois,), or None
        In a truth, cells that need not be found: silent or faint. In a prediction, rejected
        candidates. None for none.
    ignored_are : {"silent cells", "rejected candidates"}, default: "silent cells"
        What the ignored ones are; candidates where a result stands for the truth.
    ignore_pixels : ndarray of bool, shape (n_rows, n_columns), or None
        Pixels of which nothing is known; they are not scored.
    traces : ndarray of float, shape (n_rois, n_frames), or None
        ΔF/F of each cell, or anything linear in it.
    raster : ndarray of bool, shape (n_rois, n_frames), or None
        True while a cell is active.
    spikes : Periods or None
        Spikes of each cell, where known.
    events : Periods or None
        Events of each cell, where known; more exact than `raster`.
    frame_rate_hz : float or None
        Frames per second, where known.
    times_s : ndarray of float64, shape (n_frames,), or None
        Time of each frame in seconds from 0, where the frames are not regular.
    name : str
        Name for people.
    """

    frame_shape: tuple[int, int]
    footprints: sparse.csr_array | None = None
    mask: BoolArray | None = None
    ignore: BoolArray | None = None
    ignore_pixels: BoolArray | None = None
    traces: FloatArray | None = None
    raster: BoolArray | None = None
    spikes: Periods | None = None
    events: Periods | None = None
    frame_rate_hz: float | None = None
    times_s: TimeArray | None = None
    name: str = ""
    ignored_are: Literal["silent cells", "rejected candidates"] = "silent cells"

    def __post_init__(self) -> None:
        if self.footprints is None and self.mask is None:
            msg = f"Regions {self.name!r} have neither footprints nor a mask; give one of them."
            raise SettingsError(msg)
        n_pixels = self.frame_shape[0] * self.frame_shape[1]
        if self.footprints is not None and self.footprints.shape[1] != n_pixels:
            msg = (
                f"Footprints have {self.footprints.shape[1]} pixels for a frame of "
                f"{self.frame_shape[0]} x {self.frame_shape[1]}; give one column per pixel."
            )
            raise SettingsError(msg)
        for field, image in (("mask", self.mask), ("ignore_pixels", self.ignore_pixels)):
            if image is not None and image.shape != self.frame_shape:
                msg = (
                    f"{field} has shape {image.shape}; the frame has {self.frame_shape} "
                    "(rows, columns). Give an image of the frame's shape."
                )
                raise SettingsError(msg)
        for field, rows in (
            ("ignore", self.ignore),
            ("traces", self.traces),
            ("raster", self.raster),
        ):
            if rows is None:
                continue
            if self.footprints is None:
                msg = f"{field} is given without footprints; it needs to know the cells."
                raise SettingsError(msg)
            if len(rows) != self.n_rois:
                msg = (
                    f"{field} has {len(rows)} rows for {self.n_rois} cells; give one row per cell."
                )
                raise SettingsError(msg)

    @property
    def n_rois(self) -> int:
        """Number of cells, ignored ones included; 0 where only a mask is known."""
        return 0 if self.footprints is None else int(self.footprints.shape[0])

    @property
    def ignored(self) -> BoolArray:
        """Whether each cell is ignored, shape (n_rois,)."""
        if self.ignore is None:
            return np.zeros(self.n_rois, np.bool_)
        return np.asarray(self.ignore, dtype=np.bool_)

    def union(self) -> BoolArray:
        """Pixels of the functional cells.

        Returns
        -------
        ndarray of bool, shape (n_rows, n_columns)
            `mask` where it is given, else the union of the footprints not ignored.
        """
        if self.mask is not None:
            return np.asarray(self.mask, dtype=np.bool_)
        return self.union_of(~self.ignored)

    def union_of(self, rows: BoolArray) -> BoolArray:
        """Pixels of some of the cells.

        Parameters
        ----------
        rows : ndarray of bool, shape (n_rois,)
            The cells to draw.

        Returns
        -------
        ndarray of bool, shape (n_rows, n_columns)
            Their union; empty where only a mask is known.
        """
        flat = np.zeros(self.frame_shape[0] * self.frame_shape[1], np.bool_)
        if self.footprints is not None:
            chosen = self.footprints[np.flatnonzero(rows)]
            flat[chosen.indices[chosen.data != 0]] = True
        return flat.reshape(self.frame_shape)

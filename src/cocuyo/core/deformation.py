"""How tissue deforms: displacements on a coarse grid, between which all is interpolated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cocuyo.core.arrays import FloatArray, LabelArray


@dataclass(frozen=True, eq=False)
class Deformation:
    """Displacements that differ over the frame and change slowly, on top of the shifts.

    A point (y, x) of the reference lies at ``(y, x) + shift + displacement`` in a frame. The
    displacement is interpolated between nodes (cubic, Catmull and Rom; held beyond the outermost
    ones) and between knots in time (linear; held before the first and after the last).

    Attributes
    ----------
    frames : ndarray of int32, shape (n_knots,)
        Frames of the knots, rising.
    grid : ndarray of float32, shape (n_knots, n_y, n_x, 2)
        Displacement of each node at each knot, (dy, dx) in pixels.
    y_px, x_px : ndarray of float32, shape (n_y,) and (n_x,)
        Where the nodes lie in the reference, evenly spaced.
    """

    frames: LabelArray
    grid: FloatArray
    y_px: FloatArray
    x_px: FloatArray

    def at(self, frames: LabelArray) -> FloatArray:
        """Displacement of the nodes in some frames.

        Parameters
        ----------
        frames : ndarray of int, shape (n,)
            The frames.

        Returns
        -------
        ndarray of float32, shape (n, n_y, n_x, 2)
            (dy, dx) in pixels.
        """
        wanted, known = np.asarray(frames, np.float64), np.asarray(self.frames, np.float64)
        after = np.clip(np.searchsorted(known, wanted), 0, len(known) - 1)
        before = np.clip(np.searchsorted(known, wanted, side="right") - 1, 0, len(known) - 1)
        length = known[after] - known[before]
        share = np.where(length > 0, (wanted - known[before]) / np.where(length > 0, length, 1), 0)
        share = np.clip(share, 0, 1).astype(np.float32)[:, None, None, None]
        return np.asarray((1 - share) * self.grid[before] + share * self.grid[after], np.float32)

    def fields(self, frames: LabelArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Displacement along rows and columns of a lattice, in some frames.

        Parameters
        ----------
        frames : ndarray of int, shape (n,)
            The frames.
        y, x : ndarray of float32, shape (n_rows,) and (n_columns,)
            Rows and columns in the reference.

        Returns
        -------
        ndarray of float32, shape (n, 2, n_rows, n_columns)
            dy and dx in pixels.
        """
        down, across = spread(self.y_px, y), spread(self.x_px, x)
        return np.asarray(down @ self.at(frames).transpose(0, 3, 1, 2) @ across.T, np.float32)

    def displacements(self, frames: LabelArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Displacement of points in some frames.

        Parameters
        ----------
        frames : ndarray of int, shape (n_frames,)
            The frames.
        y, x : ndarray of float32, shape (n,)
            Where the points lie in the reference.

        Returns
        -------
        ndarray of float32, shape (n, n_frames, 2)
            (dy, dx) in pixels.
        """
        down, across = spread(self.y_px, y), spread(self.x_px, x)
        found = np.einsum("pi,tijc,pj->ptc", down, self.at(frames), across, optimize=True)
        return np.asarray(found, np.float32)

    def cut(self, start: int, stop: int) -> "Deformation":
        """Give some consecutive frames, counted from 0.

        Parameters
        ----------
        start, stop : int
            First frame, and the one after the last.

        Returns
        -------
        Deformation
            With the knots around these frames, so that each moves to the last bit as before; the
            outermost may lie beyond them.
        """
        n = len(self.frames)
        first = max(int(np.searchsorted(self.frames, start, side="right")) - 1, 0)
        last = min(int(np.searchsorted(self.frames, stop - 1)), n - 1)
        kept = slice(first, max(first, last) + 1)
        frames = (self.frames[kept] - start).astype(np.int32)
        return replace(self, frames=frames, grid=self.grid[kept])

    def within(self, n_frames: int) -> "Deformation":
        """Give the first frames with knots at both ends, so that nothing beyond counts.

        Parameters
        ----------
        n_frames : int
            How many; at least one.

        Returns
        -------
        Deformation
            Of these frames.
        """
        last = n_frames - 1
        inner = (self.frames > 0) & (self.frames < last)
        ends = np.unique([0, last]).astype(np.int32)
        at_ends = self.at(ends)
        frames = np.concatenate([ends[:1], self.frames[inner], ends[1:]])
        grid = np.concatenate([at_ends[:1], self.grid[inner], at_ends[1:]])
        return replace(self, frames=frames.astype(np.int32), grid=grid)

    def window(self, row: int, column: int) -> "Deformation":
        """Give it in the coordinates of a window of the frame.

        Parameters
        ----------
        row, column : int
            First row and column of the window.

        Returns
        -------
        Deformation
            The same displacements.
        """
        return replace(self, y_px=self.y_px - np.float32(row), x_px=self.x_px - np.float32(column))

    def moved(self, offset_px: tuple[float, float]) -> "Deformation":
        """Give it in the coordinates of another reference, on the same nodes.

        Parameters
        ----------
        offset_px : tuple of float
            Where the origin of the other lies in this one, (dy, dx) in pixels.

        Returns
        -------
        Deformation
            Displacement of the same tissue.
        """
        down = spread(self.y_px, self.y_px + np.float32(offset_px[0]))
        across = spread(self.x_px, self.x_px + np.float32(offset_px[1]))
        there = down @ self.grid.transpose(0, 3, 1, 2) @ across.T
        return replace(self, grid=np.asarray(there.transpose(0, 2, 3, 1), np.float32))


def spread(nodes: FloatArray, places: FloatArray) -> FloatArray:
    """Weights that interpolate between evenly spaced nodes along one axis.

    Parameters
    ----------
    nodes : ndarray of float32, shape (n,)
        Where the nodes lie.
    places : ndarray of float32, shape (m,)
        Where values are wanted; beyond the outermost nodes theirs are taken.

    Returns
    -------
    ndarray of float32, shape (m, n)
        Weights of the nodes; each row sums to 1. Cubic (Catmull and Rom 1974), whose slope at the
        outermost nodes is that of the line to the next.
    """
    n = len(nodes)
    if n == 1:
        return np.ones((len(places), 1), np.float32)
    step = (float(nodes[-1]) - float(nodes[0])) / (n - 1)
    u = np.clip((np.asarray(places, np.float64) - float(nodes[0])) / step, 0, n - 1)
    left = np.minimum(np.floor(u).astype(int), n - 2)
    f = (u - left)[:, None]
    taps = np.concatenate(
        [
            0.5 * (-f + 2 * f**2 - f**3),
            0.5 * (2 - 5 * f**2 + 3 * f**3),
            0.5 * (f + 4 * f**2 - 3 * f**3),
            0.5 * (-(f**2) + f**3),
        ],
        axis=1,
    )
    # A node beyond each end, on the line through the last two.
    padded = np.zeros((len(u), n + 2))
    np.put_along_axis(padded, left[:, None] + np.arange(4), taps, axis=1)
    weights = padded[:, 1:-1].copy()
    weights[:, 0] += 2 * padded[:, 0]
    weights[:, 1] -= padded[:, 0]
    weights[:, -1] += 2 * padded[:, -1]
    weights[:, -2] -= padded[:, -1]
    return weights.astype(np.float32)


def join_deformations(
    parts: Sequence[Deformation | None], n_frames: Sequence[int]
) -> Deformation | None:
    """Join what consecutive stretches of frames have.

    Parameters
    ----------
    parts : sequence of Deformation or None
        In order, each with frames from 0; None where a stretch has none.
    n_frames : sequence of int
        Length of each.

    Returns
    -------
    Deformation or None
        Of all frames, with knots at both ends of each stretch so that nothing crosses a border;
        None where no stretch has any.

    Raises
    ------
    ValueError
        If their nodes differ.
    """
    like = next((part for part in parts if part is not None), None)
    if like is None:
        return None
    frames: list[Any] = []
    grids: list[Any] = []
    start = 0
    for part, length in zip(parts, n_frames, strict=True):
        if length == 0:
            continue
        own = part
        if own is None:
            none = np.zeros((1, *like.grid.shape[1:]), np.float32)
            own = replace(like, frames=np.zeros(1, np.int32), grid=none)
        if not (np.array_equal(own.y_px, like.y_px) and np.array_equal(own.x_px, like.x_px)):
            msg = "Deformations of different nodes cannot be joined."
            raise ValueError(msg)
        own = own.within(length)
        frames.append(own.frames + start)
        grids.append(own.grid)
        start += length
    return replace(like, frames=np.concatenate(frames).astype(np.int32), grid=np.concatenate(grids))

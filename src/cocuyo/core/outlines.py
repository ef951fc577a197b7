"""Outlines of regions along the edges of their pixels, and back."""

import numpy as np

from cocuyo.core.arrays import AnyArray, BoolArray, LabelArray


def outline(mask: BoolArray) -> list[LabelArray]:
    """Trace the edges of a mask along the corners of its pixels.

    Pixel (y, x) spans x to x + 1 and y to y + 1, as in area ROIs of ImageJ.
    Filling the rings by the even-odd rule gives exactly the mask. Pixels that touch at a
    corner share a ring; outer rings run clockwise on the screen, holes the other way.

    Parameters
    ----------
    mask : ndarray of bool, shape (n_rows, n_columns)
        The region.

    Returns
    -------
    list of ndarray of int32, shape (n_corners, 2)
        Closed rings of (x, y), without the repeated first point.

    Examples
    --------
    >>> import numpy as np
    >>> outline(np.array([[True, True]]))[0].tolist()
    [[0, 0], [2, 0], [2, 1], [0, 1]]
    """
    padded = np.pad(np.asarray(mask, dtype=np.bool_), 1)
    inside = padded[1:-1, 1:-1]
    # Each side of a pixel that borders the outside, with the inside on the right-hand side.
    starts: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for outside, start, step in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    ):
        y, x = np.nonzero(inside & ~outside)
        for corner in zip((x + start[0]).tolist(), (y + start[1]).tolist(), strict=True):
            starts.setdefault(corner, []).append(step)
    rings: list[LabelArray] = []
    while starts:
        corner = min(starts, key=lambda point: (point[1], point[0]))
        rings.append(_follow(starts, corner))
    return rings


def _follow(
    starts: dict[tuple[int, int], list[tuple[int, int]]], first: tuple[int, int]
) -> LabelArray:
    """Take one ring out of the sides, from its upper left corner."""
    points: list[tuple[int, int]] = []
    corner, previous = first, (0, 0)
    while corner in starts:
        steps = starts[corner]
        # Where two pixels touch at a corner, the left turn joins them in one ring.
        left = (previous[1], -previous[0])
        step = left if left in steps else steps[0]
        steps.remove(step)
        if not steps:
            del starts[corner]
        if step != previous:
            points.append(corner)
        corner, previous = (corner[0] + step[0], corner[1] + step[1]), step
    return np.array(points, np.int32)


def fill(rings: list[AnyArray], frame_shape: tuple[int, int]) -> BoolArray:
    """Fill rings by the even-odd rule; a pixel is inside where its centre is.

    Parameters
    ----------
    rings : list of ndarray, each of shape (n_corners, 2)
        Closed rings of (x, y) in corner coordinates, as `outline` gives them; they may be
        fractions of a pixel and leave the frame.
    frame_shape : tuple of int
        Number of rows and columns.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        The pixels inside.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.array([[False, True, True], [False, True, False]])
    >>> bool((fill(outline(mask), mask.shape) == mask).all())
    True
    """
    rows, columns = frame_shape
    mask = np.zeros(frame_shape, np.bool_)
    if not rings:
        return mask
    a = np.vstack(rings)
    b = np.vstack([np.roll(ring, -1, axis=0) for ring in rings])
    first = max(int(np.floor(a[:, 1].min() - 0.5)), 0)
    last = min(int(np.ceil(a[:, 1].max())), rows)
    for row in range(first, last):
        y = row + 0.5
        cut = (a[:, 1] <= y) != (b[:, 1] <= y)
        x = a[cut, 0] + (y - a[cut, 1]) / (b[cut, 1] - a[cut, 1]) * (b[cut, 0] - a[cut, 0])
        # The number of crossings left of each pixel's centre.
        edges = np.clip(np.ceil(np.sort(x) - 0.5), 0, columns).astype(np.intp)
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            mask[row, start:stop] ^= True
    return mask

"""Moving an image as a whole, and finding what does not move with it."""

import cv2
import numpy as np

from cocuyo.core import FloatArray

# Pixels beyond this many robust standard deviations of what stands still lose their weight.
_STANDING_SD = 3.0
_MAD_TO_SD = 1.4826
# Farther, pixels are moved before they are interpolated: from about 50 taps on OpenCV filters by a
# Fourier transform.
_LONGEST_FILTER = 32


def translate(
    image: FloatArray, dy: float, dx: float, *, cubic: bool = False, out: FloatArray | None = None
) -> FloatArray:
    """Return ``image(y + dy, x + dx)``, with the border repeated outside.

    A whole frame moves by one shift, so interpolation is a filter of two (linear) or four
    (Catmull-Rom) taps along each axis; `cv2.warpAffine` of OpenCV 4 rounds to 1/32 px.

    Parameters
    ----------
    image : ndarray of float32, shape (n_rows, n_columns)
        The image, finite.
    dy, dx : float
        The shift, in pixels.
    cubic : bool, default: False
        Cubic or linear interpolation.
    out : ndarray of float32, shape (n_rows, n_columns), optional
        Where the result is written.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        The image, moved.
    """
    n_rows, n_columns = image.shape
    # Beyond a frame's size all is border; the limit keeps wild shifts within whole numbers.
    dy = min(max(dy, -2.0 * n_rows), 2.0 * n_rows)
    dx = min(max(dx, -2.0 * n_columns), 2.0 * n_columns)
    row, column = int(np.floor(dy)), int(np.floor(dx))
    if max(abs(row), abs(column)) > _LONGEST_FILTER:
        return _translate_far(image, dy, dx, cubic=cubic, out=out)
    # Two filters of one axis: OpenCV's separable one takes twice the time for four taps.
    taps, anchor = _taps(dy - row, row, cubic=cubic)
    part = cv2.filter2D(
        image, cv2.CV_32F, taps[:, None], anchor=(0, anchor), borderType=cv2.BORDER_REPLICATE
    )
    taps, anchor = _taps(dx - column, column, cubic=cubic)
    moved = cv2.filter2D(
        part, cv2.CV_32F, taps[None], dst=out, anchor=(anchor, 0), borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, dtype=np.float32)


def _translate_far(
    image: FloatArray, dy: float, dx: float, *, cubic: bool, out: FloatArray | None
) -> FloatArray:
    """Move by whole pixels first, with what interpolation needs around them."""
    rows, columns = (
        np.clip(np.arange(-1, size + 2) + int(np.floor(move)), 0, size - 1)
        for size, move in zip(image.shape, (dy, dx), strict=True)
    )
    # What is left of the shift is below 1: this goes no further.
    moved = translate(image[rows[:, None], columns], dy % 1, dx % 1, cubic=cubic)[1:-2, 1:-2]
    if out is None:
        return np.ascontiguousarray(moved)
    out[:] = moved
    return out


def _taps(fraction: float, whole: int, *, cubic: bool) -> tuple[FloatArray, int]:
    """Filter that moves by ``whole + fraction`` pixels along an axis, and its anchor."""
    f = fraction
    weights = (
        (
            0.5 * (-f + 2 * f**2 - f**3),
            0.5 * (2 - 5 * f**2 + 3 * f**3),
            0.5 * (f + 4 * f**2 - 3 * f**3),
            0.5 * (-(f**2) + f**3),
        )
        if cubic
        else (1 - f, f)
    )
    first = whole - 1 if cubic else whole
    start = min(first, 0)
    taps = np.zeros(max(first + len(weights), 1) - start, np.float32)
    taps[first - start : first - start + len(weights)] = weights
    return taps, -start


def trust(standing: FloatArray) -> FloatArray:
    """Weigh down the pixels where something stands still that does not move with the tissue.

    Parameters
    ----------
    standing : ndarray of float32, shape (n_rows, n_columns)
        Mean over time of what the template does not explain, where it lies on the sensor.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        How far each pixel counts, in [0, 1].
    """
    size = np.abs(cv2.blur(standing, (3, 3)))
    scale = _STANDING_SD * _MAD_TO_SD * float(np.median(size))
    if not scale > 0:
        return np.ones(standing.shape, np.float32)
    # Beyond a million the trust is 0 anyway, and the fourth power would overflow.
    ratio = np.minimum(size / np.float32(scale), np.float32(1e6))
    return np.asarray(1.0 / (1.0 + ratio**4), dtype=np.float32)

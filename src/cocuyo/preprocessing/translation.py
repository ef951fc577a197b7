"""Moving an image as a whole, and finding what does not move with it."""

import cv2
import numpy as np

from cocuyo.core import AnyArray, FloatArray

# Pixels beyond this many robust standard deviations of what stands still lose their weight.
_STANDING_SD = 3.0
_MAD_TO_SD = 1.4826


def translate(image: FloatArray, dy: float, dx: float, *, cubic: bool = False) -> FloatArray:
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

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        The image, moved.
    """
    n_rows, n_columns = image.shape
    # Beyond a frame's size all is border; the limit keeps wild shifts from wild allocations.
    dy = min(max(dy, -float(n_rows)), float(n_rows))
    dx = min(max(dx, -float(n_columns)), float(n_columns))
    row, column = int(np.floor(dy)), int(np.floor(dx))
    before, after = (1, 2) if cubic else (0, 1)
    rows = (row - before, row + n_rows + after)
    columns = (column - before, column + n_columns + after)
    y0, y1 = min(max(rows[0], 0), n_rows - 1), max(min(rows[1], n_rows), 1)
    x0, x1 = min(max(columns[0], 0), n_columns - 1), max(min(columns[1], n_columns), 1)
    padded = cv2.copyMakeBorder(
        image[y0:y1, x0:x1],
        y0 - rows[0] if rows[0] < 0 else 0,
        rows[1] - y1 if rows[1] > n_rows else 0,
        x0 - columns[0] if columns[0] < 0 else 0,
        columns[1] - x1 if columns[1] > n_columns else 0,
        cv2.BORDER_REPLICATE,
    )
    padded = _fit(padded, n_rows + before + after, n_columns + before + after)
    taps_y, taps_x = _taps(dy - row, cubic=cubic), _taps(dx - column, cubic=cubic)
    filtered = cv2.sepFilter2D(padded, cv2.CV_32F, taps_x, taps_y, anchor=(0, 0))
    return np.asarray(filtered[:n_rows, :n_columns], dtype=np.float32)


def _fit(padded: AnyArray, n_rows: int, n_columns: int) -> AnyArray:
    """Give a padded frame exactly this size (a shift by a whole frame leaves one row)."""
    if padded.shape == (n_rows, n_columns):
        return padded
    return np.pad(
        padded,
        (
            (0, max(0, n_rows - padded.shape[0])),
            (0, max(0, n_columns - padded.shape[1])),
        ),
        mode="edge",
    )[:n_rows, :n_columns]


def _taps(fraction: float, *, cubic: bool) -> FloatArray:
    f = fraction
    if not cubic:
        return np.array([1 - f, f], np.float32)
    return np.array(
        [
            0.5 * (-f + 2 * f**2 - f**3),
            0.5 * (2 - 5 * f**2 + 3 * f**3),
            0.5 * (f + 4 * f**2 - 3 * f**3),
            0.5 * (-(f**2) + f**3),
        ],
        np.float32,
    )


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

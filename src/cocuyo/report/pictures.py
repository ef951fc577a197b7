"""Grey pictures of the frame, small enough to lie in the page."""

import base64

import cv2
import numpy as np

from cocuyo.core import BoolArray, FloatArray

# Longest side in the page. A figure is about 600 CSS pixels wide.
MAX_SIDE_PX = 640
# A PNG up to this size is kept (it is exact); a larger one becomes a JPEG.
MAX_PNG_BYTES = 120_000
_JPEG_QUALITY = 90


def grey_picture(image: FloatArray, *, valid: BoolArray | None = None) -> str:
    """Encode an image as a data URI, between its 1st and 99.7th percentile.

    Parameters
    ----------
    image : ndarray of float32, shape (n_rows, n_columns)
        Any values; those that are not finite are drawn black.
    valid : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels that set the contrast; None or none for all finite ones.

    Returns
    -------
    str
        A ``data:`` URI of a PNG or JPEG of at most `MAX_SIDE_PX` on its longer side.
    """
    values = np.asarray(image, dtype=np.float32)
    finite = np.isfinite(values)
    shown = finite if valid is None or not (finite & valid).any() else finite & valid
    low, high = np.percentile(values[shown], (1, 99.7)) if shown.any() else (0.0, 1.0)
    span = max(float(high - low), 1e-12)
    clean = np.where(finite, values, low)
    grey = np.clip((clean - low) / span * 255, 0, 255).astype(np.float32)
    longest = max(grey.shape)
    if longest > MAX_SIDE_PX:
        rows, columns = (max(1, round(n * MAX_SIDE_PX / longest)) for n in grey.shape)
        grey = np.asarray(cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA))
    bytes_image = np.round(grey).astype(np.uint8)
    _, data = cv2.imencode(".png", bytes_image, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    kind = "png"
    if data.nbytes > MAX_PNG_BYTES:
        _, data = cv2.imencode(".jpg", bytes_image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"

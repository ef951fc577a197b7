"""Local contrast equalisation and blur of the frames that the spatial network sees."""

from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import Field

from cocuyo.core import AnyArray, FloatArray, FrozenConfig


class EqualisationConfig(FrozenConfig):
    """Local equalisation and Gaussian blur, frame by frame (paper, section 3)."""

    tile_diameters: float = Field(
        default=6.0,
        gt=0,
        description="Side of an equalisation tile, in soma diameters. Smaller evens out steeper "
        "illumination and makes noise in empty regions as strong as cells.",
    )
    clip_limit: float = Field(
        default=3.0,
        gt=0,
        description="Largest slope of the equalisation, relative to an even histogram. Larger "
        "raises fainter cells and more noise.",
    )
    blur_diameters: float = Field(
        default=0.1,
        ge=0,
        description="Sigma of the Gaussian blur, in soma diameters. Larger suppresses more noise "
        "and blurs small cells.",
    )
    low_percentile: float = Field(
        default=0.5, ge=0, lt=50, description="Percentile of the first frames shown as black."
    )
    high_percentile: float = Field(
        default=99.9, gt=50, le=100, description="Percentile of the first frames shown as white."
    )


@dataclass(frozen=True)
class GreyRange:
    """Counts that are shown as black and as white, fixed for a whole recording.

    Attributes
    ----------
    low, high : float
        Camera counts.
    """

    low: float
    high: float


def measure_grey_range(
    frames: AnyArray, *, config: EqualisationConfig = EqualisationConfig()
) -> GreyRange:
    """Choose the counts shown as black and white from the first frames.

    One range serves the whole recording: a range per frame would make brightness
    flicker whenever a cell or the lamp changes.

    Parameters
    ----------
    frames : ndarray, shape (n_frames, n_rows, n_columns)
        First frames of the recording, in camera counts; non-finite values are left out.
    config : EqualisationConfig
        Percentiles.

    Returns
    -------
    GreyRange
        The range, widened upwards by half so that transients do not saturate; at least
        one count wide.
    """
    every = np.asarray(frames).reshape(-1)
    values = np.asarray(every[:: max(1, every.size // 500_000)], np.float32)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return GreyRange(0.0, 1.0)
    low, high = np.percentile(values, [config.low_percentile, config.high_percentile])
    span = max(float(high - low), 1e-6 * max(abs(float(high)), 1.0))
    return GreyRange(float(low) - 0.1 * span, float(high) + 0.5 * span)


def equalise(
    frame: FloatArray,
    grey_range: GreyRange,
    *,
    diameter_px: float,
    config: EqualisationConfig = EqualisationConfig(),
) -> FloatArray:
    """Equalise a frame locally and blur it.

    Contrast-limited adaptive histogram equalisation on 8-bit grey, then a Gaussian
    (paper, section 3: "local equalization and Gaussian blur"). The result is for the
    spatial network only: it is not linear in the counts, so no trace is taken from it.

    Parameters
    ----------
    frame : ndarray of float32, shape (n_rows, n_columns)
        Motion-corrected frame, or mean of frames, in camera counts.
    grey_range : GreyRange
        Counts shown as black and white.
    diameter_px : float
        Typical soma diameter in pixels of this frame.
    config : EqualisationConfig
        Tile, clip and blur.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        Grey values in [0, 1].
    """
    scale = 255.0 / (grey_range.high - grey_range.low)
    grey = np.clip((frame - np.float32(grey_range.low)) * np.float32(scale), 0, 255)
    grey = np.nan_to_num(grey, nan=0.0).astype(np.uint8)
    tile = max(config.tile_diameters * diameter_px, 8.0)
    tiles = (
        max(1, round(grey.shape[1] / tile)),
        max(1, round(grey.shape[0] / tile)),
    )
    even = cv2.createCLAHE(clipLimit=config.clip_limit, tileGridSize=tiles).apply(grey)
    image = even.astype(np.float32) / np.float32(255.0)
    sigma = config.blur_diameters * diameter_px
    if sigma > 0:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    return np.asarray(image, np.float32)

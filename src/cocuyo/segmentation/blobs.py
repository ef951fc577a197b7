"""Blobs by a difference of Gaussians: the detector behind the SRNAME-like preset."""

import cv2
import numpy as np
from pydantic import Field

from cocuyo.core import BoolArray, FloatArray, FrozenConfig


class BlobConfig(FrozenConfig):
    """Difference-of-Gaussians blob detection in one frame, and its accumulation.

    The paper names the detector of the earlier system (its reference 24) and gives no
    settings: these are ours.
    """

    sigma_ratio: float = Field(
        default=1.6,
        gt=1,
        description="Wide over narrow sigma; 1.6 approximates the Laplacian of a Gaussian "
        "(Marr and Hildreth 1980).",
    )
    threshold_sd: float = Field(
        default=2.5,
        gt=0,
        description="A blob stands out from the frame's DoG values by this many robust standard "
        "deviations. Higher misses faint cells.",
    )
    min_share: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="Share of the frames in which a pixel must belong to a blob to enter the "
        "recording's mask.",
    )
    max_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Largest such share; below 1 leaves out what never changes.",
    )


def detect_blobs(
    image: FloatArray, *, diameter_px: float, config: BlobConfig = BlobConfig()
) -> BoolArray:
    """Find bright blobs of about a soma's size in one frame.

    Parameters
    ----------
    image : ndarray of float32, shape (n_rows, n_columns)
        Preprocessed (equalised, blurred) frame.
    diameter_px : float
        Typical soma diameter in pixels. A disc answers most at a sigma of
        diameter / (2 sqrt 2) (Lindeberg 1998).
    config : BlobConfig
        Ratio of the sigmas and threshold.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        Pixels of blobs; all False in a constant frame.
    """
    # The two Gaussians lie around the sigma that fits a soma.
    middle = diameter_px / (2 * np.sqrt(2))
    narrow = middle / np.sqrt(config.sigma_ratio)
    wide = middle * np.sqrt(config.sigma_ratio)
    response = cv2.GaussianBlur(image, (0, 0), narrow) - cv2.GaussianBlur(image, (0, 0), wide)
    centre = np.median(response)
    spread = 1.4826 * np.median(np.abs(response - centre))
    if spread <= 0:
        return np.zeros(image.shape, np.bool_)
    return np.asarray(response > centre + config.threshold_sd * spread, np.bool_)

"""The typical diameter of a soma, measured where nobody gave a pixel size."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import Field

from cocuyo.core import AnyArray, BoolArray, FloatArray, FrozenConfig, SettingsError

# A disc of diameter d answers the normalised Laplacian of Gaussian most at d = 2 sqrt(2) sigma
# (Lindeberg 1998), a Gaussian spot has its half height at d = 2 sqrt(2 ln 2) sigma. A soma
# behind the optics' blur lies between: the geometric mean, 2.58, is within 10 % of either.
_DIAMETER_PER_SIGMA = 2.58
# Scales from one to the next, as a factor.
_SCALE_STEP = 2.0 ** (1.0 / 4.0)
# Fewer blobs than this say little about what is typical.
_ENOUGH_BLOBS = 6
# Both pictures are smoothed by this before blobs are looked for.
_SMOOTHING_PX = 1.0
_AROUND = np.ones((3, 3), np.uint8)


class ScaleConfig(FrozenConfig):
    """Settings of the measurement of the soma diameter."""

    smallest_sigma_px: float = Field(
        default=1.2,
        gt=0,
        description="Smallest scale looked at, px; the smallest diameter is 2.6 times that. "
        "Smaller finds noise.",
    )
    largest_sigma_px: float = Field(
        default=16.0,
        gt=0,
        description="Largest scale looked at, px; limited to an eighth of the frame's shorter "
        "side. Larger finds haze.",
    )
    min_noise_sd: float = Field(
        default=6.0,
        gt=0,
        description="Height a blob must have, in standard deviations of the noise at its scale.",
    )
    n_blobs: int = Field(
        default=60,
        ge=1,
        description="Strongest blobs looked at in each picture. More are steadier and weaker.",
    )
    default_diameter_px: float = Field(
        default=10.0,
        gt=0,
        description="Diameter taken where no blob is found, px (10 to 15 µm at 1 to 1.5 µm/px).",
    )


@dataclass(frozen=True, eq=False)
class DiameterMeasurement:
    """Typical soma diameter of a recording.

    Attributes
    ----------
    diameter_px : float
        The diameter, in pixels.
    n_blobs : int
        Number of blobs that it was measured on; 0 where it is the default.
    reliable : bool
        Whether there were enough blobs, of sizes that agree within a factor of 1.6.
    blobs : ndarray of float32, shape (n_blobs, 3)
        Centre and diameter of each blob, (y, x, diameter) in pixels, to be looked at.
    """

    diameter_px: float
    n_blobs: int
    reliable: bool
    blobs: FloatArray


def measure_diameter(
    frames: AnyArray | Iterable[AnyArray],
    *,
    config: ScaleConfig | None = None,
    exclude: BoolArray | None = None,
) -> DiameterMeasurement:
    """Measure the typical diameter of the somata of a recording.

    Bright blobs are looked for over a band of scales (maxima of the normalised Laplacian of
    Gaussian in space and scale, Lindeberg 1998) in two pictures: the mean, relative to its
    surroundings, and the standard deviation over time, which shows what is active. The
    diameter is the weighted median over the strongest blobs, weighted by their strength.

    Parameters
    ----------
    frames : ndarray, shape (n_frames, n_rows, n_columns) or (n_rows, n_columns)
        Sample frames, spread over the recording, or one picture; or an iterable of frames of one
        shape. Motion corrected where the motion is not much smaller than a soma. May hold NaN.
    config : ScaleConfig, optional
        Settings; the default ones if not given.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels not to look at.

    Returns
    -------
    DiameterMeasurement
        The diameter; ``config.default_diameter_px`` and not reliable where nothing is found.

    Raises
    ------
    SettingsError
        If the frames have neither two nor three axes, or the mask another shape.
    """
    config = config or ScaleConfig()
    if isinstance(frames, np.ndarray):
        if frames.ndim not in (2, 3) or 0 in frames.shape:
            msg = (
                f"The sample frames have shape {frames.shape}; the diameter is measured on "
                "(T, Y, X) or (Y, X). Give some frames of the recording."
            )
            raise SettingsError(msg)
        frames = frames[None] if frames.ndim == 2 else frames
    pictures = _pictures(frames)
    if exclude is not None and pictures and exclude.shape != pictures[0].shape:
        msg = (
            f"The mask of excluded pixels has shape {exclude.shape} and the frames "
            f"{pictures[0].shape}; give a mask of the frames' size."
        )
        raise SettingsError(msg)
    found = [
        _blobs(picture, _scales(min(picture.shape), config), config, exclude)
        for picture in pictures
    ]
    blobs = np.concatenate(found) if found else np.zeros((0, 4))
    if len(blobs) == 0:
        return DiameterMeasurement(
            config.default_diameter_px, 0, False, np.zeros((0, 3), np.float32)
        )
    sizes, strengths = blobs[:, 2], blobs[:, 3]
    low, middle, high = (_weighted_quantile(sizes, strengths, q) for q in (0.25, 0.5, 0.75))
    return DiameterMeasurement(
        diameter_px=float(middle),
        n_blobs=len(blobs),
        reliable=len(blobs) >= _ENOUGH_BLOBS and bool(high <= 1.6 * low),
        blobs=blobs[:, :3].astype(np.float32),
    )


def _scales(shorter_side: int, config: ScaleConfig) -> list[float]:
    largest = min(config.largest_sigma_px, shorter_side / 8)
    sigmas = [config.smallest_sigma_px]
    while sigmas[-1] * _SCALE_STEP <= largest:
        sigmas.append(sigmas[-1] * _SCALE_STEP)
    return sigmas


def _pictures(movie: Iterable[AnyArray]) -> list[FloatArray]:
    """Mean, and standard deviation over time beyond the noise, as pictures of contrast."""
    total, squares, changes = np.zeros((3, 1, 1))
    n_good = 0
    for frame in movie:
        image = frame.astype(np.float32)
        finite = np.isfinite(image)
        if not finite.any():
            continue
        image = np.where(finite, image, np.float32(np.median(image[finite])))
        if n_good == 0:
            total, squares, changes = np.zeros((3, *image.shape))
        n_good += 1
        total += image
        # Of the whole field's brightness only the tissue's own changes are activity.
        level = float(np.median(image[::3, ::3]))
        smooth = np.asarray(
            cv2.GaussianBlur(image - level, (0, 0), _SMOOTHING_PX), dtype=np.float32
        )
        squares += smooth.astype(np.float64) ** 2
        changes += smooth
    if n_good == 0:
        return []
    mean = cv2.GaussianBlur((total / n_good).astype(np.float32), (0, 0), _SMOOTHING_PX)
    pictures: list[FloatArray] = [np.asarray(mean, dtype=np.float32)]
    if n_good >= 10:  # fewer give no standard deviation worth looking at
        spread = np.sqrt(np.maximum(squares / n_good - (changes / n_good) ** 2, 0.0))
        pictures.append(np.asarray(spread, dtype=np.float32))
    return pictures


def _blobs(
    picture: FloatArray,
    sigmas: list[float],
    config: ScaleConfig,
    exclude: BoolArray | None,
) -> AnyArray:
    """Find the strongest blobs: rows of (y, x, diameter, strength)."""
    nothing = np.zeros((0, 4))
    lowest, highest = float(picture.min()), float(picture.max())
    # 1e-5: what rounding in float32 leaves of a constant picture.
    if len(sigmas) < 3 or highest - lowest <= 1e-5 * max(abs(lowest), abs(highest)):
        return nothing
    # Relative to the surroundings: vignetting must not choose where to look.
    wide = cv2.GaussianBlur(picture, (0, 0), 2.0 * sigmas[-1])
    level = max(float(np.median(np.abs(wide))), 1e-12)
    contrast = np.asarray(
        (picture - wide) / np.maximum(np.abs(wide), 0.1 * level), dtype=np.float32
    )
    below, here = (_response(contrast, sigma) for sigma in sigmas[:2])
    # At the smallest scale the response is noise nearly everywhere; white noise smoothed by s
    # answers at the scale sigma in proportion to sigma^2 / (sigma^2 + s^2)^(3/2).
    scales = np.asarray(sigmas)
    expected = scales**2 / (scales**2 + _SMOOTHING_PX**2) ** 1.5
    noise = 1.4826 * float(np.median(np.abs(below)))
    scaled_noise = noise * expected / expected[0]

    rows: list[tuple[float, float, float, float]] = []
    for index in range(1, len(sigmas) - 1):
        above = _response(contrast, sigmas[index + 1])
        top = (
            (here >= cv2.dilate(here, _AROUND))
            & (here > cv2.dilate(below, _AROUND))
            & (here > cv2.dilate(above, _AROUND))
            & (here > config.min_noise_sd * scaled_noise[index])
        )
        # Blobs cut by the border look smaller than they are.
        margin = max(2, round(1.5 * sigmas[index]))
        top[:margin] = top[-margin:] = False
        top[:, :margin] = top[:, -margin:] = False
        if exclude is not None:
            top &= ~exclude
        for y, x in zip(*np.nonzero(top), strict=True):
            lower, middle, upper = (float(one[y, x]) for one in (below, here, above))
            bend = lower - 2.0 * middle + upper
            between = 0.5 * (lower - upper) / bend if bend < 0 else 0.0
            sigma = sigmas[index] * _SCALE_STEP**between
            rows.append((float(y), float(x), _DIAMETER_PER_SIGMA * sigma, middle))
        below, here = here, above
    if not rows:
        return nothing
    blobs = np.asarray(rows)
    blobs = _apart(blobs[np.argsort(-blobs[:, 3], kind="stable")])[: config.n_blobs]
    # Beside the strongest ones, weak blobs are texture.
    reference = float(np.median(blobs[: max(5, len(blobs) // 5), 3]))
    blobs = blobs[blobs[:, 3] > 0.3 * reference]
    # Times the root of the diameter: puncta are many, somata large.
    blobs[:, 3] = np.minimum(blobs[:, 3] / reference, 2.0) * np.sqrt(blobs[:, 2])
    return blobs


def _apart(blobs: AnyArray) -> AnyArray:
    """Drop blobs whose centre lies within a stronger one (rows sorted by strength)."""
    kept: list[int] = []
    for index, blob in enumerate(blobs):
        stronger = blobs[kept]
        distance = np.hypot(stronger[:, 0] - blob[0], stronger[:, 1] - blob[1])
        if not np.any(distance < 0.5 * np.maximum(stronger[:, 2], blob[2])):
            kept.append(index)
    return blobs[kept]


def _response(contrast: FloatArray, sigma: float) -> FloatArray:
    """Normalised negative Laplacian of Gaussian, as a difference of Gaussians."""
    ratio = 1.1
    narrow = cv2.GaussianBlur(contrast, (0, 0), sigma / np.sqrt(ratio))
    broad = cv2.GaussianBlur(contrast, (0, 0), sigma * np.sqrt(ratio))
    # dG/dsigma = sigma Laplacian(G): the difference over the step in log sigma.
    return np.asarray((narrow - broad) / np.log(ratio), dtype=np.float32)


def _weighted_quantile(values: AnyArray, weights: AnyArray, quantile: float) -> float:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, quantile * share[-1])])

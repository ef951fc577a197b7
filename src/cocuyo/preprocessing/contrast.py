"""Temporal contrast: how far each pixel stands above its own slow baseline.

A cell that is visible at rest looks the same to a spatial network whether it fires or not.
The contrast channel shows the difference: it is near 0 wherever nothing changes, however
bright, and positive where something flashes.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import Field

from cocuyo.core import AnyArray, BoolArray, FloatArray, FrozenConfig, median

_SOMA_SIGMA = 0.25
"""Sigma of the average over a soma, in diameters. On simulated recordings of the split
`validation`, 0.15 to 0.25 find the most functional cells at a given number of false peaks."""

_ROWS_AT_ONCE = 64
_LEAST_SAMPLE = 2000  # pixels whose median tells that of all to within a tenth of their spread


class ContrastConfig(FrozenConfig):
    """Temporal contrast against a slow local baseline."""

    blur_diameters: float = Field(
        default=0.14,
        gt=0,
        description="Sigma of the spatial blur, in soma diameters. Larger lowers the noise and "
        "the resolution.",
    )
    surround_diameters: float = Field(
        default=4.0,
        gt=1,
        description="Side of the square surround that each pixel is compared with, in soma "
        "diameters. Smaller removes more haze and eats large cells.",
    )
    baseline_s: float = Field(
        default=15.0,
        gt=0,
        description="Time constant of the baseline, in seconds. Shorter follows bleaching and "
        "drift of focus faster and fades cells that stay active.",
    )
    noise_s: float = Field(
        default=40.0, gt=0, description="Time constant of the noise estimate, in seconds."
    )
    motion_tolerance_px: float = Field(
        default=0.12,
        ge=0,
        description="Residual motion that must not show as contrast, in pixels: the noise is "
        "widened by this times the local gradient. Larger hides rings at the edges of bright "
        "still cells and weakens cells that lie on such edges.",
    )


@dataclass(frozen=True, eq=False)
class ContrastState:
    """What the contrast remembers between steps.

    Attributes
    ----------
    baseline : ndarray of float32, shape (n_rows, n_columns)
        Slow local level of the relative brightness.
    variance : ndarray of float32, shape (n_rows, n_columns)
        Variance of the relative brightness from one step to the next, halved.
    previous : ndarray of float32, shape (n_rows, n_columns)
        Relative brightness of the last step.
    """

    baseline: FloatArray
    variance: FloatArray
    previous: FloatArray


def relative_brightness(
    frame: FloatArray, *, diameter_px: float, config: ContrastConfig = ContrastConfig()
) -> FloatArray:
    """Express a frame relative to the brightness around each pixel.

    ``(blurred - surround) / surround``: a lamp that flickers, bleaching and vignetting
    cancel because they multiply both.

    Parameters
    ----------
    frame : ndarray of float32, shape (n_rows, n_columns)
        Motion-corrected frame or mean of frames, in camera counts.
    diameter_px : float
        Typical soma diameter in pixels.
    config : ContrastConfig
        Blur and surround.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        Relative brightness; 0.1 is 10 % brighter than the surround.
    """
    side = 2 * round(config.surround_diameters * diameter_px / 2) + 1
    blurred = cv2.GaussianBlur(frame, (0, 0), max(config.blur_diameters * diameter_px, 0.5))
    surround = cv2.blur(frame, (side, side), borderType=cv2.BORDER_REFLECT)
    # A surround near zero (offset-subtracted or clipped data) must not blow up the ratio.
    floor = max(1e-6, 0.05 * float(np.mean(np.abs(surround))))
    return np.asarray((blurred - surround) / np.maximum(surround, floor), np.float32)


def start_contrast(
    step_means: FloatArray, *, diameter_px: float, config: ContrastConfig = ContrastConfig()
) -> ContrastState:
    """Begin with the median of the first steps as baseline.

    Parameters
    ----------
    step_means : ndarray of float32, shape (n_steps, n_rows, n_columns)
        Motion-corrected means of the first steps, in camera counts; at least one.
    diameter_px : float
        Typical soma diameter in pixels.
    config : ContrastConfig
        Settings.

    Returns
    -------
    ContrastState
        The state before the first step.
    """
    brightness = np.stack(
        [relative_brightness(f, diameter_px=diameter_px, config=config) for f in step_means]
    )
    baseline = np.empty_like(brightness[0])
    variance = np.full_like(baseline, float(np.var(brightness[0])))
    for row in range(0, len(baseline), _ROWS_AT_ONCE):
        some = brightness[:, row : row + _ROWS_AT_ONCE]
        baseline[row : row + _ROWS_AT_ONCE] = np.median(some, axis=0)
        if len(some) > 1:
            # Median of squared differences, x 1 / 0.455 for the mean of a chi-squared variable.
            differences = np.median(np.diff(some, axis=0) ** 2, axis=0)
            variance[row : row + _ROWS_AT_ONCE] = differences / (0.455 * 2)
    spatial = _smooth_variance(variance, diameter_px)
    return ContrastState(baseline, spatial, brightness[0])


def contrast_step(
    step_mean: FloatArray,
    state: ContrastState,
    *,
    step_s: float,
    diameter_px: float,
    inside: BoolArray | None = None,
    config: ContrastConfig = ContrastConfig(),
) -> tuple[FloatArray, ContrastState]:
    """Compare one step with the baseline, then let the baseline follow a little.

    Parameters
    ----------
    step_mean : ndarray of float32, shape (n_rows, n_columns)
        Motion-corrected mean of the step's frames, in camera counts.
    state : ContrastState
        State after the step before.
    step_s : float
        Duration of a step, in seconds.
    diameter_px : float
        Typical soma diameter in pixels.
    inside : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels that show tissue in this step; elsewhere the contrast is 0 and the state
        stays.
    config : ContrastConfig
        Settings.

    Returns
    -------
    contrast : ndarray of float32, shape (n_rows, n_columns)
        Height above the baseline in units of its noise; not clipped.
    state : ContrastState
        The state for the next step.
    """
    brightness = relative_brightness(step_mean, diameter_px=diameter_px, config=config)
    spread = _noise(state, diameter_px, config)
    contrast = (brightness - state.baseline) / spread
    follow = 1.0 - math.exp(-step_s / config.baseline_s)
    # A transient may pull the baseline no harder than two standard deviations of noise.
    pull = np.clip(contrast, np.float32(-2.0), np.float32(2.0))
    pull *= spread
    baseline = np.asarray(cv2.scaleAdd(pull, follow, state.baseline), np.float32)
    learn = 1.0 - math.exp(-step_s / config.noise_s)
    # The onset of a transient is no noise either: squared differences are cut at 9 variances.
    squared = brightness - state.previous
    squared *= squared
    squared *= np.float32(0.5)
    np.minimum(squared, np.float32(9.0) * state.variance, out=squared)
    squared = _smooth_variance(squared, diameter_px)
    variance = np.asarray(
        cv2.addWeighted(state.variance, 1.0 - learn, squared, learn, 0.0), np.float32
    )
    if inside is not None:
        outside = ~inside
        contrast[outside] = 0.0
        for new, old in (
            (baseline, state.baseline),
            (variance, state.variance),
            (brightness, state.baseline),
        ):
            np.copyto(new, old, where=outside)
    return contrast, ContrastState(baseline, variance, brightness)


def contrast_of_soma(
    contrast: FloatArray, *, diameter_px: float, inside: BoolArray | None = None
) -> FloatArray:
    """Average the contrast of one step over about a soma, in units of its noise in the field.

    Noise averages out over a soma's area, a cell does not: faint cells stand out that no
    pixel shows. The noise is the robust spread over the field, so that a step in which all
    of the neuropil flickers has more of it.

    Parameters
    ----------
    contrast : ndarray of float32, shape (n_rows, n_columns)
        From `contrast_step`.
    diameter_px : float
        Typical soma diameter in pixels.
    inside : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels that show tissue; elsewhere the result is 0.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        Standard deviations above the field's median; 0 where nothing varies.
    """
    sigma = _SOMA_SIGMA * diameter_px
    seen = np.asarray(cv2.GaussianBlur(contrast, (0, 0), sigma), np.float32)
    sample = _sample(seen, diameter_px)
    if inside is not None:
        sample = sample[_sample(inside, diameter_px)]
        if sample.size < _LEAST_SAMPLE:
            sample = seen[inside]
    if sample.size == 0:
        return np.zeros(contrast.shape, np.float32)
    middle = median(sample)
    spread = 1.4826 * median(np.abs(sample - middle))
    if spread <= 0:
        return np.zeros(contrast.shape, np.float32)
    height = (seen - np.float32(middle)) / np.float32(spread)
    return np.asarray(height if inside is None else np.where(inside, height, 0), np.float32)


def contrast_peaks(height: FloatArray, *, distance_px: float, least: float) -> FloatArray:
    """Find what flashes in one step: the peaks of a soma's contrast.

    Two neighbours that fire at different times make two peaks, which the largest contrast over
    time melts into one.

    Parameters
    ----------
    height : ndarray of float32, shape (n_rows, n_columns)
        From `contrast_of_soma`.
    distance_px : float
        Least distance of two peaks, in pixels.
    least : float
        Smallest height of a peak, in standard deviations.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        Height of each peak at its pixel, at most 20, so that one strong flash does not outweigh
        many; 0 elsewhere.
    """
    radius = max(1, round(distance_px))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (y**2 + x**2 <= radius**2).astype(np.uint8)
    peaks = (height >= least) & (height >= cv2.dilate(height, disc))
    return np.where(peaks, np.minimum(height, np.float32(20)), np.float32(0))


def gather_peaks(votes: FloatArray, *, diameter_px: float) -> FloatArray:
    """Join the peaks of all steps that lie close together.

    Parameters
    ----------
    votes : ndarray of float32, shape (n_rows, n_columns)
        Sum of `contrast_peaks` over the steps.
    diameter_px : float
        Typical soma diameter in pixels.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        A lone peak keeps its height, peaks in one place add up.
    """
    sigma = max(0.18 * diameter_px, 0.7)
    gathered = cv2.GaussianBlur(votes, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(gathered * (2 * np.pi * sigma**2), np.float32)


def _sample(image: AnyArray, diameter_px: float) -> AnyArray:
    """Every so many pixels of an image that is smooth within a soma: as good for its median."""
    every = max(1, min(int(diameter_px / 2), min(image.shape) // 64))
    return image[::every, ::every]


def _noise(state: ContrastState, diameter_px: float, config: ContrastConfig) -> FloatArray:
    """Noise of the relative brightness, widened where residual motion would show."""
    widened: FloatArray = np.zeros_like(state.baseline)
    for along in ((0, 1), (1, 0)):
        gradient = cv2.Sobel(state.baseline, cv2.CV_32F, *along, ksize=3, scale=0.125)
        cv2.accumulateSquare(gradient, widened)
    widened *= np.float32(config.motion_tolerance_px**2)
    floor = 1e-12 + 0.05 * median(_sample(state.variance, diameter_px))
    widened += np.maximum(state.variance, np.float32(floor))
    return np.sqrt(widened, out=widened)


def _smooth_variance(variance: FloatArray, diameter_px: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(variance, (0, 0), max(0.5 * diameter_px, 1.0)), np.float32)

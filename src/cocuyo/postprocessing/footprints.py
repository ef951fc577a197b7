"""Footprints of candidates: what flashes together with a candidate's own trace.

The image of a candidate is the regression of the frames on its trace, weighted to its events.
A silent neighbour is absent from it, the background cancels, and its outline at half of the
maximum is the outline of the cell.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import Field
from scipy import ndimage

from cocuyo.core import AnyArray, BoolArray, FloatArray, FrozenConfig, LabelArray
from cocuyo.postprocessing.validation import (
    ValidationConfig,
    difference_of_gaussians,
    dog_noise,
)


class FootprintConfig(FrozenConfig):
    """Images of candidates and the outlines in them."""

    rounds: int = Field(
        default=2,
        ge=1,
        description="How often each candidate is drawn; from the second time on by the trace of "
        "its own outline, and centred on it. More draws sharper and reads the recording again.",
    )
    reach_diameters: float = Field(
        default=1.9,
        gt=0.5,
        description="Half side of the square in which a candidate is looked at, in soma "
        "diameters. Larger sees more of the surround and costs its square.",
    )
    event_sd: float = Field(
        default=2.5,
        gt=0,
        description="The DoG signal above this many standard deviations weighs in a candidate's "
        "image. Lower uses more frames and more noise.",
    )
    level: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Share of the image's maximum at which the outline lies.",
    )
    broad_diameters: float = Field(
        default=1.2,
        gt=0.6,
        description="Radius, in soma diameters, beyond which light under a candidate is broad and "
        "not its own. Smaller cuts large cells, larger leaves more of the cells out of focus.",
    )
    max_diameters: float = Field(
        default=2.6,
        gt=1,
        description="Largest diameter of an ROI, in typical soma diameters.",
    )


@dataclass(frozen=True, eq=False)
class Patches:
    """Squares of the frame around candidates; pixels outside the frame are invalid.

    Attributes
    ----------
    index : ndarray of int32, shape (n, side * side)
        Flat pixel index in the frame of each pixel of each square, clipped into the frame.
    inside : ndarray of bool, shape (n, side, side)
        Pixels that are inside the frame.
    side : int
        Side of a square, odd.
    """

    index: LabelArray
    inside: BoolArray
    side: int


@dataclass(frozen=True, eq=False)
class CandidateImage:
    """One candidate's image and the outline in it.

    Attributes
    ----------
    pixels : ndarray of int32, shape (n_pixels,)
        Flat indices of the ROI's pixels in the frame; empty if there is no blob.
    weights : ndarray of float32, shape (n_pixels,)
        Image over its peak, in (0, 1].
    peak, noise : float
        Height of the blob above its surround and the noise of a pixel, in the image's unit.
    image : ndarray of float32, shape (side, side)
        Image over a plane through its surround, divided by the peak; broad light is still in it.
    mask : ndarray of bool, shape (side, side)
        The ROI in the square.
    """

    pixels: LabelArray
    weights: FloatArray
    peak: float
    noise: float
    image: FloatArray
    mask: BoolArray


def cut_patches(
    points: AnyArray,
    *,
    diameter_px: float,
    frame_shape: tuple[int, int],
    config: FootprintConfig = FootprintConfig(),
) -> Patches:
    """Lay a square around each point.

    Parameters
    ----------
    points : ndarray, shape (n, 2)
        (y, x) of the centres, in pixels.
    diameter_px : float
        Typical soma diameter in pixels.
    frame_shape : tuple of int
        Rows and columns.
    config : FootprintConfig
        Reach.

    Returns
    -------
    Patches
        The squares.
    """
    rows, columns = frame_shape
    reach = max(6, int(np.ceil(config.reach_diameters * diameter_px)))
    side = 2 * reach + 1
    offset = np.arange(-reach, reach + 1)
    centre = np.rint(np.asarray(points, np.float64).reshape(-1, 2)).astype(np.int64)
    y = np.broadcast_to(centre[:, 0, None, None] + offset[None, :, None], (len(centre), side, side))
    x = np.broadcast_to(centre[:, 1, None, None] + offset[None, None, :], (len(centre), side, side))
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    index = np.clip(y, 0, rows - 1) * columns + np.clip(x, 0, columns - 1)
    return Patches(index.reshape(len(centre), side * side).astype(np.int32), inside, side)


def event_weights(
    traces: FloatArray,
    *,
    frame_rate_hz: float,
    usable: BoolArray,
    validation: ValidationConfig = ValidationConfig(),
    config: FootprintConfig = FootprintConfig(),
) -> FloatArray:
    """Weigh the frames by each candidate's events, balanced so that slow changes cancel.

    Parameters
    ----------
    traces : ndarray of float32, shape (n, n_frames)
        Candidate minus surround; finite.
    frame_rate_hz : float
        Frames per second.
    usable : ndarray of bool, shape (n_frames,)
        Frames that count.
    validation : ValidationConfig
        Sigmas of the DoG.
    config : FootprintConfig
        Height above which a frame counts as event.

    Returns
    -------
    ndarray of float32, shape (n, n_frames)
        Positive during events, slightly negative around them; each row sums to 0 over the
        usable frames and has norm 1 (or is all 0 without an event).
    """
    dog = difference_of_gaussians(traces, frame_rate_hz=frame_rate_hz, config=validation)
    noise = dog_noise(traces, dog, frame_rate_hz=frame_rate_hz, usable=usable, config=validation)[
        :, None
    ]
    height = dog / np.where(noise > 0, noise, np.inf)
    lift = np.where((height > config.event_sd) & usable, height, 0).astype(np.float32)
    # Balanced within some tens of seconds: bleaching and slow drift leave no image.
    window = max(3, round(20.0 * frame_rate_hz))
    count = ndimage.uniform_filter1d(usable.astype(np.float32), window, mode="constant")
    level = ndimage.uniform_filter1d(lift, window, axis=1, mode="constant")
    weights = np.where(usable, lift - level / np.maximum(count, 1e-3), 0)
    n_usable = max(1, int(usable.sum()))
    weights -= np.where(usable, weights.sum(axis=1, keepdims=True) / n_usable, 0)
    norm = np.linalg.norm(weights, axis=1, keepdims=True)
    return np.asarray(weights / np.where(norm > 0, norm, 1.0), np.float32)


def add_to_images(
    images: FloatArray, frames: FloatArray, weights: FloatArray, patches: Patches
) -> None:
    """Add a block of frames to the candidates' images, in place.

    Parameters
    ----------
    images : ndarray of float32, shape (n, side * side)
        Sums so far; changed.
    frames : ndarray of float32, shape (n_frames, n_rows, n_columns)
        Motion-corrected frames.
    weights : ndarray of float32, shape (n, n_frames)
        Weight of each frame for each candidate.
    patches : Patches
        Squares of the candidates.
    """
    # A frame without values (NaN) has no weight; 0 x NaN would still wipe out the image.
    weighed = (weights != 0).any(axis=0)
    if not weighed.all():
        frames, weights = frames[weighed], weights[:, weighed]
    n, columns, side = len(frames), frames.shape[2], patches.side
    for i in np.flatnonzero(np.abs(weights).max(axis=1, initial=0) > 0):
        # Rows of the square lie together: far quicker than pixel by pixel. What lies beyond the
        # frame repeats its border.
        index = patches.index[i].reshape(side, side)
        y, x = index[:, 0] // columns, index[0] % columns
        square = frames[:, y[0] : y[-1] + 1, x[0] : x[-1] + 1]
        picture = (weights[i] @ square.reshape(n, -1)).reshape(square.shape[1:])
        images[i] += picture[(y - y[0])[:, None], x - x[0]].ravel()


def outline(
    image: FloatArray,
    *,
    noise: float,
    index: LabelArray,
    inside: BoolArray,
    diameter_px: float,
    config: FootprintConfig = FootprintConfig(),
) -> CandidateImage:
    """Find the blob in a candidate's image and its outline at half of its maximum.

    Parameters
    ----------
    image : ndarray of float32, shape (side, side)
        Regression of the frames on the candidate's events.
    noise : float
        Standard deviation of the image's noise.
    index : ndarray of int32, shape (side * side,)
        Flat pixel index in the frame of each pixel.
    inside : ndarray of bool, shape (side, side)
        Pixels inside the frame and valid.
    diameter_px : float
        Typical soma diameter in pixels.
    config : FootprintConfig
        Level of the outline, largest size.

    Returns
    -------
    CandidateImage
        The outline, empty if there is no blob near the centre.
    """
    side = len(image)
    reach = side // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(y, x)
    around = inside & (distance > 1.15 * diameter_px)
    if around.sum() < 20:
        around = inside
    plain = np.asarray(image - _plane(image, around, y, x), np.float32)
    # Of a sharp soma on the broad light of a cell out of focus, the soma.
    sharp = plain - _broad(plain, config.broad_diameters * diameter_px)
    sharp -= _plane(sharp, around, y, x)  # noise lies above what is cut off
    # Smooth as much as the noise asks for: a strong image keeps its sharp outline.
    rough = cv2.GaussianBlur(sharp, (0, 0), max(0.14 * diameter_px, 0.8))
    near = inside & (distance <= 0.65 * diameter_px)
    nothing = np.zeros((side, side), np.bool_)
    none = np.zeros(0, np.int32)
    empty = CandidateImage(none, none.astype(np.float32), 0.0, noise, plain, nothing)
    rough_peak = float(rough[near].max(initial=0.0))
    if rough_peak <= 0:
        return empty
    ratio = rough_peak / max(noise, 1e-9)
    sigma = float(
        np.clip(0.22 * diameter_px / np.sqrt(max(ratio, 1e-3) / 3), 0.35, 0.16 * diameter_px + 0.4)
    )
    smooth = cv2.GaussianBlur(sharp, (0, 0), sigma)
    at = np.argmax(np.where(near, smooth, -np.inf))
    top = (int(at) // side, int(at) % side)
    if cv2.GaussianBlur(plain, (0, 0), max(0.14 * diameter_px, 0.8))[top] <= 0:
        return empty  # the rim of a dip is no blob
    # The maximum of a noisy plateau is too high: take the mean of the best pixels around it.
    centre = inside & (np.hypot(y - y[top], x - x[top]) <= max(0.22 * diameter_px, 1.0))
    best = np.sort(smooth[centre])[::-1]
    peak = float(best[: max(1, len(best) // 2)].mean())
    if peak <= 0:
        return empty
    labels, _ = ndimage.label((smooth >= config.level * peak) & inside)
    mask = labels == labels[top] if labels[top] else nothing
    mask = _without_necks(mask, top, diameter_px)
    mask &= np.hypot(y - y[top], x - x[top]) <= 0.5 * config.max_diameters * diameter_px
    mask = ndimage.binary_fill_holes(mask) & inside
    weights = np.clip(smooth[mask] / peak, 1e-3, 1.0).astype(np.float32)
    if len(weights):
        weights /= weights.max()
    return CandidateImage(
        index.reshape(side, side)[mask],
        weights,
        peak,
        noise,
        (plain / peak).astype(np.float32),
        mask,
    )


def _plane(image: FloatArray, where: BoolArray, y: AnyArray, x: AnyArray) -> FloatArray:
    """Robust level and slope of the surround."""
    values = image[where]
    basis = np.column_stack([np.ones(values.size), y[where], x[where]])
    keep = (
        np.abs(values - np.median(values))
        <= 3 * 1.4826 * np.median(np.abs(values - np.median(values))) + 1e-12
    )
    if keep.sum() < 10:
        return np.full(image.shape, np.median(values), np.float32)
    fit, *_ = np.linalg.lstsq(basis[keep], values[keep], rcond=None)
    return np.asarray(fit[0] + fit[1] * y + fit[2] * x, np.float32)


def _broad(image: FloatArray, radius_px: float) -> FloatArray:
    """What remains of an image when everything narrower than a disc is cut off its top."""
    radius = max(2, round(radius_px))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (y**2 + x**2 <= radius**2).astype(np.uint8)
    # Smoothed first: the least of many noisy pixels would lie far below them.
    rough = cv2.GaussianBlur(image, (0, 0), max(radius / 6, 0.8))
    lowest = cv2.erode(rough, disc, borderType=cv2.BORDER_REFLECT)
    opened = cv2.dilate(lowest, disc, borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.GaussianBlur(opened, (0, 0), radius / 3), np.float32)


def _without_necks(mask: BoolArray, top: tuple[int, int], diameter_px: float) -> BoolArray:
    """Cut off what hangs on the blob by a thin bridge (a neighbour, a dendrite)."""
    radius = max(1, round(0.12 * diameter_px))
    if mask.sum() < 4 * np.pi * radius**2:
        return mask
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = y**2 + x**2 <= radius**2
    opened = ndimage.binary_opening(np.pad(mask, radius), structure=disc)
    opened = opened[radius:-radius, radius:-radius]
    labels, _ = ndimage.label(opened)
    if not labels[top]:
        return mask
    core = labels == labels[top]
    # Grow back one pixel, so that opening does not round the cell itself.
    return np.asarray(ndimage.binary_dilation(core, iterations=1) & mask, np.bool_)

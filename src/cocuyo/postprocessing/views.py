"""What the outline network sees of a candidate, and the outline that it answers with.

A view is a square of three soma diameters around the candidate, always of the same size in pixels:
the network knows somata by their shape, not by the microscope's magnification.
"""

from dataclasses import replace

import cv2
import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist

from cocuyo.core import AnyArray, BoolArray, FloatArray, LabelArray, release_pages
from cocuyo.postprocessing.footprints import CandidateImage
from cocuyo.postprocessing.verification import Scene

VIEW_SIDE = 48
"""Rows and columns of a view."""
PIXELS_PER_DIAMETER = 16
"""Pixels of a view that a soma is wide."""
CHANNELS = (
    "image",
    "image over noise",
    "rest",
    "probability",
    "contrast",
    "half maximum",
    "others",
)
"""What a view shows, in order: the candidate's image over its peak and over its noise, the mean
frame, the temporal network's map, the largest contrast, the outline at half maximum, and the other
candidates that fire at other times."""
_ALIKE = 0.5
"""Correlation of event weights above which two candidates may be the same neuron."""
_FRAMES_AT_ONCE = 4096
_CLEAR = 11.0
_CLEAR_NEEDED = 8
"""Peak over noise of a clear candidate, and how many of them say how large somata are."""
_BELIEVED = (0.8, 1.6)
"""Factors on the told diameter within which they are believed."""


def typical_diameter(images: list[CandidateImage], *, diameter_px: float) -> float:
    """Measure the diameter of somata on the clear candidates of a recording.

    Users know the diameter roughly, and soft optics widen all somata alike. The network expects
    them at one size.

    Parameters
    ----------
    images : list of CandidateImage
        All candidates, with their outlines at half maximum.
    diameter_px : float
        What is told of the diameter, in pixels.

    Returns
    -------
    float
        Pixels; what is told, where too few candidates are clear.
    """
    areas = [len(i.pixels) for i in images if i.peak >= _CLEAR * i.noise]
    if len(areas) < _CLEAR_NEEDED:
        return diameter_px
    measured = 2 * np.sqrt(float(np.median(areas)) / np.pi)
    return float(diameter_px * np.clip(measured / diameter_px, *_BELIEVED))


def view_candidates(
    images: list[CandidateImage],
    *,
    scene: Scene,
    index: LabelArray,
    inside: BoolArray,
    weights: FloatArray,
    diameter_px: float,
) -> FloatArray:
    """Show each candidate to the outline network.

    Parameters
    ----------
    images : list of CandidateImage
        Images and outlines at half maximum.
    scene : Scene
        Images of the field.
    index : ndarray of int32, shape (n, side * side)
        Flat frame index of each pixel of the candidates' squares.
    inside : ndarray of bool, shape (n, side, side)
        Pixels inside the frame and valid.
    weights : ndarray of float32, shape (n, n_frames)
        Event weights that the images were drawn with; norm 1 each.
    diameter_px : float
        Diameter of a soma, which becomes `PIXELS_PER_DIAMETER` wide.

    Returns
    -------
    ndarray of float32, shape (n, n_channels, VIEW_SIDE, VIEW_SIDE)
        In the order of `CHANNELS`.
    """
    n = len(images)
    views = np.zeros((n, len(CHANNELS), VIEW_SIDE, VIEW_SIDE), np.float32)
    if n == 0:
        return views
    size = scene.mean.size
    columns = scene.mean.shape[1]
    alike = _products(weights)
    centres = np.array(
        [[(i.pixels // columns).mean(), (i.pixels % columns).mean()] for i in images]
    )
    apart = cdist(centres, centres) / diameter_px
    others = np.zeros(size, np.float32)
    for i, image in enumerate(images):
        side = len(image.mask)

        def cut(whole: FloatArray, i: int = i, side: int = side) -> FloatArray:
            return np.asarray(whole.ravel()[index[i]].reshape(side, side))

        near = np.flatnonzero((apart[i] < 3.0) & (alike[i] < _ALIKE))
        for j in near:
            pixels = images[j].pixels
            others[pixels] = np.maximum(others[pixels], images[j].weights)
        rest = cut(scene.mean)
        middle = float(np.median(rest[inside[i]])) if inside[i].any() else 0.0
        spread = float(np.median(np.abs(rest[inside[i]] - middle))) if inside[i].any() else 0.0
        height = image.peak / max(image.noise, 1e-9)
        shown = (
            np.clip(image.image, -1.0, 1.5),
            np.arcsinh(image.image * height / 2) / 3,
            np.clip((rest - middle) / (1.4826 * spread + 1e-6 * abs(middle) + 1e-9), -5, 5) / 3,
            cut(scene.probability),
            np.arcsinh(np.maximum(cut(scene.contrast), 0) / 4) / 2,
            image.mask.astype(np.float32),
            cut(others),
        )
        for channel, picture in enumerate(shown):
            known = np.where(inside[i], picture, 0).astype(np.float32)
            views[i, channel] = to_view(known, diameter_px=diameter_px)
        for j in near:
            others[images[j].pixels] = 0
    return views


def to_view(square: FloatArray, *, diameter_px: float) -> FloatArray:
    """Bring a candidate's square to the size of a view.

    Parameters
    ----------
    square : ndarray of float32, shape (side, side)
        Odd side; the candidate is in the middle.
    diameter_px : float
        Typical soma diameter in pixels.

    Returns
    -------
    ndarray of float32, shape (VIEW_SIDE, VIEW_SIDE)
        The view; 0 where the square does not reach.
    """
    step = diameter_px / PIXELS_PER_DIAMETER
    if step > 1.2:
        square = np.asarray(cv2.GaussianBlur(square, (0, 0), 0.4 * step), np.float32)
    at = len(square) // 2 + (np.arange(VIEW_SIDE) - (VIEW_SIDE - 1) / 2) * step
    return _sample(square, at)


def from_view(view: FloatArray, *, side: int, diameter_px: float) -> FloatArray:
    """Bring a view back to the pixels of a candidate's square.

    Parameters
    ----------
    view : ndarray of float32, shape (VIEW_SIDE, VIEW_SIDE)
        The view.
    side : int
        Side of the square, odd.
    diameter_px : float
        Typical soma diameter in pixels.

    Returns
    -------
    ndarray of float32, shape (side, side)
        The square; 0 where the view does not reach.
    """
    step = PIXELS_PER_DIAMETER / diameter_px
    if step > 1.2:
        view = np.asarray(cv2.GaussianBlur(view, (0, 0), 0.4 * step), np.float32)
    at = (VIEW_SIDE - 1) / 2 + (np.arange(side) - side // 2) * step
    return _sample(view, at)


def _products(weights: FloatArray) -> FloatArray:
    """Products of all pairs of rows, some frames at a time."""
    products = np.zeros((len(weights), len(weights)), np.float32)
    for start in range(0, weights.shape[1], _FRAMES_AT_ONCE):
        some = np.ascontiguousarray(weights[:, start : start + _FRAMES_AT_ONCE])
        products += some @ some.T
        release_pages(weights)
    return products


def redraw(
    image: CandidateImage,
    probability: FloatArray,
    *,
    index: LabelArray,
    inside: BoolArray,
    diameter_px: float,
) -> tuple[CandidateImage, float, float]:
    """Give a candidate the outline that the network drew.

    Parameters
    ----------
    image : CandidateImage
        With its outline at half maximum.
    probability : ndarray of float32, shape (VIEW_SIDE, VIEW_SIDE)
        Of the candidate's own soma.
    index : ndarray of int32, shape (side * side,)
        Flat frame index of each pixel of the square.
    inside : ndarray of bool, shape (side, side)
        Pixels inside the frame and valid.
    diameter_px : float
        Typical soma diameter in pixels.

    Returns
    -------
    image : CandidateImage
        With the new outline; the old one where the network drew nothing.
    certainty : float
        Mean probability in the outline.
    agreement : float
        Intersection over union of the new outline and the old one.
    """
    side = len(image.mask)
    likely = from_view(probability, side=side, diameter_px=diameter_px)
    labels, n_labels = ndimage.label((likely >= 0.5) & inside)
    if n_labels == 0:
        return image, 0.0, 0.0
    weight = np.bincount(labels.ravel(), likely.ravel(), minlength=n_labels + 1)
    weight[0] = 0.0
    mask = ndimage.binary_fill_holes(labels == np.argmax(weight)) & inside
    smooth = cv2.GaussianBlur(image.image, (0, 0), max(0.08 * diameter_px, 0.6))
    weights = np.clip(smooth[mask], 1e-3, 1.0).astype(np.float32)
    shared = float((mask & image.mask).sum()) / float((mask | image.mask).sum())
    drawn = replace(
        image,
        pixels=index.reshape(side, side)[mask],
        weights=weights / weights.max(),
        mask=np.asarray(mask, np.bool_),
    )
    return drawn, float(likely[mask].mean()), shared


def _sample(image: FloatArray, at: AnyArray) -> FloatArray:
    x, y = np.meshgrid(at.astype(np.float32), at.astype(np.float32))
    return np.asarray(
        cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.float32
    )

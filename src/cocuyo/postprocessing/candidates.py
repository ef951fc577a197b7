"""Candidate neurons in the temporal network's probability map."""

import heapq
from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import Field
from scipy import ndimage
from scipy.spatial import cKDTree

from cocuyo.core import BoolArray, FloatArray, FrozenConfig, LabelArray

_FLASH_DISTANCE = 0.8
"""Least distance of a gathered flash from another candidate, over that of two peaks: flashes lie
where the cells are, peaks of the maps in between where cells touch."""


class CandidateConfig(FrozenConfig):
    """Where candidates are sought; generous, since each is verified afterwards."""

    min_probability: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Pixels at least this probable may hold a candidate. Lower finds fainter "
        "cells and costs time for verification.",
    )
    min_contrast: float = Field(
        default=4.5,
        gt=0,
        description="Pixels where the contrast of a soma's area once reached this many standard "
        "deviations may hold a candidate, whatever the network says. For 100 steps; raised for "
        "longer recordings, where noise has more chances. Lower finds fainter cells and costs "
        "time for verification.",
    )
    min_distance_diameters: float = Field(
        default=0.45,
        gt=0,
        description="Closest two peaks of probability and contrast can be, in soma diameters; "
        "flashes of single steps part candidates down to 0.8 of it. Smaller parts touching cells "
        "and splits large ones.",
    )

    def contrast_threshold(self, n_steps: int) -> float:
        """Raise `min_contrast` so that noise reaches it as often in any length.

        The tail of a normal distribution falls by the factor ``n / 100`` when its threshold
        ``c`` rises by ``log(n / 100) / c``.

        Parameters
        ----------
        n_steps : int
            Steps whose largest contrast is looked at.

        Returns
        -------
        float
            Standard deviations; never below `min_contrast`.
        """
        return (
            self.min_contrast + max(0.0, float(np.log(max(n_steps, 1) / 100))) / self.min_contrast
        )


@dataclass(frozen=True, eq=False)
class Seeds:
    """Places to look for a neuron.

    Attributes
    ----------
    points : ndarray of int32, shape (n_seeds, 2)
        (y, x) of each: peaks of the maps, strongest first, then flashes away from them.
    """

    points: LabelArray


def find_seeds(
    probability: FloatArray,
    contrast: FloatArray,
    *,
    diameter_px: float,
    valid: BoolArray,
    soma_contrast: FloatArray | None = None,
    n_steps: int = 1,
    peaks: FloatArray | None = None,
    config: CandidateConfig = CandidateConfig(),
) -> Seeds:
    """Find the peaks of contrast where the network sees a functional neuron.

    Touching cells make one region of probability; their contrast still has one peak each.

    Parameters
    ----------
    probability : ndarray of float32, shape (n_rows, n_columns)
        Probability of a functional neuron, in [0, 1].
    contrast : ndarray of float32, shape (n_rows, n_columns)
        Largest temporal contrast of each pixel, in units of its noise.
    diameter_px : float
        Typical soma diameter in pixels.
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels that may hold a neuron.
    soma_contrast : ndarray of float32, shape (n_rows, n_columns), optional
        Largest contrast of a soma's area around each pixel (`contrast_of_soma`), which sees
        fainter cells than single pixels do; the smoothed `contrast` if None.
    n_steps : int, default: 1
        Steps whose largest contrast the maps hold.
    peaks : ndarray of float32, shape (n_rows, n_columns), optional
        Where somata flashed in single steps (`gather_peaks`): parts neighbours that fired at
        different times.
    config : CandidateConfig
        Thresholds and distance.

    Returns
    -------
    Seeds
        Empty if nothing reaches a threshold.
    """
    sigma = max(0.15 * diameter_px, 0.7)
    height = cv2.GaussianBlur(np.maximum(contrast, 0), (0, 0), sigma)
    likely = cv2.GaussianBlur(probability, (0, 0), sigma)
    faint = height if soma_contrast is None else soma_contrast
    possible = valid & (
        (likely >= config.min_probability) | (faint >= config.contrast_threshold(n_steps))
    )
    # The probability leads, the contrast (never saturated) parts what touches. Where the network
    # is sure of nothing, the contrast alone ranks.
    ranked = np.where(possible, (likely + 0.05) * np.log1p(height), 0.0)
    # Tiny ramp: plateaus get one peak each. In float64: beside 1, float32 would lose its steps.
    ramp = np.linspace(0, 1e-6, ranked.size).reshape(ranked.shape)
    strength = ranked.astype(np.float64) + ramp
    radius = max(1, round(config.min_distance_diameters * diameter_px))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (y**2 + x**2 <= radius**2).astype(np.uint8)
    highest = cv2.dilate(strength, disc)
    tops = possible & (strength >= highest)
    order = np.argsort(-strength[tops], kind="stable")
    points = np.argwhere(tops)[order].astype(np.int32).reshape(-1, 2)
    if peaks is not None:
        reach = _FLASH_DISTANCE * radius
        more = _flashes(peaks, valid, least=config.contrast_threshold(n_steps), reach=reach)
        points = np.concatenate([points, _apart(more, points, reach)])
    return Seeds(points)


def _flashes(peaks: FloatArray, valid: BoolArray, *, least: float, reach: float) -> LabelArray:
    """Peaks of gathered flashes, strongest first."""
    radius = max(1, round(reach))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (y**2 + x**2 <= radius**2).astype(np.uint8)
    tops = valid & (peaks >= least) & (peaks >= cv2.dilate(peaks, disc))
    order = np.argsort(-peaks[tops], kind="stable")
    return np.argwhere(tops)[order].astype(np.int32).reshape(-1, 2)


def _apart(points: LabelArray, others: LabelArray, least: float) -> LabelArray:
    """Those of the points that are farther than `least` from all others."""
    if len(points) == 0 or len(others) == 0:
        return points
    nearest, _ = cKDTree(others).query(points)
    return points[nearest > least]


def disc_pixels(
    points: LabelArray, *, radius_px: float, frame_shape: tuple[int, int]
) -> list[LabelArray]:
    """List the pixels of a disc around each point.

    Parameters
    ----------
    points : ndarray of int, shape (n, 2)
        (y, x) of the centres, inside the frame.
    radius_px : float
        Radius in pixels.
    frame_shape : tuple of int
        Rows and columns.

    Returns
    -------
    list of ndarray of int32
        Flat pixel indices inside the frame; at least the centre.
    """
    rows, columns = frame_shape
    reach = int(np.ceil(radius_px))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = y**2 + x**2 <= max(radius_px, 0.5) ** 2
    offsets = np.column_stack([y[inside], x[inside]])
    discs = []
    for point in points:
        at = point + offsets
        good = (at >= 0).all(axis=1) & (at[:, 0] < rows) & (at[:, 1] < columns)
        discs.append((at[good, 0] * columns + at[good, 1]).astype(np.int32))
    return discs


def refine_mask(mask: BoolArray, *, diameter_px: float) -> BoolArray:
    """Close gaps and remove structures too small to be a soma (paper, section 3).

    Parameters
    ----------
    mask : ndarray of bool, shape (n_rows, n_columns)
        Thresholded probability.
    diameter_px : float
        Typical soma diameter in pixels; smaller than a quarter of its disc's area is
        removed, gaps of a tenth of it are closed.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        The refined mask.
    """
    radius = max(1, round(0.1 * diameter_px))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = y**2 + x**2 <= radius**2
    # Closing on a padded mask: without it the border would be eaten.
    padded = np.pad(mask, radius + 1)
    closed = ndimage.binary_closing(padded, structure=disc)
    closed = ndimage.binary_fill_holes(closed)[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
    labels, n_labels = ndimage.label(closed)
    areas = np.bincount(labels.ravel(), minlength=n_labels + 1)
    large = areas >= 0.25 * np.pi * (diameter_px / 2) ** 2
    large[0] = False
    return np.asarray(large[labels], np.bool_)


def split_mask(
    mask: BoolArray, *, diameter_px: float, strength: FloatArray | None = None
) -> LabelArray:
    """Part touching cells, so that each label is one cell.

    A watershed of the distance to the border (or of a given strength), from its peaks.

    Parameters
    ----------
    mask : ndarray of bool, shape (n_rows, n_columns)
        Pixels of cells.
    diameter_px : float
        Typical soma diameter in pixels.
    strength : ndarray of float32, shape (n_rows, n_columns), optional
        Image whose peaks are the cells; the distance to the border if None.

    Returns
    -------
    ndarray of int32, shape (n_rows, n_columns)
        0 outside, 1..n in the cells.
    """
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    padded = np.pad(mask, 1)
    distance = ndimage.distance_transform_edt(padded)[1:-1, 1:-1].astype(np.float32)
    height = distance if strength is None else np.where(mask, strength, 0).astype(np.float32)
    blurred = cv2.GaussianBlur(height, (0, 0), max(0.12 * diameter_px, 0.6))
    height = np.where(mask, blurred, 0).astype(np.float32)
    regions, n_regions = ndimage.label(mask)
    seeds = find_seeds(
        np.ones_like(height),
        height,
        diameter_px=diameter_px,
        valid=mask,
        config=CandidateConfig(min_distance_diameters=0.5, min_probability=1e-3),
    )
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(seeds.points.T)] = np.arange(1, len(seeds.points) + 1)
    without = np.setdiff1d(np.arange(1, n_regions + 1), regions[tuple(seeds.points.T)])
    for i, region in enumerate(without):
        at = np.argmax(np.where(regions == region, height, -np.inf))
        markers.flat[at] = len(seeds.points) + 1 + i
    return _flood(markers, height, mask)


def _flood(markers: LabelArray, height: FloatArray, mask: BoolArray) -> LabelArray:
    """Let markers grow downhill inside the mask, the highest pixels first (Meyer 1991).

    `scipy.ndimage.watershed_ift` floods by differences between neighbours, not by heights: on
    two cones of equal slope it parts nothing.
    """
    columns = markers.shape[1] + 2
    labels = np.pad(markers, 1).ravel()
    inside = np.pad(mask, 1).ravel()
    level = np.pad(-height, 1).ravel()
    # Of equal height the pixel seen first goes first, so that plateaus are shared.
    queue = [(level[at], order, at) for order, at in enumerate(np.flatnonzero(labels).tolist())]
    heapq.heapify(queue)
    order = len(queue)
    while queue:
        _, _, at = heapq.heappop(queue)
        for beside in (at - columns, at - 1, at + 1, at + columns):
            if inside[beside] and not labels[beside]:
                labels[beside] = labels[at]
                heapq.heappush(queue, (level[beside], order, beside))
                order += 1
    return np.asarray(labels.reshape(-1, columns)[1:-1, 1:-1], np.int32)

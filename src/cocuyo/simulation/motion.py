"""How tissue moves in front of the camera, as a whole and unevenly."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from cocuyo.core import FloatArray
from cocuyo.simulation.anatomy import Canvas, as_float
from cocuyo.simulation.config import SimulationConfig

KERNEL_HALF = 2
"""Taps on each side of the cubic interpolation."""
# Waves across the frame, half periods along (y, x): the longest that are no common shift.
_MODES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))


def draw_shifts(rng: np.random.Generator, *, config: SimulationConfig) -> FloatArray:
    """Draw displacements: a smooth walk that reaches `drift_px`, and jitter; 0 in frame 0."""
    walk = _smooth_walk(rng, (config.n_frames, 2))
    reach = float(np.hypot(walk[:, 0], walk[:, 1]).max())
    jitter = config.jitter_px * rng.standard_normal((config.n_frames, 2))
    shifts = walk * (config.drift_px / max(reach, 1e-9)) + jitter - jitter[0]
    return as_float(shifts)


def draw_jumps(rng: np.random.Generator, *, config: SimulationConfig) -> FloatArray:
    """Draw sudden displacements of a few frames, to be added to the shifts, (n_frames, 2)."""
    jumps = np.zeros((config.n_frames, 2), np.float32)
    for _ in range(config.n_jumps):
        start = int(rng.integers(1, config.n_frames))
        length = int(rng.integers(2, 7))
        heading = rng.uniform(0, 2 * np.pi)
        size = config.jump_px * rng.uniform(0.4, 1.0)
        rise = np.sin(np.pi * np.arange(1, length + 1) / (length + 1))
        there = jumps[start : start + length]
        step = size * rise[: len(there), None] * np.array([np.sin(heading), np.cos(heading)])
        there += step.astype(np.float32)
    reach = np.hypot(jumps[:, 0], jumps[:, 1])[:, None]  # jumps that meet do not go farther
    return as_float(jumps * np.minimum(1, config.jump_px / np.maximum(reach, 1e-9)))


def _smooth_walk(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    walk = np.cumsum(rng.standard_normal(shape), axis=0)
    walk = ndimage.gaussian_filter1d(walk, max(shape[0] / 60, 1.0), axis=0)
    walk -= walk[0]
    return np.asarray(walk)


@dataclass(frozen=True, eq=False)
class Deformation:
    """Slow displacements that differ over the frame and are 0 in its mean: a few waves.

    Attributes
    ----------
    frame_shape : tuple of int
        Rows and columns.
    courses : ndarray of float32, shape (n_frames, n_waves, 2)
        Height of each wave in each frame, (dy, dx) in pixels; 0 in frame 0.
    """

    frame_shape: tuple[int, int]
    courses: FloatArray

    @property
    def is_still(self) -> bool:
        """Whether nothing moves."""
        return not self.courses.any()

    def at(self, t: int, y: FloatArray, x: FloatArray) -> FloatArray:
        """Displacement in frame `t` of points of the tissue, given where they are in frame 0.

        Parameters
        ----------
        t : int
            Frame.
        y, x : ndarray of float32
            Coordinates in frame 0; shapes that broadcast.

        Returns
        -------
        ndarray of float32, shape (2, ...)
            dy and dx.
        """
        total = np.zeros((2, *np.broadcast_shapes(y.shape, x.shape)), np.float32)
        for (m, n), height in zip(_MODES, self.courses[t], strict=True):
            wave = self._cosine(y, m, 0) * self._cosine(x, n, 1)
            total += height.reshape(2, *([1] * wave.ndim)) * wave
        return total

    def sources(self, t: int, shift: FloatArray) -> FloatArray:
        """Where in frame 0 the tissue comes from that each pixel of frame `t` shows.

        Parameters
        ----------
        t : int
            Frame.
        shift : ndarray of float32, shape (2,)
            Displacement of the whole frame.

        Returns
        -------
        ndarray of float32, shape (2, n_rows, n_columns)
            y and x. A point p appears at p + shift + displacement(p): solved for p by one step
            of Newton's method, which for waves this long leaves less than 0.01 pixel.
        """
        rows, columns = self.frame_shape
        y = (np.arange(rows, dtype=np.float32) - shift[0])[:, None]
        x = (np.arange(columns, dtype=np.float32) - shift[1])[None]
        moved = self.at(t, y, x)
        by_y, by_x = np.zeros_like(moved), np.zeros_like(moved)  # derivatives
        for (m, n), height in zip(_MODES, self.courses[t], strict=True):
            factor = height.reshape(2, 1, 1)
            by_y += factor * (self._slope(y, m, 0) * self._cosine(x, n, 1))
            by_x += factor * (self._cosine(y, m, 0) * self._slope(x, n, 1))
        a, b, c, d = 1 + by_y[0], by_x[0], by_y[1], 1 + by_x[1]
        determinant = a * d - b * c
        back_y = (d * moved[0] - b * moved[1]) / determinant
        back_x = (a * moved[1] - c * moved[0]) / determinant
        return np.stack([y - back_y, x - back_x])

    def _cosine(self, place: FloatArray, order: int, axis: int) -> FloatArray:
        return as_float(np.cos(np.pi * order / self.frame_shape[axis] * (place + 0.5)))

    def _slope(self, place: FloatArray, order: int, axis: int) -> FloatArray:
        step = np.pi * order / self.frame_shape[axis]
        return as_float(-step * np.sin(step * (place + 0.5)))


def draw_deformation(rng: np.random.Generator, *, config: SimulationConfig) -> Deformation:
    """Draw a slow deformation that reaches `nonrigid_px` somewhere, sometime.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    config : SimulationConfig
        Frame size, length and reach.

    Returns
    -------
    Deformation
        Still where `nonrigid_px` is 0.
    """
    shape = (config.n_rows, config.n_columns)
    courses = np.zeros((config.n_frames, len(_MODES), 2), np.float32)
    if config.nonrigid_px == 0:
        return Deformation(shape, courses)
    weight = np.array([1 / np.hypot(m, n) for m, n in _MODES])
    courses = as_float(_smooth_walk(rng, courses.shape) * weight[:, None])
    draft = Deformation(shape, courses)
    y = np.linspace(0, shape[0] - 1, 15, dtype=np.float32)[:, None]
    x = np.linspace(0, shape[1] - 1, 15, dtype=np.float32)[None]
    reach = max(float(np.hypot(*draft.at(t, y, x)).max()) for t in range(config.n_frames))
    return Deformation(shape, as_float(courses * (config.nonrigid_px / max(reach, 1e-9))))


def moved(tissue: FloatArray, shift: FloatArray, canvas: Canvas) -> FloatArray:
    """Cut the frame out of tissue that moved by `shift`, with cubic interpolation.

    OpenCV's warps round displacements to 1/32 pixel; two passes of a 4-tap filter do not.

    Parameters
    ----------
    tissue : ndarray of float32, shape `canvas.shape`
        What lies in front of the microscope.
    shift : ndarray of float32, shape (2,)
        How far it moved, (dy, dx) in pixels.
    canvas : Canvas
        Its size.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        What the camera sees.
    """
    kernels, starts = [], []
    for axis, size in ((0, canvas.rows), (1, canvas.columns)):
        source = canvas.margin - float(shift[axis])  # where the frame's first pixel comes from
        whole = int(np.floor(source))
        kernels.append(_cubic_taps(source - whole))
        starts.append((whole - 1, size + 3))
    rows, columns = (slice(start, start + length) for start, length in starts)
    window = np.ascontiguousarray(tissue[rows, columns])
    filtered = cv2.sepFilter2D(window, cv2.CV_32F, kernels[1], kernels[0], anchor=(1, 1))
    return as_float(filtered[1 : 1 + canvas.rows, 1 : 1 + canvas.columns])


def warped(tissue: FloatArray, sources: FloatArray, canvas: Canvas) -> FloatArray:
    """Cut the frame out of tissue that moved unevenly, with the interpolation of `moved`.

    OpenCV's cubic remapping rounds displacements to 1/32 pixel and its kernel (a = -3/4) shifts
    edges by several hundredths of a pixel; the truth would be wrong by as much.

    Parameters
    ----------
    tissue : ndarray of float32, shape `canvas.shape`
        What lies in front of the microscope.
    sources : ndarray of float32, shape (2, n_rows, n_columns)
        Where each pixel comes from, in coordinates of frame 0.
    canvas : Canvas
        Its size.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        What the camera sees.
    """
    place = sources + np.float32(canvas.margin)
    whole = np.floor(place)
    rows, columns = whole.astype(np.intp)
    taps = _cubic_taps(place - whole)  # (4, 2, n_rows, n_columns)
    n_rows, n_columns = canvas.shape
    corner = (np.clip(rows, 1, n_rows - 3) - 1) * n_columns + np.clip(columns, 1, n_columns - 3) - 1
    flat = tissue.ravel()
    seen = np.zeros(rows.shape, np.float32)
    for down in range(4):
        line = np.zeros_like(seen)
        for right in range(4):
            line += taps[right, 1] * flat[corner + (down * n_columns + right)]
        seen += taps[down, 0] * line
    return seen


def _cubic_taps(fraction: float | FloatArray) -> FloatArray:
    """Weights of Keys' cubic convolution (a = -1/2) for the pixels -1, 0, 1, 2."""
    one, two, three = fraction, fraction**2, fraction**3
    return np.array(
        [
            -0.5 * three + two - 0.5 * one,
            1.5 * three - 2.5 * two + 1,
            -1.5 * three + 2 * two + 0.5 * one,
            0.5 * three - 0.5 * two,
        ],
        np.float32,
    )

"""Frames and projections of a recording, read in blocks when the page asks for them."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from cocuyo.core import (
    AnyArray,
    FloatArray,
    Motion,
    Progress,
    ProgressCallback,
    Recording,
    ignore_progress,
)
from cocuyo.preprocessing import apply_motion

MovieKind = Literal["raw", "corrected", "dff"]
KINDS: tuple[MovieKind, ...] = ("raw", "corrected", "dff")

_CACHE_BYTES = 192e6
"""Frames that are kept, as the page gets them."""
_LONGEST_SIDE = 1024
"""Larger frames are reduced for the screen, in pixels."""
_SAMPLED_FRAMES = 9
_PROJECTION_FRAMES = 1200
_STRETCHES = 12
"""Standard deviation and correlation come from this many frames at most, in so many stretches."""
_DFF_RANGE = (-1.0, 4.0)
_LEVELS = 65535


@dataclass(frozen=True)
class Scale:
    """How the page turns the numbers it gets into values: ``offset + step * number``.

    Attributes
    ----------
    offset, step : float
        In the unit of the movie.
    low, high : float
        Values to begin with as black and white.
    unit : str
        For people.
    """

    offset: float
    step: float
    low: float
    high: float
    unit: str

    def pack(self, values: AnyArray) -> AnyArray:
        """Turn values into whole numbers from 0 to 65535.

        Parameters
        ----------
        values : ndarray
            Values in the unit of the movie.

        Returns
        -------
        ndarray of uint16
            The numbers.
        """
        if values.dtype in (np.uint8, np.uint16) and self.offset == 0 and self.step == 1:
            return values.astype(np.uint16)
        numbers = (values.astype(np.float32) - self.offset) / self.step
        return np.asarray(np.clip(np.nan_to_num(np.rint(numbers)), 0, _LEVELS), np.uint16)


class Frames:
    """The frames of one recording in three guises: raw, motion corrected, ΔF/F.

    Frames are kept up to 192 MB; nothing else of the recording is in memory. Corrected frames are
    interpolated for the eye, not for traces. ΔF/F is the corrected frame against the mean over the
    recording, smoothed by a tenth of a soma.

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts.
    mean : ndarray of float32, shape (n_rows, n_columns)
        Mean of its corrected frames.
    diameter_px : float
        Typical soma diameter, in pixels.
    """

    def __init__(
        self, recording: Recording, motion: Motion, mean: FloatArray, diameter_px: float
    ) -> None:
        self._recording, self._motion = recording, motion
        level = float(np.median(np.abs(mean)))
        self._mean = np.asarray(mean, np.float32)
        # As for traces: where the background was subtracted, 5 % of the level bounds the divisor.
        self._divisor = np.maximum(self._mean, max(0.05 * level, 1e-6))
        self._smooth_px = max(0.5, 0.1 * diameter_px)
        rows, columns = recording.frame_shape
        factor = -(-max(rows, columns) // _LONGEST_SIDE)
        self.shape = (-(-rows // factor), -(-columns // factor))
        """Rows and columns as the page gets them."""
        self._kept: OrderedDict[tuple[MovieKind, int], AnyArray] = OrderedDict()
        self._most = max(16, int(_CACHE_BYTES / (2 * self.shape[0] * self.shape[1])))
        self._scales: dict[MovieKind, Scale] = {}
        self._reading = threading.Lock()  # readers of files need not be safe for threads
        self._keeping = threading.Lock()

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self._recording.n_frames

    def scale(self, kind: MovieKind) -> Scale:
        """Say how numbers of a guise become values.

        Parameters
        ----------
        kind : {"raw", "corrected", "dff"}
            The guise.

        Returns
        -------
        Scale
            The same for all frames; black and white come from frames all over the recording.
        """
        known = self._scales.get(kind)
        if known is None:
            n = self.n_frames
            picks = np.unique(np.linspace(0, n - 1, min(n, _SAMPLED_FRAMES)).astype(int))
            sample = np.concatenate([self._values(kind, int(i), int(i) + 1) for i in picks])
            known = self._scales[kind] = self._choose(kind, sample)
        return known

    def _choose(self, kind: MovieKind, sample: AnyArray) -> Scale:
        finite = sample[np.isfinite(sample)].astype(np.float64)
        if finite.size == 0:
            finite = np.zeros(1)
        low, high = (float(v) for v in np.percentile(finite, [1.0, 99.8]))
        if kind == "dff":
            first, last = _DFF_RANGE
            low, high = max(low, -0.2), max(high, 0.05)
            return Scale(first, (last - first) / _LEVELS, low, high, "ΔF/F")
        high = max(high, low + 1e-6)
        if self._recording.movie.dtype in (np.uint8, np.uint16):
            return Scale(0.0, 1.0, low, high, "counts")
        least, most = float(finite.min()), float(finite.max())
        span = max(most - least, 1e-6)
        return Scale(least - 0.5 * span, 2 * span / _LEVELS, low, high, "counts")

    def read(self, kind: MovieKind, start: int, stop: int, *, step: int = 1) -> AnyArray:
        """Give frames for the page.

        Parameters
        ----------
        kind : {"raw", "corrected", "dff"}
            The guise.
        start, stop : int
            First frame, and the one after the last.
        step : int, default: 1
            Every so many frames.

        Returns
        -------
        ndarray of uint16, shape (n, rows, columns)
            Numbers of `scale`, reduced to `shape`.
        """
        wanted = range(start, min(stop, self.n_frames), step)
        found: dict[int, AnyArray] = {}
        with self._keeping:
            for i in wanted:
                if (kind, i) in self._kept:
                    self._kept.move_to_end((kind, i))
                    found[i] = self._kept[kind, i]
        scale = self.scale(kind)
        for first, last in _runs([i for i in wanted if i not in found]):
            packed = scale.pack(self._values(kind, first, last))
            found |= {first + i: packed[i].copy() for i in range(last - first)}
        with self._keeping:
            self._kept |= {(kind, i): frame for i, frame in found.items()}
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return np.stack([found[i] for i in wanted])

    def _values(self, kind: MovieKind, start: int, stop: int) -> AnyArray:
        with self._reading:
            frames = self._recording.movie.read(start, stop)
        if kind != "raw":
            motion = self._motion.cut(start, stop)
            if motion.deformation is not None:
                frames = apply_motion(frames, motion)
            else:
                moves = motion.shifts
                frames = np.stack([_move_back(f, s) for f, s in zip(frames, moves, strict=True)])
        if kind == "dff":
            frames = np.stack([self._relative(frame) for frame in frames])
        if frames.shape[1:] == self.shape:
            return frames
        size = (self.shape[1], self.shape[0])
        small = [
            cv2.resize(f.astype(np.float32), size, interpolation=cv2.INTER_AREA) for f in frames
        ]
        return np.stack(small)

    def _relative(self, frame: AnyArray) -> AnyArray:
        change = (frame.astype(np.float32) - self._mean) / self._divisor
        return np.asarray(cv2.GaussianBlur(change, (0, 0), self._smooth_px))


def _runs(frames: list[int]) -> list[tuple[int, int]]:
    """First and one past the last of frames that follow each other."""
    runs: list[tuple[int, int]] = []
    for i in frames:
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _move_back(frame: AnyArray, shift: FloatArray) -> AnyArray:
    """Move a frame back to where the tissue was in frame 0; linear, so quick enough to scrub."""
    known = frame.dtype in (np.uint8, np.uint16, np.int16, np.float32)
    values = np.ascontiguousarray(frame if known else frame.astype(np.float32))
    matrix = np.array([[1, 0, shift[1]], [0, 1, shift[0]]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (frame.shape[1], frame.shape[0])
    return np.asarray(
        cv2.warpAffine(values, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    )


class Deviation:
    """Standard deviation and local correlation over time, computed when first asked for.

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts and flags.
    mean : ndarray of float32, shape (n_rows, n_columns)
        Mean of its corrected frames.
    """

    def __init__(self, recording: Recording, motion: Motion, mean: FloatArray) -> None:
        self._recording, self._motion, self._mean = recording, motion, mean
        self._lock = threading.Lock()
        self._images: dict[str, FloatArray] = {}
        self.n_frames_used = 0
        """Frames that went in; 0 before."""

    def image(self, name: str, *, progress: ProgressCallback = ignore_progress) -> FloatArray:
        """Give one of the two pictures.

        Parameters
        ----------
        name : {"std", "correlation"}
            Standard deviation in counts; mean correlation of a pixel with its four neighbours.
        progress : callable, optional
            Called after each block.

        Returns
        -------
        ndarray of float32, shape (n_rows, n_columns)
            The picture.
        """
        with self._lock:
            if not self._images:
                self._images = self._compute(progress)
            return self._images[name]

    def _compute(self, progress: ProgressCallback) -> dict[str, FloatArray]:
        n = self._recording.n_frames
        if n <= _PROJECTION_FRAMES:
            stretches = [(0, n)]
        else:
            length = _PROJECTION_FRAMES // _STRETCHES
            starts = np.linspace(0, n - length, _STRETCHES).astype(int).tolist()
            stretches = [(start, start + length) for start in starts]
        shape = self._recording.frame_shape
        per_read = max(1, int(32e6 / (4 * shape[0] * shape[1])))
        reads = [
            (start, min(start + per_read, last))
            for first, last in stretches
            for start in range(first, last, per_read)
        ]
        total, square = np.zeros(shape), np.zeros(shape)
        below, right = np.zeros((shape[0] - 1, shape[1])), np.zeros((shape[0], shape[1] - 1))
        count = 0
        for i, (start, stop) in enumerate(reads):
            frames = apply_motion(
                self._recording.movie.read(start, stop), self._motion.cut(start, stop)
            )
            frames = frames[self._motion.flags[start:stop] == 0] - self._mean
            # Light that flickers everywhere would correlate all pixels.
            frames -= frames.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
            total += frames.sum(axis=0, dtype=np.float64)
            square += np.einsum("tyx,tyx->yx", frames, frames)
            below += np.einsum("tyx,tyx->yx", frames[:, 1:], frames[:, :-1])
            right += np.einsum("tyx,tyx->yx", frames[:, :, 1:], frames[:, :, :-1])
            count += len(frames)
            progress(Progress("looking at the recording", i + 1, len(reads)))
        self.n_frames_used = count
        return _finish(total, square, below, right, count)


def _finish(
    total: AnyArray, square: AnyArray, below: AnyArray, right: AnyArray, count: int
) -> dict[str, FloatArray]:
    n = max(count, 1)
    mean = total / n
    std = np.sqrt(np.maximum(square / n - mean**2, 0))
    spread = np.maximum(std, 1e-9)

    def correlate(products: AnyArray, one: tuple[slice, ...], other: tuple[slice, ...]) -> AnyArray:
        covariance = products / n - mean[one] * mean[other]
        return np.asarray(np.clip(covariance / (spread[one] * spread[other]), -1, 1))

    down = correlate(below, np.s_[1:, :], np.s_[:-1, :])
    across = correlate(right, np.s_[:, 1:], np.s_[:, :-1])
    summed, neighbours = np.zeros_like(std), np.zeros_like(std)
    for place, values in (
        (np.s_[1:, :], down),
        (np.s_[:-1, :], down),
        (np.s_[:, 1:], across),
        (np.s_[:, :-1], across),
    ):
        summed[place] += values
        neighbours[place] += 1
    correlation = summed / np.maximum(neighbours, 1)
    return {"std": std.astype(np.float32), "correlation": correlation.astype(np.float32)}

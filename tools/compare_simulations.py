"""Compare simulated recordings with real ones: numbers and pictures.

    COCUYO_REAL_DATA=... python tools/compare_simulations.py --out comparison

measures noise, contrast and spectra of the real one-photon movies in the folder that
COCUYO_REAL_DATA names (left out where it is not set) and of the presets that resemble them, and
prints the table of docs/explanation/simulator.md. ``--out`` receives the table and a picture for
each pair; those show real data and do not belong into the repository. ``--docs FOLDER`` draws the
pictures of the documentation, which show simulations only.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from cocuyo.core import FloatArray
from cocuyo.io import open_recording

_BLOCK_PX = 8  # time courses are means over blocks of so many pixels a side


@dataclass(frozen=True)
class Numbers:
    """What is compared. Frequencies are per pixel and per frame.

    Attributes
    ----------
    level : float
        Mean over the largest count of the data type.
    noise : float
        Noise sd of a pixel (from differences of successive frames) over its mean; median.
    noise_neighbours : float
        Correlation of that noise between neighbours: 0 for a camera, more after lossy video.
    spatial_slope : float
        Slope of the mean image's power spectrum in log-log, 1/64 to 1/6 cycles per pixel.
    blob_contrast : float
        99th percentile of the mean image, band-passed to blobs (2 to 8 px), over its mean.
    activity_contrast : float
        99th percentile of the brightest moment over the median, of frames smoothed over 3 px
        and 3 frames, less what noise alone gives, over the mean.
    temporal_slope : float
        Slope of the blocks' power spectrum in log-log, 1/100 to 1/4 cycles per frame.
    global_share : float
        Share of the blocks' variance over time that follows the mean of the frame.
    slow_change : float
        Standard deviation of the frame's mean over time, smoothed over 15 frames, over the mean.
    """

    level: float
    noise: float
    noise_neighbours: float
    spatial_slope: float
    blob_contrast: float
    activity_contrast: float
    temporal_slope: float
    global_share: float
    slow_change: float


def measure(movie: np.ndarray) -> Numbers:
    """Measure a movie (T, Y, X) of counts."""
    frames = np.asarray(movie, np.float32)
    mean = frames.mean(axis=0)
    level = float(mean.mean())
    steps = np.diff(frames, axis=0)
    # Mean absolute deviation of a normal variable is 0.798 sd; two frames' noise adds.
    sd = np.abs(steps).mean(axis=0) / (np.sqrt(2 / np.pi) * np.sqrt(2))
    lit = mean > 0.1 * np.percentile(mean, 99)
    sample = steps[:: max(1, len(steps) // 100)]
    sample = sample - sample.mean(axis=(1, 2), keepdims=True)
    neighbours = (sample[:, :, 1:] * sample[:, :, :-1]).mean() / max(float(sample.var()), 1e-9)
    band = cv2.GaussianBlur(mean, (0, 0), 2.0) - cv2.GaussianBlur(mean, (0, 0), 8.0)
    blocks = block_courses(frames)
    whole = blocks.mean(axis=0)
    whole = whole - whole.mean()
    gain = blocks @ whole / max(float(whole @ whole), 1e-12)
    explained = (gain**2).sum() * float(whole @ whole) / max(float((blocks**2).sum()), 1e-12)
    course = frames.mean(axis=(1, 2))
    smooth = np.convolve(course, np.ones(15) / 15, mode="valid")
    return Numbers(
        level=level / np.iinfo(movie.dtype).max,
        noise=float(np.median(sd[lit] / mean[lit])),
        noise_neighbours=float(neighbours),
        spatial_slope=spatial_slope(mean),
        blob_contrast=float(np.percentile(band[8:-8, 8:-8], 99)) / level,
        activity_contrast=activity_contrast(frames) / level,
        temporal_slope=temporal_slope(blocks),
        global_share=float(explained),
        slow_change=float(smooth.std()) / level,
    )


def block_courses(frames: FloatArray) -> FloatArray:
    """Relative time courses of square blocks, (n_blocks, T), mean 0."""
    n_frames, rows, columns = frames.shape
    r, c = rows // _BLOCK_PX, columns // _BLOCK_PX
    cut = frames[:, : r * _BLOCK_PX, : c * _BLOCK_PX]
    courses = cut.reshape(n_frames, r, _BLOCK_PX, c, _BLOCK_PX).mean(axis=(2, 4))
    courses = courses.reshape(n_frames, -1).T
    level = courses.mean(axis=1, keepdims=True)
    keep = level[:, 0] > 0.1 * level.max()
    return np.asarray((courses / np.maximum(level, 1e-6) - 1)[keep], np.float32)


def spatial_slope(image: FloatArray) -> float:
    """Slope of the radial power spectrum of an image in log-log."""
    rows, columns = image.shape
    window = np.outer(np.hanning(rows), np.hanning(columns))
    centred = (image - np.average(image, weights=window)) * window
    power = np.abs(np.fft.fft2(centred)) ** 2
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None])
    return slope(radius.ravel(), power.ravel(), low=1 / 64, high=1 / 6)


def temporal_slope(blocks: FloatArray) -> float:
    """Slope of the mean power spectrum of time courses in log-log."""
    window = np.hanning(blocks.shape[1])
    power = (np.abs(np.fft.rfft(blocks * window)) ** 2).mean(axis=0)
    return slope(np.fft.rfftfreq(blocks.shape[1]), power, low=1 / 100, high=1 / 4)


def slope(frequency: FloatArray, power: FloatArray, *, low: float, high: float) -> float:
    """Fit a line through mean powers in 10 bands, equally wide in log frequency."""
    edges = np.geomspace(low, high, 11)
    band = np.digitize(frequency, edges)
    points = [
        (np.log(frequency[band == i].mean()), np.log(power[band == i].mean()))
        for i in range(1, 11)
        if (band == i).any()
    ]
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def activity_contrast(frames: FloatArray) -> float:
    """99th percentile of peaks over the median, less those of the same frames upside down."""
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in frames])
    smooth = smooth - smooth.mean(axis=(1, 2), keepdims=True)
    smooth = (smooth[:-2] + smooth[1:-1] + smooth[2:]) / 3
    middle = np.median(smooth, axis=0)
    up, down = smooth.max(axis=0) - middle, middle - smooth.min(axis=0)
    inner = (slice(8, -8), slice(8, -8))
    # Noise goes up and down alike, transients only up.
    return float(np.percentile(up[inner], 99) - np.percentile(down[inner], 99))

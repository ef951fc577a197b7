"""Cameras: from light to counts, and what is done to the frames before they are saved."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from cocuyo.core import AnyArray, BoolArray, FloatArray, FrozenConfig
from cocuyo.simulation.anatomy import as_float
from cocuyo.simulation.config import SimulationConfig

BASELINE_PERCENTILE = 20.0
"""Over time, of a pixel: the baseline of recordings that are saved as ΔF/F."""
_POISSON_BELOW = 20.0  # photoelectrons; above, a Gaussian is as good and five times faster


class CameraModel(FrozenConfig):
    """A kind of camera, in electrons; `with_camera` turns it into counts."""

    gain_counts_per_photon: float = Field(gt=0, description="Counts of one photoelectron.")
    read_noise_electrons: float = Field(ge=0, description="Median read noise, electrons RMS.")
    read_noise_spread: float = Field(default=0.0, ge=0, description="See `SimulationConfig`.")
    row_noise_electrons: float = Field(default=0.0, ge=0, description="Noise shared by a row.")
    offset_counts: float = Field(ge=0, description="Counts in the dark.")
    offset_spread_counts: float = Field(default=0.0, ge=0, description="Fixed, over pixels.")
    gain_spread: float = Field(default=0.0, ge=0, description="Fixed, relative, over pixels.")
    excess_noise: float = Field(default=1.0, ge=1, description="2 with electron multiplication.")
    full_well_electrons: float = Field(gt=0, description="A pixel holds no more.")
    bit_depth: int = Field(ge=8, le=16, description="Bits of a pixel.")


CameraName = Literal["EMCCD", "sCMOS", "CMOS"]
CAMERAS: dict[CameraName, CameraModel] = {
    # Andor iXon Ultra 897 (specification): read noise below 1 electron with multiplication,
    # whose gain doubles the variance of shot noise (Robbins and Hadwen 2003, IEEE Trans.
    # Electron Devices 50:1227). Full well 180 000 e⁻; at gain 30 the output ends it earlier.
    "EMCCD": CameraModel(
        gain_counts_per_photon=6.0,
        read_noise_electrons=0.8,
        offset_counts=200.0,
        excess_noise=2.0,
        full_well_electrons=10_000,
        bit_depth=16,
    ),
    # Hamamatsu ORCA-Flash4.0 V3 (specification): 0.46 e⁻ per count, offset 100, read noise
    # 1.0 e⁻ median and 1.6 RMS, which is a lognormal spread of 0.7; full well 30 000 e⁻.
    "sCMOS": CameraModel(
        gain_counts_per_photon=2.17,
        read_noise_electrons=1.0,
        read_noise_spread=0.7,
        offset_counts=100.0,
        offset_spread_counts=0.5,
        gain_spread=0.003,
        full_well_electrons=30_000,
        bit_depth=16,
    ),
    # Small CMOS sensor of a head-mounted microscope, such as the MT9V032 (data sheet: dynamic
    # range 55 dB, signal-to-noise above 40 dB, hence about 10 000 e⁻ and 18 e⁻), 8 bits at an
    # analog gain of 4; row noise and fixed pattern are ours, as large as they are seen.
    "CMOS": CameraModel(
        gain_counts_per_photon=0.1,
        read_noise_electrons=18.0,
        read_noise_spread=0.2,
        row_noise_electrons=4.0,
        offset_counts=8.0,
        offset_spread_counts=0.7,
        gain_spread=0.015,
        full_well_electrons=10_000,
        bit_depth=8,
    ),
}
"""Kinds of cameras: EMCCD, sCMOS and the small CMOS of miniscopes."""


def with_camera(
    config: SimulationConfig, name: CameraName, *, photons: float, fill: float | None = None
) -> SimulationConfig:
    """Put another camera behind the microscope.

    Parameters
    ----------
    config : SimulationConfig
        Settings; those of the camera are replaced.
    name : {"EMCCD", "sCMOS", "CMOS"}
        Kind of camera.
    photons : float
        Photoelectrons of a pixel in one frame, from the background at the brightest place.
    fill : float, optional
        Share of the range that this fills, by a gain that is turned accordingly; the camera's
        usual gain if not given.

    Returns
    -------
    SimulationConfig
        The settings.

    Examples
    --------
    >>> from cocuyo.simulation import SimulationConfig
    >>> config = with_camera(SimulationConfig(), "EMCCD", photons=200)
    >>> config.baseline_counts, config.excess_noise
    (1200.0, 2.0)
    """
    camera = CAMERAS[name]
    largest = 2**camera.bit_depth - 1
    gain = camera.gain_counts_per_photon
    if fill is not None:
        gain = fill * (largest - camera.offset_counts) / photons
    full = camera.offset_counts + gain * camera.full_well_electrons
    values = config.model_dump() | {
        "baseline_counts": gain * photons,
        "gain_counts_per_photon": gain,
        "read_noise_counts": gain * camera.read_noise_electrons,
        "read_noise_spread": camera.read_noise_spread,
        "row_noise_counts": gain * camera.row_noise_electrons,
        "offset_counts": camera.offset_counts,
        "offset_spread_counts": camera.offset_spread_counts,
        "gain_spread": camera.gain_spread,
        "excess_noise": camera.excess_noise,
        "saturation_counts": full if full < largest else None,
        "bit_depth": camera.bit_depth,
    }
    return SimulationConfig.model_validate(values)


@dataclass(frozen=True, eq=False)
class Sensor:
    """The pixels of one camera.

    Attributes
    ----------
    offset : ndarray of float32, shape (n_rows, n_columns)
        Counts in the dark, hot pixels included.
    sensitivity : ndarray of float32, or None
        Factor on the light, 0 in dead pixels.
    read_variance : ndarray of float32 or float32
        Variance of the read noise, counts squared.
    """

    offset: FloatArray
    sensitivity: FloatArray | None
    read_variance: FloatArray | np.float32


def draw_sensor(
    rng: np.random.Generator, pattern: np.random.Generator, *, config: SimulationConfig
) -> Sensor:
    """Draw the fixed properties of the pixels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness of hot pixels.
    pattern : numpy.random.Generator
        Source of randomness of all else.
    config : SimulationConfig
        The camera.

    Returns
    -------
    Sensor
        Its pixels.
    """
    shape = (config.n_rows, config.n_columns)
    offset = np.full(shape, config.offset_counts, np.float32)
    for _ in range(config.n_hot_pixels):
        pixel = int(rng.integers(config.n_rows)), int(rng.integers(config.n_columns))
        offset[pixel] += config.baseline_counts * rng.uniform(0.3, 2.0)
    sensitivity = None
    read_variance: FloatArray | np.float32 = np.float32(config.read_noise_counts**2)
    if config.gain_spread > 0 or config.n_dead_pixels > 0:
        drawn = 1 + config.gain_spread * pattern.standard_normal(shape, dtype=np.float32)
        sensitivity = as_float(np.clip(drawn, 0.05, None))
        dead = pattern.integers(0, shape, (config.n_dead_pixels, 2))
        sensitivity[dead[:, 0], dead[:, 1]] = 0.0
    if config.offset_spread_counts > 0:
        offset += config.offset_spread_counts * pattern.standard_normal(shape, dtype=np.float32)
    if config.read_noise_spread > 0:
        spread = pattern.standard_normal(shape, dtype=np.float32)
        read_variance = as_float(read_variance * np.exp(2 * config.read_noise_spread * spread))
    return Sensor(offset, sensitivity, read_variance)


def expose(
    expected: FloatArray, sensor: Sensor, rng: np.random.Generator, *, config: SimulationConfig
) -> FloatArray:
    """Take one frame.

    Parameters
    ----------
    expected : ndarray of float32, shape (n_rows, n_columns)
        Light in counts of a perfect camera, 0 or more.
    sensor : Sensor
        The pixels.
    rng : numpy.random.Generator
        Source of the noise.
    config : SimulationConfig
        The camera.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        Counts, before they are rounded and clipped to the range of the data type.
    """
    gain, excess = config.gain_counts_per_photon, config.excess_noise
    if sensor.sensitivity is not None:
        expected = expected * sensor.sensitivity
    if gain > 0 and config.baseline_counts < _POISSON_BELOW * gain * 2.0:
        electrons = rng.poisson(expected / gain).astype(np.float32)
        if excess > 1:
            # Multiplication: a gamma variable of mean n and variance n (F² - 1).
            shape = np.maximum(electrons / (excess - 1), 1e-9)
            electrons = (rng.gamma(shape) * (excess - 1)).astype(np.float32)
        counts = gain * electrons
        spread = np.sqrt(sensor.read_variance)
    else:
        counts = expected
        spread = np.sqrt(gain * excess * expected + sensor.read_variance)
    counts = counts + spread * rng.standard_normal(expected.shape, dtype=np.float32)
    if config.row_noise_counts > 0:
        rows = rng.standard_normal((expected.shape[0], 1), dtype=np.float32)
        counts += np.float32(config.row_noise_counts) * rows
    counts += sensor.offset
    if config.saturation_counts is not None:
        counts = np.minimum(counts, np.float32(config.saturation_counts))
    return as_float(counts)


def expected_variance(still: FloatArray, sensor: Sensor, *, config: SimulationConfig) -> FloatArray:
    """Variance of each pixel's counts for the given light, flattened like `still`.

    Parameters
    ----------
    still : ndarray of float32, shape (n_pixels,)
        Light in counts.
    sensor : Sensor
        The pixels.
    config : SimulationConfig
        The camera.

    Returns
    -------
    ndarray of float32, shape (n_pixels,)
        Shot, read, row and rounding noise (1/12 for whole counts).
    """
    shot = config.gain_counts_per_photon * config.excess_noise * still
    if np.ndim(sensor.read_variance):
        read = np.ravel(sensor.read_variance) + config.row_noise_counts**2
        return np.asarray(shot + read + 1 / 12)
    read_variance = config.read_noise_counts**2 + config.row_noise_counts**2
    return np.asarray(shot + read_variance + 1 / 12)


def draw_dropped(rng: np.random.Generator, *, config: SimulationConfig) -> BoolArray:
    """Draw which frames were lost, never the first, shape (n_frames,)."""
    dropped = np.zeros(config.n_frames, np.bool_)
    lost = rng.choice(config.n_frames - 1, config.n_dropped_frames, replace=False) + 1
    dropped[lost] = True
    return dropped


def save_frames(frames: AnyArray, *, config: SimulationConfig) -> AnyArray:
    """Do to the frames what is done between camera and file; changes them in place.

    Parameters
    ----------
    frames : ndarray of uint8 or uint16, shape (n_frames, n_rows, n_columns)
        Counts of the camera.
    config : SimulationConfig
        Smoothing, ΔF/F and compression.

    Returns
    -------
    ndarray of uint8 or uint16, shape (n_frames, n_rows, n_columns)
        The same array.
    """
    largest = config.max_count
    if config.saved_as == "delta_f_over_f":
        _stretch(frames, config=config)
    elif config.saved_blur_px > 0:
        for t, frame in enumerate(frames):
            frames[t] = np.clip(np.rint(_smooth(frame, config)), 0, largest)
    if config.jpeg_quality is not None:
        quality = [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality]
        for t, frame in enumerate(frames):
            frames[t] = cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_GRAYSCALE)
    return frames


def _smooth(frame: AnyArray, config: SimulationConfig) -> FloatArray:
    image = as_float(frame)
    if config.saved_blur_px == 0:
        return image
    return as_float(cv2.GaussianBlur(image, (0, 0), config.saved_blur_px))


def _stretch(frames: AnyArray, *, config: SimulationConfig) -> None:
    """Replace counts by ΔF/F against each pixel's baseline, stretched over the range."""
    some = frames[:: 1 + len(frames) // 100]
    base = np.maximum(_smooth(np.percentile(some, BASELINE_PERCENTILE, axis=0), config), 1.0)
    sample = np.stack([_smooth(frame, config) / base - 1 for frame in some])
    low, high = (float(value) for value in np.percentile(sample, [0.05, 99.8]))
    scale = config.max_count / max(high - low, 1e-9)
    for t, frame in enumerate(frames):
        change = _smooth(frame, config) / base - 1
        frames[t] = np.clip(np.rint((change - low) * scale), 0, config.max_count)

"""The light of each frame: bleaching, lamp, flashes and stimuli."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cocuyo.core import BoolArray, FloatArray, TimeArray
from cocuyo.simulation.activity import stimulus_times
from cocuyo.simulation.anatomy import as_float
from cocuyo.simulation.config import SimulationConfig


@dataclass(frozen=True, eq=False)
class Light:
    """What happens to the light over time.

    Attributes
    ----------
    factor : ndarray of float32, shape (n_frames,)
        Factor on all light of the tissue: bleaching, lamp and flashes.
    flashes : ndarray of bool, shape (n_frames,)
        Frames with a flash or a stimulus that can be seen.
    stray : ndarray of float32, shape (n_frames,)
        Light of stimuli that falls on the camera, relative to background.
    tilt : ndarray of float32, shape (n_frames, 2)
        Relative change of the illumination at the lower and right border.
    stimuli_s : ndarray of float64
        Times of the stimuli, s.
    """

    factor: FloatArray
    flashes: BoolArray
    stray: FloatArray
    tilt: FloatArray
    stimuli_s: TimeArray

    def slope(self, t: int, frame_shape: tuple[int, int]) -> FloatArray:
        """Factor of frame `t` that changes across the image.

        Parameters
        ----------
        t : int
            Frame.
        frame_shape : tuple of int
            Rows and columns.

        Returns
        -------
        ndarray of float32, shape `frame_shape`
            1 where the illumination has not tilted.
        """
        y = np.linspace(-1, 1, frame_shape[0], dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, frame_shape[1], dtype=np.float32)[None]
        return as_float(1 + self.tilt[t, 0] * y + self.tilt[t, 1] * x)


def draw_light(
    rng: np.random.Generator, lamp: np.random.Generator, *, config: SimulationConfig
) -> Light:
    """Draw the light of each frame.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness of bleaching and flashes.
    lamp : numpy.random.Generator
        Source of randomness of the lamp.
    config : SimulationConfig
        Bleaching, flashes, lamp and stimuli.

    Returns
    -------
    Light
        Bleaching is exponential; flashes last one or two frames.
    """
    time = np.linspace(0, 1, config.n_frames)
    steepness = rng.uniform(0.5, 4.0)
    decay = (1 - np.exp(-steepness * time)) / (1 - np.exp(-steepness))
    light = 1 - config.bleaching * decay
    flashes = np.zeros(config.n_frames, np.bool_)
    for _ in range(config.n_flashes):
        start = int(rng.integers(1, config.n_frames))
        length = int(rng.integers(1, 3))
        share = rng.uniform(0.4, 1.0)
        if not flashes[start : start + length].any():
            light[start : start + length] *= 1 + (config.flash_factor - 1) * share
            flashes[start : start + length] = True
    light = light * _lamp(lamp, config=config)
    tilt = np.zeros((config.n_frames, 2))
    if config.illumination_tilt > 0:
        tilt = _slow(lamp, (config.n_frames, 2))
        tilt *= config.illumination_tilt / max(float(np.abs(tilt).sum(axis=1).max()), 1e-9)
    stimuli_s = stimulus_times(config)
    stray = np.zeros(config.n_frames)
    for start_s in stimuli_s:
        # Share of each exposure during which the stimulus shines.
        edges = np.arange(config.n_frames + 1) / config.frame_rate_hz
        lit = np.clip(edges, start_s, start_s + config.stimulus_duration_s)
        stray += config.stimulus_light * np.diff(lit) * config.frame_rate_hz
    return Light(
        light.astype(np.float32), flashes | (stray > 0), as_float(stray), as_float(tilt), stimuli_s
    )


def _lamp(rng: np.random.Generator, *, config: SimulationConfig) -> TimeArray:
    """Factor of the lamp in each frame: drift, steps, wandering and flicker."""
    factor = np.ones(config.n_frames)
    if config.lamp_drift > 0:
        slow = _slow(rng, (config.n_frames,))
        factor *= np.exp(config.lamp_drift * slow / max(float(slow.std()), 1e-9))
    for _ in range(config.n_lamp_steps):
        start = int(rng.integers(1, config.n_frames))
        factor[start:] *= 1 + config.lamp_step * rng.uniform(0.4, 1.0) * rng.choice([-1, 1])
    if config.lamp_wander > 0:
        steps = config.lamp_wander * rng.standard_normal(config.n_frames)
        factor *= np.exp(np.cumsum(steps) - steps[0])
    if config.lamp_flicker > 0:
        factor *= np.exp(config.lamp_flicker * rng.standard_normal(config.n_frames))
    return factor


def _slow(rng: np.random.Generator, shape: tuple[int, ...]) -> TimeArray:
    """A smooth course that starts at 0."""
    walk = np.cumsum(rng.standard_normal(shape), axis=0)
    walk = ndimage.gaussian_filter1d(walk, max(shape[0] / 60, 1.0), axis=0)
    return np.asarray(walk - walk[0])

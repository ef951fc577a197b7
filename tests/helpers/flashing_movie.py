"""A small movie of flashing and silent discs, with known places, courses and motion."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cocuyo.core import Recording

DIAMETER_PX = 8.0
RATE_HZ = 8.0
SHAPE = (64, 72)
ACTIVE = ((14, 14), (15, 52), (34, 31), (50, 57), (49, 14))
SILENT = ((31, 9), (32, 54), (53, 37), (10, 33))
_MARGIN = 12  # tissue around the frame, so that motion brings in what is there


@dataclass(frozen=True, eq=False)
class FlashingMovie:
    """Frames in counts and what is true of them: relative courses and masks of the flashers."""

    frames: np.ndarray
    courses: np.ndarray
    masks: np.ndarray
    shifts: np.ndarray

    def recording(self, frames=None, **given):
        """Make a recording of the frames, or of others in their place."""
        given = {"frame_rate_hz": RATE_HZ, "pixel_size_um": 1.5, "name": "flashing", **given}
        recording = Recording.from_array(
            self.frames if frames is None else frames,
            frame_rate_hz=given["frame_rate_hz"],
            pixel_size_um=given["pixel_size_um"],
            name=given["name"],
        )
        return recording.with_metadata(diameter_um=DIAMETER_PX * 1.5)


def disc(centre, radius, shape=SHAPE, soft=0.5):
    """Draw a disc with soft edges, 1 inside; half of it at the radius."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    away = np.clip((np.hypot(y - centre[0], x - centre[1]) - radius) / soft, -30, 30)
    return 1 / (1 + np.exp(away))


def transients(n_frames, onsets, *, rate_hz=RATE_HZ, decay_s=1.0):
    """Sum decaying exponentials of height 1 that start at the given frames."""
    course = np.zeros(n_frames)
    for onset in onsets:
        course[onset:] += np.exp(-np.arange(n_frames - onset) / (decay_s * rate_hz))
    return course


def make_movie(
    *,
    n_frames=240,
    shape=SHAPE,
    active=ACTIVE,
    silent=SILENT,
    amplitude=0.25,
    rest=0.25,
    noise_counts=12.0,
    background=1000.0,
    shifts=None,
    seed=0,
):
    """Put discs on uneven tissue and let some of them flash, each at times of its own.

    `shifts` says how far the tissue moved since frame 0, in pixels, (n_frames, 2).
    """
    random = np.random.default_rng(seed)
    moves = np.zeros((n_frames, 2)) if shifts is None else np.asarray(shifts, float)
    canvas = (shape[0] + 2 * _MARGIN, shape[1] + 2 * _MARGIN)
    texture = ndimage.gaussian_filter(random.standard_normal(canvas), 3)
    still = background * (1 + 0.05 * texture / texture.std())
    places = [np.add(centre, _MARGIN) for centre in active]
    cells = np.array([disc(place, DIAMETER_PX / 2, canvas) for place in places])
    cells = cells.reshape(len(active), *canvas)
    seen = sum(disc(np.add(centre, _MARGIN), DIAMETER_PX / 2, canvas) for centre in silent)
    still = still * (1 + rest * (cells.sum(axis=0) + seen))
    spacing = (n_frames - 40) / (3 * max(1, len(active)))
    courses = np.array(
        [
            transients(n_frames, [round(24 + spacing * (i + k * len(active))) for k in range(3)])
            for i in range(len(active))
        ]
    ).reshape(len(active), n_frames)
    frames = np.empty((n_frames, *shape), np.float32)
    inner = (slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    for t, move in enumerate(moves):
        image = still + background * amplitude * np.tensordot(courses[:, t], cells, axes=1)
        if move.any():
            image = ndimage.shift(image, move, order=3, mode="nearest")
        frames[t] = image[inner]
    frames += random.normal(0, noise_counts, frames.shape).astype(np.float32)
    frames = np.rint(frames).clip(0, 65535)
    frames.flags.writeable = False
    masks = cells[:, inner[0], inner[1]] >= 0.5
    return FlashingMovie(frames, courses, masks, moves.astype(np.float32))

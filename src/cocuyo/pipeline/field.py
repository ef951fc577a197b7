"""Whether two mean pictures show one field of view, and how far it lies from where it lay."""

from dataclasses import dataclass

import numpy as np

from cocuyo.core import FLAG_INVALID, FLAG_UNPLACED, FloatArray
from cocuyo.preprocessing import MotionConfig, place_frames, start_motion

SAME_FIELD = 0.7
"""Correlation of two mean pictures, laid over each other, from which they show one field. Two parts
of one recording have 0.98 and more in simulations, 0.85 in a miniscope's; two fields 0.25 at most,
but 0.54 in movies without structure at rest."""


@dataclass(frozen=True)
class FieldShift:
    """Where a field lies in one mean picture, against another.

    Attributes
    ----------
    offset_px : tuple of float
        How far it moved, (dy, dx) in pixels.
    correlation : float
        Of the two pictures, laid over each other, band-passed around the size of a soma, in
        [-1, 1].
    placed : bool
        Whether one place stands out from all others.
    """

    offset_px: tuple[float, float]
    correlation: float
    placed: bool

    @property
    def same(self) -> bool:
        """Whether the pictures show one field."""
        return self.placed and self.correlation >= SAME_FIELD

    def describe(self) -> str:
        """Say in words how far the field moved, such as ``3.2 px down and 1.0 px left``."""
        dy, dx = self.offset_px
        return (
            f"{abs(dy):.1f} px {'down' if dy > 0 else 'up'} and {abs(dx):.1f} px "
            f"{'right' if dx > 0 else 'left'}"
        )


def measure_field_shift(
    mean: FloatArray, reference: FloatArray, *, diameter_px: float
) -> FieldShift:
    """Place one mean picture on another, as motion correction places a frame.

    Parameters
    ----------
    mean, reference : ndarray of float32, shape (n_rows, n_columns)
        The pictures, in camera counts.
    diameter_px : float
        Typical soma diameter in pixels.

    Returns
    -------
    FieldShift
        How far the field of `mean` lies from that of `reference`; at most 0.3 of the frame's
        shorter side is looked for.
    """
    config = MotionConfig(max_shift_px=float(max(mean.shape)), shrink=False)
    state = start_motion(reference[None], config=config, diameter_px=diameter_px)
    motion, _ = place_frames(np.stack([reference, mean]), state)
    placed = not (np.asarray(motion.flags) & (FLAG_UNPLACED | FLAG_INVALID)).any()
    dy, dx = motion.shifts[1].tolist()
    return FieldShift((dy, dx), float(motion.confidence[1]), placed)

"""Stage 1: from a recording to a normalised, motion-corrected movie."""

from cocuyo.preprocessing.contrast import (
    ContrastConfig,
    ContrastState,
    contrast_of_soma,
    contrast_peaks,
    contrast_step,
    gather_peaks,
    relative_brightness,
    start_contrast,
)
from cocuyo.preprocessing.equalisation import (
    EqualisationConfig,
    GreyRange,
    equalise,
    measure_grey_range,
)
from cocuyo.preprocessing.motion import (
    DeformationReport,
    MotionConfig,
    MotionState,
    apply_motion,
    apply_shifts,
    crispness,
    deformation_so_far,
    frames_until_measured,
    measure_deformation,
    place_frames,
    start_motion,
    valid_pixels,
)
from cocuyo.preprocessing.scale import DiameterMeasurement, ScaleConfig, measure_diameter

__all__ = [
    "ContrastConfig",
    "ContrastState",
    "DeformationReport",
    "DiameterMeasurement",
    "EqualisationConfig",
    "GreyRange",
    "MotionConfig",
    "MotionState",
    "ScaleConfig",
    "apply_motion",
    "apply_shifts",
    "contrast_of_soma",
    "contrast_peaks",
    "contrast_step",
    "crispness",
    "deformation_so_far",
    "equalise",
    "frames_until_measured",
    "gather_peaks",
    "measure_deformation",
    "measure_diameter",
    "measure_grey_range",
    "place_frames",
    "relative_brightness",
    "start_contrast",
    "start_motion",
    "valid_pixels",
]

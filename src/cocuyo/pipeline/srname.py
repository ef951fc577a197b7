"""SRNAME-like: the earlier system of the paper's authors, rebuilt from its description.

Blobs are found in every preprocessed frame by a difference of Gaussians, accumulated over the
recording, and each cell is validated by a 1-D difference of Gaussians of its trace (paper,
sections 4 and 5). The original was never published; its settings are ours.
"""

import numpy as np

from cocuyo.core import (
    BoolArray,
    FloatArray,
    LabelArray,
    Recording,
)
from cocuyo.pipeline.finish import finish_mask
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.pipeline.stream import (
    Setup,
    Step,
    join_motion,
    resize,
    resize_to,
    set_up,
    stream_steps,
)
from cocuyo.preprocessing import equalise, valid_pixels
from cocuyo.segmentation import detect_blobs


def count_blobs(step: Step, setup: Setup) -> FloatArray:
    """Detect blobs in each frame of a step.

    Parameters
    ----------
    step : Step
        A usable step.
    setup : Setup
        Its recording's setup.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Number of the step's frames in which each pixel belongs to a blob, at the networks'
        magnification.
    """
    total = np.zeros(step.mean.shape, np.float32)
    for frame in step.frames:
        image = equalise(
            resize(frame, setup.factor),
            setup.grey_range,
            diameter_px=setup.network_diameter_px,
            config=setup.config.equalisation,
        )
        total += detect_blobs(
            image, diameter_px=setup.network_diameter_px, config=setup.config.blobs
        )
    return total


def blob_labels(recording: Recording, *, config: PipelineConfig, diameter_px: float) -> LabelArray:
    """Label the cells that the SRNAME-like system finds: the teacher of the paper's networks.

    Parameters
    ----------
    recording : Recording
        The recording.
    config : PipelineConfig
        Settings.
    diameter_px : float
        Typical soma diameter in pixels.

    Returns
    -------
    ndarray of int32, shape (n_rows, n_columns)
        0 outside, 1..n in the validated cells.
    """
    setup = set_up(recording, config=config, diameter_px=diameter_px)
    share: FloatArray | None = None
    motions, n_frames = [], 0
    for step in stream_steps(recording, setup):
        motions.append(step.motion)
        if not step.usable:
            continue
        blobs = count_blobs(step, setup)
        share = blobs if share is None else share + blobs
        n_frames += len(step.frames)
    motion = join_motion(motions)
    if share is None:
        return np.zeros(recording.frame_shape, np.int32)
    share = resize_to(share / np.float32(max(1, n_frames)), recording.frame_shape)
    found = finish_mask(
        recording,
        motion,
        blob_mask(share, config),
        valid=valid_pixels(
            recording.frame_shape,
            motion.shifts,
            deformation=motion.deformation,
            flags=motion.flags,
        ),
        config=config,
        diameter_px=diameter_px,
    )
    return found.rois.label_image()


def blob_mask(share: FloatArray, config: PipelineConfig) -> BoolArray:
    """Threshold the accumulated detections.

    Parameters
    ----------
    share : ndarray of float32, shape (n_rows, n_columns)
        Share of the frames in which each pixel belonged to a blob.
    config : PipelineConfig
        Thresholds.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        The mask before refinement.
    """
    return np.asarray(
        (share >= config.blobs.min_share) & (share <= config.blobs.max_share), np.bool_
    )

"""Slow deformation beside the shift of the whole frame, on simulated slices."""

import numpy as np
import pytest

from cocuyo.core import Deformation, Motion, SettingsError
from cocuyo.preprocessing import (
    MotionConfig,
    apply_motion,
    apply_shifts,
    deformation_so_far,
    frames_until_measured,
    measure_deformation,
    place_frames,
    start_motion,
    valid_pixels,
)
from cocuyo.preprocessing.deformation import node_places, remap
from cocuyo.simulation import PRESETS, simulate

DIAMETER = 9.0
PIECES = MotionConfig(piecewise=True, patch_px=80.0)


def film(**effects):
    """A small slice that drifts, with 260 frames in 39 s."""
    config = PRESETS["slice"].model_copy(
        update={
            "n_frames": 260,
            "n_rows": 144,
            "n_columns": 176,
            "drift_px": 3.0,
            "jitter_px": 0.2,
            "n_dirt": 4,
            "nonrigid_px": 0.0,
            "split": "validation",
        }
        | effects
    )
    return simulate(config, seed=31)


def place(simulation, config=PIECES, **how):
    frames, rate = simulation.frames, simulation.truth.fps
    state = start_motion(
        frames[:32], config=config, diameter_px=DIAMETER, frame_rate_hz=rate, **how
    )
    motion, state = place_frames(frames, state)
    return motion, state


def residual(truth, motion, deformation):
    """RMS over cells and frames of what is left, without what is constant for a cell."""
    y, x = truth.centres[truth.in_focus].T
    left = motion.shifts - truth.displacements(y, x)
    if deformation is not None:
        left = left + deformation.displacements(np.arange(len(motion.flags)), y, x)
    left = left - left.mean(axis=1, keepdims=True)
    return float(np.sqrt((left**2).sum(axis=2).mean()))


@pytest.fixture(scope="module")
def deforming():
    return film(nonrigid_px=1.5)


@pytest.fixture(scope="module")
def measured(deforming):
    motion, state = place(deforming)
    return motion, state, measure_deformation(state)


def test_what_is_left_of_a_deformation_is_a_third_of_it_at_most(deforming, measured):
    motion, _, told = measured
    rigid = residual(deforming.truth, motion, None)
    assert rigid > 0.2
    assert residual(deforming.truth, motion, told.deformation) < 0.33 * rigid


def test_it_fits_frames_better_that_it_was_not_measured_from(measured):
    _, _, told = measured
    assert told.after > told.before + 0.002
    assert told.n_steps == 20
    assert 0.1 < told.rms_px < 1.0


def test_the_shifts_of_the_whole_frame_stay_what_they_are(deforming, measured):
    motion, _ = place(deforming, MotionConfig())
    np.testing.assert_array_equal(measured[0].shifts, motion.shifts)
    np.testing.assert_array_equal(measured[0].flags, motion.flags)


@pytest.mark.parametrize(
    "effects",
    [
        {},
        {"drift_px": 0.0, "jitter_px": 0.0},
        {"drift_px": 6.0, "n_dirt": 25},
        {"gain_counts_per_photon": PRESETS["slice"].baseline_counts / 40},
    ],
    ids=["shifted", "still", "behind dirt", "dim"],
)
def test_a_recording_that_moves_as_a_whole_is_moved_as_a_whole(effects):
    _, state = place(film(**effects))
    told = measure_deformation(state)
    assert told.n_steps == 20
    assert told.deformation is None
    assert deformation_so_far(state) is None


def test_blocks_equal_whole(deforming, measured):
    frames, rate = deforming.frames, deforming.truth.fps
    state = start_motion(frames[:32], config=PIECES, diameter_px=DIAMETER, frame_rate_hz=rate)
    for first, last in ((0, 1), (1, 12), (12, 14), (14, 14), (14, 100), (100, 260)):
        _, state = place_frames(frames[first:last], state)
    told, whole = measure_deformation(state), measured[2]
    np.testing.assert_array_equal(told.deformation.grid, whole.deformation.grid)
    np.testing.assert_array_equal(told.deformation.frames, whole.deformation.frames)
    assert (told.before, told.after) == (whole.before, whole.after)


def test_the_next_measurement_is_announced(deforming):
    frames, rate = deforming.frames, deforming.truth.fps
    state = start_motion(frames[:32], config=PIECES, diameter_px=DIAMETER, frame_rate_hz=rate)
    per_step = round(2 * rate)
    assert frames_until_measured(state) == per_step
    _, state = place_frames(frames[:5], state)
    assert frames_until_measured(state) == per_step - 5
    _, state = place_frames(frames[5:per_step], state)
    assert frames_until_measured(state) == per_step
    assert measure_deformation(state).n_steps == 1


def test_frames_without_values_are_left_out(deforming, measured):
    gaps = deforming.frames.astype(np.float32)
    gaps[[60, 61, 150]] = np.nan
    gaps[:, 20:40, 30:50] = np.nan
    rate = deforming.truth.fps
    state = start_motion(gaps[:32], config=PIECES, diameter_px=DIAMETER, frame_rate_hz=rate)
    motion, state = place_frames(gaps, state)
    told = measure_deformation(state)
    assert np.isfinite(told.deformation.grid).all()
    rigid = residual(deforming.truth, motion, None)
    assert residual(deforming.truth, motion, told.deformation) < 0.4 * rigid


def test_a_step_without_usable_frames_is_bridged(deforming):
    gaps = deforming.frames.astype(np.float32)
    gaps[100:140] = np.nan
    rate = deforming.truth.fps
    state = start_motion(gaps[:32], config=PIECES, diameter_px=DIAMETER, frame_rate_hz=rate)
    _, state = place_frames(gaps, state)
    told = measure_deformation(state)
    assert told.n_steps < 20
    assert np.isfinite(told.deformation.at(np.arange(260))).all()


def test_patches_that_show_nothing_go_with_their_neighbours(deforming, measured):
    exclude = np.zeros(deforming.frames.shape[1:], np.bool_)
    exclude[:, :72] = True
    _, state = place(deforming, exclude=exclude)
    grid = measure_deformation(state).deformation.grid
    assert np.isfinite(grid).all()
    # The node in the middle of what is excluded has no pixel of its own.
    size = np.abs(grid[:, :, 0]).max()
    assert size <= np.abs(grid[:, :, 1:]).max() + 0.05


def test_no_patch_moves_farther_than_it_may(deforming):
    config = PIECES.model_copy(update={"max_deformation_px": 0.4})
    _, state = place(deforming, config)
    deformation = measure_deformation(state).deformation
    assert np.hypot(*np.moveaxis(deformation.grid, -1, 0)).max() <= 0.4 + 1e-5


def test_a_frame_smaller_than_a_patch_has_a_single_one():
    assert node_places(100, 128.0, 0.5).tolist() == [49.5]
    assert node_places(512, 128.0, 0.5).tolist() == np.linspace(0, 511, 9).tolist()
    assert len(node_places(4000, 128.0, 0.5)) == 13


def test_without_a_frame_rate_it_is_refused_in_one_line(deforming):
    with pytest.raises(SettingsError, match="Give frame_rate_hz"):
        start_motion(deforming.frames[:32], config=PIECES, diameter_px=DIAMETER)


def test_where_frames_stay_where_they_are_nothing_is_measured(deforming):
    config = MotionConfig(method="none", piecewise=True)
    _, state = place(deforming, config)
    assert measure_deformation(state) is None
    assert frames_until_measured(state) is None


def lattice(value, shape=(60, 70)):
    y, x = (np.linspace(0, size - 1, 3, dtype=np.float32) for size in shape)
    grid = np.broadcast_to(np.asarray(value, np.float32), (1, 3, 3, 2)).copy()
    return Deformation(np.zeros(1, np.int32), grid, y, x)


def smooth_image(shape=(60, 70)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (100 + 20 * np.sin(y / 5) + 15 * np.cos(x / 6)).astype(np.float32)


def motion_of(shift, deformation):
    return Motion(
        np.array([shift], np.float32), np.ones(1, np.float32), np.zeros(1, np.uint8), deformation
    )


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_displacement_that_is_the_same_everywhere_is_a_shift(interpolation):
    frame = smooth_image()[None]
    moved = apply_motion(
        frame, motion_of((0.75, -1.5), lattice((0.5, 1.1))), interpolation=interpolation
    )
    expected = apply_shifts(
        frame, np.array([[1.25, -0.4]], np.float32), interpolation=interpolation
    )
    # Places are rounded to 1/32 px along both axes; values change by 4 and 2.5 a pixel at most.
    np.testing.assert_allclose(moved, expected, atol=6.5 / 32)


def test_without_deformation_it_is_the_shift_to_the_last_bit():
    frame = smooth_image()[None]
    moved = apply_motion(frame, motion_of((0.7, 2.2), None), interpolation="cubic")
    shifted = apply_shifts(frame, np.array([[0.7, 2.2]], np.float32), interpolation="cubic")
    np.testing.assert_array_equal(moved, shifted)


def test_values_that_are_not_finite_are_filled_before_frames_are_bent():
    frame = smooth_image()
    frame[20:22, 30] = np.nan
    moved = apply_motion(frame[None], motion_of((0.3, 0.3), lattice((0.2, 0.2))))
    assert np.isfinite(moved).all()


def test_cubic_places_are_not_beside_the_point():
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32), (64, 64)).copy()
    x = np.arange(8, 56, dtype=np.float32)[None] + np.linspace(0, 1, 48, dtype=np.float32)
    y = np.arange(8, 56, dtype=np.float32)[:, None]
    error = remap(ramp, y, x) - x
    assert np.abs(error).max() < 1 / 64 + 0.004  # the kernel as it is: 0.048 and the rounding


def test_pixels_that_the_deformation_moves_out_of_view_are_not_valid():
    deformation = lattice((0.0, 0.0))
    deformation.grid[0, :, 0, 1] = -3.0  # the left side comes from beyond the frame
    valid = valid_pixels((60, 70), np.zeros((4, 2), np.float32), deformation=deformation)
    assert not valid[:, 0].any()
    assert valid[:, 10:].all()

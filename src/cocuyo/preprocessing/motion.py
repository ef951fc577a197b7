"""Motion compensation: where each frame lies relative to the first, and moving it back.

Everything is estimated on *landmarks*: the frame, averaged over small squares where somata
are large in pixels, band-passed around the size of a soma and divided by its local standard
deviation. Gain, offset, flashes, bleaching and vignetting drop out there. Each frame is
placed given a state and gives the next state, so blocks of any size give the same answer.
"""

import statistics
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import Field

from cocuyo.core import (
    FLAG_FLASH,
    FLAG_INVALID,
    FLAG_UNPLACED,
    AnyArray,
    BoolArray,
    Deformation,
    FloatArray,
    FrozenConfig,
    Motion,
    SettingsError,
    TimeArray,
    median,
)
from cocuyo.preprocessing.deformation import (
    LocalState,
    Settled,
    add_frame,
    displacement_now,
    end_step,
    node_places,
    remap,
    settle_local,
    start_local,
)
from cocuyo.preprocessing.translation import translate as _translate
from cocuyo.preprocessing.translation import trust as _trust

ByteArray = np.ndarray[Any, np.dtype[np.uint8]]

# Landmarks, in soma diameters. A disc of diameter d answers a Laplacian of Gaussian most at
# sigma = d / (2 sqrt 2) = 0.35 d (Lindeberg 1998); the band lies around it.
_FINE_SIGMA = 0.12
_COARSE_SIGMA = 0.6
_LOCAL_WINDOW = 3.0
_CLIP = 4.0
# Somata keep at least this many pixels when frames are averaged over squares, and frames this
# many pixels on the shorter side: below, the placing gets worse than it gets faster.
_SMALLEST_DIAMETER = 3.5
# Large frames are halved from here on: the error stays below 0.1 px at an SNR of 2 but grows, and
# placing takes a third of the time. Small ones are quick as they are.
_HALVED_FROM_PX = 6.0
_LARGE_SIDE = 400
_SMALLEST_SIDE = 128
# Frames looked back on: for the usual brightness, and for the usual confidence.
_BRIGHTNESS_FRAMES = 15
_CONFIDENCE_FRAMES = 61
# Pixels looked at for medians of a frame.
_SAMPLE = 4096
# What stands still on the sensor: averaged over about 1 / rate frames.
_STANDING_RATE = 0.02
# Side of the tiles whose two interleaved halves place a frame independently, soma diameters;
# and the memory of the error and of the steps so measured, frames.
_TILE = 3.0
_ERROR_FRAMES = 30
# A recording counts as still until a frame lies this many standard deviations of its error away,
# or the mean of the last `_ERROR_FRAMES` frames one (4.5 of its own): noise does so once in 10^5
# frames.
_STILL_SD = 6.0
# Variance of still frames' places over the error that the halves tell: 0.9 to 2.1 in 12 simulated
# recordings of the split `validation`, as the halves share the template's noise.
_STILL_ERRORS = 1.7
_STILL_FROM = 8  # first frames placed; fewer do not say whether they move
# Less motion than this, in pixels of the landmarks, is none: it changes a soma's mean by less than
# 0.5 %.
_STILL_PX = 0.02
# Frames of which a deformation is measured at least.
_LOCAL_FRAMES = 8
# A frame's brightness is compared in robust standard deviations (1.4826 x median |x|).
_MAD_TO_SD = 1.4826


class MotionConfig(FrozenConfig):
    """Settings of motion compensation."""

    method: Literal["template_correlation", "lucas_kanade", "none"] = Field(
        default="template_correlation",
        description="How frames are placed. template_correlation: band-passed "
        "cross-correlation with a template, refined by robust least squares; "
        "lucas_kanade: the paper's optical flow between consecutive frames; none: frames "
        "stay where they are.",
    )
    max_shift_px: float = Field(
        default=25.0,
        gt=0,
        description="Largest shift looked for, px, in either direction; limited to 0.3 of the "
        "frame's shorter side. Larger follows stronger motion and mistakes more.",
    )
    template_frames: int = Field(
        default=32,
        ge=1,
        le=48,
        description="First frames averaged to the template. More are less noisy; they must lie "
        "within the first 48.",
    )
    template_rate: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Weight of a new frame in the running half of the template. Larger follows "
        "change of focus and brightness faster, and is noisier; 0 keeps the first template.",
    )
    template_refresh_frames: int = Field(
        default=16,
        ge=1,
        description="Frames after which the running half enters the template; fewer cost time.",
    )
    refinements: int = Field(
        default=3,
        ge=0,
        le=10,
        description="Steps of subpixel refinement; each costs about 0.5 ms per frame.",
    )
    shrink: bool = Field(
        default=True,
        description="template_correlation: reduce the step from frame to frame by the share "
        "that is measurement error, known from two halves of the field. Steadier in dim "
        "recordings, with a small lag there; no effect in clear ones. A recording that stands "
        "still within that error is not moved at all.",
    )
    min_peak_sd: float = Field(
        default=4.5,
        ge=0,
        description="Height a correlation peak must have, in standard deviations of the "
        "correlation over all shifts, or the frame counts as unplaced. Lower places dimmer "
        "frames and follows noise.",
    )
    min_confidence: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the usual confidence (median of the last frames) below which a "
        "frame counts as unplaced.",
    )
    flash_sd: float = Field(
        default=5.0,
        gt=0,
        description="Jump of the frame's brightness (mean of the middle half of its values), in "
        "robust standard deviations of its changes from frame to frame; above this and "
        "`flash_fraction` a frame is flagged as a flash.",
    )
    flash_fraction: float = Field(
        default=0.08,
        ge=0,
        description="Smallest jump of that brightness that is a flash, as a share of it. "
        "Bursts of the whole tissue stay below. Smaller flashes are no harm: they change a cell "
        "as much as its surround.",
    )
    flow_grid: int = Field(
        default=12,
        ge=2,
        le=64,
        description="lucas_kanade: rows and columns of the grid with one tracked point per "
        "cell. More points are more robust and slower.",
    )
    flow_window_diameters: float = Field(
        default=2.5,
        gt=0,
        description="lucas_kanade: side of the window around each point, soma diameters. "
        "Larger is less noisy, smaller is more local.",
    )
    flow_levels: int = Field(
        default=2,
        ge=0,
        le=5,
        description="lucas_kanade: levels of the pyramid above the frame; more follow larger "
        "motion between consecutive frames.",
    )
    piecewise: bool = Field(
        default=False,
        description="Whether slow deformation is undone too, after each frame was shifted as a "
        "whole: displacements of overlapping patches, measured from means of many frames. They "
        "are kept only where they fit frames better that they were not measured from. Costs "
        "about a sixth more time, and where something is undone some 4 ms for the "
        "interpolation of 512 x 512 pixels; no effect with method none.",
    )
    patch_px: float = Field(
        default=128.0,
        ge=16,
        description="piecewise: side of a patch, px; at most 13 lie along a side of the frame, a "
        "single one where it is smaller than a patch. Smaller follows finer deformation and is "
        "noisier; each should hold ten cells or more.",
    )
    patch_overlap: float = Field(
        default=0.5,
        ge=0,
        le=0.75,
        description="piecewise: share of a patch that the next one covers too. Larger is "
        "smoother and slower.",
    )
    deformation_step_s: float = Field(
        default=2.0,
        gt=0,
        description="piecewise: frames of so many seconds, at least 8 of them, are averaged for "
        "one measurement. Longer is less noisy, shorter follows faster deformation.",
    )
    max_deformation_px: float = Field(
        default=4.0,
        gt=0,
        description="piecewise: longest displacement of a patch, px, on top of the shift. Beyond "
        "half a soma it may find the neighbour instead.",
    )


@dataclass(frozen=True, eq=False)
class _Geometry:
    """How frames become landmarks; everything here is fixed for a recording."""

    frame_shape: tuple[int, int]
    binning: int
    shape: tuple[int, int]
    diameter: float
    max_shift: tuple[int, int]
    support: FloatArray
    transform_shape: tuple[int, int]
    overlap: float
    tiles: FloatArray
    hot: np.ndarray[Any, np.dtype[np.intp]]
    around_hot: np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True, eq=False)
class _Template:
    """Landmarks in the coordinates of the template, and what is derived from them."""

    image: FloatArray
    weight: FloatArray
    spectrum: FloatArray
    basis: FloatArray
    self_peak_sd: float
    chance: float

    @cached_property
    def products(self) -> FloatArray:
        """Product of each two rows of the basis: one template serves many least squares."""
        image, along_y, along_x = self.basis
        return np.concatenate([image * self.basis, along_y * self.basis[1:], [along_x**2]])


@dataclass(frozen=True, eq=False)
class MotionState:
    """What placing the next frame needs to know of those before.

    Made by `start_motion`; `place_frames` returns the next one. Not changed in place.

    Attributes
    ----------
    config : MotionConfig
        The settings.
    diameter_px : float
        Typical soma diameter, in pixels.
    frame_shape : tuple of int
        Number of rows and columns.
    n_placed : int
        Number of frames placed so far.
    """

    config: MotionConfig
    diameter_px: float
    frame_shape: tuple[int, int]
    n_placed: int
    _geometry: _Geometry
    _template: _Template | None
    _anchor: FloatArray
    _running: FloatArray
    _standing: FloatArray
    _seen: FloatArray
    _support: FloatArray
    _offset: tuple[float, float]
    _last: tuple[float, float]
    _still: bool
    _away: tuple[float, float]
    _error: float
    _step: float
    _brightness: tuple[float, ...]
    _confidences: tuple[float, ...]
    _points: FloatArray
    _template_bytes: ByteArray
    _previous: ByteArray
    _local: LocalState | None


def start_motion(
    first_frames: AnyArray,
    *,
    config: MotionConfig | None = None,
    diameter_px: float,
    frame_rate_hz: float | None = None,
    exclude: BoolArray | None = None,
) -> MotionState:
    """Build the template from the first frames of a recording.

    The frames are averaged as they lie, or only frame 0 is taken, whichever the others agree
    with better; then they are placed on that and averaged again, twice. Coordinates are those
    of frame 0: its shift is exactly 0. Pixels that stand out from their neighbours in the mean
    of these frames (hot and dead ones) are replaced by their neighbours' median from then on.

    Parameters
    ----------
    first_frames : ndarray, shape (n, n_rows, n_columns)
        The first frames as acquired, beginning with frame 0; at least one. Those after the
        first ``config.template_frames`` are not used. Any real type; may hold NaN.
    config : MotionConfig, optional
        Settings; the default ones if not given.
    diameter_px : float
        Typical soma diameter, in pixels: sets the band of the landmarks.
    frame_rate_hz : float, optional
        Frames per second; needed with ``config.piecewise``.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels not to look at (a pipette, the slice's edge).

    Returns
    -------
    MotionState
        The state before frame 0 is placed.

    Raises
    ------
    SettingsError
        If the frames are not (T, Y, X) with at least one, if the diameter is not a positive
        number, if `exclude` has another shape than a frame, or if the frame rate is missing where
        it is needed.
    """
    config = config or MotionConfig()
    frames = np.asarray(first_frames)
    if frames.ndim != 3 or 0 in frames.shape:
        msg = (
            f"The first frames have shape {frames.shape}; motion compensation needs the axes "
            "(T, Y, X) and at least one frame. Give the recording's first frames."
        )
        raise SettingsError(msg)
    if not (np.isfinite(diameter_px) and diameter_px > 0):
        msg = f"The soma diameter is {diameter_px} px; it must be a positive number."
        raise SettingsError(msg)
    frame_shape = (int(frames.shape[1]), int(frames.shape[2]))
    if exclude is not None and exclude.shape != frame_shape:
        msg = (
            f"The mask of excluded pixels has shape {exclude.shape} and the frames {frame_shape}; "
            "give a mask of the frames' size."
        )
        raise SettingsError(msg)

    measures = config.piecewise and config.method != "none"
    if measures and not (frame_rate_hz is not None and frame_rate_hz > 0):
        msg = (
            f"The frame rate is {frame_rate_hz}; piecewise motion compensation measures over "
            "seconds and needs it. Give frame_rate_hz, or leave piecewise out."
        )
        raise SettingsError(msg)

    frames = frames[: config.template_frames]
    geometry = _make_geometry(frames, config=config, diameter_px=diameter_px, exclude=exclude)
    nothing = np.zeros(geometry.shape, np.float32)
    no_bytes = np.zeros(geometry.shape, np.uint8)
    state = MotionState(
        config=config,
        diameter_px=float(diameter_px),
        frame_shape=frame_shape,
        n_placed=0,
        _geometry=geometry,
        _template=None,
        _anchor=nothing,
        _running=nothing,
        _standing=nothing,
        _seen=nothing,
        _support=geometry.support,
        _offset=(0.0, 0.0),
        _last=(0.0, 0.0),
        _still=False,
        _away=(0.0, 0.0),
        _error=0.0,
        _step=0.0,
        _brightness=(),
        _confidences=(),
        _points=np.zeros((0, 1, 2), np.float32),
        _template_bytes=no_bytes,
        _previous=no_bytes,
        _local=None,
    )
    if config.method == "none":
        return state
    images = [_landmarks(frame, geometry) for frame in frames]
    usable = [image for image in images if image is not None]
    if not usable:
        return state

    start = _build_template(usable, geometry, config)
    if start is None:
        return state
    template = start.template
    offset = (0.0, 0.0)
    first_bytes = no_bytes
    if images[0] is not None:
        found = _correlate(
            images[0], template, geometry, config, last=(0.0, 0.0), support=start.support
        )
        offset = found.shift if found.good else (0.0, 0.0)
        if start.still is not None:  # frame 0 lies where the others do, and they know it better
            offset = start.still
        first_bytes = _to_bytes(images[0])
    return replace(
        state,
        _template=template,
        _anchor=template.image,
        _running=template.image,
        _seen=template.weight,
        _standing=start.standing,
        _support=start.support,
        _offset=offset,
        _last=offset,
        _still=config.shrink and start.still is not None,
        _error=start.error,
        _step=start.step,
        _confidences=start.confidences[-_CONFIDENCE_FRAMES:],
        _points=_trackable_points(template, config.flow_grid, _flow_window(geometry, config)),
        _template_bytes=_to_bytes(template.image),
        _previous=first_bytes,
        _local=_start_local(template, geometry, config, offset, frame_rate_hz),
    )


def place_frames(frames: AnyArray, state: MotionState) -> tuple[Motion, MotionState]:
    r"""Say how far the tissue of each frame moved since frame 0.

    ``template_correlation``: the frame's landmarks are cross-correlated with the template's
    (Fourier transform), the peak is refined by weighted least squares on the template's
    gradients (Lucas and Kanade 1981, with Cauchy weights), which leaves out what does not move
    with the tissue: dirt on the sensor, cells that fire. Half of the template stays that of
    the first frames, so it cannot drift away; the other half follows the placed frames slowly.
    What stands still on the sensor while the tissue moves is learnt and left out. Of each step
    only the share that is not measurement error is taken (``config.shrink``); the error is
    known from two halves of the field that place the frame independently.

    ``lucas_kanade``: the paper's method (its reference 16). Pyramidal optical flow from the
    last placed frame to this one at the best point of each grid cell, checked forward and
    backward; the median over the points, then the mean of those near it, is the step, and
    steps are summed. A sum of steps drifts; therefore the sum is only the starting guess of a
    second flow, from the template to this frame, and its median replaces the sum wherever at
    least a quarter of the points agree within one pixel of the landmarks. The template itself
    is built by correlation and stays that of the first frames.

    A frame whose peak does not stand out, lies at the border of the search, or whose
    confidence is far below the usual is flagged `FLAG_UNPLACED` and takes the shift of the
    last good one. Constant frames and frames with fewer than half of their values finite are
    flagged `FLAG_INVALID`. Frames whose median brightness jumps are flagged `FLAG_FLASH` and
    placed all the same; after a lasting step of brightness the flag stays for the 7 frames
    in which the running median does not follow it.

    Parameters
    ----------
    frames : ndarray, shape (n_frames, n_rows, n_columns)
        The next frames as acquired; possibly none.
    state : MotionState
        What `start_motion` or the call before returned.

    Returns
    -------
    motion : Motion
        Shifts (dy, dx) in pixels, confidence and flags of these frames. With method
        ``none`` shifts are 0 and confidence is 1.
    state : MotionState
        The state for the next call.

    Raises
    ------
    SettingsError
        If the frames have another size than those of `start_motion`.
    """
    frames = np.asarray(frames)
    if frames.ndim != 3 or frames.shape[1:] != state.frame_shape:
        msg = (
            f"The frames have shape {frames.shape}; the template was made of frames of "
            f"{state.frame_shape[0]} x {state.frame_shape[1]} pixels. Give frames of that size."
        )
        raise SettingsError(msg)
    n_frames = len(frames)
    shifts = np.zeros((n_frames, 2), np.float32)
    confidence = np.zeros(n_frames, np.float32)
    flags = np.zeros(n_frames, np.uint8)
    for index, frame in enumerate(frames):
        placed, state = _place(frame, state)
        state = _end_local_step(state)
        shifts[index] = placed.shift
        confidence[index] = placed.confidence
        flags[index] = placed.flags
    return Motion(shifts=shifts, confidence=confidence, flags=flags), state


def frames_until_measured(state: MotionState) -> int | None:
    """Say after how many more frames `deformation_so_far` may change.

    Parameters
    ----------
    state : MotionState
        Any state.

    Returns
    -------
    int or None
        At least 1; None where deformation is not measured.
    """
    if state._local is None:
        return None
    per_step = state._local.frames_per_step
    return per_step - state.n_placed % per_step


def deformation_so_far(state: MotionState) -> Deformation | None:
    """Give the deformation of the next frame, as far as the frames before tell.

    Parameters
    ----------
    state : MotionState
        State before that frame.

    Returns
    -------
    Deformation or None
        The same in all frames; None where there is none, or none that is believed by now.
    """
    local = state._local
    found = None if local is None else displacement_now(local)
    if found is None:
        return None
    y, x = _nodes(state.frame_shape, state.config)
    grid = found[None] * np.float32(state._geometry.binning)
    return Deformation(np.zeros(1, np.int32), grid, y, x)


@dataclass(frozen=True, eq=False)
class DeformationReport:
    """Whether tissue deformed, measured on frames that the displacements were not made of.

    Attributes
    ----------
    before, after : float
        Correlation of the mean of half the frames of a step with the reference, without and with
        the displacements that the other half of the frames tells; mean over the steps.
    rms_px : float
        Root mean square of the displacements along an axis, over patches and time, in pixels.
    n_steps : int
        How often it was measured.
    deformation : Deformation or None
        The displacements; None where they gain nothing, and nothing is to be undone.
    """

    before: float
    after: float
    rms_px: float
    n_steps: int
    deformation: Deformation | None


def measure_deformation(state: MotionState) -> DeformationReport | None:
    """Smooth what was measured in all frames so far, and say whether it is worth undoing.

    The displacements of the steps are a random walk that was measured with an error known from
    two halves of the frames, and are smoothed as such (Rauch, Tung and Striebel 1965). They are
    kept if they bring frames closer to the reference that they were not made of: on average over
    the steps by three standard errors of it.

    Parameters
    ----------
    state : MotionState
        State after the last frame.

    Returns
    -------
    DeformationReport or None
        None where deformation is not measured.
    """
    local = state._local
    if local is None:
        return None
    settled: Settled = settle_local(local)
    binning = np.float32(state._geometry.binning)
    found = None
    if settled.believed:
        y, x = _nodes(state.frame_shape, state.config)
        found = Deformation(settled.frames, settled.grid * binning, y, x)
    return DeformationReport(
        settled.before, settled.after, settled.reach * float(binning), len(settled.frames), found
    )


def apply_motion(
    frames: AnyArray,
    motion: Motion,
    *,
    interpolation: Literal["linear", "cubic"] = "linear",
) -> FloatArray:
    """Move frames back to where the tissue was in frame 0: shifts, and deformation if there is any.

    Parameters
    ----------
    frames : ndarray, shape (n_frames, n_rows, n_columns)
        Frames as acquired, in camera counts.
    motion : Motion
        Of these frames.
    interpolation : {"linear", "cubic"}, default: "linear"
        As in `apply_shifts`, which does it where nothing deforms. With a deformation places are
        rounded to 1/32 px, and the cubic kernel is OpenCV's (a = -3/4).

    Returns
    -------
    ndarray of float32, shape (n_frames, n_rows, n_columns)
        The frames, each value where its point was in frame 0.

    Raises
    ------
    SettingsError
        If there is not one finite shift for each frame.
    """
    deformation = motion.deformation
    if deformation is None or len(frames) == 0:
        return apply_shifts(frames, motion.shifts, interpolation=interpolation)
    frames, moves = _frames_and_moves(frames, motion.shifts)
    rows, columns = (np.arange(size, dtype=np.float32) for size in frames.shape[1:])
    moved = np.empty(frames.shape, np.float32)
    for index, (frame, shift) in enumerate(zip(frames, moves.astype(np.float32), strict=True)):
        filled = _whole(frame)
        dy, dx = deformation.fields(np.array([index], np.int32), rows, columns)[0]
        moved[index] = remap(
            filled,
            rows[:, None] + (dy + shift[0]),
            columns[None] + (dx + shift[1]),
            cubic=interpolation == "cubic",
        )
    return moved


def apply_shifts(
    frames: AnyArray,
    shifts: FloatArray,
    *,
    interpolation: Literal["linear", "cubic"] = "linear",
) -> FloatArray:
    """Move frames back to where the tissue was in frame 0.

    Values are interpolated and otherwise unaltered: no scaling, no cutting. Beyond the border
    the border's value is repeated. Values that are not finite are replaced by the mean of the
    finite ones in the 5 x 5 pixels around, or by the frame's median; a frame without any
    finite value stays as it is. A frame with shift 0 is returned as it was.

    Parameters
    ----------
    frames : ndarray, shape (n_frames, n_rows, n_columns)
        Frames as acquired, in camera counts.
    shifts : ndarray of float32, shape (n_frames, 2)
        How far a point moved since frame 0, (dy, dx) in pixels.
    interpolation : {"linear", "cubic"}, default: "linear"
        Linear never leaves the range of the values and smooths noise a little; cubic
        (Catmull-Rom) keeps more detail and may overshoot.

    Returns
    -------
    ndarray of float32, shape (n_frames, n_rows, n_columns)
        The frames, each value where its point was in frame 0.

    Raises
    ------
    SettingsError
        If there is not one finite shift for each frame.
    """
    frames, moves = _frames_and_moves(frames, shifts)
    moved = np.empty(frames.shape, np.float32)
    for index, (frame, shift) in enumerate(zip(frames, moves, strict=True)):
        filled = _whole(frame)
        dy, dx = float(shift[0]), float(shift[1])
        if dy == 0.0 and dx == 0.0:
            moved[index] = filled
        else:
            _translate(filled, dy, dx, cubic=interpolation == "cubic", out=moved[index])
    return moved


def _frames_and_moves(frames: AnyArray, shifts: FloatArray) -> tuple[AnyArray, TimeArray]:
    frames = np.asarray(frames)
    moves = np.asarray(shifts, dtype=np.float64)
    if frames.ndim != 3 or moves.shape != (len(frames), 2) or not np.isfinite(moves).all():
        msg = (
            f"Shifts of shape {moves.shape} for frames of shape {frames.shape}; give one "
            "finite (dy, dx) for each frame of a movie (T, Y, X)."
        )
        raise SettingsError(msg)
    return frames, moves


def valid_pixels(
    frame_shape: tuple[int, int],
    shifts: FloatArray,
    *,
    deformation: Deformation | None = None,
    flags: ByteArray | None = None,
    exclude: BoolArray | None = None,
) -> BoolArray:
    """Find the pixels whose tissue is in view in every frame.

    A mask instead of a crop. A pixel counts as in view while its centre lies on the sensor
    (half a pixel beyond the centres of the border pixels included). Frames that could not be
    placed or hold no values do not count, so one wild frame does not eat the field.

    Parameters
    ----------
    frame_shape : tuple of int
        Number of rows and columns.
    shifts : ndarray of float32, shape (n_frames, 2)
        How far a point moved since frame 0, (dy, dx) in pixels.
    deformation : Deformation, optional
        What comes on top of the shifts; the farthest place of each pixel counts as if it had been
        there at the largest shift.
    flags : ndarray of uint8, shape (n_frames,), optional
        Flags of `Motion`; frames with `FLAG_UNPLACED` or `FLAG_INVALID` are left out.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out, in the coordinates of frame 0.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        True where a pixel is in view at all times and not excluded.

    Raises
    ------
    SettingsError
        If shapes do not fit each other.
    """
    moves = np.asarray(shifts, dtype=np.float64).reshape(-1, 2)
    if flags is not None and len(flags) != len(moves):
        msg = f"{len(flags)} flags for {len(moves)} shifts; give one flag for each frame."
        raise SettingsError(msg)
    if exclude is not None and exclude.shape != tuple(frame_shape):
        msg = (
            f"The mask of excluded pixels has shape {exclude.shape} and the frames "
            f"{tuple(frame_shape)}; give a mask of the frames' size."
        )
        raise SettingsError(msg)
    counted = np.isfinite(moves).all(axis=1)
    if flags is not None:
        counted &= (np.asarray(flags) & (FLAG_UNPLACED | FLAG_INVALID)) == 0
    valid = np.ones(frame_shape, np.bool_)
    if counted.any():
        lowest, highest = moves[counted].min(axis=0), moves[counted].max(axis=0)
        rows, columns = (np.arange(size) for size in frame_shape)
        # 1e-6: a shift stored as float32 just above half a pixel is half a pixel.
        low, high = _farthest(deformation, rows, columns)
        for axis, (position, size) in enumerate(
            ((rows[:, None], frame_shape[0]), (columns[None], frame_shape[1]))
        ):
            valid &= (position + lowest[axis] + low[axis] >= -0.5 - 1e-6) & (
                position + highest[axis] + high[axis] <= size - 0.5 + 1e-6
            )
    if exclude is not None:
        valid &= ~exclude
    return valid


def _farthest(
    deformation: Deformation | None, rows: AnyArray, columns: AnyArray
) -> tuple[AnyArray, AnyArray]:
    """Least and largest displacement of each pixel along both axes, (2, n_rows, n_columns)."""
    if deformation is None:
        nothing = np.zeros((2, 1, 1))
        return nothing, nothing
    low: AnyArray | None = None
    high: AnyArray | None = None
    for frame in deformation.frames:  # linear in between
        field = deformation.fields(np.array([frame], np.int32), rows, columns)[0]
        low = field if low is None else np.minimum(low, field)
        high = field if high is None else np.maximum(high, field)
    assert low is not None
    assert high is not None
    return low, high


def crispness(image: FloatArray, *, valid: BoolArray | None = None) -> float:
    """Measure how sharp a mean image is, to compare it before and after a correction.

    Root mean square of the gradient of the image, smoothed by 1 px so that the averaging of
    noise by interpolation does not count, over the image's mean. After NoRMCorre's crispness
    (Pnevmatikakis and Giovannucci 2017), which takes the norm of the gradient.

    Parameters
    ----------
    image : ndarray of float32, shape (n_rows, n_columns)
        Mean over time, in any unit.
    valid : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to look at; give the same for both images.

    Returns
    -------
    float
        Relative change per pixel; larger is sharper. 0 where there is nothing to measure.

    Raises
    ------
    SettingsError
        If image and mask differ in shape.
    """
    filled = _fill_holes(np.asarray(image, dtype=np.float32))
    if valid is not None and valid.shape != filled.shape:
        msg = f"The mask has shape {valid.shape} and the image {filled.shape}; give equal shapes."
        raise SettingsError(msg)
    smooth = cv2.GaussianBlur(filled, (0, 0), 1.0)
    along_y = cv2.filter2D(smooth, cv2.CV_32F, np.array([[-0.5], [0.0], [0.5]], np.float32))
    along_x = cv2.filter2D(smooth, cv2.CV_32F, np.array([[-0.5, 0.0, 0.5]], np.float32))
    chosen = np.isfinite(smooth) if valid is None else valid & np.isfinite(smooth)
    if not chosen.any():
        return 0.0
    energy = (
        along_y[chosen].astype(np.float64) ** 2 + along_x[chosen].astype(np.float64) ** 2
    ).mean()
    level = abs(float(smooth[chosen].astype(np.float64).mean()))
    return float(np.sqrt(energy) / level) if level > 0 else 0.0


# ---------------------------------------------------------------- one frame


@dataclass(frozen=True)
class _Found:
    """Where landmarks lie on the template, in pixels of the landmarks."""

    shift: tuple[float, float]
    confidence: float
    gain: float
    error: float
    good: bool
    moved: FloatArray
    weight: FloatArray


@dataclass(frozen=True)
class _Placed:
    """The outcome for one frame, in pixels of the recording."""

    shift: tuple[float, float]
    confidence: float
    flags: int


def _place(frame: AnyArray, state: MotionState) -> tuple[_Placed, MotionState]:
    geometry, config, template = state._geometry, state.config, state._template
    first = state.n_placed == 0
    state = replace(state, n_placed=state.n_placed + 1)
    level = _level(frame)
    kept = _in_pixels(state._last, state)
    if level is None:
        return _Placed((0.0, 0.0) if first else kept, 0.0, FLAG_INVALID), state
    flash = _is_flash(level, state._brightness, config)
    flags = FLAG_FLASH if flash else 0
    state = replace(state, _brightness=(*state._brightness, level)[-_BRIGHTNESS_FRAMES:])
    if config.method == "none":
        return _Placed((0.0, 0.0), 1.0, flags), state
    image = _landmarks(frame, geometry)
    if image is None or template is None:
        return _Placed((0.0, 0.0) if first else kept, 0.0, flags | FLAG_UNPLACED), state

    found = (
        _flow(image, template, state)
        if config.method == "lucas_kanade" and not first
        else _correlate(image, template, geometry, config, last=state._last, support=state._support)
    )
    usual = statistics.median(state._confidences) if state._confidences else 0.0
    good = found.good and found.confidence >= config.min_confidence * usual
    state = replace(
        state, _confidences=(*state._confidences, found.confidence)[-_CONFIDENCE_FRAMES:]
    )
    if first:
        # Frame 0 defines the coordinates, wherever the template came to lie.
        return _Placed(
            (0.0, 0.0), found.confidence, flags if good else flags | FLAG_UNPLACED
        ), state
    if not good:
        return _Placed(kept, found.confidence, flags | FLAG_UNPLACED), state
    measured = found.shift
    if config.method == "template_correlation" and config.shrink:
        found, state = _shrink(found, state)
        if state._still:
            state = _watch(measured, state, flash=flash)
            found = replace(found, shift=state._offset) if state._still else found
    if state._local is not None and not flash:
        state = _add_to_local(state, image, found, measured)
    state = replace(state, _last=found.shift)
    if config.method == "lucas_kanade":
        state = replace(state, _previous=_to_bytes(image))
    elif not flash:
        state = _follow(state, image, found)
    return _Placed(_in_pixels(found.shift, state), found.confidence, flags), state


def _nodes(frame_shape: tuple[int, int], config: MotionConfig) -> tuple[FloatArray, FloatArray]:
    """Rows and columns of the nodes of the deformation, in pixels of frame 0."""
    y, x = (node_places(size, config.patch_px, config.patch_overlap) for size in frame_shape)
    return y, x


def _start_local(
    template: _Template,
    geometry: _Geometry,
    config: MotionConfig,
    offset: tuple[float, float],
    frame_rate_hz: float | None,
) -> LocalState | None:
    if not config.piecewise or frame_rate_hz is None:
        return None
    binning = geometry.binning
    y, x = (
        # Centres of pixels at whole numbers; the template lies where the offset says.
        np.asarray((places + 0.5) / binning - 0.5 - shift, np.float32)
        for places, shift in zip(_nodes(geometry.frame_shape, config), offset, strict=True)
    )
    return start_local(
        template.image,
        geometry.support,
        offset=offset,
        y=y,
        x=x,
        patch=config.patch_px / binning,
        most=config.max_deformation_px / binning,
        frames_per_step=max(_LOCAL_FRAMES, round(config.deformation_step_s * frame_rate_hz)),
    )


def _add_to_local(
    state: MotionState, image: FloatArray, found: _Found, measured: tuple[float, float]
) -> MotionState:
    """Take a placed frame, moved back by the shift that it gets, into the next deformation."""
    assert state._local is not None
    moved = found.moved if found.shift == measured else _translate(image, *found.shift)
    local = add_frame(state._local, moved, found.shift, state.n_placed - 1)
    return replace(state, _local=local)


def _end_local_step(state: MotionState) -> MotionState:
    local = state._local
    if local is None or state.n_placed % local.frames_per_step:
        return state
    middle = state.n_placed - local.frames_per_step // 2 - 1
    return replace(state, _local=end_step(local, middle))


def _shrink(found: _Found, state: MotionState) -> tuple[_Found, MotionState]:
    """Take of the step since the last frame only the share that is not measurement error.

    The share is 1 - error variance / mean square step (James and Stein 1961, with the error
    known): all of it in a clear recording, nothing where the steps are no larger than the
    error, so that noise and firing cells do not shake a recording that stands still.
    """
    rate = 1.0 / _ERROR_FRAMES
    dy, dx = found.shift[0] - state._last[0], found.shift[1] - state._last[1]
    square = 0.5 * (dy * dy + dx * dx)
    error = state._error + rate * (found.error - state._error)
    step = state._step + rate * (square - state._step)
    state = replace(state, _error=error, _step=step)
    usual = max(step, square)
    share = max(0.0, 1.0 - error / usual) if usual > 0 else 1.0
    shift = (state._last[0] + share * dy, state._last[1] + share * dx)
    return replace(found, shift=shift), state


def _watch(shift: tuple[float, float], state: MotionState, *, flash: bool) -> MotionState:
    """Say whether a recording that stood still up to this frame still does."""
    rate = 1.0 / _ERROR_FRAMES
    dy, dx = shift[0] - state._offset[0], shift[1] - state._offset[1]
    away_y, away_x = state._away
    away = (away_y + rate * (dy - away_y), away_x + rate * (dx - away_x))
    error = max(_STILL_ERRORS * state._error, _STILL_PX**2)
    moved = max((dy * dy + dx * dx) / _STILL_SD**2, away[0] ** 2 + away[1] ** 2) > error
    return replace(state, _away=away, _still=flash or not moved)


def _in_pixels(shift: tuple[float, float], state: MotionState) -> tuple[float, float]:
    binning = state._geometry.binning
    return (
        (shift[0] - state._offset[0]) * binning,
        (shift[1] - state._offset[1]) * binning,
    )


def _follow(state: MotionState, image: FloatArray, found: _Found) -> MotionState:
    """Let the running half of the template, and what stands still, follow a placed frame."""
    config, template, geometry = state.config, state._template, state._geometry
    assert template is not None
    running = state._running + config.template_rate * found.weight * (found.moved - state._running)
    # What the template does not explain, where it lies on the sensor: dirt shows here as soon
    # as the tissue has moved.
    rest = image - np.float32(found.gain) * _translate(
        template.image, -found.shift[0], -found.shift[1]
    )
    standing = state._standing + np.float32(_STANDING_RATE) * (rest - state._standing)
    state = replace(state, _running=running, _standing=standing)
    if state.n_placed % config.template_refresh_frames:
        return state
    trust = _trust(standing)
    support = geometry.support * trust
    # The first frames left the image of the dirt in the template as well.
    image = 0.5 * (state._anchor + running)
    seen = state._seen * _translate(trust, state._offset[0], state._offset[1])
    renewed = _make_template(image, seen, geometry)
    return state if renewed is None else replace(state, _template=renewed, _support=support)


def _level(frame: AnyArray) -> float | None:
    """Middle of the frame's finite values, or None where the frame holds nothing usable."""
    step = max(1, int(np.sqrt(frame.size / _SAMPLE)))
    sample = frame[::step, ::step]
    if np.issubdtype(frame.dtype, np.floating):
        finite = np.isfinite(frame)
        if 2 * np.count_nonzero(finite) < frame.size:
            return None
        sample = sample[finite[::step, ::step]]
        values = frame[finite]
        if values.size == 0 or values.min() == values.max() or sample.size == 0:
            return None
    elif frame.min() == frame.max():
        return None
    # The mean of the middle half: as robust as the median, and not held to whole counts.
    ordered = np.sort(sample, axis=None)
    quarter = ordered.size // 4
    return float(ordered[quarter : ordered.size - quarter].mean(dtype=np.float64))


def _is_flash(level: float, history: tuple[float, ...], config: MotionConfig) -> bool:
    if len(history) < 5:  # fewer say nothing about the usual change
        return False
    usual = statistics.median(history)
    changes = [abs(after - before) for before, after in pairwise(history)]
    spread = _MAD_TO_SD * statistics.median(changes) / np.sqrt(2.0)
    jump = abs(level - usual)
    return jump > config.flash_sd * spread and jump > config.flash_fraction * abs(usual)


# ---------------------------------------------------------------- landmarks


def _make_geometry(
    frames: AnyArray, *, config: MotionConfig, diameter_px: float, exclude: BoolArray | None
) -> _Geometry:
    n_rows, n_columns = int(frames.shape[1]), int(frames.shape[2])
    shorter = min(n_rows, n_columns)
    halved = diameter_px >= _HALVED_FROM_PX and shorter >= _LARGE_SIDE
    binning = max(int(diameter_px / _SMALLEST_DIAMETER), 1 + halved)
    binning = max(1, min(binning, shorter // _SMALLEST_SIDE))
    shape = (n_rows // binning, n_columns // binning)
    # A soma larger than a third of the frame leaves nothing to band-pass.
    diameter = float(np.clip(diameter_px / binning, 2.0, max(2.0, min(shape) / 3)))
    largest = min(config.max_shift_px, 0.3 * shorter) / binning
    reach = max(1, int(np.ceil(largest)))
    reach_yx = (min(reach, max(1, shape[0] // 2 - 1)), min(reach, max(1, shape[1] // 2 - 1)))
    hot = _hot_pixels(frames)

    inside = np.ones(shape, np.uint8)
    if exclude is not None:
        cut = exclude[: shape[0] * binning, : shape[1] * binning]
        blocks = cut.reshape(shape[0], binning, shape[1], binning)
        inside[blocks.any(axis=(1, 3))] = 0
    # Filters see mirrored or excluded values near a border; weights rise over a band there.
    padded = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1] - 1.0
    margin = min(0.5 * diameter, 0.06 * min(shape))
    band = max(1.0, min(diameter, 0.12 * min(shape)))
    ramp = np.clip((distance - margin) / band, 0.0, 1.0)
    support = (0.5 - 0.5 * np.cos(np.pi * ramp)).astype(np.float32)
    transform_shape = tuple(
        cv2.getOptimalDFTSize(size + reach) for size, reach in zip(shape, reach_yx, strict=True)
    )
    side = max(2, round(_TILE * diameter))
    tile_y, tile_x = (np.arange(size) // side for size in shape)
    tiles = ((tile_y[:, None] + tile_x[None, :]) % 2).astype(np.float32)
    # Correlation by chance is larger at small shifts, where the frames overlap, than on average.
    energy = float(np.sum(support**2))
    everywhere = float(np.prod(transform_shape))
    overlap = np.sqrt(float(np.sum(support**4)) * everywhere) / energy if energy > 0 else 1.0
    return _Geometry(
        frame_shape=(n_rows, n_columns),
        binning=binning,
        shape=shape,
        diameter=diameter,
        max_shift=reach_yx,
        support=support,
        transform_shape=(transform_shape[0], transform_shape[1]),
        overlap=overlap,
        tiles=tiles,
        hot=hot,
        around_hot=_neighbours(hot, (n_rows, n_columns)),
    )


def _hot_pixels(frames: AnyArray) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Find single pixels that stand out from their neighbours in the mean frame, as flat indices.

    Tissue is blurred by the optics over more than a pixel, so such pixels belong to the sensor.
    """
    total = np.zeros(frames.shape[1:], np.float64)
    for frame in frames:
        total += _whole(frame)
    mean = (total / len(frames)).astype(np.float32)
    if min(mean.shape) < 3 or not np.isfinite(mean).all():
        return np.zeros(0, np.intp)
    ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
    highest, lowest = cv2.dilate(mean, ring), cv2.erode(mean, ring)
    excess = np.maximum(mean - highest, lowest - mean)
    spread = _MAD_TO_SD * float(np.median(np.abs(mean - cv2.medianBlur(mean, 3))))
    # 8: far beyond noise. Twice the neighbours' range: a point blurred by 1 px stays below.
    hot = excess > np.maximum(8.0 * spread, 2.0 * (highest - lowest))
    hot &= excess > 0
    if np.count_nonzero(hot) > hot.size // 20:
        hot[:] = False
    return np.flatnonzero(hot)


def _neighbours(
    pixels: np.ndarray[Any, np.dtype[np.intp]], frame_shape: tuple[int, int]
) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Flat indices of the eight pixels around each, (8, n); at the border the pixel itself."""
    rows, columns = np.unravel_index(pixels, frame_shape)
    offsets = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    y, x = np.array(offsets).T[:, :, None]
    around = np.ravel_multi_index((rows + y, columns + x), frame_shape, mode="clip")
    return np.asarray(around, np.intp)


def _landmarks(frame: AnyArray, geometry: _Geometry) -> FloatArray | None:
    """Band-pass a frame and divide it by its local standard deviation; None if constant."""
    image = _whole(frame)
    if geometry.hot.size:
        # `image` is ours: each such pixel gets the median of the eight around it.
        around = np.sort(np.take(image, geometry.around_hot), axis=0)
        np.put(image, geometry.hot, 0.5 * (around[3] + around[4]))
    lowest, highest, _, _ = cv2.minMaxLoc(image)
    if not (np.isfinite(lowest) and np.isfinite(highest) and highest > lowest):
        return None
    n_rows, n_columns = geometry.shape
    binning = geometry.binning
    if binning > 1:
        cut = image[: n_rows * binning, : n_columns * binning]
        small = cv2.resize(cut, (n_columns, n_rows), interpolation=cv2.INTER_AREA)
        image = np.asarray(small, dtype=np.float32)
    # In units of the range: squares of large counts stay within float32.
    image = (image - np.float32(lowest)) * np.float32(1.0 / (highest - lowest))
    fine = cv2.GaussianBlur(image, (0, 0), max(0.7, _FINE_SIGMA * geometry.diameter))
    coarse = cv2.GaussianBlur(image, (0, 0), max(1.4, _COARSE_SIGMA * geometry.diameter))
    band = fine - coarse
    side = max(3, min(2 * int(_LOCAL_WINDOW * geometry.diameter / 2) + 1, *geometry.shape))
    local: AnyArray = cv2.boxFilter(band * band, cv2.CV_32F, (side, side))
    usual = median(local[::4, ::4]) or float(local.mean())
    if not usual > 0.0:
        return None
    band /= np.sqrt(np.maximum(local, 0.0) + np.float32(usual))
    return np.clip(band, -_CLIP, _CLIP, out=band)


def _whole(frame: AnyArray) -> FloatArray:
    """Give a frame as float32, without holes: counts that are whole numbers have none."""
    image = frame.astype(np.float32)
    return image if frame.dtype.kind in "biu" else _fill_holes(image)


def _fill_holes(image: FloatArray) -> FloatArray:
    """Replace values that are not finite; a frame without finite values stays as it is."""
    finite = np.isfinite(image)
    if finite.all() or not finite.any():
        return image
    known = np.where(finite, image, np.float32(0.0))
    total = cv2.boxFilter(known, cv2.CV_32F, (5, 5), normalize=False)
    count = cv2.boxFilter(finite.astype(np.float32), cv2.CV_32F, (5, 5), normalize=False)
    around = total / np.maximum(count, 1.0)
    filling = np.where(count > 0.5, around, np.float32(np.median(image[finite])))
    return np.where(finite, image, filling).astype(np.float32)


# ---------------------------------------------------------------- template and correlation


@dataclass(frozen=True, eq=False)
class _Start:
    """What the first frames give."""

    template: _Template
    support: FloatArray
    standing: FloatArray
    error: float
    step: float
    confidences: tuple[float, ...]
    still: tuple[float, float] | None
    """Where all of the frames lie within their error; None where they do not."""


def _build_template(
    images: list[FloatArray], geometry: _Geometry, config: MotionConfig
) -> _Start | None:
    full = geometry.support
    starts: list[FloatArray] = [np.asarray(np.mean(images, axis=0), dtype=np.float32)]
    if len(images) > 1:
        starts.append(images[0])
    best: tuple[float, _Template, list[_Found]] | None = None
    for start in starts:
        template = _make_template(start, full, geometry)
        if template is None:
            continue
        found = _find_all(images, template, geometry, config, support=full)
        # Placed on this start and averaged: how well do the frames fit their own average?
        averaged = _average(images, found, geometry, support=full)
        if averaged is None:
            continue
        found = _find_all(images, averaged, geometry, config, support=full)
        score = float(np.mean([one.confidence for one in found]))
        if best is None or score > best[0]:
            best = (score, averaged, found)
    if best is None:
        return None
    _, template, found = best
    # The first frames may already have moved: what stands still among them must not blur the
    # template towards the sensor. Twice, as the first placing was still held by it.
    support = geometry.support
    standing = np.zeros(geometry.shape, np.float32)
    for _ in range(2):
        standing = _standing(images, found, template)
        support = geometry.support * _trust(standing)
        renewed = _average(images, found, geometry, support=support)
        if renewed is None:
            break
        template = renewed
        found = _find_all(images, template, geometry, config, support=support)
    confidences = tuple(one.confidence for one in found)
    good = [one for one in found if one.good]
    error = float(np.mean([one.error for one in good])) if good else 0.0
    steps = np.diff([one.shift for one in good], axis=0) if len(good) > 1 else np.zeros((1, 2))
    still = _common_place([one.shift for one in good], error)
    return _Start(template, support, standing, error, float(np.mean(steps**2)), confidences, still)


def _common_place(shifts: list[tuple[float, float]], error: float) -> tuple[float, float] | None:
    """Mean of shifts that differ by no more than their error; None where they differ by more."""
    if len(shifts) < _STILL_FROM:
        return None
    centre = np.mean(shifts, axis=0)
    square = (np.array(shifts) - centre) ** 2
    error = max(_STILL_ERRORS * error, _STILL_PX**2)
    # Twice the error: the error itself is known to within a third from so few frames.
    if square.mean() > 2.0 * error or square.sum(axis=1).max() > _STILL_SD**2 * error:
        return None
    return float(centre[0]), float(centre[1])


def _standing(images: list[FloatArray], found: list[_Found], template: _Template) -> FloatArray:
    """Average what the template does not explain, where it lies on the sensor."""
    rest = [
        image - np.float32(one.gain) * _translate(template.image, -one.shift[0], -one.shift[1])
        for image, one in zip(images, found, strict=True)
        if one.good
    ]
    return np.asarray(np.mean(rest, axis=0) if rest else 0 * template.image, dtype=np.float32)


def _find_all(
    images: list[FloatArray],
    template: _Template,
    geometry: _Geometry,
    config: MotionConfig,
    *,
    support: FloatArray,
) -> list[_Found]:
    found = []
    last = (0.0, 0.0)
    for image in images:
        one = _correlate(image, template, geometry, config, last=last, support=support)
        last = one.shift if one.good else last
        found.append(one)
    return found


def _average(
    images: list[FloatArray],
    found: list[_Found],
    geometry: _Geometry,
    *,
    support: FloatArray,
) -> _Template | None:
    good = [one for one in found if one.good]
    if not good:
        return None
    # Template coordinates: those of the first good frame, so that they stay near frame 0's.
    y0, x0 = good[0].shift
    total = np.zeros(geometry.shape, np.float64)
    weight = np.zeros(geometry.shape, np.float64)
    for image, one in zip(images, found, strict=True):
        if one.good:
            dy, dx = one.shift[0] - y0, one.shift[1] - x0
            part = _translate(support, dy, dx)
            total += part * _translate(image, dy, dx)
            weight += part
    mean = (total / np.maximum(weight, 1e-3 * len(good))).astype(np.float32)
    return _make_template(mean, (weight / len(good)).astype(np.float32), geometry)


def _make_template(image: FloatArray, weight: FloatArray, geometry: _Geometry) -> _Template | None:
    spectrum = _spectrum(image * weight, geometry)
    power = cv2.mulSpectrums(spectrum, spectrum, 0, conjB=True)
    correlation = cv2.idft(power, flags=cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
    peak = float(correlation[0, 0])
    if not peak > 0:
        return None
    # The lobe around 0 is short against the map, its share of the spread is small.
    spread = geometry.overlap * float(np.sqrt(np.mean(correlation**2)))
    along_y = 0.5 * (_translate(image, 1.0, 0.0) - _translate(image, -1.0, 0.0))
    along_x = 0.5 * (_translate(image, 0.0, 1.0) - _translate(image, 0.0, -1.0))
    basis = np.stack([image.ravel(), along_y.ravel(), along_x.ravel()])
    return _Template(
        image=image,
        weight=weight,
        spectrum=spectrum,
        basis=basis,
        self_peak_sd=peak / spread,
        chance=spread / peak,
    )


def _spectrum(image: FloatArray, geometry: _Geometry) -> FloatArray:
    n_rows, n_columns = geometry.transform_shape
    padded = np.zeros((n_rows, n_columns), np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    # Not told which rows are zero: OpenCV then takes three times as long.
    return np.asarray(cv2.dft(padded), dtype=np.float32)


def _correlate(
    image: FloatArray,
    template: _Template,
    geometry: _Geometry,
    config: MotionConfig,
    *,
    last: tuple[float, float],
    support: FloatArray,
) -> _Found:
    spectrum = _spectrum(image * support, geometry)
    product = cv2.mulSpectrums(spectrum, template.spectrum, 0, conjB=True)
    correlation = cv2.idft(product, flags=cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
    spread = geometry.overlap * float(cv2.norm(correlation)) / float(np.sqrt(correlation.size))
    reach_y, reach_x = geometry.max_shift
    near = np.block(
        [
            [correlation[-reach_y:, -reach_x:], correlation[-reach_y:, : reach_x + 1]],
            [correlation[: reach_y + 1, -reach_x:], correlation[: reach_y + 1, : reach_x + 1]],
        ]
    )
    row, column = _choose_peak(near, spread, last, geometry)
    height = float(near[row, column])
    at_border = row in (0, 2 * reach_y) or column in (0, 2 * reach_x)
    # In tiny frames no peak stands out far; half of what a perfect fit has must do.
    needed = min(config.min_peak_sd, 0.5 * template.self_peak_sd)
    stands_out = spread > 0 and height > needed * spread
    start = (
        row - reach_y + (0.0 if at_border else _vertex(near[row - 1 : row + 2, column])),
        column - reach_x + (0.0 if at_border else _vertex(near[row, column - 1 : column + 2])),
    )
    return _finish(
        image, template, geometry, config, start, support=support, good=stands_out and not at_border
    )


def _choose_peak(
    near: FloatArray, spread: float, last: tuple[float, float], geometry: _Geometry
) -> tuple[int, int]:
    """Take the highest peak, unless one near the last shift is as high within the noise."""
    row, column = (int(i) for i in np.unravel_index(int(np.argmax(near)), near.shape))
    reach_y, reach_x = geometry.max_shift
    radius = max(2, round(0.5 * geometry.diameter))
    y, x = round(last[0]) + reach_y, round(last[1]) + reach_x
    if abs(row - y) <= 2 * radius and abs(column - x) <= 2 * radius:
        return row, column
    top, left = max(0, y - radius), max(0, x - radius)
    part = near[top : y + radius + 1, left : x + radius + 1]
    if part.size == 0:
        return row, column
    part_row, part_column = (int(i) for i in np.unravel_index(int(np.argmax(part)), part.shape))
    # 2 standard deviations: about the difference of two chance peaks.
    if part[part_row, part_column] > near[row, column] - 2.0 * spread:
        return top + part_row, left + part_column
    return row, column


def _vertex(three: FloatArray) -> float:
    """Position of the top of a parabola through three values, relative to the middle one."""
    left, middle, right = (float(value) for value in three)
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _finish(
    image: FloatArray,
    template: _Template,
    geometry: _Geometry,
    config: MotionConfig,
    start: tuple[float, float],
    *,
    support: FloatArray,
    good: bool,
    refinements: int | None = None,
) -> _Found:
    """Refine a shift and measure how well the frame then fits the template."""
    dy, dx = start
    weight = template.weight * _translate(support, round(dy), round(dx))
    moved = _translate(image, dy, dx)
    error = 0.0
    if good and config.refinements == 0 and refinements is None:  # the error is wanted all the same
        _, error = _step(moved, template, weight, geometry.tiles)
    for _ in range(config.refinements if refinements is None else refinements) if good else ():
        (step_y, step_x), error = _step(moved, template, weight, geometry.tiles)
        # A step beyond a pixel means that the least squares lost the peak.
        y = min(max(dy + step_y, start[0] - 1.5), start[0] + 1.5)
        x = min(max(dx + step_x, start[1] - 1.5), start[1] + 1.5)
        change = max(abs(y - dy), abs(x - dx))
        dy, dx = y, x
        moved = _translate(image, dy, dx)
        if change < 0.003:  # far below what noise allows
            break
    fit = weight * template.image
    common = float(np.vdot(fit, moved))
    own = float(np.vdot(fit, template.image))
    norm = float(np.vdot(weight * moved, moved)) * own
    confidence = float(np.clip(common / np.sqrt(norm), -1.0, 1.0)) if norm > 0 else 0.0
    gain = common / own if own > 0 else 0.0
    return _Found((dy, dx), confidence, gain, error, good, moved, weight)


def _step(
    moved: FloatArray, template: _Template, weight: FloatArray, tiles: FloatArray
) -> tuple[tuple[float, float], float]:
    r"""Solve ``moved = a (T - step . grad T)`` for the step, with Cauchy weights.

    Also gives the mean square error of the step along an axis: two halves of the field, in
    interleaved tiles, each say where the frame lies; half their difference has the error of the
    whole, also where cells that fire cause it.
    """
    target, given = np.ascontiguousarray(moved).ravel(), weight.ravel()
    fit = _solve(_normal_sums(template, target, given))
    if fit is None:
        return (0.0, 0.0), 0.0
    # Not by `@`: its threads would wait for those of the networks, for longer than this takes.
    residual = target - np.einsum("i,ij->j", fit.astype(np.float32), template.basis)
    size = np.abs(residual[:: max(1, residual.size // _SAMPLE)])
    # 2.385 sd: 95 % efficiency under normal noise (Holland and Welsch 1977).
    scale = 2.385 * _MAD_TO_SD * median(size)
    robust = given
    if scale > 0:
        residual *= np.float32(1.0 / scale)
        residual *= residual
        residual += np.float32(1.0)
        robust = np.divide(given, residual, out=residual)
    whole = _normal_sums(template, target, robust)
    half = _normal_sums(template, target, robust * tiles.ravel())
    step = _shift_of(whole)
    first, second = _shift_of(half), _shift_of([a - b for a, b in zip(whole, half, strict=True)])
    farther = _farther(robust, given)
    error = [(0.5 * farther * (a - b)) ** 2 for a, b in zip(first, second, strict=True)]
    # The least squares see no further than about 2 px.
    return step, min(float(np.mean(error)), 4.0)


def _farther(robust: FloatArray, given: FloatArray) -> float:
    """How much farther a half would go whose Cauchy weights followed it, than with those of all.

    Weights w of the whole hold each half back: the influence of a residual, w r, rises with it by
    2 w^2 - w, where fixed weights make it rise by w.
    """
    every = max(1, robust.size // _SAMPLE)
    weight, of_one = robust[::every], given[::every]
    counted = of_one > 0
    weight, of_one = weight[counted], of_one[counted]
    held, free = float(weight.sum()), float((2.0 * weight**2 / of_one - weight).sum())
    return held / free if free > 0.1 * held else 10.0


def _shift_of(sums: list[float]) -> tuple[float, float]:
    fit = _solve(sums)
    # A fit of almost no gain is noise: its step would be arbitrary.
    if fit is None or not fit[0] > 1e-3:
        return 0.0, 0.0
    return -float(fit[1] / fit[0]), -float(fit[2] / fit[0])


def _normal_sums(template: _Template, target: FloatArray, weight: FloatArray) -> list[float]:
    """Upper half of the symmetric normal equations, row by row, and their right side."""
    equations = (template.products @ weight).tolist()
    return [*equations, *(template.basis @ (weight * target)).tolist()]


def _solve(sums: list[float]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    # Three by three: Cramer's rule, in Python's numbers, takes a tenth of the time of a call to
    # solve them.
    a, b, c, d, e, f, x, y, z = sums
    # Tikhonov: a template without texture in one direction must not move in it.
    a, d, f = (value * (1.0 + 1e-6) for value in (a, d, f))
    if not min(a, d, f) > 0:
        return None
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    size = a * aa + b * ab + c * ac
    if not size > 0:
        return None
    return np.array(
        [
            (aa * x + ab * y + ac * z) / size,
            (ab * x + bb * y + bc * z) / size,
            (ac * x + bc * y + cc * z) / size,
        ]
    )


# ---------------------------------------------------------------- Lucas-Kanade


def _to_bytes(image: FloatArray) -> ByteArray:
    """Landmarks as bytes for OpenCV's optical flow: 0 is 128, the clip fills the range."""
    return np.asarray(cv2.convertScaleAbs(image, alpha=127.0 / _CLIP, beta=128.0), dtype=np.uint8)


def _flow_window(geometry: _Geometry, config: MotionConfig) -> int:
    side = 2 * round(config.flow_window_diameters * geometry.diameter / 2) + 1
    return int(max(5, min(side, 2 * (min(geometry.shape) // 4) + 1)))


def _trackable_points(template: _Template, grid: int, window: int) -> FloatArray:
    """Take the best corner of each cell of a grid, (x, y), shape (n, 1, 2)."""
    corners = cv2.cornerMinEigenVal(template.image, min(window, 31)) * (template.weight > 0.9)
    points = []
    for rows in np.array_split(np.arange(corners.shape[0]), min(grid, corners.shape[0])):
        for columns in np.array_split(np.arange(corners.shape[1]), min(grid, corners.shape[1])):
            cell = corners[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            y, x = np.unravel_index(int(np.argmax(cell)), cell.shape)
            if cell[y, x] > 0:
                points.append((columns[0] + x, rows[0] + y))
    return np.asarray(points, np.float32).reshape(-1, 1, 2)


def _flow(image: FloatArray, template: _Template, state: MotionState) -> _Found:
    """Place a frame by optical flow from the last frame, then from the template."""
    geometry, config, points = state._geometry, state.config, state._points
    current = _to_bytes(image)
    guess = state._last
    window = _flow_window(geometry, config)
    levels = min(config.flow_levels, int(np.log2(max(1.0, min(geometry.shape) / window))))
    enough = max(4, len(points) // 4)
    start = points + np.array([guess[1], guess[0]], np.float32)
    step, n_agree = _track(state._previous, current, start, start, window=window, levels=levels)
    integrated = (guess[0] + step[0], guess[1] + step[1]) if n_agree >= enough else guess
    aimed = points + np.array([integrated[1], integrated[0]], np.float32)
    whole, n_anchored = _track(
        state._template_bytes, current, points, aimed, window=window, levels=levels
    )
    shift = whole if n_anchored >= enough else integrated
    reach_y, reach_x = geometry.max_shift
    inside = abs(shift[0]) < reach_y and abs(shift[1]) < reach_x
    tracked = max(n_agree, n_anchored) >= enough
    good = inside and tracked
    shift = shift if inside else guess
    found = _finish(
        image, template, geometry, config, shift, support=geometry.support, good=good, refinements=0
    )
    # A fit no better than a chance alignment of the same landmarks is no fit.
    needed = min(config.min_peak_sd * template.chance, 0.5)
    return replace(found, good=good and found.confidence > 0.5 * needed)


def _track(
    before: ByteArray,
    after: ByteArray,
    points: FloatArray,
    aimed: FloatArray,
    *,
    window: int,
    levels: int,
) -> tuple[tuple[float, float], int]:
    """Median flow of the points that come back where they started, and how many agree."""
    if len(points) == 0:
        return (0.0, 0.0), 0
    follow = partial(
        cv2.calcOpticalFlowPyrLK,
        winSize=(window, window),
        maxLevel=levels,
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.01),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    ahead, found_ahead, _ = (
        np.asarray(part) for part in follow(before, after, points, aimed.copy())
    )
    back, found_back, _ = (np.asarray(part) for part in follow(after, before, ahead, points.copy()))
    returned = np.abs(back - points).max(axis=2).ravel() < 0.5
    good = returned & (found_ahead.ravel() == 1) & (found_back.ravel() == 1)
    flow = (ahead - points).reshape(-1, 2)[good].astype(np.float64)
    flow = flow[np.isfinite(flow).all(axis=1)]
    if len(flow) == 0:
        return (0.0, 0.0), 0
    middle = np.median(flow, axis=0)
    distance = np.abs(flow - middle).max(axis=1)
    # 3 robust sd, at least a tenth of a pixel: the mean of the rest is less noisy than a median.
    near = distance <= max(3.0 * _MAD_TO_SD * float(np.median(distance)), 0.1)
    x, y = flow[near].mean(axis=0)
    return (float(y), float(x)), int(np.count_nonzero(distance < 1.0))

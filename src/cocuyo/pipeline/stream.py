"""A recording as a stream of motion-corrected steps; blocks of any size give the same steps."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np

from cocuyo.core import (
    FLAG_INVALID,
    FLAG_UNPLACED,
    AnyArray,
    BoolArray,
    FloatArray,
    Motion,
    Progress,
    ProgressCallback,
    Recording,
    RecordingError,
    ignore_progress,
)
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.preprocessing import (
    ContrastState,
    GreyRange,
    MotionState,
    apply_motion,
    apply_shifts,
    contrast_step,
    deformation_so_far,
    frames_until_measured,
    measure_grey_range,
    place_frames,
    start_contrast,
    start_motion,
    valid_pixels,
)

READ_BYTES = 32e6
"""Size of a block that is read and corrected at once; bounds the memory, not the result."""
_TRIAL_FRAMES = 24
"""Frames spread over the recording that are placed on trial before any is moved."""
_TRIAL_SHARE = 0.7
"""Share of them that must find a place. ΔF/F movies (no structure at rest) place about half by
chance; recordings whose frames show somata, also dim ones, nearly all."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What is fixed before the first frame is placed.

    Attributes
    ----------
    config : PipelineConfig
        Settings.
    diameter_px : float
        Typical soma diameter in the recording's pixels.
    factor : float
        Magnification of the frames for the networks.
    frames_per_step : int
        Frames averaged to one step.
    rate_hz : float
        Frames per second.
    grey_range : GreyRange
        Counts shown as black and white to the spatial network.
    motion : MotionState
        State before frame 0. Its method is ``none`` where the frames cannot be placed on each
        other: a movie without structure at rest stays as it is rather than shaken by noise.
    contrast : ContrastState
        State before the first step, at the networks' magnification.
    exclude : ndarray of bool, shape (n_rows, n_columns)
        Pixels left out by the user.
    """

    config: PipelineConfig
    diameter_px: float
    factor: float
    frames_per_step: int
    rate_hz: float
    grey_range: GreyRange
    motion: MotionState
    contrast: ContrastState
    exclude: BoolArray

    @property
    def network_diameter_px(self) -> float:
        """Typical soma diameter as the networks see it, in pixels."""
        return self.diameter_px * self.factor


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the recurrence.

    Attributes
    ----------
    start, stop : int
        Frames of the step, `stop` excluded.
    raw : ndarray, shape (stop - start, n_rows, n_columns)
        All its frames as acquired.
    frames : ndarray of float32, shape (n, n_rows, n_columns)
        Its motion-corrected usable frames, in camera counts.
    mean : ndarray of float32, shape (rows, columns)
        Their mean at the networks' magnification.
    contrast : ndarray of float32, shape (rows, columns)
        Temporal contrast at the networks' magnification, in units of its noise.
    inside : ndarray of bool, shape (rows, columns)
        Pixels that show tissue.
    motion : Motion
        Shifts, confidence and flags of all its frames.
    usable : bool
        Whether the networks may see it; if not, `mean` and `contrast` are zeros.
    """

    start: int
    stop: int
    raw: AnyArray
    frames: FloatArray
    mean: FloatArray
    contrast: FloatArray
    inside: BoolArray
    motion: Motion
    usable: bool


def set_up(
    recording: Recording,
    *,
    config: PipelineConfig,
    diameter_px: float,
    exclude: BoolArray | None = None,
) -> Setup:
    """Prepare the streaming of a recording from its first frames that hold values.

    Parameters
    ----------
    recording : Recording
        The recording; it needs a frame rate.
    config : PipelineConfig
        Settings.
    diameter_px : float
        Typical soma diameter, in pixels.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out.

    Returns
    -------
    Setup
        The fixed part.

    Raises
    ------
    RecordingError
        If there are fewer than two frames, or the mask has another shape.
    MissingFrameRateError
        If the frame rate is not known.
    """
    require_frames(recording)
    if exclude is not None and exclude.shape != recording.frame_shape:
        msg = (
            f"The mask of excluded pixels has shape {exclude.shape}, the frames "
            f"{recording.frame_shape}; give a mask of the frames' shape."
        )
        raise RecordingError(msg)
    left_out = np.zeros(recording.frame_shape, np.bool_) if exclude is None else exclude
    rate = recording.rate_hz
    first = _first_frames(recording, config=config, diameter_px=diameter_px)
    motion = start_motion(
        first,
        config=config.motion,
        diameter_px=diameter_px,
        frame_rate_hz=rate,
        exclude=exclude,
    )
    if not _can_be_placed(recording, motion):
        still = config.motion.model_copy(update={"method": "none"})
        motion = start_motion(first, config=still, diameter_px=diameter_px, exclude=exclude)
    factor = config.scale.factor(diameter_px)
    placed, _ = place_frames(first, motion)
    # One frame without values (NaN) would leave the whole recording without contrast.
    shown = np.flatnonzero((placed.flags & FLAG_INVALID) == 0)
    if len(shown) == 0:
        shown = np.arange(len(first))
    per_step = min(config.networks.temporal.frames_per_step(rate), recording.n_frames)
    # The contrast starts from means of the length it will see, or its noise would not fit.
    per_mean = max(per_step, 1)
    means = []
    for i in range(max(1, len(shown) // per_mean)):
        some = shown[i * per_mean : (i + 1) * per_mean]
        corrected = apply_shifts(first[some], placed.shifts[some], interpolation="cubic")
        means.append(resize(corrected.mean(axis=0), factor))
    contrast = start_contrast(
        np.stack(means), diameter_px=diameter_px * factor, config=config.contrast
    )
    return Setup(
        config,
        diameter_px,
        factor,
        per_step,
        rate,
        measure_grey_range(first, config=config.equalisation),
        motion,
        contrast,
        left_out,
    )


def require_frames(recording: Recording) -> None:
    """Refuse a recording that is too short for any activity.

    Parameters
    ----------
    recording : Recording
        The recording.

    Raises
    ------
    RecordingError
        If there are fewer than two frames.
    """
    if recording.n_frames < 2:
        msg = (
            f"{recording.name} has {recording.n_frames} frame(s); "
            "activity can be found from two frames on."
        )
        raise RecordingError(msg)


def stream_steps(
    recording: Recording,
    setup: Setup,
    *,
    progress: ProgressCallback = ignore_progress,
    stage: str = "segmenting",
) -> Iterator[Step]:
    """Read, place and correct a recording step by step.

    Parameters
    ----------
    recording : Recording
        The recording of the setup.
    setup : Setup
        From `set_up`.
    progress : callable, optional
        Called after each block of frames.
    stage : str, default: "segmenting"
        Name of the stage in the progress.

    Yields
    ------
    Step
        In order. A last step of less than half the usual length is yielded with
        ``usable=False``: its noise would not fit, its frames still get their shifts.
    """
    state = start_stream(setup)
    per_block = block_frames(recording, multiple=setup.frames_per_step)
    for start, block in recording.blocks(per_block):
        pushed, state = push_frames(block, state, setup)
        yield from pushed.steps
        done = start + len(block)
        if done == recording.n_frames:
            yield from end_stream(state, setup)
        progress(Progress(stage, done, recording.n_frames))


@dataclass(frozen=True, eq=False)
class StreamState:
    """What placing and stepping the next frames needs to know of those before.

    Attributes
    ----------
    motion : MotionState
        State after the last frame.
    contrast : ContrastState
        State after the last whole step.
    start : int
        First frame of the step that is not yet whole.
    waiting : tuple of (ndarray, ndarray, Motion)
        Frames of that step, as acquired and corrected, and where they lie.
    """

    motion: MotionState
    contrast: ContrastState
    start: int = 0
    waiting: tuple[tuple[AnyArray, FloatArray, Motion], ...] = ()


@dataclass(frozen=True, eq=False)
class Pushed:
    """What came of pushing frames into a stream.

    Attributes
    ----------
    motion : Motion
        Where these frames lie.
    corrected : ndarray of float32, shape (n, n_rows, n_columns)
        All of them, motion corrected, in camera counts.
    steps : tuple of Step
        The steps that became whole.
    """

    motion: Motion
    corrected: FloatArray
    steps: tuple[Step, ...]


def start_stream(setup: Setup) -> StreamState:
    """Begin before frame 0.

    Parameters
    ----------
    setup : Setup
        From `set_up`.

    Returns
    -------
    StreamState
        The state before the first frame.
    """
    return StreamState(setup.motion, setup.contrast)


def push_frames(frames: AnyArray, state: StreamState, setup: Setup) -> tuple[Pushed, StreamState]:
    """Place and correct the next frames, however few they are.

    Parameters
    ----------
    frames : ndarray, shape (n, n_rows, n_columns)
        The next frames as acquired.
    state : StreamState
        What `start_stream` or the call before returned.
    setup : Setup
        From `set_up`.

    Returns
    -------
    pushed : Pushed
        The frames, corrected, and the steps that became whole.
    state : StreamState
        The state for the next call.
    """
    motion, corrected, place = _correct(frames, state.motion)
    contrast, start, waiting = state.contrast, state.start, list(state.waiting)
    steps = []
    n_waiting = sum(len(raw) for raw, _, _ in waiting)
    k, first = setup.frames_per_step, 0
    while first < len(frames):
        span = slice(first, min(first + k - n_waiting, len(frames)))
        part = motion.cut(span.start, span.stop)
        waiting.append((frames[span], corrected[span], part))
        n_waiting += span.stop - first
        first = span.stop
        if n_waiting == k:
            step, contrast = _make_step(start, waiting, contrast, setup)
            steps.append(step)
            start, waiting, n_waiting = start + k, [], 0
    pushed = Pushed(motion, corrected, tuple(steps))
    return pushed, StreamState(place, contrast, start, tuple(waiting))


def _correct(frames: AnyArray, state: MotionState) -> tuple[Motion, FloatArray, MotionState]:
    """Place frames and move them back, with the deformation that those before them tell."""
    parts: list[Motion] = []
    corrected: list[FloatArray] = []
    first = 0
    while first < len(frames) or not parts:
        ahead = frames_until_measured(state)
        stop = len(frames) if ahead is None else min(first + ahead, len(frames))
        known = deformation_so_far(state)
        motion, state = place_frames(frames[first:stop], state)
        if known is not None and stop > first:
            motion = replace(motion, deformation=known)
        parts.append(motion)
        corrected.append(apply_motion(frames[first:stop], motion, interpolation="cubic"))
        first = stop
    return join_motion(parts), _join(corrected), state


def end_stream(state: StreamState, setup: Setup) -> tuple[Step, ...]:
    """Give the frames that wait for a whole step.

    Parameters
    ----------
    state : StreamState
        State after the last frame.
    setup : Setup
        From `set_up`.

    Returns
    -------
    tuple of Step
        One step, or none where no frame waits. With less than half the usual length it has
        ``usable=False``.
    """
    if not state.waiting:
        return ()
    return (_make_step(state.start, list(state.waiting), state.contrast, setup)[0],)


def _make_step(
    start: int,
    parts: list[tuple[AnyArray, FloatArray, Motion]],
    contrast: ContrastState,
    setup: Setup,
) -> tuple[Step, ContrastState]:
    raw = _join([raw for raw, _, _ in parts])
    corrected = _join([frames for _, frames, _ in parts])
    motion = join_motion([motion for _, _, motion in parts])
    stop = start + len(raw)
    frames = corrected[motion.flags == 0]
    whole = 2 * len(raw) >= setup.frames_per_step
    shape = (int(raw.shape[1]), int(raw.shape[2]))
    inside = valid_pixels(
        shape,
        motion.shifts,
        deformation=motion.deformation,
        flags=motion.flags,
        exclude=setup.exclude,
    )
    where = _resize_mask(inside, setup.factor)
    if len(frames) == 0 or not whole:
        zeros = np.zeros(where.shape, np.float32)
        step = Step(start, stop, raw, frames, zeros, zeros, where, motion, usable=False)
        return step, contrast
    mean = resize(frames.mean(axis=0), setup.factor)
    seen, contrast = contrast_step(
        mean,
        contrast,
        step_s=setup.frames_per_step / setup.rate_hz,
        diameter_px=setup.network_diameter_px,
        inside=where,
        config=setup.config.contrast,
    )
    return Step(start, stop, raw, frames, mean, seen, where, motion, usable=True), contrast


def _join(parts: list[AnyArray]) -> AnyArray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def join_motion(parts: Sequence[Motion]) -> Motion:
    """Join the motion of consecutive frames.

    Parameters
    ----------
    parts : sequence of Motion
        In order; at least one.

    Returns
    -------
    Motion
        Of all frames.
    """
    return parts[0] if len(parts) == 1 else Motion.join(parts)


def corrected_blocks(
    recording: Recording,
    motion: Motion,
    *,
    progress: ProgressCallback = ignore_progress,
    stage: str,
    stretches: Sequence[tuple[int, int]] | None = None,
) -> Iterator[tuple[int, FloatArray]]:
    """Read a recording again, with the motion that is known by now.

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts and deformation.
    progress : callable, optional
        Called after each block.
    stage : str
        Name of the stage in the progress.
    stretches : sequence of tuple of int, optional
        First and one-past-last frame of what is read; everything if None.

    Yields
    ------
    start : int
        Index of the block's first frame.
    frames : ndarray of float32, shape (n, n_rows, n_columns)
        Motion-corrected frames in camera counts.
    """
    wanted = [(0, recording.n_frames)] if stretches is None else stretches
    size = block_frames(recording)
    blocks = [
        (start, min(start + size, last))
        for first, last in wanted
        for start in range(first, last, size)
    ]
    total, done = sum(stop - start for start, stop in blocks), 0

    def correct(start: int, stop: int) -> FloatArray:
        block = recording.movie.read(start, stop)
        return apply_motion(block, motion.cut(start, stop), interpolation="cubic")

    # The next block is read and moved while this one is used.
    with ThreadPoolExecutor(1, "cocuyo-read") as reader:
        ahead = [reader.submit(correct, *block) for block in blocks[:1]]
        for i, (start, stop) in enumerate(blocks):
            frames = ahead.pop().result()
            ahead += [reader.submit(correct, *block) for block in blocks[i + 1 : i + 2]]
            yield start, frames
            done += stop - start
            progress(Progress(stage, done, total))


def block_frames(recording: Recording, *, multiple: int = 1) -> int:
    """Choose how many frames to read at once.

    Parameters
    ----------
    recording : Recording
        The recording.
    multiple : int, default: 1
        The number is a multiple of this.

    Returns
    -------
    int
        At least `multiple`.
    """
    frame_bytes = 4 * recording.frame_shape[0] * recording.frame_shape[1]
    return max(1, int(READ_BYTES / frame_bytes) // multiple) * multiple


def resize(image: FloatArray, factor: float) -> FloatArray:
    """Magnify or reduce an image by a factor.

    Parameters
    ----------
    image : ndarray of float32, shape (n_rows, n_columns)
        The image.
    factor : float
        Magnification; 1 returns the image itself.

    Returns
    -------
    ndarray of float32, shape about (n_rows * factor, n_columns * factor)
        The image at the new size; at least 8 pixels on each side.
    """
    if factor == 1.0:
        return np.asarray(image, np.float32)
    size = (max(8, round(image.shape[1] * factor)), max(8, round(image.shape[0] * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.asarray(image, np.float32), size, interpolation=method))


def resize_to(image: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Bring a map back to the size of the frames.

    Parameters
    ----------
    image : ndarray of float32
        The map.
    shape : tuple of int
        Rows and columns wanted.

    Returns
    -------
    ndarray of float32, shape `shape`
        The map; the same array where the size fits.
    """
    if image.shape == shape:
        return image
    method = cv2.INTER_AREA if image.shape[0] > shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (shape[1], shape[0]), interpolation=method), np.float32)


def _first_frames(recording: Recording, *, config: PipelineConfig, diameter_px: float) -> AnyArray:
    """Read the first frames; a head that holds no values (shutter closed, NaN) is skipped."""
    n, n_frames = config.first_frames, recording.n_frames
    first = recording.movie.read(0, min(n, n_frames))
    still = config.motion.model_copy(update={"method": "none"})
    frames = first
    for start in range(0, n_frames, n):
        if start:
            frames = recording.movie.read(start, min(start + n, n_frames))
        placed, _ = place_frames(
            frames, start_motion(frames, config=still, diameter_px=diameter_px)
        )
        good = np.flatnonzero((placed.flags & FLAG_INVALID) == 0)
        if len(good) and start:
            shown = start + int(good[0])
            return recording.movie.read(shown, min(shown + n, n_frames))
        if len(good):
            break
    return first


def _can_be_placed(recording: Recording, motion: MotionState) -> bool:
    """Try whether frames from all over the recording find their place on the template."""
    if motion.config.method == "none":
        return True
    n = recording.n_frames
    picks = np.unique(np.linspace(0, n - 1, min(n, _TRIAL_FRAMES)).astype(int))
    frames = np.concatenate([recording.movie.read(int(i), int(i) + 1) for i in picks])
    trial, _ = place_frames(frames, motion)
    flags = np.asarray(trial.flags)
    with_values = (flags & FLAG_INVALID) == 0
    placed = with_values & ((flags & FLAG_UNPLACED) == 0)
    return bool(placed.sum() >= _TRIAL_SHARE * with_values.sum())


def _resize_mask(mask: BoolArray, factor: float) -> BoolArray:
    return mask if factor == 1.0 else resize(mask.astype(np.float32), factor) > 0.99

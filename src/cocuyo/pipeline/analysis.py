"""The first pass: motion, both networks and the maps of the whole recording."""

import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cocuyo.core import (
    MEMORY,
    AnyArray,
    BoolArray,
    Deformation,
    FloatArray,
    LabelArray,
    Motion,
    Progress,
    ProgressCallback,
    Recording,
    Scratch,
    ignore_progress,
    median,
)
from cocuyo.io import save_npz_atomic
from cocuyo.pipeline.finish import Finished, Maps, finish_candidates, finish_mask
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.pipeline.srname import blob_mask, count_blobs
from cocuyo.pipeline.stream import (
    Pushed,
    Setup,
    Step,
    StreamState,
    block_frames,
    end_stream,
    join_motion,
    push_frames,
    resize,
    resize_to,
    set_up,
    start_stream,
)
from cocuyo.postprocessing import EventJudge, Verifier
from cocuyo.preprocessing import (
    contrast_of_soma,
    contrast_peaks,
    equalise,
    gather_peaks,
    measure_deformation,
    valid_pixels,
)
from cocuyo.segmentation import Engine, TemporalState


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the first pass over a recording found.

    Attributes
    ----------
    maps : Maps
        Probability, contrast, mean, noise, valid pixels.
    motion : Motion
        Shift, confidence and flags of each frame.
    mean_raw, max_raw, max : ndarray of float32, shape (n_rows, n_columns)
        Mean and maximum of the frames as acquired, and maximum after motion correction, in
        camera counts.
    probability_max, probability_mean : ndarray of float32, shape (n_rows, n_columns)
        Largest and mean probability of "cell" over time: the projections that the paper
        compares itself with.
    n_steps : int
        Steps that the temporal network saw.
    motion_corrected : bool
        False where motion correction was asked for and the frames could not be placed on
        each other; they stayed where they were.
    fit_before, fit_after, deformation_px : float or None
        With piecewise motion correction: correlation of the mean of frames with the reference
        before and after what other frames say was undone, and root mean square of that in pixels
        (`DeformationReport`); `motion` has the deformation only where it gained something.
    """

    maps: Maps
    motion: Motion
    mean_raw: FloatArray
    max_raw: FloatArray
    max: FloatArray
    probability_max: FloatArray
    probability_mean: FloatArray
    n_steps: int
    motion_corrected: bool
    fit_before: float | None = None
    fit_after: float | None = None
    deformation_px: float | None = None


def analyse(
    recording: Recording,
    *,
    config: PipelineConfig,
    diameter_px: float,
    engine: Engine | None,
    exclude: BoolArray | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Analysis:
    """Read a recording once and follow it with both networks.

    Parameters
    ----------
    recording : Recording
        The recording; it needs a frame rate.
    config : PipelineConfig
        Settings.
    diameter_px : float
        Typical soma diameter in pixels.
    engine : Engine or None
        The networks, made for frames of `network_shape`; None with `config.method` "blobs",
        where the share of frames in which a pixel is a blob takes the probability's place.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out.
    progress : callable, optional
        Called after each block.

    Returns
    -------
    Analysis
        Maps and motion.

    Raises
    ------
    RecordingError
        If there are fewer than two frames, or the mask has another shape.
    MissingFrameRateError
        If the frame rate is not known.
    """
    setup = set_up(recording, config=config, diameter_px=diameter_px, exclude=exclude)
    first = FirstPass(
        setup,
        engine,
        frame_shape=recording.frame_shape,
        n_steps=recording.n_frames // setup.frames_per_step,
    )
    return follow(first, recording, progress=progress)


def follow(
    first: "FirstPass",
    recording: Recording,
    *,
    n_threads: int = 0,
    progress: ProgressCallback = ignore_progress,
    after_block: Callable[["FirstPass", StreamState], None] | None = None,
) -> Analysis:
    """Bring a first pass to the end of its recording, from wherever it stands.

    The networks see the steps of one block while the next one is read and placed.

    Parameters
    ----------
    first : FirstPass
        Before the first frame, or taken up between two steps.
    recording : Recording
        The recording that it was set up for.
    n_threads : int, default: 0
        With 1, one thread works at a time. For several runs side by side.
    progress : callable, optional
        Called after each block.
    after_block : callable, optional
        Called after each block but the last, in another thread: with the pass, whose sums and
        memory hold the block, and the state of its stream then, in which no frame waits for a step.

    Returns
    -------
    Analysis
        Maps and motion.
    """
    n_frames = recording.n_frames
    per_block = block_frames(recording, multiple=first.setup.frames_per_step)

    def take(steps: tuple[Step, ...], stream: StreamState, stop: int) -> int:
        for step in steps:
            first.take(step)
        if after_block is not None and stop < n_frames:
            after_block(first, stream)
        return stop

    taken: Future[int] | None = None
    with ThreadPoolExecutor(1, "cocuyo-networks") as worker:
        for start in range(first.n_frames, n_frames, per_block):
            stop = min(start + per_block, n_frames)
            steps = first.place(recording.movie.read(start, stop)).steps
            if stop == n_frames:
                steps += end_stream(first.stream, first.setup)
            if taken is not None:
                progress(Progress("segmenting", taken.result(), n_frames))
            taken = worker.submit(take, steps, first.stream, stop)
            if n_threads == 1:
                taken.result()
        if taken is not None:
            progress(Progress("segmenting", taken.result(), n_frames))
    return first.analysis()


class FirstPass:
    """The first pass over a recording, fed with frames as they come.

    What it has seen so far is all it needs to go on: `stream` (motion, contrast), `memory` (the
    temporal network) and running sums.

    Parameters
    ----------
    setup : Setup
        From `set_up`.
    engine : Engine or None
        The networks, made for frames of `network_shape`; None with `config.method` "blobs".
    frame_shape : tuple of int
        Rows and columns of the frames.
    n_steps : int, optional
        Steps that the whole recording has; None where nobody knows yet.
    """

    def __init__(
        self,
        setup: Setup,
        engine: Engine | None,
        *,
        frame_shape: tuple[int, int],
        n_steps: int | None = None,
    ) -> None:
        self.setup = setup
        self.engine = engine
        self.frame_shape = frame_shape
        self.stream = start_stream(setup)
        self.memory = engine.start() if engine is not None else None
        candidates, diameter = setup.config.candidates, setup.network_diameter_px
        # The height that a flash must have by the end: below, those of noise would add up.
        least = candidates.contrast_threshold(0 if n_steps is None else n_steps)
        self._sums = _Sums(
            frame_shape,
            network_shape(frame_shape, setup.factor),
            diameter,
            distance=candidates.min_distance_diameters * diameter,
            least=least,
            final=n_steps is not None,
        )

    @property
    def n_frames(self) -> int:
        """Number of frames whose steps were taken."""
        return self._sums.n_seen

    @property
    def n_steps(self) -> int:
        """Number of steps that the networks saw."""
        return self._sums.n_steps

    def push(self, frames: AnyArray) -> Pushed:
        """Place the next frames, and take the steps that become whole.

        Parameters
        ----------
        frames : ndarray, shape (n, n_rows, n_columns)
            The next frames as acquired.

        Returns
        -------
        Pushed
            The frames, corrected.
        """
        pushed = self.place(frames)
        for step in pushed.steps:
            self.take(step)
        return pushed

    def place(self, frames: AnyArray) -> Pushed:
        """Place the next frames; the steps that become whole are for the caller to `take`.

        Parameters
        ----------
        frames : ndarray, shape (n, n_rows, n_columns)
            The next frames as acquired.

        Returns
        -------
        Pushed
            The frames, corrected, and the steps. They may be taken in another thread, in order.
        """
        pushed, self.stream = push_frames(frames, self.stream, self.setup)
        return pushed

    def end(self) -> None:
        """Take the frames that wait for a whole step; none may be pushed after that."""
        for step in end_stream(self.stream, self.setup):
            self.take(step)

    def take(self, step: Step) -> None:
        """Take a step into the sums and into the memory of the temporal network.

        Parameters
        ----------
        step : Step
            The next one.
        """
        self._sums.add(step)
        if not step.usable:
            return
        if self.engine is None or self.memory is None:
            self._sums.add_probability(count_blobs(step, self.setup), len(step.frames))
        else:
            probability, self.memory = _advance(self.engine, self.memory, step, self.setup)
            self._sums.add_probability(probability, 1)

    def sums(self) -> dict[str, AnyArray]:
        """Give the running sums as arrays, to be kept.

        Returns
        -------
        dict of str to ndarray
            What `take_up` takes.
        """
        return self._sums.arrays()

    def take_up(
        self, stream: StreamState, memory: TemporalState | None, sums: dict[str, AnyArray]
    ) -> None:
        """Go on from where another pass over the same frames stood.

        Parameters
        ----------
        stream : StreamState
            Its stream.
        memory : TemporalState or None
            Its memory.
        sums : dict of str to ndarray
            Its `sums`.
        """
        self._sums.restore(sums)
        self.stream, self.memory = stream, memory

    def analysis(self) -> Analysis:
        """Make the maps of all steps taken so far.

        Returns
        -------
        Analysis
            Of the recording, once its last step was taken; before that of its beginning.
        """
        setup, sums, shape = self.setup, self._sums, self.frame_shape
        n_steps = sums.n_seen // setup.frames_per_step
        least = setup.config.candidates.contrast_threshold(n_steps)
        motion = join_motion(sums.motions)
        # Steps had what those before them told; now all of them are known.
        told = measure_deformation(self.stream.motion)
        if told is not None and told.n_steps == 0:
            told = None
        if told is not None and told.deformation is not None:
            motion = replace(motion, deformation=told.deformation.cut(0, len(motion.flags)))
        valid = valid_pixels(
            shape,
            motion.shifts,
            deformation=motion.deformation,
            flags=motion.flags,
            exclude=setup.exclude,
        )
        share = resize_to(sums.probability_sum / max(1.0, sums.weight), shape)
        if self.engine is None or self.memory is None:
            probability = share
        elif sums.n_steps == 0:
            probability = np.zeros(shape, np.float32)
        else:
            probability = np.clip(resize_to(self.engine.classify(self.memory), shape), 0, 1)
        peaks = gather_peaks(sums.votes(least), diameter_px=setup.network_diameter_px)
        maps = Maps(
            np.where(valid, probability, 0).astype(np.float32),
            np.where(valid, resize_to(sums.contrast, shape), 0).astype(np.float32),
            sums.mean,
            sums.noise,
            valid,
            np.where(valid, resize_to(sums.soma_contrast, shape), 0).astype(np.float32),
            sums.n_steps,
            np.where(valid, resize_to(peaks, shape), 0).astype(np.float32),
        )
        return Analysis(
            maps,
            motion,
            sums.mean_raw,
            sums.max_raw,
            sums.max,
            resize_to(sums.probability_max, shape),
            share,
            sums.n_steps,
            setup.motion.config.method == setup.config.motion.method,
            None if told is None else told.before,
            None if told is None else told.after,
            None if told is None else told.rms_px,
        )


def keep_analysis(path: Path, analysis: Analysis, *, key: str) -> None:
    """Write what the first pass found, for a run that is started again after a kill.

    Parameters
    ----------
    path : Path
        The file, ending in ``.npz``; its folder exists.
    analysis : Analysis
        From `analyse`.
    key : str
        What it was made of; only a run with the same key takes it up.
    """
    arrays: dict[str, Any] = {"key": key}
    for owner, prefix in (
        (analysis.maps, "maps."),
        (analysis.motion, "motion."),
        (analysis.motion.deformation, "deformation."),
        (analysis, ""),
    ):
        for field in fields(owner) if owner is not None else ():
            value = getattr(owner, field.name)
            if value is not None and field.name not in ("maps", "motion", "deformation"):
                arrays[prefix + field.name] = value
    save_npz_atomic(path, arrays)


def kept_analysis(path: Path, *, key: str) -> Analysis | None:
    """Read what `keep_analysis` wrote.

    Parameters
    ----------
    path : Path
        The file; it need not be there.
    key : str
        What this run would make it of.

    Returns
    -------
    Analysis or None
        None where there is nothing to take up: no file, one of another recording or other
        settings, or one that cannot be read or holds what no pass can have found.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            arrays = {name: stored[name] for name in stored.files}
        maps, motion, deformation, own = (
            {
                name.removeprefix(prefix): value if value.ndim else value.item()
                for name, value in arrays.items()
                if name.startswith(prefix) and (prefix or "." not in name) and name != "key"
            }
            for prefix in ("maps.", "motion.", "deformation.", "")
        )
        told = Deformation(**deformation) if deformation else None
        moved = Motion(**motion, deformation=told)
        found = Analysis(maps=Maps(**maps), motion=moved, **own)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    numbers = (found.maps.probability, found.maps.contrast, found.maps.noise, found.motion.shifts)
    possible = found.n_steps >= 0 and all(np.isfinite(array).all() for array in numbers)
    return found if possible else None


def final_mask(analysis: Analysis, config: PipelineConfig) -> BoolArray:
    """Threshold the map of a recording, before refinement.

    Parameters
    ----------
    analysis : Analysis
        From `analyse`.
    config : PipelineConfig
        Thresholds.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        The mask.
    """
    if config.method == "blobs":
        return np.asarray(blob_mask(analysis.maps.probability, config) & analysis.maps.valid)
    return np.asarray(analysis.maps.probability >= config.mask_threshold)


def find_rois(
    recording: Recording,
    analysis: Analysis,
    *,
    config: PipelineConfig,
    diameter_px: float,
    verifier: Verifier | None = None,
    judge: EventJudge | None = None,
    engine: Engine | None = None,
    scratch: Scratch = MEMORY,
    progress: ProgressCallback = ignore_progress,
) -> Finished:
    """Make ROIs of the maps, in the way that `config.finish` names.

    Parameters
    ----------
    recording : Recording
        The recording.
    analysis : Analysis
        From `analyse`.
    config : PipelineConfig
        The same settings.
    diameter_px : float
        Typical soma diameter in pixels.
    verifier : Verifier or None
        Judges candidates, with `config.finish` "verify".
    judge : EventJudge or None
        Judges events; a threshold does if None.
    engine : Engine or None
        Runs the outline network, where `config.networks` names one.
    scratch : Scratch
        Where the traces are kept.
    progress : callable, optional
        Called after each block.

    Returns
    -------
    Finished
        All candidates, accepted or rejected with a reason.
    """
    if config.finish == "verify":
        return finish_candidates(
            recording,
            analysis.motion,
            analysis.maps,
            config=config,
            diameter_px=diameter_px,
            verifier=verifier,
            judge=judge,
            engine=engine,
            scratch=scratch,
            progress=progress,
        )
    return finish_mask(
        recording,
        analysis.motion,
        final_mask(analysis, config),
        valid=analysis.maps.valid,
        config=config,
        diameter_px=diameter_px,
        mean=analysis.maps.mean,
        score=analysis.maps.probability,
        judge=judge,
        scratch=scratch,
        progress=progress,
    )


UNLEARNED: dict[str, FloatArray] = {
    "maximum": np.linspace(0.3, 0.995, 30, dtype=np.float32),
    "average": np.linspace(0.02, 0.98, 49, dtype=np.float32),
    "contrast x probability": np.linspace(1, 20, 58, dtype=np.float32),
}
"""Maps of a recording that need no temporal network, and thresholds worth trying for each. The
first two are those that the paper compares itself with."""


def unlearned_map(analysis: Analysis, name: str) -> FloatArray:
    """Give one of the maps that need no temporal network.

    Parameters
    ----------
    analysis : Analysis
        From `analyse`.
    name : str
        One of `UNLEARNED`: largest probability of "cell" over time, its average, or largest
        temporal contrast times largest probability.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        The map.
    """
    if name == "maximum":
        return analysis.probability_max
    if name == "average":
        return analysis.probability_mean
    return np.asarray(analysis.maps.contrast * analysis.probability_max, np.float32)


def network_shape(frame_shape: tuple[int, int], factor: float) -> tuple[int, int]:
    """Size of the frames that the networks see.

    Parameters
    ----------
    frame_shape : tuple of int
        Rows and columns of the recording.
    factor : float
        Magnification.

    Returns
    -------
    tuple of int
        Rows and columns.
    """
    rows, columns = resize(np.zeros(frame_shape, np.float32), factor).shape
    return rows, columns


def _advance(
    engine: Engine, state: TemporalState, step: Step, setup: Setup
) -> tuple[FloatArray, TemporalState]:
    """Segment one step and take it into the memory."""

    def segment(frame: FloatArray) -> FloatArray:
        return engine.segment(
            equalise(
                frame,
                setup.grey_range,
                diameter_px=setup.network_diameter_px,
                config=setup.config.equalisation,
            )
        )

    if setup.config.networks.unet.input_frames == "step mean" or len(step.frames) == 1:
        probability = segment(step.mean)
    else:
        each = [segment(resize(frame, setup.factor)) for frame in step.frames]
        probability = np.mean(each, axis=0, dtype=np.float32)
    probability = np.where(step.inside, probability, np.float32(0.0))
    return probability, engine.step(probability, step.contrast, state)


_KEPT = (
    "n_seen", "n_frames", "n_pairs", "n_steps", "weight", "_raw", "_n_raw", "_max_raw", "_sum",
    "_squares", "_votes", "max", "contrast", "soma_contrast", "probability_sum",
    "probability_max",
)  # fmt: skip
"""Attributes of `_Sums` that are arrays or numbers."""


class _Sums:
    """Running sums of the first pass, in float64 where many frames are added."""

    def __init__(
        self,
        shape: tuple[int, int],
        small: tuple[int, int],
        diameter: float,
        *,
        distance: float,
        least: float,
        final: bool,
    ) -> None:
        self._diameter_px = diameter
        self._distance_px = distance
        self._least_contrast = least
        self._final = final
        self._flashes: list[tuple[LabelArray, FloatArray]] = []
        self.motions: list[Motion] = []
        self.n_seen = 0
        self.n_frames = self.n_pairs = self.n_steps = 0
        self.weight = 0.0
        self._raw = np.zeros(shape)
        self._n_raw = np.zeros(shape, np.int64)
        self._max_raw = np.full(shape, -np.inf, np.float32)
        self._sum = np.zeros(shape)
        self._squares = np.zeros(shape)
        self._last: FloatArray | None = None
        self.max = np.zeros(shape, np.float32)
        self.contrast = np.zeros(small, np.float32)
        self.soma_contrast = np.zeros(small, np.float32)
        self._votes = np.zeros(small, np.float32)
        self.probability_sum = np.zeros(small, np.float32)
        self.probability_max = np.zeros(small, np.float32)

    def add(self, step: Step) -> None:
        self.motions.append(replace(step.motion, deformation=None))
        self.n_seen += step.stop - step.start
        self._add_raw(step.raw)
        frames = step.frames
        if len(frames) == 0:
            return
        highest = frames.max(axis=0)
        self.max = highest if self.n_frames == 0 else np.maximum(self.max, highest)
        self.n_frames += len(frames)
        cv2.accumulate(frames.sum(axis=0), self._sum)  # a step's few frames add up in float32
        for frame in frames:
            if self._last is not None:
                change = frame - self._last
                # Without the frames' common rise and fall (flicker), which is no pixel's noise.
                change -= np.float32(median(change[::4, ::4]))
                cv2.accumulateSquare(change, self._squares)
                self.n_pairs += 1
            self._last = frame
        if step.usable:
            self.contrast = np.maximum(self.contrast, step.contrast)
            of_soma = contrast_of_soma(
                step.contrast, diameter_px=self._diameter_px, inside=step.inside
            )
            self.soma_contrast = np.maximum(self.soma_contrast, of_soma)
            self.add_flashes(of_soma)

    def _add_raw(self, frames: AnyArray) -> None:
        if len(frames) and frames.dtype.kind in "biu":  # whole numbers are finite
            self._n_raw += len(frames)
            highest = frames.max(axis=0).astype(np.float32)
            np.maximum(self._max_raw, highest, out=self._max_raw)
            for frame in frames:
                cv2.accumulate(frame.astype(np.float32), self._raw)
            return
        for frame in frames:
            shown = known = np.asarray(frame, np.float32)
            finite = np.isfinite(known)
            self._n_raw += finite
            if not finite.all():
                shown = np.where(finite, known, np.float32(-np.inf))
                known = np.where(finite, known, np.float32(0.0))
            np.maximum(self._max_raw, shown, out=self._max_raw)
            cv2.accumulate(known, self._raw)

    def add_flashes(self, height: FloatArray) -> None:
        """Take the peaks of a soma's contrast in one step."""
        peaks = contrast_peaks(height, distance_px=self._distance_px, least=self._least_contrast)
        if self._final:
            self._votes += peaks
        else:  # the length will say how high they must be
            at = np.flatnonzero(peaks).astype(np.int32)
            self._flashes.append((at, peaks.ravel()[at]))

    def votes(self, least: float) -> FloatArray:
        """Sum of the flashes that are high enough."""
        votes = self._votes.copy()
        for at, height in self._flashes:
            high = height >= min(least, 20.0)  # as high as `contrast_peaks` says
            votes.ravel()[at[high]] += height[high]
        return votes

    def add_probability(self, probability: FloatArray, weight: int) -> None:
        self.n_steps += 1
        self.weight += weight
        self.probability_sum += probability
        self.probability_max = np.maximum(self.probability_max, probability / weight)

    def arrays(self) -> dict[str, AnyArray]:
        """All sums as arrays, by name."""
        empty = np.zeros(0, np.float32)
        motion = join_motion(self.motions)
        return {
            **{f"sums.{name}": np.asarray(getattr(self, name)) for name in _KEPT},
            "sums.last": empty if self._last is None else self._last,
            "sums.shifts": motion.shifts,
            "sums.confidence": motion.confidence,
            "sums.flags": motion.flags,
            "sums.flash_counts": np.array([len(at) for at, _ in self._flashes], np.int64),
            "sums.flash_at": np.concatenate(
                [np.zeros(0, np.int32), *(at for at, _ in self._flashes)]
            ),
            "sums.flash_height": np.concatenate([empty, *(height for _, height in self._flashes)]),
        }

    def restore(self, arrays: dict[str, AnyArray]) -> None:
        """Take sums that `arrays` gave; raises where they are of another kind."""
        values = {}
        for name in _KEPT:
            like, value = getattr(self, name), arrays[f"sums.{name}"]
            if np.shape(like) != value.shape:
                msg = f"{name} has shape {value.shape}."
                raise ValueError(msg)
            values[name] = value if value.ndim else type(like)(value.item())
        last = arrays["sums.last"]
        motion = Motion(arrays["sums.shifts"], arrays["sums.confidence"], arrays["sums.flags"])
        ends = np.cumsum(arrays["sums.flash_counts"])
        at = np.split(arrays["sums.flash_at"], ends)[: len(ends)]
        height = np.split(arrays["sums.flash_height"], ends)[: len(ends)]
        for name, value in values.items():
            setattr(self, name, value)
        self._last = last if last.size else None
        self.motions = [motion]
        self._flashes = list(zip(at, height, strict=True))

    @property
    def mean_raw(self) -> FloatArray:
        return (self._raw / np.maximum(1, self._n_raw)).astype(np.float32)

    @property
    def max_raw(self) -> FloatArray:
        return np.where(self._n_raw > 0, self._max_raw, np.float32(0.0))

    @property
    def mean(self) -> FloatArray:
        return (self._sum / max(1, self.n_frames)).astype(np.float32)

    @property
    def noise(self) -> FloatArray:
        return np.sqrt(self._squares / (2 * max(1, self.n_pairs))).astype(np.float32)

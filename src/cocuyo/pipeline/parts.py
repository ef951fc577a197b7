"""Traces of an experiment: read in each of its recordings alone, then joined in time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import sparse

from cocuyo.core import (
    MEMORY,
    AnyArray,
    BoolArray,
    Events,
    FloatArray,
    Motion,
    Part,
    ProgressCallback,
    Recording,
    Result,
    RoiSet,
    Scratch,
    Traces,
    ignore_progress,
)
from cocuyo.pipeline.finish import Extracted, extract_traces
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.postprocessing import EventJudge


@dataclass(frozen=True, eq=False)
class Stretch:
    """Frames that were recorded without a break: a recording, or one of an experiment.

    Attributes
    ----------
    frames : slice
        Its frames among those of the result.
    part : Part or None
        What is known of it; None where the result has one recording only.
    """

    frames: slice
    part: Part | None

    def motion(self, result: Result) -> Motion:
        """Give the motion of its frames."""
        return result.motion.cut(self.frames.start, self.frames.stop)

    def cut(self, recording: Recording) -> Recording:
        """Give its frames of the recording of the result."""
        if self.part is None:
            return recording
        return recording.cut(self.frames.start, self.frames.stop)


def stretches(result: Result) -> Iterator[Stretch]:
    """Go through the recordings that a result was made of.

    Baselines, noise and events of a trace are those of one recording: light and focus may jump
    between two.

    Parameters
    ----------
    result : Result
        The result.

    Yields
    ------
    Stretch
        In order; one for a single recording.
    """
    if not result.parts:
        yield Stretch(slice(0, result.n_frames), None)
    for part in result.parts:
        yield Stretch(slice(part.start, part.stop), part)


def extract_in_view(
    recording: Recording,
    motion: Motion,
    rois: RoiSet,
    part: Part,
    *,
    valid: BoolArray,
    config: PipelineConfig,
    diameter_px: float,
    judge: EventJudge | None = None,
    scratch: Scratch = MEMORY,
    progress: ProgressCallback = ignore_progress,
    stage: str = "extracting traces",
) -> Extracted:
    """Read the traces of an experiment's ROIs in one of its recordings.

    From an ROI that is in view in part only, the pixels in view are taken; one that is not in view
    (`Part.in_view`) has zeros and no event.

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts, in the coordinates of the experiment, and flags.
    rois : RoiSet
        The ROIs.
    part : Part
        The recording's place in the experiment.
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels that surrounds may use.
    config : PipelineConfig
        Settings of traces and validation.
    diameter_px : float
        Typical soma diameter in pixels.
    judge : EventJudge, optional
        Judges events; a threshold does if None.
    scratch : Scratch
        Where the traces are kept.
    progress : callable, optional
        Called after each block.
    stage : str, default: "extracting traces"
        Name for the progress.

    Returns
    -------
    Extracted
        A row for each ROI; all of it is finite.
    """
    n_rois, n_frames = len(rois), recording.n_frames
    there = np.flatnonzero(part.in_view(rois))
    if len(there) == 0:
        return no_activity(n_rois, n_frames)
    found = extract_traces(
        recording,
        motion,
        _cut(rois.footprints[there], part.valid),
        valid=valid,
        config=config,
        diameter_px=diameter_px,
        judge=judge,
        scratch=scratch,
        progress=progress,
        stage=stage,
    )
    return spread_rows(found, there, n_rois, scratch=scratch)


def _cut(footprints: sparse.csr_array, view: BoolArray) -> sparse.csr_array:
    """Leave the pixels in view."""
    owner = np.repeat(np.arange(footprints.shape[0]), np.diff(footprints.indptr))
    kept = view.ravel()[footprints.indices]
    return sparse.csr_array(
        (footprints.data[kept], (owner[kept], footprints.indices[kept])), shape=footprints.shape
    )


def no_activity(n_rois: int, n_frames: int) -> Extracted:
    """Make the traces of ROIs that are not in view: zeros without events.

    Parameters
    ----------
    n_rois, n_frames : int
        Their number and that of the frames.

    Returns
    -------
    Extracted
        Of zeros.
    """
    per_roi = np.zeros(n_rois, np.float32)
    zeros = np.zeros((n_rois, n_frames), np.float32)
    traces = Traces(zeros, zeros, per_roi, zeros, zeros, zeros, per_roi, per_roi)
    none = np.zeros(n_rois, np.int32)
    return Extracted(traces, np.zeros((n_rois, n_frames), np.bool_), Events.empty(), none)


def spread_rows(
    found: Extracted,
    rows: AnyArray,
    n_rois: int,
    *,
    blank: float = 0.0,
    scratch: Scratch = MEMORY,
) -> Extracted:
    """Put the traces of some ROIs among those that have none.

    Parameters
    ----------
    found : Extracted
        Traces of those that have some.
    rows : ndarray of int, shape (n_found,)
        Their indices among all.
    n_rois : int
        Number of all.
    blank : float, default: 0.0
        Value of the other traces.
    scratch : Scratch
        Where the traces are kept.

    Returns
    -------
    Extracted
        Of all; the others have no event.
    """
    if len(rows) == n_rois:
        return found

    def spread(values: AnyArray) -> AnyArray:
        nothing = blank if values.dtype == np.float32 else 0
        if values.ndim == 1:
            every = np.full(n_rois, nothing, values.dtype)
            every[rows] = values
            return every
        every = scratch.array((n_rois, values.shape[1]), values.dtype.type)
        place = dict(zip(rows.tolist(), range(len(rows)), strict=True))
        for roi in range(n_rois):
            every[roi] = values[place[roi]] if roi in place else nothing
            scratch.release()
        return every

    events = found.events
    return Extracted(
        Traces(*(spread(getattr(found.traces, each.name)) for each in fields(Traces))),
        np.asarray(spread(found.raster), np.bool_),
        Events(
            rows[events.roi].astype(np.int32),
            events.onset,
            events.peak,
            events.offset,
            events.amplitude,
        ),
        np.asarray(spread(found.n_clear), np.int32),
        found.light,
    )


def join_extracted(found: Sequence[Extracted], *, scratch: Scratch = MEMORY) -> Extracted:
    """Put the traces of consecutive recordings one after the other.

    Parameters
    ----------
    found : sequence of Extracted
        Of each recording, with the same ROIs; at least one.
    scratch : Scratch
        Where the traces are kept.

    Returns
    -------
    Extracted
        Of all frames. Coefficient and noise of an ROI are the means (of the noise: of its square)
        over the recordings in which it is in view, weighted by their frames.
    """
    if len(found) == 1:
        return found[0]
    lengths = [one.raster.shape[1] for one in found]
    starts = np.cumsum([0, *lengths])
    # Where an ROI is not in view it has no noise, and counts of 0.
    weights = np.array(
        [
            [n * bool(trace.any()) for trace in one.traces.raw]
            for n, one in zip(lengths, found, strict=True)
        ],
        np.float64,
    ).reshape(len(found), -1)
    scratch.release()
    weights = weights / np.maximum(1, weights.sum(axis=0))

    def mean(values: list[FloatArray]) -> FloatArray:
        return np.asarray((weights * values).sum(axis=0), np.float32)

    def join(values: list[AnyArray]) -> AnyArray:
        every = scratch.array((len(values[0]), int(starts[-1])), values[0].dtype.type)
        for roi, own in enumerate(zip(*values, strict=True)):
            np.concatenate(own, out=every[roi])
            scratch.release()
        return every

    parts = [one.traces for one in found]
    joined = {
        each.name: join([getattr(one, each.name) for one in parts])
        for each in fields(Traces)
        if getattr(parts[0], each.name).ndim == 2
    }
    traces = Traces(
        **joined,
        neuropil_coefficient=mean([one.neuropil_coefficient for one in parts]),
        threshold=np.max([one.threshold for one in parts], axis=0),
        noise=np.sqrt(mean([one.noise**2 for one in parts])),
    )
    return Extracted(
        traces,
        np.asarray(join([one.raster for one in found]), np.bool_),
        join_events([one.events for one in found], starts.tolist()),
        np.sum([one.n_clear for one in found], axis=0, dtype=np.int32),
        tuple(
            replace(step, frame=step.frame + int(start))
            for start, one in zip(starts, found, strict=False)
            for step in one.light
        ),
    )


def join_events(found: Sequence[Events], starts: Sequence[int]) -> Events:
    """Put the events of consecutive recordings into one list.

    Parameters
    ----------
    found : sequence of Events
        Of each recording, with its own frames.
    starts : sequence of int
        First frame of each among all.

    Returns
    -------
    Events
        Sorted by ROI, then onset, with frames of all.
    """
    columns: dict[str, AnyArray] = {
        each.name: np.concatenate([getattr(events, each.name) for events in found])
        for each in fields(Events)
    }
    first = np.repeat(np.asarray(starts[: len(found)], np.int32), [len(one) for one in found])
    for name in ("onset", "peak", "offset"):
        columns[name] = columns[name] + first
    order = np.lexsort((columns["onset"], columns["roi"]))
    return Events(**{name: values[order] for name, values in columns.items()})

"""Traces of one shape, read from a window of the recording: what a new shape needs at once."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from cocuyo.core import (
    IN_VIEW_SHARE,
    AnyArray,
    BoolArray,
    LabelArray,
    Motion,
    Movie,
    ProgressCallback,
    Recording,
    Result,
    ignore_progress,
    read_rows,
)
from cocuyo.core.curation import Activity
from cocuyo.pipeline.curate import settings_of
from cocuyo.pipeline.finish import Extracted, extract_traces
from cocuyo.pipeline.parts import join_extracted, no_activity, stretches
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.postprocessing import EventJudge

_INTERPOLATION_PX = 4
"""Beyond the shifts, how far the interpolation of a pixel looks."""


@dataclass(frozen=True, eq=False)
class _Window:
    """A rectangle of a movie."""

    movie: Movie
    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int, int]:
        return (
            self.movie.shape[0],
            self.rows.stop - self.rows.start,
            self.columns.stop - self.columns.start,
        )

    @property
    def dtype(self) -> np.dtype:
        return self.movie.dtype

    def read(self, start: int, stop: int) -> AnyArray:
        rows = read_rows(self.movie, start, stop, self.rows.start, self.rows.stop)
        return rows[:, :, self.columns]


def trace_patch(
    recording: Recording,
    motion: Motion,
    index: LabelArray,
    *,
    cells: BoolArray,
    valid: BoolArray,
    config: PipelineConfig,
    diameter_px: float,
    judge: EventJudge | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Extracted:
    """Read the trace of one shape and find its events, from the frames around it only.

    Gives what `extract_traces` gives for the same shape among the same cells, but reads and moves
    a window that holds shape, ring and shifts instead of whole frames.

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts, deformation and flags.
    index : ndarray of int32, shape (n_pixels,)
        Flat indices of the shape's pixels; at least one.
    cells : ndarray of bool, shape (n_rows, n_columns)
        Pixels of all candidates; the ring avoids them.
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels in view at all times and not excluded.
    config : PipelineConfig
        Settings of traces and validation.
    diameter_px : float
        Typical soma diameter in pixels.
    judge : EventJudge, optional
        Judges events; a threshold does if None.
    progress : callable, optional
        Called after each block; may raise `Cancelled`.

    Returns
    -------
    Extracted
        Trace and activity, one row.
    """
    n_rows, n_columns = recording.frame_shape
    y, x = np.divmod(np.asarray(index, np.int64), n_columns)
    inner = max(1.0, config.traces.ring_inner_diameters * diameter_px)
    outer = max(inner + 2.0, config.traces.ring_outer_diameters * diameter_px)
    deformation = motion.deformation
    farthest = np.abs(motion.shifts).max(axis=0, initial=0.0)
    if deformation is not None:
        farthest = farthest + np.abs(deformation.grid).max(axis=(0, 1, 2))
    moved = np.ceil(farthest).astype(int)
    reach = int(np.ceil(outer)) + 2 + _INTERPOLATION_PX
    rows = slice(
        max(int(y.min()) - reach - int(moved[0]), 0),
        min(int(y.max()) + reach + int(moved[0]) + 1, n_rows),
    )
    columns = slice(
        max(int(x.min()) - reach - int(moved[1]), 0),
        min(int(x.max()) + reach + int(moved[1]) + 1, n_columns),
    )
    window = _Window(recording.movie, rows, columns)
    width = columns.stop - columns.start
    local = np.sort((y - rows.start) * width + x - columns.start).astype(np.int32)
    footprint = sparse.csr_array(
        (np.ones(len(local), np.float32), local, [0, len(local)]),
        shape=(1, window.shape[1] * width),
    )
    if deformation is not None:
        motion = replace(motion, deformation=deformation.window(rows.start, columns.start))
    return extract_traces(
        replace(recording, movie=window),
        motion,
        footprint,
        valid=valid[rows, columns] & ~cells[rows, columns],
        config=config,
        diameter_px=diameter_px,
        judge=judge,
        progress=progress,
        stage="tracing",
    )


def retrace_one(
    recording: Recording,
    result: Result,
    index: LabelArray,
    *,
    name: str = "",
    progress: ProgressCallback = ignore_progress,
) -> Activity:
    """Read the trace of one new shape, with the shifts, settings and judge of the result.

    What `retrace` gives for this shape alone, from a window of the recording.

    Parameters
    ----------
    recording : Recording
        The recording of the result.
    result : Result
        The result.
    index : ndarray of int32, shape (n_pixels,)
        Flat indices of the shape's pixels; at least one.
    name : str, default: ""
        Id of the ROI.
    progress : callable, optional
        Called after each block; may raise `Cancelled`.

    Returns
    -------
    Activity
        Traces, raster and events, one row.

    Raises
    ------
    ResultError
        If the settings of the result cannot be used.
    ModelError
        If the result's model is not found.
    """
    config, judge = settings_of(result)
    cells = np.zeros(result.valid.size, np.bool_)
    cells[result.rois.footprints.indices] = True
    found = []
    for one in stretches(result):
        view = result.valid if one.part is None else one.part.valid
        seen = index if one.part is None else index[view.ravel()[index]]
        if len(seen) == 0 or len(seen) < IN_VIEW_SHARE * len(index):
            found.append(no_activity(1, one.frames.stop - one.frames.start))
            continue
        found.append(
            trace_patch(
                one.cut(recording),
                one.motion(result),
                seen,
                cells=cells.reshape(result.valid.shape),
                valid=view,
                config=config,
                diameter_px=result.diameter_px,
                judge=judge,
                progress=progress,
            )
        )
    joined = join_extracted(found)
    return Activity((name,), joined.traces, joined.raster, joined.events)

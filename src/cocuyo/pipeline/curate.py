"""The curated state of a result: traces of new shapes, events at moved thresholds."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError
from scipy import sparse

from cocuyo.core import (
    BoolArray,
    CocuyoError,
    Events,
    FloatArray,
    ProgressCallback,
    Recording,
    RecordingError,
    Result,
    ResultError,
    RoiSet,
    Traces,
    ignore_progress,
)
from cocuyo.core.curation import Activity, Curation, Edit, active_edits, apply_edits, curate
from cocuyo.pipeline.finish import extract_traces, read_activity
from cocuyo.pipeline.model import load_model
from cocuyo.pipeline.parts import extract_in_view, join_events, join_extracted, stretches
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.postprocessing import EventJudge, find_events

_NAMED = 5


class TraceCache(Protocol):
    """Keeps what was computed for shapes, so that no recording is read twice for one."""

    def get(self, key: str) -> Activity | None:
        """Give what was kept under a key; None where there is nothing."""

    def put(self, key: str, activity: Activity) -> None:
        """Keep the activity of one ROI under a key."""


def shape_key(rois: RoiSet, roi: int) -> str:
    """Name the pixels of an ROI; its traces in one recording depend on nothing else.

    Parameters
    ----------
    rois : RoiSet
        The ROIs.
    roi : int
        Index of one.

    Returns
    -------
    str
        A name that may be a file's.
    """
    bounds = rois.footprints.indptr
    pixels = np.sort(rois.footprints.indices[bounds[roi] : bounds[roi + 1]])
    return hashlib.sha256(pixels.astype("<i4").tobytes()).hexdigest()[:32]


def retrace(
    recording: Recording,
    result: Result,
    rois: RoiSet,
    *,
    progress: ProgressCallback = ignore_progress,
) -> Activity:
    """Read the traces of new shapes, with the shifts, settings and judge of the result.

    One pass over the recording; those of an experiment are read one by one. The surround of a shape
    avoids all candidates of the result, so that its traces do not depend on the other edits.

    Parameters
    ----------
    recording : Recording
        The recording of the result.
    result : Result
        The result.
    rois : RoiSet
        The new shapes, each with at least one pixel.
    progress : callable, optional
        Called after each block; may raise `Cancelled`.

    Returns
    -------
    Activity
        Traces, raster and events in the order of the ROIs.

    Raises
    ------
    ResultError
        If the recording is not the result's, or the settings cannot be used.
    ModelError
        If the result's model is not found.
    """
    shape = (recording.n_frames, *recording.frame_shape)
    if shape != (result.n_frames, *result.rois.frame_shape):
        msg = (
            f"{recording.name} has {shape[0]} frames of {shape[1]} x {shape[2]}; the result has "
            f"{result.n_frames} of {' x '.join(map(str, result.rois.frame_shape))}."
        )
        raise ResultError(msg)
    if len(rois) == 0:
        return _nothing(result)
    config, judge = settings_of(result)
    cells = np.zeros(result.valid.size, np.bool_)
    cells[result.rois.footprints.indices] = True
    free = ~cells.reshape(result.valid.shape)
    how: dict[str, Any] = {
        "config": config,
        "diameter_px": result.diameter_px,
        "judge": judge,
        "progress": progress,
        "stage": "extracting traces of new shapes",
    }
    found = join_extracted(
        [
            extract_traces(
                recording, result.motion, rois.footprints, valid=result.valid & free, **how
            )
            if one.part is None
            else extract_in_view(
                one.cut(recording),
                one.motion(result),
                rois,
                one.part,
                valid=one.part.valid & free,
                **how,
            )
            for one in stretches(result)
        ]
    )
    return Activity(rois.ids, found.traces, found.raster, found.events)


def events_from(
    result: Result, traces: Traces, ids: Sequence[str], thresholds_sd: FloatArray
) -> Activity:
    """Find the events of traces by thresholds that a person set.

    An event is a stretch of the DoG signal that reaches the threshold; no judge is asked.

    Parameters
    ----------
    result : Result
        The result whose settings and flags are used.
    traces : Traces
        Traces of the ROIs.
    ids : sequence of str
        Their ids.
    thresholds_sd : ndarray of float, shape (n_rois,)
        Height of an event in each, in units of the noise of its DoG signal.

    Returns
    -------
    Activity
        The same traces, with new thresholds, raster and events.

    Raises
    ------
    ResultError
        If the settings of the result cannot be used.
    """
    config, _ = settings_of(result, with_judge=False)
    parts = []
    for row, threshold in enumerate(np.asarray(thresholds_sd, np.float64).tolist()):
        moved = config.validation.model_copy(update={"threshold_sd": threshold})
        own = _rows(traces, slice(row, row + 1))
        spans = [stretch.frames for stretch in stretches(result)]
        found = [
            find_events(
                np.asarray(own.delta_f_over_f[:, span], np.float32),
                frame_rate_hz=result.frame_rate_hz,
                usable=_usable(result)[span],
                config=moved,
            )
            for span in spans
        ]
        own = replace(
            own,
            dog=np.concatenate([one.dog for one in found], axis=1),
            threshold=found[0].threshold,
        )
        raster = np.concatenate([one.raster for one in found], axis=1)
        events = join_events([one.events for one in found], [span.start for span in spans])
        parts.append(Activity((ids[row],), own, raster, events))
    return _stack(result, parts)


def curated_result(
    result: Result,
    edits: Sequence[Edit],
    *,
    recording: Recording | Callable[[], Recording] | None = None,
    cache: TraceCache | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Result:
    """Bring a result to the curated state, with the traces and events of everything in it.

    Traces of new shapes come from the cache, else from the recording. Where that cannot be
    opened, an ROI that joins others of the result gets the mean of their traces, weighted by
    their pixels, and a warning says so; another shape is an error.

    Parameters
    ----------
    result : Result
        The result as it was saved.
    edits : sequence of Edit
        All edits, in the order in which they were made.
    recording : Recording or callable, optional
        The recording, or what opens it; called only if it is needed.
    cache : TraceCache, optional
        Where traces are looked for and kept.
    progress : callable, optional
        Called as the recording is read; may raise `Cancelled`.

    Returns
    -------
    Result
        The curated state. Its notes count what was changed.

    Raises
    ------
    ResultError
        If the traces of a new shape are not known and the recording cannot be read.
    """
    if not active_edits(edits):
        return result
    state = curate(result.rois, edits, valid=result.valid)
    warnings: list[str] = []
    traced = _traces_of_shapes(result, state, recording, cache, warnings, progress)
    moved = np.flatnonzero(np.isfinite(state.threshold_sd))
    parts = [traced]
    if len(moved):
        place = {name: row for row, name in enumerate(traced.ids)}
        rows = [
            _rows(traced.traces, slice(place[name], place[name] + 1))
            if (name := state.rois.ids[i]) in place
            else _rows(result.traces, slice(int(state.source[i]), int(state.source[i]) + 1))
            for i in moved
        ]
        ids = [state.rois.ids[i] for i in moved]
        again = events_from(result, _join(rows), ids, state.threshold_sd[moved])
        kept = [row for row, name in enumerate(traced.ids) if name not in ids]
        parts = [_part(traced, kept), again]
    after = apply_edits(result, edits, recomputed=_stack(result, parts))
    info = replace(
        after.info,
        notes=(*after.info.notes, _describe(result, state)),
        warnings=(*after.info.warnings, *warnings),
    )
    return replace(after, info=info)


def _traces_of_shapes(
    result: Result,
    state: Curation,
    recording: Recording | Callable[[], Recording] | None,
    cache: TraceCache | None,
    warnings: list[str],
    progress: ProgressCallback,
) -> Activity:
    """Activity of all new shapes, in the order of the state."""
    known: dict[int, Activity] = {}
    for i in state.redrawn.tolist():
        found = cache.get(shape_key(state.rois, i)) if cache is not None else None
        if found is not None and found.traces.raw.shape == (1, result.n_frames):
            known[i] = replace(found, ids=(state.rois.ids[i],))
    missing = [i for i in state.redrawn.tolist() if i not in known]
    if missing:
        try:
            opened = recording() if callable(recording) else recording
            if opened is None:
                msg = "no recording was given"
                raise RecordingError(msg)
        except (CocuyoError, OSError) as error:
            known |= _from_parts(result, state, missing, error, warnings)
        else:
            traced = retrace(opened, result, _subset(state.rois, missing), progress=progress)
            for row, i in enumerate(missing):
                known[i] = _part(traced, [row])
                if cache is not None:
                    cache.put(shape_key(state.rois, i), known[i])
    return _stack(result, [known[i] for i in sorted(known)])


def _from_parts(
    result: Result, state: Curation, missing: list[int], error: Exception, warnings: list[str]
) -> dict[int, Activity]:
    """Join the traces of what a merge joined, where the recording cannot be read."""
    ids = [state.rois.ids[i] for i in missing]
    unknown = [state.rois.ids[i] for i in missing if not state.made_of[i]]
    if unknown:
        msg = (
            f"{_names(unknown)} have new shapes, whose traces must be read from the recording "
            f"({str(error).rstrip('.')}). Say where it lies with --recording."
        )
        raise ResultError(msg) from error
    config, judge = settings_of(result)
    usable = _usable(result)
    area = result.rois.area_px.astype(np.float64)
    made: dict[int, Activity] = {}
    for i in missing:
        rows = list(state.made_of[i])
        share = (area[rows] / area[rows].sum()).astype(np.float32)
        raw = (share @ result.traces.raw[rows])[None]
        neuropil = (share @ result.traces.neuropil[rows])[None]
        joined = join_extracted(
            [
                read_activity(
                    raw[:, one.frames],
                    neuropil[:, one.frames],
                    usable=usable[one.frames],
                    frame_rate_hz=result.frame_rate_hz,
                    config=config,
                    judge=judge,
                )
                for one in stretches(result)
            ]
        )
        made[i] = Activity((state.rois.ids[i],), joined.traces, joined.raster, joined.events)
    warnings.append(
        f"The recording could not be read ({str(error).rstrip('.')}): the traces of {_names(ids)} "
        "are the mean of those of the ROIs that were merged, weighted by their pixels."
    )
    return made


def settings_of(
    result: Result, *, with_judge: bool = True
) -> tuple[PipelineConfig, EventJudge | None]:
    """Settings and judge with which a result was made.

    Parameters
    ----------
    result : Result
        The result.
    with_judge : bool, default: True
        Load the judge of events as well.

    Returns
    -------
    config : PipelineConfig
        The settings.
    judge : EventJudge or None
        The judge, where the model has one and it was asked for.

    Raises
    ------
    ResultError
        If the settings are those of another version.
    ModelError
        If the model is not found.
    """
    try:
        config = PipelineConfig.model_validate(result.info.settings)
    except ValidationError as error:
        msg = (
            f"The settings of {result.name} are those of another version of cocuyo "
            f"({error.error_count()} do not fit); run the recording again."
        )
        raise ResultError(msg) from error
    if not with_judge:
        return config, None
    model = result.info.model_folder or result.info.model or result.info.preset
    return config, load_model(model).judge


def _usable(result: Result) -> BoolArray:
    return np.asarray(np.asarray(result.motion.flags) == 0)


def _subset(rois: RoiSet, rows: list[int]) -> RoiSet:
    return replace(
        rois,
        footprints=sparse.csr_array(rois.footprints[rows]),
        ids=tuple(rois.ids[i] for i in rows),
        accepted=rois.accepted[rows],
        reasons=tuple(rois.reasons[i] for i in rows),
        score=rois.score[rows],
        snr=rois.snr[rows],
    )


def _rows(traces: Traces, rows: slice | list[int]) -> Traces:
    return Traces(**{part.name: getattr(traces, part.name)[rows] for part in fields(Traces)})


def _join(parts: Sequence[Traces]) -> Traces:
    return Traces(
        **{
            part.name: np.concatenate([getattr(each, part.name) for each in parts])
            for part in fields(Traces)
        }
    )


def _part(activity: Activity, rows: list[int]) -> Activity:
    place = np.full(len(activity.ids), -1, np.int32)
    place[rows] = np.arange(len(rows))
    events = activity.events
    kept = place[events.roi] >= 0
    columns = {part.name: getattr(events, part.name)[kept] for part in fields(Events)}
    return Activity(
        tuple(activity.ids[i] for i in rows),
        _rows(activity.traces, rows),
        activity.raster[rows],
        Events(**columns | {"roi": place[columns["roi"]]}),
    )


def _nothing(result: Result) -> Activity:
    n_frames = result.n_frames
    return Activity((), Traces.empty(n_frames), np.zeros((0, n_frames), np.bool_), Events.empty())


def _stack(result: Result, parts: Sequence[Activity]) -> Activity:
    """One activity of several, in their order."""
    parts = [_nothing(result), *parts]
    first = np.cumsum([0, *(len(part.ids) for part in parts)])[:-1]
    columns = {
        name.name: np.concatenate([getattr(part.events, name.name) for part in parts])
        for name in fields(Events)
    }
    rows = [part.events.roi + start for part, start in zip(parts, first, strict=True)]
    columns["roi"] = np.concatenate(rows).astype(np.int32)
    return Activity(
        tuple(name for part in parts for name in part.ids),
        _join([part.traces for part in parts]),
        np.concatenate([part.raster for part in parts]),
        Events(**columns),
    )


def _describe(result: Result, state: Curation) -> str:
    """Say in one sentence what a person changed."""
    before = {
        name: bool(ok) for name, ok in zip(result.rois.ids, result.rois.accepted, strict=True)
    }
    now = zip(state.rois.ids, state.rois.accepted.tolist(), strict=True)
    changed = [ok for name, ok in now if name in before and ok != before[name]]
    made = sum(name not in before for name in state.rois.ids)
    reshaped = sum(state.rois.ids[i] in before for i in state.redrawn)
    gone = sum(name in before for name in state.gone)
    counts = (
        (sum(changed), "accepted"),
        (len(changed) - sum(changed), "rejected"),
        (made, "new"),
        (reshaped, "of another shape"),
        (gone, "taken out"),
        (int(np.isfinite(state.threshold_sd).sum()), "with another event threshold"),
    )
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    left = f" {len(state.skipped)} edits could not be done." if state.skipped else ""
    return f"Curated by a person: {told or 'what was found stands'}.{left}"


def _names(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(ids[:_NAMED]) + more

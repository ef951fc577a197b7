"""Traces that follow from those of a result, computed when somebody asks for them."""

from dataclasses import fields
from typing import Literal, get_args

import numpy as np

from cocuyo.core import (
    MEMORY,
    AnyArray,
    Events,
    FloatArray,
    Progress,
    ProgressCallback,
    Result,
    Scratch,
    SettingsError,
    ignore_progress,
    roi_blocks,
)
from cocuyo.pipeline.parts import stretches
from cocuyo.postprocessing import (
    deconvolve_traces,
    denoise_traces,
    require_oasis,
    z_score_traces,
)

DerivedKind = Literal["zscore", "denoised", "deconvolved"]


def derived_traces(
    result: Result,
    kind: DerivedKind,
    *,
    scratch: Scratch = MEMORY,
    progress: ProgressCallback = ignore_progress,
) -> FloatArray:
    """Compute z-scores, denoised traces or deconvolved activity of the accepted ROIs.

    They follow from ΔF/F₀ and the events, so no result holds them: a few ROIs are read and computed
    at a time. The recordings of an experiment are each taken alone, with their own level and noise.

    Parameters
    ----------
    result : Result
        The result, in its curated state if that is wanted. Its traces may lie on the disk.
    kind : {"zscore", "denoised", "deconvolved"}
        `z_score_traces`, `denoise_traces` or `deconvolve_traces` of `cocuyo.postprocessing`; the
        last needs the extra ``oasis``.
    scratch : Scratch
        Where the traces are kept.
    progress : callable, optional
        Called after each block of ROIs; may raise `Cancelled`.

    Returns
    -------
    ndarray of float32, shape (n_accepted, n_frames)
        One row for each accepted ROI, in the order of the labels; finite. In standard deviations
        of the noise for ``zscore``, ΔF/F₀ for the others.

    Raises
    ------
    MissingExtraError
        If oasis-deconv is needed and not installed.
    SettingsError
        If there is no such kind.

    Examples
    --------
    >>> from cocuyo.pipeline import segment
    >>> from cocuyo.simulation import PRESETS, simulate
    >>> small = PRESETS["demo"].model_copy(update={"n_frames": 60, "n_rows": 64, "n_columns": 64})
    >>> result = segment(simulate(small, seed=1).recording(), preset="srname")
    >>> derived_traces(result, "zscore").shape == (int(result.rois.accepted.sum()), 60)
    True
    """
    if kind not in get_args(DerivedKind):
        msg = f"There are no traces {kind!r}; choose one of {', '.join(get_args(DerivedKind))}."
        raise SettingsError(msg)
    if kind == "deconvolved":
        require_oasis()
    accepted = np.flatnonzero(result.rois.accepted)
    derived = scratch.array((len(accepted), result.n_frames))
    usable = np.asarray(result.motion.flags) == 0
    for rows in roi_blocks(derived.shape):
        chosen = accepted[rows]
        traces = np.asarray(result.traces.delta_f_over_f[chosen], np.float32)
        raster = np.asarray(result.raster[chosen], np.bool_)
        for stretch in stretches(result):
            span = stretch.frames
            own, active, known = traces[:, span], raster[:, span], usable[span]
            if kind == "zscore":
                derived[rows, span] = z_score_traces(own, active, usable=known)
                continue
            derive = denoise_traces if kind == "denoised" else deconvolve_traces
            derived[rows, span] = derive(
                own,
                _events_in(result.events, chosen, span),
                frame_rate_hz=result.frame_rate_hz,
                usable=known,
            )
        scratch.release()
        progress(Progress("deriving traces", rows.stop, len(accepted)))
    return derived


def _events_in(events: Events, rois: AnyArray, span: slice) -> Events:
    """Events of some ROIs in some frames, counted from the first of both."""
    place = np.full(max(int(rois.max(initial=-1)), int(events.roi.max(initial=-1))) + 1, -1)
    place[rois] = np.arange(len(rois))
    kept = (place[events.roi] >= 0) & (events.onset >= span.start) & (events.onset < span.stop)
    columns = {each.name: getattr(events, each.name)[kept] for each in fields(Events)}
    columns["roi"] = place[columns["roi"]].astype(np.int32)
    for name in ("onset", "peak", "offset"):
        columns[name] = (columns[name] - span.start).astype(np.int32)
    return Events(**columns)

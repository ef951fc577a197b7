"""Traces and events of ROIs that someone else gave: drawn by hand, or of another recording."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import sparse

from cocuyo.core import (
    MEMORY,
    BoolArray,
    Events,
    FloatArray,
    LabelArray,
    Progress,
    ProgressCallback,
    Quality,
    Recording,
    Result,
    ResultError,
    RoiSet,
    Scratch,
    Traces,
    ignore_progress,
)
from cocuyo.io import DiskScratch
from cocuyo.pipeline.analysis import Analysis, analyse
from cocuyo.pipeline.field import measure_field_shift
from cocuyo.pipeline.finish import (
    Extracted,
    Finished,
    extract_traces,
    measure_agreement,
    peak_snr,
)
from cocuyo.pipeline.model import load_model
from cocuyo.pipeline.parts import spread_rows
from cocuyo.pipeline.run import Clock, assemble, choose_diameter, report_motion
from cocuyo.pipeline.settings import PipelineConfig, PresetName
from cocuyo.pipeline.stream import require_frames
from cocuyo.postprocessing import EventJudge
from cocuyo.segmentation import TemporalState

_NAMED = 5
"""ROIs that a sentence names; rois.csv has them all."""
_MOVED_PX = 1.0
"""Shift between two fields below which the ROIs sit where they sat, in pixels."""
_LEFT_SHARE = 0.5
"""A trace from a smaller share of an ROI's pixels is warned about."""


def extract(
    recording: Recording,
    rois: RoiSet,
    *,
    preset: PresetName = "default",
    model: str | Path | None = None,
    config: PipelineConfig | None = None,
    exclude: BoolArray | None = None,
    include_rejected: bool = False,
    reference: FloatArray | None = None,
    align: bool = False,
    work: Path | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Result:
    """Extract traces, events and raster of given ROIs.

    Motion is corrected as in `segment`; no network is run and no ROI is looked for or judged.
    Every ROI stays, under its id and in its order. Those with a pixel in view are accepted, also
    without any event; the others are rejected with a reason.

    Parameters
    ----------
    recording : Recording
        The recording; it needs a frame rate.
    rois : RoiSet
        The ROIs in coordinates of frame 0: from `read_rois`, of another `Result`, or from
        `RoiSet.given`.
    preset : {"default", "paper", "srname"}
        Whose settings of motion correction, traces and events to use.
    model : str or Path, optional
        Another model, by name or folder; it comes with its own settings and judge of events.
    config : PipelineConfig, optional
        Settings in place of the model's.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out, in coordinates of frame 0.
    include_rejected : bool, default: False
        Take the rejected ROIs of the set as well. Those without pixels always stay, rejected.
    reference : ndarray of float32, shape (n_rows, n_columns), optional
        Mean picture of the field in which the ROIs lie, such as ``projections["mean"]`` of the
        result they come from. A shift of the field against it is warned about.
    align : bool, default: False
        Move the ROIs by the shift against `reference`, in whole pixels.
    work : Path, optional
        Existing folder on a disk where the traces of long recordings may lie, in files that go with
        the result's arrays; in memory by default.
    progress : callable, optional
        Called with a `Progress` as the work goes on; may raise `Cancelled`.

    Returns
    -------
    Result
        Like that of `segment`; the probability is 0 everywhere, the scores are NaN.

    Raises
    ------
    ResultError
        If the ROIs or `reference` belong to frames of another size, if there is no ROI, or if
        the field cannot be aligned.
    RecordingError
        If the recording has fewer than two frames, or the mask another shape.
    MissingFrameRateError
        If the frame rate is not known.
    ModelError
        If the model cannot be used.

    Examples
    --------
    >>> from cocuyo.simulation import PRESETS, simulate
    >>> small = PRESETS["demo"].model_copy(update={"n_frames": 60, "n_rows": 64, "n_columns": 64})
    >>> simulation = simulate(small, seed=1)
    >>> masks = np.zeros((1, 64, 64), np.bool_)
    >>> masks[0, 20:28, 30:38] = True
    >>> result = extract(simulation.recording(), RoiSet.given(masks), preset="srname")
    >>> result.rois.ids, result.traces.delta_f_over_f.shape
    (('roi_0001',), (1, 60))
    """
    clock = Clock()
    loaded = load_model(model if model is not None else preset)
    settings = config if config is not None else loaded.settings.pipeline
    recording.rate_hz  # noqa: B018 - raises before any work where no rate is known
    require_frames(recording)
    notes, warnings = list(recording.notes), list[str]()
    given = _choose(rois, recording, include_rejected=include_rejected, notes=notes)
    if reference is None and align:
        msg = "ROIs are aligned by the mean picture of their own recording; give it as reference."
        raise ResultError(msg)
    if reference is not None and reference.shape != recording.frame_shape:
        _refuse_shape("The mean picture of the ROIs' recording", reference.shape, recording)
    with clock.measure("setting up"):
        sized = _with_diameter(recording, given, notes)
        diameter_px = choose_diameter(sized, settings, notes, warnings)
    with clock.measure("correcting motion"):
        analysis = analyse(
            recording,
            config=settings,
            diameter_px=diameter_px,
            engine=_NoNetworks(),
            exclude=exclude,
            progress=_under_name("correcting motion", progress),
        )
    report_motion(analysis, settings, notes, warnings)
    placed = given
    if reference is not None:
        placed = _compare(given, reference, analysis, diameter_px, align, notes, warnings)
    placed = _keep_in_view(placed, given.area_px, analysis, exclude, notes, warnings)
    with clock.measure("extracting"):
        found = _trace(
            placed,
            recording,
            analysis,
            settings,
            diameter_px,
            loaded.judge,
            MEMORY if work is None else DiskScratch(work),
            progress,
        )
    counts = found.events.count(len(placed))
    silent = int((counts[placed.accepted] == 0).sum())
    notes.append(
        f"ROIs were given ({len(given)}). No network was run, and nothing was looked for or "
        "judged: the probability is 0 everywhere, and ROIs have no score. ROIs without any event "
        f"stay accepted ({silent})."
    )
    result = assemble(
        recording,
        analysis,
        found,
        model=loaded,
        settings=settings,
        diameter_px=diameter_px,
        networks=None,
        seed=0,
        timings_s=clock.seconds,
        warnings=warnings,
        notes=notes,
    )
    return replace(result, info=replace(result.info, task="extract"))


class _NoNetworks:
    """Stands for the networks in the first pass, and finds nothing."""

    name = "none"
    precision = "f32"

    def segment(self, image: FloatArray) -> FloatArray:
        return np.zeros_like(image)

    def start(self) -> TemporalState:
        nothing = np.zeros((1, 1, 1, 1), np.float32)
        return TemporalState(nothing, nothing)

    def step(
        self, probability: FloatArray, contrast: FloatArray | None, state: TemporalState
    ) -> TemporalState:
        return state

    def classify(self, state: TemporalState) -> FloatArray:
        return np.asarray(state.maximum[0, 0], np.float32)

    def outline(self, views: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Nothing is drawn."""
        return np.zeros((len(views), *views.shape[2:]), np.float32), np.zeros(
            len(views), np.float32
        )


def _under_name(stage: str, progress: ProgressCallback) -> ProgressCallback:
    """Report the progress of a stage under another name."""

    def report(told: Progress) -> None:
        progress(replace(told, stage=stage))

    return report


def _choose(
    rois: RoiSet, recording: Recording, *, include_rejected: bool, notes: list[str]
) -> RoiSet:
    """Take the accepted ROIs, or all; those without pixels stay in either case."""
    if rois.frame_shape != recording.frame_shape:
        _refuse_shape("The ROIs", rois.frame_shape, recording)
    without = rois.area_px == 0
    kept = np.flatnonzero(rois.accepted | without | include_rejected)
    n_left_out = len(rois) - len(kept)
    if len(kept) == 0:
        more = f"; --all takes the {len(rois)} rejected ones" if len(rois) else ""
        msg = f"There is no accepted ROI among those given{more} (include_rejected in Python)."
        raise ResultError(msg)
    if n_left_out:
        notes.append(f"Rejected ROIs of the source were left out ({n_left_out}; --all takes them).")
    return RoiSet.given(
        rois.footprints[kept],
        rois.frame_shape,
        ids=[rois.ids[i] for i in kept],
        reasons=[rois.reasons[i] if without[i] else "" for i in kept],
    )


def _with_diameter(recording: Recording, rois: RoiSet, notes: list[str]) -> Recording:
    """Take the soma diameter from the ROIs where nobody says how large a pixel or a soma is."""
    said = (recording.pixel_size_um, recording.diameter_um, recording.diameter_px)
    areas = rois.area_px[rois.area_px > 0]
    if any(value is not None for value in said) or len(areas) == 0:
        return recording
    diameter_px = 2 * float(np.sqrt(np.median(areas) / np.pi))
    if not 2 <= diameter_px <= 0.5 * max(recording.frame_shape):  # no somata
        return recording
    notes.append("The pixel size is not known; the soma diameter is the median of the given ROIs.")
    return replace(recording, diameter_px=diameter_px)


def _refuse_shape(what: str, shape: tuple[int, ...], recording: Recording) -> None:
    rows, columns = recording.frame_shape
    msg = (
        f"{what} belong to frames of {shape[0]} x {shape[1]} pixels (rows x columns), those of "
        f"{recording.name} have {rows} x {columns}; give ROIs of this field of view."
    )
    raise ResultError(msg)


def _compare(
    rois: RoiSet,
    reference: FloatArray,
    analysis: Analysis,
    diameter_px: float,
    align: bool,
    notes: list[str],
    warnings: list[str],
) -> RoiSet:
    """Find the shift of the field since the ROIs were made, and move them by it or warn."""
    shift = measure_field_shift(analysis.maps.mean, reference, diameter_px=diameter_px)
    if not shift.same:
        what = "The mean picture does not resemble that of the ROIs' own recording"
        if align:
            msg = f"{what}, so they cannot be aligned; is it the same field of view?"
            raise ResultError(msg)
        warnings.append(f"{what}; look whether the ROIs sit on cells.")
        return rois
    dy, dx = shift.offset_px
    moved = f"The field lies {shift.describe()} of where it lay in the recording of the ROIs"
    if align:
        notes.append(f"{moved}; they were moved by as many whole pixels.")
        return _move(rois, round(dy), round(dx))
    if np.hypot(dy, dx) >= _MOVED_PX:
        warnings.append(f"{moved}, and they were not moved (--align moves them).")
    return rois


def _move(rois: RoiSet, dy: int, dx: int) -> RoiSet:
    """Move ROIs by whole pixels; what leaves the frame is lost."""
    rows, columns = rois.frame_shape
    owner = np.repeat(np.arange(len(rois)), rois.area_px)
    y, x = rois.footprints.indices // columns + dy, rois.footprints.indices % columns + dx
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    moved = sparse.csr_array(
        (rois.footprints.data[inside], (owner[inside], (y * columns + x)[inside])),
        shape=rois.footprints.shape,
    )
    return RoiSet.given(moved, rois.frame_shape, ids=rois.ids, reasons=rois.reasons)


def _keep_in_view(
    rois: RoiSet,
    area_px: LabelArray,
    analysis: Analysis,
    exclude: BoolArray | None,
    notes: list[str],
    warnings: list[str],
) -> RoiSet:
    """Cut ROIs to the valid pixels; one without any keeps its own and is rejected."""
    valid = analysis.maps.valid.ravel()
    owner = np.repeat(np.arange(len(rois)), rois.area_px)
    seen = valid[rois.footprints.indices]
    n_seen = np.bincount(owner[seen], minlength=len(rois))
    kept = seen | (n_seen == 0)[owner]
    cut = sparse.csr_array(
        (rois.footprints.data[kept], (owner[kept], rois.footprints.indices[kept])),
        shape=rois.footprints.shape,
    )
    excluded = np.zeros(len(rois), np.int64)
    if exclude is not None:
        excluded = np.bincount(owner[exclude.ravel()[rois.footprints.indices]], minlength=len(rois))
    reasons = list(rois.reasons)
    for i in np.flatnonzero((n_seen == 0) & (rois.area_px > 0)):
        all_excluded = excluded[i] == rois.area_px[i]
        reasons[i] = "lies in excluded pixels" if all_excluded else "is not in view at all times"
    smaller = (n_seen > 0) & (n_seen < area_px)
    little = smaller & (n_seen < _LEFT_SHARE * area_px)
    if smaller.any():
        notes.append(
            "Cut to the pixels that are in view at all times and not excluded: "
            f"{_names(rois, smaller)}."
        )
    if little.any():
        warnings.append(f"Less than half of the pixels are left of {_names(rois, little)}.")
    if (n_seen == 0).any():
        warnings.append(
            f"Rejected, and so without traces in the tables: {_names(rois, n_seen == 0)} "
            "(rois.csv says why)."
        )
    return RoiSet.given(cut, rois.frame_shape, ids=rois.ids, accepted=n_seen > 0, reasons=reasons)


def _names(rois: RoiSet, which: BoolArray) -> str:
    """List the ids of some ROIs, the first ones of many."""
    ids = [rois.ids[i] for i in np.flatnonzero(which)]
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(ids[:_NAMED]) + more


def _trace(
    rois: RoiSet,
    recording: Recording,
    analysis: Analysis,
    config: PipelineConfig,
    diameter_px: float,
    judge: EventJudge | None,
    scratch: Scratch,
    progress: ProgressCallback,
) -> Finished:
    """Read the traces of the ROIs that have pixels; the others have none."""
    n_frames = recording.n_frames
    there = np.flatnonzero(rois.area_px > 0)
    if len(there) == 0:
        nothing = np.zeros((0, n_frames), np.bool_)
        found = Extracted(Traces.empty(n_frames), nothing, Events.empty(), np.zeros(0, np.int32))
    else:
        found = extract_traces(
            recording,
            analysis.motion,
            rois.footprints[there],
            valid=analysis.maps.valid,
            config=config,
            diameter_px=diameter_px,
            judge=judge,
            scratch=scratch,
            progress=progress,
        )
    snr = np.full(len(rois), np.nan, np.float32)
    snr[there] = peak_snr(found.traces)
    quality = Quality.unknown(len(rois))
    if len(there):
        quality.agreement[there] = measure_agreement(
            recording,
            analysis.motion,
            rois.footprints[there],
            found.traces,
            mean=analysis.maps.mean,
            valid=analysis.maps.valid,
            config=config,
            diameter_px=diameter_px,
            scratch=scratch,
            progress=progress,
        )
    found = spread_rows(found, there, len(rois), blank=np.nan, scratch=scratch)
    return Finished(
        replace(rois, snr=snr, quality=quality),
        found.traces,
        found.raster,
        found.events,
        np.zeros((len(rois), 0), np.float32),
    )

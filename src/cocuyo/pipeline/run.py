"""The whole job: a recording in, a result out."""

import hashlib
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import (
    FLAG_FLASH,
    FLAG_INVALID,
    FLAG_UNPLACED,
    MEMORY,
    BoolArray,
    Progress,
    ProgressCallback,
    Recording,
    Result,
    RoiSet,
    RunInfo,
    SettingsError,
    TimeArray,
    Traces,
    ignore_progress,
)
from cocuyo.io import DiskScratch
from cocuyo.pipeline.analysis import (
    Analysis,
    FirstPass,
    find_rois,
    follow,
    keep_analysis,
    kept_analysis,
    network_shape,
)
from cocuyo.pipeline.checkpoint import keep_first_pass, take_up_first_pass
from cocuyo.pipeline.finish import Finished
from cocuyo.pipeline.model import Model, hash_weights, load_model
from cocuyo.pipeline.settings import PipelineConfig, PresetName
from cocuyo.pipeline.stream import Setup, StreamState, require_frames, set_up
from cocuyo.postprocessing import (
    EventJudge,
    LightStep,
    count_false_events,
    find_light_steps,
    measure_quality,
)
from cocuyo.preprocessing import DiameterMeasurement, crispness, measure_diameter
from cocuyo.segmentation import Engine, EngineName, Precision, load_engine

_FIRST_PASS = "first_pass.npz"
_KEEP_S, _KEEP_SHARE = 5.0, 0.05
"""Seconds between two checkpoints of the first pass: what a kill costs at most. Where a disk is so
slow that they would take more than this share of the time, they are rarer."""
_BELIEVED = 1.6
"""Factor between a measured and the usual diameter beyond which the measurement is not believed."""
_ENOUGH_ROIS = 8
_UNLIKE = 1.5
"""Accepted ROIs whose middle diameter says something, and the factor to the diameter that was used
from which it is warned about: networks and surrounds are made for that size."""
_MANY_FALSE = 0.3
_ENOUGH_FALSE = 5
"""Share of the events that noise alone would give from which it is warned about, and how many
must have been counted for that."""
LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "openvino", "torch")


def segment(
    recording: Recording,
    *,
    preset: PresetName = "default",
    model: str | Path | None = None,
    config: PipelineConfig | None = None,
    exclude: BoolArray | None = None,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    n_threads: int = 0,
    seed: int = 0,
    work: Path | None = None,
    begun: FirstPass | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Result:
    """Find the functional neurons of a recording, their traces and their activity.

    The method of González-Colín et al. ("Neuron segmentation in epifluorescence microscopy
    imaging with deep learning"): preprocessing with motion compensation, a U-Net on the
    frames, a convolutional GRU over time, refinement, validation of each trace. The preset
    ``default`` departs from it where ``docs/explanation/paper.md`` says so.

    Parameters
    ----------
    recording : Recording
        The recording; it needs a frame rate. Without pixel size and diameter the soma
        diameter is measured from it.
    preset : {"default", "paper", "srname"}
        Which shipped model to use.
    model : str or Path, optional
        Another model, by name or folder; it comes with its own settings.
    config : PipelineConfig, optional
        Settings in place of the model's.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out (a pipette, the slice's edge), in coordinates of frame 0.
    engine : {"auto", "openvino", "torch"}
        What runs the networks.
    precision : {"auto", "int8", "bf16", "f32"}
        Number format of the networks; ``auto`` is the first that the model may run in and the
        processor computes in.
    n_threads : int, default: 0
        Threads of the engine; 0 leaves the choice to it. With 1, the first pass does one thing
        at a time as well. For several runs side by side.
    seed : int, default: 0
        Recorded in the result. Only the traces in which false events are counted are random.
    work : Path, optional
        Existing folder in which the first pass is kept while it goes on, and its maps at its end:
        a run that was killed goes on from there when it is started again with the same recording
        and settings. Traces of long recordings lie there on disk as well, in files that go with
        the result's arrays.
    begun : FirstPass, optional
        The first pass, made while the recording ran. It is made again where the beginning of the
        recording told something else (a diameter, a rate) than all of it tells.
    progress : callable, optional
        Called with a `Progress` as the work goes on; may raise `Cancelled`.

    Returns
    -------
    Result
        ROIs, traces in camera counts and ΔF/F₀, events, raster, maps.

    Raises
    ------
    RecordingError
        If the recording has fewer than two frames, or the mask another shape.
    MissingFrameRateError
        If the frame rate is not known.
    ModelError
        If the model cannot be used.
    SettingsError
        If the model or the processor cannot do with `precision`.

    Examples
    --------
    >>> from cocuyo.simulation import PRESETS, simulate
    >>> small = PRESETS["demo"].model_copy(update={"n_frames": 60, "n_rows": 64, "n_columns": 64})
    >>> result = segment(simulate(small, seed=1).recording(), preset="srname")
    >>> result.raster.shape[1]
    60
    """
    clock = Clock()
    loaded = load_model(model if model is not None else preset)
    settings = config if config is not None else loaded.settings.pipeline
    recording.rate_hz  # noqa: B018 - raises before any work where no rate is known
    require_frames(recording)
    notes, warnings = list(recording.notes), list[str]()
    with clock.measure("setting up"):
        diameter_px = choose_diameter(recording, settings, notes, warnings)
        networks = load_networks(
            loaded,
            settings,
            recording,
            diameter_px,
            engine=engine,
            precision=precision,
            n_threads=n_threads,
        )
    with clock.measure("segmenting"):
        analysis = first_pass(
            recording,
            model=loaded,
            settings=settings,
            diameter_px=diameter_px,
            networks=networks,
            exclude=exclude,
            kept=None if work is None else work / _FIRST_PASS,
            begun=begun,
            n_threads=n_threads,
            notes=notes,
            progress=progress,
        )
    report_motion(analysis, settings, notes, warnings)
    with clock.measure("finishing"):
        found = find_rois(
            recording,
            analysis,
            config=settings,
            diameter_px=diameter_px,
            verifier=loaded.verifier,
            judge=loaded.judge,
            engine=networks,
            scratch=MEMORY if work is None else DiskScratch(work),
            progress=progress,
        )
    return assemble(
        recording,
        analysis,
        found,
        model=loaded,
        settings=settings,
        diameter_px=diameter_px,
        networks=networks,
        seed=seed,
        timings_s=clock.seconds,
        warnings=warnings,
        notes=notes,
    )


def first_pass(
    recording: Recording,
    *,
    model: Model,
    settings: PipelineConfig,
    diameter_px: float,
    networks: Engine | None,
    exclude: BoolArray | None = None,
    kept: Path | None = None,
    begun: FirstPass | None = None,
    n_threads: int = 0,
    notes: list[str],
    progress: ProgressCallback = ignore_progress,
) -> Analysis:
    """Make the maps of a recording, or take over those that were made before.

    Parameters
    ----------
    recording : Recording
        The recording.
    model : Model
        The model.
    settings : PipelineConfig
        Settings of the run.
    diameter_px : float
        Typical soma diameter in pixels.
    networks : Engine or None
        What runs the networks.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out.
    kept : Path, optional
        File in which the maps are kept for a run that is started again after a kill.
    begun : FirstPass, optional
        The first pass, made while the recording ran.
    n_threads : int, default: 0
        With 1, one thread works at a time.
    notes : list of str
        A sentence is added where maps are taken over.
    progress : callable, optional
        Called after each block.

    Returns
    -------
    Analysis
        Maps and motion.
    """
    key = ""
    if kept is not None:
        key = _run_key(recording, model, settings, diameter_px, networks, exclude)
        analysis = kept_analysis(kept, key=key)
        if analysis is not None:
            notes.append("The maps were taken over from a run that was stopped before its end.")
            return analysis
    setup = set_up(recording, config=settings, diameter_px=diameter_px, exclude=exclude)
    analysis = None if begun is None else _take_over(begun, recording, setup, networks, notes)
    if analysis is None:
        analysis = _follow(recording, setup, networks, kept, key, n_threads, notes, progress)
    if kept is not None:
        try:
            keep_analysis(kept, analysis, key=key)
            _so_far(kept).unlink(missing_ok=True)
        except OSError as error:  # a full disk: the result's own message will say it
            notes.append(f"The maps could not be kept for a second start ({error}).")
    return analysis


def assemble(
    recording: Recording,
    analysis: Analysis,
    found: Finished,
    *,
    model: Model,
    settings: PipelineConfig,
    diameter_px: float,
    networks: Engine | None,
    seed: int,
    timings_s: dict[str, float],
    warnings: list[str],
    notes: list[str],
) -> Result:
    """Put a result together from what the passes over a recording gave.

    Parameters
    ----------
    recording : Recording
        The recording.
    analysis : Analysis
        Of the first pass.
    found : Finished
        ROIs with their traces and events.
    model : Model
        The model that was used.
    settings : PipelineConfig
        Settings of the run.
    diameter_px : float
        Typical soma diameter in pixels.
    networks : Engine or None
        What ran the networks.
    seed : int
        To be recorded.
    timings_s : dict of float
        Wall time of each stage, in seconds.
    warnings, notes : list of str
        What the user should know.

    Returns
    -------
    Result
        The result.
    """
    note_light_steps(found.traces, recording.times_s, recording.rate_hz, notes)
    if networks is not None:
        warn_of_size(found.rois, diameter_px, recording.pixel_size_um, warnings)
    info = describe_run(
        model,
        settings=settings,
        networks=networks,
        seed=seed,
        timings_s=timings_s,
        warnings=warnings,
        notes=notes,
    )
    maps = analysis.maps
    result = Result(
        rois=found.rois,
        traces=found.traces,
        raster=found.raster,
        events=found.events,
        probability=maps.probability,
        projections={
            "mean_raw": analysis.mean_raw,
            "max_raw": analysis.max_raw,
            "mean": maps.mean,
            "max": analysis.max,
            "contrast": maps.contrast,
        },
        valid=maps.valid,
        motion=analysis.motion,
        times_s=recording.times_s,
        frame_rate_hz=recording.rate_hz,
        pixel_size_um=recording.pixel_size_um,
        diameter_px=diameter_px,
        name=recording.name,
        info=info,
    )
    return with_false_events(with_quality(result), judge=model.judge, settings=settings)


def with_quality(result: Result) -> Result:
    """Measure the quality of the ROIs of a result.

    Parameters
    ----------
    result : Result
        With traces, shifts and pictures; what is known of the agreement of footprints and traces
        stays.

    Returns
    -------
    Result
        The same, with `RoiSet.quality`.
    """
    rois = result.rois
    quality = measure_quality(
        rois.footprints,
        result.traces.delta_f_over_f,
        frame_rate_hz=result.frame_rate_hz,
        raw=result.traces.raw,
        shifts=np.asarray(result.motion.shifts),
        usable=np.asarray(result.motion.flags) == 0,
        valid=result.valid,
        max_raw=result.projections.get("max_raw"),
        agreement=None if rois.quality is None else rois.quality.agreement,
        spans=[(part.start, part.stop) for part in result.parts] or None,
    )
    return replace(result, rois=replace(rois, quality=quality))


def with_false_events(
    result: Result, *, judge: EventJudge | None, settings: PipelineConfig
) -> Result:
    """Count the events that are found in phase-randomised traces of the accepted ROIs.

    Parameters
    ----------
    result : Result
        With traces and raster; those of an experiment are looked at recording by recording.
    judge : EventJudge or None
        What judged its events.
    settings : PipelineConfig
        Settings of its events.

    Returns
    -------
    Result
        The same, with `info.false_events`, and a warning where they are many.
    """
    accepted = np.flatnonzero(result.rois.accepted)
    if len(accepted) == 0:
        return result
    found = count_false_events(
        result.traces.delta_f_over_f,
        result.raster,
        rois=accepted.astype(np.int32),
        usable=np.asarray(result.motion.flags) == 0,
        frame_rate_hz=result.frame_rate_hz,
        spans=[(part.start, part.stop) for part in result.parts] or [(0, result.n_frames)],
        seed=result.info.seed,
        judge=judge,
        config=settings.validation,
    )
    record, warnings = found.record(), list(result.info.warnings)
    minutes = int((np.asarray(result.motion.flags) == 0).sum()) / result.frame_rate_hz / 60
    per_min = result.events.count(len(result.rois))[accepted].mean() / max(minutes, 1e-9)
    # At rest alone can an event be false: so many in all of a neuron's time.
    false_per_min = found.n_resting / found.whole_min if found.whole_min > 0 else 0.0
    if found.n_resting >= _ENOUGH_FALSE and false_per_min > _MANY_FALSE * per_min:
        setting = "threshold_sd" if judge is None else "min_probability"
        warnings.append(
            f"Of {per_min:.2g} events a minute in each neuron, noise alone would give "
            f"{false_per_min:.2g}: many of them may be none. Look at the traces before you count "
            f"events; a higher {setting} in [validation] leaves out weak ones."
        )
    return replace(result, info=replace(result.info, false_events=record, warnings=tuple(warnings)))


def _so_far(kept: Path) -> Path:
    """Where the unfinished first pass lies beside the finished one."""
    return kept.with_suffix(".so_far.npz")


def _follow(
    recording: Recording,
    setup: Setup,
    networks: Engine | None,
    kept: Path | None,
    key: str,
    n_threads: int,
    notes: list[str],
    progress: ProgressCallback,
) -> Analysis:
    """Make the first pass, from where a killed run had come to; keep it on the way."""
    n_frames = recording.n_frames
    first = FirstPass(
        setup,
        networks,
        frame_shape=recording.frame_shape,
        n_steps=n_frames // setup.frames_per_step,
    )
    if kept is None:
        return follow(first, recording, n_threads=n_threads, progress=progress)
    path = _so_far(kept)
    if take_up_first_pass(path, first, key=key, n_frames=n_frames):
        notes.append(
            f"The first {first.n_frames} of {n_frames} frames were taken over from a run that was "
            "stopped before its end."
        )
        progress(
            Progress("segmenting", first.n_frames, n_frames, "going on where a run was stopped")
        )
    due = time.monotonic() + _KEEP_S

    def keep(first: FirstPass, stream: StreamState) -> None:
        nonlocal due
        start = time.monotonic()
        if start < due:
            return
        with suppress(OSError):  # a full disk: the result's own message will say it
            keep_first_pass(path, first, stream, key=key)
        now = time.monotonic()
        due = now + max(_KEEP_S, (now - start) / _KEEP_SHARE)

    return follow(first, recording, n_threads=n_threads, progress=progress, after_block=keep)


def describe_run(
    model: Model,
    *,
    settings: PipelineConfig,
    networks: Engine | None,
    seed: int,
    timings_s: dict[str, float],
    warnings: list[str],
    notes: list[str],
) -> RunInfo:
    """Say how a result came about.

    Parameters
    ----------
    model : Model
        The model that was used.
    settings : PipelineConfig
        Settings of the run.
    networks : Engine or None
        What ran the networks.
    seed : int
        To be recorded.
    timings_s : dict of float
        Wall time of each stage, in seconds.
    warnings, notes : list of str
        What the user should know.

    Returns
    -------
    RunInfo
        All of it, without what was read.
    """
    return RunInfo(
        preset=model.settings.preset,
        model=model.settings.name,
        model_folder="" if model.shipped else str(model.folder.resolve()),
        settings=settings.model_dump(mode="json"),
        seed=seed,
        versions=library_versions(),
        engine=networks.name if networks is not None else "none",
        precision=networks.precision if networks is not None else "f32",
        timings_s=timings_s,
        peak_memory_mb=_peak_memory_mb(),
        warnings=tuple(warnings),
        notes=tuple(notes),
    )


def _take_over(
    begun: FirstPass,
    recording: Recording,
    setup: Setup,
    networks: Engine | None,
    notes: list[str],
) -> Analysis | None:
    """Give the maps of a first pass that was made before, if it would come out the same."""
    same_networks = (begun.engine is None) == (networks is None) and (
        begun.engine is None
        or networks is None
        or (begun.engine.name, begun.engine.precision) == (networks.name, networks.precision)
    )
    complete = begun.n_frames == recording.n_frames
    if complete and same_networks and _equal(begun.setup, setup):
        notes.append("The maps are those made while the recording ran.")
        return begun.analysis()
    notes.append(
        "The maps were made again at the end: all of the recording told another "
        f"{_difference(begun.setup, setup) if complete else 'length'} than its beginning."
    )
    return None


def _difference(first: Setup, second: Setup) -> str:
    for name, words in (("diameter_px", "diameter of a soma"), ("rate_hz", "frame rate")):
        if getattr(first, name) != getattr(second, name):
            return words
    return "template or grey range"


def _equal(first: Any, second: Any) -> bool:
    """Compare two states to the last bit."""
    if type(first) is not type(second):
        return False
    if isinstance(first, np.ndarray):
        same = bool(first.dtype == second.dtype and first.shape == second.shape)
        return same and first.tobytes() == second.tobytes()
    if is_dataclass(first) and not isinstance(first, type):
        return all(_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    return bool(first == second)


def _run_key(
    recording: Recording,
    model: Model,
    settings: PipelineConfig,
    diameter_px: float,
    networks: Engine | None,
    exclude: BoolArray | None,
) -> str:
    """Name what the first pass depends on; the movie by some of its frames."""
    facts = (
        library_versions(),
        settings.model_dump(mode="json"),
        (networks.name, networks.precision) if networks is not None else None,
        (recording.frame_shape, recording.n_frames, str(recording.movie.dtype)),
        (recording.rate_hz, recording.pixel_size_um, recording.diameter_um, diameter_px),
    )
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(hash_weights(model, method=settings.method).encode())
    if exclude is not None:
        digest.update(np.packbits(exclude).tobytes())
    last = recording.n_frames - 1
    for frame in np.unique(np.linspace(0, last, min(recording.n_frames, 9)).astype(int)):
        digest.update(recording.movie.read(int(frame), int(frame) + 1).tobytes())
    return digest.hexdigest()


def with_inputs(
    result: Result,
    inputs: tuple[dict[str, object], ...],
    *,
    reading: Mapping[str, object] | None = None,
) -> Result:
    """Add what was read to a result's information.

    Parameters
    ----------
    result : Result
        The result.
    inputs : tuple of dict
        ``path``, ``bytes`` and ``sha256`` of each file.
    reading : mapping, optional
        How the recording was opened: `RunInfo.reading`. What is None is left out.

    Returns
    -------
    Result
        The same result with `info.inputs` and `info.reading`.
    """
    told = {name: value for name, value in (reading or {}).items() if value is not None}
    return replace(result, info=replace(result.info, inputs=inputs, reading=told))


def choose_diameter(
    recording: Recording, config: PipelineConfig, notes: list[str], warnings: list[str]
) -> float:
    """Decide the typical soma diameter in pixels, and say where it comes from.

    Parameters
    ----------
    recording : Recording
        With diameter, pixel size or neither.
    config : PipelineConfig
        Assumed diameter where only the pixel size is known.
    notes, warnings : list of str
        A sentence is added to one of them.

    Returns
    -------
    float
        Pixels.

    Raises
    ------
    SettingsError
        If a diameter in µm was given without a pixel size, or it comes out smaller than 2 or
        larger than half of the frame.
    """
    size = recording.pixel_size_um
    if recording.diameter_um is not None and size is None:
        msg = (
            f"A soma diameter of {recording.diameter_um:g} µm was given, but not how large a pixel "
            "is: give --pixel-size as well, or leave --diameter out and it is measured."
        )
        raise SettingsError(msg)
    origin = ""  # how it came about, where nobody gave it
    if recording.diameter_um is not None and size is not None:
        diameter = recording.diameter_um / size
        notes.append(f"Soma diameter as given: {recording.diameter_um:g} µm, {diameter:.1f} px.")
    elif recording.diameter_px is not None:
        diameter = recording.diameter_px
        notes.append(f"Soma diameter as given: {diameter:.1f} px.")
    elif size is not None:
        usual = config.scale.default_diameter_um / size
        origin = f"assumed from the usual {config.scale.default_diameter_um:g} µm, not given"
        measured = _measure(recording)
        if measured.reliable and 1 / _BELIEVED < measured.diameter_px / usual < _BELIEVED:
            # Either may be wrong by a third; together they are wrong by less.
            diameter = float(np.sqrt(usual * measured.diameter_px))
            notes.append(
                f"Soma diameter taken as {diameter * size:.1f} µm, {diameter:.1f} px: between the "
                f"usual {config.scale.default_diameter_um:g} µm and the "
                f"{measured.diameter_px * size:.1f} µm measured from the recording "
                "(say it with --diameter)."
            )
        else:
            diameter = usual
            why = (
                f"the {measured.diameter_px * size:.1f} µm measured from the recording are too far "
                "from the usual to be believed"
                if measured.reliable
                else "too few cells of one size show in the recording to measure it"
            )
            notes.append(
                f"Soma diameter assumed: {config.scale.default_diameter_um:g} µm, "
                f"{diameter:.1f} px; {why} (say it with --diameter)."
            )
    else:
        measured = _measure(recording)
        diameter = measured.diameter_px
        origin = "measured from the recording" if measured.reliable else "assumed, not given"
        if measured.reliable:
            notes.append(
                "The pixel size is not known; the soma diameter was measured from the "
                f"recording: {diameter:.1f} px (from {measured.n_blobs} blobs)."
            )
        else:
            warnings.append(
                "The pixel size is not known and the cells in the mean picture are too few or too "
                f"unlike to measure their diameter surely; {diameter:.1f} px, the best guess, is "
                "used. Give --pixel-size."
            )
    if not 2 <= diameter <= 0.5 * max(recording.frame_shape):
        why = f"This diameter was {origin}. " if origin else ""
        msg = (
            f"The soma diameter comes out as {diameter:.1f} px in frames of "
            f"{recording.frame_shape[0]} x {recording.frame_shape[1]}; it must be at least 2 px "
            f"and at most half of the frame. {why}Check --pixel-size and --diameter."
        )
        raise SettingsError(msg)
    return diameter


def _measure(recording: Recording) -> DiameterMeasurement:
    """Measure the diameter on a sample of frames fixed by their index."""
    n = recording.n_frames
    picks = np.unique(np.linspace(0, n - 1, min(n, 96)).astype(int))
    return measure_diameter(recording.movie.read(i, i + 1)[0] for i in picks.tolist())


def warn_of_size(
    rois: RoiSet, diameter_px: float, pixel_size_um: float | None, warnings: list[str]
) -> None:
    """Say so where the accepted ROIs are of another size than somata were taken to be.

    Parameters
    ----------
    rois : RoiSet
        What was found.
    diameter_px : float
        Soma diameter that was used, in pixels.
    pixel_size_um : float or None
        Size of a pixel, in µm.
    warnings : list of str
        A sentence is added.
    """
    areas = rois.area_px[rois.accepted]
    if len(areas) < _ENOUGH_ROIS:
        return
    middle = 2 * float(np.sqrt(np.median(areas) / np.pi))
    if 1 / _UNLIKE < middle / diameter_px < _UNLIKE:
        return

    def told(px: float) -> str:
        return f"{px:.1f} px" + (f" ({px * pixel_size_um:.1f} µm)" if pixel_size_um else "")

    warnings.append(
        f"The accepted ROIs measure {told(middle)} across in the middle, and somata were taken to "
        f"measure {told(diameter_px)}. "
        + ("Check --pixel-size, or give --diameter." if pixel_size_um else "Give --pixel-size.")
    )


def load_networks(
    model: Model,
    config: PipelineConfig,
    recording: Recording,
    diameter_px: float,
    *,
    engine: EngineName,
    precision: Precision,
    n_threads: int = 0,
) -> Engine | None:
    """Load the networks of a model for the frames of a recording.

    Parameters
    ----------
    model : Model
        The model.
    config : PipelineConfig
        Settings of the run.
    recording : Recording
        The recording.
    diameter_px : float
        Typical soma diameter in pixels; sets the networks' magnification.
    engine : {"auto", "openvino", "torch"}
        What runs them.
    precision : {"auto", "int8", "bf16", "f32"}
        Number format.
    n_threads : int, default: 0
        Threads of the engine; 0 leaves the choice to it.

    Returns
    -------
    Engine or None
        None where the method does without networks.

    Raises
    ------
    ModelError
        If the model cannot be used.
    SettingsError
        If the model or the processor cannot do with `precision`.
    """
    if config.method == "blobs":
        if precision not in ("auto", "f32"):
            msg = (
                f"{model.settings.name} has no networks that could run in {precision}; "
                "leave the precision out."
            )
            raise SettingsError(msg)
        return None
    return load_engine(
        model.folder,
        config.networks,
        frame_shape=network_shape(recording.frame_shape, config.scale.factor(diameter_px)),
        engine=engine,
        precision=precision,
        formats=model.settings.precisions,
        n_threads=n_threads,
    )


def report_motion(
    analysis: Analysis, config: PipelineConfig, notes: list[str], warnings: list[str]
) -> None:
    """Say what motion correction did.

    Parameters
    ----------
    analysis : Analysis
        Of the first pass.
    config : PipelineConfig
        Settings.
    notes, warnings : list of str
        Sentences are added to them.
    """
    motion = analysis.motion
    flags = np.asarray(motion.flags)
    for flag, what in (
        (FLAG_UNPLACED, "could not be placed and took the shift of the last good frame"),
        (FLAG_INVALID, "hold no usable values"),
        (FLAG_FLASH, "are flashes and do not count as activity"),
    ):
        n = int(((flags & flag) > 0).sum())
        if n:
            (notes if flag == FLAG_FLASH else warnings).append(
                f"{n} of {len(flags)} frames {what}."
            )
    if (flags == 0).sum() == 0:
        warnings.append("No frame can be used: all are flagged.")
        return
    if not analysis.motion_corrected:
        warnings.append(
            "Motion was not corrected: most frames do not resemble the first ones enough to be "
            "placed on them, as in ΔF/F movies, which show no structure at rest."
        )
    elif config.motion.method != "none":
        reach = np.abs(motion.shifts).max(axis=0)
        before = crispness(analysis.mean_raw, valid=analysis.maps.valid)
        after = crispness(analysis.maps.mean, valid=analysis.maps.valid)
        notes.append(
            f"Largest shift: {reach[0]:.1f} px down or up, {reach[1]:.1f} px sideways. Crispness "
            f"of the mean image {before:.4g} before and {after:.4g} after correction."
        )
        note_deformation(analysis, config, notes)
    share = float(analysis.maps.valid.mean())
    if share < 0.5:
        warnings.append(
            f"Only {100 * share:.0f} % of the pixels are in view at all times and not excluded."
        )


def note_deformation(analysis: Analysis, config: PipelineConfig, notes: list[str]) -> None:
    """Say whether tissue deformed, and what undoing that gained.

    Parameters
    ----------
    analysis : Analysis
        Of the first pass.
    config : PipelineConfig
        Settings.
    notes : list of str
        A sentence is added with piecewise motion correction.
    """
    before, after, rms = analysis.fit_before, analysis.fit_after, analysis.deformation_px
    if not config.motion.piecewise:
        return
    if before is None or after is None or rms is None:
        notes.append(
            "Whether the tissue deformed could not be measured: fewer usable frames than one "
            f"step of {config.motion.deformation_step_s:g} s."
        )
        return
    figures = (
        f"frames correlate with the reference by {before:.4f} without and {after:.4f} with what "
        "other frames say about it"
    )
    deformation = analysis.motion.deformation
    if deformation is None:
        notes.append(
            f"No slow deformation was undone, the frames were moved as a whole: {figures} "
            f"({rms:.2f} px RMS)."
        )
        return
    reach = float(np.hypot(deformation.grid[..., 0], deformation.grid[..., 1]).max())
    notes.append(
        f"Slow deformation was undone: {rms:.2f} px RMS, at most {reach:.1f} px, on a grid of "
        f"{len(deformation.y_px)} x {len(deformation.x_px)} patches; {figures}."
    )


def note_light_steps(
    traces: Traces, times_s: TimeArray, frame_rate_hz: float, notes: list[str]
) -> None:
    """Say where the light changed at once; traces are levelled there.

    Parameters
    ----------
    traces : Traces
        As read.
    times_s : ndarray of float64, shape (n_frames,)
        Time of each frame.
    frame_rate_hz : float
        Frames per second.
    notes : list of str
        A sentence is added for each step.
    """
    steps = find_light_steps(traces.raw, traces.neuropil, frame_rate_hz=frame_rate_hz)
    notes += [describe_light_step(step, times_s) for step in steps]


def describe_light_step(step: LightStep, times_s: TimeArray) -> str:
    """Say where and by how much the light changed.

    Parameters
    ----------
    step : LightStep
        A lasting change of the light.
    times_s : ndarray of float64, shape (n_frames,)
        Time of each frame.

    Returns
    -------
    str
        A sentence for the notes.
    """
    return (
        f"The light of the whole field changed by {100 * (step.factor - 1):+.1f} % at "
        f"{times_s[step.frame]:.1f} s (frame {step.frame}); traces are levelled there."
    )


def library_versions() -> dict[str, str]:
    """Say which versions shape the numbers.

    Returns
    -------
    dict of str
        Of Python, the system, cocuyo and the libraries that it computes with.
    """
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for library in ("cocuyo", *LIBRARIES):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _peak_memory_mb() -> float:
    """Peak resident memory of this process; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / (1024.0**2 if sys.platform == "darwin" else 1024.0)


class Clock:
    """Wall time of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)

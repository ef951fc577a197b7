"""Several recordings of one field of view: one set of ROIs, activity in each recording."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import sparse

from cocuyo.core import (
    FLAG_INVALID,
    FLAG_UNPLACED,
    MEMORY,
    AnyArray,
    BoolArray,
    FloatArray,
    Motion,
    Part,
    Progress,
    ProgressCallback,
    Quality,
    Recording,
    RecordingError,
    Result,
    RoiSet,
    Scratch,
    TimeArray,
    ignore_progress,
)
from cocuyo.io import DiskScratch
from cocuyo.pipeline.analysis import Analysis, find_rois
from cocuyo.pipeline.field import SAME_FIELD, FieldShift, measure_field_shift
from cocuyo.pipeline.finish import Extracted, peak_snr
from cocuyo.pipeline.model import Model, load_model
from cocuyo.pipeline.parts import extract_in_view, join_extracted
from cocuyo.pipeline.run import (
    Clock,
    choose_diameter,
    describe_light_step,
    describe_run,
    first_pass,
    load_networks,
    report_motion,
    with_false_events,
    with_quality,
)
from cocuyo.pipeline.settings import PipelineConfig, PresetName
from cocuyo.pipeline.stream import join_motion, require_frames, set_up
from cocuyo.postprocessing import VerificationConfig, find_duplicates
from cocuyo.preprocessing import apply_shifts, place_frames, valid_pixels
from cocuyo.segmentation import Engine, EngineName, Precision

LAST_STAGE = "extracting traces of all ROIs"
"""What the progress calls the last pass, through every recording once more."""
_SPREAD = 0.01
"""Frame rates and pixel sizes that differ by less are the same, written with other digits."""
_GLANCE_FRAMES = 96
"""Frames all over a recording whose mean shows its field before it is analysed. Where it is so dim
that a frame correlates by 0.2 with the template, two such means still correlate by 0.8."""
_GLANCE_SHARE = 0.5
"""Share of `SAME_FIELD` below which that mean, which is noisier, already tells another field."""
_UNMOVED = FieldShift((0.0, 0.0), 1.0, placed=True)
"""Where the field lies in the first recording."""
_NAMED = 5
"""ROIs that a sentence names."""


def segment_experiment(
    recordings: Sequence[Recording],
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
    progress: ProgressCallback = ignore_progress,
) -> Result:
    """Find the functional neurons of one field of view in several recordings of it.

    Every recording is analysed as by `segment`, with the same settings and the soma diameter of the
    first one, and laid over the first by its mean picture. Candidates of all recordings that show
    the same neuron become one, with the outline of the best score; it is accepted if it is in any
    recording: the masks are combined by maximum, as in the paper. Traces, events and raster of all
    ROIs are then read in every recording alone and joined in time.

    Parameters
    ----------
    recordings : sequence of Recording
        The recordings in order, with frames of one size and one rate. Coordinates are those of
        frame 0 of the first.
    preset : {"default", "paper", "srname"}
        Which shipped model to use.
    model : str or Path, optional
        Another model, by name or folder; it comes with its own settings.
    config : PipelineConfig, optional
        Settings in place of the model's.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out, in coordinates of frame 0 of the first recording.
    engine : {"auto", "openvino", "torch"}
        What runs the networks.
    precision : {"auto", "int8", "bf16", "f32"}
        Number format of the networks; ``auto`` is the first that the model may run in and the
        processor computes in.
    n_threads : int, default: 0
        Threads of the engine; 0 leaves the choice to it.
    seed : int, default: 0
        Recorded in the result. Only the traces in which false events are counted are random.
    work : Path, optional
        Existing folder in which the maps of the first passes are kept, for a run that is started
        again after a kill.
    progress : callable, optional
        Called with a `Progress` as the work goes on; may raise `Cancelled`.

    Returns
    -------
    Result
        One set of ROIs, and the frames of all recordings one after the other. Its `parts` say
        where each recording lies among them; `Result.part` gives each as a result of its own.

    Raises
    ------
    RecordingError
        If a recording has fewer than two frames or does not belong to the others: another frame
        size, frame rate, pixel size or field of view. If there is none.
    MissingFrameRateError
        If a frame rate is not known.
    ModelError
        If the model cannot be used.
    SettingsError
        If the model or the processor cannot do with `precision`, or a diameter cannot be used.

    Examples
    --------
    >>> from cocuyo.simulation import PRESETS, simulate
    >>> small = PRESETS["demo"].model_copy(update={"n_frames": 90, "n_rows": 64, "n_columns": 64})
    >>> whole = simulate(small, seed=1).recording()
    >>> result = segment_experiment([whole.cut(0, 50), whole.cut(50, 90)], preset="srname")
    >>> result.n_frames, [part.n_frames for part in result.parts]
    (90, [50, 40])
    """
    clock = Clock()
    loaded = load_model(model if model is not None else preset)
    settings = config if config is not None else loaded.settings.pipeline
    require_alike(recordings)
    names = _name_parts(recordings)
    first = recordings[0]
    notes, warnings = list[str](), list[str]()
    with clock.measure("setting up"):
        diameter_px = choose_diameter(first, settings, notes, warnings)
        networks = load_networks(
            loaded,
            settings,
            first,
            diameter_px,
            engine=engine,
            precision=precision,
            n_threads=n_threads,
        )
    scratch = MEMORY if work is None else DiskScratch(work)
    method = _Method(loaded, settings, diameter_px, networks, exclude, n_threads, scratch)
    with clock.measure("comparing fields"):
        guesses = _glance_at_fields(recordings, method, progress)
    seen: list[_Seen] = []
    pictures = _Pictures()
    for i, (recording, name, guess) in enumerate(zip(recordings, names, guesses, strict=True)):
        with clock.measure(f"analysing {name}"):
            placed, one = _analyse_in_field(
                recording,
                method,
                first=first,
                reference=pictures.reference,
                guess=guess,
                kept=None if work is None else work / f"first_pass_{i}.npz",
                progress=_in_part(i, len(recordings), progress),
            )
        pictures.add(placed)
        seen.append(one)
        notes += [f"{name}: {text}" for text in one.notes]
        warnings += [f"{name}: {text}" for text in one.warnings]
    merged = merge_candidates([one.candidates for one in seen], config=settings.verification)
    parts = _make_parts(recordings, names, seen, merged.found)
    with clock.measure("extracting"):
        extracted = [
            extract_in_view(
                recording,
                one.motion,
                merged.rois,
                part,
                valid=part.valid,
                config=settings,
                diameter_px=diameter_px,
                judge=loaded.judge,
                scratch=scratch,
                progress=_in_part(i, len(recordings), progress),
                stage=LAST_STAGE,
            )
            for i, (recording, one, part) in enumerate(zip(recordings, seen, parts, strict=True))
        ]
    highest = np.max([peak_snr(one.traces) for one in extracted], axis=0)
    rois = _judge_again(replace(merged.rois, snr=highest), extracted)
    n_found = [str(len(one.candidates)) for one in seen]
    notes.append(
        f"Candidates of all recordings ({' + '.join(n_found)}) that overlap are one: "
        f"{len(rois)} are left, accepted if they are neurons in any recording."
    )
    for recording, name, found in zip(recordings, names, extracted, strict=True):
        notes += [f"{name}: {describe_light_step(s, recording.times_s)}" for s in found.light]
    _report_view(parts, rois, warnings)
    joined = join_extracted(extracted, scratch=method.scratch)
    result = Result(
        rois=rois,
        traces=joined.traces,
        raster=joined.raster,
        events=joined.events,
        probability=pictures.probability,
        projections=pictures.projections(),
        valid=pictures.valid,
        motion=join_motion([one.motion for one in seen]),
        times_s=_join_times(recordings),
        frame_rate_hz=first.rate_hz,
        pixel_size_um=first.pixel_size_um,
        diameter_px=diameter_px,
        name=first.name if len(names) == 1 else f"{first.name} and {len(names) - 1} more",
        info=describe_run(
            loaded,
            settings=settings,
            networks=networks,
            seed=seed,
            timings_s=clock.seconds,
            warnings=warnings,
            notes=notes,
        ),
        parts=parts,
    )
    return with_false_events(with_quality(result), judge=loaded.judge, settings=settings)


@dataclass(frozen=True, eq=False)
class _Method:
    """What is the same for all recordings; `exclude` in coordinates of the first."""

    model: Model
    settings: PipelineConfig
    diameter_px: float
    networks: Engine | None
    exclude: BoolArray | None
    n_threads: int
    scratch: Scratch


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is kept of a recording while the others are analysed, in common coordinates."""

    motion: Motion
    valid: BoolArray
    mean: FloatArray
    shift: FieldShift
    candidates: RoiSet
    notes: list[str]
    warnings: list[str]


def _analyse_in_field(
    recording: Recording,
    method: _Method,
    *,
    first: Recording,
    reference: FloatArray | None,
    guess: FieldShift,
    kept: Path | None,
    progress: ProgressCallback,
) -> tuple[Analysis, _Seen]:
    """Analyse a recording alone, lay it over the first one, and find candidates there.

    `reference` is the mean picture of the first recording; None for this one itself.
    """
    settings, diameter_px = method.settings, method.diameter_px
    notes, warnings = list(recording.notes), list[str]()
    exclude = method.exclude
    analysis = first_pass(
        recording,
        model=method.model,
        settings=settings,
        diameter_px=diameter_px,
        networks=method.networks,
        exclude=None if exclude is None else _move_mask(exclude, guess.offset_px),
        kept=kept,
        n_threads=method.n_threads,
        notes=notes,
        progress=progress,
    )
    report_motion(analysis, settings, notes, warnings)
    shift = _UNMOVED
    if reference is not None:
        shift = measure_field_shift(analysis.maps.mean, reference, diameter_px=diameter_px)
        if not shift.same:
            raise _other_field(recording, first, shift)
        notes.append(
            f"The field lies {shift.describe()} of where it lay in {first.name} "
            f"(correlation of the mean pictures {shift.correlation:.2f})."
        )
    placed = _place(analysis, shift.offset_px, exclude)
    candidates = find_rois(
        recording,
        placed,
        config=settings,
        diameter_px=diameter_px,
        verifier=method.model.verifier,
        judge=method.model.judge,
        engine=method.networks,
        scratch=method.scratch,
        progress=progress,
    ).rois
    notes.append(
        f"{int(candidates.accepted.sum())} of {len(candidates)} candidates of this recording alone "
        "are neurons."
    )
    maps = placed.maps
    return placed, _Seen(placed.motion, maps.valid, maps.mean, shift, candidates, notes, warnings)


# --- Do the recordings belong together? --------------------------------------------------------


def _label(recording: Recording) -> str:
    """Name a recording for an error: by its file, where it has one."""
    return recording.paths[0] if recording.paths else recording.name


def require_alike(recordings: Sequence[Recording]) -> None:
    """Refuse recordings that cannot be of one experiment; no frame of them is read.

    Parameters
    ----------
    recordings : sequence of Recording
        Those of an experiment, in order.

    Raises
    ------
    RecordingError
        If there is none, one has fewer than two frames, or one differs from the first in frame
        size, frame rate or pixel size.
    MissingFrameRateError
        If a frame rate is not known.
    """
    if not recordings:
        msg = "An experiment needs at least one recording; none was given."
        raise RecordingError(msg)
    first = recordings[0]
    for recording in recordings:
        rate = recording.rate_hz  # raises where no rate is known
        require_frames(recording)
        if recording.frame_shape != first.frame_shape:
            sizes = [f"{r.frame_shape[0]} x {r.frame_shape[1]}" for r in (recording, first)]
            msg = (
                f"{_label(recording)} has frames of {sizes[0]} pixels (rows x columns), "
                f"{_label(first)} of {sizes[1]}; the recordings of an experiment have frames of "
                "one size. Run it alone."
            )
            raise RecordingError(msg)
        if not _agree(rate, first.rate_hz):
            msg = (
                f"{_label(recording)} has {rate:.6g} frames per second, {_label(first)} "
                f"{first.rate_hz:.6g}; the recordings of an experiment have one rate. Run it "
                "alone, or correct a wrong rate with --frame-rate (frame_rate_hz in Python)."
            )
            raise RecordingError(msg)
        own, size = recording.pixel_size_um, first.pixel_size_um
        if own is not None and size is not None and not _agree(own, size):
            msg = (
                f"{_label(recording)} has pixels of {own:.6g} µm, {_label(first)} of {size:.6g} "
                "µm; the recordings of an experiment have one magnification. Run it alone, or "
                "correct a wrong size with --pixel-size (pixel_size_um in Python)."
            )
            raise RecordingError(msg)


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= _SPREAD * max(one, other)


def _glance_at_fields(
    recordings: Sequence[Recording], method: _Method, progress: ProgressCallback
) -> list[FieldShift]:
    """Look where the field lies in each recording, so that another field is told in time."""
    shifts, n = [_UNMOVED], len(recordings)
    reference = _glance(recordings[0], method) if n > 1 else None
    for recording in recordings[1:]:
        progress(Progress("comparing fields", len(shifts), n))
        mean = _glance(recording, method)
        if reference is None or mean is None:  # no frame to look at: the whole will tell
            shifts.append(FieldShift((0.0, 0.0), 0.0, placed=False))
            continue
        shift = measure_field_shift(mean, reference, diameter_px=method.diameter_px)
        if not shift.placed or shift.correlation < _GLANCE_SHARE * SAME_FIELD:
            raise _other_field(recording, recordings[0], shift)
        shifts.append(shift)
    if n > 1:
        progress(Progress("comparing fields", n, n))
    return shifts


def _glance(recording: Recording, method: _Method) -> FloatArray | None:
    """Mean of frames from all over the recording, in coordinates of its frame 0."""
    setup = set_up(recording, config=method.settings, diameter_px=method.diameter_px)
    state = setup.motion
    n = recording.n_frames
    total, count = np.zeros(recording.frame_shape), 0
    for frame in np.unique(np.linspace(0, n - 1, min(n, _GLANCE_FRAMES)).astype(int)).tolist():
        image = recording.movie.read(frame, frame + 1)
        motion, state = place_frames(image, state)
        if not int(motion.flags[0]) & (FLAG_UNPLACED | FLAG_INVALID):
            total += apply_shifts(image, motion.shifts, interpolation="cubic")[0]
            count += 1
    return (total / count).astype(np.float32) if count else None


def _other_field(recording: Recording, first: Recording, shift: FieldShift) -> RecordingError:
    why = "" if shift.placed else ", and no place stands out"
    return RecordingError(
        f"{_label(recording)} does not show the field of {_label(first)}: their mean pictures, "
        f"laid over each other, correlate by {shift.correlation:.2f} (needed: {SAME_FIELD:g}){why}."
        " Look whether it is the right file, and run it alone."
    )


# --- Common coordinates ------------------------------------------------------------------------


def _place(
    analysis: Analysis, offset_px: tuple[float, float], exclude: BoolArray | None
) -> Analysis:
    """Bring maps and motion of a recording into the coordinates of the first one."""
    if offset_px == (0.0, 0.0):
        return analysis
    maps, motion = analysis.maps, analysis.motion
    offset = np.array([offset_px], np.float32)
    shifts = motion.shifts + offset
    deformation = None if motion.deformation is None else motion.deformation.moved(offset_px)
    valid = valid_pixels(
        maps.mean.shape, shifts, deformation=deformation, flags=motion.flags, exclude=exclude
    )

    def move(image: FloatArray) -> FloatArray:
        return np.asarray(apply_shifts(image[None], offset)[0], np.float32)

    def move_map(image: FloatArray) -> FloatArray:
        return np.asarray(np.where(valid, move(image), 0), np.float32)

    return replace(
        analysis,
        motion=Motion(shifts, motion.confidence, motion.flags, deformation),
        max=move(analysis.max),
        maps=replace(
            maps,
            probability=move_map(maps.probability),
            contrast=move_map(maps.contrast),
            mean=apply_shifts(maps.mean[None], offset, interpolation="cubic")[0],
            noise=move(maps.noise),
            valid=valid,
            soma_contrast=None if maps.soma_contrast is None else move_map(maps.soma_contrast),
            peaks=None if maps.peaks is None else move_map(maps.peaks),
        ),
    )


def _move_mask(mask: BoolArray, offset_px: tuple[float, float]) -> BoolArray:
    """Move a mask from the coordinates of the first recording to those of another."""
    if offset_px == (0.0, 0.0):
        return mask
    back = -np.array([offset_px], np.float32)
    return np.asarray(apply_shifts(mask.astype(np.float32)[None], back)[0] > 0)


class _Pictures:
    """Pictures of the whole experiment, as one recording after the other is added."""

    def __init__(self) -> None:
        self.reference: FloatArray | None = None
        """Mean picture of the first recording."""
        self._n_frames = 0
        self._highest: dict[str, AnyArray] = {}
        self._sums: dict[str, AnyArray] = {}

    def add(self, placed: Analysis) -> None:
        """Take in a recording that lies in common coordinates."""
        maps, n = placed.maps, len(placed.motion.flags)
        highest = placed.max
        if self.reference is None:
            self.reference = maps.mean
        else:  # beyond its view the value at the border was repeated
            highest = np.where(maps.valid, highest, np.float32(-np.inf))
        for name, image in (
            ("probability", maps.probability),
            ("contrast", maps.contrast),
            ("max", highest),
            ("max_raw", placed.max_raw),
            ("valid", maps.valid),
        ):
            before = self._highest.get(name)
            self._highest[name] = image if before is None else np.maximum(before, image)
        for name, image in (
            ("mean_raw", placed.mean_raw),
            ("mean", maps.mean),
            ("mean_in_view", maps.mean * maps.valid),
            ("in_view", maps.valid),
        ):
            self._sums[name] = self._sums.get(name, 0.0) + n * image.astype(np.float64)
        self._n_frames += n

    @property
    def probability(self) -> FloatArray:
        """Largest probability of any recording."""
        return self._highest["probability"]

    @property
    def valid(self) -> BoolArray:
        """Pixels in view at all times of at least one recording."""
        return np.asarray(self._highest["valid"], np.bool_)

    def projections(self) -> dict[str, FloatArray]:
        """Mean and maxima over all frames; the mean over the recordings that show a pixel."""
        sums, n = self._sums, self._n_frames
        mean = np.where(
            sums["in_view"] > 0,
            sums["mean_in_view"] / np.maximum(1, sums["in_view"]),
            sums["mean"] / n,
        )
        return {
            "mean_raw": (sums["mean_raw"] / n).astype(np.float32),
            "max_raw": self._highest["max_raw"],
            "mean": mean.astype(np.float32),
            "max": self._highest["max"],
            "contrast": self._highest["contrast"],
        }


# --- One set of ROIs ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Merged:
    """One set of ROIs of several recordings.

    Attributes
    ----------
    rois : RoiSet
        In the order of the recordings and of the candidates in them.
    found : tuple of tuple of str
        For each recording, the ids of the ROIs that it alone shows to be neurons.
    """

    rois: RoiSet
    found: tuple[tuple[str, ...], ...]


def merge_candidates(
    candidates: Sequence[RoiSet], *, config: VerificationConfig = VerificationConfig()
) -> Merged:
    """Make one set of the candidates of several recordings.

    Candidates that show the same neuron (`find_duplicates`) become one: accepted ones go before
    rejected ones, then the better score gives outline, score and reason.

    Parameters
    ----------
    candidates : sequence of RoiSet
        Of each recording, in common coordinates; at least one.
    config : VerificationConfig
        Overlap from which two show the same neuron.

    Returns
    -------
    Merged
        The ROIs under new ids, and which recording has which. Their SNR is the candidates' own.
    """
    accepted = np.concatenate([rois.accepted for rois in candidates])
    score = np.concatenate([rois.score for rois in candidates])
    reasons = [reason for rois in candidates for reason in rois.reasons]
    pixels = [
        rois.footprints.indices[a:b]
        for rois in candidates
        for a, b in pairwise(rois.footprints.indptr)
    ]
    # Scores lie in [0, 1].
    twins = find_duplicates(pixels, np.nan_to_num(score) + 2 * accepted, config=config)
    kept = np.array([i for i in range(len(pixels)) if i not in twins], np.int32)
    ids = [f"roi_{i + 1:04d}" for i in range(len(kept))]
    place = {int(i): name for i, name in zip(kept, ids, strict=True)}
    owner = [place[twins.get(i, i)] for i in range(len(pixels))]
    starts = np.cumsum([0, *(len(rois) for rois in candidates)]).tolist()
    found = []
    for start, rois in zip(starts, candidates, strict=False):
        now = dict(zip(rois.ids, owner[start : start + len(rois)], strict=True))
        found.append(tuple(sorted({now[rois.ids[i]] for i in np.flatnonzero(rois.accepted)})))
        for i in range(start, start + len(rois)):
            reasons[i] = _rename(reasons[i], now)
    footprints = sparse.vstack([rois.footprints for rois in candidates], format="csr")
    snr = np.concatenate([rois.snr for rois in candidates])
    known = [rois.quality or Quality.unknown(len(rois)) for rois in candidates]
    quality = Quality(
        *(np.concatenate([getattr(one, each.name) for one in known]) for each in fields(Quality))
    )
    return Merged(
        RoiSet(
            sparse.csr_array(footprints[kept]),
            candidates[0].frame_shape,
            tuple(ids),
            accepted[kept],
            tuple(reasons[i] for i in kept),
            score[kept],
            snr[kept],
            quality.rows(kept),
        ),
        tuple(found),
    )


def _rename(reason: str, now: Mapping[str, str]) -> str:
    """Give the ROIs that a reason names their new ids."""
    return re.sub(r"roi_\d+", lambda word: now.get(word[0], word[0]), reason)


def _judge_again(rois: RoiSet, extracted: Sequence[Extracted]) -> RoiSet:
    """Reject what has no event left in any recording, as in a single one."""
    counts = np.sum([one.events.count(len(rois)) for one in extracted], axis=0)
    silent = rois.accepted & (counts == 0)
    reasons = [
        "no event in its trace" if none else reason
        for none, reason in zip(silent, rois.reasons, strict=True)
    ]
    return replace(rois, accepted=rois.accepted & ~silent, reasons=tuple(reasons))


# --- The recordings among the joined frames ----------------------------------------------------


def _name_parts(recordings: Sequence[Recording]) -> tuple[str, ...]:
    """Name each recording so that the names may be folders, and no two are the same."""
    names: list[str] = []
    for recording in recordings:
        stem = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", recording.name).strip(" .") or "recording"
        name, n = stem, 1
        while name.casefold() in {known.casefold() for known in names}:
            n += 1
            name = f"{stem}-{n}"
        names.append(name)
    return tuple(names)


def _make_parts(
    recordings: Sequence[Recording],
    names: Sequence[str],
    seen: Sequence[_Seen],
    found: Sequence[tuple[str, ...]],
) -> tuple[Part, ...]:
    starts = np.cumsum([0, *(recording.n_frames for recording in recordings)]).tolist()
    return tuple(
        Part(
            name=names[i],
            start=starts[i],
            stop=starts[i + 1],
            offset_px=one.shift.offset_px,
            correlation=one.shift.correlation,
            valid=one.valid,
            mean=one.mean,
            found=found[i],
        )
        for i, one in enumerate(seen)
    )


def _join_times(recordings: Sequence[Recording]) -> TimeArray:
    """Times of all frames: a recording begins one frame after the end of the one before."""
    times, start = [], 0.0
    for recording in recordings:
        own = start + recording.times_s
        times.append(own)
        start = float(own[-1]) + 1 / recording.rate_hz
    return np.concatenate(times)


def _report_view(parts: Sequence[Part], rois: RoiSet, warnings: list[str]) -> None:
    for part in parts:
        gone = np.flatnonzero(rois.accepted & ~part.in_view(rois))
        if len(gone):
            ids = ", ".join(rois.ids[i] for i in gone[:_NAMED])
            more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
            warnings.append(
                f"{part.name}: not in view at all times, so zeros stand for their traces: "
                f"{ids}{more}."
            )


def _in_part(index: int, n_parts: int, progress: ProgressCallback) -> ProgressCallback:
    """Say in the progress which recording it is about."""

    def report(told: Progress) -> None:
        progress(replace(told, stage=f"{told.stage} (recording {index + 1} of {n_parts})"))

    return report

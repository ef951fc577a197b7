"""``cocuyo inspect``, ``run``, ``extract`` and ``evaluate``."""

import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cocuyo.cli.common import (
    _default_folder,
    _pipeline_settings,
    _result_options,
    _say,
    _summary,
    cli,
)
from cocuyo.cli.progress import ProgressPrinter
from cocuyo.cli.reading import ReadingOptions, open_from_options, recording_options

if TYPE_CHECKING:
    from pathlib import Path

    from cocuyo.core import BoolArray, FloatArray, Recording, Regions, RoiSet
    from cocuyo.io import RecordingFacts
    from cocuyo.pipeline import PipelineConfig, PresetName
    from cocuyo.segmentation import Precision


@cli.command(
    epilog="""\b
Examples:
  cocuyo inspect slice.tif
  cocuyo inspect session.h5 --dataset images --json
  cocuyo inspect msCam1.avi msCam2.avi msCam10.avi --join
  cocuyo inspect hyperstack.tif --channel 0
  cocuyo inspect cut.tif --frames 0:800
""",
)
@click.argument("recordings", nargs=-1, required=True, metavar="REC...")
@recording_options
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def inspect(recordings: tuple[str, ...], reading: ReadingOptions, as_json: bool) -> None:
    """Say what is in a recording, how it will be read and what is missing.

    REC is a file (TIFF, AVI, MP4, MKV, HDF5, NWB, MATLAB, .npy, ND2, CZI, LIF, ISXD), a Zarr or
    OME-Zarr store, or a folder of frames, of parts or of a UCLA Miniscope.
    """
    import dataclasses
    import json

    from cocuyo.io import inspect_recording

    groups = [list(recordings)] if reading.join else [[path] for path in recordings]
    found = [inspect_recording(paths, **dataclasses.asdict(reading)) for paths in groups]
    if as_json:
        shown = [dataclasses.asdict(facts) for facts in found]
        click.echo(json.dumps(shown[0] if len(shown) == 1 else shown, indent=2, ensure_ascii=False))
        return
    click.echo("\n\n".join(_describe(facts) for facts in found))


def _describe(facts: "RecordingFacts") -> str:
    """Write the facts of a recording as aligned text."""

    def known(value: float | None, unit: str, origin: str) -> str:
        return "not known" if value is None else f"{value:.6g} {unit} ({origin})"

    rows = [
        ("recording", ", ".join(facts.paths)),
        ("format", facts.format),
        ("frames", f"{facts.n_frames}"),
        ("frame size", f"{facts.n_rows} rows x {facts.n_columns} columns"),
        ("values", f"{facts.dtype}, {_range(facts)}"),
        ("on disk", _bytes(facts.bytes_on_disk)),
        ("is read", facts.access),
        ("frame rate", known(facts.frame_rate_hz, "Hz", facts.frame_rate_origin)),
        ("pixel size", known(facts.pixel_size_um, "µm", facts.pixel_size_origin)),
    ]
    if facts.duration_s is not None:
        rows.insert(8, ("duration", f"{facts.duration_s:.6g} s"))
    if facts.diameter_um is not None:
        rows.append(("cell diameter", f"{facts.diameter_um:g} µm (from the command line)"))
    rows.extend(("note", note) for note in facts.notes)
    rows.extend(("missing", what) for what in facts.missing)
    return "\n".join(f"{name:<14}{text}" for name, text in rows)


def _range(facts: "RecordingFacts") -> str:
    sampled = f"in {facts.n_frames_sampled} frames looked at"
    if facts.value_min is None:
        return f"none finite {sampled}"
    text = f"{facts.value_min:.6g} to {facts.value_max:.6g}, mean {facts.value_mean:.6g} {sampled}"
    if facts.share_at_limit > 0:
        text += f"; {facts.share_at_limit:.2%} saturated"
    if facts.share_not_finite > 0:
        text += f"; {facts.share_not_finite:.2%} not finite"
    return text


def _bytes(n_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"


@cli.command(
    epilog="""\b
Examples:
  cocuyo evaluate slice.cocuyo --truth slice_truth.npz
  cocuyo evaluate other_program.npz --truth slice_truth.npz --json
  cocuyo evaluate suite2p/plane0 --truth slice_truth.npz
  cocuyo evaluate slice.cocuyo --truth drawn.png --ignore-mask unsure.png
"""
)
@click.argument("prediction", metavar="PRED")
@click.option("--truth", required=True, metavar="TRUTH", help="What is true; same kinds of files.")
@click.option(
    "--ignore-mask", metavar="MASK", help="Image, not 0 in pixels that are not to be scored."
)
@click.option(
    "--max-distance",
    "max_distance_px",
    type=float,
    default=5.0,
    show_default=True,
    metavar="PX",
    help="Largest distance between the centroids of an ROI and the cell it matches, in pixels.",
)
@click.option(
    "--frame-rate",
    "frame_rate_hz",
    type=float,
    metavar="HZ",
    help="Frames per second, where neither file says it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def evaluate(
    prediction: str,
    truth: str,
    *,
    ignore_mask: str | None,
    max_distance_px: float,
    frame_rate_hz: float | None,
    as_json: bool,
) -> None:
    """Score a result against the truth: pixels, cells, traces, events.

    PRED and TRUTH are each a result folder, an .npz file with footprints, a TIFF or PNG of labels
    or of a mask, an ROI set of ImageJ, or a result of Suite2p (folder of a plane), CaImAn (HDF5) or
    minian. What a file does not contain is not scored, and the output says so.
    """
    import json

    from cocuyo.core import check_frame_rate
    from cocuyo.evaluation import evaluate as score
    from cocuyo.io import read_mask

    if frame_rate_hz is not None:
        check_frame_rate(frame_rate_hz, "--frame-rate says")
    predicted, true = _read_regions_to_compare(prediction, truth, frame_rate_hz)
    scores = score(
        predicted,
        true,
        max_distance_px=max_distance_px,
        ignore_pixels=None if ignore_mask is None else read_mask(ignore_mask),
    )
    if as_json:
        click.echo(json.dumps(scores.to_dict(), indent=2, allow_nan=False))
    else:
        click.echo(scores.to_text())


def _read_regions_to_compare(
    prediction: str, truth: str, frame_rate_hz: float | None
) -> "tuple[Regions, Regions]":
    """Read both sides of a comparison; each fills in what only the other one knows."""
    from dataclasses import replace
    from pathlib import Path

    from cocuyo.io import load_ground_truth

    def is_roi_set(path: str) -> bool:
        return Path(path).suffix.lower() in (".zip", ".roi")

    # An ROI set does not say how large the frame is; the other file does.
    if is_roi_set(prediction):
        true = load_ground_truth(truth)
        predicted = load_ground_truth(prediction, frame_shape=true.frame_shape)
    else:
        predicted = load_ground_truth(prediction)
        shape = predicted.frame_shape if is_roi_set(truth) else None
        true = load_ground_truth(truth, frame_shape=shape)
    rate_hz = predicted.frame_rate_hz or true.frame_rate_hz or frame_rate_hz
    return (
        replace(predicted, frame_rate_hz=predicted.frame_rate_hz or rate_hz, name=prediction),
        replace(true, frame_rate_hz=true.frame_rate_hz or rate_hz, name=truth),
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """What makes a result folder of one recording or more: where to, how, and of what."""

    folder: "Path"
    settings: "PipelineConfig"
    recordings: "tuple[Recording, ...]"
    exclude: "BoolArray | None"
    reading: ReadingOptions


def _prepare(
    paths: tuple[str, ...],
    *,
    experiment: bool,
    reading: ReadingOptions,
    exclude: str | None,
    out: str | None,
    preset: str,
    model: str | None,
    config_file: str | None,
    overwrite: bool,
    also_read: tuple[str, ...] = (),
) -> _Job:
    """Refuse what cannot be done before anything is read, then open the recordings."""
    from pathlib import Path

    from cocuyo.io import check_destination, read_exclusion

    several = len(paths) > 1 and not reading.join
    if several and not experiment:
        msg = (
            f"{len(paths)} recordings were given. If they are parts of one recording, add "
            "--join; otherwise give them one by one."
        )
        raise click.UsageError(msg)
    if several:
        _check_experiment(paths, reading)
    read = [path for path in (*paths, *also_read, exclude, reading.timestamps) if path]
    read += [path for path in (config_file, model) if path]
    place = _default_folder(paths[0], ending=".experiment.cocuyo" if several else ".cocuyo")
    folder = check_destination(Path(out) if out is not None else place, overwrite, inputs=read)
    settings = _pipeline_settings(model, preset, config_file)
    each = [(path,) for path in paths] if several else [paths]
    recordings = tuple(open_from_options(one, reading) for one in each)
    left_out = None if exclude is None else read_exclusion(exclude, recordings[0].frame_shape)
    return _Job(folder, settings, recordings, left_out, reading)


def _check_experiment(paths: tuple[str, ...], reading: ReadingOptions) -> None:
    """Refuse several recordings that cannot be meant as an experiment."""
    from pathlib import Path

    from cocuyo.core import RecordingError

    if reading.timestamps is not None:
        msg = (
            "--timestamps holds the times of one recording, and several were given; add --join if "
            "they are the parts of one, or leave it out."
        )
        raise click.UsageError(msg)
    for i, path in enumerate(paths):
        if Path(path).resolve() in {Path(other).resolve() for other in paths[:i]}:
            msg = f"{path} was given twice; give each recording of an experiment once."
            raise RecordingError(msg)


@cli.command(
    epilog="""\b
Examples:
  cocuyo run slice.tif
  cocuyo run slice.tif --frame-rate 6.67 --pixel-size 1.46 --out results/slice
  cocuyo run msCam1.avi msCam2.avi --join --frame-rate 20
  cocuyo run session.h5 --dataset images --frames 0:3000 --preset paper
  cocuyo run before.tif drug.tif washout.tif --out experiment
""",
)
@click.argument("recordings", nargs=-1, required=True, metavar="REC...")
@recording_options
@_result_options
@click.option(
    "--precision",
    type=click.Choice(["auto", "int8", "bf16", "f32"]),
    default="auto",
    show_default=True,
    help="Number format of the networks; auto: the fastest that model and processor can do.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed, kept in run.json.")
def run(
    recordings: tuple[str, ...],
    *,
    preset: "PresetName",
    model: str | None,
    precision: "Precision",
    seed: int,
    overwrite: bool,
    **options: Any,
) -> None:
    """Find the functional neurons of a recording: mask, ROIs, traces, raster, report.

    Several recordings are one experiment of one field of view: one set of ROIs for all of them, in
    the coordinates of the first, and traces, events and raster of each. With --join they are the
    parts of one recording.
    """
    from cocuyo.io import inputs_of, work_folder
    from cocuyo.pipeline import segment, segment_experiment, with_inputs

    job = _prepare(
        recordings, experiment=True, preset=preset, model=model, overwrite=overwrite, **options
    )
    with work_folder(job.folder, overwrite=overwrite) as work:
        _say_expected(job)
        with ProgressPrinter() as progress:
            how: dict[str, Any] = {
                "preset": preset,
                "model": model,
                "config": job.settings,
                "exclude": job.exclude,
                "precision": precision,
                "seed": seed,
                "work": work,
                "progress": progress,
            }
            result = (
                segment(job.recordings[0], **how)
                if len(job.recordings) == 1
                else segment_experiment(job.recordings, **how)
            )
        inputs = inputs_of(result, job.recordings)
        result = with_inputs(result, inputs, reading=job.reading.choices)
        saved = result.save(job.folder, overwrite=overwrite)
    click.echo(_summary(result, saved))


def _say_expected(job: _Job) -> None:
    """Say on stderr what the run will take, and warn where this machine has less memory."""
    from cocuyo.core.machine import available_memory_mb, count_cores
    from cocuyo.pipeline import expect

    expected = [expect(recording, job.settings) for recording in job.recordings]
    memory_mb = max(one.memory_mb for one in expected)
    seconds = sum(one.wall_s(count_cores()) for one in expected)
    n_frames = sum(recording.n_frames for recording in job.recordings)
    rows, columns = job.recordings[0].frame_shape
    several = f" in {len(expected)} recordings" if len(expected) > 1 else ""
    print(
        f"{n_frames} frames of {rows} x {columns}{several}: about {_rough_duration(seconds)} and "
        f"{memory_mb / 1000:.1f} GB",
        file=sys.stderr,
        flush=True,
    )
    free_mb = available_memory_mb()
    if free_mb < memory_mb:
        _say(
            "warning",
            f"Only {free_mb / 1000:.1f} GB of memory are free, and the run may need "
            f"{memory_mb / 1000:.1f} GB; close other programs if it becomes slow or is "
            "ended by the system.",
        )


def _rough_duration(seconds: float) -> str:
    """Write a time that is known roughly: 20 s, 3 min, 2 h."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{round(seconds / 3600)} h"


@cli.command(
    epilog="""\b
Examples:
  cocuyo extract slice.tif --rois RoiSet.zip
  cocuyo extract after.tif --rois before.cocuyo --align
  cocuyo extract slice.tif --rois labels.tif --frame-rate 6.67 --out results/drawn
""",
)
@click.argument("recordings", nargs=-1, required=True, metavar="REC...")
@click.option(
    "--rois",
    "source",
    required=True,
    metavar="RESULT|FILE",
    help="Result folder (of cocuyo, Suite2p, minian), picture of labels, ImageJ ROI set, .npz or "
    "HDF5 of CaImAn.",
)
@click.option("--all", "include_rejected", is_flag=True, help="Take rejected ROIs of RESULT too.")
@click.option(
    "--align", is_flag=True, help="Move the ROIs of RESULT to where the field lies in REC."
)
@recording_options
@_result_options
def extract(
    recordings: tuple[str, ...],
    *,
    source: str,
    include_rejected: bool,
    align: bool,
    preset: "PresetName",
    model: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Extract traces, events and raster of given ROIs; nothing is looked for or judged.

    The ROIs come from an earlier result (of a recording before a drug, say), from ImageJ, or from a
    picture of labels. They lie in the coordinates of the first frame.
    """
    from pathlib import Path

    from cocuyo.io import file_identity, is_result, rois_identity, work_folder
    from cocuyo.pipeline import extract as extract_given
    from cocuyo.pipeline import with_inputs

    ours = is_result(Path(source))
    if align and not ours and Path(source).exists():
        msg = f"--align needs a result folder for --rois; {source} holds no picture of the field."
        raise click.UsageError(msg)
    job = _prepare(
        recordings,
        experiment=False,
        preset=preset,
        model=model,
        overwrite=overwrite,
        also_read=(source,),
        **options,
    )
    rois, reference, recording = _read_given(source, job.recordings[0])
    given = rois_identity(source)
    with work_folder(job.folder, overwrite=overwrite) as work:
        with ProgressPrinter() as progress:
            result = extract_given(
                recording,
                rois,
                preset=preset,
                model=model,
                config=job.settings,
                exclude=job.exclude,
                include_rejected=include_rejected,
                reference=reference,
                align=align,
                work=work,
                progress=progress,
            )
        inputs = (*file_identity(recording.paths), given)
        result = with_inputs(result, inputs, reading=job.reading.choices)
        saved = result.save(job.folder, overwrite=overwrite)
    click.echo(_summary(result, saved))


def _read_given(
    source: str, recording: "Recording"
) -> "tuple[RoiSet, FloatArray | None, Recording]":
    """Read given ROIs, the mean picture in which they lie, and what they say of the recording."""
    from dataclasses import replace
    from pathlib import Path

    from cocuyo.io import load_result, read_rois
    from cocuyo.io.results import is_result

    if not is_result(Path(source)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            rois = read_rois(source, frame_shape=recording.frame_shape)
        notes = (*recording.notes, *(str(warning.message) for warning in told))
        return rois, None, replace(recording, notes=notes)
    before = load_result(source)
    if recording.diameter_um is None:  # one diameter for both recordings, so equal surrounds
        notes = (*recording.notes, "The soma diameter is that of the result that gave the ROIs.")
        recording = replace(recording, diameter_px=before.diameter_px, notes=notes)
    return before.rois, before.projections.get("mean"), recording

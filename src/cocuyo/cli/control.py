"""``cocuyo null`` and ``cocuyo ensembles``: what a result is beside chance."""

from typing import TYPE_CHECKING, Any

import click

from cocuyo import __version__
from cocuyo.cli.common import (
    _NULLS,
    _PRESETS,
    _beside,
    _counted,
    _pipeline_settings,
    _problems,
    cli,
)
from cocuyo.cli.progress import ProgressPrinter
from cocuyo.cli.reading import ReadingOptions, open_from_options, recording_options

if TYPE_CHECKING:
    from pathlib import Path

    from cocuyo.pipeline import NullControl, NullKind, PresetName
    from cocuyo.population import EnsembleConfig


@cli.command(
    name="null",
    epilog="""\b
Examples:
  cocuyo null slice.tif --frame-rate 6.67
  cocuyo null slice.tif --surrogate phase --surrogate shift --repeats 5 --out null.csv
  cocuyo null slice.tif --preset paper --json
""",
)
@click.argument("recordings", nargs=-1, required=True, metavar="REC...")
@recording_options
@click.option(
    "--surrogate",
    "kinds",
    multiple=True,
    type=click.Choice(_NULLS),
    help="phase: random phases in each pixel; shift: each pixel moved in time; frames: frames in "
    "random order. All three if not given; may be given several times.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Surrogates of each kind.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the first surrogate of each kind; the next ones follow.",
)
@click.option(
    "--exclude",
    metavar="MASK",
    help="Image, not 0 where nothing is to be found (a pipette, the slice's edge).",
)
@click.option(
    "--preset", type=click.Choice(_PRESETS), default="default", show_default=True, help="Method."
)
@click.option("--model", metavar="NAME|DIR", help="Another trained model, with its settings.")
@click.option("--config", "config_file", metavar="FILE", help="TOML file with settings to change.")
@click.option(
    "--work",
    metavar="DIR",
    help="Existing folder for the surrogates, each as large as the recording; they are deleted.",
)
@click.option("--out", metavar="FILE", help="Write the figures to a new .json or .csv file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def null(
    recordings: tuple[str, ...],
    *,
    reading: ReadingOptions,
    kinds: "tuple[NullKind, ...]",
    repeats: int,
    seed: int,
    exclude: str | None,
    preset: "PresetName",
    model: str | None,
    config_file: str | None,
    work: str | None,
    out: str | None,
    as_json: bool,
) -> None:
    """Count the neurons found in surrogates of a recording: how many would be found in noise.

    The recording is analysed, then surrogates of it are: movies with its mean picture and its
    noise, in which time courses were changed. Those of kind phase and shift hold no neuron; any
    that is found in them is false. Several files are the parts of one recording (--join).
    """
    import json
    from pathlib import Path

    from cocuyo.core import ResultError
    from cocuyo.io import read_exclusion
    from cocuyo.pipeline import NULLS, null_control

    if len(recordings) > 1 and not reading.join:
        msg = f"{len(recordings)} recordings were given; give one, or the parts of one with --join."
        raise click.UsageError(msg)
    if work is not None and not Path(work).is_dir():
        msg = f"{work} is not a folder; make it first, or leave --work out."
        raise ResultError(msg)
    if out is not None:
        _check_new_table(Path(out))
    settings = _pipeline_settings(model, preset, config_file)
    recording = open_from_options(recordings, reading)
    with ProgressPrinter() as progress:
        control = null_control(
            recording,
            kinds=kinds or NULLS,
            repeats=repeats,
            seed=seed,
            exclude=None if exclude is None else read_exclusion(exclude, recording.frame_shape),
            work=None if work is None else Path(work),
            progress=progress,
            preset=preset,
            model=model,
            config=settings,
        )
    record = control.record()
    if out is not None:
        _write_null(control, Path(out))
    click.echo(json.dumps(record, indent=2) if as_json else _null_summary(control))


def _check_new_table(path: "Path") -> None:
    from cocuyo.core import ResultError

    if path.suffix.lower() not in (".json", ".csv"):
        msg = f"{path} ends in neither .json nor .csv, which say how it is to be written."
        raise ResultError(msg)
    if path.exists() or not path.parent.is_dir():
        why = "exists" if path.exists() else "lies in a folder that does not exist"
        msg = f"{path} {why}; name another file."
        raise ResultError(msg)


def _write_null(control: "NullControl", path: "Path") -> None:
    import csv

    from cocuyo.io.atomic import write_atomically, write_json

    record = control.record()
    if path.suffix.lower() == ".json":
        write_json(path, record)
        return
    rows = [{"kind": "recording", "seed": record["seed"], **record["recording"]}]
    rows += record["surrogates"]
    with (
        write_atomically(path) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _null_summary(control: "NullControl") -> str:
    """A table of what was found, and what it means."""
    record = control.record()
    own = record["recording"]
    lines = [f"{'':<24}{'neurons':>9}{'events':>9}{'candidates':>12}"]
    rows = [("the recording", own)]
    lost = {"phase": "phases random", "shift": "pixels shifted", "frames": "frames shuffled"}
    many = max((one.seed for one in control.surrogates), default=0) > control.result.info.seed
    for one in record["surrogates"]:
        rows.append((lost[one["kind"]] + (f", seed {one['seed']}" if many else ""), one))
    lines += [
        f"{name:<24}{row['n_accepted']:>9}{row['n_events']:>9}{row['n_candidates']:>12}"
        for name, row in rows
    ]
    if not control.surrogates:
        lines.append("No surrogate: fewer than two frames can be used.")
    empty = [one.n_accepted for one in control.surrogates if one.kind != "frames"]
    if empty:
        lines.append(
            f"{_counted(sum(empty), 'false neuron')} in "
            f"{_counted(len(empty), 'surrogate')} that hold none."
        )
    if any(one.kind == "frames" for one in control.surrogates):
        lines.append(
            "With shuffled frames neurons still flash, a frame at a time: what is found there "
            "needs no course of time."
        )
    rate = record["false_events"].get("at_rest_per_min")
    if rate is not None:
        minutes = control.result.n_frames / control.result.frame_rate_hz / 60
        real = own["n_events"] / own["n_accepted"] / minutes
        lines.append(
            f"Events: {real:.2f} per minute and neuron; false ones, in phase-randomised traces at "
            f"rest: {rate:.2f}."
        )
    return "\n".join(lines)


@cli.command(
    epilog="""\b
Examples:
  cocuyo ensembles slice.cocuyo
  cocuyo ensembles slice.cocuyo --stimuli light.csv --after 3
  cocuyo ensembles slice.cocuyo --threshold maximum --shuffles 10000 --out strict
""",
)
@click.argument("source", metavar="RESULT")
@click.option(
    "--out", metavar="DIR", help="Folder to make; <stem>.ensembles beside RESULT by default."
)
@click.option(
    "--stimuli",
    "stimuli_file",
    metavar="CSV",
    help="Times of stimuli in seconds, one a row; a name in the second column if wished.",
)
@click.option(
    "--before",
    "before_s",
    type=float,
    metavar="S",
    help="Window before a stimulus, in seconds; 2 by default.",
)
@click.option(
    "--after",
    "after_s",
    type=float,
    metavar="S",
    help="Window after a stimulus, in seconds; 5 by default.",
)
@click.option(
    "--bin", "bin_s", type=float, metavar="S", help="Time bin in seconds; one frame by default."
)
@click.option(
    "--threshold",
    type=click.Choice(["pooled", "maximum"]),
    help="Compare coactivity with all bins of shuffled rasters (default) or with the largest of "
    "each, which is stricter.",
)
@click.option(
    "--shuffles",
    "n_shuffles",
    type=int,
    metavar="N",
    help="Number of shuffled rasters; 1000 by default.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of them.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier ensemble analysis.")
def ensembles(
    source: str,
    *,
    out: str | None,
    stimuli_file: str | None,
    seed: int,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Find what the neurons of a result do together: synchrony, ensembles, responses.

    RESULT is a result folder; it is not changed. Tables and the page ensembles.html are written to
    a folder of their own.
    """
    from pathlib import Path

    import numpy as np

    from cocuyo.core import SettingsError
    from cocuyo.io import (
        TraceStore,
        file_identity,
        load_result,
        read_edits,
        read_stimuli,
        reopen_recording,
        save_ensembles,
    )
    from cocuyo.io.ensembles import check_ensembles
    from cocuyo.pipeline import curated_result
    from cocuyo.population import analyse_population
    from cocuyo.report import render_ensembles

    if seed < 0:
        msg = f"--seed is {seed}; it must be 0 or more."
        raise SettingsError(msg)
    config = _ensemble_settings({k: v for k, v in settings.items() if v is not None})
    read = [source, *([stimuli_file] if stimuli_file else [])]
    folder = check_ensembles(
        out if out is not None else _beside(source, ".ensembles"), overwrite, inputs=read
    )
    as_found = load_result(source)
    times, labels = read_stimuli(stimuli_file) if stimuli_file else (None, None)
    with ProgressPrinter() as progress:
        # What was decided on the curation page counts, as in exports.
        result = curated_result(
            as_found,
            read_edits(source),
            recording=lambda: reopen_recording(as_found, source),
            cache=TraceStore(source),
            progress=progress,
        )
        accepted = np.flatnonzero(result.rois.accepted)
        found = analyse_population(
            np.asarray(result.raster[:, :], np.bool_)[accepted],
            result.times_s,
            frame_rate_hz=result.frame_rate_hz,
            delta_f_over_f=(
                np.asarray(result.traces.delta_f_over_f[:, :], np.float32)[accepted]
                if stimuli_file
                else None
            ),
            stimuli_s=times,
            stimulus_labels=labels,
            config=config,
            seed=seed,
            progress=progress,
        )
    (identity,) = file_identity(Path(source) / "result.h5")
    inputs = [{**identity, "role": "result"}]
    if stimuli_file:
        inputs.append({**file_identity(stimuli_file)[0], "role": "stimuli"})
    record = {"name": result.name, "versions": _analysis_versions(), "inputs": inputs}
    save_ensembles(
        found,
        folder,
        ids=[result.rois.ids[i] for i in accepted],
        record=record,
        page=render_ensembles(result, found, record=record),
        overwrite=overwrite,
        inputs=read,
    )
    n_found, n_peaks = len(found.ensembles), len(found.peaks)
    click.echo(
        f"{_counted(n_found, 'ensemble')} of {_counted(found.n_neurons, 'neuron')}, "
        f"{_counted(n_peaks, 'peak')} of synchrony, "
        f"{_counted(found.correlations.n_significant, 'significant pair')}."
    )
    if found.ensembles.reason:
        click.echo(f"No ensemble: {found.ensembles.reason}")
    for each in found.stimuli:
        named = f" {each.label}" if each.label else ""
        click.echo(
            f"Stimulus{named}: {int(each.responders.sum())} of "
            f"{_counted(found.n_neurons, 'neuron')} respond."
        )
    for note in found.notes:
        click.echo(f"Note: {note}")
    click.echo(f"Page: {folder / 'ensembles.html'}")


def _ensemble_settings(given: dict[str, Any]) -> "EnsembleConfig":
    from pydantic import ValidationError

    from cocuyo.core import SettingsError
    from cocuyo.population import EnsembleConfig

    try:
        return EnsembleConfig.model_validate(given)
    except ValidationError as error:
        msg = f"These settings cannot be used: {_problems(error)}."
        raise SettingsError(msg) from None


def _analysis_versions() -> dict[str, str]:
    """Versions of what shapes the numbers of an analysis."""
    import numpy as np
    import scipy

    return {"cocuyo": __version__, "numpy": np.__version__, "scipy": scipy.__version__}

"""``cocuyo view``, ``export`` and ``demo``."""

import math
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from cocuyo.cli.analyse import evaluate, extract, run
from cocuyo.cli.common import (
    _PRESETS,
    _beside,
    _counted,
    _default_folder,
    _pipeline_settings,
    _say,
    _typed,
    cli,
)
from cocuyo.cli.progress import ProgressPrinter
from cocuyo.cli.reading import ReadingOptions, open_from_options, recording_options
from cocuyo.cli.simulate import simulate

if TYPE_CHECKING:
    from pathlib import Path

    from cocuyo.core import Result
    from cocuyo.io import ExportOptions, NwbMetadata
    from cocuyo.io.export import ExportName
    from cocuyo.pipeline import PresetName


@cli.command(
    epilog="""\b
Examples:
  cocuyo export slice.cocuyo --to imagej                     slice_rois.zip for Fiji
  cocuyo export slice.cocuyo --to mat --out slice.mat        Raster, N x T, logical
  cocuyo export slice.cocuyo --to nwb --session-start 2026-05-02T14:03:00+02:00
  cocuyo export slice.cocuyo --to suite2p --recording moved/slice.tif
  cocuyo export slice.cocuyo --to denoised                   slice_denoised.csv
""",
)
@click.argument("source", metavar="RESULT")
@click.option(
    "--to",
    required=True,
    type=click.Choice(
        [
            *["nwb", "suite2p", "imagej", "caiman", "mat", "csv", "geojson", "labels", "result"],
            *["zscore", "denoised", "deconvolved"],
        ]
    ),
    help="Format; result is a result folder of cocuyo with the edits done; zscore, denoised and "
    "deconvolved are traces in the layout of traces.csv.",
)
@click.option(
    "--out", metavar="PATH", help="File or folder to make; beside RESULT, after its name, if not."
)
@click.option("--as-found", is_flag=True, help="Leave out what was edited on the curation page.")
@click.option(
    "--recording",
    "recording_path",
    metavar="REC",
    help="Where the recording lies now: shapes drawn by hand need it, NWB refers to it.",
)
@click.option(
    "--session-start",
    metavar="TIME",
    help="NWB: start of the recording with its time zone, such as 2026-05-02T14:03:00+02:00.",
)
@click.option(
    "--metadata", "metadata_file", metavar="FILE.toml", help="NWB: what is known of the session."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
def export(
    source: str,
    *,
    to: 'ExportName | Literal["result"]',
    out: str | None,
    as_found: bool,
    recording_path: str | None,
    session_start: str | None,
    metadata_file: str | None,
    overwrite: bool,
) -> None:
    """Write a result, with its edits, for another program.

    RESULT is a result folder; it is not changed. Every format holds what was decided on the
    curation page. What a format holds and leaves out is said in the documentation, under How to
    export.
    """
    from cocuyo.io import (
        DiskScratch,
        ExportOptions,
        TraceStore,
        check_destination,
        check_export,
        export_path,
        export_result,
        load_result,
        open_result,
        read_edits,
        read_metadata,
        reopen_recording,
        save_result,
    )
    from cocuyo.pipeline import curated_result, derived_traces
    from cocuyo.postprocessing import require_oasis
    from cocuyo.report import render_report

    if to != "nwb" and (session_start or metadata_file):
        msg = "--session-start and --metadata belong to --to nwb."
        raise click.UsageError(msg)
    if to == "deconvolved":
        require_oasis()
    # Derived traces take a few ROIs at a time, so that a long recording needs no more memory.
    derived = to in ("zscore", "denoised", "deconvolved")
    found = open_result(source) if derived else load_result(source)
    edits = () if as_found else read_edits(source)
    if derived and edits:
        found = load_result(source)
    read = [path for path in (source, recording_path, metadata_file) if path]
    if to == "result":
        place = check_destination(
            out if out is not None else _beside(source, ".curated.cocuyo"), overwrite, inputs=read
        )
    else:
        place = check_export(
            out if out is not None else export_path(source, to),
            to,
            overwrite=overwrite,
            inputs=read,
        )
    metadata = read_metadata(metadata_file, session_start=session_start) if to == "nwb" else None
    with ProgressPrinter() as progress:
        result = curated_result(
            found,
            edits,
            recording=lambda: reopen_recording(found, source, recording=recording_path),
            cache=TraceStore(source),
            progress=progress,
        )
    for text in result.info.warnings[len(found.info.warnings) :]:
        _say("warning", text)
    if to == "result":
        saved = save_result(result, place, overwrite=overwrite, report_html=render_report)
    else:
        if to in ("zscore", "denoised", "deconvolved"):
            place.parent.mkdir(parents=True, exist_ok=True)
            with ProgressPrinter() as progress:
                options = ExportOptions(
                    derived=derived_traces(
                        result, to, scratch=DiskScratch(place.parent), progress=progress
                    )
                )
        else:
            options = _export_options(found, source, recording_path, metadata)
        saved = export_result(result, place, to=to, overwrite=overwrite, options=options)
    n_accepted = int(result.rois.accepted.sum())
    state = "as found" if result is found else "curated"
    click.echo(
        f"{saved}: {_counted(n_accepted, 'neuron')}, "
        f"{_counted(len(result.rois) - n_accepted, 'rejected candidate')} ({state})."
    )


def _export_options(
    result: "Result", source: str, recording: str | None, metadata: "NwbMetadata | None"
) -> "ExportOptions":
    """What NWB needs besides the result; it does without the recording where that is gone."""
    from cocuyo.core import RecordingError
    from cocuyo.io import ExportOptions, refer_to_recording

    if metadata is None:
        return ExportOptions()
    try:
        movie = refer_to_recording(result, source, recording=recording)
    except RecordingError as error:
        if recording is not None:
            raise
        _say("warning", f"{error} The file does not refer to it; say where it lies: --recording.")
        movie = None
    return ExportOptions(metadata=metadata, movie=movie)


@cli.command(
    epilog="""\b
Examples:
  cocuyo view slice.cocuyo                       look at a result and correct it
  cocuyo view                                    choose a recording in this folder, run it
  cocuyo view /data/monday                       the same for another folder
  cocuyo view slice.cocuyo --recording /disk2/slice.tif
  cocuyo view suite2p/plane0 --recording slice.tif
""",
)
@click.argument("path", metavar="[RESULT|FOLDER|ROIS]", default=".")
@click.option(
    "--recording",
    "recording_path",
    metavar="REC",
    help="The recording in which ROIS lie; or where that of RESULT lies now, if it was moved.",
)
@click.option(
    "--out", metavar="DIR", help="With ROIS: result folder; <stem>.cocuyo beside REC by default."
)
@recording_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Port; a free one by default.",
)
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
def view(
    path: str,
    *,
    recording_path: str | None,
    out: str | None,
    reading: ReadingOptions,
    port: int,
    no_browser: bool,
) -> None:
    """Show a result in the browser and correct it, or choose a recording to analyse.

    ROIS of another program (Suite2p, CaImAn, minian, an ImageJ ROI set, a picture of labels) need
    their recording: what cocuyo extract makes of both is shown.

    The page is served to this computer only, at an address with a secret token, until Ctrl-C.
    Edits are kept in edits.jsonl in RESULT as they are made; its other files do not change.
    """
    import webbrowser
    from pathlib import Path

    from cocuyo.core import CocuyoError
    from cocuyo.io import is_result, reopen_recording
    from cocuyo.server import App, Server

    folder = Path(path)
    if not folder.exists():
        msg = f"{path} does not exist; give a result folder, or the folder that holds recordings."
        raise CocuyoError(msg)
    if _needs_extraction(folder, recording_path):
        folder = _extract_or_find(path, recording_path, out, reading)
    elif out is not None or reading != ReadingOptions():
        msg = f"--out and reading options belong to ROIs of another program, and {path} is none."
        raise click.UsageError(msg)
    if is_result(folder):
        app = App(
            folder,
            result=folder,
            recording=lambda result: reopen_recording(result, folder, recording=recording_path),
        )
    elif recording_path is not None:
        msg = f"--recording belongs to a result or to ROIs, and {path} is neither."
        raise click.UsageError(msg)
    else:
        app = App(folder)
    try:
        server = Server(app, port=port)
    except OSError as error:
        msg = f"Port {port} cannot be used ({error.strerror}); leave --port out to get a free one."
        raise CocuyoError(msg) from error
    with server:
        click.echo(f"cocuyo is at {server.url}\nStop it with Ctrl-C.")
        sys.stdout.flush()
        if not no_browser:
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        server.serve_forever()


def _needs_extraction(path: "Path", recording: str | None) -> bool:
    """Whether ROIs of another program are to be shown: they have no movie, motion and pictures."""
    from cocuyo.io import is_foreign

    if recording is None and (path / "suite2p").is_dir():
        return False  # Suite2p saves beside the recordings, and one of these is to be chosen
    return is_foreign(path)


def _extract_or_find(
    source: str, recording: str | None, out: str | None, reading: ReadingOptions
) -> "Path":
    """Give the result folder of foreign ROIs: the one made before, or else a new one."""
    from dataclasses import asdict
    from pathlib import Path

    from cocuyo.core import CocuyoError
    from cocuyo.io import is_result, open_result

    if recording is None:
        if Path(source).is_file():
            msg = (
                f"{source} is a file. A recording is analysed first: cocuyo run "
                f"{_typed(Path(source))}, or "
                "cocuyo view, and choose it there. Of a file of ROIs, name the "
                "recording in which its ROIs lie: --recording REC."
            )
        else:
            msg = (
                f"{source} is a result of another program; name the recording in which its ROIs "
                "lie: --recording REC."
            )
        raise CocuyoError(msg)
    folder = Path(out) if out is not None else _default_folder(recording)
    if not is_result(folder):
        choices = asdict(reading)
        call = click.get_current_context().invoke
        call(extract, recordings=(recording,), source=source, out=str(folder), **choices)
    elif _is_extracted(open_result(folder), source, recording, reading):
        click.echo(f"{folder} was made of these ROIs and this recording; it is opened again.")
    else:
        msg = (
            f"{folder} exists and was not made of {source} and {recording}, read in this way; "
            f"choose another folder with --out. (cocuyo view {folder} shows it.)"
        )
        raise CocuyoError(msg)
    return folder


def _is_extracted(result: "Result", source: str, recording: str, reading: ReadingOptions) -> bool:
    """Whether a result is what `extract` made of these ROIs and this recording, by content."""
    import numpy as np

    from cocuyo.io import file_identity, rois_identity

    def content(inputs: "Sequence[dict[str, Any]]") -> list[tuple[Any, Any]]:
        return [(entry.get("role"), entry.get("sha256")) for entry in inputs]

    opened = open_from_options([recording], reading)
    timed = opened.frame_rate_hz is not None or opened.timestamps_s is not None
    choices = {name: value for name, value in reading.choices.items() if value is not None}
    if "frames" in choices:
        choices["frames"] = list(choices["frames"])  # as JSON gives it back
    size, diameter = result.pixel_size_um, reading.diameter_um
    if (
        result.info.task != "extract"
        or result.info.reading != choices
        or (result.n_frames, result.rois.frame_shape) != (opened.n_frames, opened.frame_shape)
        or (timed and not np.array_equal(result.times_s, opened.times_s))
        or opened.pixel_size_um not in (None, size)
        or (diameter and size and not math.isclose(result.diameter_px * size, diameter))
    ):
        return False
    inputs = (*file_identity(opened.paths), rois_identity(source))
    return content(result.info.inputs) == content(inputs)


@cli.command(
    epilog="""\b
Examples:
  cocuyo demo
  cocuyo demo --out tour --preset paper
""",
)
@click.option("--out", default="cocuyo-demo", show_default=True, metavar="DIR", help="Folder.")
@click.option(
    "--preset",
    type=click.Choice(_PRESETS),
    default="default",
    show_default=True,
    help="Which method to show.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo.")
@click.pass_context
def demo(context: click.Context, *, out: str, preset: "PresetName", overwrite: bool) -> None:
    """Simulate a recording, find its neurons, and compare them with the truth."""
    from pathlib import Path

    from cocuyo.io import check_destination

    folder = Path(out)
    check_destination(folder / "result", overwrite)
    _pipeline_settings(None, preset, None)  # before the simulation, not after it
    movie = folder / "recording.tif"
    context.invoke(
        simulate,
        out=out,
        preset="demo",
        split=None,
        seed=1,
        n_frames=None,
        shape=None,
        config_file=None,
        overwrite=overwrite,
    )
    context.invoke(
        run,
        recordings=(str(movie),),
        out=str(folder / "result"),
        preset=preset,
        model=None,
        config_file=None,
        seed=0,
        overwrite=overwrite,
    )
    click.echo("\nCompared with the truth of the simulation:")
    context.invoke(
        evaluate,
        prediction=str(folder / "result"),
        truth=str(folder / "truth.npz"),
    )
    click.echo(f"\nOpen {folder / 'result' / 'report.html'} in a browser.")
    click.echo(f"To correct the result there too: cocuyo view {_typed(folder / 'result')}")

"""The command line: ``cocuyo COMMAND``.

A command is a function with `click` decorators that imports what it needs inside, so that
``cocuyo --help`` is quick. It raises `CocuyoError` for what a user can mend; `main` turns that
into one line on stderr and an exit status: 0 success, 1 unusable input or failure, 2 wrong usage,
130 Ctrl-C, 143 a request to end (SIGTERM).
"""

import functools
import io
import math
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TextIO

import click

from cocuyo import __version__

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from pydantic import ValidationError

    from cocuyo.batch import BatchCounts, Method, Planned, Reading, Slurm, Workplace
    from cocuyo.cli_live import LiveRequest
    from cocuyo.core import BoolArray, FloatArray, Progress, Recording, Regions, Result, RoiSet
    from cocuyo.io import ExportOptions, NwbMetadata, RecordingFacts
    from cocuyo.io.export import ExportName
    from cocuyo.laboratory import SizeName
    from cocuyo.pipeline import NullControl, NullKind, PipelineConfig, PresetName
    from cocuyo.population import EnsembleConfig
    from cocuyo.segmentation import Precision
    from cocuyo.simulation import SimulationConfig, Split

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

# ---------------------------------------------------------------------------------------------
# Errors and exit status
# ---------------------------------------------------------------------------------------------


@contextmanager
def _signals_end_cleanly() -> Iterator[list[int]]:
    """Turn Ctrl-C and SIGTERM into exceptions, and give the list of the signals that came.

    A library may turn the exception into another one, as what is interrupted while it is imported
    becomes an `ImportError`; the list tells that the end was asked for all the same.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def end(signum: int, frame: FrameType | None) -> NoReturn:
        asked.append(signum)
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        from cocuyo.core.errors import Terminated  # only now: it loads SciPy

        raise Terminated

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _say(kind: str, text: object) -> None:
    print(f"cocuyo: {kind}: {_one_line(text)}", file=sys.stderr)


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    _say("warning", message)


def _describe_os_error(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    return f"{what}: {error.filename}" if error.filename is not None else what


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run one command and say how it went.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``cocuyo``; those of the process by default.

    Returns
    -------
    int
        The exit status: 0, 1, 2, 130 or 143, as the module says.
    """
    asked: list[int] = []
    try:
        with _signals_end_cleanly() as asked, warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = cli.main(
                args=None if arguments is None else list(arguments),
                prog_name="cocuyo",
                standalone_mode=False,
            )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        from cocuyo.core import Terminated

        cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__
        return _say_stopped(terminated=isinstance(cause, Terminated))
    except Exception as error:
        if asked:
            return _say_stopped(terminated=asked[-1] == signal.SIGTERM)
        return _report_failure(error)
    return status if isinstance(status, int) else 0


def _say_stopped(*, terminated: bool) -> int:
    if terminated:
        print("cocuyo: ended on request.", file=sys.stderr)
        return EXIT_TERMINATED
    print("cocuyo: stopped.", file=sys.stderr)
    return EXIT_INTERRUPTED


def _report_failure(error: Exception) -> int:
    from cocuyo.core import Cancelled, CocuyoError  # only now: it loads SciPy

    if isinstance(error, Cancelled):
        print("cocuyo: stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
    if isinstance(error, CocuyoError):
        _say("error", error)
    elif isinstance(error, OSError):
        _say("error", _describe_os_error(error))
    elif isinstance(error, MemoryError):
        _say("error", f"Not enough memory. {error}")
    else:  # a bug: its traceback is what we need to mend it
        traceback.print_exception(error)
    return EXIT_FAILURE


def main() -> NoReturn:
    """Run ``cocuyo`` as a program."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without µ shows a mark in its place
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run_command_line())


# ---------------------------------------------------------------------------------------------
# Progress
# ---------------------------------------------------------------------------------------------


def _duration(seconds: float) -> str:
    seconds = max(0, round(seconds))
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class ProgressPrinter:
    """Shows on stderr where the work stands; a progress callback and a context manager.

    On a terminal one line is rewritten, with the share done and the time left. Elsewhere a
    plain line is written at most every `plain_interval_s` and at the end of each stage.

    Parameters
    ----------
    stream : file, optional
        Where to write; stderr by default.
    plain_interval_s : float, default: 10.0
        Shortest time between two lines of one stage that is not yet done, in seconds.
    clock : callable, default: time.monotonic
        Gives the time in seconds.

    Examples
    --------
    >>> from cocuyo.core import Progress
    >>> with ProgressPrinter(stream=sys.stdout) as progress:
    ...     progress(Progress("reading", 5, 5))
    reading: 5 of 5, done in 0:00
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        plain_interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._interval_s = 0.1 if self._live else plain_interval_s
        self._clock = clock
        self._stage: str | None = None
        self._started_s = 0.0
        self._start_done = 0
        self._shown_s = 0.0
        self._finished = True
        self._width = 0

    def __call__(self, progress: "Progress") -> None:
        """Take a progress report.

        Parameters
        ----------
        progress : Progress
            Where a stage stands.
        """
        now = self._clock()
        if progress.stage != self._stage:
            self._end_line()
            self._stage = progress.stage
            self._started_s = now
            # A stage that begins with something to say (that it goes on) says it at once.
            self._shown_s = -math.inf if self._live or progress.detail else now
            self._start_done = progress.done
            self._finished = False
        if self._finished:
            return
        elapsed = now - self._started_s
        detail = f", {progress.detail}" if progress.detail else ""
        if progress.done >= progress.total:
            self._finished = True
            text = f"{progress.stage}: {progress.done} of {progress.total}{detail}"
            self._write(f"{text}, done in {_duration(elapsed)}")
            self._end_line()
        elif now - self._shown_s >= self._interval_s:
            self._shown_s = now
            share = progress.done / progress.total
            text = f"{progress.stage}: {progress.done} of {progress.total} ({share:.0%}){detail}"
            done = progress.done - self._start_done
            if done > 0 and elapsed > 0:
                left = elapsed * (progress.total - progress.done) / done
                text += f", {_duration(left)} left"
            self._write(text)

    def __enter__(self) -> "ProgressPrinter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_line()

    def _write(self, text: str) -> None:
        if self._live:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def _end_line(self) -> None:
        if self._live and self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0


# ---------------------------------------------------------------------------------------------
# Options that say how a recording is read
# ---------------------------------------------------------------------------------------------


def _parse_frames(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int | None, int | None] | None:
    """Turn ``A:B`` into numbers; either end may be left out."""
    if value is None:
        return None
    first, colon, last = value.partition(":")
    try:
        if colon:
            return (int(first) if first.strip() else None, int(last) if last.strip() else None)
    except ValueError:
        pass
    msg = f"{value!r} is not of the form A:B, such as 0:500, 100: or :500."
    raise click.BadParameter(msg)


_NULLS = ("phase", "shift", "frames")
_PRESETS = ("default", "paper", "srname")
"""Not read from `pipeline.PresetName`: that would load the pipeline for every `--help`."""


@dataclass(frozen=True)
class ReadingOptions:
    """What the command line says about reading a recording.

    Attributes
    ----------
    frame_rate_hz, pixel_size_um, diameter_um : float or None
        Frames per second; side of a pixel in µm; typical soma diameter in µm.
    frames : tuple of (int or None), or None
        First frame and the one after the last, counted from 0.
    dataset : str or None
        Which movie of a file with several.
    channel, plane : int or None
        Index from 0 in a stack with several channels or planes.
    axes : str or None
        Letters of an array's axes in the order of the file.
    timestamps : str or None
        Path of a file with the time of each frame.
    join : bool
        Whether several paths are the parts of one recording.
    """

    frame_rate_hz: float | None = None
    pixel_size_um: float | None = None
    diameter_um: float | None = None
    frames: tuple[int | None, int | None] | None = None
    dataset: str | None = None
    channel: int | None = None
    plane: int | None = None
    axes: str | None = None
    timestamps: str | None = None
    join: bool = False

    @property
    def choices(self) -> dict[str, Any]:
        """What must be said again to open the recording again, besides its path."""
        from cocuyo.io import READING_CHOICES

        return {name: getattr(self, name) for name in READING_CHOICES}


_RECORDING_OPTIONS = (
    click.option(
        "--frame-rate",
        "frame_rate_hz",
        type=float,
        metavar="HZ",
        help="Frames per second, where the file does not say it or says it wrongly.",
    ),
    click.option(
        "--pixel-size",
        "pixel_size_um",
        type=float,
        metavar="UM",
        help="Side of a pixel in the tissue, in µm.",
    ),
    click.option(
        "--diameter",
        "diameter_um",
        type=float,
        metavar="UM",
        help="Typical diameter of a soma, in µm.",
    ),
    click.option(
        "--frames",
        callback=_parse_frames,
        metavar="A:B",
        help="Use frames A to B only (from 0, B not included; either end may be left out).",
    ),
    click.option(
        "--dataset",
        metavar="NAME",
        help="Which movie to read from a file with several (a data set, series, image, scene).",
    ),
    click.option(
        "--channel", type=int, metavar="N", help="Channel to read from a stack of several (from 0)."
    ),
    click.option(
        "--plane", type=int, metavar="N", help="Plane (Z) to read from a stack of several (from 0)."
    ),
    click.option(
        "--axes",
        metavar="LETTERS",
        help="Order of the axes in HDF5, NWB, MATLAB, Zarr or .npy, such as TYX or TXY.",
    ),
    click.option(
        "--timestamps",
        metavar="FILE",
        help="Text or CSV file with the time of each frame, in seconds.",
    ),
    click.option(
        "--join", is_flag=True, help="The given files are the parts of one recording, in order."
    ),
)


def recording_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how a recording is read.

    Parameters
    ----------
    command : callable
        The command's function; it receives them as one keyword argument ``reading``
        (`ReadingOptions`).

    Returns
    -------
    callable
        The function with the options.
    """
    names = tuple(ReadingOptions.__dataclass_fields__)

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> Any:
        reading = ReadingOptions(**{name: arguments.pop(name) for name in names})
        return command(reading=reading, **arguments)

    decorated: Callable[..., Any] = wrapper
    for option in reversed(_RECORDING_OPTIONS):
        decorated = option(decorated)
    return decorated


def open_from_options(paths: Sequence[str], reading: ReadingOptions) -> "Recording":
    """Open one recording as the options say.

    Parameters
    ----------
    paths : sequence of str
        One path, or the parts of one recording with ``--join``.
    reading : ReadingOptions
        What the command line says.

    Returns
    -------
    Recording
        The recording, read lazily.

    Raises
    ------
    RecordingError
        If it cannot be used as it is.
    """
    from cocuyo.io import open_recording

    return open_recording(
        list(paths) if len(paths) > 1 else paths[0],
        frame_rate_hz=reading.frame_rate_hz,
        pixel_size_um=reading.pixel_size_um,
        diameter_um=reading.diameter_um,
        frames=reading.frames,
        dataset=reading.dataset,
        channel=reading.channel,
        plane=reading.plane,
        axes=reading.axes,
        timestamps=reading.timestamps,
        join=reading.join,
    )


# ---------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  cocuyo inspect slice.tif       what is in the file, and what is missing
  cocuyo run slice.tif           everything, into slice.cocuyo
  cocuyo view slice.cocuyo       look at the neurons and correct them, in the browser
  cocuyo COMMAND --help          options and examples of a command
""",
)
@click.version_option(__version__, prog_name="cocuyo", message="%(prog)s %(version)s")
def cli() -> None:
    """Find the functional neurons in calcium-imaging recordings."""


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


@cli.command(
    epilog="""\b
Examples:
  cocuyo simulate                                an ordinary slice, in the folder simulation
  cocuyo simulate --preset crowded --seed 7 --out crowded7
  cocuyo simulate --preset miniscope --out scope
  cocuyo simulate --random test --seed 3 --out test3
  cocuyo simulate --config mine.toml             lines such as: n_active = 12
"""
)
@click.option(
    "--out", default="simulation", show_default=True, metavar="DIR", help="Folder to write to."
)
@click.option(
    "--preset",
    type=click.Choice(
        [
            *("demo", "slice", "sparse", "crowded", "silent", "dim"),
            *("slice_gcamp6f", "slice_ogb1", "slice_mixed", "slice_stimulated"),
            *("culture", "culture_bursts"),
            *("miniscope", "miniscope_video", "miniscope_delta_f"),
        ]
    ),
    help="Kind of recording; slice by default.",
)
@click.option(
    "--random",
    "split",
    type=click.Choice(["training", "validation", "test"]),
    help="Draw the settings by the seed in place of a preset, as for this part of training data.",
)
@click.option(
    "--broad",
    is_flag=True,
    help="With --random: cultures, miniscopes, indicators and cameras as well.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of all randomness."
)
@click.option("--n-frames", type=int, metavar="N", help="Length of the recording in frames.")
@click.option(
    "--size", "shape", nargs=2, type=int, metavar="ROWS COLUMNS", help="Size of a frame in pixels."
)
@click.option(
    "--config", "config_file", metavar="FILE.toml", help="Settings that replace the preset's."
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier simulation.")
def simulate(
    *,
    out: str,
    preset: str | None,
    split: "Split | None",
    broad: bool,
    seed: int,
    n_frames: int | None,
    shape: tuple[int, int] | None,
    config_file: str | None,
    overwrite: bool,
) -> None:
    """Simulate a one-photon recording of a slice, a culture or a miniscope, with its exact truth.

    Writes recording.tif, truth.npz (which `cocuyo evaluate --truth` reads) and simulation.json with
    all settings.
    """
    from pathlib import Path

    import numpy as np
    import tifffile

    from cocuyo.core import ResultError, SettingsError
    from cocuyo.io.atomic import save_npz_atomic, write_json, write_together
    from cocuyo.io.results import cannot_write, check_writable
    from cocuyo.simulation import simulate as make

    config = _simulation_settings(preset, split, broad, seed, n_frames, shape, config_file)
    n_bytes = config.n_frames * config.n_rows * config.n_columns * (1 + (config.bit_depth > 8))
    if n_bytes > 4 * 10**9:
        msg = (
            f"The recording would have {n_bytes / 1e9:.1f} GB; a TIFF that ImageJ reads holds "
            "4 GB. Ask for fewer or smaller frames (--n-frames, --size)."
        )
        raise SettingsError(msg)
    folder = Path(out)
    movie, truth, settings = names = ("recording.tif", "truth.npz", "simulation.json")
    present = [name for name in names if (folder / name).exists()]
    if present and not overwrite:
        msg = (
            f"{folder} already holds {', '.join(present)}. Give another folder with --out, "
            "or --overwrite to replace them."
        )
        raise ResultError(msg)
    check_writable(folder)
    with ProgressPrinter() as progress:
        simulation = make(config, seed=seed, progress=progress)
    rate_hz, pixel_um = config.frame_rate_hz, config.pixel_size_um
    try:
        with write_together(folder, names) as place:
            tifffile.imwrite(
                place[movie],
                simulation.frames,
                imagej=True,
                byteorder="<",
                resolution=(1 / pixel_um, 1 / pixel_um),
                metadata={"axes": "TYX", "finterval": 1 / rate_hz, "fps": rate_hz, "unit": "um"},
            )
            save_npz_atomic(place[truth], simulation.truth.arrays())
            content = {"seed": seed, "settings": config.model_dump(mode="json")}
            write_json(place[settings], {"cocuyo": __version__, **content})
    except OSError as error:
        raise cannot_write(folder, error) from error
    functional, silent, faint, defocused = np.bincount(simulation.truth.kinds, minlength=4)
    click.echo(
        f"{folder / movie}: {config.n_frames} frames of {config.n_rows} x {config.n_columns}, "
        f"{functional} functional, {silent} silent, {faint} faint and {defocused} defocused cells."
    )


def _simulation_settings(
    preset: str | None,
    split: "Split | None",
    broad: bool,
    seed: int,
    n_frames: int | None,
    shape: tuple[int, int] | None,
    config_file: str | None,
) -> "SimulationConfig":
    """Put the settings of a simulation together: preset or random ones, file, options."""
    from pydantic import ValidationError

    from cocuyo.core import SettingsError
    from cocuyo.simulation import (
        PRESETS,
        SimulationConfig,
        broad_training_config,
        random_config,
    )

    if seed < 0:
        msg = f"--seed is {seed}; it must be 0 or more."
        raise SettingsError(msg)
    if preset is not None and split is not None:
        msg = "--preset and --random exclude each other; give one of them."
        raise click.UsageError(msg)
    if broad and split is None:
        msg = "--broad goes with --random; give --random training, for instance."
        raise click.UsageError(msg)
    try:
        if split is not None and broad:
            # Rate and number of cells are drawn for this length and size.
            length = 600 if n_frames is None else n_frames
            drawn = broad_training_config(
                seed, split=split, n_frames=length, shape=shape or (256, 256)
            )
            values = drawn.model_dump()
        elif split is not None:
            values = random_config(seed, split=split).model_dump()
        else:
            values = PRESETS[preset or "slice"].model_dump()
        if config_file is not None:
            values |= _read_toml(config_file)
        if n_frames is not None:
            values["n_frames"] = n_frames
        if shape is not None:
            values["n_rows"], values["n_columns"] = shape
        return SimulationConfig.model_validate(values)
    except ValidationError as error:
        msg = f"These settings cannot be simulated: {_problems(error)}."
        raise SettingsError(msg) from None


def _read_toml(path: str) -> dict[str, Any]:
    """Read the settings that a file for ``--config`` holds."""
    import tomllib
    from pathlib import Path

    from cocuyo.core import SettingsError

    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}. Give a TOML file with --config."
        raise SettingsError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not a TOML file: {error}."
        raise SettingsError(msg) from error


def _problems(error: "ValidationError") -> str:
    """Say in words which settings are wrong."""

    def problem(name: str, item: Any) -> str:
        if item["type"] == "extra_forbidden":
            return f"there is no setting {name}"
        return f"{name}: {item['msg']} (given: {item['input']!r})" if name else str(item["msg"])

    return "; ".join(problem(".".join(map(str, item["loc"])), item) for item in error.errors())


def _pipeline_settings(model: str | None, preset: str, config_file: str | None) -> "PipelineConfig":
    """Settings of a model, with those of a TOML file laid over them."""
    from pydantic import ValidationError

    from cocuyo.core import SettingsError
    from cocuyo.pipeline import PipelineConfig, load_model

    base = load_model(model or preset).settings.pipeline
    if config_file is None:
        return base
    given = _read_toml(config_file)
    try:
        return PipelineConfig.model_validate(_overlay(base.model_dump(), given))
    except ValidationError as error:
        msg = (
            f"{config_file} holds settings that cannot be used: {_problems(error)}. The run.json "
            "of a result shows the names and values of all."
        )
        raise SettingsError(msg) from None


def _overlay(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Lay nested tables over others; what is not given stays."""
    merged = dict(base)
    for key, value in given.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = _overlay(below, value)
        else:
            merged[key] = value
    return merged


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _typed(path: "Path") -> str:
    """A path as it is typed: in quotes where it has spaces."""
    return f'"{path}"' if " " in str(path) else str(path)


def _summary(result: "Result", folder: "Path") -> str:
    """What was found, in two lines, where the report lies and what comes next."""
    accepted = int(result.rois.accepted.sum())
    events = int(result.events.count(len(result.rois))[result.rois.accepted].sum())
    given = result.info.task == "extract"
    kind, other = ("given ROI", "ROI") if given else ("functional neuron", "candidate")
    what = f"{len(result.parts)} recordings" if result.parts else "a recording"
    lines = [
        f"{_counted(accepted, kind)} with {_counted(events, 'event')} in {what} of "
        f"{_duration(result.times_s[-1])} (min:s); "
        f"{_counted(len(result.rois) - accepted, other)} rejected."
    ]
    lines += [f"Warning: {text}" for text in result.info.warnings]
    lines.append(f"Report: {folder / 'report.html'}")
    lines.append(f"To correct it: cocuyo view {_typed(folder)}")
    return "\n".join(lines)


def _result_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the commands that make a result folder of a recording."""
    options = (
        click.option(
            "--exclude",
            metavar="MASK",
            help="Image, not 0 where nothing is to be found (a pipette, the slice's edge).",
        ),
        click.option(
            "--out",
            metavar="DIR",
            help="Result folder; <stem>.cocuyo beside REC by default, <stem>.experiment.cocuyo "
            "beside the first of several.",
        ),
        click.option(
            "--preset",
            type=click.Choice(_PRESETS),
            default="default",
            show_default=True,
            help="default: ours; paper: the published method; srname: without networks.",
        ),
        click.option(
            "--model", metavar="NAME|DIR", help="Another trained model, with its settings."
        ),
        click.option(
            "--config", "config_file", metavar="FILE", help="TOML file with settings to change."
        ),
        click.option(
            "--overwrite", is_flag=True, help="Replace a result of cocuyo that is in the way."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


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
    from cocuyo.batch.machine import available_memory_mb, count_cores
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
    import warnings
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


def _default_folder(recording: str, *, ending: str = ".cocuyo") -> "Path":
    """Name the result folder beside a recording: that of ``.`` too has a name."""
    import os
    from pathlib import Path

    path = Path(os.path.abspath(recording))  # noqa: PTH100 - resolves "." but keeps links
    name = path.name if path.is_dir() else path.stem
    return path.parent / f"{name}{ending}"


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


def _beside(folder: str, suffix: str) -> "Path":
    """Name a folder beside another one: that of ``.`` too has a name."""
    import os
    from pathlib import Path

    path = Path(os.path.abspath(folder))  # noqa: PTH100 - resolves "." but keeps links
    return path.parent / f"{path.stem}{suffix}"


# ---------------------------------------------------------------------------------------------
# Many recordings
# ---------------------------------------------------------------------------------------------


def _batch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of `cocuyo batch`: those of reading, of finding, of the method, of who works."""
    alone = ("--timestamps", "--join")  # of one recording: columns of a list say them
    for option in reversed(
        (
            click.option(
                "--out", required=True, metavar="DIR", help="Folder for results, index and tables."
            ),
            click.option(
                "--files",
                multiple=True,
                metavar="GLOB",
                help="Take files of these names only, such as '*.tif'; may be given again.",
            ),
            click.option(
                "--each",
                type=click.Choice(["file", "folder"]),
                default="file",
                show_default=True,
                help="What one recording is: a file, or a folder of frames or parts.",
            ),
            click.option(
                "--group",
                default="",
                metavar="RULE",
                help="Group of a recording: 'folder' (that it lies in), 'parent' (the one above), "
                "or a regular expression with one parenthesis, searched in its path.",
            ),
            click.option(
                "--experiment",
                default="",
                metavar="RULE",
                help="Field of view that a recording shows; rules as for --group. Recordings of "
                "one field are analysed together, as by `run`: one set of ROIs, activity in each.",
            ),
            click.option(
                "--animal",
                default="",
                metavar="RULE",
                help="Animal, slice or culture that a recording comes from: the unit of "
                "observation when groups are compared; rules as for --group.",
            ),
            click.option(
                "--preset",
                type=click.Choice(_PRESETS),
                default="default",
                show_default=True,
                help="default: ours; paper: the published method; srname: without networks.",
            ),
            click.option(
                "--model", metavar="NAME|DIR", help="Another trained model, with its settings."
            ),
            click.option(
                "--config", "config_file", metavar="FILE", help="TOML file with settings to change."
            ),
            click.option(
                "--seed", type=int, default=0, show_default=True, help="Seed, kept in run.json."
            ),
            click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
            click.option("--retry-failed", is_flag=True, help="Do again what failed before."),
            click.option("--redo", is_flag=True, help="Do everything again."),
            click.option(
                "--processes",
                type=click.IntRange(1),
                metavar="N",
                help="Recordings at the same time; by cores and memory if not given.",
            ),
            click.option(
                "--threads",
                type=click.IntRange(1),
                metavar="N",
                help="Cores for each recording.",
            ),
            click.option(
                "--memory",
                "memory_gb",
                type=click.FloatRange(0, min_open=True),
                metavar="GB",
                help="Memory for all recordings together; with --slurm, of each job.",
            ),
            click.option("--dask", metavar="ADDRESS", help="Use this Dask scheduler (tcp://...)."),
            click.option("--slurm", is_flag=True, help="Ask SLURM for jobs that do the work."),
            click.option(
                "--jobs",
                "slurm_jobs",
                type=click.IntRange(1),
                metavar="N",
                help="SLURM: jobs; 4 by default.",
            ),
            click.option(
                "--partition", "slurm_partition", metavar="NAME", help="SLURM: partition."
            ),
            click.option("--account", "slurm_account", metavar="NAME", help="SLURM: account."),
            click.option(
                "--time", "slurm_time_limit", metavar="H:MM:SS", help="SLURM: time limit of a job."
            ),
            click.option(
                "--gpus",
                "slurm_gpus",
                type=click.IntRange(0),
                metavar="N",
                help="SLURM: GPUs of a job.",
            ),
            click.option(
                "--slurm-option",
                "slurm_options",
                multiple=True,
                metavar="OPTION",
                help="SLURM: a further option of sbatch, such as '--qos=long'.",
            ),
        )
    ):
        command = option(command)
    for option in reversed(_RECORDING_OPTIONS):
        names = getattr(option(lambda: None), "__click_params__")[0].opts  # noqa: B009
        if not set(names) & set(alone):
            command = option(command)
    return command


@cli.command(
    epilog="""\b
Examples:
  cocuyo batch recordings --out results --dry-run
  cocuyo batch recordings --out results --frame-rate 6.67 --group folder
  cocuyo batch recordings --out results --experiment '(slice[0-9]+)_' --group '_(before|drug)'
  cocuyo batch list.csv --out results --retry-failed
  cocuyo batch recordings --out /shared/results --dask tcp://10.0.0.5:8786
  cocuyo batch recordings --out /shared/results --slurm --jobs 20 --partition short --time 4:00:00
""",
)
@click.argument("source", metavar="FOLDER|LIST.csv")
@_batch_options
def batch(
    source: str,
    *,
    out: str,
    files: tuple[str, ...],
    each: Literal["file", "folder"],
    group: str,
    experiment: str,
    animal: str,
    preset: str,
    model: str | None,
    config_file: str | None,
    seed: int,
    dry_run: bool,
    retry_failed: bool,
    redo: bool,
    processes: int | None,
    threads: int | None,
    memory_gb: float | None,
    dask: str | None,
    **options: Any,
) -> int:
    """Analyse many recordings: those below FOLDER, or in the rows of LIST.csv.

    Each is analysed alone, or with the others of its field of view where --experiment (or a column
    of the list) tells. One that cannot be used is listed and never stops the others. Started again,
    the batch goes on where it stopped and does again only what has changed. DIR/index.html shows
    all.
    """
    from pathlib import Path

    from cocuyo import batch as many

    slurm = _slurm_options(options)
    folder = many.prepare_folder(Path(out), [Path(source)])
    method = _batch_method(preset, model, config_file, seed)
    entries = many.find_recordings(
        Path(source),
        search=many.Search(
            files=files, each=each, group=group, experiment=experiment, animal=animal
        ),
        reading=_batch_reading(options),
        out=folder,
    )
    with ProgressPrinter() as progress:
        planned = many.plan_batch(
            entries,
            method,
            folder=folder,
            retry_failed=retry_failed,
            redo=redo,
            progress=progress,
        )
    place = many.choose_workplace(
        planned, dask=dask, slurm=slurm, processes=processes, threads=threads, memory_gb=memory_gb
    )
    if place.warning:
        _say("warning", place.warning)
    if dry_run:
        click.echo(_describe_plan(planned, place))
        return 0
    facts = {"source": source, "preset": preset, "model": model, "seed": seed}
    with many.start_folder(folder, {**facts, "settings": method.config}):
        counts = _run_batch(planned, place, folder)
    click.echo(
        f"{counts.n_done} of {_counted(len(entries), 'recording')} done ({counts.n_now} looked at "
        f"now), {counts.n_failed} failed."
    )
    click.echo(f"Index: {folder / 'index.html'}")
    if counts.n_failed:
        _say("error", f"{_counted(counts.n_failed, 'recording')} failed; the index says why.")
    return EXIT_FAILURE if counts.n_failed else 0


def _run_batch(planned: "Sequence[Planned]", place: "Workplace", folder: "Path") -> "BatchCounts":
    from cocuyo import batch as many

    to_do = [p for p in planned if p.state == "to do" and not p.problem]
    if to_do:
        click.echo(f"{_count_to_do(planned)} to do, by {place.describe()}.")
    else:  # ask nobody for nothing
        place = many.choose_workplace(planned)
    with (
        many.open_workplace(place, folder) as executor,
        many.BatchPrinter(sys.stderr, log=folder / "batch.log") as printer,
    ):
        return many.run_batch(
            planned,
            executor,
            folder=folder,
            n_threads=place.n_threads,
            show=printer,
        )


def _slurm_options(options: dict[str, Any]) -> "Slurm | None":
    """Take the options of SLURM out of those of a command."""
    from cocuyo.batch import Slurm

    asked = options.pop("slurm")
    wish = {name: options.pop(f"slurm_{name}") for name in Slurm.__dataclass_fields__}
    stray = [name for name, value in wish.items() if value]
    if stray and not asked:
        option = {"time_limit": "time", "options": "slurm-option"}.get(stray[0], stray[0])
        msg = f"--{option} is an option of --slurm."
        raise click.UsageError(msg)
    return Slurm(**wish) if asked else None


def _batch_method(preset: str, model: str | None, config_file: str | None, seed: int) -> "Method":
    from cocuyo.batch import Method
    from cocuyo.pipeline import hash_weights, load_model

    settings = _pipeline_settings(model, preset, config_file)
    loaded = load_model(model or preset)
    if model is not None and not loaded.shipped:
        model = str(loaded.folder.resolve())  # a worker may stand in another folder
    weights = hash_weights(loaded, method=settings.method)
    return Method(preset=preset, model=model, config=settings, model_hash=weights, seed=seed)


def _batch_reading(given: dict[str, Any]) -> "Reading":
    from pydantic import ValidationError

    from cocuyo.batch import Reading
    from cocuyo.core import SettingsError

    try:
        return Reading.model_validate(given)
    except ValidationError as error:
        msg = f"The recordings cannot be read so: {_problems(error)}."
        raise SettingsError(msg) from None


def _count_to_do(planned: "Sequence[Planned]") -> str:
    """Write how many recordings of how many are to do, and in how many experiments."""
    to_do = [p for p in planned if p.state == "to do" and not p.problem]
    n, n_all = (sum(p.n_recordings for p in some) for some in (to_do, planned))
    together = [p for p in to_do if p.n_recordings > 1]
    text = f"{n} of {_counted(n_all, 'recording')}"
    if together:
        n_together = sum(p.n_recordings for p in together)
        text += f" ({n_together} of them in {_counted(len(together), 'experiment')})"
    return text


def _describe_plan(planned: "Sequence[Planned]", place: "Workplace") -> str:
    """Write what a batch would do, with expected time and memory."""
    rows = [("recording", "frames", "size", "group", "animal", "memory", "time", "what")]
    for p in planned:
        several, first = p.n_recordings > 1, p.entries[0]
        size = f"{p.n_columns} x {p.n_rows}" if p.n_rows else ""
        will = p.state == "to do" and not p.problem
        what = f"to do: {p.why}" if p.state == "to do" else p.state
        if p.problem or p.state == "failed":
            what = f"cannot be used: {p.problem}" if p.problem else f"failed before: {p.why}"
        rows.append(
            (
                f"{p.name} ({p.n_recordings} recordings)" if several else p.name,
                str(sum(p.lengths) or ""),
                size,
                "" if several else first.group,
                first.animal,
                f"{p.task.memory_mb / 1000:.1f} GB" if will else "",
                _duration(p.task.cost) if will else "",
                what,
            )
        )
        if several:
            lengths = p.lengths or [""] * p.n_recordings
            for entry, length in zip(p.entries, lengths, strict=True):
                rows.append((f"  {entry.name}", str(length), "", entry.group, "", "", "", ""))
    shown = [i for i in range(len(rows[0])) if i in (0, 7) or any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in shown[:-1]}
    lines = [
        "  ".join([*(row[i].ljust(widths[i]) for i in shown[:-1]), row[7]]).rstrip() for row in rows
    ]
    to_do = [p for p in planned if p.state == "to do" and not p.problem]
    if not to_do:
        return "\n".join([*lines, "", f"{_count_to_do(planned)} to do."])
    total = sum(p.task.cost for p in to_do)
    summary = f"{_count_to_do(planned)} to do, by {place.describe()}: "
    if place.n_at_once:
        longest = max(p.task.cost for p in to_do)
        summary += f"about {_duration(max(total / place.n_at_once, longest))}"
    else:
        summary += f"about {_duration(total)} of one core"
    most = max(p.task.memory_mb for p in to_do)
    summary += f", at most {most / 1000:.1f} GB for a recording (rough; the first ones tell more)."
    return "\n".join([*lines, "", summary])


@cli.command(
    epilog="""\b
Examples:
  cocuyo live growing.tif --frame-rate 10 --pixel-size 1.5 --diameter 12
  cocuyo live frames/ --frame-rate 20
  cocuyo live tcp://127.0.0.1:5555 --publish --out session1
  cocuyo live slice.tif --replay
""",
)
@click.argument("source", metavar="SOURCE")
@recording_options
@_result_options
@click.option("--replay", is_flag=True, help="SOURCE is a finished recording; play it at its rate.")
@click.option(
    "--replay-rate",
    "replay_rate_hz",
    type=float,
    metavar="HZ",
    help="Play it at another rate; 0 for as fast as possible.",
)
@click.option("--publish", is_flag=True, help="Send ROIs and events to clients that listen.")
@click.option("--no-spool", is_flag=True, help="Keep no frames: the result stays provisional.")
@click.option(
    "--keep-frames/--discard-frames",
    default=None,
    help="Whether received frames stay on disk at the end; by default those of streams do.",
)
@click.option(
    "--idle",
    "idle_s",
    type=float,
    metavar="S",
    help="End when no frame came for S seconds; 0 for never. 10 for files, 0 for streams.",
)
@click.option("--finish", is_flag=True, help="Complete an interrupted recording as it is.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed, kept in run.json.")
def live(source: str, **options: Any) -> None:
    """Analyse a recording while it is made: ROIs, traces and events as they appear.

    SOURCE is a TIFF file or a folder of frames that grows, an address of this machine
    (tcp://127.0.0.1:PORT, or zmq+tcp://127.0.0.1:PORT for ZeroMQ) to which another program sends
    frames, or with --replay any recording. At the end the result is made as `cocuyo run` makes it.
    """
    from cocuyo.cli_live import run_live

    run_live(_live_request(source, **options), summary=_summary, progress=ProgressPrinter)


def _live_request(
    source: str,
    *,
    reading: ReadingOptions,
    exclude: str | None,
    out: str | None,
    preset: "PresetName",
    model: str | None,
    config_file: str | None,
    overwrite: bool,
    replay: bool,
    replay_rate_hz: float | None,
    publish: bool,
    no_spool: bool,
    keep_frames: bool | None,
    idle_s: float | None,
    finish: bool,
    seed: int,
) -> "LiveRequest":
    """Put together what `live` is to do; refuse what makes no sense."""
    import dataclasses
    import hashlib
    import json
    from pathlib import Path

    from cocuyo.cli_live import LiveRequest, digest_of, usual_idle_s
    from cocuyo.core import SettingsError
    from cocuyo.io import read_exclusion
    from cocuyo.io.streams import is_stream
    from cocuyo.pipeline.live import LiveOptions

    from_stream = is_stream(source)
    if from_stream and replay:
        msg = "--replay is for recordings on disk; a stream is live already."
        raise click.UsageError(msg)
    if replay_rate_hz is not None and not replay:
        msg = "--replay-rate needs --replay."
        raise click.UsageError(msg)
    if replay_rate_hz is not None and not 0 <= replay_rate_hz < math.inf:
        msg = f"--replay-rate is {replay_rate_hz}; give frames per second, 0 for no pause at all."
        raise SettingsError(msg)
    if idle_s is not None and not 0 <= idle_s < math.inf:
        msg = f"--idle is {idle_s}; give seconds, 0 for never."
        raise SettingsError(msg)
    if publish and not from_stream:
        msg = "--publish sends to clients of a stream; SOURCE is none."
        raise click.UsageError(msg)
    if no_spool and (finish or keep_frames):
        msg = "--no-spool keeps no frames, so none can be completed or kept."
        raise click.UsageError(msg)
    recorded = ("frames", "dataset", "axes", "timestamps", "join")
    others = () if replay else recorded + (("channel", "plane") if from_stream else ())
    for name in others:
        if getattr(reading, name) not in (None, False):
            msg = f"--{name} is for finished recordings (--replay), not for {source}."
            raise click.UsageError(msg)
    settings = _pipeline_settings(model, preset, config_file)
    digest = hashlib.sha256(json.dumps(settings.model_dump(mode="json")).encode()).hexdigest()
    left_out = digest_of(exclude)
    default = Path("live.cocuyo") if from_stream else _default_folder(source)
    return LiveRequest(
        source=source,
        folder=Path(out) if out is not None else default,
        options=LiveOptions(
            preset=preset,
            model=model,
            config=settings,
            diameter_um=reading.diameter_um,
            exclude=None if exclude is None else functools.partial(read_exclusion, exclude),
            seed=seed,
            spool=not no_spool,
            publish=publish,
            idle_s=usual_idle_s(source, replay=replay) if idle_s is None else idle_s,
        ),
        key={
            "source": source if from_stream else str(Path(source).resolve()),
            "reading": json.loads(json.dumps(dataclasses.asdict(reading))),
            "settings": digest[:16],
            "model": model or preset,
            "exclude": left_out,
            "spool": not no_spool,
        },
        replay=functools.partial(open_from_options, [source], reading) if replay else None,
        replay_rate_hz=math.inf if replay_rate_hz == 0 else replay_rate_hz,
        reading=reading.choices,
        frame_rate_hz=reading.frame_rate_hz,
        pixel_size_um=reading.pixel_size_um,
        channel=reading.channel,
        plane=reading.plane,
        finish=finish,
        keep_frames=keep_frames,
        overwrite=overwrite,
        inputs=tuple(
            path
            for path in (None if from_stream else source, exclude, config_file, model)
            if path is not None
        ),
    )


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
        what = "is a file" if Path(source).is_file() else "is a result of another program"
        msg = (
            f"{source} {what}; name the recording in which its ROIs lie: --recording REC. Without "
            "it, give a result folder of cocuyo, or the folder that holds recordings."
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


@cli.command(
    epilog="""\b
Examples:
  cocuyo paper --quick --out try
  cocuyo paper --out paper --seed 1
  cocuyo paper --annotated dg13.avi dg13_labels.tif --frame-rate 5
""",
)
@click.option(
    "--out", default="cocuyo-paper", show_default=True, metavar="DIR", help="Folder to make."
)
@click.option(
    "--full",
    "size",
    flag_value="full",
    help="The paper's geometry, width and epochs: days, and a GPU.",
)
@click.option(
    "--standard",
    "size",
    flag_value="standard",
    default=True,
    help="21 recordings of 600 x 256 x 256 and fewer epochs, for two cores (default).",
)
@click.option(
    "--quick",
    "size",
    flag_value="quick",
    help="Tries the command in a minute or two; too small for any conclusion.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="Seed of everything.",
)
@click.option(
    "--annotated",
    nargs=2,
    multiple=True,
    metavar="REC LABELS",
    help="Also try the trained networks on a real recording and the cells marked in it; may be "
    "given several times.",
)
@click.option(
    "--frame-rate",
    "frame_rate_hz",
    type=float,
    metavar="HZ",
    help="Frames per second of annotated recordings whose files do not say it.",
)
def paper(
    *,
    out: str,
    size: "SizeName",
    seed: int,
    annotated: tuple[tuple[str, str], ...],
    frame_rate_hz: float | None,
) -> None:
    """Do the experiments of the paper on simulated recordings: its tables and figures.

    Simulates seven experiments, trains both networks with the paper's recipe (needs the extra
    `train`), and writes Tables 1 and 2 and figures 2, 5, 6, 7 and 8 beside the published values.
    Started again with the same folder it goes on where it was stopped.
    """
    from cocuyo.io import load_ground_truth, open_recording

    training = _training()
    from cocuyo.laboratory import reproduce

    marked = []
    for recording, labels in annotated:
        opened = open_recording(recording, frame_rate_hz=frame_rate_hz)
        opened.rate_hz  # noqa: B018 - raises before hours of training where no rate is known
        marked.append((opened, load_ground_truth(labels, frame_shape=opened.frame_shape)))
    with training.open_team() as team, ProgressPrinter() as progress:
        done = reproduce(out, size=size, seed=seed, annotated=marked, team=team, progress=progress)
    click.echo(_paper_summary(done.results))
    click.echo(f"Tables and figures: {done.folder / 'README.md'}")


def _paper_summary(results: dict[str, Any]) -> str:
    """Table 2 in short: SDC with the teacher's mask, published values beside."""
    lines = [f"{'SDC with the SRNAME-like teacher':<46}{'measured':>10}{'published':>11}"]
    for row in results["table_2"]:
        if row["reference"] != "srname":
            continue
        name = f"test experiment {row['experiment']}, {row['method']}"
        found, published = (
            "-" if row[column] is None else f"{row[column]:.3f}"
            for column in ("SDC", "published SDC")
        )
        lines.append(f"{name:<46}{found:>10}{published:>11}")
    if results["size"] == "quick":
        lines.append("This size tries the command; it is too small for any conclusion.")
    return "\n".join(lines)


@cli.group()
def train() -> None:
    """Train the networks and the verifier on simulated recordings (needs the extra `train`)."""


def _training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that the training commands share."""
    options = (
        click.option(
            "--preset",
            type=click.Choice(["default", "paper"]),
            default="default",
            show_default=True,
            help="What to train.",
        ),
        click.option(
            "--work",
            required=True,
            metavar="DIR",
            help="Folder for data, checkpoints and the model; a stopped training goes on there.",
        ),
        click.option("--seed", type=int, default=1, show_default=True, help="Seed of everything."),
        click.option(
            "--workers", type=int, default=2, show_default=True, help="Processes for simulation."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _training() -> "ModuleType":
    from cocuyo.core import MissingExtraError

    try:
        from cocuyo import training
    except ImportError as error:
        msg = f'Training needs the extra "train": pip install "cocuyo[train]" ({error}).'
        raise MissingExtraError(msg) from error
    return training


def _train(what: str, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    training = _training()
    steps = {
        "unet": training.train_unet,
        "temporal": training.train_temporal,
        "outline": training.train_outline,
        "events": training.train_events,
        "verifier": training.train_verifier,
    }
    with training.open_team() as team:
        shop = training.open_workshop(work, preset=preset, seed=seed, n_workers=workers, team=team)
        if not team.leads:  # one of several processes; the first one speaks
            steps[what](shop)
            return
        with ProgressPrinter() as progress:
            steps[what](shop, progress=progress)
    click.echo(f"{what} of preset {preset} is trained; everything lies in {shop.folder}.")


@train.command(
    name="unet",
    epilog="""\b
Examples:
  cocuyo train unet --work training/default
  cocuyo train unet --preset paper --work training/paper
""",
)
@_training_options
def train_unet(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """First: fit the spatial network (simulates the recordings where they are absent)."""
    _train("unet", preset, work, seed, workers)


@train.command(
    name="temporal",
    epilog="""\b
Examples:
  cocuyo train temporal --work training/default
""",
)
@_training_options
def train_temporal(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """Second: fit the temporal network on the spatial one; writes the folder DIR/model."""
    _train("temporal", preset, work, seed, workers)


@train.command(
    name="outline",
    epilog="""\b
Examples:
  cocuyo train outline --work training/default
""",
)
@_training_options
def train_outline(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """Third: fit the network that draws the outlines of candidates; adds it to DIR/model."""
    _train("outline", preset, work, seed, workers)


@train.command(
    name="events",
    epilog="""\b
Examples:
  cocuyo train events --work training/default
""",
)
@_training_options
def train_events(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """Fourth: fit the network that finds events in traces; adds it to DIR/model."""
    _train("events", preset, work, seed, workers)


@train.command(
    name="verifier",
    epilog="""\b
Examples:
  cocuyo train verifier --work training/default
  cocuyo run slice.tif --model training/default/model
""",
)
@_training_options
def train_verifier(*, preset: "PresetName", work: str, seed: int, workers: int) -> None:
    """Fifth: fit the verifier of candidates; completes the folder DIR/model."""
    _train("verifier", preset, work, seed, workers)


@train.command(
    name="curated",
    epilog="""\b
Examples:
  cocuyo view slice1.cocuyo                               correct several results
  cocuyo train curated slice1.cocuyo slice2.cocuyo --out ours
  cocuyo run slice3.tif --model ours
""",
)
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@click.option("--out", required=True, metavar="DIR", help="Model folder to make.")
@click.option(
    "--model",
    "model_name",
    default="default",
    show_default=True,
    metavar="NAME|DIR",
    help="Trained model to start from.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the fit.")
def train_curated(*, results: tuple[str, ...], out: str, model_name: str, seed: int) -> None:
    """Teach the verifier of a model what was corrected on the curation page.

    RESULT is a result folder with edits; its recording is read again. The model is written only if
    it agrees better with candidates held out: of one recording after the other, or of parts of a
    single one.
    """
    from pathlib import Path

    from cocuyo.core import ModelError
    from cocuyo.io import load_result, read_edits, reopen_recording
    from cocuyo.pipeline import load_model

    training = _training()
    from cocuyo.training.curated import check_taught

    model = load_model(model_name)
    if model.verifier is None:
        msg = f"The model {model_name} has no verifier that could be taught."
        raise ModelError(msg)
    if Path(out).exists():
        msg = f"{out} exists; choose another folder with --out."
        raise ModelError(msg)
    for folder in results:  # all of them first: each lesson takes minutes
        result = load_result(folder)
        check_taught(result, read_edits(folder), folder)
        reopen_recording(result, folder)
    lessons = []
    for folder in results:
        result, edits = load_result(folder), read_edits(folder)
        recording = reopen_recording(result, folder)
        with ProgressPrinter() as progress:
            lessons.append(
                training.learn_from(recording, result, edits, model=model, progress=progress)
            )
    adapted = training.train_curated(lessons, out, model=model, seed=seed)
    click.echo(
        f"{_counted(adapted.n_judged, 'judged candidate')} among {adapted.n_examples} of "
        f"{_counted(adapted.n_recordings, 'recording')}. On those held out the model agreed with "
        f"{adapted.agreement_before:.0%} before and {adapted.agreement_after:.0%} after; loss "
        f"{adapted.loss_before:.3f} and {adapted.loss_after:.3f}."
    )
    click.echo(f"Use it: cocuyo run REC --model {_typed(Path(out))}")


@train.command(
    name="quantise",
    epilog="""\b
Examples:
  cocuyo train quantise --model training/default/model
""",
)
@click.option(
    "--model", required=True, metavar="DIR", help="Finished model folder; it gets the graph."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the recordings.")
def train_quantise(*, model: str, seed: int) -> None:
    """Last: make the U-Net's int8 graph and store it if it finds what f32 finds.

    Whole runs on simulated recordings decide: masks and maps must agree with those of f32 to an SDC
    of 0.98, and the mean SDC with the truth may not fall by more than 0.005.
    """
    from pathlib import Path

    from cocuyo.core import SettingsError

    training = _training()
    with training.open_team() as team:
        if team.size > 1:
            msg = "`train quantise` is the work of one process; start it without torchrun."
            raise SettingsError(msg)
    with ProgressPrinter() as progress:
        checks = training.quantise(Path(model), seed=seed, progress=progress)
    for name, found in checks.items():
        calls = "; ".join(f"{ms:.1f} ms at {what}" for what, ms in found.call_ms.items())
        click.echo(
            f"{name}: SDC of masks with f32 {found.mask_sdc:.4f}, of maps {found.map_sdc:.4f}, of "
            f"masks with the truth {found.truth_sdc:.4f} ({len(found.rows)} recordings); a call "
            f"of the U-Net {calls}."
        )
    click.echo(f"int8 may be used; its graph lies in {model}.")


if __name__ == "__main__":
    main()

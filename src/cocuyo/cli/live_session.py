"""The command ``cocuyo live``: its source, its dashboard, and how it ends."""

import hashlib
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TextIO

import click

from cocuyo.core import ProgressCallback, RecordingError, Result, ResultError, SettingsError
from cocuyo.io import check_destination, file_identity, work_folder
from cocuyo.io.live import GrowingFolder, GrowingTiff, LiveSource, Replay
from cocuyo.io.livefolder import LiveFolder, live_folder, read_record
from cocuyo.io.results import RUN_FILE, alone_in, remove
from cocuyo.io.spool import FRAMES_FILE, TIMES_FILE
from cocuyo.io.streams import is_stream, open_stream
from cocuyo.pipeline import with_inputs
from cocuyo.pipeline.live import Followed, LiveOptions, LiveStatus, complete, follow

_IDLE_S = 10.0
"""A growing file or folder ends when nothing came for so long, unless the user says otherwise."""


@dataclass(frozen=True)
class LiveRequest:
    """What the command line asks for.

    Attributes
    ----------
    source : str
        File, folder or address.
    folder : Path
        Result folder.
    options : LiveOptions
        How the frames are analysed.
    key : dict
        What a second start must have in common with the first.
    replay : callable or None
        Opens the recording to be replayed.
    replay_rate_hz : float or None
        At which rate; None for its own.
    frame_rate_hz, pixel_size_um : float or None
        In place of what the source says.
    reading : dict
        How files are opened again: `cocuyo.io.READING_CHOICES`.
    channel, plane : int or None
        Of a growing TIFF.
    finish : bool
        Close an interrupted recording with the frames that are there.
    keep_frames : bool or None
        Whether the frames stay when the result is made; None: those of streams do.
    overwrite : bool
        Replace an earlier result.
    inputs : tuple of str
        Files that are read and must not be replaced.
    """

    source: str
    folder: Path
    options: LiveOptions
    key: dict[str, Any]
    replay: Callable[[], Any] | None
    replay_rate_hz: float | None
    reading: dict[str, Any]
    frame_rate_hz: float | None
    pixel_size_um: float | None
    channel: int | None
    plane: int | None
    finish: bool
    keep_frames: bool | None
    overwrite: bool
    inputs: tuple[str, ...]


def run_live(
    request: LiveRequest,
    *,
    summary: Callable[[Result, Path], str],
    progress: Callable[[], Any],
    stream: TextIO | None = None,
) -> None:
    """Record, analyse and complete.

    Parameters
    ----------
    request : LiveRequest
        What to do.
    summary : callable
        Puts a result into words.
    progress : callable
        Makes a context manager that gives a progress callback.
    stream : file, optional
        Where the dashboard is shown; stderr by default.

    Raises
    ------
    ResultError
        If another program records into the same folder, or something else is in the way.
    """
    path = live_folder(request.folder)
    with alone_in(path):
        _record_and_complete(path, request, summary=summary, progress=progress, stream=stream)


def _record_and_complete(
    path: Path,
    request: LiveRequest,
    *,
    summary: Callable[[Result, Path], str],
    progress: Callable[[], Any],
    stream: TextIO | None,
) -> None:
    record = read_record(path)
    if record is not None and _is_complete(request.folder, record):
        _tidy(path, record, request)
        click.echo(f"The recording is complete: {request.folder}")
        return
    check_destination(request.folder, request.overwrite, inputs=request.inputs)
    record = _make_room(path, record, request)
    if request.finish and record is None:
        msg = f"{path} does not exist: there is no interrupted recording to complete."
        raise ResultError(msg)
    source = None
    if not request.finish and (record is None or record.get("status") != "recorded"):
        source = _open_source(request)
    folder = LiveFolder(path, request.key)
    address = str(getattr(source, "address", request.source))
    with Dashboard(stream) as dashboard, _ctrl_c_stops() as stopped:
        if folder.resumed:
            dashboard.say(f"{path} holds a recording that was interrupted; it goes on.")
        if hasattr(source, "address"):
            dashboard.say(f"Waiting for frames at {address}")
        followed = follow(
            source, folder, request.options, address=address, show=dashboard, stopped=stopped
        )
    if followed.n_frames == 0:
        folder.delete()
        msg = f"No frame came from {address}."
        raise RecordingError(msg)
    click.echo(_words(followed, folder))
    if not request.options.spool:
        folder.write(status="provisional")
        click.echo(
            f"The frames were not kept (--no-spool): what was found is provisional, in {path}"
        )
        return
    folder.write(status="recorded")
    with work_folder(request.folder, overwrite=request.overwrite) as work, progress() as shown:
        result = _complete(followed, request, folder, work, shown)
        saved = result.save(request.folder, overwrite=request.overwrite)
    _tidy(path, folder.record, request)
    click.echo(summary(result, saved))


def _complete(
    followed: Followed,
    request: LiveRequest,
    folder: LiveFolder,
    work: Path,
    progress: ProgressCallback,
) -> Result:
    result = complete(followed, request.options, work=work, progress=progress)
    assert followed.recording is not None
    paths: tuple[str, ...] = followed.recording.paths
    reading = {**request.reading, "frames": _frames_read(followed, request.reading["frames"])}
    if not all(Path(path).exists() for path in paths):
        # The kept frames are those that were chosen, and no others.
        paths, reading = (str(folder.path / FRAMES_FILE),), {}
    session = {"session": folder.record["session"]}
    inputs = tuple({**one, **session} for one in file_identity(paths))
    return with_inputs(result, inputs, reading=reading)


def _frames_read(
    followed: Followed, asked: tuple[int | None, int | None] | None
) -> tuple[int | None, int | None] | None:
    """Say which frames of the files were analysed, where these may hold more."""
    promised = None if followed.facts is None else followed.facts.n_frames
    first = (0 if asked is None else asked[0]) or 0
    if followed.n_frames == promised or first < 0:
        return asked
    return (first, first + followed.n_frames)


def _is_complete(folder: Path, record: dict[str, Any]) -> bool:
    """Say whether the result folder was made of this very recording."""
    import json

    try:
        made = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        sessions = [one.get("session") for one in made["inputs"]]
        return made["status"] == "complete" and record.get("session") in sessions
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _tidy(path: Path, record: dict[str, Any], request: LiveRequest) -> None:
    """Mark a recording as complete; frames that lie in files of their own are not kept twice."""
    from cocuyo.io.atomic import write_json

    paths = record.get("facts", {}).get("paths")
    from_files = bool(paths) and all(Path(path).exists() for path in paths)
    keep = not from_files if request.keep_frames is None else request.keep_frames
    write_json(path / "live.json", {**record, "status": "complete"})
    (path / "first_pass.npz").unlink(missing_ok=True)
    if not keep:
        for name in (FRAMES_FILE, TIMES_FILE):
            (path / name).unlink(missing_ok=True)


def _make_room(
    path: Path, record: dict[str, Any] | None, request: LiveRequest
) -> dict[str, Any] | None:
    """Remove what an earlier, finished recording left, where that may be done."""
    if record is None:
        return None
    status = record.get("status")
    if status == "recording" and record.get("key", {}).get("spool", True):
        return record
    if status == "recorded":
        return record
    if not request.overwrite and status != "recording":
        msg = f"{path} exists; choose another folder with --out, or replace it with --overwrite."
        raise ResultError(msg)
    if (path / FRAMES_FILE).exists() and not record.get("facts", {}).get("paths"):
        msg = (
            f"{path / FRAMES_FILE} holds the frames of an earlier recording, perhaps the only "
            "copy; move the folder away, or choose another one with --out."
        )
        raise ResultError(msg)
    remove(path)
    return None


def _open_source(request: LiveRequest) -> LiveSource:
    rate, size = request.frame_rate_hz, request.pixel_size_um
    if is_stream(request.source):
        return open_stream(request.source, frame_rate_hz=rate, pixel_size_um=size)
    if request.replay is not None:
        return Replay(request.replay(), rate_hz=request.replay_rate_hz)
    path = Path(request.source)
    if path.is_dir() or (not path.exists() and not path.suffix):
        return GrowingFolder(path, frame_rate_hz=rate, pixel_size_um=size)
    return GrowingTiff(
        path,
        frame_rate_hz=rate,
        pixel_size_um=size,
        channel=request.channel,
        plane=request.plane,
    )


def usual_idle_s(source: str, *, replay: bool) -> float:
    """Say after how long a silence a recording ends, where the user did not.

    Parameters
    ----------
    source : str
        File, folder or address.
    replay : bool
        Whether it is a finished recording.

    Returns
    -------
    float
        Seconds; 0 for never.
    """
    return 0.0 if replay or is_stream(source) else _IDLE_S


def digest_of(path: str | None) -> str | None:
    """Name a file by its content.

    Parameters
    ----------
    path : str or None
        The file.

    Returns
    -------
    str or None
        Start of its SHA-256; None without a file.
    """
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}."
        raise SettingsError(msg) from error


def _words(followed: Followed, folder: LiveFolder) -> str:
    latency, delay = followed.latency, folder.record.get("delay", {})
    lines = [
        f"{followed.n_frames} frames received, {followed.n_dropped} dropped; "
        f"{followed.n_rois} provisional ROIs, {followed.n_events} events."
    ]
    if latency["n_frames"]:
        lines.append(
            f"Latency over {latency['n_frames']} frames (after the start): "
            f"p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms, "
            f"largest {latency['max_ms']} ms."
        )
    if "events_s" in delay:
        lines.append(
            f"Algorithmic delay: events {delay['events_s']:g} s (lag of the causal filter), maps "
            f"{delay['maps_s']:g} s (one step), events of a new ROI up to {delay['rois_s']:g} s "
            "(search and warm-up)."
        )
    return "\n".join(lines)


@contextmanager
def _ctrl_c_stops() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C end the recording, so that its result is made; a second stops all."""
    asked = threading.Event()

    def ask(signum: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


class Dashboard:
    """Shows where a live recording stands: some lines that are rewritten, or plain ones.

    Parameters
    ----------
    stream : file, optional
        Where to write; stderr by default.
    plain_interval_s : float, default: 10.0
        Time between two lines where the stream is no terminal, in seconds.
    """

    def __init__(self, stream: TextIO | None = None, *, plain_interval_s: float = 10.0) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._interval_s = plain_interval_s
        self._began_s = time.monotonic()
        self._shown_s = -math.inf
        self._stage = ""
        self._n_lines = 0

    def __enter__(self) -> "Dashboard":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._n_lines = 0

    def say(self, text: str) -> None:
        """Write a line that stays.

        Parameters
        ----------
        text : str
            The line.
        """
        self._stream.write(text + "\n")
        self._stream.flush()
        self._n_lines = 0

    def __call__(self, status: LiveStatus) -> None:
        """Show a status.

        Parameters
        ----------
        status : LiveStatus
            Where the recording stands.
        """
        now = time.monotonic()
        if not self._rewrites:
            if status.stage == self._stage and now - self._shown_s < self._interval_s:
                return
            self._stage, self._shown_s = status.stage, now
            self.say(_one_line(status))
            return
        width = max(20, shutil.get_terminal_size().columns - 1)
        lines = [line[:width] for line in _many_lines(status, now - self._began_s)]
        up = f"\x1b[{self._n_lines}A" if self._n_lines else ""
        self._stream.write(up + "".join(f"\r\x1b[2K{line}\n" for line in lines))
        self._stream.flush()
        self._n_lines = len(lines)


def _latency_words(status: LiveStatus) -> str:
    latency = status.latency
    if latency is None or not latency["n_frames"]:
        return "latency not known yet"
    return (
        f"latency p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms, "
        f"largest {latency['max_ms']} ms"
    )


def _one_line(status: LiveStatus) -> str:
    total = "" if status.n_promised is None else f" of {status.n_promised}"
    return (
        f"{status.stage}: {status.n_received}{total} frames, "
        f"{status.n_received - status.n_analysed} waiting, {status.n_dropped} dropped, "
        f"{status.n_rois} ROIs, {status.n_events} events, {_latency_words(status)}"
    )


def _many_lines(status: LiveStatus, elapsed_s: float) -> list[str]:
    minutes, seconds = divmod(int(elapsed_s), 60)
    size = "" if status.frame_shape is None else "   {} x {}".format(*status.frame_shape)
    rate = "" if status.rate_hz is None else f", {status.rate_hz:g} Hz"
    total = "" if status.n_promised is None else f" of {status.n_promised}"
    events = list(status.last_events)[::-1] or ["none yet"]
    return [
        f"{status.stage:<12}{status.address}{size}{rate}   {minutes}:{seconds:02d}",
        f"{'frames':<12}{status.n_received}{total} received, {status.n_analysed} analysed, "
        f"{status.n_received - status.n_analysed} waiting, {status.n_dropped} dropped",
        f"{'latency':<12}{_latency_words(status).removeprefix('latency ')}",
        f"{'found':<12}{status.n_rois} ROIs, {status.n_events} events (provisional)",
        f"{'events':<12}{events[0]}",
        *(f"{'':<12}{event}" for event in [*events[1:], "", "", ""][:3]),
        "Ctrl-C ends the recording and makes the final result.",
    ]

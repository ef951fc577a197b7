"""A recording or experiment of a batch in a process of its own: ``python -m cocuyo.batch.work``.

The process reads its task as one line of JSON, and writes lines of JSON: progress, and at last the
outcome. Its stdin stays open while the one who started it lives; when it closes, the process ends,
so that no work goes on for nobody.
"""

import errno
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from cocuyo import __version__
from cocuyo.batch.identity import hash_content, join_hashes, stamp_files
from cocuyo.batch.settings import Reading, Task, record_path, result_path
from cocuyo.core import CocuyoError, Progress, ProgressCallback, Recording, ignore_progress

FORMAT = "cocuyo-batch-record"
Kind = Literal["done", "recording", "bug", "memory", "died", "stop"]
"""How an attempt ended: done; the recording or its settings cannot be used; an error of cocuyo; not
enough memory; the process died; nothing can go on (a full disk, a folder that is not shared)."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
# A disk with less than this is full: a small result folder needs about a megabyte.
_ROOM_BYTES = 4_000_000


def perform(task: Task, *, progress: ProgressCallback = ignore_progress) -> dict[str, Any]:
    """Analyse a recording or experiment and put its result and its record in their places.

    The result is made in a folder of this attempt alone and moved to its place at the end, so that
    two attempts (a worker that was given up, but lived) cannot disturb each other. The maps of the
    first pass are kept in a place that the next attempt knows.

    Parameters
    ----------
    task : Task
        What to do.
    progress : callable, optional
        Called as the work goes on.

    Returns
    -------
    dict
        The record, plain JSON: ``kind`` (see `Kind`), ``error`` in one line, ``log`` for a bug, and
        where it is finished its ``figures``, and for each of its ``recordings`` figures and ROIs.
    """
    started = time.time()
    record: dict[str, Any] = {
        "format": FORMAT,
        "name": task.name,
        "paths": task.paths,
        "settings_key": task.settings_key,
        "stamp": stamp_files(task.paths),
        "cocuyo": __version__,
        "host": socket.gethostname(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        _check_worker(task)
        record |= {"kind": "done", "error": "", **_analyse(task, record, started, progress)}
    except Exception as error:
        record |= _failure(error, Path(task.folder))
        # The next start compares with it; the disk may be slow, but it is read only after failures.
        record["content"] = hash_content(task.paths) if record["kind"] != "stop" else ""
        record["seconds"] = round(time.time() - started, 3)
    return record


class _Stop(Exception):  # noqa: N818 - an outcome
    """Nothing else can work either."""


def _check_worker(task: Task) -> None:
    if not (Path(task.folder) / "batch.json").is_file():
        msg = (
            f"{task.folder} is not seen on {socket.gethostname()}; --out must lie in a folder that "
            "all workers share under the same path."
        )
        raise _Stop(msg)
    if task.version != __version__:
        msg = (
            f"The worker on {socket.gethostname()} has cocuyo {__version__}, this machine "
            f"{task.version}; install the same version on all."
        )
        raise _Stop(msg)


def describe_error(error: BaseException) -> str:
    """Say in one line why a recording could not be analysed.

    Parameters
    ----------
    error : BaseException
        What was raised.

    Returns
    -------
    str
        A line.
    """
    text = str(error)
    if isinstance(error, OSError):
        text = error.strerror or text or type(error).__name__
        text += f": {error.filename}" if error.filename is not None else ""
    elif isinstance(error, MemoryError):
        text = f"Not enough memory. {error}"
    elif not isinstance(error, CocuyoError | _Stop):
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _failure(error: Exception, folder: Path) -> dict[str, Any]:
    kind: Kind = "bug"
    text, log = describe_error(error), ""
    if isinstance(error, _Stop):
        kind = "stop"
    elif disk_is_full(folder, error):
        kind, text = "stop", f"The disk of {folder} is full ({text.rstrip('.')})"
    elif isinstance(error, CocuyoError | OSError):
        kind = "recording"
    elif isinstance(error, MemoryError):
        kind = "memory"
    else:
        log = "".join(traceback.format_exception(error))
    return {"kind": kind, "error": text, "log": log}


def disk_is_full(folder: Path, error: BaseException | None = None) -> bool:
    """Say whether there is no room left, now or when an error was raised.

    Parameters
    ----------
    folder : Path
        Where there should be room.
    error : BaseException, optional
        What was raised; by now its half-written files may be gone.

    Returns
    -------
    bool
        True where nothing can go on.
    """
    cause = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if "No space left" in str(cause) or "errno = 28" in str(cause):  # as HDF5 words it
            return True
        cause = cause.__cause__ or cause.__context__
    try:
        return shutil.disk_usage(folder).free < _ROOM_BYTES
    except OSError:
        return False


def _analyse(
    task: Task, record: dict[str, Any], started: float, progress: ProgressCallback
) -> dict[str, Any]:
    from cocuyo.batch.measures import measure_recordings, measure_result
    from cocuyo.io import READING_CHOICES, inputs_of, read_exclusion
    from cocuyo.io.atomic import write_json
    from cocuyo.io.results import put_in_place, remove
    from cocuyo.pipeline import PipelineConfig, segment, segment_experiment, with_inputs
    from cocuyo.report import draw_thumbnail

    folder, place = Path(task.folder), record_path(Path(task.folder), task.name)
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recordings = open_task(task)
        shape = recordings[0].frame_shape
        exclude = None if task.exclude is None else read_exclusion(task.exclude, shape)
        work = place.with_suffix("") / "work"
        work.mkdir(parents=True, exist_ok=True)
        how: dict[str, Any] = {
            "preset": task.preset,
            "model": task.model,
            "config": PipelineConfig.model_validate(task.config),
            "exclude": exclude,
            "n_threads": task.n_threads,
            "seed": task.seed,
            "work": work,
            "progress": progress,
        }
        result = (
            segment(recordings[0], **how)
            if len(recordings) == 1
            else segment_experiment(recordings, **how)
        )
        told += [str(warning.message) for warning in caught]
    progress(Progress("writing", 0, 1))
    readings = [recording["reading"] for recording in task.recordings]
    choices = {name: readings[0][name] for name in READING_CHOICES}  # alike, but for the frames
    frames = [reading["frames"] for reading in readings]
    if any(one != frames[0] for one in frames):
        choices["frames"] = None
    inputs = inputs_of(result, recordings, frames=frames if choices["frames"] is None else ())
    if stamp_files(task.paths) != record["stamp"]:
        what = "The recording" if len(recordings) == 1 else "A recording of the experiment"
        msg = f"{what} changed while it was read; start the batch again when it is complete."
        raise CocuyoError(msg)
    result = with_inputs(result, inputs, reading=choices)
    final = result_path(folder, task.name)
    final.parent.mkdir(parents=True, exist_ok=True)
    private = final.with_name(f".{task.name}-{secrets.token_hex(4)}")
    thumbnail = draw_thumbnail(result)
    found = {
        "content": join_hashes(inputs),
        "figures": measure_result(result, seed=task.seed),
        "recordings": measure_recordings(result, seed=task.seed),
        "warnings": [*told, *result.info.warnings],
        "timings_s": result.info.timings_s,
        "peak_memory_mb": result.info.peak_memory_mb,
        "expected_s": task.expected_s,
        "engine": f"{result.info.engine} {result.info.precision}",
        "thumbnail": thumbnail,
    }
    try:
        result.save(private)
        put_in_place(private, final)
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise
    found["seconds"] = round(time.time() - started, 3)
    write_json(place, {**record, "kind": "done", "error": "", **found})
    remove(place.with_suffix(""))
    progress(Progress("writing", 1, 1))
    return found


def open_task(task: Task) -> list[Recording]:
    """Open the recordings of a task.

    Parameters
    ----------
    task : Task
        The task.

    Returns
    -------
    list of Recording
        One, or those of an experiment in order; read lazily.

    Raises
    ------
    RecordingError
        If one cannot be used as it is.
    """
    from cocuyo.io import open_recording

    opened = []
    for recording in task.recordings:
        paths = recording["paths"]
        reading = Reading.model_validate(recording["reading"]).model_dump()
        several = len(paths) > 1
        opened.append(open_recording(paths if several else paths[0], **reading, join=several))
    return opened


# --- The process -------------------------------------------------------------------------------


def main() -> None:
    """Analyse what stdin names; the outcome is the last line of stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the affair of the one who started us
    task = Task(**json.loads(_first_line(0)))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the log

    import cv2

    cv2.setNumThreads(task.n_threads)  # one process of several
    last = 0.0

    def progress(report: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.5 or report.done >= report.total:
            last = now
            _write(lines, {"stage": report.stage, "done": report.done, "total": report.total})

    outcome = perform(task, progress=progress)
    _write(lines, {"outcome": outcome})


def _write(lines: Any, content: dict[str, Any]) -> None:
    from cocuyo.io.atomic import plain

    lines.write(json.dumps(plain(content), separators=(",", ":")) + "\n")
    lines.flush()


def _first_line(descriptor: int) -> bytes:
    found = b""
    while not found.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece:
            sys.exit("cocuyo.batch.work reads its task from stdin; it is started by cocuyo batch.")
        found += piece
    return found


def _end_with_parent() -> None:
    # Read without a buffer: a lock of one, held at the end of the process, would be fatal.
    while os.read(0, 1):
        pass
    os._exit(143)


if __name__ == "__main__":
    main()

"""The folder that a person opened: what lies in it, recordings inspected, runs started from it."""

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_args

from cocuyo.core import Cancelled, CocuyoError, Progress
from cocuyo.io import (
    READING_CHOICES,
    check_destination,
    file_identity,
    inspect_recording,
    is_result,
    open_recording,
    work_folder,
)
from cocuyo.io.atomic import plain
from cocuyo.io.export import export_names
from cocuyo.io.readers import recording_suffixes
from cocuyo.io.sources import natural_key
from cocuyo.pipeline import PresetName, load_model, segment, with_inputs
from cocuyo.server.web import Request, RequestError

_MOST_ENTRIES = 2000
_PRESETS: tuple[PresetName, ...] = get_args(PresetName)


@dataclass
class Job:
    """A run that was started from the page.

    Attributes
    ----------
    key : str
        Its name.
    recording : str
        What is analysed, relative to the folder.
    state : str
        ``running``, ``done``, ``failed`` or ``stopped``.
    stage : str
        What it does now.
    done, total : int
        Units of that stage.
    started_s, stage_started_s : float
        When, on a clock that only runs forward.
    message : str
        Why it failed, or what it found.
    warnings : tuple of str
        What the run warns of.
    result : str
        The result folder, relative to the folder, once it is there.
    """

    key: str
    recording: str
    state: str = "running"
    stage: str = "setting up"
    done: int = 0
    total: int = 1
    started_s: float = field(default_factory=time.monotonic)
    stage_started_s: float = field(default_factory=time.monotonic)
    finished_s: float | None = None
    message: str = ""
    warnings: tuple[str, ...] = ()
    result: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def report(self, progress: Progress) -> None:
        """Take a progress report; stops the run where that was asked for.

        Parameters
        ----------
        progress : Progress
            Where a stage stands.

        Raises
        ------
        Cancelled
            If the run shall stop.
        """
        if self.stop.is_set():
            raise Cancelled
        if progress.stage != self.stage:
            self.stage, self.stage_started_s = progress.stage, time.monotonic()
        self.done, self.total = progress.done, max(progress.total, 1)

    def describe(self) -> dict[str, Any]:
        """Say where it stands.

        Returns
        -------
        dict
            Plain JSON, with the seconds left in this stage where they can be told.
        """
        now = time.monotonic() if self.finished_s is None else self.finished_s
        in_stage = now - self.stage_started_s
        left = None
        if self.state == "running" and self.done and in_stage > 1:
            left = in_stage * (self.total - self.done) / self.done
        return {
            "key": self.key,
            "recording": self.recording,
            "state": self.state,
            "stage": self.stage,
            "share": self.done / self.total,
            "elapsed_s": now - self.started_s,
            "left_s": left,
            "message": self.message,
            "warnings": list(self.warnings),
            "result": self.result,
        }


class Workspace:
    """A folder of which, and of nothing beside it, the page may see and read.

    Parameters
    ----------
    root : Path
        The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def locate(self, relative: str) -> Path:
        """Turn what the page says into a path within the folder.

        Parameters
        ----------
        relative : str
            Parts with slashes between them; empty for the folder itself.

        Returns
        -------
        Path
            An existing path, links followed.

        Raises
        ------
        RequestError
            If it lies elsewhere, by a link too, or is not there.
        """
        outside = RequestError(
            HTTPStatus.FORBIDDEN,
            f"Only what lies in {self.root} is shown; start cocuyo view with another folder.",
        )
        given = Path(relative)
        if given.is_absolute() or given.drive or "\\" in relative or ".." in given.parts:
            raise outside
        try:
            path = (self.root / given).resolve()
        except (OSError, RuntimeError, ValueError):
            raise outside from None
        if not path.is_relative_to(self.root):
            raise outside
        if not path.exists():
            raise RequestError(HTTPStatus.NOT_FOUND, f"{relative} is not there (any longer).")
        return path

    def name(self, path: Path) -> str:
        """Say where a path lies, relative to the folder.

        Parameters
        ----------
        path : Path
            A path in it.

        Returns
        -------
        str
            With slashes between its parts; empty for the folder itself.
        """
        relative = path.relative_to(self.root).as_posix()
        return "" if relative == "." else relative

    def browse(self, relative: str) -> dict[str, Any]:
        """List recordings, results and folders.

        Parameters
        ----------
        relative : str
            A folder.

        Returns
        -------
        dict
            Plain JSON; hidden files, unfinished results and exports are left out.
        """
        folder = self.locate(relative)
        if not folder.is_dir():
            raise RequestError(HTTPStatus.BAD_REQUEST, f"{relative} is not a folder.")
        entries = []
        try:
            listed = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name))
        except OSError as error:
            msg = f"{relative or self.root} cannot be listed: {error.strerror}."
            raise RequestError(HTTPStatus.FORBIDDEN, msg) from None
        suffixes = recording_suffixes()
        exports = {
            name
            for entry in listed
            if entry.is_dir() and is_result(Path(entry.path))
            for name in export_names(entry.path)
        }
        for entry in listed[:_MOST_ENTRIES]:
            kind = "" if entry.name in exports else self._kind(entry, suffixes)
            if kind:
                size = None
                with contextlib.suppress(OSError):
                    size = entry.stat().st_size if kind == "recording" and entry.is_file() else None
                name = "/".join(part for part in (relative.strip("/"), entry.name) if part)
                entries.append({"name": entry.name, "path": name, "kind": kind, "bytes": size})
        return {
            "root": str(self.root),
            "path": self.name(folder),
            "entries": entries,
            "left_out": max(0, len(listed) - _MOST_ENTRIES),
        }

    def _kind(self, entry: "os.DirEntry[str]", suffixes: frozenset[str]) -> str:
        """Say what an entry is: ``result``, ``folder``, ``recording``, or nothing to show."""
        path = Path(entry.path)
        hidden = entry.name.startswith(".") or entry.name.endswith((".partial", ".old"))
        with contextlib.suppress(OSError):
            if hidden or not path.resolve().is_relative_to(self.root):
                return ""
            suffix = path.suffix.lower()
            if entry.is_dir():
                if is_result(path):
                    return "result"
                return "recording" if suffix == ".zarr" else "folder"
            return "recording" if suffix in suffixes else ""
        return ""

    def inspect(self, request: Request) -> dict[str, Any]:
        """Say what is in a recording and what is missing.

        Parameters
        ----------
        request : Request
            With ``path`` and reading options.

        Returns
        -------
        dict
            Plain JSON.
        """
        path = self._recording(request)
        facts = inspect_recording(path, **self._reading(request))
        folder = _result_folder(path)
        return {
            "facts": plain(asdict(facts)),
            "path": self.name(path),
            "out": folder.name,
            "exists": folder.exists(),
        }

    def _recording(self, request: Request) -> Path:
        """Find the recording of a request; its result has its place within the folder too."""
        path = self.locate(request.text("path"))
        if path == self.root:
            msg = (
                f"Start cocuyo view in {self.root.parent} to take {self.root.name} as a recording."
            )
            raise RequestError(HTTPStatus.FORBIDDEN, msg)
        return path

    def _reading(self, request: Request) -> dict[str, Any]:
        chosen: dict[str, Any] = {
            name: request.number(name) for name in ("frame_rate_hz", "pixel_size_um", "diameter_um")
        }
        for name in ("dataset", "axes"):
            chosen[name] = request.text(name, default="").strip() or None
        for name in ("channel", "plane"):
            value = request.body.get(name)
            if value is not None and (type(value) is not int or not 0 <= value < 10**6):
                msg = f"{name} is {value!r}; it must be a whole number from 0 on."
                raise RequestError(HTTPStatus.BAD_REQUEST, msg)
            chosen[name] = value
        return chosen

    def start(self, request: Request) -> Job:
        """Start a run; one at a time.

        Parameters
        ----------
        request : Request
            With ``path``, reading options, ``preset`` and ``overwrite``.

        Returns
        -------
        Job
            The run.
        """
        path = self._recording(request)
        preset = request.text("preset", default="default")
        if preset not in _PRESETS:
            msg = f"preset is {preset!r}; it must be one of {', '.join(_PRESETS)}."
            raise RequestError(HTTPStatus.BAD_REQUEST, msg)
        reading = self._reading(request)
        overwrite = request.body.get("overwrite") is True
        folder = check_destination(_result_folder(path), overwrite, inputs=[path])
        open_recording(path, **reading).rate_hz  # noqa: B018 - raises where no rate is known
        with self._lock:
            if any(job.state == "running" for job in self._jobs.values()):
                msg = "A recording is being analysed; wait until it is done, or stop it."
                raise RequestError(HTTPStatus.CONFLICT, msg)
            job = Job(secrets.token_hex(8), self.name(path))
            self._jobs[job.key] = job

        def work() -> None:
            job.message = _run(path, folder, preset, reading, overwrite, job)
            job.result = self.name(folder)

        threading.Thread(target=_guarded, args=(job, work), daemon=True).start()
        return job

    def job(self, key: str) -> Job:
        """Find a run.

        Parameters
        ----------
        key : str
            Its name.

        Returns
        -------
        Job
            The run.
        """
        if key not in self._jobs:
            raise RequestError(HTTPStatus.NOT_FOUND, "There is no such run.")
        return self._jobs[key]

    def running(self) -> Iterator[Job]:
        """Give the runs that have not ended.

        Yields
        ------
        Job
            Each of them.
        """
        yield from (job for job in self._jobs.values() if job.state == "running")


def _result_folder(path: Path) -> Path:
    """Name the result folder beside a recording, as ``cocuyo run`` does."""
    return path.parent / f"{path.name if path.is_dir() else path.stem}.cocuyo"


def _guarded(job: Job, work: Callable[[], None]) -> None:
    """Do the work of a run and note how it ended."""
    try:
        work()
        state = "done"
    except Cancelled:
        state, job.message = "stopped", "Stopped; nothing was written."
    except (CocuyoError, OSError, MemoryError) as error:
        state, job.message = "failed", str(error) or type(error).__name__
    except Exception:
        state, job.message = "failed", "cocuyo failed; the terminal in which it runs says more."
        raise
    finally:
        job.finished_s = time.monotonic()
        job.state = state if "state" in locals() else "failed"


def _run(
    path: Path,
    folder: Path,
    preset: PresetName,
    reading: dict[str, Any],
    overwrite: bool,
    job: Job,
) -> str:
    recording = open_recording(path, **reading)
    config = load_model(preset).settings.pipeline
    with work_folder(folder, overwrite=overwrite) as work:
        result = segment(recording, preset=preset, config=config, work=work, progress=job.report)
        job.report(Progress("writing the result", 0, 1))
        choices = {name: reading.get(name) for name in READING_CHOICES}
        result = with_inputs(result, file_identity(recording.paths), reading=choices)
        result.save(folder, overwrite=overwrite)
    job.warnings = result.info.warnings
    n = int(result.rois.accepted.sum())
    return f"{n} functional {'neuron' if n == 1 else 'neurons'} of {len(result.rois)} candidates."

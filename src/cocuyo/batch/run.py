"""The batch itself: hand out recordings, take back what was found, keep the pages up to date."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cocuyo import __version__
from cocuyo.batch.executors import Executor, ExecutorLostError
from cocuyo.batch.identity import hash_content, stamp_files
from cocuyo.batch.lock import hold_folder
from cocuyo.batch.plan import Planned
from cocuyo.batch.settings import RECORDS, RESULTS, Task, record_path
from cocuyo.batch.tables import forget, state_of, write_pages
from cocuyo.batch.work import FORMAT as RECORD_FORMAT
from cocuyo.batch.work import disk_is_full
from cocuyo.core import CocuyoError, Progress, ResultError
from cocuyo.io.atomic import write_json
from cocuyo.io.results import cannot_write, check_writable
from cocuyo.pipeline import LAST_STAGE

BATCH_FILE, BATCH_FORMAT = "batch.json", "cocuyo-batch"
_TRIES = 3
"""Attempts at a recording whose process dies: twice may be chance."""
_PAGES_S = 60.0
_NAMED = 5  # results that a sentence names
_SEGMENTING = 0.8  # share of a recording's work after which the first pass is over, roughly


class BatchStoppedError(CocuyoError):
    """The batch ended before its end; what is done is kept, and the next start goes on."""


@dataclass(frozen=True)
class Snapshot:
    """Where a batch stands.

    Attributes
    ----------
    n_all, n_done, n_failed : int
        Recordings in all, finished (now or before), failed.
    running : dict of str to Progress
        What is being analysed: a recording, or one of an experiment after the other.
    n_slots : int
        How much can be at the same time, as far as is known.
    elapsed_s : float
        Since the start, in seconds.
    left_s : float or None
        Expected time to the end; None where nothing tells.
    news : tuple of str
        What has ended since the last time, a line each.
    """

    n_all: int
    n_done: int
    n_failed: int
    running: dict[str, Progress]
    n_slots: int
    elapsed_s: float
    left_s: float | None
    news: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchCounts:
    """How a batch ended.

    Attributes
    ----------
    n_done, n_failed : int
        Recordings that are finished, and that failed, now or before.
    n_now : int
        Recordings that were analysed by this start.
    """

    n_done: int
    n_failed: int
    n_now: int


Show = Callable[[Snapshot], None]


def prepare_folder(folder: Path, sources: Sequence[Path]) -> Path:
    """Refuse a folder that cannot be that of a batch; nothing is made.

    Parameters
    ----------
    folder : Path
        Where the batch is to lie.
    sources : sequence of Path
        What is read; it must not lie in the folder.

    Returns
    -------
    Path
        The absolute path.

    Raises
    ------
    ResultError
        If it holds something else, lies where nothing can be written, or holds the recordings.
    """
    folder = check_writable(folder)
    if folder.exists() and not is_batch(folder) and any(folder.iterdir()):
        msg = (
            f"{folder} exists and holds no batch of cocuyo; give a new or empty folder with --out."
        )
        raise ResultError(msg)
    for source in sources:
        if source.resolve().is_relative_to(folder.resolve()):
            msg = f"{source} lies in {folder}; give a folder apart from the recordings with --out."
            raise ResultError(msg)
    return folder


def is_batch(folder: Path) -> bool:
    """Say whether a folder is that of a batch.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Returns
    -------
    bool
        True if its ``batch.json`` is ours.
    """
    with suppress(OSError):
        return f'"{BATCH_FORMAT}"' in (folder / BATCH_FILE).read_text("utf-8", "replace")[:200]
    return False


@contextmanager
def start_folder(folder: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """Make the folder of a batch, or take it up again, and keep other batches out of it.

    Parameters
    ----------
    folder : Path
        As `prepare_folder` gave it.
    facts : mapping
        What ``batch.json`` says besides: source, settings.

    Yields
    ------
    None
        While the batch is at work.

    Raises
    ------
    ResultError
        If it cannot be written, or another batch is at work in it.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    head = {"format": BATCH_FORMAT, "format_version": 1, "cocuyo": __version__, "started": now}
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold_folder(folder))
            for name in (RECORDS, RESULTS):
                (folder / name).mkdir(exist_ok=True)
            write_json(folder / BATCH_FILE, {**head, **facts})
            for left in (folder / RESULTS).iterdir():  # of a start that was killed
                if re.fullmatch(r"\..+-[0-9a-f]{8}(\.partial)?", left.name):
                    shutil.rmtree(left, ignore_errors=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        yield


@dataclass
class _Book:
    """What is known of each recording or experiment while the batch runs, by its name."""

    planned: Sequence[Planned]
    folder: Path
    records: dict[str, dict[str, Any]]
    tasks: dict[str, Task]
    waiting: set[str]
    tries: Counter[str] = field(default_factory=Counter)
    news: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_now: int = 0
    cost_done: float = 0.0

    def count(self) -> Counter[str]:
        """Count the recordings that are done and that failed."""
        found = Counter[str]()
        for p in self.planned:
            if p.name in self.records:
                found[state_of(self.records[p.name])] += p.n_recordings
        return found

    def take(self, name: str, record: dict[str, Any]) -> None:
        """Enter how an attempt ended; the worker itself has kept what it finished."""
        n_recordings = len(self.tasks[name].recordings)
        self.waiting.discard(name)
        self.n_now += n_recordings
        self.cost_done += self.tasks[name].cost
        if record["kind"] != "done":
            self.fail(name, record)
            return
        self.records[name] = record
        figures = record["figures"]
        told = len(record["warnings"])
        warned = f", {told} warning{'s' * (told > 1)}" if told else ""
        n = figures["n_neurons"]
        several = f" in {n_recordings} recordings" if n_recordings > 1 else ""
        self.news.append(
            f"{name}: {n} neuron{'s' * (n != 1)}, {figures['n_events']} events{several}, "
            f"{record['seconds']:.0f} s{warned}"
        )

    def fail(self, name: str, record: dict[str, Any]) -> None:
        task = self.tasks[name]
        record = {
            "format": RECORD_FORMAT,
            "stamp": stamp_files(task.paths),
            "cocuyo": __version__,
            **record,
        }
        record.setdefault("content", hash_content(task.paths))
        log = record.pop("log", "")
        self.records[name] = record
        self.news.append(f"{name} failed: {record['error']}")
        forget(self.folder, name)
        path = record_path(self.folder, name)
        if log:
            path.with_suffix(".log").write_text(log, encoding="utf-8", errors="replace")
        write_json(path, record)

    def pages(self) -> None:
        write_pages(self.folder, self.planned, self.records, notes=self.notes)

    def snapshot(self, executor: Executor | None, elapsed_s: float) -> Snapshot:
        running = executor.progress() if executor else {}
        n_slots = executor.n_slots() if executor else 1
        count = self.count()
        news, self.news = tuple(self.news), []
        left = self._left(running, n_slots, elapsed_s)
        return Snapshot(
            n_all=sum(p.n_recordings for p in self.planned),
            n_done=count["done"],
            n_failed=count["failed"],
            running=running,
            n_slots=n_slots,
            elapsed_s=elapsed_s,
            left_s=left,
            news=news,
        )

    def _left(
        self, running: Mapping[str, Progress], n_slots: int, elapsed_s: float
    ) -> float | None:
        to_do = sum(self.tasks[name].cost for name in self.waiting)
        half = sum(
            self.tasks[name].cost * share_done(progress)
            for name, progress in running.items()
            if name in self.waiting
        )
        done = self.cost_done + half
        if elapsed_s > 5 and done > 0.02 * (done + to_do):
            return elapsed_s * (to_do - half) / done
        return to_do / n_slots if n_slots else None


def share_done(progress: Progress) -> float:
    """Say which share of the work on a recording or experiment is done.

    Parameters
    ----------
    progress : Progress
        Where it stands.

    Returns
    -------
    float
        In [0, 1]; rough, since stages take unlike times.
    """
    of_experiment = re.fullmatch(r"(.+) \(recording (\d+) of (\d+)\)", progress.stage)
    stage = of_experiment[1] if of_experiment else progress.stage
    if stage in ("starting", "comparing fields"):
        return 0.0
    share = (1 + _SEGMENTING) / 2
    if stage == "segmenting":
        share = _SEGMENTING * progress.done / max(1, progress.total)
    if of_experiment and stage != LAST_STAGE:
        number, n = int(of_experiment[2]), int(of_experiment[3])
        share = _SEGMENTING * (number - 1 + share) / n
    return share


def run_batch(
    planned: Sequence[Planned],
    executor: Executor,
    *,
    folder: Path,
    n_threads: int,
    show: Show = lambda snapshot: None,
) -> BatchCounts:
    """Analyse what is to do and write the tables and pages of the batch.

    Parameters
    ----------
    planned : sequence of Planned
        From `plan_batch`.
    executor : Executor
        Who does it; it is told to end what runs when this ends, however that is.
    folder : Path
        The folder of the batch, which `start_folder` has made.
    n_threads : int
        Threads for each recording.
    show : callable, optional
        Called about twice a second; may raise to stop the work.

    Returns
    -------
    BatchCounts
        What is finished and what failed.

    Raises
    ------
    BatchStoppedError
        If nothing can go on: the disk is full, the scheduler has gone, the folder is not shared.
    """
    started = time.monotonic()
    to_do = [p for p in planned if p.state == "to do"]
    book = _Book(
        planned,
        folder,
        records={p.name: p.record for p in planned if p.record is not None and p.state != "to do"},
        tasks={p.name: replace(p.task, n_threads=n_threads) for p in planned},
        waiting={p.name for p in to_do},
        notes=_left_over(folder, planned),
    )
    try:
        try:
            for p in to_do:
                if p.problem:
                    book.take(p.name, _unreadable(book.tasks[p.name], p.problem))
            # The longest first: the last ones to end are then short.
            for name in sorted(book.waiting, key=lambda name: (-book.tasks[name].cost, name)):
                executor.submit(book.tasks[name])
            _serve(book, executor, started, show)
        finally:
            executor.cancel()
    except BaseException as error:
        with suppress(OSError):  # a full disk: the first error is the one to report
            book.pages()
        if isinstance(error, OSError):
            raise _stopped(book, f"{folder} cannot be written ({error.strerror})") from error
        if isinstance(error, ExecutorLostError):
            raise _stopped(book, str(error)) from error
        raise
    try:
        book.pages()
    except OSError as error:
        raise _stopped(book, f"{folder} cannot be written ({error.strerror})") from error
    show(book.snapshot(None, time.monotonic() - started))  # the executor has gone home
    count = book.count()
    return BatchCounts(count["done"], count["failed"], book.n_now)


def _left_over(folder: Path, planned: Sequence[Planned]) -> list[str]:
    """Name results of earlier starts that this one does not list: nothing is removed."""
    listed = {p.name for p in planned}
    found = (path.name for path in (folder / RESULTS).iterdir() if not path.name.startswith("."))
    names = sorted(name for name in found if name not in listed)
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [
        f"The folder {RESULTS} also holds results of earlier starts that are not listed here, as "
        "their recordings were not found or are analysed otherwise now: "
        f"{', '.join(names[:_NAMED])}{more}."
    ]


def _serve(book: _Book, executor: Executor, started: float, show: Show) -> None:
    """Take what ends until nothing is left to wait for."""
    written, fresh = started, False
    while book.waiting:
        for outcome in executor.wait(0.5):
            _take(book, executor, outcome.name, outcome.record)
            fresh = True
        book.news += executor.notices()
        now = time.monotonic()
        show(book.snapshot(executor, now - started))
        if fresh and now - written > _PAGES_S:
            book.pages()
            written, fresh = time.monotonic(), False


def _take(book: _Book, executor: Executor, name: str, record: dict[str, Any]) -> None:
    kind = record["kind"]
    if kind == "stop":
        raise _stopped(book, str(record["error"]).rstrip("."))
    if kind in ("died", "bug") and disk_is_full(book.folder):
        raise _stopped(book, f"The disk of {book.folder} is full")
    book.tries[name] += record.get("attempts", 1)
    if kind == "died" and book.tries[name] < _TRIES:
        book.news.append(f"{name} is done again: {record['error']}")
        executor.submit(book.tasks[name])
        return
    book.take(name, record)


def _unreadable(task: Task, problem: str) -> dict[str, Any]:
    return {
        "name": task.name,
        "paths": task.paths,
        "settings_key": task.settings_key,
        "kind": "recording",
        "error": problem,
    }


def _stopped(book: _Book, why: str) -> BatchStoppedError:
    n_all = sum(p.n_recordings for p in book.planned)
    return BatchStoppedError(
        f"{why}. {book.count()['done']} of {n_all} recordings are done and kept; start the same "
        "command again to go on."
    )

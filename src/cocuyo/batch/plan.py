"""What is to be done: which recordings, alone or together, why, with how much time and memory."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cocuyo import __version__
from cocuyo.batch.identity import hash_content, hash_settings, stamp_files
from cocuyo.batch.settings import Entry, Method, Task, record_path, result_path
from cocuyo.batch.work import FORMAT, describe_error, open_task
from cocuyo.core import CocuyoError, Progress, ProgressCallback, ignore_progress
from cocuyo.pipeline import expect, expected_cost, require_alike

State = Literal["done", "failed", "to do"]


@dataclass(frozen=True)
class Planned:
    """What makes one result, a recording or an experiment, and what is to be done with it.

    Attributes
    ----------
    entries : tuple of Entry
        The recording, or those of the experiment in order.
    state : {"done", "failed", "to do"}
        ``failed`` only where it failed before and nothing has changed since.
    why : str
        Why it is in this state, for people.
    task : Task
        As it goes to a worker.
    lengths : tuple of int
        Frames of each recording; empty where one could not be opened.
    n_rows, n_columns : int
        Size of a frame; 0 where it could not be opened.
    record : dict or None
        What is known of an earlier attempt.
    problem : str
        Why it cannot be analysed, as far as opening it tells; empty where it can.
    """

    entries: tuple[Entry, ...]
    state: State
    why: str
    task: Task
    lengths: tuple[int, ...] = ()
    n_rows: int = 0
    n_columns: int = 0
    record: dict[str, Any] | None = field(default=None, repr=False)
    problem: str = ""

    @property
    def name(self) -> str:
        """Name of the result."""
        return self.task.name

    @property
    def n_recordings(self) -> int:
        """Number of its recordings."""
        return len(self.entries)


def plan_batch(
    entries: Sequence[Entry],
    method: Method,
    *,
    folder: Path,
    retry_failed: bool = False,
    redo: bool = False,
    progress: ProgressCallback = ignore_progress,
) -> list[Planned]:
    """Decide for each recording or experiment whether it is done, failed or to do.

    Parameters
    ----------
    entries : sequence of Entry
        The recordings; those with the same `Entry.result` are one experiment.
    method : Method
        What is done with each.
    folder : Path
        The folder of the batch; it need not exist.
    retry_failed : bool, default: False
        Do again what failed.
    redo : bool, default: False
        Do everything again.
    progress : callable, optional
        Called for each result.

    Returns
    -------
    list of Planned
        In the order of the entries; an experiment where its first recording is.
    """
    results: dict[str, list[Entry]] = {}
    for entry in entries:
        results.setdefault(entry.result, []).append(entry)
    planned = []
    for number, members in enumerate(results.values()):
        progress(Progress("looking", number, len(results)))
        planned.append(_plan(tuple(members), method, folder, retry_failed, redo))
    progress(Progress("looking", len(results), len(results)))
    speed = measured_speed(p.record for p in planned)
    return [_with_cost(p, speed) for p in planned]


def _plan(
    entries: tuple[Entry, ...], method: Method, folder: Path, retry: bool, redo: bool
) -> Planned:
    key = hash_settings(entries, method)
    task = Task(
        folder=str(folder),
        name=entries[0].result,
        recordings=[
            {
                "name": entry.name,
                "paths": list(entry.paths),
                "reading": entry.reading.model_dump(mode="json"),
            }
            for entry in entries
        ],
        exclude=entries[0].exclude,
        preset=method.preset,
        model=method.model,
        config=method.config.model_dump(mode="json"),
        seed=method.seed,
        settings_key=key,
        n_threads=1,
        memory_mb=0.0,
        expected_s=0.0,
        cost=0.0,
        version=__version__,
    )
    record = read_record(folder, task.name)
    why = _why(record, task, key, folder)
    if not why and record is not None:
        done = record["kind"] == "done"
        if redo:
            why = "asked for again"
        elif not done and retry:
            why = "failed before"
        else:
            figures = record.get("figures", {})
            n_rows, n_columns = (int(figures.get(name, 0)) for name in ("n_rows", "n_columns"))
            lengths = tuple(
                int(each["figures"]["n_frames"]) for each in record.get("recordings", ())
            )
            state: State = "done" if done else "failed"
            return Planned(
                entries, state, record["error"], task, lengths, n_rows, n_columns, record
            )
    try:
        recordings = open_task(task)
        if len(recordings) > 1:
            require_alike(recordings)
        expected = [expect(recording, method.config) for recording in recordings]  # needs a rate
    except (CocuyoError, OSError) as error:
        return Planned(entries, "to do", why, task, record=record, problem=describe_error(error))
    # The recordings of an experiment are analysed one after the other.
    task = replace(
        task,
        expected_s=sum(one.core_s for one in expected),
        memory_mb=max(one.memory_mb for one in expected),
    )
    lengths = tuple(recording.n_frames for recording in recordings)
    return Planned(entries, "to do", why, task, lengths, *recordings[0].frame_shape, record=record)


def _why(record: dict[str, Any] | None, task: Task, key: str, folder: Path) -> str:
    """Say why something has to be analysed (again); empty where it has not."""
    if record is None:
        return "new"
    if record.get("settings_key") != key:
        return "settings or model changed"
    if record["kind"] == "done" and not (result_path(folder, task.name) / "run.json").is_file():
        return "its result is gone"
    if record.get("stamp") != stamp_files(task.paths):
        content = hash_content(task.paths)
        if not content or content != record.get("content"):
            several = len(task.recordings) > 1
            return "its recordings changed" if several else "recording changed"
    return ""


def read_record(folder: Path, name: str) -> dict[str, Any] | None:
    """Read how a recording or experiment ended.

    Parameters
    ----------
    folder : Path
        The folder of the batch.
    name : str
        Name of the result.

    Returns
    -------
    dict or None
        None where there is no (readable) record.
    """
    try:
        record = json.loads(record_path(folder, name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") != FORMAT or "kind" not in record:
        return None
    return record


# --- Time --------------------------------------------------------------------------------------


def measured_speed(records: Iterable[dict[str, Any] | None]) -> float | None:
    """Compare the time that results took with what was expected.

    Parameters
    ----------
    records : iterable of (dict or None)
        Records of this batch.

    Returns
    -------
    float or None
        Seconds for each expected second; None where nothing has been done.
    """
    taken = expected = 0.0
    for record in records:
        if record is None or record["kind"] != "done" or "figures" not in record:
            continue
        figures = record["figures"]
        taken += float(record.get("seconds", 0))
        shape = (figures["n_frames"], figures["n_rows"], figures["n_columns"])
        expected += float(record.get("expected_s") or expected_cost(*shape).core_s)
    return taken / expected if expected and taken else None


def _with_cost(planned: Planned, speed: float | None) -> Planned:
    return replace(planned, task=replace(planned.task, cost=planned.task.expected_s * (speed or 1)))

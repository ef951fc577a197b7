"""Where recordings are analysed: processes of this machine, or the workers of a Dask cluster.

Both run the same thing: `attempt` starts a process for one recording and listens to it.
"""

import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from cocuyo.batch.settings import Task
from cocuyo.core import CocuyoError, MissingExtraError, Progress

Report = Callable[[Progress], None]
Asked = Callable[[], bool]
_POLL_S = 0.2
_ASK_S = 5.0
_MEMORY_KILL = -9


class ExecutorLostError(CocuyoError):
    """Those who did the work are gone; the next start goes on."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a recording ended.

    Attributes
    ----------
    name : str
        Which recording.
    record : dict
        What `cocuyo.batch.work.perform` gives.
    """

    name: str
    record: dict[str, Any]


class Executor(Protocol):
    """Takes tasks and gives outcomes; the same for this machine and for a cluster."""

    def submit(self, task: Task) -> None:
        """Take a task; it waits until there is room."""
        ...

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Give what has ended since; wait for something up to a time."""
        ...

    def progress(self) -> dict[str, Progress]:
        """Say where each running recording stands, by its name."""
        ...

    def n_slots(self) -> int:
        """Count the recordings that can be analysed at the same time, as far as is known."""
        ...

    def notices(self) -> list[str]:
        """Give what the user should know of those who do the work, each once."""
        ...

    def cancel(self) -> None:
        """End what runs and forget what waits."""
        ...


# --- One attempt, on any machine ---------------------------------------------------------------


def attempt(task: Task, *, report: Report, stop_asked: Asked) -> dict[str, Any]:
    """Analyse a recording in a process of its own, which may die without harm to this one.

    Parameters
    ----------
    task : Task
        What to do.
    report : callable
        Called with the progress of the process.
    stop_asked : callable
        Asked now and then; the process is ended when it says True.

    Returns
    -------
    dict
        The record; of the kind ``died`` where the process ended without one.
    """
    n = str(task.n_threads)
    # The engine's threads are an argument; those of linear algebra are told only this way.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), n)
    process = subprocess.Popen(
        [sys.executable, "-m", "cocuyo.batch.work"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **threads},
    )
    found: list[dict[str, Any]] = []
    tail: deque[str] = deque(maxlen=200)
    readers = [
        threading.Thread(target=_listen, args=(process.stdout, found, report), daemon=True),
        threading.Thread(target=_keep_tail, args=(process.stderr, tail), daemon=True),
    ]
    try:
        for reader in readers:
            reader.start()
        assert process.stdin is not None
        with suppress(OSError):  # it has died already; its exit code will say so
            process.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
            process.stdin.flush()
        while process.poll() is None:
            if stop_asked():
                process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
        for reader in readers:
            reader.join(10)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
    if found:
        return found[-1]
    return _death(task, process.returncode, "".join(tail))


def _death(task: Task, code: int, log: str) -> dict[str, Any]:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    if code == _MEMORY_KILL:
        how += " (as a system out of memory does)"
    words = [line for line in log.strip().splitlines() if line.strip()]
    last = f": {words[-1]}" if words and code >= 0 else ""
    return {
        "name": task.name,
        "paths": task.paths,
        "settings_key": task.settings_key,
        "kind": "died",
        "error": f"The process that analysed it {how}{last}",
        "log": log,
    }


def _listen(pipe: Any, found: list[dict[str, Any]], report: Report) -> None:
    for line in pipe:
        try:
            content = json.loads(line)
        except ValueError:  # cut off where the process died
            continue
        if "outcome" in content:
            found.append(content["outcome"])
        else:
            report(Progress(content["stage"], content["done"], content["total"]))


def _keep_tail(pipe: Any, tail: deque[str]) -> None:
    for line in pipe:
        tail.append(line.decode("utf-8", "replace"))


# --- This machine ------------------------------------------------------------------------------


class LocalExecutor:
    """Processes of this machine, as many as fit into its cores and memory.

    Parameters
    ----------
    n_processes : int
        Largest number of recordings at the same time.
    memory_mb : float
        What their expected memory may sum up to; a recording that needs more runs alone.
    """

    def __init__(self, n_processes: int, memory_mb: float) -> None:
        self._n_processes = n_processes
        self._memory_mb = memory_mb
        self._waiting: deque[Task] = deque()
        self._running: dict[str, Task] = {}
        self._ended: queue.Queue[Outcome] = queue.Queue()
        self._progress: dict[str, Progress] = {}
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()

    def submit(self, task: Task) -> None:
        """Take a task.

        Parameters
        ----------
        task : Task
            It waits until there is room.
        """
        self._waiting.append(task)
        self._start()

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Give what has ended.

        Parameters
        ----------
        timeout_s : float
            Longest time to wait for something, in seconds.

        Returns
        -------
        list of Outcome
            Perhaps none.
        """
        ended = _drain(self._ended, timeout_s)
        for outcome in ended:
            self._running.pop(outcome.name, None)
            self._progress.pop(outcome.name, None)
        self._start()
        return ended

    def progress(self) -> dict[str, Progress]:
        """Say where each running recording stands.

        Returns
        -------
        dict of str to Progress
            By name, in the order of their start.
        """
        starting = Progress("starting", 0, 1)
        return {name: self._progress.get(name, starting) for name in self._running}

    def n_slots(self) -> int:
        """Count the recordings that can run at the same time.

        Returns
        -------
        int
            By processes; memory may allow fewer.
        """
        return self._n_processes

    def notices(self) -> list[str]:
        """Give what the user should know of those who do the work.

        Returns
        -------
        list of str
            Nothing: this machine is there.
        """
        return []

    def cancel(self) -> None:
        """End what runs and forget what waits."""
        self._waiting.clear()
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _start(self) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        while len(self._running) < self._n_processes:
            used = sum(task.memory_mb for task in self._running.values())
            room = self._memory_mb - used if self._running else float("inf")
            task = next((task for task in self._waiting if task.memory_mb <= room), None)
            if task is None:
                return
            self._waiting.remove(task)
            self._running[task.name] = task
            thread = threading.Thread(target=self._attempt, args=(task,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _attempt(self, task: Task) -> None:
        def report(progress: Progress) -> None:
            self._progress[task.name] = progress

        try:
            record = attempt(task, report=report, stop_asked=self._stop.is_set)
        except Exception as error:  # no process to be had: it must not hang the batch
            record = {**_death(task, 1, ""), "error": f"No process could be started: {error}"}
        self._ended.put(Outcome(task.name, record))


def _drain(ended: "queue.Queue[Outcome]", timeout_s: float) -> list[Outcome]:
    found = []
    with suppress(queue.Empty):
        found.append(ended.get(timeout=timeout_s))
        while True:
            found.append(ended.get_nowait())
    return found


# --- A Dask cluster ----------------------------------------------------------------------------


def attempt_on_worker(content: dict[str, Any], topic: str) -> dict[str, Any]:
    """Analyse a recording on a worker of Dask; its progress goes to the client as an event.

    Parameters
    ----------
    content : dict
        Fields of a `Task`.
    topic : str
        Under which the client listens.

    Returns
    -------
    dict
        As `attempt`.
    """
    from distributed import get_worker

    worker, task = get_worker(), Task(**content)
    key = worker.get_current_task()
    told = float("-inf")

    def report(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= 1.0 or progress.done >= progress.total:
            told = time.monotonic()
            worker.log_event(topic, {"name": task.name, **asdict(progress)})

    def given_up() -> bool:
        """Whether nobody waits any more: the client has gone, or the scheduler."""
        state = worker.state.tasks.get(key)
        return state is None or state.state != "executing"

    report(Progress("starting", 0, 1))
    return attempt(task, report=report, stop_asked=given_up)


class DaskExecutor:
    """The workers of a Dask scheduler, one recording for each of their threads.

    Parameters
    ----------
    address : str or cluster
        Address of the scheduler (``tcp://...``), or a cluster object of `distributed`.
    refused : callable, optional
        Called every now and then: says why no worker will ever come; empty while there is hope.
    notices : callable, optional
        Gives what the user should know of the workers, each once.
    timeout_s : float
        How long to wait for the scheduler when connecting, in seconds.

    Raises
    ------
    MissingExtraError
        If `distributed` is not installed.
    ExecutorLostError
        If the scheduler does not answer.
    """

    def __init__(
        self,
        address: Any,
        *,
        refused: Callable[[], str] = str,
        notices: Callable[[], list[str]] = list,
        timeout_s: float = 20.0,
    ) -> None:
        self._refused = refused
        self._notices = notices
        try:
            from distributed import Client
        except ImportError as error:
            msg = f'Dask needs the extra "cluster": pip install "cocuyo[cluster]" ({error}).'
            raise MissingExtraError(msg) from error
        self._where = str(getattr(address, "scheduler_address", address))
        try:
            self._client = Client(address, timeout=timeout_s, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            msg = (
                f"No Dask scheduler answers at {self._where} ({str(error).splitlines()[0]}); start "
                "one with `dask scheduler`, and workers with `dask worker ADDRESS`."
            )
            raise ExecutorLostError(msg) from error
        self._futures: dict[str, Any] = {}
        self._ended: queue.Queue[Outcome] = queue.Queue()
        self._progress: dict[str, Progress] = {}
        self._asked_s, self._n_slots = -_ASK_S, 0
        self._topic = f"cocuyo-batch-{secrets.token_hex(4)}"
        self._client.subscribe_topic(self._topic, self._heard)

    def submit(self, task: Task) -> None:
        """Take a task.

        Parameters
        ----------
        task : Task
            The scheduler gives it to a worker.
        """
        future = self._client.submit(
            attempt_on_worker,
            asdict(task),
            self._topic,
            key=f"{task.name}-{secrets.token_hex(4)}",
            pure=False,
        )
        self._futures[task.name] = future
        future.add_done_callback(lambda done: self._done(task, done))

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Give what has ended.

        Parameters
        ----------
        timeout_s : float
            Longest time to wait for something, in seconds.

        Returns
        -------
        list of Outcome
            Perhaps none.

        Raises
        ------
        ExecutorLostError
            If the scheduler has gone, or no worker will ever come.
        """
        ended = _drain(self._ended, timeout_s)
        for outcome in ended:
            self._futures.pop(outcome.name, None)
            self._progress.pop(outcome.name, None)
        # After a break the client may be connected again, but what it waited for is lost.
        lost = any(future.status in ("lost", "cancelled") for future in self._futures.values())
        if not ended and (lost or self._client.status != "running"):
            msg = f"The Dask scheduler at {self._where} has gone"
            raise ExecutorLostError(msg)
        if reason := self._refused():
            raise ExecutorLostError(reason)
        return ended

    def progress(self) -> dict[str, Progress]:
        """Say where each running recording stands.

        Returns
        -------
        dict of str to Progress
            By name.
        """
        return {name: self._progress[name] for name in self._futures if name in self._progress}

    def n_slots(self) -> int:
        """Count the threads of all workers.

        Returns
        -------
        int
            0 while no worker has come.
        """
        now = time.monotonic()
        if now - self._asked_s > _ASK_S:
            self._asked_s = now
            with suppress(Exception):  # it is for people only; `wait` tells when the scheduler goes
                workers = self._client.scheduler_info(n_workers=-1).get("workers", {})
                self._n_slots = int(sum(worker["nthreads"] for worker in workers.values()))
        return self._n_slots

    def notices(self) -> list[str]:
        """Give what the user should know of the workers.

        Returns
        -------
        list of str
            Each once.
        """
        return self._notices()

    def cancel(self) -> None:
        """End what runs, forget what waits and let the cluster go."""
        with suppress(Exception):  # a scheduler that has gone cannot be told
            self._client.cancel(list(self._futures.values()), force=True)
        with suppress(Exception):
            self._client.close(timeout=5)

    def _heard(self, event: tuple[Any, Any]) -> None:
        _, content = event
        if isinstance(content, dict) and "stage" in content:
            self._progress[content["name"]] = Progress(
                content["stage"], content["done"], content["total"]
            )

    def _done(self, task: Task, future: Any) -> None:
        if future.status == "finished":
            self._ended.put(Outcome(task.name, future.result()))
        elif future.status == "error":
            error = future.exception()
            # Dask itself has tried it on several workers before it gave up.
            lost = {"error": f"Its worker died again and again: {error}", "attempts": 9}
            record = {**_death(task, 1, ""), **lost}
            self._ended.put(Outcome(task.name, record))
        # Otherwise cancelled or lost: `wait` sees that the scheduler has gone.

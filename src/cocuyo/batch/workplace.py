"""Who does the work of a batch, as the user chose or as this machine allows."""

import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocuyo.batch.executors import DaskExecutor, Executor, LocalExecutor
from cocuyo.batch.plan import Planned
from cocuyo.batch.settings import RECORDS
from cocuyo.core import MissingExtraError, SettingsError
from cocuyo.core.machine import available_memory_mb, count_cores

_SHARE_USED = 0.9  # of the memory that is there: the rest is for what else runs
_SLURM_JOBS, _SLURM_TIME = 4, "4:00:00"
_LOOK_S, _ASK_AGAIN_S = 5.0, 20.0  # between looks at the jobs, and after one was refused
_TRIES_ALONE = 4  # in about a minute; then SLURM is believed that no job will come
_SLURM_LEAST_MB, _SLURM_FACTOR = 2000.0, 1.5  # Dask's worker, and what an estimate may be wrong by


@dataclass(frozen=True)
class Slurm:
    """What is asked of SLURM.

    Attributes
    ----------
    jobs : int or None
        Jobs to keep running; one that ends before the work does is asked for again.
    partition, account : str or None
        Where the jobs run, and for whom.
    time_limit : str or None
        Longest time of a job, as SLURM writes it (``4:00:00``).
    gpus : int or None
        GPUs of each job.
    options : tuple of str
        Further options of ``sbatch``, such as ``--qos=long``.
    """

    jobs: int | None = None
    partition: str | None = None
    account: str | None = None
    time_limit: str | None = None
    gpus: int | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workplace:
    """Who does the work, with how much.

    Attributes
    ----------
    dask : str or None
        Address of a running scheduler.
    slurm : Slurm or None
        What SLURM is asked for; with neither the work is done on this machine.
    n_at_once : int
        Recordings at the same time; 0 where only the scheduler knows.
    n_threads : int
        Cores for each of them.
    memory_mb : float
        Memory for all of them on this machine, or of each SLURM job, in MB.
    warning : str
        What the user should know; empty for nothing.
    """

    dask: str | None
    slurm: Slurm | None
    n_at_once: int
    n_threads: int
    memory_mb: float
    warning: str = ""

    def describe(self) -> str:
        """Say it for people.

        Returns
        -------
        str
            What follows "by".
        """
        threads = f"{self.n_threads} thread{'s' * (self.n_threads != 1)}"
        memory = f"{self.memory_mb / 1000:.1f} GB"
        many = self.n_at_once != 1
        if self.dask:
            return f"the workers of {self.dask}"
        if self.slurm:
            return f"{self.n_at_once} SLURM job{'s' * many} of {threads} and {memory} each"
        return f"{self.n_at_once} process{'es' * many} of {threads} each, in {memory}"


def choose_workplace(
    planned: Sequence[Planned],
    *,
    dask: str | None = None,
    slurm: Slurm | None = None,
    processes: int | None = None,
    threads: int | None = None,
    memory_gb: float | None = None,
) -> Workplace:
    """Decide how many recordings are analysed at the same time, and with how many cores.

    On this machine recordings share cores and memory: as many processes as fit into both, since two
    recordings side by side take less time than one after the other with two cores each.

    Parameters
    ----------
    planned : sequence of Planned
        The recordings.
    dask : str, optional
        Address of a running scheduler.
    slurm : Slurm, optional
        Ask SLURM for jobs.
    processes, threads : int, optional
        What the user wants.
    memory_gb : float, optional
        Memory on this machine, or of each SLURM job, in GB.

    Returns
    -------
    Workplace
        The choice.

    Raises
    ------
    SettingsError
        If two of them exclude each other.
    """
    if dask and slurm:
        msg = "--dask and --slurm exclude each other; give one of them."
        raise SettingsError(msg)
    if processes and (dask or slurm):
        msg = "--processes is of this machine; a cluster has its workers (--jobs with --slurm)."
        raise SettingsError(msg)
    to_do = [p.task.memory_mb for p in planned if p.state == "to do" and not p.problem]
    needed_mb, n = max(to_do, default=0.0), max(1, len(to_do))
    given_mb = None if memory_gb is None else 1000 * memory_gb
    if dask:
        return Workplace(dask, None, 0, threads or 1, given_mb or 0.0)
    if slurm:
        memory_mb = given_mb or max(_SLURM_LEAST_MB, _SLURM_FACTOR * needed_mb)
        return Workplace(None, slurm, min(slurm.jobs or _SLURM_JOBS, n), threads or 1, memory_mb)
    n_cores = count_cores()
    memory_mb = given_mb or _SHARE_USED * available_memory_mb()
    fitting = max(1, int(memory_mb // needed_mb)) if needed_mb else n
    n_at_once = processes or max(1, min(n_cores // (threads or 1), fitting, n))
    warning = ""
    if needed_mb > memory_mb:
        warning = (
            f"A recording may need {needed_mb / 1000:.1f} GB of memory, and there are "
            f"{memory_mb / 1000:.1f} GB; it will run alone."
        )
    n_threads = threads or max(1, n_cores // n_at_once)
    return Workplace(None, None, n_at_once, n_threads, memory_mb, warning)


@contextmanager
def open_workplace(place: Workplace, folder: Path) -> Iterator[Executor]:
    """Give the executor of a workplace, and let go what was asked for at the end.

    Parameters
    ----------
    place : Workplace
        Who does the work.
    folder : Path
        The folder of the batch.

    Yields
    ------
    Executor
        It takes tasks.

    Raises
    ------
    MissingExtraError
        If the extra ``cluster`` is needed and not installed.
    ExecutorLostError
        If the scheduler does not answer.
    """
    if place.dask:
        executor = DaskExecutor(place.dask)
        with _quiet_dask():
            yield executor
    elif place.slurm:
        jobs = _Submissions(place.n_at_once)
        logs = folder / RECORDS / "slurm"
        with _start_slurm(place, place.slurm, logs, jobs) as cluster, _quiet_dask():
            yield DaskExecutor(cluster, refused=jobs.watch, notices=jobs.notices)
    else:
        yield LocalExecutor(place.n_at_once, place.memory_mb)


@contextmanager
def _quiet_dask() -> Iterator[None]:
    """Keep what Dask logs of lost connections and jobs off the screen: the batch says it itself."""
    known = logging.root.manager.loggerDict
    names = [name for name in known if name.split(".")[0] in ("distributed", "tornado")]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class _Submissions:
    """Keeps as many jobs of SLURM as were wished, as far as SLURM takes them.

    A job that ends before the work does is asked for again, and so is one that was refused, since
    limits are often on jobs at the same time; meanwhile the work goes on with those there are.

    Parameters
    ----------
    n_wished : int
        Jobs to keep.
    """

    def __init__(self, n_wished: int) -> None:
        self._n_wished = n_wished
        self._cluster: Any = None
        self._n_taken = 0
        self._turned_away: list[Any] = []
        self._reason = ""
        self._notices: list[str] = []
        self._told = False
        self._n_alone = 0
        self._busy = False
        self._next_s = 0.0

    def keep(self, cluster: Any) -> None:
        """Say which cluster the jobs are for."""
        self._cluster = cluster
        while len(cluster.worker_spec) < self._n_wished:
            cluster.worker_spec.update(cluster.new_worker_spec())

    def watch(self) -> str:
        """Ask for jobs that are not there, and say why none will ever come; empty while some may.

        To be called every now and then; it does not wait for SLURM's answer.
        """
        if self._cluster is not None and not self._busy and time.monotonic() >= self._next_s:
            self._busy = True
            self._cluster.loop.add_callback(self._ask)
        none_ever = not self._n_taken and self._reason
        return self._reason if none_ever or self._n_alone >= _TRIES_ALONE else ""

    def notices(self) -> list[str]:
        """Give what the user should know, each once."""
        notices, self._notices = self._notices, []
        return notices

    async def _ask(self) -> None:
        """Hand in the jobs that are missing; on the loop of the cluster."""
        cluster = self._cluster
        try:
            for name, job in list(cluster.workers.items()):
                if job in self._turned_away:
                    del cluster.workers[name]
                    cluster._created.discard(job)  # it cannot be closed
            self._turned_away.clear()
            with suppress(RuntimeError, OSError):  # `watched` has noted what SLURM said
                await cluster._correct_state()
            refused = bool(self._turned_away)
            n = sum(job not in self._turned_away for job in cluster.workers.values())
            self._n_alone = self._n_alone + 1 if refused and not n else 0
            if refused and n and not self._told:
                self._told = True
                self._notices.append(
                    f"{self._reason}. The batch goes on with {n} of {self._n_wished} jobs and asks "
                    "for the others again"
                )
            self._next_s = time.monotonic() + (_ASK_AGAIN_S if refused else _LOOK_S)
        finally:
            self._busy = False

    def watched(self, job: Any) -> Any:
        """Make a kind of job that notes here how its submission ended."""

        async def submit(one: Any, script: str) -> Any:
            try:
                said = await job._submit_job(one, script)
            except (RuntimeError, OSError) as error:
                self._reason = _refusal(error, more=self._n_taken > 0)
                self._turned_away.append(one)
                raise
            self._n_taken += 1
            return said

        return type(job.__name__, (job,), {"_submit_job": submit})


def _refusal(error: Exception, *, more: bool) -> str:
    if isinstance(error, FileNotFoundError):
        return (
            "SLURM's sbatch is not found on this machine; start the batch on a login node of the "
            "cluster, or use --dask"
        )
    # dask-jobqueue quotes the whole command; what SLURM says follows at the end.
    lines = str(error).partition("stderr:")[2].splitlines()
    said = [re.sub("^sbatch: (error: |fatal: )?", "", line.strip()) for line in lines]
    words = "; ".join(line for line in said if line) or str(error)
    if more:
        return f"SLURM takes no more jobs ({words.rstrip('.')})"
    return (
        f"SLURM takes no such job ({words.rstrip('.')}). Look at --partition, --account, --time, "
        "--threads, --memory, --gpus and --slurm-option"
    )


@contextmanager
def _start_slurm(
    place: Workplace, wish: Slurm, log_folder: Path, jobs: _Submissions
) -> Iterator[Any]:
    """Ask SLURM for jobs, each of which analyses one recording after the other."""
    try:
        import dask
        from dask_jobqueue import SLURMCluster
        from dask_jobqueue.slurm import SLURMJob
    except ImportError as error:
        msg = f'SLURM needs the extra "cluster": pip install "cocuyo[cluster]" ({error}).'
        raise MissingExtraError(msg) from error
    gpu = [f"--gres=gpu:{wish.gpus}"] if wish.gpus else []
    # A job that ends is noticed at once; one on a node that swaps may be silent for minutes.
    with dask.config.set({"distributed.scheduler.worker-ttl": "30 minutes"}):
        cluster = SLURMCluster(
            job_cls=jobs.watched(SLURMJob),
            queue=wish.partition,
            account=wish.account,
            cores=1,  # of Dask: one recording at a time
            job_cpu=place.n_threads,
            processes=1,
            memory=f"{place.memory_mb:.0f}MB",
            walltime=wish.time_limit or _SLURM_TIME,
            job_extra_directives=[*gpu, *wish.options],
            log_directory=str(log_folder),
            python=sys.executable,
            job_name="cocuyo",
        )
    try:
        jobs.keep(cluster)
        yield cluster
    finally:
        # Jobs end by themselves when their scheduler has gone; a job that was never taken cannot be
        # closed, which Dask asserts.
        with suppress(TimeoutError, AssertionError):
            cluster.close(timeout=60)

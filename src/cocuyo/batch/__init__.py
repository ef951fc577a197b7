"""Many recordings: found, analysed here or on a cluster, and gathered in one page."""

from cocuyo.batch.display import BatchPrinter, format_time
from cocuyo.batch.executors import DaskExecutor, Executor, LocalExecutor, Outcome
from cocuyo.batch.listing import Search, find_recordings
from cocuyo.batch.plan import Planned, plan_batch
from cocuyo.batch.run import (
    BatchCounts,
    BatchStoppedError,
    Snapshot,
    prepare_folder,
    run_batch,
    start_folder,
)
from cocuyo.batch.settings import Entry, Method, Reading, Task
from cocuyo.batch.workplace import Slurm, Workplace, choose_workplace, open_workplace

__all__ = [
    "BatchCounts",
    "BatchPrinter",
    "BatchStoppedError",
    "DaskExecutor",
    "Entry",
    "Executor",
    "LocalExecutor",
    "Method",
    "Outcome",
    "Planned",
    "Reading",
    "Search",
    "Slurm",
    "Snapshot",
    "Task",
    "Workplace",
    "choose_workplace",
    "find_recordings",
    "format_time",
    "open_workplace",
    "plan_batch",
    "prepare_folder",
    "run_batch",
    "start_folder",
]

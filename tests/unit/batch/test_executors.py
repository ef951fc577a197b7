"""Processes of this machine: one for each recording, as many as fit, none left behind."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from cocuyo.batch import LocalExecutor, Reading, find_recordings, plan_batch, start_folder
from cocuyo.batch import executors as module
from cocuyo.batch.executors import attempt


@pytest.fixture
def task(write, tmp_path, method):
    """A task in the folder of a batch."""
    write("a.tif")
    out = tmp_path / "out"
    with start_folder(out, {}):
        pass
    reading = Reading(frame_rate_hz=6.67, pixel_size_um=1.5)
    entries = find_recordings(tmp_path / "in", reading=reading, out=out)
    (planned,) = plan_batch(entries, method, folder=out)
    return planned.task


def collect(executor, n):
    """Wait for outcomes."""
    found = []
    deadline = time.monotonic() + 120
    while len(found) < n:
        assert time.monotonic() < deadline
        found += executor.wait(0.1)
    return found


def test_a_process_analyses_a_recording_and_tells_where_it_stands(task, tmp_path):
    told = []
    record = attempt(task, report=told.append, stop_asked=lambda: False)
    assert (record["kind"], record["error"]) == ("done", "")
    assert {"segmenting", "writing"} <= {progress.stage for progress in told}
    assert (tmp_path / "out" / "recordings" / "a" / "run.json").is_file()
    kept = json.loads((tmp_path / "out" / "state" / "a.json").read_text("utf-8"))
    assert kept["figures"] == record["figures"]
    assert sorted(p.name for p in (tmp_path / "out" / "state").iterdir()) == ["a.json"]


def test_a_process_that_is_killed_is_a_death_and_leaves_nothing_finished(task, tmp_path):
    record = attempt(task, report=lambda progress: None, stop_asked=lambda: True)
    assert record["kind"] == "died"
    if os.name == "posix":
        assert "signal 9" in record["error"]
    assert not (tmp_path / "out" / "recordings" / "a").exists()
    assert not (tmp_path / "out" / "state" / "a.json").exists()


def test_a_process_ends_when_the_one_who_started_it_does(task):
    process = subprocess.Popen(
        [sys.executable, "-m", "cocuyo.batch.work"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
    process.stdin.close()
    assert process.wait(timeout=60) == 143


def test_a_worker_of_another_version_or_without_the_folder_stops_the_batch(task, executor):
    do = executor().do
    record = do(replace(task, version="9.9"))
    assert record["kind"] == "stop"
    assert "9.9; install the same version" in record["error"]
    record = do(replace(task, folder="/nowhere"))
    assert record["kind"] == "stop"
    assert "share under the same path" in record["error"]


@pytest.fixture
def crowd(monkeypatch, task):
    """Run tasks of given memory in place of processes; say how many were at work together."""

    def run(n_processes, memory_mb, needs):
        together, most, lock = [], [], threading.Lock()

        def busy(task, **options):
            with lock:
                together.append(task.memory_mb)
                most.append((len(together), sum(together)))
            time.sleep(0.05)
            with lock:
                together.remove(task.memory_mb)
            return {"name": task.name, "kind": "done"}

        monkeypatch.setattr(module, "attempt", busy)
        executor = LocalExecutor(n_processes, memory_mb)
        for i, need in enumerate(needs):
            executor.submit(replace(task, name=f"r{i}", memory_mb=need))
        done = collect(executor, len(needs))
        assert sorted(o.name for o in done) == sorted(f"r{i}" for i in range(len(needs)))
        return max(n for n, _ in most), max(total for _, total in most)

    return run


def test_no_more_run_than_there_are_processes(crowd):
    assert crowd(2, 1e6, [1.0] * 6)[0] == 2


def test_no_more_run_than_fit_into_memory(crowd):
    n, used = crowd(4, 1000.0, [400.0] * 6)
    assert (n, used) == (2, 800.0)


def test_a_recording_larger_than_memory_runs_alone(crowd):
    n, used = crowd(4, 1000.0, [5000.0, 300.0, 5000.0, 300.0])
    assert used == 5000.0
    assert n <= 2


def test_a_process_that_cannot_be_started_does_not_hang_the_batch(monkeypatch, task):
    def impossible(task, **options):
        msg = "too many processes"
        raise OSError(msg)

    monkeypatch.setattr(module, "attempt", impossible)
    executor = LocalExecutor(1, 1000.0)
    executor.submit(task)
    (outcome,) = collect(executor, 1)
    assert "too many processes" in outcome.record["error"]


def test_cancelling_ends_what_runs_and_forgets_what_waits(task, tmp_path):
    executor = LocalExecutor(1, 1000.0)
    executor.submit(task)
    executor.submit(replace(task, name="b"))
    executor.cancel()
    (outcome,) = collect(executor, 1)
    assert (outcome.name, outcome.record["kind"]) == ("a", "died")
    assert executor.wait(0.3) == []

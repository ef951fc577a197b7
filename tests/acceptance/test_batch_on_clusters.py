"""The same batch on this machine, on Dask and on SLURM, and what happens when things break.

Long: `pytest -m slow tests/acceptance/test_batch_on_clusters.py`. SLURM needs root and Debian's
slurm-wlm, the full disk root and Linux; where they are absent those tests are skipped.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="Kills processes as Linux does."),
]

TOOLS = Path(__file__).parents[2] / "tools"
OPTIONS = ("--preset", "srname", "--group", "folder", "--animal", "(animal[0-9]+)")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """40 recordings, 5 of them broken."""
    folder = tmp_path_factory.mktemp("batch") / "recordings"
    subprocess.run([sys.executable, TOOLS / "make_batch.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """12 recordings, 2 of them broken: enough to break something else."""
    folder = tmp_path_factory.mktemp("few") / "recordings"
    make = [sys.executable, TOOLS / "make_batch.py", folder, "--n", "12", "--broken", "2"]
    subprocess.run(make, check=True)
    return folder


@pytest.fixture(scope="module")
def few_here(few, tmp_path_factory):
    """The batch of the few done on this machine."""
    out = tmp_path_factory.mktemp("few_here") / "out"
    assert "10 of 12 recordings done (12 looked at now), 2 failed." in finish(few, out)[1]
    return out


def words(recordings, out, *options):
    return [sys.executable, "-m", "cocuyo", "batch", recordings, "--out", out, *OPTIONS, *options]


def finish(recordings, out, *options, env=None):
    """Run a batch to its end; give what it said."""
    done = subprocess.run(
        [str(word) for word in words(recordings, out, *options)],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
        env=env,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def here(recordings, tmp_path_factory):
    """The batch done on this machine."""
    out = tmp_path_factory.mktemp("here") / "out"
    status, said = finish(recordings, out)
    assert status == 1, said
    assert "35 of 40 recordings done (40 looked at now), 5 failed." in said
    return out


def expect_equal(one, other):
    compared = subprocess.run(
        [sys.executable, TOOLS / "compare_batches.py", one, other],
        capture_output=True,
        text=True,
        check=False,
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr


@pytest.fixture
def started():
    """Start programs; end them after the test."""
    programs = []

    def start(*command, **options):
        programs.append(subprocess.Popen([str(word) for word in command], **options))
        return programs[-1]

    yield start
    for program in reversed(programs):
        if program.poll() is None:
            program.kill()
        program.wait()


@pytest.fixture
def dask(started, tmp_path):
    """A scheduler and two workers of one thread; none is watched over by a nanny."""
    place = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = (
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--port",
        "0",
        "--no-dashboard",
    )
    scheduler = started(*command, "--scheduler-file", place, **quiet)
    wait_for(place.exists)
    address = re.search(r'"address": "([^"]+)"', place.read_text()).group(1)
    worker = (sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1")
    workers = [started(*worker, "--no-nanny", "--no-dashboard", **quiet) for _ in range(2)]
    return address, scheduler, workers


def wait_for(what, seconds=600):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def n_done(out):
    return sum(1 for path in (out / "state").glob("*.json") if '"done"' in path.read_text())


def children_of(*programs):
    """Processes that programs have started, as the system knows them."""
    return [
        int(pid)
        for program in programs
        for task in Path(f"/proc/{program.pid}/task").glob("*/children")
        for pid in task.read_text().split()
    ]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_workers_of_dask_give_what_this_machine_gives(recordings, here, dask, tmp_path):
    status, said = finish(recordings, tmp_path / "out", "--dask", dask[0])
    assert status == 1
    assert "35 of 40 recordings done" in said
    expect_equal(here, tmp_path / "out")


def test_experiments_are_on_dask_what_they_are_here_also_after_a_kill(few, dask, started, tmp_path):
    together = ("--experiment", "(animal[0-9]+_slice[0-9])")
    status, said = finish(few, tmp_path / "here", *together)
    assert status == 1
    assert "10 of 12 recordings (10 of them in 5 experiments) to do" in said
    assert "10 of 12 recordings done (12 looked at now), 2 failed." in said
    out = tmp_path / "out"
    options = (*together, "--dask", dask[0])
    batch = started(*words(few, out, *options), stderr=subprocess.DEVNULL)
    wait_for(lambda: n_done(out) >= 1 and children_of(*dask[2]))
    batch.kill()
    batch.wait()
    status, said = finish(few, out, *options)
    assert "10 of 12 recordings done" in said
    expect_equal(tmp_path / "here", out)


@pytest.mark.skipif(not (IS_ROOT and shutil.which("sbatch")), reason="needs root and slurm-wlm")
def test_slurm_gives_what_this_machine_gives(recordings, here, tmp_path):
    slurm = tmp_path / "slurm"
    subprocess.run([TOOLS / "start_slurm.sh", "start", slurm], check=True)
    try:
        env = {**os.environ, "SLURM_CONF": str(slurm / "slurm.conf")}
        options = ("--slurm", "--jobs", 2, "--time", "1:00:00")
        status, said = finish(recordings, tmp_path / "out", *options, env=env)
    finally:
        subprocess.run([TOOLS / "start_slurm.sh", "stop", slurm], check=True)
    assert status == 1
    assert "35 of 40 recordings done" in said
    expect_equal(here, tmp_path / "out")


@pytest.mark.skipif(not (IS_ROOT and shutil.which("sbatch")), reason="needs root and slurm-wlm")
def test_what_slurm_refuses_is_one_line_and_ends_the_batch(few, tmp_path):
    slurm = tmp_path / "slurm"
    subprocess.run([TOOLS / "start_slurm.sh", "start", slurm], check=True)
    try:
        env = {**os.environ, "SLURM_CONF": str(slurm / "slurm.conf")}
        status, said = finish(few, tmp_path / "out", "--slurm", "--partition", "nope", env=env)
    finally:
        subprocess.run([TOOLS / "start_slurm.sh", "stop", slurm], check=True)
    assert status == 1
    assert "Traceback" not in said
    assert "SLURM takes no such job (invalid partition specified: nope;" in said.splitlines()[-1]


def test_a_worker_that_is_killed_has_its_recording_done_by_the_other(
    few, few_here, dask, started, tmp_path
):
    out = tmp_path / "out"
    batch = started(*words(few, out, "--dask", dask[0]), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: n_done(out) >= 3)
    dask[2][0].kill()
    _, said = batch.communicate(timeout=3000)
    assert batch.returncode == 1, said
    expect_equal(few_here, out)


def test_a_process_that_is_killed_has_its_recording_done_again(few, few_here, started, tmp_path):
    out = tmp_path / "out"
    batch = started(*words(few, out), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: n_done(out) >= 3)
    before = set(children_of(batch))  # one of them may be finished already
    wait_for(lambda: set(children_of(batch)) - before)
    os.kill(min(set(children_of(batch)) - before), signal.SIGKILL)
    _, said = batch.communicate(timeout=3000)
    assert "is done again: The process that analysed it was killed by signal 9" in said
    expect_equal(few_here, out)


def test_a_batch_that_is_killed_leaves_no_process_and_goes_on_when_started_again(
    few, few_here, started, tmp_path
):
    out = tmp_path / "out"
    batch = started(*words(few, out), stderr=subprocess.DEVNULL)
    wait_for(lambda: n_done(out) >= 3 and children_of(batch))
    at_work = children_of(batch)
    batch.kill()
    batch.wait()
    wait_for(lambda: not any(map(is_alive, at_work)), seconds=60)
    before = n_done(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "recordings").glob("[!.]*/run.json")}
    status, said = finish(few, out)
    assert status == 1
    assert f"{10 - before} of 12 recordings to do" in said
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in times.items())
    expect_equal(few_here, out)


def test_a_killed_batch_on_dask_leaves_no_process_and_goes_on(
    few, few_here, dask, started, tmp_path
):
    out = tmp_path / "out"
    batch = started(*words(few, out, "--dask", dask[0]), stderr=subprocess.DEVNULL)
    wait_for(lambda: n_done(out) >= 3 and children_of(*dask[2]))
    at_work = children_of(*dask[2])
    batch.kill()
    batch.wait()
    wait_for(lambda: not any(map(is_alive, at_work)), seconds=120)
    assert finish(few, out, "--dask", dask[0])[0] == 1
    expect_equal(few_here, out)


def test_a_scheduler_that_goes_away_ends_the_batch_with_a_message_and_the_next_start_goes_on(
    few, few_here, dask, started, tmp_path
):
    out = tmp_path / "out"
    batch = started(*words(few, out, "--dask", dask[0]), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: n_done(out) >= 3)
    dask[1].kill()
    _, said = batch.communicate(timeout=300)
    assert batch.returncode == 1
    assert re.search(
        r"cocuyo: error: The Dask scheduler at tcp://\S+ has gone.* \d+ of 12 recordings are done "
        "and kept; start the same command again to go on",
        said,
    )
    assert "Traceback" not in said
    assert finish(few, out)[0] == 1
    expect_equal(few_here, out)


def test_an_address_without_a_scheduler_is_one_line(few, tmp_path):
    status, said = finish(few, tmp_path / "out", "--dask", "tcp://127.0.0.1:9")
    assert status == 1
    assert said.splitlines()[-1].startswith("cocuyo: error: No Dask scheduler answers at tcp://")


@pytest.mark.skipif(not IS_ROOT, reason="a small disk is mounted by root")
def test_a_disk_that_fills_up_ends_the_batch_and_with_room_it_goes_on(few, few_here, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    try:
        status, said = finish(few, disk / "out")
        assert status == 1
        assert re.search(r"is full.* \d+ of 12 recordings are done and kept; start", said)
        assert "Traceback" not in said
        before = n_done(disk / "out")
        assert 0 < before < 10
        subprocess.run(["mount", "-o", "remount,size=400m", disk], check=True)
        status, said = finish(few, disk / "out")
        assert f"{10 - before} of 12 recordings to do" in said
        expect_equal(few_here, disk / "out")
    finally:
        subprocess.run(["umount", disk], check=True)

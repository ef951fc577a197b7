"""How many recordings are analysed at once, and with how much."""

import asyncio
import re
from types import SimpleNamespace

import pytest

from cocuyo import open_recording
from cocuyo.batch import Slurm, choose_workplace, workplace
from cocuyo.batch.plan import measured_speed
from cocuyo.core import SettingsError
from cocuyo.pipeline import expect, expected_cost


@pytest.fixture
def planned():
    """So many recordings of so much memory."""

    def make(n, memory_mb=500.0, state="to do"):
        task = SimpleNamespace(memory_mb=memory_mb)
        return [SimpleNamespace(task=task, state=state, problem="")] * n

    return make


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(workplace, "count_cores", lambda: 8)
    monkeypatch.setattr(workplace, "available_memory_mb", lambda: 10_000.0)


def choice(*arguments, **options):
    place = choose_workplace(*arguments, **options)
    return place.n_at_once, place.n_threads


def test_cores_are_shared_out(planned):
    assert choice(planned(40)) == (8, 1)
    assert choice(planned(3)) == (3, 2)
    assert choice(planned(1)) == (1, 8)
    assert choice(planned(40), threads=3) == (2, 3)
    assert choice(planned(40), processes=4) == (4, 2)


def test_memory_limits_the_processes(planned):
    assert choice(planned(40, 2000.0)) == (4, 2)  # 9000 MB to use
    assert choice(planned(40, 2000.0), memory_gb=2) == (1, 8)
    place = choose_workplace(planned(2, 20_000.0))
    assert place.n_at_once == 1
    assert "may need 20.0 GB" in place.warning


def test_what_is_done_needs_no_room(planned):
    assert choice([*planned(1), *planned(9, 50_000.0, "done")]) == (1, 8)


def test_a_job_of_slurm_gets_more_than_expected(planned):
    place = choose_workplace(planned(10, 4000.0), slurm=Slurm(jobs=20))
    assert (place.n_at_once, place.n_threads, place.memory_mb) == (10, 1, 6000.0)
    assert choose_workplace(planned(10), slurm=Slurm(), memory_gb=7).memory_mb == 7000.0


@pytest.mark.parametrize(
    "options", [{"dask": "tcp://x", "slurm": Slurm()}, {"dask": "tcp://x", "processes": 2}]
)
def test_options_that_exclude_each_other_are_refused(planned, options):
    with pytest.raises(SettingsError):
        choose_workplace(planned(1), **options)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job failed.",
            r"SLURM takes no such job \(invalid partition specified: nope; Batch job failed\)",
        ),
        (None, "sbatch is not found on this machine"),
    ],
)
def test_jobs_that_slurm_refuses_end_the_batch_in_one_line(said, words):
    class Job:
        async def _submit_job(self, script):
            if said is None:
                raise FileNotFoundError(2, "No such file", "sbatch")
            msg = f"Command exited with non-zero exit code.\nstdout:\n\nstderr:\n{said}\n"
            raise RuntimeError(msg)

    jobs = workplace._Submissions(1)
    assert jobs.watch() == ""
    with pytest.raises((RuntimeError, OSError)):
        asyncio.run(jobs.watched(Job)()._submit_job("script"))
    assert re.match(words, jobs.watch().removeprefix("SLURM's "))
    assert "\n" not in jobs.watch()


class FakeLoop:
    """Runs at once what is handed to it."""

    def add_callback(self, work):
        asyncio.run(work())


class FakeCluster:
    """What `distributed` keeps of jobs, with a SLURM that takes so many at a time."""

    def __init__(self, submissions):
        self.loop, self.worker_spec, self.workers, self._created = FakeLoop(), {}, {}, set()
        self.room, self.n_asked = 0, 0

        async def submit(job, script):
            self.n_asked += 1
            if not self.room:
                msg = "stderr:\nsbatch: error: limit reached"
                raise RuntimeError(msg)
            self.room -= 1

        self.job = submissions.watched(type("Job", (), {"_submit_job": submit}))
        submissions.keep(self)

    def new_worker_spec(self):
        return {len(self.worker_spec): {}}

    async def _correct_state(self):
        missing = set(self.worker_spec) - set(self.workers)
        self.workers |= {name: self.job() for name in missing}
        self._created |= set(self.workers.values())
        answers = [self.workers[name]._submit_job("script") for name in missing]
        for error in await asyncio.gather(*answers, return_exceptions=True):
            if error:
                raise error


@pytest.fixture
def later(monkeypatch):
    """Let time pass."""
    now = [1000.0]
    monkeypatch.setattr(workplace.time, "monotonic", lambda: now[0])

    def wait():
        now[0] += 60.0

    return wait


def test_where_slurm_takes_some_jobs_the_batch_goes_on_with_these_and_says_so_once(later):
    jobs = workplace._Submissions(3)
    cluster = FakeCluster(jobs)
    cluster.room = 1
    for _ in range(9):
        assert jobs.watch() == ""
        later()
    assert jobs.notices() == [
        "SLURM takes no more jobs (limit reached). The batch goes on with 1 of 3 jobs and asks for "
        "the others again"
    ]
    assert jobs.notices() == []


def test_jobs_that_were_refused_are_asked_for_again_and_those_that_run_are_left_alone(later):
    jobs = workplace._Submissions(3)
    cluster = FakeCluster(jobs)
    cluster.room = 1
    jobs.watch()
    (first,) = set(cluster.workers.values()) - set(jobs._turned_away)
    assert cluster.n_asked == 3
    jobs.watch()  # at once: SLURM is not asked again
    assert cluster.n_asked == 3
    cluster.room = 2
    later()
    jobs.watch()
    assert cluster.n_asked == 5
    assert len(cluster.workers) == 3
    assert first in cluster.workers.values()
    assert cluster._created == set(cluster.workers.values())  # what cannot be closed is forgotten


def test_when_the_last_job_has_gone_and_slurm_takes_none_the_batch_ends_with_the_reason(later):
    jobs = workplace._Submissions(2)
    cluster = FakeCluster(jobs)
    cluster.room = 1
    jobs.watch()
    cluster.workers.clear()  # as Dask does with a job that has ended
    said = []
    for _ in range(6):
        later()
        said.append(jobs.watch())
    assert said[:2] == ["", ""]  # limits on jobs at the same time may pass
    assert said[-1] == "SLURM takes no more jobs (limit reached)"


def test_a_batch_expects_of_a_recording_what_a_run_of_it_says(write, batch, method):
    _, planned, _ = batch(source=write("a.tif").parent)
    recording = open_recording(
        planned[0].entries[0].paths[0], frame_rate_hz=6.67, pixel_size_um=1.5
    )
    expected = expect(recording, method.config)
    task = planned[0].task
    assert (task.expected_s, task.cost) == (expected.core_s, expected.core_s)
    assert task.memory_mb == expected.memory_mb


def test_what_a_batch_has_taken_corrects_what_it_expects():
    record = {"kind": "done", "figures": {"n_frames": 100, "n_rows": 64, "n_columns": 64}}
    by_shape = expected_cost(100, 64, 64).core_s
    assert measured_speed([record | {"seconds": 3 * by_shape}]) == pytest.approx(3)
    assert measured_speed([record | {"seconds": 8.0, "expected_s": 4.0}]) == 2
    assert measured_speed([None, {"kind": "failed"}]) is None

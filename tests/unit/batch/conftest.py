"""Recordings, a way to run a batch in this process, and an executor without processes."""

import queue

import numpy as np
import pytest
import tifffile

from cocuyo.batch import (
    Method,
    Outcome,
    Reading,
    Search,
    find_recordings,
    plan_batch,
    run_batch,
    start_folder,
)
from cocuyo.batch.work import perform
from cocuyo.pipeline import hash_weights, load_model

READING = Reading(frame_rate_hz=6.67, pixel_size_um=1.5)


class HereExecutor:
    """Does each task in this process when it is waited for; what it did is kept."""

    def __init__(self, do=perform):
        self.do = do
        self.tasks = []
        self.cancelled = False
        self._waiting = queue.SimpleQueue()

    def submit(self, task):
        self.tasks.append(task)
        self._waiting.put(task)

    def wait(self, timeout_s):
        if self._waiting.empty():
            return []
        task = self._waiting.get()
        return [Outcome(task.name, self.do(task))]

    def progress(self):
        return {}

    def notices(self):
        return []

    def n_slots(self):
        return 1

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def executor():
    """Make an executor of this process, with another way to do a task if wished."""
    return HereExecutor


@pytest.fixture
def method():
    """The way without networks."""
    model = load_model("srname")
    config = model.settings.pipeline
    return Method("srname", None, config, hash_weights(model, method=config.method))


@pytest.fixture
def movie():
    """A small movie with a few cells that flicker."""
    rng = np.random.default_rng(3)
    frames = rng.normal(200, 6, (40, 48, 56))
    y, x = np.mgrid[:48, :56]
    for k, (cy, cx) in enumerate(((14, 15), (30, 40), (34, 18))):
        cell = 150 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 12)
        frames[8 + 6 * k : 12 + 6 * k] += cell
        frames += cell / 5
    return frames.astype(np.uint16)


@pytest.fixture
def write(tmp_path, movie):
    """Write the movie below the folder ``in``; with a seed it is another one."""

    def write(name, seed=0):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.roll(movie, seed, axis=2), photometric="minisblack")
        return path

    return write


@pytest.fixture
def batch(tmp_path, method, executor):
    """Run a batch of what is below ``in``; give its counts, its plan and its executor."""

    def run(*, source=None, search=Search(), using=None, method=method, **options):
        folder = tmp_path / "out"
        entries = find_recordings(
            source or tmp_path / "in", search=search, reading=READING, out=folder
        )
        planned = plan_batch(entries, method, folder=folder, **options)
        using = using or executor()
        with start_folder(folder, {}):
            counts = run_batch(planned, using, folder=folder, n_threads=1)
        return counts, planned, using

    return run

"""How many recordings are analysed at once, and with how much."""

from types import SimpleNamespace

import pytest

from cocuyo.batch import Slurm, choose_workplace, workplace
from cocuyo.core import SettingsError


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

"""One program at a time makes a folder."""

import os
import socket
import subprocess
import sys

import pytest

from cocuyo.core import ResultError
from cocuyo.io.lock import hold_place, lock_path
from cocuyo.io.results import alone_in

HOLD = """
import sys
from pathlib import Path
from cocuyo.io.lock import hold_place

with hold_place(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made" / "slice.cocuyo"


@pytest.fixture
def holder(folder):
    """Another process that makes the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_place_that_another_process_holds_is_refused_and_it_is_named(holder, folder):
    with pytest.raises(ResultError) as error, hold_place(folder):
        pass
    who = f"(process {holder.pid} on {socket.gethostname()})"
    assert f"Another cocuyo {who} is making {folder} just now" in str(error.value)


def test_one_that_saves_what_it_makes_does_not_pass_where_another_makes_it(holder, folder):
    with pytest.raises(ResultError, match="is making"), hold_place(folder, again=True):
        pass


def test_a_place_is_free_when_its_holder_was_killed(holder, folder):
    holder.kill()
    holder.wait()
    assert lock_path(folder).exists()
    with hold_place(folder):
        pass


def test_nothing_is_left_of_a_lock(folder):
    with hold_place(folder):
        assert [path.name for path in folder.parent.iterdir()] == [".slice.cocuyo.lock"]
    assert not list(folder.parent.iterdir())


def test_the_same_process_passes_only_where_it_says_so(folder):
    with hold_place(folder):
        with hold_place(folder, again=True):
            pass
        assert lock_path(folder).read_text() == f"{os.getpid()} {socket.gethostname()}\n"
        with pytest.raises(ResultError), hold_place(folder):
            pass


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open.")
def test_a_lock_on_a_file_that_was_removed_meanwhile_is_not_taken_for_one(monkeypatch, folder):
    import fcntl

    lock, path = fcntl.flock, lock_path(folder)
    removed = []

    def flock(file, how):
        lock(file, how)
        if not removed:  # its holder let go between the opening and the locking
            removed.append(path.unlink())

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold_place(folder):
        assert path.exists()


def test_a_place_that_cannot_be_written_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="cannot be written"), alone_in(tmp_path / "file" / "x"):
        pass

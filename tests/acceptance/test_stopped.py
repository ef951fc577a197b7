"""Ctrl-C, a request to end, a kill: nothing looks finished, and a second run works."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cocuyo import Result
from cocuyo.cli import run_command_line

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows ends a process without asking it."
)

# The named function says that it was reached and waits there to be stopped.
WAITING = """
import importlib, pathlib, sys, time
from cocuyo.cli import main

module, name, sign = sys.argv[1:4]
del sys.argv[1:4]
where = importlib.import_module(module)
*owners, name = name.split(".")
for owner in owners:
    where = getattr(where, owner)
original = getattr(where, name)

def wait(*arguments, **options):
    original(*arguments, **options)
    pathlib.Path(sign).touch()
    time.sleep(60)

setattr(where, name, wait)
main()
"""
KNOWN = ("--frame-rate", 6.67, "--pixel-size", 1.5)  # as the fixture `run` gives
STAGES = {
    "while frames are read": ("cocuyo.io.sources", "RawMovie.read"),
    "while traces are extracted": ("cocuyo.pipeline.finish", "corrected_blocks"),
    "while files are written": ("cocuyo.io.results", "write_roi_set"),
    "while the page is made": ("cocuyo.report", "render_report"),
    "before the result takes its place": ("cocuyo.io.results", "_run_record"),
}


@pytest.fixture
def recording(write_tiff, small):
    return write_tiff(small)


@pytest.fixture
def start():
    """Start a program; end it if the test does not."""
    started = []

    def popen(*words):
        program = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(program)
        return program

    yield popen
    for program in started:
        if program.poll() is None:
            program.kill()
        program.communicate()


@pytest.fixture
def stop(start, tmp_path):
    """Send a signal to a command that has come to a place; give its end and its words."""

    def send(number, place, *words):
        sign = tmp_path / "sign"
        program = start("-c", WAITING, *place, sign, *words)
        deadline = time.monotonic() + 60
        while not sign.exists():
            assert program.poll() is None, program.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        program.send_signal(number)
        out, err = program.communicate(timeout=60)
        sign.unlink()
        return program.returncode, out, err

    return send


@pytest.fixture
def stop_run(stop, recording):
    """Send a signal to a run that has come to a stage."""
    words = ("run", "--preset", "srname", recording, "--frame-rate", 10)
    return lambda number, stage, *options: stop(number, STAGES[stage], *words, *options)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def expect_a_second_run_works(run, look, recording):
    assert run(recording).status == 0
    look(recording.with_suffix(".cocuyo")).expect_whole(60, (64, 72))
    assert names_in(recording.parent) == ["slice.cocuyo", "slice.tif"]


def test_ctrl_c_is_status_130_and_leaves_nothing_and_a_second_run_works(
    start, run, look, recording, tmp_path
):
    program = start("-m", "cocuyo", "run", "--preset", "srname", recording, "--frame-rate", 10)
    assert program.stderr.readline().startswith("60 frames of 64 x 72: about ")
    line = program.stderr.readline()
    assert line.startswith("segmenting: 60 of 60")  # traces, report and files are still to come
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "cocuyo: stopped."
    assert "Traceback" not in err
    assert names_in(tmp_path) == ["slice.tif"]
    expect_a_second_run_works(run, look, recording)


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_leaves_nothing_at_any_stage(stop_run, tmp_path, stage):
    status, out, err = stop_run(signal.SIGINT, stage)
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == "cocuyo: stopped."
    assert "Traceback" not in err
    assert names_in(tmp_path) == ["slice.tif"]


def test_ctrl_c_leaves_the_earlier_result_as_it_was(stop_run, state_of, finished, tmp_path):
    earlier = shutil.copytree(finished.path, tmp_path / "slice.cocuyo")
    before = state_of(earlier)
    status, _, _ = stop_run(signal.SIGINT, "while files are written", "--overwrite")
    assert status == 130
    assert state_of(earlier) == before
    assert names_in(tmp_path) == ["slice.cocuyo", "slice.tif"]


def test_a_request_to_end_is_status_143_and_a_second_run_goes_on(
    stop_run, run, tmp_path, recording
):
    status, out, err = stop_run(signal.SIGTERM, "while files are written", *KNOWN)
    assert (status, out) == (143, "")
    assert err.splitlines()[-1] == "cocuyo: ended on request."
    assert "Traceback" not in err
    assert names_in(tmp_path) == ["slice.cocuyo.partial", "slice.tif"]
    assert run(recording).status == 0
    assert names_in(tmp_path) == ["slice.cocuyo", "slice.tif"]
    taken = "The maps were taken over from a run that was stopped before its end."
    assert taken in notes_of(tmp_path / "slice.cocuyo")


def test_a_killed_run_leaves_nothing_that_looks_finished_and_a_second_run_works(
    stop_run, refused, run, look, recording, tmp_path
):
    status, _, _ = stop_run(signal.SIGKILL, "while the page is made")
    assert status == -signal.SIGKILL
    assert names_in(tmp_path) == [".slice.cocuyo.lock", "slice.cocuyo.partial", "slice.tif"]
    partial = tmp_path / "slice.cocuyo.partial"
    assert "is unfinished" in refused("evaluate", partial, "--truth", partial)
    expect_a_second_run_works(run, look, recording)


def notes_of(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["notes"]


def test_a_killed_run_goes_on_from_its_maps_and_gives_what_an_undisturbed_one_gives(
    stop_run, run, recording, tmp_path
):
    assert run(recording, "--out", tmp_path / "undisturbed").status == 0
    stop_run(signal.SIGKILL, "while traces are extracted", *KNOWN)
    assert names_in(tmp_path / "slice.cocuyo.partial") == ["run.json", "work"]
    assert run(recording).status == 0
    taken = "The maps were taken over from a run that was stopped before its end."
    assert taken in notes_of(tmp_path / "slice.cocuyo")
    assert taken not in notes_of(tmp_path / "undisturbed")
    for name in ("mask.tif", "probability.tif", "traces.csv", "raster.csv", "events.csv"):
        resumed = (tmp_path / "slice.cocuyo" / name).read_bytes()
        assert resumed == (tmp_path / "undisturbed" / name).read_bytes()


# Blocks of 10 frames, the first pass kept after each; it is killed when the third is kept.
IN_THE_FIRST_PASS = """
import pathlib, sys, time
import cocuyo.pipeline.run as run
import cocuyo.pipeline.stream as stream
from cocuyo.cli import main

sign = pathlib.Path(sys.argv.pop(1))
stream.READ_BYTES, run._KEEP_S, run._KEEP_SHARE = 10 * 4 * 64 * 72, -1.0, 1e9
keep, kept = run.keep_first_pass, []

def wait(*arguments, **options):
    keep(*arguments, **options)
    kept.append(1)
    if len(kept) == 3:
        sign.touch()
        time.sleep(60)

run.keep_first_pass = wait
main()
"""


def test_a_run_killed_in_its_first_pass_goes_on_there_and_gives_what_an_undisturbed_one_gives(
    start, run, recording, tmp_path
):
    assert run(recording, "--out", tmp_path / "undisturbed").status == 0
    sign = tmp_path / "sign"
    words = ("run", "--preset", "srname", recording, *KNOWN)
    program = start("-c", IN_THE_FIRST_PASS, sign, *words)
    deadline = time.monotonic() + 60
    while not sign.exists():
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    program.kill()
    program.wait()
    resumed = run(recording)
    assert resumed.status == 0
    frames = re.search(
        r"^segmenting: (\d+) of 60 .*going on where a run was stopped", resumed.err, re.M
    )
    assert 0 < int(frames[1]) < 60
    note = f"The first {frames[1]} of 60 frames were taken over from a run that was stopped"
    assert any(text.startswith(note) for text in notes_of(tmp_path / "slice.cocuyo"))
    for name in ("mask.tif", "probability.tif", "traces.csv", "raster.csv", "events.csv"):
        found = (tmp_path / "slice.cocuyo" / name).read_bytes()
        assert found == (tmp_path / "undisturbed" / name).read_bytes()


def test_a_second_run_of_the_same_result_is_refused_while_the_first_is_at_work(
    start, run, refused, look, recording, tmp_path
):
    sign = tmp_path / "sign"
    words = ("run", "--preset", "srname", recording, "--frame-rate", 10)
    first = start("-c", WAITING, *STAGES["while traces are extracted"], sign, *words)
    deadline = time.monotonic() + 60
    while not sign.exists():
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    sign.unlink()
    before = names_in(tmp_path / "slice.cocuyo.partial" / "work")
    said = refused(*words)
    assert f"Another cocuyo (process {first.pid} on " in said
    assert f"is making {recording.with_suffix('.cocuyo')} just now; wait until it has" in said
    assert names_in(tmp_path / "slice.cocuyo.partial" / "work") == before
    first.kill()  # which leaves its lock file, and holds nobody up
    first.wait()
    expect_a_second_run_works(run, look, recording)


@pytest.fixture
def pair(write_tiff, small):
    """Two recordings of one field."""
    return [
        write_tiff(small[i * 30 : i * 30 + 30], name=f"{name}.tif") for i, name in enumerate("ab")
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_leaves_nothing_of_an_experiment(stop, pair, tmp_path, stage):
    words = ("run", "--preset", "srname", *pair, "--out", tmp_path / "both", *KNOWN)
    status, out, err = stop(signal.SIGINT, STAGES[stage], *words)
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == "cocuyo: stopped."
    assert names_in(tmp_path) == ["a.tif", "b.tif"]


def test_a_killed_experiment_goes_on_from_its_maps_and_gives_the_same(stop, run, pair, tmp_path):
    assert run(*pair, "--out", tmp_path / "undisturbed").status == 0
    words = ("run", "--preset", "srname", *pair, "--out", tmp_path / "both", *KNOWN)
    stop(signal.SIGKILL, STAGES["while files are written"], *words)
    assert "both" not in names_in(tmp_path)
    assert run(*pair, "--out", tmp_path / "both").status == 0
    taken = [note for note in notes_of(tmp_path / "both") if "taken over from a run" in note]
    assert [note[:3] for note in taken] == ["a: ", "b: "]
    for name in ("mask.tif", "traces.csv", "recordings/b/events.csv"):
        resumed = (tmp_path / "both" / name).read_bytes()
        assert resumed == (tmp_path / "undisturbed" / name).read_bytes()


def test_a_killed_run_is_not_taken_up_with_other_settings(stop_run, run, recording, tmp_path):
    stop_run(signal.SIGKILL, "while traces are extracted", *KNOWN)
    assert run(recording, "--diameter", 15).status == 0
    assert not any("taken over" in note for note in notes_of(tmp_path / "slice.cocuyo"))


def test_a_run_killed_just_before_its_end_starts_again_too(
    stop_run, run, look, recording, tmp_path
):
    stop_run(signal.SIGKILL, "before the result takes its place")
    assert names_in(tmp_path) == [".slice.cocuyo.lock", "slice.cocuyo.partial", "slice.tif"]
    expect_a_second_run_works(run, look, recording)


def test_a_stop_between_the_old_result_and_the_new_one_puts_the_old_one_back(
    monkeypatch, capsys, finished, recording, tmp_path
):
    earlier = Path(shutil.copytree(finished.path, tmp_path / "slice.cocuyo"))
    replace = Path.replace

    def interrupted(self, target):
        if self.name == "slice.cocuyo.partial":
            assert not earlier.exists()
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    words = ["run", "--preset", "srname", str(recording), "--frame-rate", "10", "--overwrite"]
    assert run_command_line(words) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "cocuyo: stopped."
    assert Result.load(earlier).n_frames == 100
    assert names_in(tmp_path) == ["slice.cocuyo", "slice.tif"]


def test_ctrl_c_leaves_no_half_of_a_simulation(stop, tmp_path):
    words = ("simulate", "--n-frames", 20, "--size", 48, 64, "--out", tmp_path / "mine")
    status, out, err = stop(signal.SIGINT, ("tifffile", "imwrite"), *words)
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == "cocuyo: stopped."
    assert names_in(tmp_path) == []

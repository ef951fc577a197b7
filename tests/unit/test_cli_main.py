"""How commands end, and how they show progress."""

import io
import os
import re
import signal
import subprocess
import sys
import warnings

import click
import pytest

from cocuyo import __version__
from cocuyo.cli import ProgressPrinter, cli, recording_options, run_command_line
from cocuyo.core import Cancelled, Progress, RecordingError


@pytest.fixture
def command(monkeypatch):
    """Give the group a command that does what the test says."""

    def add(work):
        monkeypatch.setitem(cli.commands, "work", click.Command("work", callback=work))
        return lambda: run_command_line(["work"])

    return add


def raising(error):
    def work():
        raise error

    return work


def test_success_is_status_0(command):
    assert command(lambda: None)() == 0


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RecordingError("The file\nis odd."), "cocuyo: error: The file is odd."),
        (
            OSError(28, "No space left on device", "out/result.h5"),
            "No space left on device: out/re",
        ),
        (PermissionError(13, "Permission denied", "out"), "cocuyo: error: Permission denied: out"),
        (MemoryError("needs 5 TB"), "cocuyo: error: Not enough memory. needs 5 TB"),
    ],
)
def test_a_failure_is_one_line_and_status_1(error, line, command, capsys):
    assert command(raising(error))() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert line in err


def test_a_bug_keeps_its_traceback(command, capsys):
    assert command(raising(ZeroDivisionError("x")))() == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Cancelled()])
def test_ctrl_c_is_status_130_without_a_traceback(error, command, capsys):
    assert command(raising(error))() == 130
    assert capsys.readouterr().err.strip() == "cocuyo: stopped."


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it.")
def test_a_request_to_end_is_status_143_and_leaves_the_handler_as_it_was(command, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert command(lambda: os.kill(os.getpid(), signal.SIGTERM))() == 143
    assert "Traceback" not in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it.")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_that_a_library_turns_into_another_error_is_a_stop(number, status, command, capsys):
    def load():
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt as error:
            msg = "initialization failed"
            raise ImportError(msg) from error

    before = signal.getsignal(number)
    assert command(load)() == status
    assert capsys.readouterr().err.count("\n") == 1
    assert signal.getsignal(number) is before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it.")
def test_ctrl_c_stays_ignored_where_it_is(command):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert command(lambda: os.kill(os.getpid(), signal.SIGINT))() == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["inspect"], ["inspect", "x", "--frames", "a"]]
)
def test_wrong_usage_is_status_2(arguments, capsys):
    assert run_command_line(arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_warnings_are_one_line(command, capsys):
    def work():
        warnings.warn("The rate is\nodd.", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert command(work)() == 0
    assert capsys.readouterr().err == "cocuyo: warning: The rate is odd.\n"


def test_the_version_is_said(capsys):
    assert run_command_line(["--version"]) == 0
    assert capsys.readouterr().out == f"cocuyo {__version__}\n"


def leaves(group, words=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*words, name))
        else:
            yield (*words, name)


def test_every_command_has_help_with_examples(capsys):
    commands = list(leaves(cli))
    assert commands
    for words in commands:
        assert run_command_line([*words, "--help"]) == 0
        text = capsys.readouterr().out
        assert "Examples:" in text, words
        assert f"cocuyo {' '.join(words)}" in text.partition("Examples:")[2], words


def test_the_module_runs_as_a_program_and_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['cocuyo', '--help']\n"
        "import runpy\n"
        "try:\n    runpy.run_module('cocuyo', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print([m for m in ('numpy', 'scipy', 'cv2', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:500", (0, 500)), ("100:", (100, None)), (":5", (None, 5)), (":", (None, None))],
)
def test_frames_are_given_as_a_range(text, expected, monkeypatch):
    seen = []

    @click.command()
    @recording_options
    def work(reading):
        seen.append(reading.frames)

    monkeypatch.setitem(cli.commands, "work", work)
    assert run_command_line(["work", "--frames", text]) == 0
    assert seen == [expected]


# --- Progress ----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def run_stage(printer, clock, name, total=100, step_s=1.0):
    for done in range(total + 1):
        printer(Progress(name, done, total))
        clock.now += step_s


def test_plain_progress_is_a_line_every_ten_seconds_and_at_the_end():
    clock, stream = Clock(), io.StringIO()
    with ProgressPrinter(stream, clock=clock) as printer:
        run_stage(printer, clock, "read")
        run_stage(printer, clock, "write", total=3)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "read: 10 of 100 (10%), 1:30 left"
    assert lines[9] == "read: 100 of 100, done in 1:40"
    assert lines[10:] == ["write: 3 of 3, done in 0:03"]


def test_terminal_progress_rewrites_one_line_for_each_stage():
    clock, stream = Clock(), Terminal()
    with ProgressPrinter(stream, clock=clock) as printer:
        run_stage(printer, clock, "read")
        run_stage(printer, clock, "write", total=3)
    assert stream.getvalue().count("\n") == 2
    assert re.search(r"\rread: 50 of 100 \(50%\), 0:50 left", stream.getvalue())


def test_an_error_in_the_middle_ends_the_line():
    stream = Terminal()

    def work():
        with ProgressPrinter(stream) as printer:
            printer(Progress("read", 1, 10))
            raise RecordingError

    with pytest.raises(RecordingError):
        work()
    assert stream.getvalue() == "\rread: 1 of 10 (10%)\n"


def test_progress_with_nothing_to_do_is_done():
    stream = io.StringIO()
    ProgressPrinter(stream)(Progress("validate", 0, 0))
    assert stream.getvalue() == "validate: 0 of 0, done in 0:00\n"


@pytest.mark.parametrize(("given", "seen"), [({}, "1"), ({"OMP_NUM_THREADS": "3"}, "None")])
def test_the_program_lets_linear_algebra_have_one_thread_unless_told(given, seen):
    script = (
        "import atexit, os, sys\n"
        "import cocuyo.cli\n"
        "assert 'numpy' not in sys.modules  # it reads the number when it is loaded\n"
        "atexit.register(lambda: print(os.environ.get('OPENBLAS_NUM_THREADS')))\n"
        "sys.argv = ['cocuyo', '--version']\n"
        "cocuyo.cli.main()\n"
    )
    without = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        env=without | given,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == seen

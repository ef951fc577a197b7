"""The program: runs a command, and says how it ended.

A command raises `CocuyoError` for what a user can mend; `main` turns that into one line on stderr
and an exit status: 0 success, 1 unusable input or failure, 2 wrong usage, 130 Ctrl-C, 143 a request
to end (SIGTERM).
"""

import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import click

from cocuyo.cli.common import _say, cli

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


@contextmanager
def _signals_end_cleanly() -> Iterator[list[int]]:
    """Turn Ctrl-C and SIGTERM into exceptions, and give the list of the signals that came.

    A library may turn the exception into another one, as what is interrupted while it is imported
    becomes an `ImportError`; the list tells that the end was asked for all the same.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def end(signum: int, frame: FrameType | None) -> NoReturn:
        asked.append(signum)
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        from cocuyo.core.errors import Terminated  # only now: it loads SciPy

        raise Terminated

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    _say("warning", message)


def _describe_os_error(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    return f"{what}: {error.filename}" if error.filename is not None else what


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run one command and say how it went.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``cocuyo``; those of the process by default.

    Returns
    -------
    int
        The exit status: 0, 1, 2, 130 or 143, as the module says.
    """
    asked: list[int] = []
    try:
        with _signals_end_cleanly() as asked, warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = cli.main(
                args=None if arguments is None else list(arguments),
                prog_name="cocuyo",
                standalone_mode=False,
            )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        from cocuyo.core import Terminated

        cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__
        return _say_stopped(terminated=isinstance(cause, Terminated))
    except Exception as error:
        if asked:
            return _say_stopped(terminated=asked[-1] == signal.SIGTERM)
        return _report_failure(error)
    return status if isinstance(status, int) else 0


def _say_stopped(*, terminated: bool) -> int:
    if terminated:
        print("cocuyo: ended on request.", file=sys.stderr)
        return EXIT_TERMINATED
    print("cocuyo: stopped.", file=sys.stderr)
    return EXIT_INTERRUPTED


def _report_failure(error: Exception) -> int:
    from cocuyo.core import Cancelled, CocuyoError  # only now: it loads SciPy

    if isinstance(error, Cancelled):
        print("cocuyo: stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
    if isinstance(error, CocuyoError):
        _say("error", error)
    elif isinstance(error, OSError):
        _say("error", _describe_os_error(error))
    elif isinstance(error, MemoryError):
        _say("error", f"Not enough memory. {error}")
    else:  # a bug: its traceback is what we need to mend it
        traceback.print_exception(error)
    return EXIT_FAILURE


def main() -> NoReturn:
    """Run ``cocuyo`` as a program."""
    if "OMP_NUM_THREADS" not in os.environ:
        # Our matrices are small: threads that share them wait for each other, and take the cores
        # from the networks meanwhile. The process is ours, and NumPy is not loaded yet.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):  # a terminal without µ shows a mark in its place
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run_command_line())

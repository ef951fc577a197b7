"""Where the work stands, on stderr."""

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from cocuyo.core import Progress


def _duration(seconds: float) -> str:
    seconds = max(0, round(seconds))
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class ProgressPrinter:
    """Shows on stderr where the work stands; a progress callback and a context manager.

    On a terminal one line is rewritten, with the share done and the time left. Elsewhere a
    plain line is written at most every `plain_interval_s` and at the end of each stage.

    Parameters
    ----------
    stream : file, optional
        Where to write; stderr by default.
    plain_interval_s : float, default: 10.0
        Shortest time between two lines of one stage that is not yet done, in seconds.
    clock : callable, default: time.monotonic
        Gives the time in seconds.

    Examples
    --------
    >>> from cocuyo.core import Progress
    >>> with ProgressPrinter(stream=sys.stdout) as progress:
    ...     progress(Progress("reading", 5, 5))
    reading: 5 of 5, done in 0:00
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        plain_interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._interval_s = 0.1 if self._live else plain_interval_s
        self._clock = clock
        self._stage: str | None = None
        self._started_s = 0.0
        self._start_done = 0
        self._shown_s = 0.0
        self._finished = True
        self._width = 0

    def __call__(self, progress: "Progress") -> None:
        """Take a progress report.

        Parameters
        ----------
        progress : Progress
            Where a stage stands.
        """
        now = self._clock()
        if progress.stage != self._stage:
            self._end_line()
            self._stage = progress.stage
            self._started_s = now
            # A stage that begins with something to say (that it goes on) says it at once.
            self._shown_s = -math.inf if self._live or progress.detail else now
            self._start_done = progress.done
            self._finished = False
        if self._finished:
            return
        elapsed = now - self._started_s
        detail = f", {progress.detail}" if progress.detail else ""
        if progress.done >= progress.total:
            self._finished = True
            text = f"{progress.stage}: {progress.done} of {progress.total}{detail}"
            self._write(f"{text}, done in {_duration(elapsed)}")
            self._end_line()
        elif now - self._shown_s >= self._interval_s:
            self._shown_s = now
            share = progress.done / progress.total
            text = f"{progress.stage}: {progress.done} of {progress.total} ({share:.0%}){detail}"
            done = progress.done - self._start_done
            if done > 0 and elapsed > 0:
                left = elapsed * (progress.total - progress.done) / done
                text += f", {_duration(left)} left"
            self._write(text)

    def __enter__(self) -> "ProgressPrinter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_line()

    def _write(self, text: str) -> None:
        if self._live:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def _end_line(self) -> None:
        if self._live and self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0

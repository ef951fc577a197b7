"""How a batch shows where it stands: a block of lines on a terminal, plain lines elsewhere."""

import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TextIO

from cocuyo.batch.run import Snapshot
from cocuyo.core import Progress

_SHOWN = 12  # running recordings on a terminal; more would push the rest off the screen


class BatchPrinter:
    """Shows the progress of a batch; a callback for `run_batch` and a context manager.

    On a terminal the whole and each running recording have a line, which is rewritten. Elsewhere a
    line is written for each recording that ends, and one for the whole now and then.

    Parameters
    ----------
    stream : file
        Where to write.
    log : Path, optional
        File to which what ends is added, with the time.
    plain_interval_s : float, default: 60.0
        Time between two lines for the whole, in seconds.
    clock : callable, default: time.monotonic
        Gives the time in seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        log: Path | None = None,
        plain_interval_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._log = log
        self._live = stream.isatty()
        self._interval_s = plain_interval_s
        self._clock = clock
        self._shown_s = clock()
        self._n_lines = 0
        self._seen: dict[str, tuple[float, float]] = {}

    def __call__(self, snapshot: Snapshot) -> None:
        """Show a snapshot.

        Parameters
        ----------
        snapshot : Snapshot
            Where the batch stands.
        """
        self._keep(snapshot.news)
        if self._live:
            self._erase()
            for line in snapshot.news:
                self._stream.write(line + "\n")
            lines = [self._whole(snapshot), *self._each(snapshot)]
            width = shutil.get_terminal_size().columns - 1
            self._stream.write("".join(f"{line[:width]}\n" for line in lines))
            self._n_lines = len(lines)
        else:
            for line in snapshot.news:
                self._stream.write(line + "\n")
            now = self._clock()
            over = snapshot.n_done + snapshot.n_failed == snapshot.n_all
            if not over and now - self._shown_s >= self._interval_s:
                self._shown_s = now
                running = "; ".join(
                    f"{name} {_stage(progress)}" for name, progress in snapshot.running.items()
                )
                self._stream.write(
                    self._whole(snapshot) + (f": {running}" if running else "") + "\n"
                )
        self._stream.flush()

    def __enter__(self) -> "BatchPrinter":
        return self

    def __exit__(self, *problem: object) -> None:
        self._erase()

    def _erase(self) -> None:
        if self._live and self._n_lines:
            self._stream.write(f"\x1b[{self._n_lines}F\x1b[J")
            self._n_lines = 0

    def _whole(self, snapshot: Snapshot) -> str:
        text = f"{snapshot.n_done} of {snapshot.n_all} done"
        if snapshot.n_failed:
            text += f", {snapshot.n_failed} failed"
        if snapshot.n_done + snapshot.n_failed < snapshot.n_all:
            text += f", {len(snapshot.running)} running"
            if snapshot.n_slots == 0:
                text += ", no worker at present"
            elif snapshot.left_s is not None:
                text += f", {format_time(snapshot.left_s)} left"
        return text

    def _each(self, snapshot: Snapshot) -> list[str]:
        now = self._clock()
        lines = []
        for name, progress in list(snapshot.running.items())[:_SHOWN]:
            key = f"{name}\0{progress.stage}"
            start, first = self._seen.setdefault(key, (now, progress.done))
            line = f"  {name}: {_stage(progress)}"
            advanced = progress.done - first
            if advanced > 0 and progress.done < progress.total and now > start:
                left = (now - start) * (progress.total - progress.done) / advanced
                line += f", {format_time(left)} left"
            lines.append(line)
        more = len(snapshot.running) - _SHOWN
        return [*lines, f"  and {more} more"] if more > 0 else lines

    def _keep(self, news: tuple[str, ...]) -> None:
        if self._log is None or not news:
            return
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
        try:
            with self._log.open("a", encoding="utf-8", errors="replace") as file:
                file.writelines(f"{now} {line}\n" for line in news)
        except OSError:  # a full disk: the batch itself will say so
            self._log = None


def _stage(progress: Progress) -> str:
    if progress.total <= 1:
        return progress.stage
    return f"{progress.stage} {100 * progress.done // progress.total} %"


def format_time(seconds: float) -> str:
    """Write a time for people.

    Parameters
    ----------
    seconds : float
        The time.

    Returns
    -------
    str
        Such as ``1:02:03`` or ``4:05``.

    Examples
    --------
    >>> format_time(3723), format_time(245)
    ('1:02:03', '4:05')
    """
    hours, rest = divmod(max(0, round(seconds)), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"

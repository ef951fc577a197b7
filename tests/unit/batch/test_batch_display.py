"""What a batch says while it runs."""

import io

import pytest

from cocuyo.batch import BatchPrinter, Snapshot
from cocuyo.core import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


def snapshot(n_done, running=(), news=(), left_s=None, n_slots=2, n_failed=0):
    progress = {name: Progress("segmenting", done, 200) for name, done in running}
    return Snapshot(10, n_done, n_failed, progress, n_slots, 0.0, left_s, tuple(news))


def test_elsewhere_there_are_plain_lines_for_what_ends_and_now_and_then_for_the_whole(clock):
    stream = io.StringIO()
    with BatchPrinter(stream, clock=clock) as show:
        show(snapshot(0, [("a", 10)]))
        show(snapshot(1, [("b", 10)], ["a: 3 neurons"]))
        clock.now = 61
        show(snapshot(1, [("b", 50)], left_s=75))
        clock.now = 62
        show(snapshot(1, [("b", 60)], left_s=74))
        show(snapshot(10, news=["b failed: bad"]))
    assert stream.getvalue().splitlines() == [
        "a: 3 neurons",
        "1 of 10 done, 1 running, 1:15 left: b segmenting 25 %",
        "b failed: bad",
    ]


def test_on_a_terminal_the_whole_and_each_recording_have_a_line_that_is_rewritten(clock):
    stream = Terminal()
    with BatchPrinter(stream, clock=clock) as show:
        show(snapshot(0, [("a", 0), ("b", 50)]))
        clock.now = 10
        show(snapshot(1, [("b", 100)], ["a: 3 neurons"], left_s=3700))
    first, second, last = stream.getvalue().split("\x1b[J")[:3]
    assert first == "0 of 10 done, 2 running\n  a: segmenting 0 %\n  b: segmenting 25 %\n\x1b[3F"
    assert second == (
        "a: 3 neurons\n1 of 10 done, 1 running, 1:01:40 left\n"
        "  b: segmenting 50 %, 0:20 left\n\x1b[2F"
    )
    assert last == ""  # what stays on the screen are the lines of what ended


def test_without_workers_it_says_so(clock):
    stream = Terminal()
    BatchPrinter(stream, clock=clock)(snapshot(0, n_slots=0))
    assert "no worker at present" in stream.getvalue()


def test_what_ends_is_kept_with_the_time_and_a_full_disk_does_not_matter(tmp_path, clock):
    show = BatchPrinter(io.StringIO(), log=tmp_path / "batch.log", clock=clock)
    show(snapshot(1, news=["a: 3 neurons"]))
    (line,) = (tmp_path / "batch.log").read_text("utf-8").splitlines()
    assert line.endswith(" a: 3 neurons")
    show = BatchPrinter(io.StringIO(), log=tmp_path / "absent" / "batch.log", clock=clock)
    show(snapshot(1, news=["a: 3 neurons"]))

"""Where the milliseconds of a run go: processor time of each stage, and of each thread.

    python benchmarks/stages.py recording.tif --cores 2

runs `cocuyo run` on a recording in this process and prints a table. Each stage is one function of
the library; its time is that of the thread that runs it, without the stages that it calls, so that
other work on the machine adds little. What the threads of the networks and of the linear algebra do
beside the thread that waits for them stands in a line of its own. Without a recording, the standard
one of `speed.py` is simulated (``--frames`` of 512 x 512). Linux only.
"""

import argparse
import functools
import importlib
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speed import PIXEL_UM, RATE_HZ, make_frames, write_tiff

STAGES = (
    ("load the networks", "pipeline.run", "load_networks"),
    ("first frames, template", "pipeline.run", "set_up"),
    ("read", "io.tiff", "PagedMovie.read"),
    ("place frames", "pipeline.stream", "place_frames"),
    ("shift frames", "pipeline.stream", "apply_motion"),
    ("steps, temporal contrast", "pipeline.analysis", "push_frames"),
    ("sums, maps of the contrast", "pipeline.analysis", "_Sums.add"),
    ("equalise", "pipeline.analysis", "equalise"),
    ("U-Net", "segmentation.engine", "_OpenVinoEngine.segment"),
    ("temporal network", "segmentation.engine", "_OpenVinoEngine.step"),
    ("checkpoints", "pipeline.run", "keep_first_pass"),
    ("traces: pixels to sums", "pipeline.finish", "project"),
    ("traces: weights of surrounds", "pipeline.finish", "sector_shares"),
    ("images of candidates", "pipeline.finish", "add_to_images"),
    ("outlines at half maximum", "pipeline.finish", "outline"),
    ("outline network, its views", "pipeline.finish", "_redraw"),
    ("corrected traces, baselines", "pipeline.finish", "correct_traces"),
    ("judge of events", "postprocessing.judge", "EventJudge.probability"),
    ("figures for the verifier", "pipeline.finish", "describe_candidate"),
    ("identity of the file", "io", "file_identity"),
    ("result folder and report", "core.result", "Result.save"),
)
"""Name, module and function of each stage, in the order of a run."""


class Stopwatch:
    """Processor time of functions in whatever thread, without that of the others in them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inner = threading.local()

    def watch(self, name: str, module: str, function: str) -> None:
        """Put a watched function in place of one of the library."""
        owner: Any = importlib.import_module(f"cocuyo.{module}")
        *path, last = function.split(".")
        for part in path:
            owner = getattr(owner, part)
        if hasattr(owner, last):
            setattr(owner, last, self._watched(name, getattr(owner, last)))

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **options: Any) -> Any:
            inner, self._inner.seconds = getattr(self._inner, "seconds", 0.0), 0.0
            start = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                took = time.thread_time() - start
                own = took - self._inner.seconds
                self._inner.seconds = inner + took
                self.seconds[name] = self.seconds.get(name, 0.0) + own
                self.calls[name] = self.calls.get(name, 0) + 1

        return watched


def main() -> None:
    """Run once, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=3600, help="of the simulated recording")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    from cocuyo.cli import run_command_line

    stopwatch = Stopwatch()
    for stage in STAGES:
        stopwatch.watch(*stage)
    with tempfile.TemporaryDirectory() as folder:
        recording = options.recording
        if recording is None:
            recording = Path(folder) / "recording.tif"
            write_tiff(recording, make_frames(600, 512, 1.0), options.frames)
        known = ["--frame-rate", str(RATE_HZ), "--pixel-size", str(PIXEL_UM), "--diameter", "11"]
        start, before = time.perf_counter(), time.process_time()
        status = run_command_line(["run", str(recording), "--out", f"{folder}/result", *known])
        wall, total = time.perf_counter() - start, time.process_time() - before
    seconds = stopwatch.seconds
    lines = ["| stage | calls | processor s |", "|---|---|---|"]
    lines += [
        f"| {name} | {stopwatch.calls[name]} | {seconds[name]:.2f} |"
        for name, _, _ in STAGES
        if name in seconds
    ]
    lines += [
        f"| the rest, and helpers of the networks | | {total - sum(seconds.values()):.2f} |",
        f"| all | | {total:.1f} |",
    ]
    print("\n".join(lines))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"\n{options.cores} cores, wall {wall:.1f} s, peak memory {peak:.0f} MB")
    sys.exit(status)


if __name__ == "__main__":
    main()

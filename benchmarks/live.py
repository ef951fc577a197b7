"""Latency of `cocuyo live` on a simulated slice, frame by frame as it would be recorded.

    python benchmarks/live.py --out live.md

simulates a slice of 512 x 512 pixels, lets `cocuyo live` follow it at 10 and 20 frames per second
(as a replay, and sent over TCP), and writes the latencies that it stores, beside the targets. The
table states the load of the machine: where others compute, the figures say little. ``--quick``
takes small frames, to try the command.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cocuyo.simulation import PRESETS, simulate

TARGET_MS = {"target": 100.0, "stretch": 40.0}
CLIENT = Path(__file__).parents[1] / "examples" / "send_frames_tcp.py"


@dataclass(frozen=True)
class Case:
    """One way to receive the frames."""

    rate_hz: float
    source: str


CASES = (Case(10.0, "replay"), Case(20.0, "replay"), Case(20.0, "tcp"))


def make_recording(folder: Path, *, rate_hz: float, seconds: float, side: int) -> Path:
    """Simulate an ordinary slice, with as many cells for its area as the preset."""
    preset = PRESETS["slice"]
    factor = 0.75 * (side / 256) ** 2
    counts = {
        key: max(2, round(getattr(preset, key) * factor))
        for key in ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent")
    }
    size = {"n_frames": round(seconds * rate_hz), "n_rows": side, "n_columns": side}
    simulation = simulate(
        preset.model_copy(update={**counts, **size, "frame_rate_hz": rate_hz}), seed=7_100
    )
    np.save(folder / "recording.npy", simulation.frames)
    tifffile.imwrite(folder / "recording.tif", simulation.frames, photometric="minisblack")
    return folder / "recording.tif"


def run_case(case: Case, recording: Path, *, pixel_size_um: float) -> dict[str, Any]:
    """Let `cocuyo live` follow the recording; give what it stores."""
    folder = recording.with_name(f"{case.source}_{case.rate_hz:g}")
    known = ["--pixel-size", str(pixel_size_um), "--diameter", "11", "--out", str(folder)]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    command = [sys.executable, "-m", "cocuyo", "live"]
    if case.source == "replay":
        rate = ["--frame-rate", str(case.rate_hz)]
        words = [*command, str(recording), "--replay", *rate, *known]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    else:
        words = [*command, "tcp://127.0.0.1:0", "--publish", *known]
        live = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert live.stderr is not None
        port = (
            next(line for line in live.stderr if "Waiting for" in line).strip().rpartition(":")[2]
        )
        movie = recording.with_suffix(".npy")
        sender = [sys.executable, str(CLIENT), port, str(movie), str(case.rate_hz)]
        subprocess.run(sender, check=True, stdout=subprocess.DEVNULL)
        live.stderr.read()
        if live.wait() != 0:
            msg = f"cocuyo live ended with status {live.returncode}."
            raise RuntimeError(msg)
    record = json.loads((folder.with_name(folder.name + ".live") / "live.json").read_text("utf-8"))
    result = json.loads((folder / "run.json").read_text("utf-8"))
    return {
        "source": case.source,
        "rate_hz": case.rate_hz,
        "n_frames": record["n_frames"],
        "n_dropped": record["n_dropped"],
        "n_rois": record["n_rois"],
        "n_events": record["n_events"],
        **{f"latency_{key}": value for key, value in record["latency"].items()},
        **{f"delay_{key}": value for key, value in record["delay"].items()},
        "maps_taken_over": any("made while the recording ran" in n for n in result["notes"]),
        "engine": f"{result['engine']} {result['precision']}",
        "load_before": round(load, 2),
    }


def to_markdown(rows: list[dict[str, Any]], machine: str) -> str:
    """Write the table with what it was measured on."""
    lines = [
        f"Measured {time.strftime('%Y-%m-%d')} on {machine}. Targets for p99: at most "
        f"{TARGET_MS['target']:g} ms, stretch {TARGET_MS['stretch']:g} ms.",
        "",
        "| source | Hz | frames | dropped | p50 ms | p99 ms | largest ms | p99 within target "
        "| load before |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        p99 = row["latency_p99_ms"]
        met = "not measured" if p99 is None else ("yes" if p99 <= TARGET_MS["target"] else "no")
        lines.append(
            f"| {row['source']} | {row['rate_hz']:g} | {row['latency_n_frames']} of "
            f"{row['n_frames']} | {row['n_dropped']} | {row['latency_p50_ms']} | {p99} "
            f"| {row['latency_max_ms']} | {met} | {row['load_before']} |"
        )
    delay = rows[-1]
    lines += [
        "",
        "Latency: from the arrival of a frame to its traces and events written and sent; the "
        f"frames of the start ({delay['delay_start_s']:g} s in the last row) are left out.",
        f"Algorithmic delay: events {delay['delay_events_s']:g} s, maps "
        f"{delay['delay_maps_s']:g} s, events of a new ROI up to {delay['delay_rois_s']:g} s.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the table and the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("live.md"))
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each recording")
    parser.add_argument("--quick", action="store_true", help="small frames, to try the command")
    options = parser.parse_args()
    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as place:
            recording = make_recording(
                Path(place),
                rate_hz=case.rate_hz,
                seconds=options.seconds,
                side=160 if options.quick else 512,
            )
            rows.append(run_case(case, recording, pixel_size_um=PRESETS["slice"].pixel_size_um))
            print(json.dumps(rows[-1]), flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} processors"
    options.out.write_text(to_markdown(rows, machine), encoding="utf-8")
    content = {"machine": machine, "rows": rows}
    options.out.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""What `cocuyo batch` costs beside `cocuyo run`, and what a second worker brings.

    python benchmarks/batch.py --out batch.md

simulates four recordings that take a quarter of a minute of one core each, and measures on them

- `cocuyo batch --processes 1` against `cocuyo run` on one after the other, both with all cores:
  the target is at most 1.05 times the time. Both are done twice, in turns; the quicker ones count;
- `cocuyo batch` with two workers of one core each against one: at most 0.6 times the time.

Only ratios within one run of this command say anything. It keeps to two cores where the system
allows that, and takes about five minutes of them. The processor time of all processes stands
beside the time on the clock: where others compute too, it says more. ``--quick`` takes small
recordings, to try the command.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import tifffile

from cocuyo.simulation import PRESETS, simulate

TARGETS = {"overhead": 1.05, "two workers": 0.6}
N_CORES = 2


@dataclass(frozen=True)
class Taken:
    """What a way to analyse all recordings took.

    Attributes
    ----------
    wall_s, cpu_s : float
        On the clock, and of all processors, in seconds.
    analysis_s : float
        Sum over the recordings of what their own analysis took (the timings that results keep).
    """

    wall_s: float
    cpu_s: float
    analysis_s: float


def make_recordings(folder: Path, *, n: int, side: int, n_frames: int) -> list[Path]:
    """Simulate slices with as many cells for their area as the preset."""
    folder.mkdir()
    preset = PRESETS["slice"]
    factor = 0.75 * (side / 256) ** 2
    counts = {
        key: max(2, round(getattr(preset, key) * factor))
        for key in ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent")
    }
    size = {"n_rows": side, "n_columns": side, "n_frames": n_frames}
    paths = []
    for i in range(n):
        simulation = simulate(preset.model_copy(update={**counts, **size}), seed=7_200 + i)
        paths.append(folder / f"slice{i + 1}.tif")
        tifffile.imwrite(paths[-1], simulation.frames, photometric="minisblack")
    return paths


def known() -> list[str]:
    """What the files do not say."""
    preset = PRESETS["slice"]
    rate, pixel = preset.frame_rate_hz, preset.pixel_size_um
    return ["--frame-rate", f"{rate:g}", "--pixel-size", f"{pixel:g}"]


def cocuyo(*words: object) -> None:
    """Run a command to its end."""
    subprocess.run(
        [sys.executable, "-m", "cocuyo", *map(str, words), *known()],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def run_each(paths: list[Path], out: Path) -> Taken:
    """Analyse one recording after the other."""
    wall, cpu = time.perf_counter(), children_s()
    for path in paths:
        cocuyo("run", path, "--out", out / path.stem)
    return Taken(time.perf_counter() - wall, children_s() - cpu, analysis_s(out))


def run_batch(paths: list[Path], out: Path, *options: object) -> Taken:
    """Analyse all recordings as a batch."""
    wall, cpu = time.perf_counter(), children_s()
    cocuyo("batch", paths[0].parent, "--out", out, *options)
    return Taken(time.perf_counter() - wall, children_s() - cpu, analysis_s(out / "recordings"))


def children_s() -> float:
    """Processor time of all processes that have ended below this one."""
    times = os.times()
    return times.children_user + times.children_system


def analysis_s(folder: Path) -> float:
    """Sum of the timings that the results in a folder keep."""
    return sum(
        sum(json.loads(path.read_text("utf-8"))["timings_s"].values())
        for path in folder.glob("*/run.json")
    )


def to_markdown(taken: dict[str, Taken], ratios: dict[str, dict[str, float]], facts: str) -> str:
    """Write the tables with what they were measured on."""
    lines = [
        f"Measured {time.strftime('%Y-%m-%d')} on {facts}.",
        "",
        "| way | time s | processor s | of it in the analyses s |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {t.wall_s:.1f} | {t.cpu_s:.1f} | {t.analysis_s:.1f} |"
        for name, t in taken.items()
    ]
    lines += [
        "",
        "| ratio | of time | of processor time | target | met |",
        "|---|---|---|---|---|",
    ]
    for name, found in ratios.items():
        met = "yes" if found["wall"] <= TARGETS[name] else "no"
        lines.append(
            f"| {name} | {found['wall']:.3f} | {found['cpu']:.3f} | {TARGETS[name]:g} | {met} |"
        )
    return "\n".join(lines) + "\n"


def ratio(one: Taken, other: Taken) -> dict[str, float]:
    """Divide what two ways took."""
    return {"wall": one.wall_s / other.wall_s, "cpu": one.cpu_s / other.cpu_s}


def main() -> None:
    """Measure, and write the tables and the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("batch.md"))
    parser.add_argument("--quick", action="store_true", help="small recordings, to try the command")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:N_CORES])
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    side, n_frames = (96, 90) if options.quick else (320, 2000)
    taken: dict[str, Taken] = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        paths = make_recordings(root / "recordings", n=4, side=side, n_frames=n_frames)
        cocuyo("run", paths[0], "--out", root / "warm", "--frames", "0:40")  # reads all from disk

        def measure(name: str, way: str, *given: object) -> None:
            out = root / "out"
            found = run_each(paths, out) if way == "run" else run_batch(paths, out, *given)
            shutil.rmtree(out)
            best = taken.get(name, found)
            taken[name] = min(best, found, key=lambda one: one.wall_s)
            print(json.dumps({"way": name, **asdict(found)}), flush=True)

        each, whole = "run, one after the other", "batch, one worker, all cores"
        for name in (each, whole, whole, each):
            if name == each:
                measure(name, "run")
            else:
                measure(name, "batch", "--processes", 1)
        for n in (1, 2):
            name = f"batch, {n} worker{'s' * (n > 1)} of one core"
            measure(name, "batch", "--processes", n, "--threads", 1)
    ratios = {
        "overhead": ratio(taken[whole], taken[each]),
        "two workers": ratio(
            taken["batch, 2 workers of one core"], taken["batch, 1 worker of one core"]
        ),
    }
    facts = (
        f"{platform.machine()}, {os.cpu_count()} processors, {N_CORES} of them used, load before "
        f"{load:.1f}; 4 recordings of {n_frames} frames of {side} x {side}"
    )
    text = to_markdown(taken, ratios, facts)
    options.out.write_text(text, encoding="utf-8")
    numbers = {
        "facts": facts,
        "taken": {name: asdict(found) for name, found in taken.items()},
        "ratios": ratios,
    }
    options.out.with_suffix(".json").write_text(json.dumps(numbers, indent=2) + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()

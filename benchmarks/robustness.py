"""Accuracy over diameter, frame rate, signal to noise and density, with nothing set by hand.

    python benchmarks/robustness.py --out benchmarks/results/robustness.md

simulates slices that differ from the preset in one respect at a time (split ``test``, seeds that
nothing was trained or chosen on), gives the default nothing but frame rate and pixel size, and
draws pixel SDC and F1 at IoU 0.5 over that respect. ``--quick`` takes few recordings, to try the
command.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from slices import found_regions, run_model, score

from cocuyo.simulation import PRESETS, SimulationConfig, simulate

SEEDS = (8_200, 8_201)
COUNTS = ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent")
SIDE, N_FRAMES, SECONDS = 256, 600, 60.0
DIAMETERS_ACROSS = 24
"""Somata that fit side by side in a field, at any diameter."""
VALUES: dict[str, tuple[float, ...]] = {
    "diameter, px": (6, 8, 11, 16, 22, 30),
    "frames per second": (2, 4, 10, 20, 40, 60),
    "signal to noise": (0.3, 1, 3, 8, 20),
    "cells, relative to the preset": (0.25, 0.5, 1, 1.5, 2),
}
"""What is varied. For the signal to noise these are counts per photon: fewer photons, more noise;
the picture is drawn over the median signal to noise of the transients."""


@dataclass(frozen=True)
class Case:
    """One recording."""

    axis: str
    value: float
    seed: int


def make_config(case: Case) -> SimulationConfig:
    """The preset ``slice``, but for one respect."""
    base = PRESETS["slice"]
    size: dict[str, Any] = {"n_frames": N_FRAMES, "n_rows": SIDE, "n_columns": SIDE}
    if case.axis == "diameter, px":
        side = round(DIAMETERS_ACROSS * case.value)
        size |= {"n_rows": side, "n_columns": side}
        size["pixel_size_um"] = base.soma_diameter_um / case.value
    elif case.axis == "frames per second":
        size |= {"frame_rate_hz": case.value, "n_frames": round(SECONDS * case.value)}
    elif case.axis == "signal to noise":
        size["gain_counts_per_photon"] = case.value
    else:
        size |= {name: max(2, round(getattr(base, name) * case.value)) for name in COUNTS}
        size["min_distance"] = min(base.min_distance, 0.65)
    return base.model_copy(update={**size, "split": "test"})


def measure(case: Case) -> dict[str, Any]:
    """Scores of the default on one recording."""
    cv2.setNumThreads(1)
    simulation = simulate(make_config(case), seed=case.seed)
    recording = simulation.recording()
    run = run_model("default", recording)
    found = score(found_regions(run.found, recording, "default"), simulation)
    shown = float(np.median(simulation.truth.transient_snr))
    at = shown if case.axis == "signal to noise" else case.value
    return {
        "axis": case.axis,
        "value": case.value,
        "at": at,
        "seed": case.seed,
        "SDC": found["SDC"],
        "F1 IoU 0.5": found.get("F1 IoU 0.5", np.nan),
        "event F1": found.get("event F1", np.nan),
        "functional": int(simulation.truth.functional.sum()),
        "SNR": shown,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """One row for each recording."""
    columns = ["functional", "SNR", "SDC", "F1 IoU 0.5", "event F1"]
    lines = ["| varied | value | seed | " + " | ".join(columns) + " |", "|---" * 8 + "|"]
    for row in rows:
        cells = [f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in columns]
        lines.append(
            f"| {row['axis']} | {row['value']:g} | {row['seed']} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel for each respect: each recording, and the mean of both."""
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    for axes, axis in zip(figure.subplots(2, 2, sharey=True).ravel(), VALUES, strict=True):
        own = [row for row in rows if row["axis"] == axis]
        for name, colour in (("SDC", "tab:green"), ("F1 IoU 0.5", "tab:blue")):
            axes.plot([r["at"] for r in own], [r[name] for r in own], ".", color=colour, alpha=0.4)
            groups = [[r for r in own if r["value"] == v] for v in VALUES[axis]]
            means = [
                (np.mean([r["at"] for r in g]), np.mean([r[name] for r in g])) for g in groups if g
            ]
            label = "pixel SDC" if name == "SDC" else "F1 at IoU 0.5"
            axes.plot(*zip(*means, strict=True), color=colour, label=label)
        axes.set(xlabel=axis, ylim=(0, 1))
        if axis != "cells, relative to the preset":
            axes.set_xscale("log")
            ticks = (2, 3, 5, 8, 12) if "noise" in axis else VALUES[axis]
            axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
            axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].legend(loc="lower right")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file; .json and .png go beside it.")
    parser.add_argument("--quick", action="store_true", help="Few recordings.")
    parser.add_argument("--workers", type=int, default=1, help="Recordings at a time.")
    given = parser.parse_args()
    cases = [
        Case(axis, value, seed)
        for axis, values in VALUES.items()
        for value in (values[1:3] if given.quick else values)
        for seed in (SEEDS[:1] if given.quick else SEEDS)
    ]
    with ProcessPoolExecutor(given.workers) as pool:
        rows = list(pool.map(measure, cases))
    text = table(rows)
    print(text)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        text += f"\n![Pixel SDC and F1 over each of them]({given.out.stem}.png)\n"
        given.out.write_text(text, encoding="utf-8")
        given.out.with_suffix(".json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        draw(rows, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()

"""Accuracy on slices, cultures and miniscopes of many kinds, with nothing set by hand.

    python benchmarks/preparations.py --workers 2 --out benchmarks/results/preparations.md

runs the default on the simulator's presets of every preparation, and on recordings that
`broad_training_config` draws (sizes from 5 to 30 pixels, rates from 2 frames a second on, many
cameras), all of the split ``test`` and of seeds that nothing was trained or chosen on. The program
is told frame rate and pixel size. ``--split validation`` takes the recordings that choices are made
on, ``--quick`` few and small ones, to try the command.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from slices import found_regions, run_model, score

from cocuyo.simulation import (
    PRESETS,
    SimulationConfig,
    broad_training_config,
    preparation_of,
    simulate,
)
from cocuyo.simulation.config import Split

NAMES = (
    "slice_gcamp6f",
    "slice_ogb1",
    "slice_mixed",
    "slice_stimulated",
    "culture",
    "culture_bursts",
    "miniscope",
    "miniscope_video",
    "miniscope_delta_f",
)
ANY = "any"
SEEDS = (9_100, 9_101)
N_ANY, FIRST_ANY = 24, 9_200
SIDE, N_FRAMES = 256, 600
_COUNTS = ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent")
_SCORES = ("SDC", "F1 5 px", "F1 IoU 0.5", "trace r", "event F1")


@dataclass(frozen=True)
class Case:
    """One recording."""

    name: str
    seed: int


def make_config(case: Case, split: Split, *, side: int, n_frames: int) -> SimulationConfig:
    """A preset on a smaller field of the same density, or a draw."""
    if case.name == ANY:
        shape = (side, side)
        return broad_training_config(case.seed, split=split, n_frames=n_frames, shape=shape)
    base = PRESETS[case.name]
    share = side * side / (base.n_rows * base.n_columns)
    size = {"split": split, "n_frames": n_frames, "n_rows": side, "n_columns": side}
    counts = {name: max(2, round(share * getattr(base, name))) for name in _COUNTS}
    return base.model_copy(update=size | counts)


def measure(case: Case, *, split: Split, model: str, side: int, n_frames: int) -> dict[str, Any]:
    """Scores of a model on one recording."""
    cv2.setNumThreads(1)  # one process of several
    config = make_config(case, split, side=side, n_frames=n_frames)
    simulation = simulate(config, seed=case.seed)
    recording = simulation.recording()
    found = score(found_regions(run_model(model, recording).found, recording, model), simulation)
    kind = case.name
    if kind == ANY:
        kind = f"any {preparation_of(case.seed, split=split)}"
    snr = simulation.truth.transient_snr
    return {
        "kind": kind,
        "seed": case.seed,
        "diameter px": config.soma_diameter_um / config.pixel_size_um,
        "frames/s": config.frame_rate_hz,
        "functional": int(simulation.truth.functional.sum()),
        "SNR": float(np.median(snr)) if len(snr) else float("nan"),
        **{name: float(found.get(name, np.nan)) for name in _SCORES},
        **{name: int(found.get(name, 0)) for name in ("ROIs", "tp", "fp", "fn")},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Means of each kind, and every recording."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = [
        "| recordings | number | " + " | ".join(_SCORES) + " | found / false / missed |",
        "|---" * (len(_SCORES) + 3) + "|",
    ]
    for kind in [*sorted(kinds), "all"]:
        own = [row for row in rows if kind in (row["kind"], "all")]
        cells = [_mean([row[name] for row in own]) for name in _SCORES]
        counts = " / ".join(str(sum(row[name] for row in own)) for name in ("tp", "fp", "fn"))
        lines.append(f"| {kind} | {len(own)} | " + " | ".join(cells) + f" | {counts} |")
    shown = ("diameter px", "frames/s", "functional", "SNR", *_SCORES)
    lines += ["", "| recording | seed | " + " | ".join(shown) + " |", "|---" * 11 + "|"]
    for row in sorted(rows, key=lambda one: (one["kind"], one["seed"])):
        cells = [
            str(row[name]) if name == "functional" else _mean([row[name]], 1 + 2 * (i > 3))
            for i, name in enumerate(shown)
        ]
        lines.append(f"| {row['kind']} | {row['seed']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean(values: list[float], digits: int = 3) -> str:
    known = [value for value in values if np.isfinite(value)]
    return f"{np.mean(known):.{digits}f}" if known else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file; a .json goes beside it.")
    parser.add_argument("--model", default="default")
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--quick", action="store_true", help="Few and small recordings.")
    parser.add_argument("--workers", type=int, default=1, help="Recordings at a time.")
    given = parser.parse_args()
    cases = [Case(name, seed) for seed in SEEDS for name in NAMES]
    cases += [Case(ANY, FIRST_ANY + i) for i in range(N_ANY)]
    if given.quick:
        cases = [cases[0], cases[5], cases[-1]]
    side, n_frames = (96, 120) if given.quick else (SIDE, N_FRAMES)
    with ProcessPoolExecutor(given.workers) as pool:
        one = partial(measure, split=given.split, model=given.model, side=side, n_frames=n_frames)
        rows = list(pool.map(one, cases))
    text = table(rows)
    print(text)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")
        given.out.with_suffix(".json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

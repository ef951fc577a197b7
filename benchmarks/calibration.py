"""How often a candidate with a given score is a functional neuron, on unseen simulations.

    python benchmarks/calibration.py --out benchmarks/results/calibration.md

simulates recordings with random parameters of the split ``test`` and the presets, from seeds that
nothing was trained or chosen on, runs the default, and compares the scores of all candidates with
the truth: a reliability diagram, and the expected calibration error (the mean distance between
score and frequency over ten bins, weighed by candidates). A candidate is a functional neuron where
it overlaps one by `SAME_NEURON_IOU` or more, as the verifier is taught. ``--split validation``
takes other recordings, to choose on.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from slices import run_model

from cocuyo.core import AnyArray, FloatArray
from cocuyo.simulation import PRESETS, SimulationConfig, random_config, simulate
from cocuyo.simulation.config import Split
from cocuyo.training.verifier import label_candidates

N_BINS = 10
TARGET = 0.05
SIDE, N_FRAMES = 256, 600
RANDOM_SEEDS = range(8_000, 8_024)
PRESET_SEEDS = {"slice": 8_100, "crowded": 8_101, "dim": 8_102, "silent": 8_103}
"""Presets have a seed each; no other benchmark and no training has any of them."""


def make_configs(split: Split, n: int) -> list[tuple[SimulationConfig, int]]:
    """The recordings, with their seeds."""
    size: dict[str, Any] = {"n_frames": N_FRAMES, "split": split}
    return [
        (random_config(seed, split=split, n_frames=N_FRAMES, shape=(SIDE, SIDE)), seed)
        for seed in RANDOM_SEEDS[:n]
    ] + [(PRESETS[name].model_copy(update=size), seed) for name, seed in PRESET_SEEDS.items()]


def scores_of(case: tuple[SimulationConfig, int], *, model: str) -> tuple[FloatArray, AnyArray]:
    """Score of each candidate of a recording, and whether it is a functional neuron."""
    cv2.setNumThreads(1)
    config, seed = case
    simulation = simulate(config, seed=seed)
    rois = run_model(model, simulation.recording()).found.rois
    cell, _ = label_candidates(rois, simulation)
    return rois.score, cell >= 0


def reliability(score: FloatArray, functional: AnyArray) -> list[dict[str, float]]:
    """Mean score and share of functional neurons in each bin that holds a candidate."""
    which = np.minimum((score * N_BINS).astype(int), N_BINS - 1)
    return [
        {
            "from": i / N_BINS,
            "n": int((which == i).sum()),
            "score": float(score[which == i].mean()),
            "share": float(functional[which == i].mean()),
        }
        for i in range(N_BINS)
        if (which == i).any()
    ]


def expected_error(bins: list[dict[str, float]]) -> float:
    """Expected calibration error."""
    total = sum(one["n"] for one in bins)
    return sum(one["n"] * abs(one["score"] - one["share"]) for one in bins) / max(1, total)


def draw(bins: list[dict[str, float]], error: float, path: Path) -> None:
    """Draw the reliability diagram, with the number of candidates below."""
    figure = Figure(figsize=(4.2, 4.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="ideal")
    upper.plot([b["score"] for b in bins], [b["share"] for b in bins], "o-", label="default")
    upper.set(ylabel="share that is a functional neuron", xlim=(0, 1), ylim=(0, 1))
    upper.set_title(f"expected calibration error {error:.3f}", fontsize=10)
    upper.legend(loc="upper left")
    lower.bar([b["from"] + 0.05 for b in bins], [b["n"] for b in bins], width=0.09, color="0.6")
    lower.set(xlabel="score", ylabel="candidates", yscale="log")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file; .json and .png go beside it.")
    parser.add_argument("--model", default="default")
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--random", type=int, default=len(RANDOM_SEEDS), help="Random recordings.")
    parser.add_argument("--workers", type=int, default=1, help="Recordings at a time.")
    given = parser.parse_args()
    configs = make_configs(given.split, given.random)
    with ProcessPoolExecutor(given.workers) as pool:
        found = list(pool.map(partial(scores_of, model=given.model), configs))
    score = np.concatenate([scores for scores, _ in found])
    functional = np.concatenate([labels for _, labels in found])
    bins = reliability(score, functional)
    error = expected_error(bins)
    lines = [
        f"{len(score)} candidates of {len(configs)} recordings (split {given.split}), "
        f"{int(functional.sum())} functional. Expected calibration error {error:.3f} "
        f"(target {TARGET}).",
        "",
        "| score | candidates | mean score | functional |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {b['from']:.1f} to {b['from'] + 1 / N_BINS:.1f} | {b['n']} | {b['score']:.3f} "
        f"| {b['share']:.3f} |"
        for b in bins
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        shown = "Share of functional neurons over score, and number of candidates"
        text += f"\n![{shown}]({given.out.stem}.png)\n"
        given.out.write_text(text, encoding="utf-8")
        stored = {"bins": bins, "error": error, "score": score.tolist()}
        stored["functional"] = functional.tolist()
        given.out.with_suffix(".json").write_text(json.dumps(stored), encoding="utf-8")
        draw(bins, error, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()

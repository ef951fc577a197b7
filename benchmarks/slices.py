"""Accuracy on simulated slices that nothing was trained or chosen on.

    python benchmarks/slices.py --out benchmarks/results/slices.md

simulates the test recordings (seeds and parameters of the split ``test``, never used in
training or for a threshold), runs the default, `paper`, `srname` and the unlearned baselines on
each, and writes the tables with numbers and denominators. ``--quick`` takes small recordings, to
try the command; ``--choose`` finds the baselines' thresholds on the split ``validation``.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from cocuyo.core import FloatArray, Recording, Regions
from cocuyo.evaluation import evaluate, pixel_scores
from cocuyo.pipeline import (
    UNLEARNED,
    Analysis,
    Finished,
    Model,
    analyse,
    extract_traces,
    find_rois,
    load_model,
    unlearned_map,
)
from cocuyo.pipeline.analysis import network_shape
from cocuyo.pipeline.run import choose_diameter
from cocuyo.postprocessing import refine_mask, split_mask
from cocuyo.segmentation import load_engine
from cocuyo.simulation import PRESETS, Simulation, SimulationConfig, random_config, simulate
from cocuyo.simulation.config import Split

# Chosen with --choose on recordings of the split "validation", for the best mean pixel SDC.
THRESHOLDS = {"maximum": 0.971, "average": 0.76, "contrast x probability": 3.333}


@dataclass(frozen=True)
class Case:
    """One recording of the table."""

    name: str
    config: SimulationConfig
    seed: int


@dataclass(frozen=True, eq=False)
class Run:
    """One model on one recording."""

    model: Model
    analysis: Analysis
    found: Finished
    diameter_px: float
    seconds: float


def make_cases(split: Split, *, quick: bool) -> list[Case]:
    """Presets and random parameters, hard enough: mostly silent cells, drifting tissue."""
    side, n_frames = (224, 300) if quick else (512, 1200)
    size = {"n_frames": n_frames, "n_rows": side, "n_columns": side, "split": split}
    base = {"test": 7_000, "validation": 5_000, "training": 3_000}[split]
    cases = []
    for i, name in enumerate(("slice", "sparse", "crowded", "silent", "dim")):
        preset = PRESETS[name]
        # The presets' numbers are for 256 x 256 pixels; sparse and silent keep theirs.
        factor = 1.0 if name in ("sparse", "silent") else 0.75 * (side / 256) ** 2
        counts = {
            key: round(getattr(preset, key) * factor)
            for key in ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent")
        }
        cases.append(Case(name, preset.model_copy(update=size | counts), base + i))
    seed, wanted = base + 100, 1 if quick else 3
    while wanted:
        config = random_config(seed, split=split, n_frames=n_frames, shape=(side, side))
        share = config.n_silent / max(1, config.n_silent + config.n_active)
        if config.n_active and share >= 0.6 and config.drift_px >= 3:
            cases.append(Case(f"random {seed}", config, seed))
            wanted -= 1
        seed += 1
    return cases


def run_model(name: str, recording: Recording) -> Run:
    """Run a model as `cocuyo run` does, keeping the maps that the baselines need."""
    start = time.perf_counter()
    model = load_model(name)
    config = model.settings.pipeline
    diameter = choose_diameter(recording, config, [], [])
    engine = None
    if config.method == "networks":
        shape = network_shape(recording.frame_shape, config.scale.factor(diameter))
        engine = load_engine(
            model.folder, config.networks, frame_shape=shape, formats=model.settings.precisions
        )
    analysis = analyse(recording, config=config, diameter_px=diameter, engine=engine)
    found = find_rois(
        recording,
        analysis,
        config=config,
        diameter_px=diameter,
        verifier=model.verifier,
        judge=model.judge,
        engine=engine,
    )
    return Run(model, analysis, found, diameter, time.perf_counter() - start)


def baseline_regions(run: Run, name: str, threshold: float) -> Regions:
    """A baseline's mask, refined and parted as the paper's is."""
    mask = (unlearned_map(run.analysis, name) >= threshold) & run.analysis.maps.valid
    refined = refine_mask(mask, diameter_px=run.diameter_px)
    labels = split_mask(refined, diameter_px=run.diameter_px)
    flat = labels.ravel()
    at = np.flatnonzero(flat)
    footprints = sparse.csr_array(
        (np.ones(len(at), np.float32), (flat[at] - 1, at)), shape=(int(flat.max()), flat.size)
    )
    return Regions(frame_shape=mask.shape, footprints=footprints, mask=labels > 0, name=name)


def found_regions(found: Finished, recording: Recording, name: str) -> Regions:
    """Accepted ROIs in the form that evaluation scores."""
    kept = np.flatnonzero(found.rois.accepted)
    return Regions(
        frame_shape=found.rois.frame_shape,
        footprints=found.rois.footprints[kept],
        mask=found.rois.mask(),
        traces=found.traces.delta_f_over_f[kept],
        raster=found.raster[kept],
        frame_rate_hz=recording.rate_hz,
        name=name,
    )


def true_footprints(simulation: Simulation, recording: Recording, run: Run) -> Regions | None:
    """What our extraction gives on the true footprints: the ceiling of traces and events."""
    truth = simulation.truth
    functional = np.flatnonzero(truth.functional)
    if len(functional) == 0:
        return None
    masks = sparse.csr_array(truth.cell_masks()[functional].astype(np.float32))
    extracted = extract_traces(
        recording,
        run.analysis.motion,
        masks,
        valid=run.analysis.maps.valid,
        config=run.model.settings.pipeline,
        diameter_px=run.diameter_px,
        judge=run.model.judge,
    )
    return Regions(
        frame_shape=recording.frame_shape,
        footprints=masks,
        mask=truth.mask(),
        traces=extracted.traces.delta_f_over_f,
        raster=extracted.raster,
        frame_rate_hz=recording.rate_hz,
        name="true footprints",
    )


def score(predicted: Regions, simulation: Simulation) -> dict[str, Any]:
    """The columns of the table, each with its numbers."""
    scores = evaluate(predicted, simulation.truth.regions())
    pixels, near, overlap = scores.pixels, scores.distance_strict, scores.iou_strict
    row: dict[str, Any] = {
        "ROIs": 0 if predicted.footprints is None else int(predicted.footprints.shape[0]),
        "SDC": pixels.sdc,
        "precision": pixels.precision,
        "recall": pixels.recall,
    }
    if near is not None and overlap is not None:
        row |= {
            "F1 5 px": near.f1,
            "tp": near.tp,
            "fp": near.fp,
            "fn": near.fn,
            "F1 IoU 0.5": overlap.f1,
        }
    if scores.silent is not None:
        row |= {"silent accepted": scores.silent.n_accepted, "silent": scores.silent.n_silent}
    if scores.traces is not None:
        row["trace r"] = scores.traces.median
    if scores.events is not None:
        row["event F1"] = scores.events.f1
    return row


def hardness(simulation: Simulation) -> dict[str, float]:
    """What makes a recording hard, as the acceptance states it."""
    truth = simulation.truth
    functional, silent = int(truth.functional.sum()), int((truth.kinds == 1).sum())
    row: dict[str, float] = {
        "functional": functional,
        "silent share": silent / max(1, functional + silent),
        "drift px": float(np.ptp(truth.shifts, axis=0).max()),
        "median SNR": float(np.median(truth.transient_snr)) if functional else np.nan,
    }
    highest = simulation.frames.max(axis=0).astype(np.float32)
    # The best that any threshold makes of the maximum projection.
    levels = np.percentile(highest, np.linspace(50, 99.9, 60))
    best = [pixel_scores(highest >= level, truth.mask()).sdc for level in levels]
    row["max projection SDC"] = float(np.nanmax(best)) if functional else np.nan
    return row


def measure(case: Case, models: list[str]) -> dict[str, Any]:
    """Everything about one recording."""
    simulation = simulate(case.config, seed=case.seed)
    recording = simulation.recording(name=case.name)
    rows: dict[str, Any] = {}
    for name in models:
        run = run_model(name, recording)
        rows[name] = score(found_regions(run.found, recording, name), simulation)
        rows[name]["seconds"] = round(run.seconds, 1)
        if name == models[0]:
            for baseline, threshold in THRESHOLDS.items():
                regions = baseline_regions(run, baseline, threshold)
                rows[baseline] = score(regions, simulation)
            ceiling = true_footprints(simulation, recording, run)
            if ceiling is not None:
                rows["true footprints"] = score(ceiling, simulation)
    return {"case": case.name, "hardness": hardness(simulation), "rows": rows}


def climb(case: Case) -> dict[str, FloatArray]:
    """Pixel SDC of each baseline at each step of its ladder, on one recording."""
    simulation = simulate(case.config, seed=case.seed)
    run = run_model("default", simulation.recording())
    truth = simulation.truth.mask()
    scores = {}
    for name, ladder in UNLEARNED.items():
        image = unlearned_map(run.analysis, name)
        masks = (
            refine_mask((image >= level) & run.analysis.maps.valid, diameter_px=run.diameter_px)
            for level in ladder
        )
        scores[name] = np.array([np.nan_to_num(pixel_scores(m, truth).sdc) for m in masks])
    return scores


def choose_thresholds(*, quick: bool, workers: int) -> dict[str, float]:
    """Best mean pixel SDC of each baseline over the validation recordings."""
    cases = [c for c in make_cases("validation", quick=quick) if c.config.n_active]
    with ProcessPoolExecutor(workers) as pool:
        found = list(pool.map(climb, cases))
    return {
        name: round(float(ladder[np.argmax(sum(scores[name] for scores in found))]), 3)
        for name, ladder in UNLEARNED.items()
    }


def table(results: list[dict[str, Any]]) -> str:
    """Markdown tables: the recordings, then each of them with every method."""
    lines = ["## The recordings", ""]
    columns = list(results[0]["hardness"])
    lines += _head(["recording", *columns])
    for result in results:
        cells = [_number(result["hardness"][column]) for column in columns]
        lines.append(f"| {result['case']} | " + " | ".join(cells) + " |")
    shown = ["ROIs", "SDC", "F1 5 px", "F1 IoU 0.5", "silent accepted", "trace r", "event F1"]
    for result in results:
        lines += [
            "",
            f"## {result['case']}",
            "",
            *_head(["method", *shown, "found / false / missed"]),
        ]
        for method, row in result["rows"].items():
            cells = [_number(row.get(column)) for column in shown]
            if "silent" in row:
                cells[4] = f"{row['silent accepted']} of {row['silent']}"
            counts = f"{row['tp']} / {row['fp']} / {row['fn']}" if "tp" in row else ""
            lines.append(f"| {method} | " + " | ".join(cells) + f" | {counts} |")
    return "\n".join(lines) + "\n"


def summary(results: list[dict[str, Any]]) -> str:
    """Two tables for the README: pixel SDC of each method, and the first model in full."""
    methods = [m for m in results[0]["rows"] if m != "true footprints"]
    lines = [*_head(["pixel SDC", *methods])]
    for result in results:
        rows = result["rows"]
        cells = [_number(rows[m].get("SDC")) for m in methods]
        if not result["hardness"]["functional"]:  # the ideal is no ROI at all
            cells = [f"{rows[m]['ROIs']} ROIs" for m in methods]
        lines.append(f"| {result['case']} | " + " | ".join(cells) + " |")
    first = methods[0]
    head = ["found / false / missed", "F1 at 5 px", "F1 at IoU 0.5", "silent accepted"]
    lines += ["", *_head([first, *head, "trace r (true footprints)", "event F1 (true footprints)"])]
    for result in results:
        row, best = result["rows"][first], result["rows"].get("true footprints", {})
        cells = [
            f"{row['tp']} / {row['fp']} / {row['fn']}",
            _number(row.get("F1 5 px")),
            _number(row.get("F1 IoU 0.5")),
            f"{row['silent accepted']} of {row['silent']}",
            f"{_number(row.get('trace r'))} ({_number(best.get('trace r'))})",
            f"{_number(row.get('event F1'))} ({_number(best.get('event F1'))})",
        ]
        lines.append(f"| {result['case']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _head(columns: list[str]) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]


def _number(value: object) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file; a .json goes beside it.")
    parser.add_argument("--models", nargs="+", default=["default", "paper", "srname"])
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--only", nargs="+", help="Names of recordings to take.")
    parser.add_argument("--quick", action="store_true", help="Small recordings.")
    parser.add_argument("--workers", type=int, default=1, help="Recordings measured at a time.")
    parser.add_argument("--choose", action="store_true", help="Find the baselines' thresholds.")
    given = parser.parse_args()
    if given.choose:
        print(json.dumps(choose_thresholds(quick=given.quick, workers=given.workers)))
        return
    cases = [
        case
        for case in make_cases(given.split, quick=given.quick)
        if not given.only or case.name in given.only
    ]
    results = []
    with ProcessPoolExecutor(given.workers) as pool:
        for result in pool.map(partial(measure, models=given.models), cases):
            results.append(result)
            print(table(results[-1:]), file=sys.stderr, flush=True)
    text = summary(results) + "\n" + table(results)
    print(text)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")
        given.out.with_suffix(".json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

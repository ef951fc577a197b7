"""Run cocuyo on the real recordings and look at what comes out.

    COCUYO_REAL_DATA=... python benchmarks/real.py --out real

runs the default (or ``--preset``) on every movie under the folder that COCUYO_REAL_DATA names,
keeps the result folders and a picture of each (neurons over the maximum and over the contrast,
given masks in another colour), and prints what was found and how it agrees with the given masks.
No weight was trained on these recordings. That candidates are judged beside the sharpest of their
recording (`add_context`) was built after a look at them; its numbers come from simulations.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import cocuyo
from cocuyo.core import BoolArray, FloatArray, Regions, Result
from cocuyo.core.outlines import outline
from cocuyo.evaluation import evaluate
from cocuyo.io import load_ground_truth, read_mask


@dataclass(frozen=True)
class Movie:
    """One recording, how it is read, and what is known about it."""

    name: str
    path: str
    reading: dict[str, Any] = field(default_factory=dict)
    truth: str = ""
    unknown: str = ""
    known: str = "no ground truth"


# Rates that the files do not say: from the READMEs beside the data, or the usual ones.
LIN = "lin_miniscope_dg13"
MOVIES = (
    Movie(
        "lin 7-12-17",
        f"{LIN}/dg13_7-12-17.avi",
        truth=f"{LIN}/gt_rois16_labels_7-12-17.tif",
        known="16 ROIs drawn by hand, not exhaustive",
    ),
    Movie(
        "lin 7-12-17, coverage",
        f"{LIN}/dg13_7-12-17.avi",
        truth=f"{LIN}/gt_mask_7-12-17.png",
        unknown=f"{LIN}/gt_unknown_7-12-17.png",
        known="pixels of all ROIs of two annotators",
    ),
    Movie("lin 7-16-17", f"{LIN}/dg13_7-16-17.avi"),
    Movie(
        "lin 8-11-17",
        f"{LIN}/dg13_8-11-17.avi",
        truth=f"{LIN}/gt_mask_8-11-17.png",
        unknown=f"{LIN}/gt_unknown_8-11-17.png",
        known="pixels of all ROIs of two annotators",
    ),
    Movie(
        "lin 8-16-17",
        f"{LIN}/dg13_8-16-17.avi",
        truth=f"{LIN}/gt_mask_8-16-17.png",
        unknown=f"{LIN}/gt_unknown_8-16-17.png",
        known="pixels of all ROIs of two annotators",
    ),
    Movie(
        "minian demo",
        "minian_demo_1p/raw.tif",
        {"frame_rate_hz": 15.0},
        truth="minian_demo_1p/silver_labels.tif",
        known="75 cells of the authors' CNMF, not hand labels",
    ),
    Movie("culture", "culture_neurons_1p/stack400_100x120.tif", {"frame_rate_hz": 8.5}),
    Movie(
        "mouse, two-photon",
        "optinist_mouse_2p/sample_mouse2p_first1000.tif",
        {"frame_rate_hz": 10.0},
    ),
)


def agreement(result: Result, truth: Regions, unknown: BoolArray | None) -> str:
    """Say in one line how a result agrees with what is known."""
    scores = evaluate(result, truth, ignore_pixels=unknown)
    pixels = scores.pixels
    text = f"SDC {pixels.sdc:.3f} (precision {pixels.precision:.3f}, recall {pixels.recall:.3f})"
    near = scores.distance_strict
    if near is not None and truth.footprints is not None and truth.footprints.shape[0] > 1:
        text += (
            f"; within 5 px F1 {near.f1:.3f} ({near.tp} found, {near.fp} beside, {near.fn} missed)"
        )
    return text


def covered(truth: Regions) -> BoolArray:
    """Pixels of the given masks."""
    if truth.footprints is None:
        return np.asarray(truth.mask)
    return np.asarray(truth.footprints.sum(axis=0) > 0).reshape(truth.frame_shape)


def draw(result: Result, truth: BoolArray | None, path: Path) -> None:
    """Write a picture: neurons in yellow, given masks in cyan."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    images = {
        "maximum, corrected": result.projections["max"],
        "contrast": result.projections["contrast"],
        "probability": result.probability,
    }
    figure = Figure(figsize=(15, 5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, image) in zip(figure.subplots(1, 3), images.items(), strict=True):
        axes.imshow(image, cmap="gray", **_range(image))
        axes.set_title(title)
        axes.set_axis_off()
        masks = [(result.rois.mask(), "yellow")] + ([] if truth is None else [(truth, "cyan")])
        for mask, colour in masks:
            for ring in outline(mask):
                closed = np.vstack([ring, ring[:1]]) - 0.5
                axes.plot(closed[:, 0], closed[:, 1], color=colour, linewidth=0.8)
    figure.suptitle(f"{result.name}: {int(result.rois.accepted.sum())} neurons (yellow)")
    figure.savefig(path, dpi=90)


def _range(image: FloatArray) -> dict[str, float]:
    low, high = np.percentile(image, [1, 99.8])
    return {"vmin": float(low), "vmax": float(max(high, low + 1e-6))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder for results and pictures.")
    parser.add_argument("--preset", default="default", choices=["default", "paper", "srname"])
    parser.add_argument("--model", help="Another model.")
    parser.add_argument("--only", nargs="+", help="Names of recordings to take.")
    given = parser.parse_args()
    root = os.environ.get("COCUYO_REAL_DATA")
    if root is None:
        sys.exit("COCUYO_REAL_DATA is not set; it names the folder of real recordings.")
    data = Path(root)
    given.out.mkdir(parents=True, exist_ok=True)
    print("| recording | neurons | rejected | events | seconds | agreement | known |")
    print("|---|---|---|---|---|---|---|")
    runs: dict[str, tuple[Result, float]] = {}  # a recording with two truths is run once
    for movie in MOVIES:
        if given.only and movie.name not in given.only:
            continue
        if movie.path not in runs:
            start = time.perf_counter()
            recording = cocuyo.open_recording(data / movie.path, **movie.reading)
            found = cocuyo.segment(recording, preset=given.preset, model=given.model)
            runs[movie.path] = (found, time.perf_counter() - start)
        result, seconds = runs[movie.path]
        stem = movie.name.replace(" ", "_").replace(",", "")
        result.save(given.out / stem, overwrite=True)
        truth = unknown = None
        text = "-"
        if movie.truth:
            truth = load_ground_truth(data / movie.truth)
            unknown = read_mask(data / movie.unknown) if movie.unknown else None
            text = agreement(result, truth, unknown)
        draw(result, None if truth is None else covered(truth), given.out / f"{stem}.png")
        accepted = int(result.rois.accepted.sum())
        events = int(result.events.count(len(result.rois))[result.rois.accepted].sum())
        row = [accepted, len(result.rois) - accepted, events, f"{seconds:.0f}", text, movie.known]
        print(f"| {movie.name} | " + " | ".join(map(str, row)) + " |", flush=True)
        for warning in result.info.warnings:
            print(f"{movie.name}: {warning}", file=sys.stderr)


if __name__ == "__main__":
    main()

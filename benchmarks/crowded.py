"""Crowds: cells whose centres lie as close as 0.6 diameters, found and taken apart.

    python benchmarks/crowded.py --out benchmarks/results/crowded.md

simulates crowded slices (split ``test``, seeds of its own), runs the default on them and scores
ROIs as in `benchmarks/slices.py`. Then it reads the traces of the true footprints, on the motion
that the run found, and correlates them with noise-free dF/F for the cells that share pixels with
another functional one: plain means over the pixels relative to their running baseline, ours without
and with the parting of shared pixels (`postprocessing.unmix_traces`). The limit stands beside: the
mean of the soma with nothing but the camera's noise, alone in its pixels.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from slices import found_regions, run_model, score

from cocuyo.core import BoolArray, FloatArray
from cocuyo.pipeline import extract_traces
from cocuyo.postprocessing import running_baseline, shared_pixels
from cocuyo.simulation import PRESETS, SimulationConfig, simulate
from cocuyo.simulation.config import Split

LEAST_SHARED = 0.05
"""Share of a cell's pixels that are another's, from which it counts as overlapping."""
CLEAR = 0.97
"""Limit of the correlation from which the SNR allows to ask for 0.95."""


def make_cases(split: Split, *, quick: bool) -> list[tuple[SimulationConfig, int]]:
    """Crowds of mostly firing cells, at two levels of light."""
    base = {"test": 7_400, "validation": 5_400, "training": 3_400}[split]
    side, n_frames, factor = (192, 300, 0.5) if quick else (320, 1200, 1.5)
    changes = {
        "split": split,
        "n_frames": n_frames,
        "n_rows": side,
        "n_columns": side,
        "min_distance": 0.6,
        "clustering": 0.9,
        "n_active": round(180 * factor),
        "n_silent": round(60 * factor),
        "n_defocused_active": round(20 * factor),
        "n_defocused_silent": round(30 * factor),
    }
    return [
        (
            PRESETS["crowded"].model_copy(update=changes | {"gain_counts_per_photon": gain}),
            base + i,
        )
        for i, gain in enumerate((0.3, 1.5))
    ]


def correlations(found: FloatArray, truth: FloatArray) -> FloatArray:
    """Pearson's correlation of each pair."""
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(found, truth, strict=True)])


def measure(config: SimulationConfig, seed: int) -> dict[str, Any]:
    """ROIs and traces of one crowd."""
    simulation = simulate(config, seed=seed)
    recording, truth = simulation.recording(), simulation.truth
    run = run_model("default", recording)
    scores = score(found_regions(run.found, recording, "default"), simulation)
    cells = np.flatnonzero(truth.functional & ~truth.cut)
    masks = sparse.csr_array(truth.cell_masks()[cells].astype(np.float32))
    settings = run.model.settings.pipeline
    traces = {}
    for unmix in (False, True):
        changed = settings.traces.model_copy(update={"unmix": unmix})
        traces[unmix] = extract_traces(
            recording,
            run.analysis.motion,
            masks,
            valid=run.analysis.maps.valid,
            config=settings.model_copy(update={"traces": changed}),
            diameter_px=run.diameter_px,
        ).traces
    own = truth.traces[cells]
    # Frames with a flash are no one's signal; ours are interpolated there, plain means suffer.
    raw = traces[False].raw
    level = running_baseline(raw, frame_rate_hz=truth.fps)
    noise = own.max(axis=1) / truth.snr[cells]
    methods = {
        "limit": own.std(axis=1) / np.hypot(own.std(axis=1), noise),
        "plain means": correlations((raw - level) / level, own),
        "ours, not parted": correlations(traces[False].delta_f_over_f, own),
        "ours": correlations(traces[True].delta_f_over_f, own),
    }
    overlap = np.asarray(shared_pixels(masks).max(axis=1).todense()).ravel()
    return {
        "seed": seed,
        "functional": len(cells),
        "snr": float(np.median(truth.transient_snr)),
        "nearest": nearest(truth.centres[cells], config),
        "scores": scores,
        "overlap": overlap.tolist(),
        "correlation": {name: values.tolist() for name, values in methods.items()},
    }


def nearest(centres: FloatArray, config: SimulationConfig) -> float:
    """Least distance of two functional cells, in median diameters."""
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return float(apart.min() * config.pixel_size_um / config.soma_diameter_um)


def table(results: list[dict[str, Any]]) -> str:
    """ROIs of each crowd, then traces of all."""
    lines = [
        "| crowd (median SNR) | functional | closest, diameters | found / false / missed "
        "| F1 at IoU 0.5 | F1 at 5 px | pixel SDC | event F1 |",
        "|---" * 8 + "|",
    ]
    for result in results:
        s = result["scores"]
        lines.append(
            f"| {result['seed']} ({result['snr']:.1f}) | {result['functional']} | "
            f"{result['nearest']:.2f} | {s['tp']} / {s['fp']} / {s['fn']} "
            f"| {s['F1 IoU 0.5']:.3f} | {s['F1 5 px']:.3f} | {s['SDC']:.3f} | {s['event F1']:.3f} |"
        )
    overlap = np.concatenate([r["overlap"] for r in results])
    names = list(results[0]["correlation"])
    values = {n: np.concatenate([r["correlation"][n] for r in results]) for n in names}
    clear = values["limit"] >= CLEAR
    groups: dict[str, BoolArray] = {
        f"share {LEAST_SHARED:.0%} to 15 %": (overlap >= LEAST_SHARED) & (overlap < 0.15),
        "share 15 % or more": overlap >= 0.15,
        f"share {LEAST_SHARED:.0%} or more, limit from {CLEAR}": (overlap >= LEAST_SHARED) & clear,
        "share nothing": overlap == 0,
    }
    lines += [
        "",
        "| correlation with the truth, median (10th percentile) | cells | "
        + " | ".join(names)
        + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for group, chosen in groups.items():
        if not chosen.any():
            continue
        cells = [
            f"{np.median(v[chosen]):.3f} ({np.percentile(v[chosen], 10):.3f})"
            for v in values.values()
        ]
        lines.append(f"| {group} | {int(chosen.sum())} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write table and numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file; a .json goes beside it.")
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--quick", action="store_true", help="Small recordings.")
    given = parser.parse_args()
    results = []
    for config, seed in make_cases(given.split, quick=given.quick):
        results.append(measure(config, seed))
        print(table(results[-1:]), file=sys.stderr, flush=True)
    text = table(results)
    print(text)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")
        given.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""What denoising does to simulated traces, beside a Gaussian filter of one width.

    python benchmarks/denoised.py --out benchmarks/results/denoised.md

simulates traces without a movie (split ``test``, seeds that nothing was trained or chosen on),
finds events in them with the default model, and compares each trace with its own signal without
noise: correlation, and height of the peaks inside events that were found.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from cocuyo.core import FloatArray
from cocuyo.pipeline import load_model
from cocuyo.postprocessing import denoise_traces, find_events, quiet_level, running_baseline
from cocuyo.simulation import broad_training_config, simulate_traces, training_config

SEEDS = range(947_600, 947_624)
N_CELLS, N_FRAMES = 16, 600
WIDTHS_S = (0.15, 0.3)
_CLEAR = 5.0
"""Peaks of the noise-free trace, in standard deviations of the noise, whose height is compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file.")
    given = parser.parse_args()
    model = load_model("default")
    correlations: dict[str, list[float]] = {}
    heights: dict[str, list[float]] = {}
    largest: list[float] = []
    for seed in SEEDS:
        draw = training_config if seed % 2 else broad_training_config
        made = simulate_traces(
            draw(seed, split="test", n_frames=N_FRAMES), seed=seed, n_cells=N_CELLS
        )
        rate = made.frame_rate_hz
        traces = made.traces - running_baseline(made.traces, frame_rate_hz=rate)
        found = find_events(
            traces, frame_rate_hz=rate, judge=model.judge, config=model.settings.pipeline.validation
        )
        level = quiet_level(traces, found.raster)
        smoothed: dict[str, FloatArray] = {
            "ΔF/F₀ as it is": traces,
            **{
                f"Gaussian filter, sigma {width} s": ndimage.gaussian_filter1d(
                    traces, width * rate, axis=1
                )
                for width in WIDTHS_S
            },
            "`denoised`": denoise_traces(traces, found.events, frame_rate_hz=rate),
        }
        for row in np.flatnonzero(made.clean.max(axis=1) > 0):
            clean = made.clean[row]
            largest.append(float(clean.max()))
            top = clean == ndimage.maximum_filter1d(clean, 2 * round(rate) + 1)
            seen = top & (clean > _CLEAR) & found.raster[row]
            for name, values in smoothed.items():
                r = float(np.corrcoef(values[row], clean)[0, 1])
                correlations.setdefault(name, []).append(r)
                share = (values[row] - level[row])[seen] / clean[seen]
                heights.setdefault(name, []).extend(share.tolist())
    lines = [
        f"| {len(largest)} simulated traces, split `test` | median correlation with the noise-free "
        "trace | median height of peaks, of the true one |",
        "|---|---|---|",
        *(
            f"| {name} | {np.median(correlations[name]):.2f} | {np.median(heights[name]):.2f} |"
            for name in correlations
        ),
        "",
        f"The largest transient of the median trace is {np.median(largest):.1f} times the noise.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

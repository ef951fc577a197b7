"""Draw the picture of the README from a result of ``cocuyo demo``.

cocuyo demo && python tools/draw_demo.py cocuyo-demo/result docs/images/demo.png
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cocuyo.core import Result
from cocuyo.core.outlines import outline


def draw(result: Result, path: Path) -> None:
    """Mean frame, what was found in it, and the raster, side by side."""
    accepted = np.flatnonzero(result.rois.accepted)
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.45))
    mean = result.projections["mean"]
    low, high = np.percentile(mean, [1, 99.7])
    for axes, title in (
        (left, "Mean of the recording: who fires?"),
        (middle, f"{len(accepted)} functional neurons"),
    ):
        axes.imshow(mean, cmap="gray", vmin=low, vmax=high)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    colours = [f"C{i % 10}" for i in range(len(accepted))]
    shape = result.rois.frame_shape
    for roi, colour in zip(accepted, colours, strict=True):
        mask = result.rois.footprints[[roi]].toarray().reshape(shape) > 0
        for ring in outline(mask):
            closed = np.vstack([ring, ring[:1]]) - 0.5
            middle.plot(closed[:, 0], closed[:, 1], color=colour, linewidth=1.3)
    for row, (roi, colour) in enumerate(zip(accepted, colours, strict=True), start=1):
        active = np.flatnonzero(result.raster[roi])
        times = result.times_s[active]
        right.vlines(times, row - 0.4, row + 0.4, color=colour, linewidth=1.2)
    right.set_xlim(0, result.times_s[-1])
    right.set_ylim(len(accepted) + 0.5, 0.5)
    right.set_xlabel("time / s")
    right.set_ylabel("neuron")
    right.set_title("Raster: when each is active", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    draw(Result.load(sys.argv[1]), Path(sys.argv[2]))

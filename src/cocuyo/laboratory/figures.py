"""Figures 2, 5, 6, 7 and 8 of the paper, of simulated recordings."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import AnyArray
from cocuyo.io.atomic import write_atomically
from cocuyo.laboratory.measure import Annotation, FrameTest, Seen, combine
from cocuyo.laboratory.settings import PUBLISHED_RECALL

_RING_PX = 7.0
"""Radius of the rings around marked cells: a little more than a soma's."""


@contextmanager
def _figure(path: Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    """Axes of a figure that is written when all is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    yield axes
    with write_atomically(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


def _picture(axes: Any, image: AnyArray, title: str = "") -> None:
    if image.dtype == np.bool_:
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        low, high = np.percentile(image, [1, 99.7])
        axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9)


def draw_activity(path: Path, seen: Sequence[Seen]) -> None:
    """Draw figure 2: a trace, its DoG signal with the threshold, and when the neuron is active.

    Parameters
    ----------
    path : Path
        The file.
    seen : sequence of Seen
        Recordings of the test; the trace with the most active periods is shown.
    """
    one = max(seen, key=_n_active_periods)
    with _figure(path, 3, 1, (8, 5)) as axes:
        if not one.trace.size:
            axes[0, 0].set_title("No neuron was accepted in any test recording.", fontsize=9)
            return
        times = np.arange(len(one.trace)) / one.rate_hz
        top, middle, bottom = axes[:, 0]
        top.plot(times, one.trace, color="black", linewidth=0.8)
        top.set_ylabel("ΔF/F₀")
        middle.plot(times, one.dog, color="black", linewidth=0.8)
        middle.axhline(one.threshold, color="tab:red", linewidth=0.8)
        middle.set_ylabel("DoG / noise")
        bottom.fill_between(times, one.active.astype(float), step="mid", color="black")
        bottom.set_yticks([0, 1], ["no", "yes"])
        bottom.set_ylabel("active")
        bottom.set_xlabel("time / s")
        for each in (top, middle, bottom):
            each.set_xlim(times[0], times[-1])


def _n_active_periods(seen: Seen) -> int:
    active = seen.active.astype(np.int8)
    return int((np.diff(active, prepend=0) > 0).sum())


def draw_frames(path: Path, test: FrameTest) -> None:
    """Draw figure 5: preprocessed frames, the teacher's masks, the network's.

    Parameters
    ----------
    path : Path
        The file.
    test : FrameTest
        With the frames to show.
    """
    titles = ("preprocessed frame", "SRNAME-like blob detection", "trained U-Net")
    with _figure(path, len(test.shown), 3, (8, 2.8 * len(test.shown))) as axes:
        for row, pictures in zip(axes, test.shown, strict=True):
            for each, image, title in zip(row, pictures, titles, strict=True):
                _picture(each, image, title if row is axes[0] else "")


def draw_masks(path: Path, experiments: Sequence[Sequence[Seen]]) -> None:
    """Draw figure 6: the masks of the methods, for both test experiments.

    Parameters
    ----------
    path : Path
        The file.
    experiments : sequence of sequence of Seen
        Recordings of each test experiment.
    """
    names = ("ours", "max", "avg", "srname", "truth")
    titles = ("ours", "max", "avg", "SRNAME-like", "exact truth")
    _rows_of_masks(path, experiments, names, titles)


def draw_refinement(path: Path, experiments: Sequence[Sequence[Seen]]) -> None:
    """Draw figure 7: what refinement and validation leave of the masks.

    Parameters
    ----------
    path : Path
        The file.
    experiments : sequence of sequence of Seen
        Recordings of each test experiment.
    """
    names = ("ours", "refined", "validated", "truth")
    titles = ("network", "refined", "refined and validated", "exact truth")
    _rows_of_masks(path, experiments, names, titles)


def _rows_of_masks(
    path: Path,
    experiments: Sequence[Sequence[Seen]],
    names: Sequence[str],
    titles: Sequence[str],
) -> None:
    size = (2.3 * len(names), 2.6 * len(experiments))
    with _figure(path, len(experiments), len(names), size) as axes:
        for i, (row, seen) in enumerate(zip(axes, experiments, strict=True)):
            for each, name, title in zip(row, names, titles, strict=True):
                _picture(each, combine(s.masks[name] for s in seen), "" if i else title)
            row[0].set_ylabel(f"test experiment {i + 1}", fontsize=9)


def draw_annotation(
    path: Path, experiments: Sequence[Sequence[Seen]], annotations: Sequence[Annotation]
) -> None:
    """Draw figure 8: cells that the simulated person marked, found (green) or not (red).

    Parameters
    ----------
    path : Path
        The file.
    experiments : sequence of sequence of Seen
        Recordings of each test experiment.
    annotations : sequence of Annotation
        One of each.
    """
    from matplotlib.patches import Circle

    with _figure(path, 1, len(experiments), (4.6 * len(experiments), 5)) as axes:
        for i, (seen, marks) in enumerate(zip(experiments, annotations, strict=True)):
            n = len(marks.found) + len(marks.missed)
            title = f"test experiment {i + 1}: {len(marks.found)} of {n} marked cells found\n"
            title += f"recall {marks.recall:.3f} (published: {PUBLISHED_RECALL[i]:.3f})"
            _picture(axes[0, i], np.mean([s.mean for s in seen], axis=0), title)
            for points, colour in ((marks.found, "lime"), (marks.missed, "red")):
                for y, x in points:
                    ring = Circle((x, y), _RING_PX, fill=False, color=colour, linewidth=1.2)
                    axes[0, i].add_patch(ring)

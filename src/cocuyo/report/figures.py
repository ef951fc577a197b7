"""The still figures of the report, as SVG that takes its colours from the page."""

import html
import math
from collections.abc import Sequence

import numpy as np

from cocuyo.core import (
    FLAG_FLASH,
    FLAG_INVALID,
    FLAG_UNPLACED,
    AnyArray,
    Result,
    RoiSet,
    outline,
)
from cocuyo.report.decimation import active_runs, bin_starts, extremes

# Columns of a figure over time; the page shows it at most about 1100 pixels wide.
WIDTH = 1000
LEFT, _RIGHT = 64, 16
# Stretches the raster may hold; beyond, neighbouring columns are joined.
_RASTER_HEIGHT, _LEAST_ROW = 760, 4.0  # pixels; of rows thinner than that none can be told
_MAX_RUNS = 60_000
# Recordings longer than this get a second axis in minutes.
_LONG_S = 600.0


def nice_ticks(low: float, high: float, n: int) -> list[float]:
    """Choose about `n` round numbers between two values.

    Parameters
    ----------
    low, high : float
        Ends of the axis; finite.
    n : int
        Number wished for.

    Returns
    -------
    list of float
        Multiples of 1, 2 or 5 times a power of ten, rising; one at least.

    Examples
    --------
    >>> nice_ticks(0, 10, 5)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / max(n, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step + 0.0 for i in range(first, last + 1)] or [low]


def outline_path(rois: RoiSet, roi: int) -> str:
    """Write the outline of an ROI as an SVG path in pixels, x to the right, y down.

    Parameters
    ----------
    rois : RoiSet
        The candidates.
    roi : int
        Index of the ROI.

    Returns
    -------
    str
        The ``d`` attribute; filled by the even-odd rule it covers the ROI's pixels. Empty for an
        ROI without pixels.
    """
    rows, columns, _ = rois.pixels(roi)
    if len(rows) == 0:
        return ""
    top, left = int(rows.min()), int(columns.min())
    crop = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), np.bool_)
    crop[rows - top, columns - left] = True
    parts = []
    for ring in outline(crop):
        x, y = ring[0].tolist()
        parts.append(f"M{x + left} {y + top}")
        for dx, dy in np.diff(ring, axis=0).tolist():
            parts.append(f"h{dx}" if dx else f"v{dy}")
        parts.append("z")
    return "".join(parts)


def field_view(
    result: Result,
    *,
    picture: str,
    title: str,
    layers: str = "",
    switchable: bool = False,
) -> str:
    """Draw a picture of the field of view with what lies over it.

    Parameters
    ----------
    result : Result
        Gives the frame's shape and pixel size.
    picture : str
        Id of the picture in the page.
    title : str
        What it shows, for those who cannot see it.
    layers : str
        SVG over the picture, in frame pixels.
    switchable : bool, default: False
        Whether the reader may change the picture below.

    Returns
    -------
    str
        An ``svg`` element.
    """
    rows, columns = result.rois.frame_shape
    kind = ' class="base"' if switchable else ""
    return (
        f'<svg class="field" viewBox="0 0 {columns} {rows}" role="img" '
        f'aria-label="{html.escape(title)}">'
        f'<use{kind} href="#{picture}"/>{layers}{_scale_bar(result)}</svg>'
    )


def _scale_bar(result: Result) -> str:
    rows, columns = result.rois.frame_shape
    size = result.pixel_size_um
    if size is None:
        return ""
    wanted = columns * size / 4
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(power * f for f in (1, 2, 5) if power * f <= wanted)
    width, unit = length / size, max(rows, columns) / 100
    x, y = columns - 3 * unit - width, rows - 3 * unit
    return (
        f'<g class="scale"><rect x="{x:.2f}" y="{y - 0.8 * unit:.2f}" width="{width:.2f}" '
        f'height="{0.8 * unit:.2f}"/><text x="{x + width / 2:.2f}" y="{y - 1.8 * unit:.2f}" '
        f'font-size="{3.6 * unit:.2f}" text-anchor="middle">{length:g} µm</text></g>'
    )


def outlines_layer(result: Result, rois: Sequence[int]) -> str:
    """Draw the outlines of ROIs; each can be chosen.

    Parameters
    ----------
    result : Result
        What a run found.
    rois : sequence of int
        Indices of the ROIs.

    Returns
    -------
    str
        SVG in frame pixels.
    """
    parts = []
    for roi in rois:
        kind = "yes" if result.rois.accepted[roi] else "no"
        path = outline_path(result.rois, roi)
        if not path:
            continue
        parts.append(
            f'<path class="roi {kind}" data-roi="{roi}" d="{path}">'
            f"<title>{html.escape(roi_name(result, roi))}</title></path>"
        )
    return f'<g class="rois">{"".join(parts)}</g>'


def numbers_layer(result: Result, rois: Sequence[int]) -> str:
    """Write the number of each accepted ROI at its centre, or beside it where that is taken.

    Parameters
    ----------
    result : Result
        What a run found.
    rois : sequence of int
        Indices of the ROIs; rejected ones have no number.

    Returns
    -------
    str
        SVG in frame pixels. A number that had to move has a line to its centre; one that finds
        no place is hidden until its ROI is pointed at.
    """
    rows, columns = result.rois.frame_shape
    # As high as half a soma, but never too small to read.
    size = max(0.6 * result.diameter_px, max(rows, columns) / 60)
    size = min(size, max(rows, columns) / 26)
    places = _Places(rows, columns)
    if result.pixel_size_um is not None:  # the scale bar's own place
        places.take(0.955 * rows, 0.82 * columns, 0.18 * columns, 0.05 * rows, step=size)
    parts = []
    for roi in rois:
        if not result.rois.accepted[roi]:
            continue
        number = str(result.rois.labels[roi])
        half = 0.36 * size * len(number)  # a bold digit is about 0.7 of its height wide
        cy, cx = (float(at) + 0.5 for at in result.rois.centroids[roi])
        # Whole within the picture: a cut number would be another one.
        x = min(max(cx, half), max(columns - half, half))
        y = min(max(cy, 0.45 * size), rows - 0.45 * size)
        free = places.take(y, x, half, 0.4 * size, step=size)
        y, x = free or (y, x)
        if math.hypot(y - cy, x - cx) > 1.5 * size:
            parts.append(f'<path class="leader" d="M{cx:.1f} {cy:.1f}L{x:.1f} {y:.1f}"/>')
        parts.append(
            f'<text class="number{"" if free else " hidden"}" data-roi="{roi}" x="{x:.1f}" '
            f'y="{y + 0.36 * size:.1f}">{number}</text>'
        )
    return f'<g font-size="{size:.2f}" text-anchor="middle">{"".join(parts)}</g>'


class _Places:
    """Free rectangles of a picture, taken one after the other."""

    def __init__(self, rows: int, columns: int) -> None:
        self._taken: dict[tuple[int, int], list[tuple[float, float, float, float]]] = {}
        self._cell = max(rows, columns) / 20
        self._shape = rows, columns

    def take(
        self, y: float, x: float, half_width: float, half_height: float, *, step: float
    ) -> tuple[float, float] | None:
        """Take the free place nearest to a point; None where none is within four steps."""
        rows, columns = self._shape
        for ring in (0.0, 0.7, 1.2, 1.8, 2.5, 3.2, 4.0):
            for turn in range(16 if ring else 1):
                angle = math.tau * turn / 16
                at_y = y + ring * step * math.sin(angle)
                at_x = x + ring * step * math.cos(angle)
                if ring and not (
                    half_height <= at_y <= rows - half_height
                    and half_width <= at_x <= columns - half_width
                ):
                    continue
                box = (at_y - half_height, at_y + half_height, at_x - half_width, at_x + half_width)
                if self._add(box):
                    return at_y, at_x
        return None

    def _add(self, box: tuple[float, float, float, float]) -> bool:
        top, bottom, left, right = box
        tiles = [
            (row, column)
            for row in range(int(top // self._cell), int(bottom // self._cell) + 1)
            for column in range(int(left // self._cell), int(right // self._cell) + 1)
        ]
        for tile in tiles:
            for t, b, lft, r in self._taken.get(tile, ()):
                if top < b and t < bottom and left < r and lft < right:
                    return False
        for tile in tiles:
            self._taken.setdefault(tile, []).append(box)
        return True


def roi_name(result: Result, roi: int) -> str:
    """Name an ROI for people: its number and id.

    Parameters
    ----------
    result : Result
        What a run found.
    roi : int
        Index of the ROI.

    Returns
    -------
    str
        Such as ``"7 · roi_0009"``.
    """
    label = int(result.rois.labels[roi])
    return f"{label} · {result.rois.ids[roi]}" if label else f"rejected · {result.rois.ids[roi]}"


def shift_figure(result: Result) -> str:
    """Draw the shifts over time, with the flagged frames marked.

    Parameters
    ----------
    result : Result
        What a run found.

    Returns
    -------
    str
        An ``svg`` element.
    """
    top, height = 12, 170
    shifts = np.asarray(result.motion.shifts, np.float64)
    finite = shifts[np.isfinite(shifts)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    middle, half = (low + high) / 2, max((high - low) / 2 * 1.08, 0.25)
    low, high = middle - half, middle + half
    axis = TimeAxis(result)
    parts = [axis.draw(top + height), axis.frame(top, height), axis.borders(top, height)]
    for tick in nice_ticks(low, high, 5):
        y = top + height * (high - tick) / (high - low)
        parts.append(left_tick(y, f"{tick:g}".replace("-", "−")))
    parts.append(
        f'<text class="label" transform="rotate(-90)" x="{-top - height / 2}" y="14" '
        'text-anchor="middle">shift / px</text>'
    )
    flags = result.motion.flags
    for bits, kind in ((FLAG_FLASH, "flash"), (FLAG_UNPLACED | FLAG_INVALID, "unplaced")):
        for start, stop in active_runs((flags & bits) != 0)[:2000].tolist():
            x0, x1 = axis.x(start), axis.x(stop)
            parts.append(
                f'<rect class="{kind}" x="{x0:.1f}" y="{top}" '
                f'width="{max(x1 - x0, 1.5):.1f}" height="{height}"/>'
            )
    n_bins = min(result.n_frames, WIDTH)
    centres = [axis.x(float(frame)) for frame in bin_starts(result.n_frames, n_bins)]
    for column, kind in ((0, "dy"), (1, "dx")):
        pairs = extremes(shifts[:, column], n_bins)
        levels = top + height * (high - pairs) / (high - low)
        points = [
            f"{x:.1f},{value:.1f}"
            for x, value in zip(np.repeat(centres, 2).tolist(), levels.tolist(), strict=True)
            if math.isfinite(value)
        ]
        parts.append(f'<polyline class="{kind}" points="{" ".join(points)}"/>')
    return draw_svg(top + height + axis.depth, "Shifts over time", parts)


def raster_figure(result: Result) -> str:
    """Draw the raster of the accepted ROIs over seconds, with the events of each beside it.

    Parameters
    ----------
    result : Result
        What a run found; the raster is read row by row.

    Returns
    -------
    str
        An ``svg`` element; a click on a row chooses its ROI. Rows are never so thin that they
        cannot be seen: where there are many, the element lies in a window that scrolls.
    """
    accepted = np.flatnonzero(result.rois.accepted)
    counts = result.events.count(len(result.rois))[accepted]
    n, side = len(accepted), 130
    row = min(14.0, max(_RASTER_HEIGHT / max(n, 1), _LEAST_ROW))
    axis = TimeAxis(result, right=side + 28)
    is_tall = n * row > _RASTER_HEIGHT
    top, height = axis.depth + 4 if is_tall else 12, max(n * row, 30.0)
    parts = [axis.draw(top + height), axis.frame(top, height), axis.borders(top, height)]
    if is_tall:  # it is looked at through a window, and needs its times at both ends
        parts.append(axis.draw(0))
    rows = [active_runs(np.asarray(result.raster[int(roi)], np.bool_)) for roi in accepted]
    bins = min(result.n_frames, 4 * WIDTH)
    columns = [pool_runs(runs, bins, result.n_frames) for runs in rows]
    while bins > 50 and sum(len(runs) for runs in columns) > _MAX_RUNS:
        bins //= 2
        columns = [pool_runs(runs, bins, result.n_frames) for runs in rows]
    path = []
    unit = axis.width / bins
    for i, runs in enumerate(columns):
        y = top + (i + 0.5) * row
        for start, stop in runs.tolist():
            # Never thinner than a pixel, so that a short event is seen.
            x = axis.left + start * unit
            path.append(f"M{x:.1f} {y:.1f}h{max((stop - start) * unit, 1.0):.1f}")
    parts.append(
        f'<path class="active" stroke-width="{max(0.8 * row, 0.5):.2f}" d="{"".join(path)}"/>'
    )
    every = max(1, math.ceil(13 / row))
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if s >= every)
    for i in range(n):
        label = i + 1
        if label == 1 or label % step == 0:
            parts.append(
                f'<text class="tick row-number" x="{axis.left - 8}" '
                f'y="{top + (i + 0.5) * row + 4:.1f}" text-anchor="end">{label}</text>'
            )
    parts.append(
        f'<text class="label" transform="rotate(-90)" x="{-top - height / 2:.1f}" y="14" '
        'text-anchor="middle">ROI number</text>'
    )
    x0 = axis.left + axis.width + 28
    most = max(int(counts.max(initial=0)), 1)
    for i, count in enumerate(counts.tolist()):
        parts.append(
            f'<rect class="count" x="{x0}" y="{top + (i + 0.1) * row:.1f}" '
            f'width="{side * count / most:.1f}" height="{0.8 * row:.2f}"/>'
        )
    for tick in sorted({0, most // 2, most}):
        x = x0 + side * tick / most
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{top + height + 18:.1f}" '
            f'text-anchor="middle">{tick}</text>'
        )
    parts.append(
        f'<text class="label" x="{x0 + side / 2}" y="{top + height + 38:.1f}" '
        'text-anchor="middle">events</text>'
    )
    for i, roi in enumerate(accepted.tolist()):
        parts.append(
            f'<rect class="row" data-roi="{roi}" x="{axis.left}" y="{top + i * row:.1f}" '
            f'width="{axis.width + 28 + side}" height="{row:.2f}">'
            f"<title>{html.escape(roi_name(result, roi))}: {counts[i]} events</title></rect>"
        )
    title = "Raster: activity of each ROI over time"
    drawn = draw_svg(top + height + axis.depth, title, parts)
    if is_tall:
        window = 'class="scroll tall" tabindex="0" role="region" aria-label="Raster"'
        return f"<div {window}>{drawn}</div>"
    return drawn


def pool_runs(runs: AnyArray, n_bins: int, n_frames: int) -> AnyArray:
    """Express runs in bins: a bin with an active frame is active; touching runs join.

    Parameters
    ----------
    runs : ndarray of int32, shape (n_runs, 2)
        First active frame of each, and the first one that is not any more.
    n_bins, n_frames : int
        Number of bins and of frames.

    Returns
    -------
    ndarray of int64, shape (n_joined, 2)
        The same in bins.
    """
    if len(runs) == 0 or n_bins == n_frames:
        return runs
    start = runs[:, 0].astype(np.int64) * n_bins // n_frames
    stop = (runs[:, 1].astype(np.int64) - 1) * n_bins // n_frames + 1
    new = np.concatenate([[True], start[1:] > stop[:-1]])
    last = np.concatenate([np.flatnonzero(new)[1:], [len(start)]]) - 1
    return np.column_stack([start[new], stop[last]])


class TimeAxis:
    """Where a frame lies in a figure, and the axis below it.

    Parameters
    ----------
    result : Result
        Gives the times of the frames.
    right : int, default: 0
        Room to leave at the right.
    """

    def __init__(self, result: Result, *, right: int = 0) -> None:
        self.left = LEFT
        self.width = WIDTH - LEFT - _RIGHT - right
        self._n_frames = max(result.n_frames, 1)
        times = np.asarray(result.times_s, np.float64)
        self._times = times
        step = float(np.median(np.diff(times))) if len(times) > 1 else 1 / result.frame_rate_hz
        self._end = float(times[-1]) + step if len(times) else 1.0
        self._is_long = self._end > _LONG_S
        self._borders = [(part.start, part.name) for part in result.parts[1:]]
        self.depth = 66 if self._is_long else 44

    def x(self, frame: float) -> float:
        """Give the place of a frame's start; a figure over time is linear in frames."""
        return self.left + self.width * frame / self._n_frames

    def _place(self, time_s: float) -> float:
        frames = np.arange(self._n_frames + 1, dtype=np.float64)
        return self.x(float(np.interp(time_s, np.append(self._times, self._end), frames)))

    def frame(self, top: float, height: float) -> str:
        """Draw the box around the figure."""
        return (
            f'<rect class="box" x="{self.left}" y="{top}" width="{self.width}" '
            f'height="{height:.1f}"/>'
        )

    def borders(self, top: float, height: float) -> str:
        """Draw a line where a recording of an experiment begins; none for a single one."""
        return "".join(
            f'<path class="border" d="M{self.x(frame):.1f} {top}v{height:.1f}">'
            f"<title>{html.escape(name)} begins</title></path>"
            for frame, name in self._borders
        )

    def draw(self, y: float) -> str:
        """Draw ticks in seconds, and in minutes below where the recording is long."""
        parts = []
        rows = [("time / s", 1.0, 0)] + ([("time / min", 60.0, 22)] if self._is_long else [])
        for name, unit, lower in rows:
            for tick in nice_ticks(0, self._end / unit, 10):
                x = self._place(tick * unit)
                if lower == 0:
                    parts.append(f'<path class="mark" d="M{x:.1f} {y:.1f}v4"/>')
                parts.append(
                    f'<text class="tick" x="{x:.1f}" y="{y + 18 + lower:.1f}" '
                    f'text-anchor="middle">{tick:g}</text>'
                )
            if not self._is_long:
                parts.append(
                    f'<text class="label" x="{self.left + self.width / 2}" y="{y + 38:.1f}" '
                    f'text-anchor="middle">{name}</text>'
                )
            else:
                parts.append(
                    f'<text class="tick" x="{self.left - 10}" y="{y + 18 + lower:.1f}" '
                    f'text-anchor="end">{name.removeprefix("time / ")}</text>'
                )
        if self._is_long:
            parts.append(
                f'<text class="label" x="{self.left + self.width / 2}" y="{y + 60:.1f}" '
                'text-anchor="middle">time in s, below in min</text>'
            )
        return "".join(parts)


def left_tick(y: float, text: str) -> str:
    """Draw a tick on the left of a figure over time.

    Parameters
    ----------
    y : float
        Where it is.
    text : str
        What it says.

    Returns
    -------
    str
        SVG elements.
    """
    line = f'<path class="mark" d="M{LEFT} {y:.1f}h-4"/>'
    return (
        f'{line}<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def draw_svg(height: float, title: str, parts: Sequence[str], *, width: int = WIDTH) -> str:
    """Put the parts of a figure together.

    Parameters
    ----------
    height : float
        Height of the figure.
    title : str
        What it shows, for those who cannot see it.
    parts : sequence of str
        SVG elements.
    width : int, optional
        Width of the figure; that of the page if not given.

    Returns
    -------
    str
        An ``svg`` element.
    """
    kind = "plot" if width == WIDTH else "plot narrow"
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {math.ceil(height)}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )

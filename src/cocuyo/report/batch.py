"""The index of a batch: every recording in one sortable page, and pictures of groups."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import Any

import cv2
import numpy as np

from cocuyo.core import AnyArray, BoolArray, Result
from cocuyo.report.figures import nice_ticks
from cocuyo.report.page import page_start

# Longest side of a thumbnail; the page shows it at two thirds of that, for fine screens.
_THUMBNAIL_PX = 144
_JPEG_QUALITY = 72
_OUTLINE_BGR = (60, 245, 205)  # the outlines of the report


def draw_thumbnail(result: Result) -> str:
    """Draw the field of view with the outlines of the accepted ROIs, small.

    Parameters
    ----------
    result : Result
        What a run found.

    Returns
    -------
    str
        A ``data:`` URI of a JPEG of some kilobytes.
    """
    image = np.asarray(result.projections["max"], np.float32)
    shown = np.isfinite(image) & np.asarray(result.valid)
    low, high = np.percentile(image[shown], (1, 99.7)) if shown.any() else (0.0, 1.0)
    span = max(float(high - low), 1e-12)
    grey = np.clip((np.nan_to_num(image, nan=low) - low) / span * 255, 0, 255).astype(np.float32)
    scale = _THUMBNAIL_PX / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = cv2.cvtColor(
        np.asarray(cv2.resize(grey, size, interpolation=way), np.float32).astype(np.uint8),
        cv2.COLOR_GRAY2BGR,
    )
    labels = result.rois.label_image().astype(np.uint16)
    picture[_edges(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST))] = _OUTLINE_BGR
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def _edges(labels: AnyArray) -> BoolArray:
    """Pixels of a label that touch another one or none."""
    around = np.pad(np.asarray(labels), 1)
    inside = around[1:-1, 1:-1]
    edge = np.zeros(inside.shape, np.bool_)
    for beside in (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]):
        edge |= beside != inside
    return np.asarray(edge & (inside > 0), np.bool_)


@dataclass(frozen=True)
class IndexRow:
    """A recording or experiment in the index.

    Attributes
    ----------
    name, group, animal : str
        What it is called and belongs to.
    state : {"done", "failed", "to do"}
        How it stands.
    reason : str
        Why it failed, in one line.
    link : str
        Its report, relative to the page; empty where there is none.
    thumbnail : str
        A ``data:`` URI; empty where there is none.
    figures : mapping
        Numbers of the summary, by their column; None where unknown.
    warnings : tuple of str
        What the run warned of.
    recordings : tuple of IndexRow
        Of an experiment its recordings: name, group and figures of each. Empty for a recording.
    """

    name: str
    group: str = ""
    animal: str = ""
    state: str = "done"
    reason: str = ""
    link: str = ""
    thumbnail: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    recordings: tuple["IndexRow", ...] = ()

    @property
    def n_recordings(self) -> int:
        """Number of recordings it stands for."""
        return max(1, len(self.recordings))


@dataclass(frozen=True)
class Strip:
    """A measure of all units, by group, to be drawn as points.

    Attributes
    ----------
    measure, title : str
        Its column, and its name for people.
    values : mapping of str to sequence of (str, float)
        For each group its units, each with its value.
    """

    measure: str
    title: str
    values: Mapping[str, Sequence[tuple[str, float]]]


_COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("n_neurons", "neurons", 0),
    ("n_active", "with events", 0),
    ("n_candidates", "candidates", 0),
    ("n_events", "events", 0),
    ("events_per_min", "events / min", 2),
    ("active_share", "active", 3),
    ("mean_correlation", "correlation", 3),
    ("median_snr", "SNR", 1),
    ("largest_shift_px", "shift / px", 1),
    ("bad_frames", "bad frames", 0),
)
_EXPERIMENTS = (
    "Recordings of one field of view are an experiment with one set of neurons; its first line is "
    "about all frames together, those below are about each recording."
)
_MEANING = {
    "n_neurons": "accepted ROIs, of an experiment's recording those in view",
    "n_active": "accepted ROIs with an event in this recording",
    "events_per_min": "mean over neurons",
    "active_share": "share of time active, mean over neurons",
    "mean_correlation": "mean correlation of the rasters of all pairs",
    "median_snr": "median over neurons",
    "largest_shift_px": "largest movement of the field",
    "bad_frames": "frames that could not be placed or hold no usable values",
}


def render_index(
    title: str, rows: Sequence[IndexRow], *, strips: Sequence[Strip], notes: Sequence[str] = ()
) -> str:
    """Make the index of a batch: self-contained HTML.

    Parameters
    ----------
    title : str
        Name of the batch.
    rows : sequence of IndexRow
        Its recordings and experiments.
    strips : sequence of Strip
        What groups are compared by; none where there is one group.
    notes : sequence of str
        What the user should know, in sentences.

    Returns
    -------
    str
        The page. It loads nothing from outside; its links lead to reports beside it.
    """
    files = resources.files("cocuyo.report")
    style = "".join(
        files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "batch.css")
    )
    script = files.joinpath("batch.js").read_text(encoding="utf-8")
    body = [_header(title, rows), _notes(notes), _failures(rows), _table(rows), _groups(strips)]
    return (
        page_start(f"{title} – cocuyo", style)
        + "\n".join(part for part in body if part)
        + f"\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _header(title: str, rows: Sequence[IndexRow]) -> str:
    count = {
        state: sum(row.n_recordings for row in rows if row.state == state)
        for state in ("done", "failed", "to do")
    }
    n_all = sum(row.n_recordings for row in rows)
    together = [row for row in rows if row.recordings]
    of = f"of {n_all} recordings"
    if together:
        noun = "experiment" if len(together) == 1 else "experiments"
        n = sum(row.n_recordings for row in together)
        of += f", {'all' if n == n_all else f'{n} of them'} in {len(together)} {noun}"
    done = [row for row in rows if row.state == "done"]
    neurons = sum(int(row.figures.get("n_neurons") or 0) for row in done)
    empty = sum(row.figures.get("n_neurons") == 0 for row in done)
    warned = sum(bool(row.warnings) for row in done)
    facts = [
        ("finished", str(count["done"]), of),
        ("failed", str(count["failed"]), "listed below with the reason" if count["failed"] else ""),
        (
            "neurons",
            str(neurons),
            f"{empty} result{'s' * (empty != 1)} without any" if empty else "in all",
        ),
        ("with warnings", str(warned), "look at these first" if warned else ""),
    ]
    if count["to do"]:
        facts.insert(2, ("not yet done", str(count["to do"]), "start the batch again to go on"))
    cards = "".join(
        f'<div class="fact"><dt>{_escape(name)}</dt><dd>{_escape(value)}'
        f"<small>{_escape(note)}</small></dd></div>"
        for name, value, note in facts
    )
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f'<header><p class="brand">cocuyo · batch</p><h1>{_escape(title)}</h1>'
        f'<p>Written {now}. Tables: <a href="summary.csv">summary.csv</a> (a row for each '
        'recording), <a href="rois.csv">rois.csv</a> (a row for each ROI).</p>'
        f'<dl class="facts">{cards}</dl></header>'
    )


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{_escape(note)}</li>" for note in notes)
    return f'<section class="box note"><h2>Notes</h2><ul>{items}</ul></section>'


def _failures(rows: Sequence[IndexRow]) -> str:
    failed = [row for row in rows if row.state == "failed"]
    if not failed:
        return ""
    items = "".join(
        f"<li><b>{_escape(row.name)}</b>"
        + (f" ({row.n_recordings} recordings)" if row.recordings else "")
        + f": {_escape(row.reason)}</li>"
        for row in failed
    )
    listed = f"<ul>{items}</ul>"
    if len(failed) > 12:  # the table must not start on the third screen
        listed = f"<details><summary>Show all {len(failed)}</summary>{listed}</details>"
    n = sum(row.n_recordings for row in failed)
    noun = "recording" if n == 1 else "recordings"
    return (
        f'<section class="box warning"><h2>{n} {noun} could not be analysed</h2>{listed}</section>'
    )


def _table(rows: Sequence[IndexRow]) -> str:
    each = [one for row in rows for one in (row, *row.recordings)]
    grouped, animals = any(one.group for one in each), any(one.animal for one in each)
    heads = [_head(""), _head("recording")]
    heads += [_head("group")] * grouped + [_head("animal")] * animals
    heads += [_head(text, _MEANING.get(name, ""), number=True) for name, text, _ in _COLUMNS]
    heads += [_head("remarks", "warnings, or why it failed")]
    lines = "".join(_rows(row, grouped, animals) for row in rows)
    groups = sorted({one.group for one in each if one.group})
    choice = (
        '<label>group <select id="group"><option value="">all</option>'
        + "".join(f"<option>{_escape(group)}</option>" for group in groups)
        + "</select></label>"
        if groups
        else ""
    )
    return (
        '<section class="long"><h2>Recordings</h2><div class="bar">'
        '<label>find <input type="search" id="find" placeholder="name or remark"></label>'
        f'{choice}<label>show <select id="state"><option value="">all</option>'
        '<option value="done">finished</option><option value="warned">with warnings</option>'
        '<option value="failed">failed</option><option value="to do">not yet done</option>'
        '</select></label><span class="small" id="count"></span></div>'
        f'<div class="wide"><table id="index"><thead><tr>{"".join(heads)}</tr></thead>'
        f"{lines}</table></div>"
        '<p class="small">Click a heading to sort by it, a name or picture to open its report. '
        f"{_EXPERIMENTS if any(row.recordings for row in rows) else ''}</p></section>"
    )


def _head(text: str, why: str = "", *, number: bool = False) -> str:
    title = f' title="{_escape(why)}"' if why else ""
    content = f'<button type="button">{_escape(text)}</button>' if text else "picture"
    return f'<th scope="col"{" class=n" * number}{title}>{content}</th>'


def _rows(row: IndexRow, grouped: bool, animals: bool) -> str:
    """Write what belongs together: a recording, or an experiment and under it its recordings."""
    parts = "".join(
        _part(one, grouped, animals, first=i == 0) for i, one in enumerate(row.recordings)
    )
    return f"<tbody>{_row(row, grouped, animals)}{parts}</tbody>\n"


def _name(name: str) -> str:
    """Let a browser break a long name at its underscores."""
    return _escape(name).replace("_", "_<wbr>").replace("_<wbr>_", "__")


def _numbers(figures: Mapping[str, Any]) -> list[str]:
    cells = []
    for column, _, digits in _COLUMNS:
        value = figures.get(column)
        text = "" if value is None else f"{value:.{digits}f}"
        cells.append(f'<td class="n" data-v="{"" if value is None else value}">{text}</td>')
    return cells


def _part(row: IndexRow, grouped: bool, animals: bool, *, first: bool) -> str:
    """Write a recording of an experiment."""
    figures = {**row.figures, "n_candidates": None}  # the experiment's
    remark = ""
    if not first and figures.get("field_correlation") is not None:
        moved, match = figures["field_offset_px"], figures["field_correlation"]
        remark = f"field moved {moved:.1f} px, match {match:.2f}"
    cells = [f'<td class="name">{_name(row.name)}</td>']
    cells += [f"<td>{_escape(row.group)}</td>"] * grouped + ["<td></td>"] * animals
    cells += [*_numbers(figures), f'<td class="remark">{remark}</td>']
    return f'<tr class="part" data-group="{_escape(row.group)}">{"".join(cells)}</tr>'


def _row(row: IndexRow, grouped: bool, animals: bool) -> str:
    state = f"{row.state} warned" if row.warnings else row.state
    name, picture = _name(row.name), ""
    if row.thumbnail:
        picture = f'<img src="{_escape(row.thumbnail)}" alt="" loading="lazy">'
    if row.link:
        link = _escape(row.link)
        name = f'<a href="{link}">{name}</a>'
        picture = f'<a href="{link}" tabindex="-1">{picture}</a>' if picture else ""
    if row.recordings:
        name += f'<br><span class="small">{row.n_recordings} recordings of one field</span>'
    span = f' rowspan="{1 + len(row.recordings)}"' if row.recordings else ""
    cells = [
        f'<td class="picture"{span}>{picture}</td>',
        f'<td class="name" data-v="{_escape(row.name)}">{name}</td>',
    ]
    cells += [f"<td>{_escape(row.group)}</td>"] * grouped
    cells += [f"<td>{_escape(row.animal)}</td>"] * animals
    cells += _numbers(row.figures)
    remark = ""
    if row.state == "failed":
        remark = f'<b class="bad">failed</b> {_escape(row.reason)}'
    elif row.state == "to do":
        remark = "not yet done"
    elif row.warnings:
        first, *more = row.warnings
        remark = f'<b class="warn">{len(row.warnings)}</b> {_escape(first)}'
        if more:
            others = "".join(f"<br>{_escape(text)}" for text in more)
            remark += f"<details><summary>{len(more)} more</summary>{others}</details>"
    rank = {"failed": 1000, "to do": 500}.get(row.state, len(row.warnings))
    cells.append(f'<td class="remark" data-v="{rank}">{remark}</td>')
    group = _escape(row.group)
    return f'<tr data-state="{state}" data-group="{group}">{"".join(cells)}</tr>'


# --- Groups --------------------------------------------------------------------------------------


def _groups(strips: Sequence[Strip]) -> str:
    if not strips:
        return ""
    figures = "".join(
        f"<figure>{draw_strip(strip)}<figcaption>{_escape(strip.title)} · "
        f'<a href="comparisons/{strip.measure}.svg">picture</a></figcaption></figure>'
        for strip in strips
    )
    return (
        '<section class="long"><h2>Groups</h2><p>A point is a unit of observation: an animal, as '
        "the mean of its recordings; a field of view where no animal is named; a recording where "
        "neither is. The thick line is the median; a thin one joins the points of one unit. "
        "Nothing is tested here; "
        '<a href="comparisons/units.csv">units.csv</a> holds the points, '
        '<a href="comparisons/groups.csv">groups.csv</a> their mean, standard deviation and '
        f'quartiles.</p><div class="strips">{figures}</div></section>'
    )


_COLOURS = (
    *("#2a78c2", "#d9660a", "#2c8f3c", "#c62f4b", "#8657b8"),
    *("#8a5a44", "#c655a0", "#12899a", "#8a8a10", "#5c6bc0"),
)  # those of batch.css on a light page
_STANDALONE = (
    "<style>text{font-family:Helvetica,Arial,sans-serif;fill:#222}.tick{font-size:12px}"
    ".label{font-size:13px}.mark{stroke:#555;fill:none}.point{stroke:#fff;stroke-width:.8}"
    ".pair{stroke:#aaa;fill:none}"
    ".middle{stroke:#222;stroke-width:2}"
    + "".join(f".c{i}{{fill:{colour}}}" for i, colour in enumerate(_COLOURS))
    + "</style>"
)


def draw_strip(strip: Strip, *, standalone: bool = False) -> str:
    """Draw the values of all units, side by side by group, with the median of each group.

    A unit that is in several groups has a line through its points.

    Parameters
    ----------
    strip : Strip
        What to draw.
    standalone : bool, default: False
        As a file of its own, with colours and a white ground.

    Returns
    -------
    str
        An ``svg`` element.
    """
    names = list(strip.values)
    places: dict[str, list[tuple[float, float]]] = {}
    left, top, height, step = 58, 14, 220, max(64, min(120, 520 // max(1, len(names))))
    width = left + step * len(names) + 16
    everything = [value for units in strip.values.values() for _, value in units]
    low = min(0.0, *everything) if everything else 0.0
    high = max(everything, default=1.0)
    high = high if high > low else low + 1
    high, low = high + 0.04 * (high - low), low - 0.04 * (high - low) * (low < 0)
    parts = []

    def y(value: float) -> float:
        return top + height * (1 - (value - low) / (high - low))

    for tick in nice_ticks(low, high, 5):
        parts.append(
            f'<path class="mark" d="M{left} {y(tick):.1f}h-4"/><text class="tick" x="{left - 8}" '
            f'y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    parts.append(f'<path class="mark" d="M{left} {top}v{height}h{step * len(names)}"/>')
    for i, name in enumerate(names):
        units = strip.values[name]
        middle, colour = left + step * (i + 0.5), f"c{i % len(_COLOURS)}"
        for (unit, value), shift in zip(
            units, _spread([v for _, v in units], high - low), strict=True
        ):
            places.setdefault(unit, []).append((middle + shift * step * 0.4, y(value)))
            parts.append(
                f'<circle class="point {colour}" cx="{places[unit][-1][0]:.1f}" '
                f'cy="{y(value):.1f}" r="4"><title>{_escape(unit)}: {value:.4g}</title></circle>'
            )
        if units:
            line = y(float(np.median([value for _, value in units])))
            parts.append(
                f'<path class="middle" d="M{middle - step * 0.3:.1f} {line:.1f}h{step * 0.6:.1f}"/>'
            )
        label = name or "no group"
        short = label if len(label) <= step // 7 else label[: step // 7 - 1] + "…"
        parts.append(
            f'<text class="label" x="{middle:.1f}" y="{top + height + 18}" text-anchor="middle">'
            f"{_escape(short)}<title>{_escape(label)}</title></text>"
            f'<text class="tick" x="{middle:.1f}" y="{top + height + 34}" text-anchor="middle">'
            f"n = {len(units)}</text>"
        )
    for points in places.values():  # one unit in several groups, such as before and after a drug
        if len(points) > 1:
            way = "L".join(f"{x:.1f} {height:.1f}" for x, height in points)
            parts.insert(0, f'<path class="pair" d="M{way}"/>')
    total = top + height + 44
    if not standalone:
        return (
            f'<svg class="plot narrow" viewBox="0 0 {width} {total}" style="max-width:{width}px" '
            f'role="img" aria-label="{_escape(strip.title)}">{"".join(parts)}</svg>'
        )
    title = f'<text class="label" x="{left}" y="18">{_escape(strip.title)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -20 {width} {total + 20}" '
        f'width="{width}" height="{total + 20}">{_STANDALONE}'
        f'<rect x="0" y="-20" width="{width}" height="{total + 20}" fill="#fff"/>'
        f'<g transform="translate(0 -20)">{title}</g>{"".join(parts)}</svg>\n'
    )


def _spread(values: Sequence[float], span: float) -> list[float]:
    """Move points that would lie on each other to the sides, in [-1, 1]."""
    shifts: list[float] = []
    for i, value in enumerate(values):
        near = [
            s for v, s in zip(values[:i], shifts, strict=False) if abs(v - value) < 0.035 * span
        ]
        free = (sign * n * 0.22 for n in range(5) for sign in ((1,) if n == 0 else (1, -1)))
        shifts.append(next((s for s in free if all(abs(s - o) > 0.2 for o in near)), 0.0))
    return shifts


def _escape(text: str) -> str:
    return html.escape(text, quote=True)

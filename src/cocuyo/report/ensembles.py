"""The page of an ensemble analysis: one file that opens offline."""

import base64
import html
import itertools
import json
import math
from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from typing import Any

import cv2
import numpy as np

from cocuyo.core import AnyArray, PopulationAnalysis, Result, StimulusResponse
from cocuyo.report.decimation import active_runs, bin_starts, extremes
from cocuyo.report.figures import (
    WIDTH,
    TimeAxis,
    draw_svg,
    field_view,
    left_tick,
    nice_ticks,
    outline_path,
    pool_runs,
)
from cocuyo.report.page import page_start
from cocuyo.report.pictures import grey_picture

_COLOURS = 10
_MAX_MAPS = 12
_MAX_STIMULI = 12
_MAX_LINES = 1000  # stimuli drawn over time
_MAX_RUNS = 60_000
_MAX_LISTED = 200
# Longest side of a matrix in the page; larger ones are averaged.
_MAX_SIDE = 600


def render_ensembles(
    result: Result, analysis: PopulationAnalysis, *, record: Mapping[str, Any]
) -> str:
    """Make the page of an analysis: self-contained HTML.

    It shows the raster ordered by ensemble with coactivity and its threshold, the ensembles over
    the mean projection, correlations, and activity around stimuli.

    Parameters
    ----------
    result : Result
        The result that was analysed.
    analysis : PopulationAnalysis
        What was found for its accepted ROIs, in their order.
    record : mapping
        Where it comes from: ``name``, ``versions``, ``inputs``.

    Returns
    -------
    str
        The page. It loads nothing from outside.
    """
    files = resources.files("cocuyo.report")
    style = "".join(
        files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "ensembles.css")
    )
    body = [
        _header(result, analysis, record),
        _messages(analysis),
        _over_time(result, analysis),
        _ensembles(result, analysis),
        _correlations(analysis),
        *(_stimulus(result, analysis, each) for each in analysis.stimuli[:_MAX_STIMULI]),
        _provenance(analysis, record),
    ]
    start = page_start(f"Ensembles of {result.name} – cocuyo", style)
    return start + "\n".join(part for part in body if part) + "\n</main>\n</body>\n</html>\n"


def _header(result: Result, analysis: PopulationAnalysis, record: Mapping[str, Any]) -> str:
    peaks, found, ensembles = analysis.peaks, analysis.coactivity, analysis.ensembles
    n = analysis.n_neurons
    sure = int(np.count_nonzero(peaks.p_recording <= _alpha(analysis)))
    chance = found.chance_bin[found.threshold] if found.threshold <= n else 0.0
    share = float(found.significant.mean())
    in_groups = int(np.count_nonzero(peaks.ensemble))
    n_core = int(ensembles.core.any(axis=0).sum())
    step = analysis.bin_frames / result.frame_rate_hz
    facts = [
        ("ensembles", str(len(ensembles)), f"{in_groups} of {len(peaks)} peaks are theirs"),
        ("core neurons", str(n_core), f"of {n} accepted neurons"),
        ("peaks of synchrony", str(len(peaks)), f"{sure} significant over the whole recording"),
        (
            "threshold",
            f"{found.threshold} neurons" if found.threshold <= n else "out of reach",
            f"{share:.1%} of bins reach it, {chance:.1%} by chance",
        ),
        (
            "significant pairs",
            str(analysis.correlations.n_significant),
            f"of {n * (n - 1) // 2}, more than chance",
        ),
        ("time bin", f"{step:.3g} s", _counted(analysis.bin_frames, "frame")),
    ]
    cards = "".join(
        f'<div class="fact"><dt>{_escape(name)}</dt><dd>{_escape(value)}'
        f"<small>{_escape(note)}</small></dd></div>"
        for name, value, note in facts
    )
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    version = dict(record.get("versions", {})).get("cocuyo", "")
    return (
        f'<header><p class="brand">cocuyo {_escape(str(version))} · ensembles</p>'
        f"<h1>{_escape(result.name)}</h1><p>Written {now}.</p>"
        f'<dl class="facts">{cards}</dl></header>'
    )


def _messages(analysis: PopulationAnalysis) -> str:
    parts = []
    if analysis.ensembles.reason:
        parts.append(
            '<section class="box empty"><h2>No ensemble was found</h2>'
            f"<p>{_escape(analysis.ensembles.reason)}</p><p>This is the right answer for neurons "
            "that fire independently, and for a recording too short to tell.</p></section>"
        )
    if analysis.notes:
        items = "".join(f"<li>{_escape(note)}</li>" for note in analysis.notes)
        parts.append(f'<section class="box note"><h2>Notes</h2><ul>{items}</ul></section>')
    return "".join(parts)


# --- Over time -----------------------------------------------------------------------------------


def _over_time(result: Result, analysis: PopulationAnalysis) -> str:
    if analysis.n_neurons == 0:
        return ""
    stimulus = '<span class="key stimulus"></span> stimulus' if analysis.stimuli else ""
    reached = analysis.coactivity.threshold <= analysis.n_neurons
    limit = '<span class="key limit"></span> threshold' if reached else ""
    none = "".join(
        f'<span class="key band {_colour(k)}"></span> ensemble {k}'
        for k in range(1, min(len(analysis.ensembles), _MAX_MAPS) + 1)
    )
    return (
        "<section><h2>Raster, coactivity and ensembles over time</h2>"
        "<p>Neurons are ordered by the ensemble in which they take part most. Below, the number of "
        "neurons active together with its threshold, peaks of synchrony coloured by their "
        "ensemble, and the share of each ensemble's core neurons that is active.</p>"
        f"<figure>{_time_figure(result, analysis)}<figcaption>{none}"
        '<span class="key band e0"></span> in no ensemble '
        f"{limit}{stimulus}</figcaption></figure></section>"
    )


def _time_figure(result: Result, analysis: PopulationAnalysis) -> str:
    axis = TimeAxis(result, right=34)
    order, member = analysis.order, analysis.membership()
    n = analysis.n_neurons
    row = min(14.0, max(520 / n, 0.6))
    top = 12.0
    height = max(n * row, 16.0)
    parts = [axis.frame(top, height)]
    parts += _raster_bars(result, analysis, axis, top, row)
    for start, stop in _blocks(member[order]):
        y0, y1 = top + start * row, top + stop * row
        number = int(member[order[start]])
        x = axis.left + axis.width + 6
        parts.append(
            f'<rect class="band {_colour(number)}" x="{x}" y="{y0:.1f}" width="6" '
            f'height="{max(y1 - y0 - 1, 0.5):.1f}"/>'
        )
        if number:
            parts.append(
                f'<text class="number {_colour(number)}" x="{x + 10}" '
                f'y="{(y0 + y1) / 2 + 4:.1f}">{number}</text>'
            )
    if row >= 11:
        numbers = result.rois.labels[result.rois.accepted]
        parts += [
            f'<text class="tick row-number" x="{axis.left - 8}" '
            f'y="{top + (i + 0.5) * row + 4:.1f}" text-anchor="end">{numbers[neuron]}</text>'
            for i, neuron in enumerate(order.tolist())
        ]
    if height > 60:
        label = "ROI number" if row >= 11 else f"{n} neurons, by ensemble"
        parts.append(_left_label(top + height / 2, label))
    y = top + height + 22
    parts += _coactivity_panel(analysis, axis, y, 130)
    y += 130
    for number in range(1, min(len(analysis.ensembles), _MAX_MAPS) + 1):
        y += 14
        parts += _ensemble_panel(analysis, axis, number, y, 40)
        y += 40
    for each in analysis.stimuli:
        for time in each.times_s[:_MAX_LINES].tolist():
            frame = int(np.searchsorted(result.times_s, time - 1e-9))
            name = f": {each.label}" if each.label else ""
            parts.append(
                f'<path class="stimulus" d="M{axis.x(frame):.1f} {top}V{y:.1f}">'
                f"<title>stimulus at {time:g} s{_escape(name)}</title></path>"
            )
    parts.append(axis.draw(y))
    return draw_svg(y + axis.depth, "Raster, coactivity and ensembles over time", parts)


def _raster_bars(
    result: Result, analysis: PopulationAnalysis, axis: TimeAxis, top: float, row: float
) -> list[str]:
    """One path for each colour; stretches are joined until there are few enough."""
    member = analysis.membership()
    runs = [
        np.minimum(active_runs(analysis.raster[i]) * analysis.bin_frames, result.n_frames)
        for i in analysis.order
    ]
    bins = min(result.n_frames, 4 * WIDTH)
    columns = [pool_runs(each, bins, result.n_frames) for each in runs]
    while bins > 50 and sum(len(each) for each in columns) > _MAX_RUNS:
        bins //= 2
        columns = [pool_runs(each, bins, result.n_frames) for each in runs]
    unit = axis.width / bins
    paths: dict[str, list[str]] = {}
    for i, each in enumerate(columns):
        y = top + (i + 0.5) * row
        path = paths.setdefault(_colour(int(member[analysis.order[i]])), [])
        path += [
            f"M{axis.left + start * unit:.1f} {y:.1f}h{max((stop - start) * unit, 1.0):.1f}"
            for start, stop in each.tolist()
        ]
    width = max(0.8 * row, 0.5)
    return [
        f'<path class="bars {colour}" stroke-width="{width:.2f}" d="{"".join(path)}"/>'
        for colour, path in paths.items()
    ]


def _coactivity_panel(
    analysis: PopulationAnalysis, axis: TimeAxis, top: float, height: float
) -> list[str]:
    found, peaks = analysis.coactivity, analysis.peaks
    n = analysis.n_neurons
    reach = found.threshold if found.threshold <= n else 0
    high = max(int(found.n_active.max(initial=0)), reach, 1) * 1.08
    scale = height / high
    parts = [axis.frame(top, height)]
    step = analysis.bin_frames
    for i in range(len(peaks)):
        x0 = axis.x(float(peaks.onset[i]) * step)
        x1 = axis.x(float(peaks.offset[i] + 1) * step)
        number = int(peaks.ensemble[i])
        name = f"ensemble {number}" if number else "in no ensemble"
        parts.append(
            f'<rect class="band {_colour(number)}" x="{x0:.1f}" y="{top - 9:.1f}" '
            f'width="{max(x1 - x0, 1.5):.1f}" height="6"><title>peak {i + 1}: '
            f"{peaks.n_active[i]} neurons, {name}</title></rect>"
        )
    parts.append(_polyline(found.n_active, axis, step, top + height, scale, "line"))
    ticks = [tick for tick in nice_ticks(0, high, 4) if tick == round(tick)]
    parts += [left_tick(top + height - tick * scale, f"{tick:g}") for tick in ticks]
    if reach:
        y = top + height - reach * scale
        parts.append(f'<path class="limit" d="M{axis.left} {y:.1f}h{axis.width}"/>')
        parts.append(
            f'<text class="limit-text" x="{axis.left + axis.width + 5}" y="{y + 4:.1f}">'
            f"{reach}</text>"
        )
    parts.append(_left_label(top + height / 2, "active neurons"))
    return parts


def _ensemble_panel(
    analysis: PopulationAnalysis, axis: TimeAxis, number: int, top: float, height: float
) -> list[str]:
    trace = analysis.ensembles.activity[number - 1]
    parts = [axis.frame(top, height)]
    parts.append(
        _polyline(
            trace, axis, analysis.bin_frames, top + height, height, f"trace {_colour(number)}"
        )
    )
    parts += [left_tick(top + height, "0"), left_tick(top, "1")]
    parts.append(
        f'<text class="number {_colour(number)}" x="{axis.left + axis.width + 16}" '
        f'y="{top + height / 2 + 4:.1f}">{number}</text>'
    )
    if number == 1 + (min(len(analysis.ensembles), _MAX_MAPS) - 1) // 2:
        parts.append(_left_label(top + height / 2, "core active"))
    return parts


def _polyline(
    values: AnyArray, axis: TimeAxis, step: int, base: float, scale: float, kind: str
) -> str:
    """Draw a value for each bin; the smallest and largest of each column of the figure."""
    n = len(values)
    columns = min(n, WIDTH)
    starts = bin_starts(n, columns)
    pairs = extremes(values, columns)
    points = " ".join(
        f"{axis.x(float(start) * step + step / 2):.1f},{base - value * scale:.1f}"
        for start, value in zip(np.repeat(starts, 2).tolist(), pairs.tolist(), strict=True)
    )
    return f'<polyline class="{kind}" points="{points}"/>'


# --- Ensembles -----------------------------------------------------------------------------------


def _ensembles(result: Result, analysis: PopulationAnalysis) -> str:
    ensembles, peaks = analysis.ensembles, analysis.peaks
    if len(ensembles) == 0:
        return ""
    accepted = np.flatnonzero(result.rois.accepted)
    labels = result.rois.labels[accepted]
    rows = []
    for k in range(len(ensembles)):
        core = np.flatnonzero(ensembles.core[k])
        mine = peaks.peak[peaks.ensemble == k + 1]
        share = float(ensembles.activity[k][mine].mean())
        listed = ", ".join(str(labels[i]) for i in core[:_MAX_LISTED].tolist())
        more = f" and {len(core) - _MAX_LISTED} more" if len(core) > _MAX_LISTED else ""
        rows.append(
            f'<tr><td><span class="key band {_colour(k + 1)}"></span> {k + 1}</td>'
            f"<td>{ensembles.n_peaks[k]}</td><td>{len(core)}</td><td>{share:.0%}</td>"
            f"<td>{listed}{more}</td></tr>"
        )
    maps = "".join(
        f"<figure>{_map(result, analysis, accepted, k)}<figcaption>Ensemble {k + 1}: "
        f"{_counted(int(ensembles.core[k].sum()), 'core neuron')} over the mean projection"
        "</figcaption></figure>"
        for k in range(min(len(ensembles), _MAX_MAPS))
    )
    pictures = _picture_store(result)
    if len(ensembles) == 1 and not math.isfinite(ensembles.p_value):
        clear = "The peaks are too few, or one group was asked for, so they were not divided."
    elif len(ensembles.core) == 1 and not math.isfinite(ensembles.silhouette):
        clear = (
            "The peaks are one group: they do not fall into several more clearly than shuffled "
            f"ones (p = {ensembles.p_value:.2g})."
        )
    else:
        clear = (
            f"The groups of peaks have a mean silhouette of {ensembles.silhouette:.2f}; shuffled "
            f"peaks reach it with p = {ensembles.p_value:.2g}."
        )
    return (
        '<section class="long"><h2>Ensembles</h2>'
        "<p>An ensemble is a group of peaks of synchrony in which similar neurons are active; its "
        f"core neurons take part more often than chance. {_escape(clear)}</p>"
        '<table class="list"><thead><tr><th scope="col">ensemble</th><th scope="col">peaks</th>'
        '<th scope="col">core neurons</th><th scope="col">core active at a peak</th>'
        f'<th scope="col">ROI numbers</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
        f'{pictures}<div class="maps" style="margin-top:16px">{maps}</div></section>'
    )


def _picture_store(result: Result) -> str:
    rows, columns = result.rois.frame_shape
    mean = result.projections.get("mean")
    picture = np.zeros((rows, columns), np.float32) if mean is None else mean
    return (
        '<svg width="0" height="0" class="store" aria-hidden="true"><defs>'
        f'<image id="pic-mean" width="{columns}" height="{rows}" preserveAspectRatio="none" '
        f'href="{grey_picture(picture, valid=result.valid)}"/></defs></svg>'
    )


def _map(result: Result, analysis: PopulationAnalysis, accepted: AnyArray, k: int) -> str:
    core = analysis.ensembles.core[k]
    parts = []
    for kind, chosen in (("other", ~core), (f"core {_colour(k + 1)}", core)):
        for roi in accepted[chosen].tolist():
            name = f"{result.rois.labels[roi]} · {result.rois.ids[roi]}"
            parts.append(
                f'<path class="{kind}" d="{outline_path(result.rois, roi)}">'
                f"<title>{_escape(name)}</title></path>"
            )
    return field_view(
        result, picture="pic-mean", title=f"Neurons of ensemble {k + 1}", layers="".join(parts)
    )


# --- Correlations --------------------------------------------------------------------------------


def _correlations(analysis: PopulationAnalysis) -> str:
    n = analysis.n_neurons
    if n < 2:
        return ""
    found, order = analysis.correlations, analysis.order
    matrix = found.matrix[np.ix_(order, order)].astype(np.float64)
    kept = found.significant[np.ix_(order, order)]
    off = matrix[~np.eye(n, dtype=np.bool_) & np.isfinite(matrix)]
    limit = max(0.1, math.ceil(10 * float(np.abs(off).max(initial=0))) / 10)
    lower = np.tril(np.ones((n, n), np.bool_), -1)
    shown = np.where(lower & ~kept, 0.0, matrix)
    np.fill_diagonal(shown, np.nan)
    member = analysis.membership()[order]
    first = _matrix_figure(
        _diverging(shown / limit),
        member,
        title="Correlation of each pair",
        axis="neurons, by ensemble",
        ends=(f"−{limit:g}", "0", f"{limit:g}"),
        bar=_diverging(np.linspace(1, -1, 101)[:, None]),
        unit="correlation",
    )
    figures = (
        f"<figure>{first}<figcaption>Pearson correlation of the rasters. Above the diagonal all "
        "pairs, below it the significant ones only.</figcaption></figure>"
    )
    peaks = analysis.peaks
    if len(peaks) > 1:
        number = peaks.ensemble
        by_group = np.lexsort([peaks.onset, np.where(number == 0, number.max() + 1, number)])
        vectors = peaks.vectors[by_group].astype(np.float64)
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        second = _matrix_figure(
            _rising(unit @ unit.T),
            number[by_group],
            title="Similarity of each pair of peaks",
            axis="peaks of synchrony, by ensemble",
            ends=("0", "0.5", "1"),
            bar=_rising(np.linspace(1, 0, 101)[:, None]),
            unit="similarity",
        )
        figures += (
            f"<figure>{second}<figcaption>Cosine similarity of the peaks' population vectors: "
            "ensembles are bright squares along the diagonal.</figcaption></figure>"
        )
    return (
        "<section><h2>Correlations</h2>"
        f"<p>{found.n_significant} of {n * (n - 1) // 2} pairs are active together more than "
        f"chance (false discovery rate {_alpha(analysis):g}).</p>"
        f'<div class="pair">{figures}</div></section>'
    )


def _matrix_figure(
    colours: AnyArray,
    member: AnyArray,
    *,
    title: str,
    axis: str,
    ends: tuple[str, str, str],
    bar: AnyArray,
    unit: str,
) -> str:
    side, left, top = 430, 36, 12
    n = len(member)
    cell = side / n
    parts = [
        f'<image x="{left}" y="{top}" width="{side}" height="{side}" '
        f'preserveAspectRatio="none" href="{_png(colours)}"/>',
        f'<rect class="mark" x="{left}" y="{top}" width="{side}" height="{side}"/>',
    ]
    for start, stop in _blocks(member):
        number = int(member[start])
        y0, size = start * cell, (stop - start) * cell
        colour = _colour(number)
        gap = min(1.0, size / 4)
        parts.append(
            f'<rect class="band {colour}" x="{left - 8}" y="{top + y0:.1f}" width="5" '
            f'height="{size - gap:.1f}"/>'
        )
        parts.append(
            f'<rect class="band {colour}" x="{left + y0:.1f}" y="{top + side + 3}" '
            f'width="{size - gap:.1f}" height="5"/>'
        )
        if number and size >= 10:
            parts.append(
                f'<text class="number {colour}" x="{left - 12}" '
                f'y="{top + y0 + size / 2 + 4:.1f}" text-anchor="end">{number}</text>'
            )
            parts.append(
                f'<text class="number {colour}" x="{left + y0 + size / 2:.1f}" '
                f'y="{top + side + 21}" text-anchor="middle">{number}</text>'
            )
    parts.append(
        f'<text class="label" x="{left + side / 2}" y="{top + side + 40}" '
        f'text-anchor="middle">{_escape(axis)}</text>'
    )
    parts += _colour_bar(left + side + 14, top, 160, bar, ends, unit)
    return draw_svg(top + side + 48, title, parts, width=left + side + 90)


def _colour_bar(
    x: float, top: float, height: float, bar: AnyArray, ends: tuple[str, ...], unit: str
) -> list[str]:
    parts = [
        f'<image x="{x}" y="{top}" width="12" height="{height}" preserveAspectRatio="none" '
        f'href="{_png(bar)}"/>',
        f'<rect class="mark" x="{x}" y="{top}" width="12" height="{height}"/>',
        f'<text class="label" transform="rotate(-90)" x="{-top - height / 2}" y="{x + 70}" '
        f'text-anchor="middle">{_escape(unit)}</text>',
    ]
    for i, text in enumerate(reversed(ends)):
        y = top + height * i / (len(ends) - 1)
        parts.append(f'<text class="tick" x="{x + 17}" y="{y + 4:.1f}">{text}</text>')
    return parts


# --- Stimuli -------------------------------------------------------------------------------------


def _stimulus(result: Result, analysis: PopulationAnalysis, response: StimulusResponse) -> str:
    n = analysis.n_neurons
    named = f": {_escape(response.label)}" if response.label else ""
    if n == 0:
        return ""
    order = np.lexsort([-response.response, ~response.responders])
    labels = result.rois.labels[result.rois.accepted]
    responders = order[response.responders[order]]
    figures = [
        _lag_matrix(
            response,
            response.active[order],
            title="Share of stimuli at which each neuron is active",
            unit="share active",
            caption="Share of the stimuli at which each neuron is active",
        )
    ]
    if np.isfinite(response.delta_f_over_f).any():
        figures.append(
            _lag_matrix(
                response,
                response.delta_f_over_f[order],
                title="Mean ΔF/F₀ of each neuron around the stimulus",
                unit="ΔF/F₀",
                caption="Mean ΔF/F₀",
            )
        )
    figures.append(
        f"<figure>{_lag_curve(response)}<figcaption>Mean number of active neurons "
        '<span class="key chance"></span> 95 % of shuffled stimulus times</figcaption></figure>'
    )
    rows = "".join(
        f"<tr><td>{labels[i]}</td><td>{response.response[i]:+.2f}</td>"
        f"<td>{response.p_value[i]:.2g}</td><td>{response.q_value[i]:.2g}</td>"
        f"<td>{_escape(_ids(result)[i])}</td></tr>"
        for i in responders[:_MAX_LISTED].tolist()
    )
    table = (
        '<table class="list" style="margin-top:14px"><thead><tr><th scope="col">responder</th>'
        '<th scope="col">response</th><th scope="col">p</th><th scope="col">q</th>'
        f'<th scope="col">id</th></tr></thead><tbody>{rows}</tbody></table>'
        if rows
        else ""
    )
    return (
        f'<section class="long"><h2>Around the stimulus{named}</h2>'
        f"<p>{_counted(len(response.times_s), 'stimulus', 'stimuli')}; "
        f"{len(responders)} of {_counted(n, 'neuron')} "
        f"{'responds' if len(responders) == 1 else 'respond'} with more activity than at "
        f"shuffled times (false discovery rate {_alpha(analysis):g}). Number of active neurons: "
        f"p = {response.population_p_value:.2g}. Neurons are ordered by their response, "
        "responders first: share of time active after the stimulus minus that in the recording.</p>"
        f'<div class="three">{"".join(figures)}</div>{table}</section>'
    )


def _ids(result: Result) -> list[str]:
    return [result.rois.ids[i] for i in np.flatnonzero(result.rois.accepted)]


_LAG_LEFT, _LAG_WIDTH, _LAG_HEIGHT, _LAG_TOP = 44, 240, 230, 14


def _lag_matrix(
    response: StimulusResponse, values: AnyArray, *, title: str, unit: str, caption: str
) -> str:
    finite = values[np.isfinite(values)]
    low = min(float(np.percentile(finite, 1)), 0.0) if len(finite) else 0.0
    high = float(np.percentile(finite, 99.5)) if len(finite) else 1.0
    high = max(high, low + 1e-3)
    n = len(values)
    parts = [
        f'<image x="{_LAG_LEFT}" y="{_LAG_TOP}" width="{_LAG_WIDTH}" height="{_LAG_HEIGHT}" '
        f'preserveAspectRatio="none" href="{_png(_rising((values - low) / (high - low)))}"/>',
        *_lag_axis(response),
    ]
    split = int(response.responders.sum())
    if 0 < split < n:
        y = _LAG_TOP + _LAG_HEIGHT * split / n
        parts.append(f'<path class="limit" d="M{_LAG_LEFT - 10} {y:.1f}h{_LAG_WIDTH + 10}"/>')
        parts.append(
            f'<text class="limit-text" x="{_LAG_LEFT - 14}" y="{y:.1f}" '
            f'text-anchor="end">{split}</text>'
        )
    parts.append(
        f'<text class="label" transform="rotate(-90)" x="{-_LAG_TOP - _LAG_HEIGHT / 2}" y="14" '
        f'text-anchor="middle">{_counted(n, "neuron")}, by response</text>'
    )
    middle = (low + high) / 2
    parts += _colour_bar(
        _LAG_LEFT + _LAG_WIDTH + 12,
        _LAG_TOP,
        140,
        _rising(np.linspace(1, 0, 101)[:, None]),
        tuple(_short(value) for value in (low, middle, high)),
        unit,
    )
    split_text = "; responders above the dashed line" if 0 < split < n else ""
    figure = draw_svg(_LAG_TOP + _LAG_HEIGHT + 46, title, parts, width=370)
    return f"<figure>{figure}<figcaption>{_escape(caption + split_text)}</figcaption></figure>"


def _lag_curve(response: StimulusResponse) -> str:
    lags = response.lags_s
    low = np.minimum(response.n_active, response.n_active_low).min()
    high = np.maximum(response.n_active, response.n_active_high).max()
    pad = max(0.06 * float(high - low), 0.05)
    low, high = max(0.0, float(low) - pad), float(high) + pad

    def place(values: AnyArray) -> list[str]:
        return [
            f"{_lag_x(response, lag):.1f},"
            f"{_LAG_TOP + _LAG_HEIGHT * (high - value) / (high - low):.1f}"
            for lag, value in zip(lags.tolist(), values.tolist(), strict=True)
        ]

    band = place(response.n_active_low) + place(response.n_active_high)[::-1]
    parts = [
        f'<polygon class="chance" points="{" ".join(band)}"/>',
        f'<polyline class="line" points="{" ".join(place(response.n_active))}"/>',
        *_lag_axis(response),
    ]
    for tick in nice_ticks(low, high, 5):
        y = _LAG_TOP + _LAG_HEIGHT * (high - tick) / (high - low)
        parts.append(f'<path class="mark" d="M{_LAG_LEFT} {y:.1f}h-4"/>')
        parts.append(
            f'<text class="tick" x="{_LAG_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">'
            f"{tick:g}</text>"
        )
    parts.append(
        f'<text class="label" transform="rotate(-90)" x="{-_LAG_TOP - _LAG_HEIGHT / 2}" y="12" '
        'text-anchor="middle">active neurons</text>'
    )
    return draw_svg(_LAG_TOP + _LAG_HEIGHT + 46, "Active neurons around it", parts, width=370)


def _lag_x(response: StimulusResponse, lag: float) -> float:
    first, last = float(response.lags_s[0]), float(response.lags_s[-1])
    half = (last - first) / max(len(response.lags_s) - 1, 1) / 2  # a frame is as wide as its bin
    return _LAG_LEFT + _LAG_WIDTH * (lag - first + half) / (last - first + 2 * half)


def _lag_axis(response: StimulusResponse) -> list[str]:
    bottom = _LAG_TOP + _LAG_HEIGHT
    first, last = float(response.lags_s[0]), float(response.lags_s[-1])
    parts = [
        f'<rect class="mark" x="{_LAG_LEFT}" y="{_LAG_TOP}" width="{_LAG_WIDTH}" '
        f'height="{_LAG_HEIGHT}"/>',
        f'<path class="stimulus" d="M{_lag_x(response, 0):.1f} {_LAG_TOP}V{bottom}"/>',
    ]
    for tick in nice_ticks(first, last, 6):
        x = _lag_x(response, tick)
        text = f"{tick:g}".replace("-", "−")
        parts.append(f'<path class="mark" d="M{x:.1f} {bottom}v4"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{text}</text>'
        )
    parts.append(
        f'<text class="label" x="{_LAG_LEFT + _LAG_WIDTH / 2}" y="{bottom + 36}" '
        'text-anchor="middle">time from the stimulus / s</text>'
    )
    return parts


# --- Provenance ----------------------------------------------------------------------------------


def _provenance(analysis: PopulationAnalysis, record: Mapping[str, Any]) -> str:
    settings = analysis.settings
    rule = (
        "in at most {:.0%} of all bins of the shuffled rasters"
        if settings.get("threshold", "pooled") == "pooled"
        else "anywhere in at most {:.0%} of the shuffled rasters"
    ).format(_alpha(analysis))
    lines = [
        (
            "threshold",
            f"the smallest number of active neurons that is reached {rule}: each neuron's row "
            f"shifted circularly by a random lag, {settings.get('n_shuffles', '–')} times",
        ),
        (
            "pairs",
            "overlap of two rasters against that at all circular shifts; false discovery rate of "
            "Benjamini and Hochberg",
        ),
        (
            "ensembles",
            "population vectors of the peaks by cosine similarity, average linkage; number of "
            "groups by the largest mean silhouette, against shuffled vectors",
        ),
        ("seed", str(analysis.seed)),
        (
            "versions",
            ", ".join(f"{k} {v}" for k, v in dict(record.get("versions", {})).items()) or "–",
        ),
        *(
            (f"input ({entry.get('role', 'file')})", _input_text(entry))
            for entry in record.get("inputs", ())
        ),
    ]
    facts = "".join(f"<tr><th>{_escape(k)}</th><td>{_escape(v)}</td></tr>" for k, v in lines)
    text = json.dumps(settings, indent=2, default=str, ensure_ascii=False)
    return (
        '<section class="long"><h2>How it was made</h2><table class="plain">'
        f"{facts}</table><details><summary>Complete settings</summary>"
        f"<pre>{_escape(text)}</pre></details></section>"
    )


def _input_text(entry: Mapping[str, Any]) -> str:
    digest = f" (sha256 {entry['sha256']})" if entry.get("sha256") else ""
    return f"{entry.get('path', '')}{digest}"


# --- Colours, text -------------------------------------------------------------------------------


def _colour(number: int) -> str:
    return "e0" if number == 0 else f"e{(number - 1) % _COLOURS + 1}"


def _blocks(member: AnyArray) -> list[tuple[int, int]]:
    """Stretches of equal numbers."""
    if len(member) == 0:
        return []
    edges = [0, *(np.flatnonzero(np.diff(member)) + 1).tolist(), len(member)]
    return list(itertools.pairwise(edges))


def _diverging(values: AnyArray) -> AnyArray:
    """Colour values in [-1, 1] from blue over white to red; grey where there is none."""
    return _colour_map(values / 2 + 0.5, "RdBu_r")


def _rising(values: AnyArray) -> AnyArray:
    """Colour values in [0, 1] from dark to bright; grey where there is none."""
    return _colour_map(values, "viridis")


def _colour_map(values: AnyArray, name: str) -> AnyArray:
    from matplotlib import colormaps

    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    colours = colormaps[name](np.where(finite, values, 0).clip(0, 1), bytes=True)[..., :3]
    return np.asarray(np.where(finite[..., None], colours, np.uint8(150)), np.uint8)


def _png(colours: AnyArray) -> str:
    rows, columns = colours.shape[:2]
    if max(rows, columns) > _MAX_SIDE:
        size = (min(columns, _MAX_SIDE), min(rows, _MAX_SIDE))
        colours = np.asarray(cv2.resize(colours, size, interpolation=cv2.INTER_AREA))
    _, data = cv2.imencode(".png", np.ascontiguousarray(colours[..., ::-1]))
    return f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def _left_label(middle: float, text: str) -> str:
    return (
        f'<text class="label" transform="rotate(-90)" x="{-middle:.1f}" y="14" '
        f'text-anchor="middle">{_escape(text)}</text>'
    )


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _counted(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def _alpha(analysis: PopulationAnalysis) -> float:
    return float(analysis.settings.get("significance", 0.05))


def _escape(text: str) -> str:
    return html.escape(text, quote=True)

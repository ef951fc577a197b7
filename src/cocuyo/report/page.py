"""The report: one page that opens offline and shows whether a result can be trusted."""

import html
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import (
    FLAG_FLASH,
    FLAG_INVALID,
    FLAG_UNPLACED,
    BoolArray,
    Result,
    Suspicion,
    acceptance_limit,
    find_suspects,
    score_decides,
)
from cocuyo.report.decimation import EmbeddedTraces, active_runs, embed_traces
from cocuyo.report.figures import (
    field_view,
    numbers_layer,
    outlines_layer,
    raster_figure,
    shift_figure,
)
from cocuyo.report.pictures import grey_picture

MAX_PAGE_BYTES = 15_000_000
"""The page never grows beyond this, whatever the length of the recording."""
MAX_TRACES = 400
"""ROIs whose traces are in the page; all are in the tables."""
MAX_ROWS = 3000
"""Candidates in the table and the picture; all are in ``rois.csv``."""

MAX_SUSPECTS = 15
"""ROIs that the page names to be looked at first; the curation page goes on with the others."""

_TRACE_BYTES = 6_000_000  # ΔF/F₀ and DoG
_COUNT_BYTES = 2_400_000  # raw trace and neuropil, shown on demand
_MAX_RUNS = 300  # active stretches listed for an ROI of the viewer, then merged
_PART_PICTURES = 6  # recordings of an experiment whose mean the reader may look at
_SETTINGS_CHARACTERS = 200_000
_MESSAGES = 200
_REASON_CHARACTERS = 300

_PICTURES = (
    ("max", "maximum over time, corrected"),
    ("mean", "mean over time, corrected"),
    ("contrast", "largest temporal contrast"),
    ("probability", "network probability"),
    ("mean_raw", "mean over time, as recorded"),
    ("max_raw", "maximum over time, as recorded"),
)


def write_report(result: Result, path: str | Path) -> Path:
    """Write the report of a result as one HTML file.

    Parameters
    ----------
    result : Result
        What a run found.
    path : str or Path
        The file to make or to replace.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    page = render_report(result)
    path.write_text(page, encoding="utf-8", errors="replace", newline="\n")
    return path


def render_report(result: Result) -> str:
    """Make the report of a result: self-contained HTML of at most 15 MB.

    It shows the projections before and after motion correction, shifts, outlines and
    numbers, the raster, the ROIs to be looked at first, a table of all candidates with the
    reasons of rejection, and for
    any ROI its ΔF/F₀, difference-of-Gaussians signal with threshold, and activity; on
    demand also its raw trace, neuropil and the flagged frames. The pointer over a row of the
    raster, an outline or a row of the table shows that cell on the map and its trace.

    Parameters
    ----------
    result : Result
        What a run found. Traces may lie on disk; they are read one ROI at a time.

    Returns
    -------
    str
        The page. It loads nothing from outside.
    """
    shown = _shown(result)
    files = resources.files("cocuyo.report")
    style = files.joinpath("page.css").read_text(encoding="utf-8")
    script = files.joinpath("page.js").read_text(encoding="utf-8")
    body = [
        _header(result),
        _messages(result),
        _recordings(result),
        _field(result, shown),
        _motion(result),
        _raster(result),
        _viewer_place(result),
        _suspects(result),
        _table(result, shown),
        _provenance(result),
    ]
    start = page_start(f"{result.name} – cocuyo", style)
    page = start + "\n".join(part for part in body if part) + "\n</main>\n"
    viewed = np.array(shown[:MAX_TRACES], np.int64)
    # Besides the codes: a name, figures and at most _MAX_RUNS stretches for each ROI.
    rest = 300_000 + len(script) + len(viewed) * (600 + 22 * _MAX_RUNS)
    room = int((MAX_PAGE_BYTES - rest - len(page.encode("utf-8", "replace"))) * 0.7)
    traces = embed_traces(
        result, viewed, ("delta_f_over_f", "dog"), max_bytes=min(room * 5 // 7, _TRACE_BYTES)
    )
    counts = embed_traces(
        result, viewed, ("raw", "neuropil"), max_bytes=min(room * 2 // 7, _COUNT_BYTES)
    )
    data = json.dumps(_viewer_data(result, traces, counts), separators=(",", ":"))
    data = data.replace("<", "\\u003c")
    return (
        page + f'<script type="application/json" id="data">{data}</script>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def page_start(title: str, style: str) -> str:
    """Begin a page that loads nothing from outside.

    Parameters
    ----------
    title : str
        Its title, plain text.
    style : str
        Its style sheet.

    Returns
    -------
    str
        HTML up to the content; ``</main></body></html>`` ends it.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
    )


def _shown(result: Result) -> list[int]:
    """Candidates of the table: accepted ones first, then the rejected by score."""
    accepted = np.flatnonzero(result.rois.accepted)
    rejected = np.flatnonzero(~result.rois.accepted)
    score = np.nan_to_num(np.asarray(result.rois.score, np.float64)[rejected], nan=-1.0)
    rejected = rejected[np.argsort(-score, kind="stable")]
    return [int(roi) for roi in np.concatenate([accepted, rejected])[:MAX_ROWS]]


def _header(result: Result) -> str:
    rois, info = result.rois, result.info
    n_accepted = int(rois.accepted.sum())
    rows, columns = rois.frame_shape
    duration = result.n_frames / result.frame_rate_hz
    if len(result.times_s) > 1:
        duration = float(result.times_s[-1] - result.times_s[0]) + 1 / result.frame_rate_hz
    if result.pixel_size_um is None:
        scale = (
            "pixel size",
            "not known",
            f"soma diameter used: {result.diameter_px:.1f} px (see the notes)",
        )
    else:
        diameter = result.diameter_px * result.pixel_size_um
        scale = (
            "pixel size",
            f"{result.pixel_size_um:.4g} µm",
            f"soma diameter used: {diameter:.1f} µm",
        )
    kind, of_all, where = "neurons accepted", "candidates", "in accepted neurons"
    if _given(result):
        kind, of_all, where = "ROIs in view", "given", "in these ROIs"
    facts = [
        (kind, str(n_accepted), f"of {len(rois)} {of_all}"),
        ("events", str(_accepted_events(result)), where + _false_events(result)),
        ("duration", _duration(duration), f"{result.n_frames} frames"),
        ("frame rate", f"{result.frame_rate_hz:.4g} Hz", f"{columns} × {rows} pixels"),
        scale,
        ("preset", info.preset or "–", f"model: {info.model or '–'}"),
    ]
    cards = "".join(
        f'<div class="fact"><dt>{_escape(name)}</dt><dd>{_escape(value)}'
        f"<small>{_escape(note)}</small></dd></div>"
        for name, value, note in facts
    )
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    version = info.versions.get("cocuyo", "")
    return (
        f'<header><p class="brand">cocuyo {_escape(str(version))}</p>'
        f"<h1>{_escape(result.name)}</h1><p>Report written {now}.</p>"
        f'<dl class="facts">{cards}</dl>{_rejections(result)}</header>'
    )


def _false_events(result: Result) -> str:
    """How many events are found where there are none, beside how many there are."""
    rate = result.info.false_events.get("at_rest_per_min")
    if rate is None or not result.rois.accepted.any():
        return ""
    minutes = result.n_frames / result.frame_rate_hz / 60
    real = _accepted_events(result) / int(result.rois.accepted.sum()) / minutes
    return f"; {real:.2g} a minute each, {rate:.2g} in phase-randomised traces at rest"


def _given(result: Result) -> bool:
    """Whether the ROIs were given, not found."""
    return result.info.task == "extract"


def _rejections(result: Result) -> str:
    counts = Counter(
        _kind(reason)
        for reason, accepted in zip(result.rois.reasons, result.rois.accepted, strict=True)
        if not accepted
    )
    if not counts:
        return ""
    items = "".join(
        f"<li><b>{count}</b> {_escape(kind)}</li>" for kind, count in counts.most_common(12)
    )
    total = sum(counts.values())
    more = f"<li>and {len(counts) - 12} other reasons</li>" if len(counts) > 12 else ""
    return f'<div class="reasons"><h2>{total} rejected</h2><ul>{items}{more}</ul></div>'


def _kind(reason: str) -> str:
    """Reduce a reason to what it has in common with others: no figures, no brackets."""
    text = re.sub(r"\s*\([^()]*\)", "", reason)
    text = re.sub(r"\d+(?:[.,]\d+)?", "…", text)
    return re.sub(r"\s+", " ", text).strip() or "no reason given"


def _messages(result: Result) -> str:
    info = result.info
    parts = []
    if not result.rois.accepted.any():
        parts.append(_nothing_found(result))
    for kind, title, texts in (
        ("warning", "Warnings", info.warnings),
        ("note", "Notes", info.notes),
    ):
        if texts:
            items = "".join(f"<li>{_escape(text)}</li>" for text in texts[:_MESSAGES])
            if len(texts) > _MESSAGES:
                items += f"<li>and {len(texts) - _MESSAGES} more, in run.json.</li>"
            parts.append(f'<section class="box {kind}"><h2>{title}</h2><ul>{items}</ul></section>')
    return "".join(parts)


def _nothing_found(result: Result) -> str:
    n = len(result.rois)
    if _given(result):
        return (
            '<section class="box empty"><h2>No ROI is in view</h2><p>The table below says why; '
            "look at the shifts and pictures, and whether the ROIs belong to this recording.</p>"
            "</section>"
        )
    if n:
        what = (
            f"{n} candidates were found and none was accepted. The table below says why each "
            "was rejected; choose one to see its trace."
        )
    else:
        what = "No candidate was found: nothing in this recording changed like a neuron that fires."
    return (
        '<section class="box empty"><h2>No neuron was accepted</h2>'
        f"<p>{what}</p><p>This is the right answer for a recording without activity. If you see "
        "cells flash in it, check:</p><ul>"
        f"<li>the frame rate: {result.frame_rate_hz:.4g} Hz was used "
        "(<code>--frame-rate</code>);</li>"
        f"<li>the size of a soma: {result.diameter_px:.1f} px was used "
        "(<code>--diameter</code> in µm, with <code>--pixel-size</code>);</li>"
        "<li>the shifts below: a recording that was not placed well hides its transients;</li>"
        "<li>the pictures below: light that saturates, or a pipette or edge that outshines the "
        "cells (<code>--exclude</code>).</li></ul></section>"
    )


def _recordings(result: Result) -> str:
    """List the recordings of an experiment; nothing for a single one."""
    if not result.parts:
        return ""
    times, accepted = np.asarray(result.times_s, np.float64), result.rois.accepted
    heads = ["recording", "frames", "begins / s", "field moved / px", "correlation"]
    heads += ["neurons in it alone", "neurons in view"]
    head = "".join(f'<th scope="col">{_escape(name)}</th>' for name in heads)
    rows = []
    for part in result.parts:
        dy, dx = (round(value, 1) + 0.0 for value in part.offset_px)  # no −0.0
        values = (
            part.name,
            f"{part.start} to {part.stop - 1}",
            f"{times[part.start]:.6g}",
            f"{dy:+.1f} down, {dx:+.1f} right".replace("-", "−"),
            f"{part.correlation:.2f}",
            str(len(part.found)),
            str(int((accepted & part.in_view(result.rois)).sum())),
        )
        rows.append("".join(f"<td>{_escape(value)}</td>" for value in values))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        "<section><h2>Recordings of the experiment</h2><p>One set of ROIs for all of them, in the "
        "coordinates of the first. They follow one another here without the pauses between them; "
        "dashed lines mark where one begins. The correlation is that of its mean picture with the "
        "first one's, laid over each other. Tables of each alone are in "
        '<code>recordings</code>.</p><div class="scroll"><table class="parts">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _field(result: Result, shown: Sequence[int]) -> str:
    images = dict(result.projections)
    images["probability"] = result.probability
    if _given(result):
        del images["probability"]  # no network has seen this recording
    available = [(key, text) for key, text in _PICTURES if key in images]
    for i, part in enumerate(result.parts[:_PART_PICTURES]):
        images[f"part-{i}"] = part.mean
        available.append((f"part-{i}", f"mean of {part.name}, corrected"))
    if not available:
        return ""
    rows, columns = result.rois.frame_shape
    store = "".join(
        f'<image id="pic-{key}" width="{columns}" height="{rows}" preserveAspectRatio="none" '
        f'href="{grey_picture(images[key], valid=result.valid)}"/>'
        for key, _ in available
    )
    parts = [
        f'<svg width="0" height="0" class="store" aria-hidden="true"><defs>{store}</defs></svg>'
    ]
    first = available[0][0]
    accepted = [roi for roi in shown if result.rois.accepted[roi]]
    choices = "".join(
        f'<label><input type="radio" name="base" value="pic-{key}"'
        f"{' checked' if key == first else ''}> {_escape(text)}</label>"
        for key, text in available
    )
    outlines = field_view(
        result,
        picture=f"pic-{first}",
        title="Mask: outlines of the ROIs over the projection",
        layers=outlines_layer(result, shown),
        switchable=True,
    )
    numbers = field_view(
        result,
        picture=f"pic-{first}",
        title="Numbers of the accepted ROIs over the projection",
        layers=numbers_layer(result, accepted),
        switchable=True,
    )
    any_rejected = len(accepted) < len(shown)
    rejected_box = (
        '<label><input type="checkbox" id="show-rejected"'
        f"{'' if accepted else ' checked'}> show rejected "
        f"{'ROIs' if _given(result) else 'candidates'}</label>"
    )
    hint = (
        '<p class="hint">The pointer over an outline or a number shows its trace; a click keeps it '
        "in the plot below.</p>"
        if shown
        else ""
    )
    caption = (
        "Mask: the pixels of each accepted ROI (the traces come from these)"
        if accepted
        else "The field of view; no ROI was accepted, so the mask is empty"
    )
    title = "Given ROIs" if _given(result) else "Neurons"
    second = (
        f"<figure>{numbers}<figcaption>ROI numbers, as in labels.tif and the raster"
        "</figcaption></figure>"
    )
    parts.append(
        f"<section><h2>{title if accepted else 'Field of view'}</h2>{hint}"
        f'<form class="choices" id="base-form">{choices}{rejected_box if any_rejected else ""}'
        f'</form><div class="pair"><figure>{outlines}<figcaption>{caption}</figcaption></figure>'
        f"{second if accepted else ''}</div></section>"
    )
    before = next((k for k in ("mean_raw", "max_raw") if k in images), None)
    after = None if before is None else before.removesuffix("_raw")
    if before is not None and after in images:
        kind = "Mean" if after == "mean" else "Maximum"
        left = field_view(result, picture=f"pic-{before}", title=f"{kind} as recorded")
        right = field_view(result, picture=f"pic-{after}", title=f"{kind} after motion correction")
        parts.append(
            '<section><h2>Motion correction</h2><div class="pair">'
            f"<figure>{left}<figcaption>{kind} over time, as recorded</figcaption></figure>"
            f"<figure>{right}<figcaption>{kind} over time, after motion correction: edges must be "
            "as sharp or sharper</figcaption></figure></div></section>"
        )
    return "\n".join(parts)


def _motion(result: Result) -> str:
    if result.n_frames == 0:
        return ""
    shifts, flags = np.asarray(result.motion.shifts, np.float64), result.motion.flags
    length = np.hypot(shifts[:, 0], shifts[:, 1])
    largest = float(np.nanmax(length)) if np.isfinite(length).any() else 0.0
    sentences = [f"The largest shift is {largest:.2g} px."]
    if result.motion.deformation is not None:
        grid = result.motion.deformation.grid
        reach = float(np.hypot(grid[..., 0], grid[..., 1]).max())
        sentences.append(f"On top of it, slow deformation of up to {reach:.2g} px was undone.")
    for bits, text in (
        (FLAG_UNPLACED, "could not be placed; their values are interpolated in the tables"),
        (FLAG_INVALID, "held no usable values"),
        (FLAG_FLASH, "had an abrupt change of brightness (a flash)"),
    ):
        count = int(np.count_nonzero(flags & bits))
        if count:
            sentences.append(f"{count} of {result.n_frames} frames {text}.")
    return (
        f"<section><h2>Shifts over time</h2><p>{_escape(' '.join(sentences))}</p>"
        f"<figure>{shift_figure(result)}<figcaption>"
        '<span class="key dy"></span> down (dy) <span class="key dx"></span> right (dx), since '
        'frame 0 <span class="key unplaced"></span> not placed '
        '<span class="key flash"></span> flash</figcaption></figure></section>'
    )


def _raster(result: Result) -> str:
    if not result.rois.accepted.any() or result.n_frames == 0:
        return ""
    return (
        "<section><h2>Raster</h2><p>A bar where an ROI is active; to the right, its number of "
        'events. <span class="hint">The pointer over a row shows the cell on the map and its '
        "trace; a click keeps it in the plot below.</span></p>"
        f"<figure>{raster_figure(result)}</figure></section>"
    )


def _viewer_place(result: Result) -> str:
    n = len(result.rois)
    if n == 0 or result.n_frames == 0:
        return ""
    rest = ""
    if n > MAX_TRACES:
        rest = (
            f" Traces of {MAX_TRACES} of {n} candidates are in this page (accepted ones first); "
            "all accepted ones are in <code>traces.csv</code>, all in <code>result.h5</code>."
        )
    flagged = result.motion.flags
    flags = "".join(
        f'<span class="flag"><span class="key {kind}"></span>{name}</span> '
        for bits, kind, name in (
            (FLAG_UNPLACED | FLAG_INVALID, "unplaced", "not placed"),
            (FLAG_FLASH, "flash", "flash"),
        )
        if np.any(flagged & bits)
    )
    if flags:
        flags = (
            '<label><input type="checkbox" id="show-flags"> flagged frames</label>'
            f'<span id="flag-keys" hidden>{flags}</span>'
        )
    return (
        '<section id="viewer"><h2>Trace of one ROI</h2>'
        "<p>ΔF/F₀, the difference-of-Gaussians signal with its threshold, and the activity it "
        "gives. The threshold is the height of a clear event. The judge of the default model sees "
        "the whole trace: what it finds may lie below, and a peak above need not be one. "
        '<span class="hint">Arrow keys ← → go from ROI to ROI; drag across the plot '
        f"to zoom, double-click to see all.</span>{rest}</p>"
        '<div class="bar"><button type="button" id="previous" aria-label="previous ROI">←</button>'
        '<select id="choose" aria-label="ROI"></select>'
        '<button type="button" id="next" aria-label="next ROI">→</button>'
        '<button type="button" id="whole">whole recording</button>'
        '<label><input type="checkbox" id="show-counts"> raw trace and neuropil</label>'
        f'{flags}<span id="about"></span></div>'
        '<canvas id="plot" height="430" role="img" aria-label="Trace of the chosen ROI"></canvas>'
        '<p id="decimated" class="small"></p>'
        "<noscript><p>The traces need JavaScript; they are also in traces.csv.</p></noscript>"
        "</section>"
    )


def _suspects(result: Result) -> str:
    """List the ROIs that a person should look at first, with the reasons in words."""
    rois = result.rois
    if len(rois) == 0:
        return ""
    suspicions = find_suspects(
        rois,
        result.events.count(len(rois)),
        min_score=acceptance_limit(result),
        score_decides=score_decides(result),
    )
    found = [(one, roi) for roi, one in enumerate(suspicions) if one is not None and one.reasons]
    found.sort(key=lambda pair: (-pair[0].value, pair[1]))
    head = '<section id="suspects"><h2>Look at these first</h2>'
    if not found:
        return f"{head}<p>No ROI stands out as doubtful.</p></section>"
    items = "".join(
        f'<li data-roi="{roi}" class="{"yes" if rois.accepted[roi] else "no"}" tabindex="0">'
        f"<strong>{_escape(_name(result, roi))}</strong> {_escape(_why(result, roi, one))}</li>"
        for one, roi in found[:MAX_SUSPECTS]
    )
    rest = len(found) - MAX_SUSPECTS
    more = f" {rest} more follow there." if rest > 0 else ""
    return (
        f"{head}<p>The most doubtful ROIs, accepted or just rejected, in the order in which "
        f"<code>n</code> brings them up on the curation page (<code>cocuyo view</code>).{more} "
        '<span class="hint">The pointer over one shows it; a click keeps its trace in the plot '
        f"above.</span></p><ol>{items}</ol></section>"
    )


def _why(result: Result, roi: int, suspicion: Suspicion) -> str:
    """Reasons for a look, and for a rejected one why it was rejected."""
    text = "; ".join(suspicion.reasons)
    reason = result.rois.reasons[roi][:_REASON_CHARACTERS]
    return f"{text} ({reason})" if reason and not result.rois.accepted[roi] else text


def _name(result: Result, roi: int) -> str:
    """Number and id of an accepted ROI, the id of another."""
    label = int(result.rois.labels[roi])
    return f"{label} · {result.rois.ids[roi]}" if label else result.rois.ids[roi]


def _table(result: Result, shown: Sequence[int]) -> str:
    rois = result.rois
    if len(rois) == 0:
        return ""
    counts = result.events.count(len(rois))
    size = result.pixel_size_um
    diameter = 2 * np.sqrt(rois.area_px / math.pi)
    heads = ["number", "id", "y / px", "x / px", "area / px"]
    heads += ["diameter / px" if size is None else "diameter / µm"]
    heads += [] if _given(result) else ["score"]
    heads += ["SNR", "events", "verdict"]
    head = "".join(
        f'<th scope="col"><button type="button">{_escape(name)}</button></th>' for name in heads
    )
    rows = []
    for roi in shown:
        accepted = bool(rois.accepted[roi])
        values = [
            str(int(rois.labels[roi])) if accepted else "",
            rois.ids[roi],
            _number(rois.centroids[roi, 0], 1),
            _number(rois.centroids[roi, 1], 1),
            str(int(rois.area_px[roi])),
            f"{diameter[roi] * (size or 1):.1f}",
            *([] if _given(result) else [_number(rois.score[roi], 2)]),
            _number(rois.snr[roi], 1),
            str(int(counts[roi])),
            _verdict(result, roi),
        ]
        cells = "".join(f"<td>{_escape(value)}</td>" for value in values)
        rows.append(f'<tr data-roi="{roi}" class="{"yes" if accepted else "no"}">{cells}</tr>')
    rest = ""
    if len(shown) < len(rois):
        rest = f" {len(shown)} of {len(rois)} are shown; all are in <code>rois.csv</code>."
    return (
        f'<section class="long"><h2>All {"given ROIs" if _given(result) else "candidates"}</h2>'
        '<p><span class="hint">Click a heading '
        "to sort, a row to see its trace.</span>"
        f'{rest}</p><form class="choices" id="table-form">'
        '<label><input type="radio" name="which" value="all" checked> all</label>'
        '<label><input type="radio" name="which" value="yes"> accepted</label>'
        '<label><input type="radio" name="which" value="no"> rejected</label></form>'
        f'<div class="scroll"><table id="table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _provenance(result: Result) -> str:
    info = result.info
    lines: list[tuple[str, str]] = [
        ("seed", str(info.seed)),
        ("engine", " ".join(part for part in (info.engine, info.precision) if part) or "–"),
        ("peak memory", f"{info.peak_memory_mb:.0f} MB" if info.peak_memory_mb else "–"),
        ("versions", ", ".join(f"{k} {v}" for k, v in info.versions.items()) or "–"),
        (
            "time",
            ", ".join(f"{name} {seconds:.1f} s" for name, seconds in info.timings_s.items()) or "–",
        ),
    ]
    for entry in info.inputs[:50]:
        text = str(entry.get("path", ""))
        text += f" ({entry['recording']})" if "recording" in entry else ""
        if entry.get("sha256"):
            text += f" (sha256 {entry['sha256']})"
        lines.append((f"input ({entry['role']})" if "role" in entry else "input", text))
    facts = "".join(f"<tr><th>{_escape(k)}</th><td>{_escape(v)}</td></tr>" for k, v in lines)
    settings = json.dumps(info.settings, indent=2, default=str, ensure_ascii=False)
    if len(settings) > _SETTINGS_CHARACTERS:
        settings = settings[:_SETTINGS_CHARACTERS] + "\n… (the rest is in run.json)"
    return (
        '<section class="long"><h2>How it was made</h2><table class="plain">'
        f"{facts}</table><details><summary>Complete settings</summary>"
        f"<pre>{_escape(settings)}</pre></details></section>"
    )


def _viewer_data(result: Result, traces: EmbeddedTraces, counts: EmbeddedTraces) -> dict[str, Any]:
    rois = result.rois
    n_events = result.events.count(len(rois))
    flags = result.motion.flags
    entries = []
    for roi in traces.rois:
        accepted = bool(rois.accepted[roi])
        about = [
            _verdict(result, roi),
            f"{int(n_events[roi])} event{'' if n_events[roi] == 1 else 's'}",
            f"SNR {_number(rois.snr[roi], 1) or '–'}",
        ]
        if not _given(result):
            about.append(f"score {_number(rois.score[roi], 2) or '–'}")
        threshold = float(result.traces.threshold[roi])
        entries.append(
            {
                "roi": roi,
                "name": _name(result, roi),
                "about": " · ".join(about),
                "accepted": accepted,
                "threshold": threshold if math.isfinite(threshold) else None,
                "runs": _seconds(result, np.asarray(result.raster[roi], np.bool_)),
            }
        )
    times = np.asarray(result.times_s, np.float64)
    return {
        "rois": entries,
        "traces": _signals(traces),
        "counts": _signals(counts),
        "flash": _seconds(result, (flags & FLAG_FLASH) != 0),
        "unplaced": _seconds(result, (flags & (FLAG_UNPLACED | FLAG_INVALID)) != 0),
        "end": float(times[-1]) + 1 / result.frame_rate_hz if len(times) else 1.0,
        "borders": [round(float(times[part.start]), 4) for part in result.parts[1:]],
    }


def _signals(traces: EmbeddedTraces) -> dict[str, Any]:
    return {
        "codes": traces.codes,
        "times": traces.times,
        "ranges": [[float(f"{value:.7g}") for value in limits] for limits in traces.ranges],
        "nPoints": traces.n_points,
        "framesPerBin": traces.frames_per_bin,
    }


def _seconds(result: Result, active: BoolArray) -> list[list[float]]:
    """Express the stretches of some frames by the clock, neighbours joined until they fit."""
    times = np.asarray(result.times_s, np.float64)
    ends = np.append(times[1:], times[-1:] + 1 / result.frame_rate_hz)
    runs = _merge(active_runs(active), result.n_frames)
    return [
        [round(float(times[start]), 4), round(float(ends[stop - 1]), 4)]
        for start, stop in runs.tolist()
    ]


def _verdict(result: Result, roi: int) -> str:
    if result.rois.accepted[roi]:
        return "accepted"
    return f"rejected: {result.rois.reasons[roi][:_REASON_CHARACTERS] or 'no reason given'}"


def _merge(runs: Any, n_frames: int) -> Any:
    """Join neighbouring stretches until few enough are left to embed."""
    gap = max(1, n_frames // 4000)
    while len(runs) > _MAX_RUNS:
        new = np.concatenate([[True], runs[1:, 0] - runs[:-1, 1] > gap])
        last = np.concatenate([np.flatnonzero(new)[1:], [len(runs)]]) - 1
        runs = np.column_stack([runs[new, 0], runs[last, 1]])
        gap *= 2
    return runs


def _accepted_events(result: Result) -> int:
    return int(np.count_nonzero(np.asarray(result.rois.accepted)[result.events.roi]))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.4g} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def _escape(text: str) -> str:
    return html.escape(text, quote=True)

"""The tables and pages of a batch folder, made of the records of its recordings."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cocuyo.batch.measures import (
    COMPARED,
    ROI_COLUMNS,
    Summary,
    Unit,
    gather_units,
    summarise_groups,
)
from cocuyo.batch.plan import Planned
from cocuyo.batch.settings import RECORDS, RESULTS
from cocuyo.io.atomic import write_atomically
from cocuyo.io.tables import write_rows
from cocuyo.report import IndexRow, Strip, draw_strip, render_index

FIGURES = (
    "n_neurons",
    "n_candidates",
    "n_events",
    "events_per_min",
    "active_share",
    "mean_correlation",
    "synchrony_peaks_per_min",
    "synchronous_share",
    "median_snr",
    "median_score",
    "median_noise",
    "largest_shift_px",
    "unplaced_frames",
    "invalid_frames",
    "flash_frames",
    "share_in_view",
    "n_frames",
    "n_rows",
    "n_columns",
    "duration_s",
    "frame_rate_hz",
    "pixel_size_um",
    "diameter_px",
)
"""Columns of ``summary.csv`` that are measured."""

Records = Mapping[str, Mapping[str, Any]]


def write_pages(
    folder: Path, planned: Sequence[Planned], records: Records, *, notes: Sequence[str] = ()
) -> None:
    """Write index, summary, long table and comparisons of a batch, each whole or not at all.

    Parameters
    ----------
    folder : Path
        The folder of the batch.
    planned : sequence of Planned
        Its recordings, in order.
    records : mapping of str to mapping
        What is known of each by now, by name.
    notes : sequence of str
        What the user should know, in sentences.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    labels = sorted({name for p in planned for name in p.entry.labels})
    with write_atomically(folder / "summary.csv") as path:
        write_rows(path, _summary_header(labels), _summary_rows(planned, records, labels))
    with write_atomically(folder / "rois.csv") as path:
        header = ("recording", "group", "experiment", *labels, *ROI_COLUMNS)
        write_rows(path, header, _roi_rows(planned, records, labels))
    strips = _write_comparisons(folder / "comparisons", planned, records)
    rows = [_index_row(p, records.get(p.entry.name)) for p in planned]
    page = render_index(folder.name, rows, strips=strips, notes=notes)
    with write_atomically(folder / "index.html") as path:
        path.write_text(page, encoding="utf-8", errors="replace", newline="\n")


def state_of(record: Mapping[str, Any] | None) -> str:
    """Say how a recording stands.

    Parameters
    ----------
    record : mapping or None
        What is known of it.

    Returns
    -------
    str
        ``done``, ``failed`` or ``to do``.
    """
    if record is None:
        return "to do"
    return "done" if record["kind"] == "done" else "failed"


def _summary_header(labels: Sequence[str]) -> list[str]:
    return [
        *("recording", "state", "error", "group", "experiment"),
        *labels,
        *FIGURES,
        *("n_warnings", "warnings", "seconds", "peak_memory_mb", "engine", "cocuyo"),
        *("path", "result"),
    ]


def _summary_rows(
    planned: Sequence[Planned], records: Records, labels: Sequence[str]
) -> list[list[Any]]:
    rows = []
    for p in planned:
        record = records.get(p.entry.name)
        state = state_of(record)
        known = record or {}
        figures = known.get("figures", {}) if state == "done" else {}
        told = known.get("warnings", []) if state == "done" else []
        rows.append(
            [
                p.entry.name,
                state,
                known.get("error", ""),
                p.entry.group,
                p.entry.experiment,
                *(p.entry.labels.get(label, "") for label in labels),
                *(_cell(figures.get(name)) for name in FIGURES),
                len(told) if state == "done" else "",
                " | ".join(told),
                _cell(known.get("seconds")),
                _cell(known.get("peak_memory_mb")),
                known.get("engine", ""),
                known.get("cocuyo", ""),
                " | ".join(p.entry.paths),
                f"{RESULTS}/{p.entry.name}" if state == "done" else "",
            ]
        )
    return rows


def _roi_rows(
    planned: Sequence[Planned], records: Records, labels: Sequence[str]
) -> list[list[Any]]:
    rows = []
    for p in planned:
        record = records.get(p.entry.name)
        if record is None or record["kind"] != "done":
            continue
        own = [p.entry.name, p.entry.group, p.entry.experiment]
        own += [p.entry.labels.get(label, "") for label in labels]
        rows += [[*own, *map(_cell, roi)] for roi in record["rois"]]
    return rows


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def _index_row(planned: Planned, record: Mapping[str, Any] | None) -> IndexRow:
    entry, state = planned.entry, state_of(record)
    known = record or {}
    figures = dict(known.get("figures", {})) if state == "done" else {}
    if figures:
        figures["bad_frames"] = figures["unplaced_frames"] + figures["invalid_frames"]
    return IndexRow(
        name=entry.name,
        group=entry.group,
        experiment=entry.experiment,
        state=state,
        reason=known.get("error", ""),
        link=_link(entry.name) if state == "done" else "",
        thumbnail=known.get("thumbnail", "") if state == "done" else "",
        figures=figures,
        warnings=tuple(known.get("warnings", ())) if state == "done" else (),
    )


def _link(name: str) -> str:
    from urllib.parse import quote

    return f"{RESULTS}/{quote(name)}/report.html"


# --- Groups ------------------------------------------------------------------------------------


def _write_comparisons(folder: Path, planned: Sequence[Planned], records: Records) -> list[Strip]:
    """Write units, groups and pictures where groups are named; give what the page draws."""
    rows = []
    for p in planned:
        record = records.get(p.entry.name)
        if record is not None and record["kind"] == "done":
            own = {"recording": p.entry.name, "group": p.entry.group}
            rows.append({**own, "experiment": p.entry.experiment, **record["figures"]})
    if not any(row["group"] for row in rows):
        if folder.is_dir():  # of an earlier start, when groups were named
            shutil.rmtree(folder)
        return []
    units = gather_units(rows)
    folder.mkdir(exist_ok=True)
    names = [measure.name for measure in COMPARED]
    with write_atomically(folder / "units.csv") as path:
        header = ("group", "unit", "n_recordings", *names)
        write_rows(path, header, ([*_unit_cells(unit, names)] for unit in units))
    with write_atomically(folder / "groups.csv") as path:
        fields = tuple(Summary.__dataclass_fields__)
        found = summarise_groups(units)
        write_rows(path, fields, ([_cell(getattr(s, f)) for f in fields] for s in found))
    groups = sorted({unit.group for unit in units})
    strips = []
    for measure in COMPARED:
        values = {
            group: [
                (unit.name, value)
                for unit in units
                if unit.group == group and (value := unit.values[measure.name]) is not None
            ]
            for group in groups
        }
        strip = Strip(measure.name, measure.title, values)
        strips.append(strip)
        with write_atomically(folder / f"{measure.name}.svg") as path:
            path.write_text(draw_strip(strip, standalone=True), encoding="utf-8", newline="\n")
    return strips


def _unit_cells(unit: Unit, names: Sequence[str]) -> list[Any]:
    values = [_cell(unit.values[name]) for name in names]
    return [unit.group, unit.name, unit.n_recordings, *values]


def forget(folder: Path, name: str) -> None:
    """Remove what an attempt kept to go on from.

    Parameters
    ----------
    folder : Path
        The folder of the batch.
    name : str
        Name of the recording.
    """
    shutil.rmtree(folder / RECORDS / name, ignore_errors=True)

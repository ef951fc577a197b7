"""The tables and pages of a batch folder, made of the records of its results."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
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
from cocuyo.batch.settings import RECORDS, RESULTS, Entry
from cocuyo.io.atomic import write_atomically
from cocuyo.io.results import PARTS_FOLDER
from cocuyo.io.tables import write_rows
from cocuyo.report import IndexRow, Strip, draw_strip, render_index

FIGURES = (
    "n_neurons",
    "n_active",
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
    "field_offset_px",
    "field_correlation",
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
        Its recordings and experiments, in order.
    records : mapping of str to mapping
        What is known of each by now, by name.
    notes : sequence of str
        What the user should know, in sentences.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    labels = sorted({name for p in planned for entry in p.entries for name in entry.labels})
    with write_atomically(folder / "summary.csv") as path:
        write_rows(path, _summary_header(labels), _summary_rows(planned, records, labels))
    with write_atomically(folder / "rois.csv") as path:
        header = ("recording", "group", "experiment", "animal", *labels, *ROI_COLUMNS)
        write_rows(path, header, _roi_rows(planned, records, labels))
    strips = _write_comparisons(folder / "comparisons", planned, records)
    rows = [_index_row(p, records.get(p.name)) for p in planned]
    page = render_index(folder.name, rows, strips=strips, notes=notes)
    with write_atomically(folder / "index.html") as path:
        path.write_text(page, encoding="utf-8", errors="replace", newline="\n")


def state_of(record: Mapping[str, Any] | None) -> str:
    """Say how a recording or experiment stands.

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
        *("recording", "state", "error", "group", "experiment", "animal"),
        *labels,
        *FIGURES,
        *("n_warnings", "warnings", "seconds", "peak_memory_mb", "engine", "cocuyo"),
        *("path", "result", "tables"),
    ]


def _summary_rows(
    planned: Sequence[Planned], records: Records, labels: Sequence[str]
) -> list[list[Any]]:
    rows = []
    for p in planned:
        record = records.get(p.name)
        state, result = state_of(record), f"{RESULTS}/{p.name}"
        known = record or {}
        for entry, found in _each(p, record):
            figures = found.get("figures", {})
            told = _warnings(known, found) if state == "done" else []
            rows.append(
                [
                    entry.name,
                    state,
                    known.get("error", ""),
                    entry.group,
                    entry.experiment,
                    entry.animal,
                    *(entry.labels.get(label, "") for label in labels),
                    *(_cell(figures.get(name)) for name in FIGURES),
                    len(told) if state == "done" else "",
                    " | ".join(told),
                    _cell(known.get("seconds")),
                    _cell(known.get("peak_memory_mb")),
                    known.get("engine", ""),
                    known.get("cocuyo", ""),
                    " | ".join(entry.paths),
                    result if state == "done" else "",
                    _tables(result, found) if state == "done" else "",
                ]
            )
    return rows


def _warnings(record: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Give the warnings about one recording, or about all of its experiment."""
    others = [f"{one['part']}: " for one in record["recordings"] if one is not found]
    return [text for text in record["warnings"] if not text.startswith(tuple(others))]


def _tables(result: str, found: Mapping[str, Any]) -> str:
    """Name the folder that holds the tables of one recording alone."""
    return f"{result}/{PARTS_FOLDER}/{found['part']}" if found["part"] else result


def _each(
    planned: Planned, record: Mapping[str, Any] | None
) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
    """Give each recording of a result, with what was measured of it."""
    done = record is not None and record["kind"] == "done"
    found = record["recordings"] if record is not None and done else [{}] * len(planned.entries)
    return zip(planned.entries, found, strict=True)


def _roi_rows(
    planned: Sequence[Planned], records: Records, labels: Sequence[str]
) -> list[list[Any]]:
    rows = []
    for p in planned:
        for entry, found in _each(p, records.get(p.name)):
            own = [entry.name, entry.group, entry.experiment, entry.animal]
            own += [entry.labels.get(label, "") for label in labels]
            rows += [[*own, *map(_cell, roi)] for roi in found.get("rois", ())]
    return rows


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def _index_row(planned: Planned, record: Mapping[str, Any] | None) -> IndexRow:
    entry, state = planned.entries[0], state_of(record)
    known, done = record or {}, state == "done"
    several = len(planned.entries) > 1
    return IndexRow(
        name=planned.name,
        group="" if several else entry.group,
        animal=entry.animal,
        state=state,
        reason=known.get("error", ""),
        link=_link(planned.name) if done else "",
        thumbnail=known.get("thumbnail", "") if done else "",
        figures=_shown(known.get("figures")) if done else {},
        warnings=tuple(known.get("warnings", ())) if done else (),
        recordings=tuple(
            IndexRow(each.name, each.group, figures=_shown(found.get("figures")))
            for each, found in _each(planned, record)
            if several
        ),
    )


def _shown(figures: Mapping[str, Any] | None) -> dict[str, Any]:
    if figures is None:
        return {}
    return {**figures, "bad_frames": figures["unplaced_frames"] + figures["invalid_frames"]}


def _link(name: str) -> str:
    from urllib.parse import quote

    return f"{RESULTS}/{quote(name)}/report.html"


# --- Groups ------------------------------------------------------------------------------------


def _write_comparisons(folder: Path, planned: Sequence[Planned], records: Records) -> list[Strip]:
    """Write units, groups and pictures where groups are named; give what the page draws."""
    rows = []
    for p in planned:
        for entry, found in _each(p, records.get(p.name)):
            if found:
                own = {"recording": entry.name, "group": entry.group, "animal": entry.animal}
                rows.append({**own, "experiment": entry.experiment, **found["figures"]})
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
        summaries = summarise_groups(units)
        write_rows(path, fields, ([_cell(getattr(s, f)) for f in fields] for s in summaries))
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
        Name of the result.
    """
    shutil.rmtree(folder / RECORDS / name, ignore_errors=True)

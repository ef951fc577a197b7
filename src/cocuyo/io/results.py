"""Result folders: written beside their place, then put there in one step."""

import errno
import html
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import Result, ResultError, RunInfo, Terminated
from cocuyo.io.atomic import write_json
from cocuyo.io.edits import EDITS_FILE
from cocuyo.io.imagej import write_roi_set, write_tiff
from cocuyo.io.lock import hold_place
from cocuyo.io.resultfile import (
    FORMAT,
    FORMAT_VERSION,
    PER_ROI_NAMES,
    TRACE_NAMES,
    read_result_file,
    write_result_file,
)
from cocuyo.io.tables import (
    write_event_table,
    write_part_table,
    write_raster_table,
    write_roi_table,
    write_shift_table,
    write_trace_table,
)

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
PARTS_FOLDER = "recordings"
"""Folder with the tables of each recording of an experiment."""
WORK_FOLDER = "work"
"""Folder inside the partial folder where a run keeps what it needs to resume."""
REPLACED_EDITS_FILE = "edits.replaced.jsonl"
"""Edits of the result that was in the same place before."""
MAX_ROIS = 65535
"""Largest label that the uint16 of ``labels.tif`` holds."""

_PARTIAL = ".partial"


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that cocuyo makes, and how one is known.

    Attributes
    ----------
    noun : str
        What it holds, for people.
    record : str
        Name of the JSON file that says so.
    format : str
        What that file has under ``format``.
    """

    noun: str
    record: str
    format: str


RESULT = FolderKind("result", RUN_FILE, FORMAT)

_INFO_TUPLES = ("warnings", "notes", "inputs")


def partial_folder(folder: str | Path) -> Path:
    """Name the folder in which a result is made before it takes its place.

    Parameters
    ----------
    folder : str or Path
        The result folder.

    Returns
    -------
    Path
        ``folder`` with ``.partial`` added; it need not exist. A run may keep what it
        needs to resume in its subfolder ``work``, which `save_result` removes at the end.
    """
    folder = _absolute(folder)
    return folder.with_name(folder.name + _PARTIAL)


def check_destination(
    folder: str | Path,
    overwrite: bool = False,
    *,
    inputs: Iterable[str | Path] = (),
    kind: FolderKind = RESULT,
) -> Path:
    """Refuse a result folder that cannot be made, before any work is done.

    Parameters
    ----------
    folder : str or Path
        The result folder.
    overwrite : bool, default: False
        Allow a folder that holds a result of cocuyo (our ``run.json``); nothing else is
        ever replaced.
    inputs : iterable of str or Path, optional
        What the run reads. A folder in which any of it lies is never replaced.
    kind : FolderKind
        What is to be made: only a folder of this kind is replaced.

    Returns
    -------
    Path
        The absolute path of the folder. Nothing is made.

    Raises
    ------
    ResultError
        If the folder exists and may not be replaced, or its place cannot be written.
    """
    folder = _absolute(folder)
    if not folder.name:
        msg = f"{folder} cannot be a result folder; name a folder in it."
        raise ResultError(msg)
    if folder.name.endswith(_PARTIAL):
        msg = f"{folder} cannot be a result folder: {_PARTIAL} marks unfinished ones. Rename it."
        raise ResultError(msg)
    if folder.exists() or folder.is_symlink():
        if not (folder.is_dir() and _is_ours(folder, kind)):
            msg = (
                f"{folder} exists and holds no {kind.noun} of cocuyo, so it is not replaced; "
                "choose another folder with --out."
            )
            raise ResultError(msg)
        if not overwrite:
            msg = (
                f"{folder} exists; choose another folder with --out, "
                f"or replace the {kind.noun} with --overwrite."
            )
            raise ResultError(msg)
    partial = partial_folder(folder)
    _protect(inputs, folder, partial)
    if partial.exists() and not (
        partial.is_dir() and (_is_ours(partial, kind) or not any(partial.iterdir()))
    ):
        msg = (
            f"{partial} is where the result would be made, but it exists and is not "
            "cocuyo's; move it away, or choose another folder with --out."
        )
        raise ResultError(msg)
    _check_place(folder.parent, folder)
    return folder


def check_writable(folder: str | Path) -> Path:
    """Refuse a folder that files cannot be written to, before any work is done.

    Parameters
    ----------
    folder : str or Path
        The folder; it need not exist.

    Returns
    -------
    Path
        The absolute path of the folder. Nothing is made.

    Raises
    ------
    ResultError
        If it cannot be made or written.
    """
    folder = _absolute(folder)
    _check_place(folder, folder)
    return folder


def _check_place(place: Path, folder: Path) -> None:
    while not place.exists() and place != place.parent:
        place = place.parent
    reason = ""
    if not place.is_dir():
        reason = f"{place} is not a folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} is not writable"
    if reason:
        msg = f"{folder} cannot be made because {reason}; choose another folder with --out."
        raise ResultError(msg)


def _protect(inputs: Iterable[str | Path], *folders: Path) -> None:
    """Refuse to replace a folder that holds what is read."""
    for path in map(Path, inputs):
        for folder in folders:
            inside = _absolute(path).is_relative_to(folder)
            if path.exists() and (inside or path.resolve().is_relative_to(folder.resolve())):
                msg = (
                    f"{path} lies in {folder}, which the result would replace; move it out, or "
                    "choose another folder with --out."
                )
                raise ResultError(msg)


def start_partial(folder: str | Path, *, overwrite: bool = False) -> Path:
    """Make (or take up again) the folder in which a result is made.

    What a run that was killed wrote is removed, but for its subfolder ``work``.

    Parameters
    ----------
    folder : str or Path
        The result folder.
    overwrite : bool, default: False
        Allow a folder that holds a result of cocuyo.

    Returns
    -------
    Path
        The partial folder, marked as unfinished.

    Raises
    ------
    ResultError
        If the result folder cannot be made there.
    """
    folder = check_destination(folder, overwrite)
    partial = partial_folder(folder)
    made = not partial.exists()
    try:
        partial.mkdir(parents=True, exist_ok=True)
        _mark_unfinished(partial)
        for path in list(partial.iterdir()):
            if path.name not in (RUN_FILE, WORK_FOLDER):
                remove(path)
    except OSError as error:
        if made:
            remove(partial)
        raise cannot_write(folder, error) from error
    return partial


@contextmanager
def work_folder(folder: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a run a place for what it needs to go on after a kill, until its result is saved.

    The place is in the partial folder. An error or Ctrl-C takes the place away again, unless it was
    there before; a request of the system to end (`Terminated`) is like a kill. Meanwhile no other
    program can make the same result.

    Parameters
    ----------
    folder : str or Path
        The result folder.
    overwrite : bool, default: False
        Allow a folder that holds a result of cocuyo.

    Yields
    ------
    Path
        An existing folder.

    Raises
    ------
    ResultError
        If the result folder cannot be made there, or another run is making it.
    """
    with alone_in(folder):
        made = not partial_folder(folder).exists()
        partial = start_partial(folder, overwrite=overwrite)
        try:
            work = partial / WORK_FOLDER
            work.mkdir(exist_ok=True)
            yield work
        except BaseException as error:
            if made and not isinstance(error, Terminated):
                remove(partial)
            raise


@contextmanager
def alone_in(folder: str | Path, *, again: bool = False) -> Iterator[None]:
    """Keep other programs from making the same folder at the same time.

    Parameters
    ----------
    folder : str or Path
        The folder to be made.
    again : bool, default: False
        Pass where this very process holds it already.

    Yields
    ------
    None
        While this lasts.

    Raises
    ------
    ResultError
        If another process makes it, or nothing can be written there.
    """
    folder = _absolute(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(hold_place(folder, again=again))
        except OSError as error:
            raise cannot_write(folder, error) from error
        yield


def save_result(
    result: Result,
    folder: str | Path,
    *,
    overwrite: bool = False,
    report_html: str | Callable[[Result], str] | None = None,
) -> Path:
    """Write a result folder: pictures, tables, ``result.h5``, report and ``run.json``.

    Everything is written into ``<folder>.partial``, which then takes its place in one
    step. Edits of a result that is replaced are kept (`replaced_edits`). After any failure (a full
    disk, Ctrl-C) a previous result is as it was and nothing unfinished looks finished.

    Parameters
    ----------
    result : Result
        What a run found. Traces may lie on disk; tables are written in blocks.
    folder : str or Path
        The folder to make; its parents are made.
    overwrite : bool, default: False
        Replace a folder that holds a result of cocuyo.
    report_html : str or callable, optional
        The page ``report.html``, or what makes it of the result
        (`cocuyo.report.render_report`); `Result.save` gives it. Without it the page only
        states the counts.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ResultError
        If the folder exists and may not be replaced, cannot be written, another program is making
        it, or the result does not fit (more than 65 535 accepted ROIs, arrays that contradict each
        other).
    """
    _check(result)
    inputs = [entry["path"] for entry in result.info.inputs if "path" in entry]
    folder = check_destination(folder, overwrite, inputs=inputs)
    with alone_in(folder, again=True):  # a run that saves its result holds the place already
        _save(result, folder, overwrite, report_html)
    return folder


def _save(
    result: Result,
    folder: Path,
    overwrite: bool,
    report_html: str | Callable[[Result], str] | None,
) -> None:
    partial = partial_folder(folder)
    made = not partial.exists()
    before = set() if made else {path.name for path in partial.iterdir()}
    try:
        start_partial(folder, overwrite=overwrite)
        _write_files(partial, result, report_html)
        remove(partial / WORK_FOLDER)
        write_json(partial / RUN_FILE, _run_record(result))
        put_in_place(partial, folder)
    except BaseException as error:
        _take_back(partial, None if made else before)
        if isinstance(error, OSError):
            raise cannot_write(folder, error) from error
        raise


def _write_files(
    partial: Path, result: Result, report_html: str | Callable[[Result], str] | None
) -> None:
    rois, size = result.rois, result.pixel_size_um
    write_result_file(partial / "result.h5", result)
    mask = rois.mask().astype(np.uint8) * np.uint8(255)
    write_tiff(partial / "mask.tif", mask, pixel_size_um=size)
    labels = rois.label_image().astype(np.uint16)
    write_tiff(partial / "labels.tif", labels, pixel_size_um=size)
    probability = np.asarray(result.probability, np.float32)
    write_tiff(partial / "probability.tif", probability, pixel_size_um=size)
    write_roi_table(partial / "rois.csv", result)
    _write_activity(partial, result)
    for i, part in enumerate(result.parts):
        place = partial / PARTS_FOLDER / part.name
        place.mkdir(parents=True)
        own = result.part(i)
        _write_activity(place, own)
        write_part_table(place / "rois.csv", own, part)
        write_shift_table(place / "shifts.csv", own)
    write_roi_set(partial / "rois.zip", rois)
    page = report_html(result) if callable(report_html) else report_html
    if page is None:
        page = _short_page(result)
    (partial / "report.html").write_text(page, encoding="utf-8", errors="replace", newline="\n")


def _write_activity(folder: Path, result: Result) -> None:
    """Write the tables that have a row for each frame or event."""
    write_event_table(folder / "events.csv", result)
    write_trace_table(folder / "traces.csv", result, result.traces.delta_f_over_f, digits=6)
    # Float32 holds seven digits; counts above a million keep their units.
    write_trace_table(folder / "traces_raw.csv", result, result.traces.raw, digits=7)
    write_raster_table(folder / "raster.csv", result)


def _run_record(result: Result) -> dict[str, Any]:
    info = result.info
    recordings = [
        {
            "name": part.name,
            "paths": [e["path"] for e in info.inputs if e.get("recording") == part.name],
            "first_frame": part.start,
            "n_frames": part.n_frames,
            "start_s": float(result.times_s[part.start]),
            "offset_yx_px": list(part.offset_px),
            "correlation": part.correlation,
            "n_found": len(part.found),
        }
        for part in result.parts
    ]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "status": "complete",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": result.name,
        "n_frames": result.n_frames,
        "frame_shape": list(result.rois.frame_shape),
        "frame_rate_hz": result.frame_rate_hz,
        "pixel_size_um": result.pixel_size_um,
        "diameter_px": result.diameter_px,
        "n_candidates": len(result.rois),
        "n_accepted": int(result.rois.accepted.sum()),
        **({"recordings": recordings} if recordings else {}),
        **{name: getattr(info, name) for name in RunInfo.__dataclass_fields__},
    }


def put_in_place(partial: Path, folder: Path) -> None:
    """Move the finished folder to its place; an old one is deleted only afterwards.

    What people corrected in the old one is kept in the new one, as ``edits.replaced.jsonl`` or
    ``edits.replaced-2.jsonl`` and so on.

    Parameters
    ----------
    partial : Path
        The finished folder.
    folder : Path
        Where it belongs.

    Raises
    ------
    OSError
        If it cannot be moved. What was there before is then back in its place.
    """
    if not folder.exists():
        partial.replace(folder)
        return
    aside = _free_name(folder)
    folder.replace(aside)
    try:
        partial.replace(folder)
    except BaseException:
        aside.replace(folder)
        raise
    try:
        _keep_edits(aside, folder)
        remove(aside)
    except OSError as error:
        # The new result stands; a file of the old one is perhaps open in another program.
        logger.warning(
            "The replaced result stays in %s (%s); delete it by hand, but look first whether %s "
            "with what was corrected still lies there.",
            aside,
            error,
            EDITS_FILE,
        )


def _keep_edits(replaced: Path, folder: Path) -> None:
    """Move what people corrected in a result into the one that took its place.

    The edits belong to other ROIs and are not read there, but they are a person's work: none is
    lost, however often a result is replaced.
    """
    for path in replaced_edits(replaced):
        path.replace(folder / path.name)
    edits = replaced / EDITS_FILE
    if edits.is_file() and edits.stat().st_size:
        stem, suffix = REPLACED_EDITS_FILE.rsplit(".", 1)
        place, n = folder / REPLACED_EDITS_FILE, 1
        while place.exists():
            n += 1
            place = folder / f"{stem}-{n}.{suffix}"
        edits.replace(place)


def replaced_edits(folder: Path) -> list[Path]:
    """List the edits of results that a result took the place of, the oldest first.

    Parameters
    ----------
    folder : Path
        A result folder.

    Returns
    -------
    list of Path
        Files of the form of ``edits.jsonl``.
    """
    stem, suffix = REPLACED_EDITS_FILE.rsplit(".", 1)
    return sorted(folder.glob(f"{stem}*.{suffix}"), key=lambda path: (len(path.name), path.name))


def _free_name(folder: Path) -> Path:
    n = 0
    while True:
        aside = folder.with_name(f"{folder.name}.old{n or ''}")
        if not aside.exists():
            return aside
        n += 1


def _take_back(partial: Path, before: set[str] | None) -> None:
    """Remove what a failed save wrote; what a run keeps to resume stays."""
    try:
        if not partial.is_dir():
            return
        (partial / RUN_FILE).unlink(missing_ok=True)
        if before is None:
            remove(partial)
            return
        for path in list(partial.iterdir()):
            if path.name not in before:
                remove(path)
        _mark_unfinished(partial)
    except OSError as error:
        # The first error is the one to report; without run.json nothing looks finished.
        logger.warning("Unfinished files stay in %s (%s).", partial, error)


def _mark_unfinished(partial: Path) -> None:
    write_json(
        partial / RUN_FILE,
        {"format": FORMAT, "format_version": FORMAT_VERSION, "status": "partial"},
    )


def load_result(folder: str | Path) -> Result:
    """Read a result folder back from its ``result.h5`` and ``run.json``.

    Parameters
    ----------
    folder : str or Path
        A folder that `save_result` or ``cocuyo run`` made.

    Returns
    -------
    Result
        The result as it was saved, without later curation.

    Raises
    ------
    ResultError
        If the folder is absent, unfinished, damaged or of a newer version.
    """
    return _load(Path(folder), in_memory=True)


def open_result(folder: str | Path) -> Result:
    """Read a result folder, but leave traces and raster on the disk.

    Parameters
    ----------
    folder : str or Path
        A folder that `save_result` or ``cocuyo run`` made.

    Returns
    -------
    Result
        Like that of `load_result`, for a program that looks at one ROI after the other: rows of
        the arrays (n_rois, n_frames) are read when they are indexed.

    Raises
    ------
    ResultError
        If the folder is absent, unfinished, damaged or of a newer version.
    """
    return _load(Path(folder), in_memory=False)


def _load(folder: Path, *, in_memory: bool) -> Result:
    if not folder.is_dir():
        what = "is a file, not a result" if folder.exists() else "does not exist"
        msg = f"{folder} {what}; give a result folder that cocuyo run made."
        old = folder.with_name(folder.name + ".old") if folder.name else folder
        if old.is_dir() and _is_ours(old):
            msg += f" A replacement was interrupted: the earlier result is in {old}."
        raise ResultError(msg)
    record = _read_record(folder)
    if record is None:
        msg = f"{folder} holds no {RUN_FILE} of cocuyo; give a result folder that cocuyo run made."
        raise ResultError(msg)
    if record.get("status") != "complete":
        msg = f"{folder} is unfinished; run the recording again to complete it."
        raise ResultError(msg)
    version = record.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        msg = (
            f"{folder} has format version {version}, this cocuyo reads up to {FORMAT_VERSION}; "
            "update cocuyo."
        )
        raise ResultError(msg)
    info = _run_info(record, folder)
    _check_numbers(record, folder)
    result = read_result_file(folder / "result.h5", info, in_memory=in_memory)
    held = {
        "n_frames": result.n_frames,
        "frame_shape": list(result.rois.frame_shape),
        "n_candidates": len(result.rois),
    }
    for name, value in held.items():
        if record.get(name, value) != value:
            raise _damaged(folder, f"{name} is {record[name]}, and result.h5 holds {value}")
    return result


def _damaged(folder: Path, what: str) -> ResultError:
    return ResultError(f"{folder / RUN_FILE} is damaged: {what}. Run the recording again.")


def _check_numbers(record: Mapping[str, Any], folder: Path) -> None:
    """Refuse numbers of ``run.json`` that no run can have written; absent ones are of old files."""
    for name in ("n_frames", "n_candidates", "n_accepted"):
        value = record.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise _damaged(folder, f"{name} is {value!r}")
    for name in ("frame_rate_hz", "pixel_size_um", "diameter_px"):
        value = record.get(name)
        if value is not None and not (_is_number(value) and value > 0):
            raise _damaged(folder, f"{name} is {value!r}")
    spent = record.get("timings_s", {})
    if not isinstance(spent, dict):
        raise _damaged(folder, "timings_s is no table")
    for name, value in {"peak_memory_mb": record.get("peak_memory_mb"), **spent}.items():
        if value is not None and not (_is_number(value) and value >= 0):
            raise _damaged(folder, f"{name} is {value!r}")
    if record.get("n_accepted", 0) > record.get("n_candidates", record.get("n_accepted", 0)):
        raise _damaged(folder, "more neurons than candidates")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _run_info(record: Mapping[str, Any], folder: Path) -> RunInfo:
    fields = {name: record[name] for name in RunInfo.__dataclass_fields__ if name in record}
    for name in _INFO_TUPLES:
        if not isinstance(fields.get(name, []), list):
            msg = f"{folder / RUN_FILE} is damaged: {name} is not a list."
            raise ResultError(msg)
        fields[name] = tuple(fields.get(name, []))
    if fields.get("peak_memory_mb") is None:
        fields["peak_memory_mb"] = 0.0
    return RunInfo(**fields)


def _read_record(folder: Path, kind: FolderKind = RESULT) -> dict[str, Any] | None:
    """Read our ``run.json`` or its like; None where there is none or it is another program's."""
    try:
        record = json.loads((folder / kind.record).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") != kind.format:
        return None
    return record


def is_result(folder: Path) -> bool:
    """Tell whether a folder is a result of cocuyo, finished or not.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    bool
        True if it holds our ``run.json``.
    """
    return _is_ours(folder)


def _is_ours(folder: Path, kind: FolderKind = RESULT) -> bool:
    return _read_record(folder, kind) is not None


def _check(result: Result) -> None:
    """Refuse a result that the folder cannot hold, before anything is written."""
    rois, n_frames = result.rois, result.n_frames
    n_rois, frame_shape = len(rois), tuple(rois.frame_shape)
    n_accepted = int(np.count_nonzero(rois.accepted))
    if n_accepted > MAX_ROIS:
        msg = (
            f"{n_accepted} ROIs are accepted; labels.tif holds at most {MAX_ROIS}. "
            "Split the field of view, or accept fewer."
        )
        raise ResultError(msg)
    per_trace = (n_rois, n_frames)
    expected: list[tuple[str, Any, tuple[int, ...]]] = [
        ("footprints", rois.footprints, (n_rois, frame_shape[0] * frame_shape[1])),
        ("accepted", rois.accepted, (n_rois,)),
        ("score", rois.score, (n_rois,)),
        ("snr", rois.snr, (n_rois,)),
        ("raster", result.raster, per_trace),
        ("probability", result.probability, frame_shape),
        ("valid", result.valid, frame_shape),
        *((f"valid of {part.name}", part.valid, frame_shape) for part in result.parts),
        *((f"mean of {part.name}", part.mean, frame_shape) for part in result.parts),
        ("shifts", result.motion.shifts, (n_frames, 2)),
        ("confidence", result.motion.confidence, (n_frames,)),
        ("flags", result.motion.flags, (n_frames,)),
        *((name, getattr(result.traces, name), per_trace) for name in TRACE_NAMES),
        *((name, getattr(result.traces, name), (n_rois,)) for name in PER_ROI_NAMES),
        *((name, image, frame_shape) for name, image in result.projections.items()),
    ]
    for name, value, shape in expected:
        if tuple(value.shape) != shape:
            msg = f"{name} has shape {tuple(value.shape)}; the result needs {shape}."
            raise ResultError(msg)
    if len(rois.reasons) != n_rois or len(set(rois.ids)) != n_rois:
        msg = f"{n_rois} ROIs need as many different ids and as many reasons."
        raise ResultError(msg)
    parts = result.parts
    ends = [0, *(part.stop for part in parts)]
    if parts and (ends[-1] != n_frames or [part.start for part in parts] != ends[:-1]):
        msg = f"The recordings must follow one another and hold all {n_frames} frames."
        raise ResultError(msg)
    if len({part.name.casefold() for part in parts}) != len(parts):
        msg = "The recordings need different names; each is a folder of its tables."
        raise ResultError(msg)
    for part in parts:
        if part.name != Path(part.name).name or part.name in ("", ".", ".."):
            msg = f"The recording's name {part.name!r} is no name of a folder; give it another."
            raise ResultError(msg)
    events = result.events
    frames = np.concatenate([events.onset, events.peak, events.offset])
    if len(events) and not (
        0 <= events.roi.min() <= events.roi.max() < n_rois
        and 0 <= frames.min() <= frames.max() < n_frames
    ):
        msg = f"Events name ROIs or frames beyond the {n_rois} ROIs and {n_frames} frames."
        raise ResultError(msg)


def _short_page(result: Result) -> str:
    n = int(result.rois.accepted.sum())
    name = html.escape(result.name)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{name}</title>\n'
        f"<h1>{name}</h1>\n<p>{n} of {len(result.rois)} candidates accepted, "
        f"{result.n_frames} frames at {result.frame_rate_hz:g} Hz. "
        "The full report was not asked for.</p></html>\n"
    )


def cannot_write(folder: Path, error: OSError) -> ResultError:
    """Say that a folder could not be written, and what to do.

    Parameters
    ----------
    folder : Path
        The folder.
    error : OSError
        What went wrong.

    Returns
    -------
    ResultError
        The error to raise.
    """
    # NumPy says only how much it wrote, where a disk is full.
    reason = error.strerror or f"the disk is perhaps full ({error})"
    full = error.strerror is None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "Free some space or choose" if full else "Choose"
    return ResultError(
        f"{folder} cannot be written: {reason}. {remedy} another folder with --out; what was there "
        "before is unchanged."
    )


def _absolute(folder: str | Path) -> Path:
    return Path(os.path.abspath(folder))  # noqa: PTH100 - resolves ".." but keeps links


def remove(path: Path) -> None:
    """Remove a file, or a folder with all it holds.

    Parameters
    ----------
    path : Path
        What to remove; a link goes, not what it leads to. It need not exist.

    Raises
    ------
    OSError
        If it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

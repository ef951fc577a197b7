"""The CSV tables of a result folder, written in blocks of rows."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import (
    FLAG_INVALID,
    FLAG_UNPLACED,
    AnyArray,
    BoolArray,
    Part,
    Result,
    TimeArray,
    release_pages,
)

# Frames handled at once; 1024 frames of 1000 ROIs are 4 MB.
BLOCK_FRAMES = 1024

ROI_COLUMNS = (
    "id",
    "label",
    "y_px",
    "x_px",
    "area_px",
    "diameter_um",
    "score",
    "snr",
    "n_events",
    "accepted",
    "reason",
)
PART_COLUMNS = ("id", "label", "in_view", "found", "n_events")
SHIFT_COLUMNS = ("time_s", "dy_px", "dx_px", "confidence", "flags")
EVENT_COLUMNS = ("id", "onset_s", "peak_s", "offset_s", "amplitude")


def write_roi_table(path: Path, result: Result) -> None:
    """Write ``rois.csv``: one row for each candidate, accepted or rejected.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        What a run found. Values that are not finite, and the diameter where the pixel
        size is unknown, are left empty.
    """
    rois = result.rois
    counts = result.events.count(len(rois))
    diameter_px = 2 * np.sqrt(rois.area_px / math.pi)
    size = result.pixel_size_um
    write_rows(
        path,
        ROI_COLUMNS,
        (
            (
                rois.ids[i],
                int(rois.labels[i]),
                _number(rois.centroids[i, 0]),
                _number(rois.centroids[i, 1]),
                int(rois.area_px[i]),
                "" if size is None else _number(diameter_px[i] * size),
                _number(rois.score[i]),
                _number(rois.snr[i]),
                int(counts[i]),
                int(rois.accepted[i]),
                rois.reasons[i],
            )
            for i in range(len(rois))
        ),
    )


def write_part_table(path: Path, result: Result, part: Part) -> None:
    """Write ``rois.csv`` of one recording of an experiment: what it shows of each candidate.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        The result of this recording (`Result.part`).
    part : Part
        Its place in the experiment.
    """
    rois = result.rois
    in_view, counts, found = part.in_view(rois), result.events.count(len(rois)), set(part.found)
    write_rows(
        path,
        PART_COLUMNS,
        (
            (name, int(label), int(seen), int(name in found), int(count))
            for name, label, seen, count in zip(rois.ids, rois.labels, in_view, counts, strict=True)
        ),
    )


def write_shift_table(path: Path, result: Result) -> None:
    """Write ``shifts.csv``: where the tissue lies in each frame.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        Gives times, shifts, confidence and flags.
    """
    motion = result.motion
    write_rows(
        path,
        SHIFT_COLUMNS,
        (
            (_time(time), _number(dy), _number(dx), _number(confidence), int(flags))
            for time, (dy, dx), confidence, flags in zip(
                result.times_s.tolist(),
                motion.shifts.tolist(),
                motion.confidence.tolist(),
                motion.flags.tolist(),
                strict=True,
            )
        ),
    )


def write_event_table(path: Path, result: Result) -> None:
    """Write ``events.csv``: the events of the accepted ROIs, times in seconds.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        What a run found.
    """
    events, times = result.events, result.times_s

    def rows() -> Iterator[tuple[Any, ...]]:
        for roi, onset, peak, offset, amplitude in zip(
            events.roi, events.onset, events.peak, events.offset, events.amplitude, strict=True
        ):
            if result.rois.accepted[roi]:
                yield (
                    result.rois.ids[roi],
                    _time(times[onset]),
                    _time(times[peak]),
                    _time(times[offset]),
                    _number(amplitude),
                )

    write_rows(path, EVENT_COLUMNS, rows())


def write_trace_table(path: Path, result: Result, values: AnyArray, *, digits: int) -> None:
    """Write one row for each frame: the time, then a column for each accepted ROI.

    Frames that could not be placed are interpolated in time between their neighbours of the same
    recording, so that every value is finite.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        Gives the ids, times and flags.
    values : array, shape (n_rois, n_frames)
        One row for each candidate; may lie on disk, it is read in blocks.
    digits : int
        Significant digits.
    """
    bad = (result.motion.flags & (FLAG_UNPLACED | FLAG_INVALID)) != 0
    ends = [part.stop for part in result.parts] or [result.n_frames]
    fill = _GapFiller(values, bad, result.times_s, result.rois.accepted, ends)
    line = "," + ",".join([f"%.{digits}g"] * int(result.rois.accepted.sum()))

    def text(start: int, stop: int) -> Iterator[str]:
        for row in fill.block(start, stop).T.tolist():
            yield line % tuple(row)
        release_pages(values)

    _write_frames(path, result, text)


def write_derived_table(path: Path, result: Result, values: AnyArray, *, digits: int) -> None:
    """Write derived traces in the layout of ``traces.csv``.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        Gives the ids and times.
    values : array, shape (n_accepted, n_frames)
        One row for each accepted ROI, finite; may lie on disk, it is read in blocks.
    digits : int
        Significant digits.
    """
    line = "," + ",".join([f"%.{digits}g"] * len(values))

    def text(start: int, stop: int) -> Iterator[str]:
        for row in np.asarray(values[:, start:stop], np.float64).T.tolist():
            yield line % tuple(row)
        release_pages(values)

    _write_frames(path, result, text)


def write_raster_table(path: Path, result: Result) -> None:
    """Write ``raster.csv``: one row for each frame, 1 where an accepted ROI is active.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        What a run found.
    """
    accepted = np.flatnonzero(result.rois.accepted)

    def text(start: int, stop: int) -> Iterator[str]:
        block = np.asarray(result.raster[:, start:stop], dtype=np.bool_)[accepted].T
        letters = np.full((block.shape[0], 2 * block.shape[1]), ord(","), np.uint8)
        letters[:, 1::2] = ord("0") + block
        for row in letters:
            yield row.tobytes().decode("ascii")
        release_pages(result.raster)

    _write_frames(path, result, text)


class _GapFiller:
    """Traces of the accepted ROIs with unusable frames interpolated, block by block."""

    def __init__(
        self,
        values: AnyArray,
        bad: BoolArray,
        times_s: TimeArray,
        accepted: BoolArray,
        ends: Sequence[int],
    ) -> None:
        self._values = values
        self._bad = bad
        self._times = times_s
        self._good = np.flatnonzero(~bad)
        self._accepted = np.flatnonzero(accepted)
        # Usable frames of each recording; none of another stands for its own.
        self._ends = np.asarray(ends)
        self._good_of = np.split(self._good, np.searchsorted(self._good, self._ends[:-1]))

    def block(self, start: int, stop: int) -> AnyArray:
        block = np.array(self._values[:, start:stop], dtype=np.float64)[self._accepted]
        if self._good.size:
            for frame in np.flatnonzero(self._bad[start:stop]):
                good = self._good_of[int(np.searchsorted(self._ends, start + frame, "right"))]
                if good.size:
                    block[:, frame] = self._between(start + int(frame), good)
        # Anything else that is not finite belongs to a single ROI and is rare.
        for row in np.flatnonzero(~np.isfinite(block).all(axis=1)):
            trace = np.asarray(self._values[int(self._accepted[row]), :], dtype=np.float64)
            usable = np.flatnonzero(np.isfinite(trace) & (~self._bad | (self._good.size == 0)))
            if usable.size:
                block[row] = np.where(
                    np.isfinite(block[row]),
                    block[row],
                    np.interp(self._times[start:stop], self._times[usable], trace[usable]),
                )
            else:
                block[row] = 0.0
        return block

    def _between(self, frame: int, good: AnyArray) -> AnyArray:
        """Interpolate between the nearest usable frames; beyond the ends, repeat the last."""
        right = int(np.searchsorted(good, frame))
        before = int(good[max(right - 1, 0)])
        after = int(good[min(right, good.size - 1)])
        first = np.asarray(self._values[:, before], dtype=np.float64)[self._accepted]
        if before == after:
            return first
        last = np.asarray(self._values[:, after], dtype=np.float64)[self._accepted]
        if before > frame or after < frame:
            return first if after < frame else last
        span = self._times[after] - self._times[before]
        share = (self._times[frame] - self._times[before]) / span
        return np.asarray(first + share * (last - first))


def _write_frames(path: Path, result: Result, text: Callable[[int, int], Iterable[str]]) -> None:
    ids = [result.rois.ids[i] for i in np.flatnonzero(result.rois.accepted)]
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(["time_s", *ids])
        for start in range(0, result.n_frames, BLOCK_FRAMES):
            stop = min(start + BLOCK_FRAMES, result.n_frames)
            rows = text(start, stop) if ids else [""] * (stop - start)
            file.writelines(
                f"{_time(time)}{row}\n"
                for time, row in zip(result.times_s[start:stop].tolist(), rows, strict=True)
            )


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table: a header, then its rows.

    Parameters
    ----------
    path : Path
        The file to make.
    header : sequence of str
        Names of the columns.
    rows : iterable of sequences
        Cells of each row.
    """
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _time(value: float) -> str:
    # Ten digits hold a microsecond in a recording of several hours.
    return f"{value:.10g}"

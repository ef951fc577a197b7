"""Times of the frames, from a text file."""

import csv
import math
from pathlib import Path

import numpy as np

from cocuyo.core import AnyArray, RecordingError, TimeArray

_MILLISECOND_WORDS = ("(ms)", "msec", "millisecond", "sysclock", "_ms", "[ms]")


def read_timestamps(path: str | Path, n_frames: int | None = None) -> TimeArray:
    """Read the time of each frame from a text or CSV file.

    One number a line is a time in seconds. With several columns the header says which one is
    the time, in seconds or milliseconds, as the UCLA miniscopes write it (``Frame Number,Time
    Stamp (ms),Buffer Index`` or ``camNum frameNum sysClock buffer``); without a header, two
    columns whose first one counts frames are a number and a time in seconds.

    Parameters
    ----------
    path : str or Path
        The file.
    n_frames : int, optional
        Number of frames, which chooses the camera where the file has the times of several.

    Returns
    -------
    ndarray of float64, shape (n_times,)
        Times in seconds, as the file has them.

    Raises
    ------
    RecordingError
        If the file cannot be read, or it is not clear which numbers are the times.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not text"
        msg = f"The times of the frames cannot be read from {path}: {what}."
        raise RecordingError(msg) from error
    rows = [_cells(line) for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    header = rows.pop(0) if rows and any(math.isnan(_float(cell)) for cell in rows[0]) else []
    if rows and any(cell.lower() == "nan" for cell in header):
        rows.insert(0, header)
        header = []
    if not rows:
        msg = f"{path} holds no times."
        raise RecordingError(msg)
    n_columns = len(rows[0])
    for number, row in enumerate(rows, start=1 + bool(header)):
        if len(row) != n_columns or any(math.isnan(_float(cell)) for cell in row):
            msg = f"Line {number} of {path} is not {n_columns} number(s): {','.join(row)[:60]!r}."
            raise RecordingError(msg)
    table = np.array([[_float(cell) for cell in row] for row in rows], np.float64)
    names = [cell.lower() for cell in header]
    column = _time_column(table, names, path)
    if "camnum" in names and n_frames is not None:
        cameras = table[:, names.index("camnum")]
        fitting = [camera for camera in np.unique(cameras) if np.sum(cameras == camera) == n_frames]
        if len(fitting) == 1:
            table = table[cameras == fitting[0]]
    times = table[:, column]
    if column < len(names) and any(word in names[column] for word in _MILLISECOND_WORDS):
        times = times / 1000.0
    return times


def _cells(line: str) -> list[str]:
    for mark in (",", ";", "\t"):
        if mark in line:
            return [cell.strip().strip('"') for cell in next(csv.reader([line], delimiter=mark))]
    return [line.strip()] if line.strip()[0].isalpha() else line.split()


def _float(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _time_column(table: AnyArray, names: list[str], path: Path) -> int:
    n_columns = table.shape[1]
    if n_columns == 1:
        return 0
    found = [at for at, name in enumerate(names[:n_columns]) if "time" in name or "clock" in name]
    if len(found) == 1:
        return found[0]
    if not names and n_columns == 2 and np.all(np.diff(table[:, 0]) == 1) and table[0, 0] in (0, 1):
        return 1
    what = f" ({', '.join(names)})" if names else " without a header"
    msg = (
        f"{path} has {n_columns} columns{what}; it is not clear which one is the time. "
        "Give a file with one time in seconds a line."
    )
    raise RecordingError(msg)

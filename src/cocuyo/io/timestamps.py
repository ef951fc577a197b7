"""Times of the frames, from a text file."""

import csv
import math
from pathlib import Path

import numpy as np

from cocuyo.core import AnyArray, RecordingError, TimeArray

_MILLISECOND_WORDS = ("(ms)", "msec", "millisecond", "sysclock", "_ms", "[ms]")


def read_timestamps(
    path: str | Path, n_frames: int | None = None, *, camera: int | None = None
) -> TimeArray:
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
    camera : int, optional
        Its number in the file, which chooses where several have as many frames.

    Returns
    -------
    ndarray of float64, shape (n_times,)
        Times in seconds, as the file has them.

    Raises
    ------
    RecordingError
        If the file cannot be read, or it is not clear which numbers are the times or which
        camera's they are.
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
        fitting = [int(c) for c in np.unique(cameras) if np.sum(cameras == c) == n_frames]
        if fitting:
            chosen = camera if camera in fitting else fitting[0]
            if len(fitting) > 1 and camera not in fitting:
                _check_alike([table[cameras == c, column] for c in fitting], fitting, path)
            table = table[cameras == chosen]
    times = table[:, column]
    if column < len(names) and any(word in names[column] for word in _MILLISECOND_WORDS):
        times = times / 1000.0
    return times


def _check_alike(times: list[TimeArray], cameras: list[int], path: Path) -> None:
    """Refuse cameras of as many frames whose times differ; alike, those of any will do."""
    # The clock of the first frame is often that of the program's start.
    apart = max(np.abs(other[1:] - times[0][1:]).max(initial=0) for other in times[1:])
    if apart <= 0.5 * np.median(np.diff(times[0])):
        return
    msg = (
        f"{path} has the times of the cameras {', '.join(map(str, cameras))} with "
        f"{len(times[0])} frames each, and nothing says which of them took this movie. Put the "
        "times of the right one into a file of their own, and give it with --timestamps."
    )
    raise RecordingError(msg)


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

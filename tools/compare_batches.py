"""Say whether two batches found the same, file for file; times, paths and memory apart.

`python tools/compare_batches.py ONE OTHER` prints each difference and ends with status 1 if there
is any.
"""

import csv
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

NOT_COMPARED = {"batch.json", "batch.log", ".lock"}  # times, and the order in which things ended
OF_TIME_AND_PLACE = {"seconds", "peak_memory_mb", "path", "created", "timings_s"}
# A recording that was stopped after its first pass says so; its numbers are the same.
TAKEN_OVER = "The maps were taken over from a run that was stopped before its end."
PATTERNS = (
    # A name of any length would be looked for from every letter of the pictures in a report.
    f"(<li>)?([^<>]{{1,200}}: )?{re.escape(TAKEN_OVER)}(</li>)?",
    r"\d{4}-\d\d-\d\d \d\d:\d\d",
    r"<tr><th>(peak memory|time|input)</th>.*?</tr>",
    r"<title>.*?</title>|<h1>.*?</h1>",
)


def content_of(path: Path) -> Any:
    """Read a file as something to compare."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            return [{k: v for k, v in row.items() if k not in OF_TIME_AND_PLACE} for row in rows]
    if path.name == "run.json":
        return without(json.loads(path.read_text("utf-8")))
    if path.suffix == ".html":
        text = path.read_text("utf-8")
        for pattern in PATTERNS[TAKEN_OVER not in text :]:
            text = re.sub(pattern, "", text)
        return text
    if path.suffix == ".h5":
        return hdf5_content(path)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    return path.read_bytes()


def without(value: Any) -> Any:
    """Leave out what tells of time and place."""
    if isinstance(value, dict):
        return {k: without(v) for k, v in value.items() if k not in OF_TIME_AND_PLACE}
    if isinstance(value, list):  # a recording of an experiment is named before the sentence
        return [without(v) for v in value if not (isinstance(v, str) and v.endswith(TAKEN_OVER))]
    return value


def hdf5_content(path: Path) -> dict[str, Any]:
    """Read all data sets and attributes, as bytes."""
    found: dict[str, Any] = {}

    def take(name: str, item: Any) -> None:
        attributes = {k: np.asarray(v).tobytes() for k, v in item.attrs.items()}
        data = None
        if isinstance(item, h5py.Dataset):
            value = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
            data = (item.shape, str(item.dtype), np.asarray(value).tolist().__repr__())
        found[name] = (attributes, data)

    with h5py.File(path) as file:
        file.visititems(take)
        found["/"] = {k: np.asarray(v).tolist() for k, v in file.attrs.items()}
    return found


def files_of(folder: Path) -> set[str]:
    """List what is compared of a batch; what it keeps for itself is not."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in NOT_COMPARED
        and path.relative_to(folder).parts[0] != "state"
    }


def differences(one: Path, other: Path) -> list[str]:
    """Name each file that is there once only, or differs."""
    first, second = files_of(one), files_of(other)
    found = [f"only in {one}: {name}" for name in sorted(first - second)]
    found += [f"only in {other}: {name}" for name in sorted(second - first)]
    for name in sorted(first & second):
        if content_of(one / name) != content_of(other / name):
            found.append(f"differs: {name}")
    return found


if __name__ == "__main__":
    _, left, right = sys.argv
    lines = differences(Path(left), Path(right))
    print("\n".join(lines) or f"Equal: {len(files_of(Path(left)))} files.")
    sys.exit(1 if lines else 0)

"""Which recordings a batch analyses: those of a folder, or the rows of a list."""

import csv
import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from cocuyo.batch.settings import Entry, Reading
from cocuyo.core import RecordingError, SettingsError
from cocuyo.io import READING_CHOICES
from cocuyo.io.export import export_names
from cocuyo.io.miniscope import watches_animal
from cocuyo.io.readers import FORMATS_READ, find_reader, recording_suffixes
from cocuyo.io.sources import PICTURE_SUFFIXES, natural_key

_FRAMES = re.compile(r"\s*(-?\d*)\s*:\s*(-?\d*)\s*")
_ALIASES = {
    "path": "recording",
    "file": "recording",
    "frame_rate": "frame_rate_hz",
    "pixel_size": "pixel_size_um",
    "diameter": "diameter_um",
}
_OWN = ("recording", "name", "group", "experiment", "animal", "exclude")
_KNOWN = (*_OWN, *Reading.model_fields)
# A single picture is no movie, and MATLAB files hold anything: they are taken where --files asks.
_NO_MOVIES = PICTURE_SUFFIXES | {".mat"}
_STORES = frozenset((".zarr",))  # folders that are read as one file
# What a result keeps once to open its recordings again, and what the first one decides for all.
_IN_ONE_WAY = (*(name for name in READING_CHOICES if name != "frames"), "diameter_um")
# Columns of summary.csv: a label of the same name would make two.
_NUMBERS = ("frame_rate_hz", "pixel_size_um", "diameter_um")


@dataclass(frozen=True)
class Search:
    """How recordings are looked for in a folder.

    Attributes
    ----------
    files : tuple of str
        Patterns (``*.tif``) of file names; all movies where there are none.
    each : {"file", "folder"}
        Whether each file is a recording, or each folder that holds some (frames or parts).
    group, experiment, animal : str
        Where these come from: ``folder``, ``parent``, or a regular expression with one
        parenthesis, searched in the path below the folder; empty for none.
    """

    files: tuple[str, ...] = ()
    each: Literal["file", "folder"] = "file"
    group: str = ""
    experiment: str = ""
    animal: str = ""


def find_recordings(
    source: Path, *, search: Search = Search(), reading: Reading = Reading(), out: Path
) -> list[Entry]:
    """List the recordings of a folder or of a CSV list.

    Parameters
    ----------
    source : Path
        A folder, or a CSV file with a column ``recording``.
    search : Search
        How to look in a folder; a list says it all itself.
    reading : Reading
        How recordings are read, where the list does not say it.
    out : Path
        The folder of the batch: nothing is looked for in it.

    Returns
    -------
    list of Entry
        In natural order, or in that of the list; names are different. Those of one experiment
        have one `Entry.result`.

    Raises
    ------
    RecordingError
        If there is no such folder or list, or no recording in it.
    SettingsError
        If the list or a pattern cannot be understood, or the recordings of an experiment do not
        go together.
    """
    if source.is_dir():
        entries = _of_folder(Path(os.path.abspath(source)), search, reading, out)  # noqa: PTH100
        if not entries:
            what = " or ".join(search.files) if search.files else FORMATS_READ
            msg = f"No recording ({what}) lies in {source}; check the folder and --files."
            raise RecordingError(msg)
    elif source.is_file():
        if search != Search():
            msg = (
                "--files, --each, --group, --experiment and --animal look in a folder; a list says "
                "it in its columns."
            )
            raise SettingsError(msg)
        entries = _of_list(source, reading)
    else:
        msg = f"{source} is neither a folder with recordings nor a CSV list of them."
        raise RecordingError(msg)
    return entries


# --- A folder ----------------------------------------------------------------------------------


def _of_folder(root: Path, search: Search, reading: Reading, out: Path) -> list[Entry]:
    group = _rule("--group", search.group)
    experiment = _rule("--experiment", search.experiment)
    animal = _rule("--animal", search.animal)
    found: list[tuple[Path, tuple[str, ...]]] = []
    known = recording_suffixes() - _NO_MOVIES
    known |= _STORES if search.each == "file" else PICTURE_SUFFIXES
    for folder, files in _walk(root, out):
        chosen = [file for file in files if _wanted(file, search.files, known)]
        if search.each == "file":
            found += [(file, (str(file),)) for file in chosen]
            continue
        if chosen and not watches_animal(folder):
            whole = not search.files or _is_whole(folder, chosen, known)
            found.append((folder, (str(folder),) if whole else tuple(map(str, chosen))))
    names = _names([_below(path, root) for path, _ in found])
    entries = [
        Entry(
            name=name,
            paths=paths,
            reading=reading,
            group=_apply(group, path, root),
            experiment=_apply(experiment, path, root, whole=True),
            animal=_apply(animal, path, root),
        )
        for name, (path, paths) in zip(names, found, strict=True)
    ]
    for option in ("group", "experiment", "animal"):
        rule = getattr(search, option)
        if rule and entries and not any(getattr(entry, option) for entry in entries):
            msg = (
                f"--{option} {rule!r} says nothing of any recording, such as "
                f"{_below(found[0][0], root)}; correct it, or leave it out."
            )
            raise SettingsError(msg)
    return _into_results(entries, [str(path) for path, _ in found])


def _walk(root: Path, out: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Give each folder with its files, in natural order; results are not recordings.

    Links to folders are followed, but no folder is gone through twice.
    """
    seen: set[str] = set()
    for place, folders, files in os.walk(root, followlinks=True):
        here, real = Path(place), os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        exports = {
            name
            for folder in folders
            if _made_here(here / folder)
            for name in export_names(here / folder)
        }
        stores = [name for name in folders if Path(name).suffix.lower() in _STORES]
        folders[:] = sorted(
            (
                name
                for name in folders
                if not name.startswith(".")
                and name not in stores
                and name not in exports
                and here / name != out
                and not _made_here(here / name)
            ),
            key=natural_key,
        )
        shown = sorted(
            (n for n in [*files, *stores] if not n.startswith(".") and n not in exports),
            key=natural_key,
        )
        yield here, [here / name for name in shown]


def _made_here(folder: Path) -> bool:
    """Whether cocuyo made a folder: its pictures are no recordings."""
    if folder.name.endswith(".partial"):
        return True
    for name in ("run.json", "ensembles.json", "batch.json", "live.json"):
        try:
            record = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and str(record.get("format", "")).startswith("cocuyo"):
            return True
    return False


def _wanted(file: Path, patterns: Sequence[str], known: frozenset[str]) -> bool:
    if patterns:
        return any(file.match(pattern) for pattern in patterns)
    return file.suffix.lower() in known


def _is_whole(folder: Path, chosen: Sequence[Path], known: frozenset[str]) -> bool:
    """Whether some movies are all that a folder is read from: it may hold their times as well."""
    try:
        files = find_reader(folder)[0].files(folder)
    except RecordingError:
        return False
    return {file for file in files if file.suffix.lower() in known} == set(chosen)


def _rule(option: str, rule: str) -> str | re.Pattern[str]:
    if rule in ("", "folder", "parent"):
        return rule
    try:
        pattern = re.compile(rule)
    except re.error as error:
        msg = f"{option} {rule!r} is no regular expression: {error}."
        raise SettingsError(msg) from None
    if pattern.groups != 1:
        msg = (
            f"{option} {rule!r} has {pattern.groups} parentheses; give 'folder', 'parent' or a "
            "regular expression with one, such as '(control|drug)'."
        )
        raise SettingsError(msg)
    return pattern


def _apply(rule: str | re.Pattern[str], path: Path, root: Path, *, whole: bool = False) -> str:
    """Give what a rule says of a path; `whole` tells folders of one name in two places apart."""
    if rule == "":
        return ""
    relative = path.relative_to(root)
    if isinstance(rule, str):
        parents = relative.parts[:-1]
        place = 1 if rule == "folder" else 2
        if len(parents) < place:
            return ""
        return "/".join(parents[: len(parents) - place + 1]) if whole else parents[-place]
    found = rule.search(relative.as_posix())
    return found.group(1) or "" if found else ""


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else root.name


# --- A list ------------------------------------------------------------------------------------


def _of_list(path: Path, reading: Reading) -> list[Entry]:
    header, rows = _read_table(path)
    columns = _columns(path, header)
    entries, given, places = [], [], []
    for number, row in rows:
        cells = {c: v.strip() for c, v in zip(columns, row, strict=False) if v.strip()}
        where = f"Row {number} of {path}"
        if len(row) > len(columns):
            msg = f"{where} has {len(row)} cells for {len(columns)} columns."
            raise SettingsError(msg)
        if "recording" not in cells:
            msg = f"{where} names no recording."
            raise SettingsError(msg)
        paths = _paths(path.parent, cells["recording"])
        given.append(cells.get("name", ""))
        places.append(where)
        entries.append(
            Entry(
                name="",
                paths=paths,
                reading=_reading(where, path.parent, cells, reading),
                exclude=_absolute(path.parent, cells["exclude"]) if "exclude" in cells else None,
                group=cells.get("group", ""),
                experiment=cells.get("experiment", ""),
                animal=cells.get("animal", ""),
                labels={c: cells.get(c, "") for c in columns if c not in _KNOWN},
            )
        )
    if not entries:
        msg = f"{path} lists no recording."
        raise RecordingError(msg)
    names = _list_names(path, given, [entry.paths[0] for entry in entries])
    entries = [replace(entry, name=name) for entry, name in zip(entries, names, strict=True)]
    alone = {
        entry.name
        for entry, said in zip(entries, given, strict=True)
        if said and not entry.experiment
    }
    for entry in entries:
        if entry.experiment and _safe(entry.experiment) in alone:
            msg = f"{path} gives the name {entry.experiment!r} to a recording and an experiment."
            raise SettingsError(msg)
    return _into_results(entries, places)


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = (
            f"{path} cannot be read as a list ({error}); give a CSV file in UTF-8 (in Excel: CSV "
            "UTF-8), or a folder. A single recording is for cocuyo run."
        )
        raise SettingsError(msg) from None
    lines = text.splitlines()
    first = lines[0] if lines else ""
    mark = max(",;\t", key=first.count)
    table = csv.reader(lines, delimiter=mark)
    header = next(table, [])
    return header, [(table.line_num, row) for row in table if any(cell.strip() for cell in row)]


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    plain = [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in header]
    columns = [_ALIASES.get(name, name) for name in plain]
    if "recording" not in columns:
        msg = (
            f"{path} has no column 'recording' (it has: {', '.join(header) or 'nothing'}); give a "
            "CSV file with the path of a recording in each row."
        )
        raise SettingsError(msg)
    twice = [name for name, n in Counter(columns).items() if n > 1 or not name]
    if twice:
        msg = f"{path} has the column {twice[0]!r} without a name or twice."
        raise SettingsError(msg)
    for name in columns:
        close = difflib.get_close_matches(name, _KNOWN, 1, 0.8)
        if name not in _KNOWN and close:
            msg = f"{path} has a column {name!r}; was {close[0]!r} meant? Rename it."
            raise SettingsError(msg)
    return columns


def _reading(where: str, folder: Path, cells: dict[str, str], reading: Reading) -> Reading:
    values: dict[str, Any] = reading.model_dump()
    for name in Reading.model_fields:
        if name not in cells:
            continue
        text = cells[name]
        if name == "frames":
            found = _FRAMES.fullmatch(text)
            if found is None:
                msg = f"{where}: frames are {text!r}; give A:B, such as 0:500."
                raise SettingsError(msg)
            values[name] = tuple(int(end) if end else None for end in found.groups())
        elif name == "timestamps":
            values[name] = _absolute(folder, text)
        else:
            values[name] = text.replace(",", ".") if name in _NUMBERS else text
    try:
        return Reading.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        msg = f"{where}: {name} is {first['input']!r}; {first['msg']}."
        raise SettingsError(msg) from None


def _paths(folder: Path, text: str) -> tuple[str, ...]:
    """Make the path of a row absolute; a pattern stands for the parts of one recording."""
    path = Path(_absolute(folder, text))
    if not path.exists() and any(mark in text for mark in "*?"):
        place, pattern = path.parent, path.name
        found = sorted(place.glob(pattern), key=lambda part: natural_key(part.name))
        if found:
            return tuple(map(str, found))
    return (str(path),)


def _absolute(folder: Path, text: str) -> str:
    return os.path.abspath(folder / Path(text).expanduser())  # noqa: PTH100 - keeps links


# --- Experiments -------------------------------------------------------------------------------


def _into_results(entries: Sequence[Entry], places: Sequence[str]) -> list[Entry]:
    """Name the result of each recording; `places` say in an error where each comes from."""
    firsts: dict[str, int] = {}
    for i, entry in enumerate(entries):
        if entry.experiment:
            first = firsts.setdefault(entry.experiment, i)
            _require_together(entries[first:i], entry, places[first], places[i])
    alone = [entry.name for entry in entries if not entry.experiment]
    names = _different([*alone, *map(_safe, firsts)])[len(alone) :]
    result = dict(zip(firsts, names, strict=True))
    animals = {entry.experiment: entry.animal for entry in entries if entry.animal}
    return [
        replace(
            entry,
            result=result.get(entry.experiment, entry.name),
            animal=entry.animal or (animals.get(entry.experiment, "") if entry.experiment else ""),
        )
        for entry in entries
    ]


def _require_together(before: Sequence[Entry], entry: Entry, first_place: str, place: str) -> None:
    """Refuse a recording that is told otherwise than those before it in its experiment."""
    own = f"the experiment {entry.experiment!r}"
    others = [other for other in before if other.experiment == entry.experiment]
    for other in others:
        if set(other.paths) & set(entry.paths):
            msg = f"{place}: {entry.paths[0]} is in {own} already; give each recording once."
            raise SettingsError(msg)
        if entry.animal and other.animal and entry.animal != other.animal:
            msg = (
                f"{place}: the animal is {entry.animal!r}, and {other.animal!r} before it in "
                f"{own}; one field of view is of one animal."
            )
            raise SettingsError(msg)
    if not others:
        return
    first = others[0]
    for name in _IN_ONE_WAY:
        value, known = getattr(entry.reading, name), getattr(first.reading, name)
        if value != known:
            msg = (
                f"{place}: {name} is {_said(value)}, and {_said(known)} in {first_place}; the "
                f"recordings of {own} are read in one way."
            )
            raise SettingsError(msg)
    if entry.exclude not in (None, first.exclude):
        msg = (
            f"{place}: exclude is not that of {first_place}, the first recording of {own}. That "
            "mask counts for all of them; leave the cell empty."
        )
        raise SettingsError(msg)


def _said(value: object) -> str:
    if value is None:
        return "not given"
    return repr(value)


# --- Names -------------------------------------------------------------------------------------


def _names(relative: Sequence[str]) -> list[str]:
    """Name recordings by their path; the suffix stays where two differ by nothing else."""
    plain = [_safe(_stem(path)) for path in relative]
    count = Counter(name.casefold() for name in plain)
    names = [
        name if count[name.casefold()] == 1 else _safe(path)
        for name, path in zip(plain, relative, strict=True)
    ]
    return _different(names)


def _list_names(path: Path, given: Sequence[str], files: Sequence[str]) -> list[str]:
    """Name the rows of a list: as it says, else by file, with folders where those are equal."""
    twice = [name for name, n in Counter(filter(None, given)).items() if n > 1]
    if twice:
        msg = f"{path} gives the name {twice[0]!r} to more than one recording."
        raise SettingsError(msg)
    names = [_safe(name) if name else _safe(Path(file).stem) for name, file in _pair(given, files)]
    count = Counter(name.casefold() for name in names)
    deeper = []
    for name, (said, file) in zip(names, _pair(given, files), strict=True):
        clash = count[name.casefold()] > 1 and not said
        deeper.append(_safe(f"{Path(file).parent.name}/{Path(file).name}") if clash else name)
    return _different(deeper)


def _pair(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(first, second, strict=True))


def _different(names: Sequence[str]) -> list[str]:
    taken = {name.casefold() for name in names}
    seen: set[str] = set()
    chosen = []
    for name in names:
        free, n = name, 1
        while free.casefold() in seen or (n > 1 and free.casefold() in taken):
            n += 1
            free = f"{name}-{n}"
        seen.add(free.casefold())
        chosen.append(free)
    return chosen


def _stem(path: str) -> str:
    parent, slash, name = path.rpartition("/")
    return f"{parent}{slash}{Path(name).stem}"


def _safe(text: str) -> str:
    """Make a name that any file system takes, of a path below a folder."""
    name = re.sub(r"[^\w.+ -]+", "-", text.replace("/", "__")).strip(". -")
    # Windows reserves the names of devices.
    if not name or re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", name.split(".")[0]):
        name = f"recording-{name}".rstrip("-")
    # `.partial` marks unfinished folders.
    return re.sub(r"\.partial$", "-partial", name)[:120]

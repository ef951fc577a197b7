"""``edits.jsonl``: what a person changed in a result, one edit a line, only ever appended."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO

import numpy as np

from cocuyo.core import Events, ResultError, SettingsError, Traces
from cocuyo.core.curation import Activity, Edit, dump_edit, parse_edit
from cocuyo.io.atomic import save_npz_atomic

logger = logging.getLogger(__name__)

EDITS_FILE = "edits.jsonl"
TRACES_FOLDER = "edits.traces"
_LOCK_FILE = ".edits.lock"


class EditLog:
    """The edits of a result folder.

    Several windows and several programs may append to one log; each sees what the others did
    before its own edit is made. An edit that `append` has returned is on the disk.

    Parameters
    ----------
    folder : str or Path
        A result folder. Its ``edits.jsonl`` is made with the first edit.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._path = self._folder / EDITS_FILE
        self._edits: list[Edit] = []
        self._known_bytes = 0
        self._unended = False

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def read(self) -> tuple[Edit, ...]:
        """Read the edits, those that others appended meanwhile too.

        A last line that a crash cut short was never confirmed to anybody and is left out.

        Returns
        -------
        tuple of Edit
            All edits in the order in which they were made; none where there is no file.

        Raises
        ------
        ResultError
            If the file cannot be read, holds what is no edit, was written by a later version, or
            was replaced meanwhile.
        """
        try:
            with self._path.open("rb") as file:
                self._take_in(file)
        except FileNotFoundError:
            self._expect_none()
        except OSError as error:
            msg = f"{self._path} cannot be read: {error.strerror}."
            raise ResultError(msg) from error
        return tuple(self._edits)

    def append(self, make: Edit | Callable[[tuple[Edit, ...]], Edit]) -> Edit:
        """Append one edit and wait until it is on the disk.

        Parameters
        ----------
        make : Edit or callable
            The edit, or what makes it of all edits before it (and checks it: nobody else can
            append meanwhile). What it raises leaves the log as it was.

        Returns
        -------
        Edit
            The edit that was appended.

        Raises
        ------
        ResultError
            If the log cannot be read or written.
        """
        if not self._folder.is_dir():
            msg = f"{self._folder} is not a folder; edits belong to a result folder."
            raise ResultError(msg)
        try:
            with _locked(self._folder / _LOCK_FILE):
                before = self.read()
                edit = make(before) if callable(make) else make
                self._write(edit)
        except OSError as error:
            msg = f"{self._path} cannot be written: {error.strerror}. The edit was not kept."
            raise ResultError(msg) from error
        return edit

    def _write(self, edit: Edit) -> None:
        line = json.dumps(dump_edit(edit), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        made = not self._path.exists()
        with self._path.open("r+b" if not made else "x+b") as file:
            # What lies behind the last good line was cut short by a crash.
            file.truncate(self._known_bytes)
            file.seek(self._known_bytes)
            data = b"\n" + line if self._unended else line
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(self._known_bytes)
                raise
        if made:
            _sync_folder(self._folder)
        self._known_bytes += len(data)
        self._unended = False
        self._edits.append(edit)

    def _take_in(self, file: IO[bytes]) -> None:
        """Read on from where the last reading ended."""
        size = os.fstat(file.fileno()).st_size
        if size < self._known_bytes:
            self._expect_none()
        file.seek(self._known_bytes)
        for line in file.read().splitlines(keepends=True) if size > self._known_bytes else ():
            ended = line.endswith(b"\n")
            if line.strip():
                edit = self._parse(line, ended=ended)
                if edit is None:
                    return
                self._edits.append(edit)
            self._known_bytes += len(line)
            self._unended = not ended

    def _parse(self, line: bytes, *, ended: bool) -> Edit | None:
        """Make an edit of a line; None if it was cut short."""
        number = len(self._edits) + 1
        try:
            content = json.loads(line.decode("utf-8"))
        except ValueError as error:
            if not ended:
                return None
            msg = (
                f"Edit {number} of {self._path} is damaged ({error}). Take that line out, or put "
                "the file aside to begin with the result as it was found."
            )
            raise ResultError(msg) from None
        if not isinstance(content, dict):
            msg = f"Edit {number} of {self._path} is no edit; take that line out."
            raise ResultError(msg)
        try:
            return parse_edit(content)
        except SettingsError as error:
            msg = f"Edit {number} of {self._path} cannot be used. {error}"
            raise ResultError(msg) from None

    def _expect_none(self) -> None:
        if self._known_bytes:
            msg = (
                f"{self._path} was replaced or cut while it was in use; end cocuyo view (Ctrl-C) "
                "and start it again to go on with what is there now."
            )
            raise ResultError(msg)


def read_edits(folder: str | Path) -> tuple[Edit, ...]:
    """Read the edits of a result folder.

    Parameters
    ----------
    folder : str or Path
        A result folder.

    Returns
    -------
    tuple of Edit
        All edits in the order in which they were made; none where nobody curated the result.

    Raises
    ------
    ResultError
        If the file cannot be read, holds what is no edit, or was written by a later version.
    """
    return EditLog(folder).read()


class TraceStore:
    """Traces that were read for new shapes, one file each, in ``edits.traces`` of a result.

    Nothing depends on it: what is missing or damaged is read from the recording again.

    Parameters
    ----------
    folder : str or Path
        A result folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder) / TRACES_FOLDER

    def get(self, key: str) -> Activity | None:
        """Give what was kept under a key.

        Parameters
        ----------
        key : str
            From `cocuyo.pipeline.shape_key`.

        Returns
        -------
        Activity or None
            Traces and events of one ROI; None where there is nothing that can be used.
        """
        path = self._folder / f"{key}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                traces = Traces(**{name.name: file[name.name] for name in fields(Traces)})
                events = Events(
                    **{name.name: file[f"event_{name.name}"] for name in fields(Events)}
                )
                return Activity((key,), traces, file["raster"], events)
        except FileNotFoundError:
            return None
        except Exception as error:  # readers raise whatever they like on bad bytes
            logger.warning("%s cannot be used (%s); the recording is read again.", path, error)
            return None

    def put(self, key: str, activity: Activity) -> None:
        """Keep the activity of one ROI; a folder that cannot be written keeps nothing.

        Parameters
        ----------
        key : str
            From `cocuyo.pipeline.shape_key`.
        activity : Activity
            Traces and events of one ROI.
        """
        arrays = {name.name: getattr(activity.traces, name.name) for name in fields(Traces)}
        arrays |= {f"event_{e.name}": getattr(activity.events, e.name) for e in fields(Events)}
        try:
            save_npz_atomic(self._folder / f"{key}.npz", arrays | {"raster": activity.raster})
        except OSError as error:
            logger.warning("Traces of a new shape are not kept (%s).", error)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file that only one program can hold; the system lets go when a program dies."""
    with path.open("a+b") as file:
        _lock(file)
        try:
            yield
        finally:
            _unlock(file)


if sys.platform == "win32":

    def _lock(file: IO[bytes]) -> None:
        import msvcrt

        while True:
            file.seek(0)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError:  # another program holds it
                time.sleep(0.02)
            else:
                return

    def _unlock(file: IO[bytes]) -> None:
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

    def _sync_folder(folder: Path) -> None:
        """Nothing to do: Windows keeps the entry with the file."""

else:

    def _lock(file: IO[bytes]) -> None:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX)

    def _unlock(file: IO[bytes]) -> None:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_UN)

    def _sync_folder(folder: Path) -> None:
        """Keep the entry of a new file as well as its content."""
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)

"""What a recording is, so that it is analysed again only when it has changed."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cocuyo.batch.settings import Entry, Method
from cocuyo.core import CocuyoError, RecordingError
from cocuyo.io import file_identity
from cocuyo.io.readers import find_reader


def stamp_files(paths: Sequence[str]) -> str:
    """Name the state of files by their sizes and times, without reading them.

    Parameters
    ----------
    paths : sequence of str
        Files or folders; they need not exist.

    Returns
    -------
    str
        A hash; when it is the same again the files are taken to be.
    """
    digest = hashlib.sha256()
    for path in map(Path, paths):
        for file in _files(path):
            try:
                facts = file.stat()
                text = f"{file.name}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
            except OSError:
                text = f"{file.name}\0absent\n"
            digest.update(text.encode("utf-8", "replace"))
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        try:
            return find_reader(path)[0].files(path)
        except RecordingError:
            return sorted(path.iterdir())
    except OSError:
        return [path]


def hash_content(paths: Sequence[str]) -> str:
    """Hash what is in files.

    Parameters
    ----------
    paths : sequence of str
        Files or folders.

    Returns
    -------
    str
        The same for the same content, wherever it lies; empty where it cannot be read.
    """
    try:
        return join_hashes(file_identity(list(paths)))
    except (CocuyoError, OSError):
        return ""


def join_hashes(identity: Sequence[dict[str, Any]]) -> str:
    """Put the hashes of a recording's files into one text.

    Parameters
    ----------
    identity : sequence of dict
        From `cocuyo.io.file_identity`.

    Returns
    -------
    str
        Their hashes, in order.
    """
    return " ".join(str(entry["sha256"]) for entry in identity)


def hash_settings(entries: Sequence[Entry], method: Method) -> str:
    """Hash all that shapes a result besides the content of its recordings.

    Parameters
    ----------
    entries : sequence of Entry
        A recording, or those of an experiment in order, with how they are read.
    method : Method
        What is done with it.

    Returns
    -------
    str
        A hash; masks and timestamps count by their content.
    """
    readings = [entry.reading.model_dump(mode="json") for entry in entries]
    also = [*(reading.pop("timestamps") for reading in readings), entries[0].exclude]
    facts = (
        readings,
        [len(entry.paths) for entry in entries],
        [path and hash_content([path]) for path in also],
        method.config.model_dump(mode="json"),
        method.model_hash,
        method.seed,
    )
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

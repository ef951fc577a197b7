"""The first pass kept while it goes on, so that a program that was killed goes on from there."""

import zipfile
import zlib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from cocuyo.io import save_npz_atomic
from cocuyo.pipeline.analysis import FirstPass
from cocuyo.pipeline.stream import StreamState

_COUNTS = ("n_frames", "n_pairs", "n_steps")
_FINITE = ("_raw", "_sum", "_squares", "_votes", "probability_sum", "probability_max")
"""Sums that are numbers whatever the frames hold."""


def keep_first_pass(path: Path, first: FirstPass, stream: StreamState, *, key: str) -> None:
    """Write where a first pass stands.

    Parameters
    ----------
    path : Path
        The file, ending in ``.npz``; it is replaced in one step.
    first : FirstPass
        Its sums and memory hold the steps before ``stream.start``.
    stream : StreamState
        A state of its stream at which no frame waits for a whole step.
    key : str
        What it was made of; only a pass with the same key takes it up.

    Raises
    ------
    ValueError
        If frames wait, so that the two would not fit.
    OSError
        If the file cannot be written.
    """
    if stream.waiting or first.n_frames != stream.start:
        msg = f"The sums hold {first.n_frames} frames, the stream is at {stream.start}."
        raise ValueError(msg)
    arrays: dict[str, Any] = {"key": key, **first.sums()}
    _flatten("stream", replace(stream, waiting=()), arrays)
    if first.memory is not None:
        _flatten("memory", first.memory, arrays)
    save_npz_atomic(path, arrays, compress=False)


def take_up_first_pass(path: Path, first: FirstPass, *, key: str, n_frames: int) -> bool:
    """Put a first pass to where `keep_first_pass` left it.

    Parameters
    ----------
    path : Path
        The file; it need not be there.
    first : FirstPass
        A pass before its first frame, made in the same way; changed if there is something to
        take up.
    key : str
        What it is made of.
    n_frames : int
        How many frames there are.

    Returns
    -------
    bool
        False where there is nothing to take up: no file, one of something else, or one that
        cannot be read or holds what no pass can have come to.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return False
            arrays = {name: stored[name] for name in stored.files}
        stream = _restore("stream", first.stream, arrays)
        memory = first.memory
        if memory is not None:
            memory = _restore("memory", memory, arrays)
        _check(stream, memory, arrays, n_frames)
        first.take_up(stream, memory, arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return False
    return True


def _check(stream: StreamState, memory: Any, arrays: dict[str, Any], n_frames: int) -> None:
    """Refuse numbers that no pass over so many frames can have come to."""
    counts = {name: arrays[f"sums.{name}"].item() for name in ("n_seen", *_COUNTS)}
    n_seen, weight = counts["n_seen"], arrays["sums.weight"].item()
    finite = [arrays[f"sums.{name}"] for name in _FINITE] + [arrays["sums.weight"]]
    if memory is not None:
        finite += [arrays[name] for name in arrays if name.startswith("memory.")]
    if not (
        0 <= stream.start == n_seen <= n_frames
        and all(0 <= count <= n_seen for count in counts.values())
        and 0 <= weight <= n_seen
        and len(arrays["sums.shifts"]) == len(arrays["sums.flags"]) == n_seen
        and all(np.isfinite(array).all() for array in finite)
        and 0 <= arrays["sums._n_raw"].min() <= arrays["sums._n_raw"].max() <= n_seen
        and arrays["sums._squares"].min() >= 0
    ):
        msg = "The sums hold what cannot be."
        raise ValueError(msg)


def _flatten(name: str, value: Any, into: dict[str, Any]) -> None:
    """Put the arrays and numbers of nested states into one dictionary, by their paths."""
    if is_dataclass(value):
        for field in fields(value):
            _flatten(f"{name}.{field.name}", getattr(value, field.name), into)
    elif isinstance(value, tuple):
        into[f"{name}.length"] = np.asarray(len(value))
        for i, item in enumerate(value):
            _flatten(f"{name}.{i}", item, into)
    elif isinstance(value, np.generic):  # one of NumPy's numbers is another kind than Python's
        into[name] = np.asarray(value)[None]
    elif isinstance(value, np.ndarray | bool | int | float):
        into[name] = np.asarray(value)


def _restore(name: str, like: Any, arrays: dict[str, Any]) -> Any:
    """Make a state of the arrays, of the kind of another one; settings stay that one's."""
    if is_dataclass(like) and not isinstance(like, type):
        changes = {
            field.name: _restore(f"{name}.{field.name}", getattr(like, field.name), arrays)
            for field in fields(like)
        }
        return replace(like, **changes)
    if like is None or isinstance(like, BaseModel | str):
        return like
    if isinstance(like, tuple):
        length = int(arrays[f"{name}.length"])
        return tuple(_restore(f"{name}.{i}", 0.0, arrays) for i in range(length))
    value = arrays[name]
    if not isinstance(like, np.ndarray):
        return value.item() if value.ndim == 0 else value[0]
    if value.dtype != like.dtype or value.ndim != like.ndim:
        msg = f"{name} is of another kind."
        raise ValueError(msg)
    return value

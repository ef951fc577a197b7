"""Files that appear whole or not at all."""

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place if the block succeeds.

    Parameters
    ----------
    path : str or Path
        The file to make or to replace. Its folder must exist.

    Yields
    ------
    Path
        Where to write. It has the suffix of `path`.

    Raises
    ------
    OSError
        If the folder cannot be written. The previous file is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def write_together(folder: str | Path, names: Iterable[str]) -> Iterator[dict[str, Path]]:
    """Give temporary paths for files that belong together: all take their places, or none does.

    Parameters
    ----------
    folder : str or Path
        Their folder; it is made, with its parents, and removed if it was made in vain.
    names : iterable of str
        Names of the files to make or to replace.

    Yields
    ------
    dict of str to Path
        Where to write each of them.

    Raises
    ------
    OSError
        If the folder cannot be made or written. Previous files are then untouched.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            yield {name: stack.enter_context(write_atomically(folder / name)) for name in names}
    except BaseException:
        if made:
            with suppress(OSError):  # the first error is the one to report
                folder.rmdir()
        raise


def reserve(file_number: int, n_bytes: int, path: Path) -> None:
    """Take the space for a file.

    Parameters
    ----------
    file_number : int
        Of the open file.
    n_bytes : int
        Its size.
    path : Path
        The file, or the folder of one without a name.

    Raises
    ------
    OSError
        If the disk has not that much left.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file_number, 0, n_bytes)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not every disk can
                raise OSError(error.errno, error.strerror, str(path)) from error
        else:
            return
    if shutil.disk_usage(path if path.is_dir() else path.parent).free < n_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    content : mapping
        Plain JSON; numbers of NumPy, paths and sets are turned into their plain kin, and
        what is not finite into ``null``.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    text = json.dumps(plain(content), indent=2, allow_nan=False)
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def plain(value: Any) -> Any:  # noqa: PLR0911 - one return for each kind
    """Turn a value into what JSON can hold.

    Parameters
    ----------
    value : object
        Anything; what is unknown becomes its text.

    Returns
    -------
    object
        Dictionaries, lists, text, finite numbers, booleans and None only.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    return str(value)


def save_npz_atomic(path: str | Path, arrays: Mapping[str, Any], *, compress: bool = True) -> Path:
    """Write arrays as an ``.npz`` file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file, ending in ``.npz``; parent folders are made.
    arrays : mapping of str to array_like
        What to save, by name. Object arrays are refused, so that the file can be read
        without unpickling anything.
    compress : bool, default: True
        Off is quicker, and the file larger.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If an array holds Python objects.
    OSError
        If the file cannot be written. A previous file is then untouched.
    """
    path = Path(path)
    checked = {name: np.asarray(value) for name, value in arrays.items()}
    for name, array in checked.items():
        if array.dtype.hasobject:
            msg = f"Array {name} holds Python objects; give numbers or text."
            raise ValueError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        save = np.savez_compressed if compress else np.savez
        save(file, **checked)  # type: ignore[arg-type]  # names come from the caller
    return path

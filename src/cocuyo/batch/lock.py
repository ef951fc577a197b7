"""One batch at a time in a folder: a lock that the system frees when its holder ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cocuyo.core import ResultError


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep other batches out of a folder.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Yields
    ------
    None
        While this lasts.

    Raises
    ------
    ResultError
        If another process holds it.
    """
    with (folder / ".lock").open("a+b") as file:
        if not _lock(file):
            msg = (
                f"Another cocuyo batch is at work in {folder}; wait for it, or choose another "
                "folder with --out."
            )
            raise ResultError(msg)
        yield


def _lock(file: IO[bytes]) -> bool:
    """Lock a file; True too where the file system knows no locks."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    with suppress(OSError):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True

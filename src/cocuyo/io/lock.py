"""One program at a time in a place: locks that the system frees when their holder ends."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cocuyo.core import ResultError

_LOCKED_BYTE = 1 << 30  # far behind what is written: Windows lets nobody read a locked byte


def lock_path(folder: Path) -> Path:
    """Name the file that is locked while something is made of a folder's name.

    Parameters
    ----------
    folder : Path
        The folder that is made.

    Returns
    -------
    Path
        A hidden file beside it: the folder itself is moved to its place when it is whole.
    """
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def hold_place(folder: Path, *, again: bool = False) -> Iterator[None]:
    """Keep other programs from making the same folder at the same time.

    The lock is the system's, so that it ends with the process in whatever way that ends; the file
    that a killed one leaves behind holds nobody up. Where the disk knows no locks (some network
    disks), nothing is kept out.

    Parameters
    ----------
    folder : Path
        The absolute path of the folder to be made; its parents are made.
    again : bool, default: False
        Pass where this very process holds it already.

    Yields
    ------
    None
        While this lasts.

    Raises
    ------
    ResultError
        If another process holds it.
    OSError
        If nothing can be written there.
    """
    path = lock_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _take(path)
    if file is None:
        holder = _holder(path)
        if again and holder == (str(os.getpid()), socket.gethostname()):
            yield
            return
        who = f" (process {holder[0]} on {holder[1]})" if holder else ""
        msg = (
            f"Another cocuyo{who} is making {folder} just now; wait until it has ended, or choose "
            "another folder with --out."
        )
        raise ResultError(msg)
    try:
        yield
    finally:
        if sys.platform == "win32":  # an open file cannot be removed, nor one that another opened
            file.close()
            with suppress(OSError):
                path.unlink()
        else:  # removed while it is held, so that nobody else's is
            with suppress(OSError):
                path.unlink()
            file.close()


def _take(path: Path) -> IO[bytes] | None:
    """Lock a file that bears one's name; None where another process has it."""
    while True:
        file = path.open("a+b", buffering=0)
        if not try_lock(file):
            file.close()
            return None
        # One that its last holder has removed meanwhile is nobody's: the next has another.
        current = sys.platform == "win32"
        with suppress(FileNotFoundError):
            current = current or os.path.samestat(os.fstat(file.fileno()), path.stat())
        if current:
            with suppress(OSError):  # a full disk: the lock counts, what is written is for people
                file.truncate(0)
                file.write(f"{os.getpid()} {socket.gethostname()}\n".encode())
            return file
        file.close()


def _holder(path: Path) -> tuple[str, str] | None:
    """Read who holds a lock: process and machine."""
    try:
        words = path.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return None
    return (words[0], words[1]) if len(words) == 2 else None


def try_lock(file: IO[bytes]) -> bool:
    """Lock an open file, until it is closed or the process ends.

    Parameters
    ----------
    file : file
        Open for writing.

    Returns
    -------
    bool
        False where another process has it; True too where the disk knows no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        file.seek(_LOCKED_BYTE)
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

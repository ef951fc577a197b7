"""One batch at a time in a folder: a lock that the system frees when its holder ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cocuyo.core import ResultError
from cocuyo.io.lock import try_lock


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
        if not try_lock(file):
            msg = (
                f"Another cocuyo batch is at work in {folder}; wait for it, or choose another "
                "folder with --out."
            )
            raise ResultError(msg)
        yield

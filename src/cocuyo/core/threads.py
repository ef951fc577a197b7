"""The same thing done for many items, side by side."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cocuyo.core.machine import count_cores

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")
_MOST = 4
"""Threads; Python holds up more than a few."""


def map_in_threads(function: Callable[[_Item], _Found], items: Sequence[_Item]) -> list[_Found]:
    """Call a function for each item, in as many threads as there are cores for this process.

    Or in as many as ``OMP_NUM_THREADS`` says, where that is fewer: workers of a batch have it.

    Parameters
    ----------
    function : callable
        Safe to be called from several threads; gains where it lets go of Python's lock, as
        NumPy does in large arrays.
    items : sequence
        What it is called with.

    Returns
    -------
    list
        What it returned, in the order of the items.
    """
    cores = count_cores()
    said = os.environ.get("OMP_NUM_THREADS", "")  # how many a process is to have, by custom
    n_threads = min(_MOST, cores, len(items), int(said) if said.isdigit() else cores)
    if n_threads < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(n_threads, "cocuyo-items") as pool:
        return list(pool.map(function, items))

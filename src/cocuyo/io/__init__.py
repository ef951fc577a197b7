"""Every file format, in and out."""

from cocuyo.io.atomic import save_npz_atomic
from cocuyo.io.results import (
    check_destination,
    load_result,
    partial_folder,
    save_result,
    start_partial,
)

__all__ = [
    "check_destination",
    "load_result",
    "partial_folder",
    "save_npz_atomic",
    "save_result",
    "start_partial",
]

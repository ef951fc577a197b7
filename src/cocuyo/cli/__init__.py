"""The command line: ``cocuyo COMMAND``.

A command is a function with `click` decorators that imports what it needs inside, so that
``cocuyo --help`` is quick; it lies in the module of its group, and is known to the program because
this package imports that. Names with an underscore are the package's own.
"""

from cocuyo.cli import analyse, batch, control, live, show, simulate, train
from cocuyo.cli.common import cli
from cocuyo.cli.program import main, run_command_line
from cocuyo.cli.progress import ProgressPrinter
from cocuyo.cli.reading import ReadingOptions, open_from_options, recording_options

__all__ = [
    "ProgressPrinter",
    "ReadingOptions",
    "analyse",
    "batch",
    "cli",
    "control",
    "live",
    "main",
    "open_from_options",
    "recording_options",
    "run_command_line",
    "show",
    "simulate",
    "train",
]

"""How long work tells its caller where it stands."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a stage stands.

    Attributes
    ----------
    stage : str
        Name of the stage, for people.
    done, total : int
        Units of work done and to do, usually frames.
    detail : str, default: ""
        How the work goes (a loss, a score), for people.
    """

    stage: str
    done: int
    total: int
    detail: str = ""


ProgressCallback = Callable[[Progress], None]


class Cancelled(Exception):  # noqa: N818 - the established name: an outcome, not a failure
    """Raised by a progress callback to stop the work."""


def ignore_progress(progress: Progress) -> None:
    """Take a progress report and do nothing with it.

    Parameters
    ----------
    progress : Progress
        Where a stage stands.
    """

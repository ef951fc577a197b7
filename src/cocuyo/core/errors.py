"""Errors a user can act on; anything that is not one of these is a bug."""


class CocuyoError(Exception):
    """Parent of all errors that say what was given, what was needed and what to do."""


class RecordingError(CocuyoError):
    """A recording cannot be used as it is."""


class TruncatedRecordingError(RecordingError):
    """A recording ends before the number of frames it promises.

    Parameters
    ----------
    message : str
        What was found and what to do.
    n_good_frames : int
        Number of frames that can be read from the start.
    """

    def __init__(self, message: str, *, n_good_frames: int) -> None:
        super().__init__(message)
        self.n_good_frames = n_good_frames


class MissingFrameRateError(RecordingError):
    """The frame rate is neither in the file nor given."""


class MissingExtraError(CocuyoError):
    """Something needs an optional dependency that is not installed."""


class InvalidTraceError(CocuyoError):
    """A trace cannot be analysed."""


class ModelError(CocuyoError):
    """A model folder is absent, incomplete or of another version."""


class ResultError(CocuyoError):
    """A result folder cannot be written or read."""


class SettingsError(CocuyoError):
    """A setting or an argument has a value that makes no sense."""


class Terminated(KeyboardInterrupt):
    """The system asks the program to end (SIGTERM), as a cluster does at a job's time limit.

    It ends as at Ctrl-C, but what a second start can go on from is kept.
    """

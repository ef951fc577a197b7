"""What a batch is told: how a recording is read, what is analysed, and with which settings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from cocuyo.core import FrozenConfig
from cocuyo.pipeline import PipelineConfig


class Reading(FrozenConfig):
    """How a recording is read; what is None is left to the file."""

    frame_rate_hz: float | None = Field(default=None, gt=0, description="Frames per second.")
    pixel_size_um: float | None = Field(default=None, gt=0, description="Side of a pixel, in µm.")
    diameter_um: float | None = Field(default=None, gt=0, description="Diameter of a soma, in µm.")
    frames: tuple[int | None, int | None] | None = Field(
        default=None, description="First frame and the one after the last, from 0."
    )
    dataset: str | None = Field(default=None, description="Data set in an HDF5 file.")
    channel: int | None = Field(default=None, ge=0, description="Channel, from 0.")
    plane: int | None = Field(default=None, ge=0, description="Plane, from 0.")
    axes: str | None = Field(default=None, description="Order of the axes, where it is not told.")
    timestamps: str | None = Field(
        default=None, description="Path of a file with the time of each frame."
    )


@dataclass(frozen=True)
class Entry:
    """A recording that a batch is to analyse.

    Attributes
    ----------
    name : str
        Its name in the batch, each once.
    paths : tuple of str
        A file, a folder, or the parts of one recording; absolute.
    result : str
        Name of the result it goes into, a folder: its own name, or that of an experiment, which
        the recordings of one field of view have in common.
    reading : Reading
        How it is read.
    exclude : str or None
        Path of an image that is not 0 where nothing is to be found; of an experiment, in the
        coordinates of its first recording.
    group : str
        What it is compared by (control, drug); empty where nobody said it.
    experiment : str
        Field of view that it shows, as the user calls it; empty for a recording taken alone.
    animal : str
        Animal, slice or culture it comes from; empty where nobody said it.
    labels : dict of str
        Further columns of the list, taken over to the tables.
    """

    name: str
    paths: tuple[str, ...]
    result: str = ""
    reading: Reading = field(default_factory=Reading)
    exclude: str | None = None
    group: str = ""
    experiment: str = ""
    animal: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """What is done with every recording of a batch.

    Attributes
    ----------
    preset : str
        Name of the preset.
    model : str or None
        Another model, by name or as an absolute path.
    config : PipelineConfig
        The complete settings.
    model_hash : str
        Hash of the model's weights.
    seed : int
        Seed, kept in the results.
    """

    preset: str
    model: str | None
    config: PipelineConfig
    model_hash: str
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """What makes one result, as it is handed to a worker; plain JSON, with absolute paths.

    Attributes
    ----------
    folder : str
        The folder of the batch.
    name : str
        Name of the result in the batch.
    recordings : list of dict
        A recording, or those of an experiment in order: its ``name`` in the batch, its ``paths``,
        and as ``reading`` the fields of `Reading`.
    exclude : str or None
        Mask of pixels to leave out.
    preset, model, config, seed
        As in `Method`.
    settings_key : str
        Hash of all settings, model and masks; kept in the record.
    n_threads : int
        Threads that the worker may use.
    memory_mb : float
        Memory that it is expected to need, in MB.
    expected_s : float
        Expected work, in seconds of one core of the machine that it was measured on.
    cost : float
        The same, by what the batch has taken so far.
    version : str
        Version of cocuyo; a worker with another one refuses.
    """

    folder: str
    name: str
    recordings: list[dict[str, Any]]
    exclude: str | None
    preset: str
    model: str | None
    config: dict[str, Any]
    seed: int
    settings_key: str
    n_threads: int
    memory_mb: float
    expected_s: float
    cost: float
    version: str

    @property
    def paths(self) -> list[str]:
        """All that is read, besides masks and times."""
        return [path for recording in self.recordings for path in recording["paths"]]


RECORDS, RESULTS = "state", "recordings"


def record_path(folder: Path, name: str) -> Path:
    """Name the file that says how a recording or experiment of a batch ended.

    Parameters
    ----------
    folder : Path
        The folder of the batch.
    name : str
        Name of the result.

    Returns
    -------
    Path
        A JSON file; it need not exist.
    """
    return folder / RECORDS / f"{name}.json"


def result_path(folder: Path, name: str) -> Path:
    """Name the result folder of a recording or experiment of a batch.

    Parameters
    ----------
    folder : Path
        The folder of the batch.
    name : str
        Name of the result.

    Returns
    -------
    Path
        The folder; it need not exist.
    """
    return folder / RESULTS / name

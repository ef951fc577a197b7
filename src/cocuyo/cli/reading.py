"""Options that say how a recording is read."""

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cocuyo.core import Recording


def _parse_frames(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int | None, int | None] | None:
    """Turn ``A:B`` into numbers; either end may be left out."""
    if value is None:
        return None
    first, colon, last = value.partition(":")
    try:
        if colon:
            return (int(first) if first.strip() else None, int(last) if last.strip() else None)
    except ValueError:
        pass
    msg = f"{value!r} is not of the form A:B, such as 0:500, 100: or :500."
    raise click.BadParameter(msg)


@dataclass(frozen=True)
class ReadingOptions:
    """What the command line says about reading a recording.

    Attributes
    ----------
    frame_rate_hz, pixel_size_um, diameter_um : float or None
        Frames per second; side of a pixel in µm; typical soma diameter in µm.
    frames : tuple of (int or None), or None
        First frame and the one after the last, counted from 0.
    dataset : str or None
        Which movie of a file with several.
    channel, plane : int or None
        Index from 0 in a stack with several channels or planes.
    axes : str or None
        Letters of an array's axes in the order of the file.
    timestamps : str or None
        Path of a file with the time of each frame.
    join : bool
        Whether several paths are the parts of one recording.
    """

    frame_rate_hz: float | None = None
    pixel_size_um: float | None = None
    diameter_um: float | None = None
    frames: tuple[int | None, int | None] | None = None
    dataset: str | None = None
    channel: int | None = None
    plane: int | None = None
    axes: str | None = None
    timestamps: str | None = None
    join: bool = False

    @property
    def choices(self) -> dict[str, Any]:
        """What must be said again to open the recording again, besides its path."""
        from cocuyo.io import READING_CHOICES

        return {name: getattr(self, name) for name in READING_CHOICES}


class _Number(click.types.FloatParamType):
    """A number as Python writes it; says what is wrong with a decimal comma."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, str) and value.count(",") == 1:
            with suppress(ValueError):
                meant = float(value.replace(",", "."))
                self.fail(f"{value!r}: decimals are written with a point, {meant:g}.")
        return float(super().convert(value, param, ctx))


NUMBER = _Number()
"""Type of an option that takes a number."""

_RECORDING_OPTIONS = (
    click.option(
        "--frame-rate",
        "frame_rate_hz",
        type=NUMBER,
        metavar="HZ",
        help="Frames per second, where the file does not say it or says it wrongly.",
    ),
    click.option(
        "--pixel-size",
        "pixel_size_um",
        type=NUMBER,
        metavar="UM",
        help="Side of a pixel in the tissue, in µm.",
    ),
    click.option(
        "--diameter",
        "diameter_um",
        type=NUMBER,
        metavar="UM",
        help="Typical diameter of a soma, in µm.",
    ),
    click.option(
        "--frames",
        callback=_parse_frames,
        metavar="A:B",
        help="Use frames A to B only (from 0, B not included; either end may be left out).",
    ),
    click.option(
        "--dataset",
        metavar="NAME",
        help="Which movie to read from a file with several (a data set, series, image, scene).",
    ),
    click.option(
        "--channel", type=int, metavar="N", help="Channel to read from a stack of several (from 0)."
    ),
    click.option(
        "--plane", type=int, metavar="N", help="Plane (Z) to read from a stack of several (from 0)."
    ),
    click.option(
        "--axes",
        metavar="LETTERS",
        help="Order of the axes in HDF5, NWB, MATLAB, Zarr or .npy, such as TYX or TXY.",
    ),
    click.option(
        "--timestamps",
        metavar="FILE",
        help="Text or CSV file with the time of each frame, in seconds.",
    ),
    click.option(
        "--join", is_flag=True, help="The given files are the parts of one recording, in order."
    ),
)


def recording_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how a recording is read.

    Parameters
    ----------
    command : callable
        The command's function; it receives them as one keyword argument ``reading``
        (`ReadingOptions`).

    Returns
    -------
    callable
        The function with the options.
    """
    names = tuple(ReadingOptions.__dataclass_fields__)

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> Any:
        reading = ReadingOptions(**{name: arguments.pop(name) for name in names})
        return command(reading=reading, **arguments)

    decorated: Callable[..., Any] = wrapper
    for option in reversed(_RECORDING_OPTIONS):
        decorated = option(decorated)
    return decorated


def open_from_options(paths: Sequence[str], reading: ReadingOptions) -> "Recording":
    """Open one recording as the options say.

    Parameters
    ----------
    paths : sequence of str
        One path, or the parts of one recording with ``--join``.
    reading : ReadingOptions
        What the command line says.

    Returns
    -------
    Recording
        The recording, read lazily.

    Raises
    ------
    RecordingError
        If it cannot be used as it is.
    """
    from cocuyo.io import open_recording

    return open_recording(
        list(paths) if len(paths) > 1 else paths[0],
        frame_rate_hz=reading.frame_rate_hz,
        pixel_size_um=reading.pixel_size_um,
        diameter_um=reading.diameter_um,
        frames=reading.frames,
        dataset=reading.dataset,
        channel=reading.channel,
        plane=reading.plane,
        axes=reading.axes,
        timestamps=reading.timestamps,
        join=reading.join,
    )

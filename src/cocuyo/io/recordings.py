"""Opening recordings: any file, folder or list of parts becomes one `Recording`."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import (
    AnyArray,
    BoolArray,
    Recording,
    RecordingError,
    TimeArray,
    TruncatedRecordingError,
)
from cocuyo.io.sources import JoinedMovie, PartOfMovie, Source, natural_key

PathLike = str | Path

_FORMATS_READ = "TIFF, AVI, MP4, MKV, HDF5, .npy, or a folder of these or of PNG images"
_MOVIE_SUFFIXES = frozenset(
    (".avi", ".mp4", ".mkv", ".mov", ".m4v", ".npy", ".h5", ".hdf5", ".hdf")
)
_TIFF_SUFFIXES = frozenset((".tif", ".tiff", ".btf", ".tf8"))
_PICTURE_SUFFIXES = frozenset((".png",))
_SUFFIXES = {
    "tiff": _TIFF_SUFFIXES,
    "npy": frozenset((".npy",)),
    "hdf5": frozenset((".h5", ".hdf5", ".hdf", ".nwb", ".mat")),
    "png": _PICTURE_SUFFIXES,
}
_MAX_DIFFERENCE = 0.01  # of a rate or pixel size before a note says that user and file differ


# --- Kinds of file -----------------------------------------------------------------------------


def _sniff(path: Path) -> str:
    """Say what a file is by its first bytes.

    Raises
    ------
    RecordingError
        If it is none of the kinds that can be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}."
        raise RecordingError(msg) from error
    if not head:
        msg = f"{path} is empty (0 bytes)."
        raise RecordingError(msg)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:6] == b"\x93NUMPY":
        return "npy"
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if (head[:4] == b"RIFF" and head[8:12] == b"AVI ") or head[:4] == b"\x1aE\xdf\xa3":
        return "video"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return "video"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    return _refuse_kind(path, head)


def _refuse_kind(path: Path, head: bytes) -> str:
    if path.suffix.lower() in _SUFFIXES["hdf5"]:
        import h5py

        if h5py.is_hdf5(path):  # a user block may stand before the signature
            return "hdf5"
    if head[:3] == b"\xff\xd8\xff":
        what = "a JPEG image, a single frame with lossy values"
    elif head[:4] == b"PK\x03\x04":
        what = "a ZIP archive (as .npz and .zip are); unpack it, or save the movie as .npy or TIFF"
    elif head[:4] in (b"GIF8", b"%PDF"):
        what = "a GIF or PDF file"
    elif all(byte in b"\t\n\r" or 32 <= byte for byte in head):
        what = "a text file"
    else:
        what = "not a kind of file that cocuyo knows, or its beginning is damaged"
    msg = f"{path} is not a recording: it is {what}. cocuyo reads {_FORMATS_READ}."
    raise RecordingError(msg)


def _open_file(
    path: Path, *, dataset: str | None, channel: int | None, plane: int | None
) -> Source:
    kind = _sniff(path)
    if dataset is not None and kind != "hdf5":
        msg = f"A data set ({dataset}) was named, but {path} is not an HDF5 file."
        raise RecordingError(msg)
    if kind == "tiff":
        from cocuyo.io.tiff import open_tiff

        source = open_tiff(path, channel=channel, plane=plane)
    elif kind == "npy":
        from cocuyo.io.arrays import open_npy

        source = open_npy(path, channel=channel, plane=plane)
    elif kind == "hdf5":
        from cocuyo.io.arrays import open_hdf5

        source = open_hdf5(path, dataset=dataset, channel=channel, plane=plane)
    elif kind == "video":
        from cocuyo.io.video import open_video

        source = open_video(path)
    else:
        msg = (
            f"{path} is a PNG image, a single frame. "
            "Give the folder that holds the frames as images."
        )
        raise RecordingError(msg)
    suffix = path.suffix.lower()
    fitting = _SUFFIXES.get(kind, _MOVIE_SUFFIXES)
    named = any(suffix in suffixes for suffixes in (*_SUFFIXES.values(), _MOVIE_SUFFIXES))
    if named and suffix not in fitting:
        note = f"The name ends in {suffix}, but the content is {source.format}; it is read so."
        source = replace(source, notes=(note, *source.notes))
    return source


def _open_path(
    path: Path, *, dataset: str | None, channel: int | None, plane: int | None
) -> Source:
    if not path.exists():
        msg = f"{path} does not exist."
        raise RecordingError(msg)
    if path.is_dir():
        from cocuyo.io.folders import open_folder

        return open_folder(
            path,
            lambda part: _open_file(part, dataset=dataset, channel=channel, plane=plane),
        )
    return _open_file(path, dataset=dataset, channel=channel, plane=plane)


# --- Opening -----------------------------------------------------------------------------------


def join_sources(sources: Sequence[Source], names: Sequence[str]) -> Source:
    """Put the parts of one recording one after the other.

    Parameters
    ----------
    sources : sequence of Source
        The parts, in order of time.
    names : sequence of str
        Their names, for messages.

    Returns
    -------
    Source
        One movie, damaged where its first damaged part is.

    Raises
    ------
    RecordingError
        If the parts differ in frame size or type of values.
    """
    first = sources[0]
    if len(sources) == 1:
        return first
    for source, name in zip(sources[1:], names[1:], strict=True):
        if source.movie.shape[1:] != first.movie.shape[1:]:
            msg = (
                f"{name} has frames of {_times(source.movie.shape[1:])} pixels, "
                f"{names[0]} of {_times(first.movie.shape[1:])}; "
                "the parts of one recording have the same size."
            )
            raise RecordingError(msg)
        if source.movie.dtype != first.movie.dtype:
            msg = (
                f"{name} holds {source.movie.dtype}, {names[0]} {first.movie.dtype}; "
                "the parts of one recording have the same type of values."
            )
            raise RecordingError(msg)
    used: list[Source] = []
    damage = ""
    for source, name in zip(sources, names, strict=True):
        used.append(source)
        if source.damage:
            damage = f"{name}: {source.damage}"
            break
    notes = [f"{len(sources)} parts are joined in time, from {names[0]} to {names[-1]}."]
    notes.extend(note for source in sources for note in source.notes)
    rates = {source.frame_rate_hz for source in sources if source.frame_rate_hz is not None}
    if len(rates) > 1 and max(rates) > min(rates) * (1 + _MAX_DIFFERENCE):
        notes.append(
            f"The parts say different frame rates ({min(rates):.6g} to {max(rates):.6g} Hz); "
            "that of the first is used."
        )
    return replace(
        first,
        movie=JoinedMovie([source.movie for source in used]),
        format=f"{len(sources)} parts, {first.format}",
        n_promised=sum(source.n_promised for source in sources),
        damage=damage,
        notes=tuple(dict.fromkeys(notes)),
    )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)


def _open_source(
    path: PathLike | Sequence[PathLike],
    *,
    dataset: str | None,
    channel: int | None,
    plane: int | None,
    join: bool,
) -> tuple[Source, tuple[str, ...], str]:
    """Open one path or several; give the source, the paths and a name."""
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(part) for part in path]
    if not paths:
        msg = "No recording was given."
        raise RecordingError(msg)
    if len(paths) > 1 and not join:
        msg = (
            f"{len(paths)} files were given where one recording was expected. "
            "If they are parts of one recording in time, say --join (join=True in Python)."
        )
        raise RecordingError(msg)
    if len(paths) > 1:
        paths.sort(key=lambda part: (natural_key(str(part.parent)), natural_key(part.name)))
    sources = [_open_path(p, dataset=dataset, channel=channel, plane=plane) for p in paths]
    source = join_sources(sources, [str(p) for p in paths])
    resolved = paths[0].resolve()
    name = resolved.name if resolved.is_dir() else resolved.stem
    name = name.removesuffix(".ome") or "recording"
    return source, tuple(str(p) for p in paths), name


def _frame_range(
    source: Source, frames: tuple[int | None, int | None] | None, label: str
) -> tuple[int, int, list[str]]:
    """Check the wanted frames against those that are there.

    Raises
    ------
    TruncatedRecordingError
        If the recording is damaged and the wanted frames are not all good.
    RecordingError
        If the range makes no sense, or leaves fewer than two frames.
    """
    n_good = source.movie.shape[0]
    first, last = (None, None) if frames is None else frames
    start = 0 if first is None else first
    stop = last
    notes = []
    if source.damage and (stop is None or stop > n_good):
        more = f" of {source.n_promised}" if source.n_promised > n_good else ""
        advice = (
            f"Go on with the good ones: --frames {start if start < n_good else 0}:{n_good}."
            if n_good > 1
            else "That is not enough for a recording."
        )
        msg = f"{label} is damaged or cut: {n_good}{more} frames are good, then {source.damage}. "
        raise TruncatedRecordingError(msg + advice, n_good_frames=n_good)
    stop = n_good if stop is None else stop
    if not 0 <= start < stop <= n_good:
        msg = (
            f"Frames {start}:{stop} were asked for, but {label} has {n_good} frames; "
            f"--frames A:B needs 0 <= A < B <= {n_good}."
        )
        raise RecordingError(msg)
    if source.damage:
        notes.append(f"The file is damaged or cut after frame {n_good - 1} ({source.damage}).")
    if (start, stop) != (0, n_good) or (source.damage and frames is not None):
        notes.append(f"Frames {start}:{stop} of {max(n_good, source.n_promised)} are used.")
    if stop - start < 2:
        msg = (
            f"{label} has a single frame{'' if n_good < 2 else ' in the range asked for'}; "
            "a recording needs at least 2, and many more to show activity."
        )
        raise RecordingError(msg)
    return start, stop, notes


def _choose(
    given: float | None, found: float | None, origin: str, what: str, unit: str
) -> tuple[float | None, str, list[str]]:
    """Prefer what the user says to what the file says; tell where they differ."""
    if given is None:
        return found, origin if found is not None else "", []
    if not (math.isfinite(given) and given > 0):
        msg = f"The {what} is given as {given}; it must be a positive number ({unit})."
        raise RecordingError(msg)
    notes = []
    if found is not None and abs(given - found) > _MAX_DIFFERENCE * found:
        notes.append(
            f"The {what} given ({given:.6g} {unit}) is used; {origin} says {found:.6g} {unit}."
        )
    return float(given), "given", notes


@dataclass(frozen=True, eq=False)
class _Opened:
    recording: Recording
    source: Source
    rate_origin: str
    pixel_origin: str


def _open(
    path: PathLike | Sequence[PathLike],
    *,
    frame_rate_hz: float | None,
    pixel_size_um: float | None,
    diameter_um: float | None,
    frames: tuple[int | None, int | None] | None,
    dataset: str | None,
    channel: int | None,
    plane: int | None,
    timestamps: PathLike | TimeArray | Sequence[float] | None,
    join: bool,
) -> _Opened:
    source, paths, name = _open_source(
        path, dataset=dataset, channel=channel, plane=plane, join=join
    )
    label = paths[0] if len(paths) == 1 else f"The joined recording ({len(paths)} parts)"
    n_all = max(source.movie.shape[0], source.n_promised)
    start, stop, notes = _frame_range(source, frames, label)
    rate, rate_origin, rate_notes = _choose(
        frame_rate_hz, source.frame_rate_hz, source.frame_rate_origin, "frame rate", "Hz"
    )
    pixel, pixel_origin, pixel_notes = _choose(
        pixel_size_um, source.pixel_size_um, source.pixel_size_origin, "pixel size", "µm"
    )
    diameter, _, _ = _choose(diameter_um, None, "", "diameter", "µm")
    times = None
    if timestamps is not None:
        times = _take_times(timestamps, start, stop, n_all)
        rate_origin = "the timestamps"
        notes.append("The times of the frames come from the timestamps given.")
    movie = source.movie
    if (start, stop) != (0, movie.shape[0]):
        movie = PartOfMovie(movie, start, stop)
    recording = Recording(
        movie,
        frame_rate_hz=rate,
        pixel_size_um=pixel,
        diameter_um=diameter,
        timestamps_s=times,
        name=name,
        paths=paths,
        notes=(*source.notes, *notes, *rate_notes, *pixel_notes),
    )
    return _Opened(recording, source, rate_origin, pixel_origin)


def _take_times(
    timestamps: PathLike | TimeArray | Sequence[float], start: int, stop: int, n_all: int
) -> TimeArray:
    from cocuyo.io.timestamps import read_timestamps

    if isinstance(timestamps, str | Path):
        label = str(timestamps)
        times = read_timestamps(timestamps, n_all)
    else:
        label = "The timestamps given"
        times = np.asarray(timestamps, np.float64).ravel()
    if len(times) not in (n_all, stop - start):
        msg = (
            f"{label}: {len(times)} times for {n_all} frames; a recording needs one time per frame."
        )
        raise RecordingError(msg)
    if len(times) == n_all:
        times = times[start:stop]
    wrong = np.flatnonzero(~(np.diff(times) > 0))
    if len(wrong):
        at = start + int(wrong[0]) + 1
        msg = (
            f"{label}: the time of frame {at} ({times[wrong[0] + 1]:.6g} s) does not come after "
            f"that of frame {at - 1} ({times[wrong[0]]:.6g} s); times must be finite and rise."
        )
        raise RecordingError(msg)
    return times


def open_recording(
    path: PathLike | Sequence[PathLike],
    *,
    frame_rate_hz: float | None = None,
    pixel_size_um: float | None = None,
    diameter_um: float | None = None,
    frames: tuple[int | None, int | None] | None = None,
    dataset: str | None = None,
    channel: int | None = None,
    plane: int | None = None,
    timestamps: PathLike | TimeArray | Sequence[float] | None = None,
    join: bool = False,
) -> Recording:
    """Open a recording; its frames are read later, in blocks.

    Reads TIFF (also BigTIFF, ImageJ, OME, and pages written one by one), AVI, MP4, MKV, HDF5,
    ``.npy``, and folders of single images or of parts of a movie in natural order (``msCam2``
    before ``msCam10``). What a file is, is told by its content, not by its name.

    Parameters
    ----------
    path : str, Path or sequence of them
        A file, a folder, or the parts of one recording (with `join`).
    frame_rate_hz : float, optional
        Frames per second; goes before what the file says.
    pixel_size_um : float, optional
        Side of a pixel in the tissue, in µm; goes before what the file says.
    diameter_um : float, optional
        Typical diameter of a soma, in µm.
    frames : tuple of (int or None), optional
        First frame and the one after the last, from 0; None is an open end.
    dataset : str, optional
        Path of the data set in an HDF5 file; needed unless only one fits.
    channel, plane : int, optional
        Which to read of a stack with several channels or planes, from 0.
    timestamps : str, Path or array of float64, shape (n_frames,), optional
        Time of each frame in seconds, or a text file with them.
    join : bool, default: False
        Take several paths as one recording, in natural order.

    Returns
    -------
    Recording
        The recording. ``notes`` says in sentences how it was read.

    Raises
    ------
    TruncatedRecordingError
        If the file is cut or damaged and `frames` does not stay within the good part.
    RecordingError
        If it is absent, empty, no recording, a single frame, or needs a choice of channel,
        plane or data set.
    MissingExtraError
        If its compression needs the extra ``formats``.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/movie.npy", np.zeros((5, 3, 4), np.uint16))
    ...     recording = open_recording(folder + "/movie.npy", frame_rate_hz=10, frames=(1, None))
    ...     recording.movie.shape
    (4, 3, 4)
    """
    return _open(
        path,
        frame_rate_hz=frame_rate_hz,
        pixel_size_um=pixel_size_um,
        diameter_um=diameter_um,
        frames=frames,
        dataset=dataset,
        channel=channel,
        plane=plane,
        timestamps=timestamps,
        join=join,
    ).recording

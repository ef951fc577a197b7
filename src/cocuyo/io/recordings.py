"""Opening recordings: any file, folder or list of parts becomes one `Recording`."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import (
    AnyArray,
    BoolArray,
    PartOfMovie,
    Recording,
    RecordingError,
    TimeArray,
    TruncatedRecordingError,
    check_frame_rate,
)
from cocuyo.io.folders import join_sources
from cocuyo.io.readers import Choice, describe_unknown, find_reader, open_file, read_head
from cocuyo.io.sources import Source, decode_picture, natural_key

PathLike = str | Path

_MAX_DIFFERENCE = 0.01  # of a rate or pixel size before a note says that user and file differ


# --- Opening -----------------------------------------------------------------------------------


def _open_source(
    path: PathLike | Sequence[PathLike], choice: Choice, *, join: bool
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
    for part in paths:
        if not part.exists():
            msg = f"{part} does not exist; check its name and folder."
            raise RecordingError(msg)
    sources = [open_file(part, choice) for part in paths]
    source = join_sources(sources, [str(p) for p in paths])
    resolved = paths[0].resolve()
    name = resolved.name if resolved.is_dir() else resolved.stem
    name = name.removesuffix(".zarr").removesuffix(".ome") or "recording"
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


def choose_stated(
    given: float | None, found: float | None, origin: str, what: str, unit: str
) -> tuple[float | None, str, list[str]]:
    """Prefer what the user says to what the file says; tell where they differ.

    Parameters
    ----------
    given, found : float or None
        What the user and the file say.
    origin : str
        Where the file says it.
    what, unit : str
        For the messages.

    Returns
    -------
    value : float or None
        The one to use.
    origin : str
        Who says so.
    notes : list of str
        A sentence where they differ.

    Raises
    ------
    RecordingError
        If what is given is not a positive number.
    """
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
    return float(given), "given by you", notes


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
    axes: str | None,
    timestamps: PathLike | TimeArray | Sequence[float] | None,
    join: bool,
) -> _Opened:
    choice = Choice(dataset=dataset, channel=channel, plane=plane, axes=axes)
    source, paths, name = _open_source(path, choice, join=join)
    label = paths[0] if len(paths) == 1 else f"The joined recording ({len(paths)} parts)"
    n_all = max(source.movie.shape[0], source.n_promised)
    start, stop, notes = _frame_range(source, frames, label)
    rate, rate_origin, rate_notes = choose_stated(
        frame_rate_hz, source.frame_rate_hz, source.frame_rate_origin, "frame rate", "Hz"
    )
    pixel, pixel_origin, pixel_notes = choose_stated(
        pixel_size_um, source.pixel_size_um, source.pixel_size_origin, "pixel size", "µm"
    )
    diameter, _, _ = choose_stated(diameter_um, None, "", "diameter", "µm")
    if frame_rate_hz is not None:
        check_frame_rate(frame_rate_hz, "The frame rate is given as")
    times = None
    if timestamps is not None:
        times = _take_times(timestamps, start, stop, n_all)
        rate_origin = "the timestamps"
        notes.append("The times of the frames come from the timestamps given.")
    elif source.timestamps_s is not None and frame_rate_hz is not None:
        notes.append(f"The times of the frames ({source.timestamps_origin}) are not used.")
    elif source.timestamps_s is not None:
        times = np.asarray(source.timestamps_s[start:stop], np.float64)
        rate, rate_origin = None, source.timestamps_origin
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
    if len(times) > 1:
        check_frame_rate(float(1 / np.median(np.diff(times))), f"{label}: the times say")
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
    axes: str | None = None,
    timestamps: PathLike | TimeArray | Sequence[float] | None = None,
    join: bool = False,
) -> Recording:
    """Open a recording; its frames are read later, in blocks.

    Reads TIFF (also BigTIFF, ImageJ, OME, and pages written one by one), AVI, MP4, MKV, HDF5,
    NWB, MATLAB 7.3, ``.npy``, Zarr and OME-Zarr, ND2, CZI, LIF, Inscopix, folders of a UCLA
    Miniscope, and folders of single images or of parts of a movie in natural order (``msCam2``
    before ``msCam10``). What a file is, is told by its content, not by its name. Other packages
    may add readers.

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
        Which movie of a file with several: the path of a data set in HDF5, NWB, Zarr; a variable
        in MATLAB; an image in LIF; a scene in CZI; a position in ND2. Needed unless only one fits.
    channel, plane : int, optional
        Which to read of a stack with several channels or planes, from 0.
    axes : str, optional
        Order of the axes in an array file (HDF5, NWB, MATLAB, Zarr, ``.npy``), where it does not
        say it or says it wrongly: letters such as ``TYX`` or ``TXY``.
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
        If it needs a package that is not installed; the message has the command that installs it.

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
        axes=axes,
        timestamps=timestamps,
        join=join,
    ).recording


# --- What is in a recording --------------------------------------------------------------------

_N_SAMPLED_FRAMES = 16


@dataclass(frozen=True)
class RecordingFacts:
    """What is in a recording, and what is missing.

    Attributes
    ----------
    name : str
        Short name.
    paths : tuple of str
        Where it lies.
    format : str
        Kind of file.
    access : str
        How the frames are read.
    n_frames, n_rows, n_columns : int
        Shape.
    dtype : str
        Type of the values.
    bytes_on_disk : int
        Size of the files, in bytes.
    frame_rate_hz, pixel_size_um, diameter_um : float or None
        Frames per second; side of a pixel and diameter of a soma in µm; None where unknown.
    frame_rate_origin, pixel_size_origin : str
        Who says so; empty where unknown.
    duration_s : float or None
        Length in seconds, where the rate is known.
    value_min, value_max, value_mean : float or None
        Smallest, largest and mean finite value of the frames looked at.
    share_at_limit : float
        Share of these values at the largest that the type can hold (saturated); 0 for real
        numbers.
    share_not_finite : float
        Share of these values that are not finite.
    n_frames_sampled : int
        Number of frames looked at, evenly spaced.
    notes : tuple of str
        How the file was read.
    missing : tuple of str
        What nobody said, and the option that says it.
    """

    name: str
    paths: tuple[str, ...]
    format: str
    access: str
    n_frames: int
    n_rows: int
    n_columns: int
    dtype: str
    bytes_on_disk: int
    frame_rate_hz: float | None
    frame_rate_origin: str
    duration_s: float | None
    pixel_size_um: float | None
    pixel_size_origin: str
    diameter_um: float | None
    value_min: float | None
    value_max: float | None
    value_mean: float | None
    share_at_limit: float
    share_not_finite: float
    n_frames_sampled: int
    notes: tuple[str, ...]
    missing: tuple[str, ...]


def inspect_recording(
    path: PathLike | Sequence[PathLike],
    *,
    frame_rate_hz: float | None = None,
    pixel_size_um: float | None = None,
    diameter_um: float | None = None,
    frames: tuple[int | None, int | None] | None = None,
    dataset: str | None = None,
    channel: int | None = None,
    plane: int | None = None,
    axes: str | None = None,
    timestamps: PathLike | TimeArray | Sequence[float] | None = None,
    join: bool = False,
) -> RecordingFacts:
    """Say what is in a recording; the frame rate may be missing.

    Parameters
    ----------
    path : str, Path or sequence of them
        A file, a folder, or the parts of one recording (with `join`).
    frame_rate_hz, pixel_size_um, diameter_um : float, optional
        Frames per second; side of a pixel and diameter of a soma in µm.
    frames : tuple of (int or None), optional
        First frame and the one after the last, from 0.
    dataset : str, optional
        Which movie of a file with several.
    channel, plane : int, optional
        Which to read of a stack with several.
    axes : str, optional
        Order of the axes in an array file.
    timestamps : str, Path or array of float64, shape (n_frames,), optional
        Time of each frame in seconds, or a text file with them.
    join : bool, default: False
        Take several paths as one recording.

    Returns
    -------
    RecordingFacts
        What was found. Values are looked at in 16 frames, evenly spaced.

    Raises
    ------
    RecordingError
        If it cannot be used, as `open_recording` says.
    """
    opened = _open(
        path,
        frame_rate_hz=frame_rate_hz,
        pixel_size_um=pixel_size_um,
        diameter_um=diameter_um,
        frames=frames,
        dataset=dataset,
        channel=channel,
        plane=plane,
        axes=axes,
        timestamps=timestamps,
        join=join,
    )
    recording = opened.recording
    known = recording.frame_rate_hz is not None or recording.timestamps_s is not None
    rate = recording.rate_hz if known else None
    missing = []
    if rate is None:
        missing.append("frame rate: give it with --frame-rate HZ (or --timestamps FILE)")
    if recording.pixel_size_um is None and recording.diameter_um is None:
        missing.append(
            "pixel size: give it with --pixel-size UM, or a cell diameter is measured "
            "from the recording"
        )
    times = recording.times_s if rate is not None else None
    n_frames, n_rows, n_columns = recording.movie.shape
    return RecordingFacts(
        name=recording.name,
        paths=recording.paths,
        format=opened.source.format,
        access=opened.source.access,
        n_frames=n_frames,
        n_rows=n_rows,
        n_columns=n_columns,
        dtype=str(recording.movie.dtype),
        bytes_on_disk=sum(file.stat().st_size for file in _files(recording.paths)),
        frame_rate_hz=rate,
        frame_rate_origin=opened.rate_origin,
        duration_s=None if times is None or rate is None else float(times[-1]) + 1 / rate,
        pixel_size_um=recording.pixel_size_um,
        pixel_size_origin=opened.pixel_origin,
        diameter_um=recording.diameter_um,
        notes=recording.notes,
        missing=tuple(missing),
        **_look_at_values(recording),
    )


def _look_at_values(recording: Recording) -> dict[str, Any]:
    """Range of the values of frames chosen by their index."""
    n_frames = recording.n_frames
    chosen = np.unique(np.linspace(0, n_frames - 1, min(n_frames, _N_SAMPLED_FRAMES)).astype(int))
    dtype = recording.movie.dtype
    low, high, total, n_finite, n_limit, n_all = np.inf, -np.inf, 0.0, 0, 0, 0
    for at in chosen.tolist():
        frame = recording.movie.read(at, at + 1)
        n_all += frame.size
        if dtype.kind in "iu":
            n_limit += int(np.count_nonzero(frame == np.iinfo(dtype).max))
        finite = frame if dtype.kind in "iub" else frame[np.isfinite(frame)]
        if finite.size:
            n_finite += finite.size
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total += float(finite.sum(dtype=np.float64))
    return {
        "value_min": low if n_finite else None,
        "value_max": high if n_finite else None,
        "value_mean": total / n_finite if n_finite else None,
        "share_at_limit": n_limit / n_all,
        "share_not_finite": 1 - n_finite / n_all,
        "n_frames_sampled": len(chosen),
    }


# --- Files -------------------------------------------------------------------------------------


def _files(paths: Sequence[PathLike]) -> list[Path]:
    """List the files that a recording's paths stand for."""
    files: list[Path] = []
    for path in map(Path, paths):
        try:
            files.extend(find_reader(path)[0].files(path))
        except RecordingError:  # no recording, but a file of ROIs, say
            if path.is_dir():
                raise
            files.append(path)
    return files


def file_identity(paths: PathLike | Sequence[PathLike]) -> tuple[dict[str, Any], ...]:
    """Say which files a recording was, so that a result can be traced back to them.

    Parameters
    ----------
    paths : str, Path or sequence of them
        Files or folders, as given to `open_recording`.

    Returns
    -------
    tuple of dict
        For each path ``path``, ``bytes`` and ``sha256`` of the whole content; for a folder also
        ``files``, their number, and the hash of all names and contents in natural order.

    Raises
    ------
    RecordingError
        If a path is absent or cannot be read.
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    return tuple(identity_of_files(path, _files([path])) for path in map(Path, listed))


def identity_of_files(path: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Say what lay at a path, by the content of its files.

    Parameters
    ----------
    path : Path
        The file or folder.
    files : sequence of Path
        That file, or those in the folder that count.

    Returns
    -------
    dict
        What `file_identity` gives for a path.

    Raises
    ------
    RecordingError
        If a file cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        for file in files:
            if path.is_dir():
                digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                while chunk := stream.read(2**20):
                    digest.update(chunk)
                    size += len(chunk)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}."
        raise RecordingError(msg) from error
    identity: dict[str, Any] = {"path": str(path), "bytes": size, "sha256": digest.hexdigest()}
    if path.is_dir():
        identity["files"] = len(files)
    return identity


def read_exclusion(path: PathLike, frame_shape: tuple[int, int]) -> BoolArray:
    """Read an image of pixels to leave out.

    Parameters
    ----------
    path : str or Path
        A TIFF, PNG or ``.npy`` file with one image.
    frame_shape : tuple of int
        Rows and columns that it must have.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        True where the image is not 0 (in any channel).

    Raises
    ------
    RecordingError
        If it is absent, no image, of another size, or leaves no pixel.
    """
    path = Path(path)
    image = _read_image(path)
    if image.ndim == 3 and image.shape[-1] in (2, 4):
        image = image[..., :-1]  # opacity
    mask: BoolArray = np.array(image, np.bool_)  # a copy: the file is let go
    if mask.ndim == 3:
        mask = np.asarray(mask.any(axis=-1))
    if mask.shape != tuple(frame_shape):
        msg = (
            f"The mask {path} has shape {mask.shape}; the recording's frames have "
            f"{tuple(frame_shape)} (rows, columns). Give a mask of that size."
        )
        raise RecordingError(msg)
    if mask.all():
        msg = (
            f"The mask {path} leaves out every pixel; it must be 0 where neurons are to be found "
            "(perhaps it is the wrong way round)."
        )
        raise RecordingError(msg)
    return mask


_IMAGES_READ = "a mask from a TIFF, PNG or .npy file with one image"


def _read_image(path: Path) -> AnyArray:
    """Read the one image of a file.

    Raises
    ------
    RecordingError
        If it is none, or damaged.
    """
    head = read_head(path)
    if head.startswith((b"II", b"MM")):
        from cocuyo.io.tiff import TiffReader, read_first_page

        if TiffReader().recognises(path, head):
            return read_first_page(path)
    if head.startswith(b"\x93NUMPY"):
        try:
            # Mapped, so that sizes in a damaged header ask for no memory.
            mapped: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OverflowError) as error:
            msg = f"{path} is a damaged .npy file: {error}"
            raise RecordingError(msg) from error
        return mapped
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        decoded = decode_picture(path)
        if decoded is None:
            msg = f"{path} is a damaged PNG image; save it again."
            raise RecordingError(msg)
        return decoded
    msg = (
        f"{path} is not a mask: it is {describe_unknown(path, head)}. cocuyo reads {_IMAGES_READ}."
    )
    raise RecordingError(msg)

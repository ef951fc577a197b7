"""``result.h5``: everything a run found, in one HDF5 file.

The layout is documented in ``docs/reference/result-folder.md``; a change of paths, types
or meaning raises `FORMAT_VERSION` and is described there.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from cocuyo.core import (
    AnyArray,
    BoolArray,
    Deformation,
    Events,
    FloatArray,
    LabelArray,
    Motion,
    Part,
    Quality,
    Result,
    ResultError,
    RoiSet,
    RunInfo,
    Traces,
    release_pages,
)
from cocuyo.io.atomic import reserve

FORMAT = "cocuyo-result"
FORMAT_VERSION = 1

TRACE_NAMES = ("raw", "neuropil", "corrected", "delta_f_over_f", "dog")
PER_ROI_NAMES = ("neuropil_coefficient", "threshold", "noise")
_DEFORMATION = {"frames": np.int32, "grid": np.float32, "y_px": np.float32, "x_px": np.float32}
_DEFORMATION_PATHS = {"frames": "frame", "grid": "displacement_yx", "y_px": "y", "x_px": "x"}
QUALITY_NAMES = tuple(each.name for each in fields(Quality))
EVENT_NAMES = ("onset", "peak", "offset")

# Values of a trace in one chunk of the file: 64 KB, read whole to get one ROI.
_CHUNK_FRAMES = 16384
# Values copied at once, so that traces that lie on disk never come into memory whole.
_BLOCK_VALUES = 4_000_000
# What the directories of the file and the indices of its chunks take besides the values.
_OVERHEAD_BYTES, _OVERHEAD_SHARE = 2**18, 1.05


def write_result_file(path: Path, result: Result) -> None:
    """Write ``result.h5``.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        What a run found; traces may lie on disk, they are copied in blocks of ROIs.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    import h5py

    # HDF5 cannot let go of a file that it cannot write to its end: on a full disk it complains
    # for each part of it and may crash when the program ends. So the space is taken beforehand.
    n_bytes = _bytes_at_most(result)
    with path.open("wb") as reserved:
        reserve(reserved.fileno(), n_bytes, path)
    try:
        with h5py.File(path, "w") as file:
            reserve(file.id.get_vfd_handle(), n_bytes, path)
            _write(file, result)
            file.flush()
            n_used = file.id.get_filesize()
    except RuntimeError as error:
        # HDF5 reports a failed flush (a disk that filled meanwhile) this way.
        raise OSError(str(error)) from error
    os.truncate(path, min(n_used, path.stat().st_size))


def _bytes_at_most(result: Result) -> int:
    """Size of the file if nothing in it could be packed, in bytes."""
    n_rois, n_frames, n_pixels = len(result.rois), result.n_frames, result.valid.size
    text = sum(4 * len(words) + 100 for words in (*result.rois.ids, *result.rois.reasons))
    n_values = (
        (4 * len(TRACE_NAMES) + 1) * n_rois * n_frames  # traces and raster
        + 16 * result.rois.footprints.nnz
        + (4 * (len(result.projections) + 2) + 1) * n_pixels  # maps, labels, valid
        + 21 * n_frames  # times, shifts, confidence, flags
        + _deformation_bytes(result.motion)
        + 44 * len(result.events)
        + (64 + 4 * len(QUALITY_NAMES)) * n_rois
        + len(result.parts) * (5 * n_pixels + n_rois + 200)
    )
    return int(_OVERHEAD_SHARE * (n_values + text)) + _OVERHEAD_BYTES


def _deformation_bytes(motion: Motion) -> int:
    own = motion.deformation
    return 0 if own is None else 4 * (own.grid.size + len(own.frames) + sum(own.grid.shape)) + 2048


def _write(file: Any, result: Result) -> None:
    rois, events, motion = result.rois, result.events, result.motion
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["name"] = _text(result.name)
    file.attrs["frame_rate_hz"] = float(result.frame_rate_hz)
    file.attrs["diameter_px"] = float(result.diameter_px)
    file.attrs["frame_shape"] = np.array(rois.frame_shape, np.int64)
    if result.pixel_size_um is not None:
        file.attrs["pixel_size_um"] = float(result.pixel_size_um)
    file.create_dataset("time_s", data=np.asarray(result.times_s, np.float64))

    _write_rois(file, rois, events)
    for name in TRACE_NAMES:
        _per_roi(file, f"traces/{name}", getattr(result.traces, name), np.float32)
    for name in PER_ROI_NAMES:
        _dense(file, f"traces/{name}", np.asarray(getattr(result.traces, name), np.float32))
    _per_roi(file, "raster", result.raster, np.uint8)

    _dense(file, "events/roi", np.asarray(events.roi, np.int32))
    for name in EVENT_NAMES:
        frames = np.asarray(getattr(events, name), np.int32)
        _dense(file, f"events/{name}", frames)
        _dense(file, f"events/{name}_s", np.asarray(result.times_s, np.float64)[frames])
    _dense(file, "events/amplitude", np.asarray(events.amplitude, np.float32))

    _write_motion(file, motion)
    _dense(file, "images/probability", np.asarray(result.probability, np.float32))
    _dense(file, "images/valid", np.asarray(result.valid, np.uint8))
    _dense(file, "images/labels", rois.label_image())
    file.create_group("images/projections")
    for name, image in result.projections.items():
        _dense(file, f"images/projections/{name}", np.asarray(image, np.float32))
    if result.parts:
        _write_parts(file, result.parts, rois.ids)


def _write_rois(file: Any, rois: RoiSet, events: Events) -> None:
    columns = rois.frame_shape[1]
    footprints = rois.footprints
    indices = np.asarray(footprints.indices)
    _strings(file, "rois/id", rois.ids)
    _strings(file, "rois/reason", rois.reasons)
    _dense(file, "rois/accepted", np.asarray(rois.accepted, np.uint8))
    _dense(file, "rois/label", np.asarray(rois.labels, np.int32))
    _dense(file, "rois/score", np.asarray(rois.score, np.float32))
    _dense(file, "rois/snr", np.asarray(rois.snr, np.float32))
    if rois.quality is not None:
        for name in QUALITY_NAMES:
            values = np.asarray(getattr(rois.quality, name), np.float32)
            _dense(file, f"rois/quality/{name}", values)
    _dense(file, "rois/area_px", np.asarray(rois.area_px, np.int32))
    _dense(file, "rois/centroid_yx", rois.centroids)
    _dense(file, "rois/n_events", events.count(len(rois)))
    owner = np.repeat(np.arange(len(rois), dtype=np.int32), np.diff(footprints.indptr))
    _dense(file, "rois/pixels/roi", owner)
    _dense(file, "rois/pixels/y", (indices // columns).astype(np.int32))
    _dense(file, "rois/pixels/x", (indices % columns).astype(np.int32))
    _dense(file, "rois/pixels/weight", np.asarray(footprints.data, np.float32))


def _write_motion(file: Any, motion: Motion) -> None:
    _dense(file, "motion/shift_yx", np.asarray(motion.shifts, np.float32))
    _dense(file, "motion/confidence", np.asarray(motion.confidence, np.float32))
    _dense(file, "motion/flags", np.asarray(motion.flags, np.uint8))
    if motion.deformation is not None:
        for name, dtype in _DEFORMATION.items():
            values = np.asarray(getattr(motion.deformation, name), dtype)
            _dense(file, f"motion/deformation/{_DEFORMATION_PATHS[name]}", values)


def _write_parts(file: Any, parts: tuple[Part, ...], ids: tuple[str, ...]) -> None:
    _strings(file, "recordings/name", tuple(part.name for part in parts))
    found = np.array([[name in set(part.found) for name in ids] for part in parts], np.uint8)
    for name, values in (
        ("first_frame", np.array([part.start for part in parts], np.int32)),
        ("n_frames", np.array([part.n_frames for part in parts], np.int32)),
        ("offset_yx", np.array([part.offset_px for part in parts], np.float32)),
        ("correlation", np.array([part.correlation for part in parts], np.float32)),
        ("found", found.reshape(len(parts), len(ids))),
        ("valid", np.array([part.valid for part in parts], np.uint8)),
        ("mean", np.array([part.mean for part in parts], np.float32)),
    ):
        _dense(file, f"recordings/{name}", values)


def _text(value: str) -> str:
    """Drop what HDF5 cannot hold: NUL and file names that are not Unicode."""
    return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _strings(file: Any, name: str, values: tuple[str, ...]) -> None:
    import h5py

    data = np.array([_text(value) for value in values], dtype=object)
    file.create_dataset(name, data=data, shape=(len(values),), dtype=h5py.string_dtype("utf-8"))


def _dense(file: Any, name: str, data: AnyArray) -> None:
    packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    file.create_dataset(name, data=data, **(packed if data.nbytes > 65536 else {}))


def _per_roi(file: Any, name: str, data: AnyArray, dtype: type) -> None:
    """Write an array (n_rois, n_frames) in blocks of ROIs, chunked by ROI."""
    n_rois, n_frames = data.shape
    if n_rois == 0 or n_frames == 0:
        file.create_dataset(name, shape=data.shape, dtype=dtype)
        return
    dataset = file.create_dataset(
        name,
        shape=data.shape,
        dtype=dtype,
        chunks=(1, min(n_frames, _CHUNK_FRAMES)),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    step = max(1, _BLOCK_VALUES // n_frames)
    for start in range(0, n_rois, step):
        stop = min(start + step, n_rois)
        dataset[start:stop] = np.asarray(data[start:stop], dtype)
        release_pages(data)


class StoredArray:
    """Rows of a data set that are read from the file when they are asked for.

    Parameters
    ----------
    path : Path
        The file, which may go between two readings but not change.
    name : str
        Path of the data set in it.
    dtype : type
        Type of the values.
    shape : tuple of int
        Its shape.
    """

    def __init__(self, path: Path, name: str, dtype: type, shape: tuple[int, ...]) -> None:
        self._path, self._name = path, name
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.shape = shape
        self.ndim = len(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> AnyArray:
        import h5py

        try:
            with h5py.File(self._path, "r") as file:
                return np.asarray(file[self._name][key], self.dtype)
        except (OSError, RuntimeError, KeyError) as error:
            msg = f"{self._path} can no longer be read ({error}); was it moved or replaced?"
            raise ResultError(msg) from error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.asarray(self[()], dtype)


def read_result_file(path: Path, info: RunInfo, *, in_memory: bool = True) -> Result:
    """Read ``result.h5``.

    Parameters
    ----------
    path : Path
        The file.
    info : RunInfo
        How the result came about, from ``run.json``.
    in_memory : bool, default: True
        Read the arrays (n_rois, n_frames) too; if not, they are `StoredArray`.

    Returns
    -------
    Result
        What was saved.

    Raises
    ------
    ResultError
        If the file is absent, damaged, incomplete or of a newer version.
    """
    with _result_file(path) as file:
        return _read(file, info, None if in_memory else path)


@dataclass(frozen=True, eq=False)
class ResultMaps:
    """What a result shows in a picture: all of it but traces and times.

    Attributes
    ----------
    rois : RoiSet
        All candidates.
    n_events : ndarray of int32, shape (n_rois,)
        Number of events of each.
    probability : ndarray of float32, shape (n_rows, n_columns)
        As in `Result`.
    projections : dict of ndarray of float32, shape (n_rows, n_columns)
        As in `Result`.
    valid : ndarray of bool, shape (n_rows, n_columns)
        As in `Result`.
    frame_rate_hz : float
        Frames per second.
    pixel_size_um : float or None
        Side of a pixel in µm, where known.
    name : str
        Name of the recording.
    """

    rois: RoiSet
    n_events: LabelArray
    probability: FloatArray
    projections: dict[str, FloatArray]
    valid: BoolArray
    frame_rate_hz: float
    pixel_size_um: float | None
    name: str


def read_map_file(path: Path) -> ResultMaps:
    """Read of ``result.h5`` what a picture needs, which is small at any length.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ResultMaps
        ROIs and images.

    Raises
    ------
    ResultError
        If the file is absent, damaged, incomplete or of a newer version.
    """
    with _result_file(path) as file:
        rois = _read_rois(file)
        return ResultMaps(
            rois=rois,
            n_events=_take(file, "rois/n_events", np.int32, (len(rois),)),
            probability=_take(file, "images/probability", np.float32, rois.frame_shape),
            projections=_read_projections(file, rois.frame_shape),
            valid=_take(file, "images/valid", np.bool_, rois.frame_shape),
            frame_rate_hz=_positive(file, "frame_rate_hz"),
            pixel_size_um=_positive(file, "pixel_size_um")
            if "pixel_size_um" in file.attrs
            else None,
            name=str(file.attrs["name"]),
        )


@contextmanager
def _result_file(path: Path) -> Iterator[Any]:
    """Open ``result.h5``; what is wrong with it inside the ``with`` block is one line.

    Raises
    ------
    ResultError
        If the file is absent, damaged, incomplete or of a newer version.
    """
    import h5py

    if not path.is_file():
        msg = f"{path} is missing; the result folder is incomplete. Run the recording again."
        raise ResultError(msg)
    try:
        with h5py.File(path, "r") as file:
            _check_version(file, path)
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, IndexError, TypeError) as error:
        msg = f"{path} is damaged or incomplete ({error}). Run the recording again."
        raise ResultError(msg) from error


def _check_version(file: Any, path: Path) -> None:
    if file.attrs.get("format") != FORMAT:
        msg = f"{path} was not written by cocuyo; give a folder that cocuyo run made."
        raise ResultError(msg)
    version = int(file.attrs["format_version"])
    if version > FORMAT_VERSION:
        msg = (
            f"{path} has format version {version}, this cocuyo reads up to {FORMAT_VERSION}; "
            "update cocuyo."
        )
        raise ResultError(msg)


def _take(file: Any, name: str, dtype: type, shape: tuple[int, ...]) -> Any:
    data: AnyArray = np.asarray(file[name][()], dtype)
    if data.shape != shape:
        msg = f"{name} has shape {data.shape}, expected {shape}"
        raise ValueError(msg)
    return data


def _positive(file: Any, name: str) -> float:
    value = float(file.attrs[name])
    if not (np.isfinite(value) and value > 0):
        msg = f"{name} is {value}"
        raise ValueError(msg)
    return value


def _read_rois(file: Any) -> RoiSet:
    rows, columns = (int(n) for n in file.attrs["frame_shape"])
    ids = _read_strings(file, "rois/id")
    n_rois = len(ids)
    owner = np.asarray(file["rois/pixels/roi"][()], np.int64)
    n_pixels = (len(owner),)
    y = _take(file, "rois/pixels/y", np.int32, n_pixels)
    x = _take(file, "rois/pixels/x", np.int32, n_pixels)
    if owner.size and (
        np.any(np.diff(owner) < 0)
        or owner[0] < 0
        or owner[-1] >= n_rois
        or min(y.min(), x.min()) < 0
        or y.max() >= rows
        or x.max() >= columns
    ):
        msg = "rois/pixels are out of order or outside the frame"
        raise ValueError(msg)
    if min(rows, columns) < 1:
        msg = f"frames of {rows} x {columns} pixels cannot be"
        raise ValueError(msg)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_rois))])
    footprints = sparse.csr_array(
        (
            _take(file, "rois/pixels/weight", np.float32, n_pixels),
            (y.astype(np.int64) * columns + x).astype(np.int32),
            indptr.astype(np.int32),
        ),
        shape=(n_rois, rows * columns),
    )
    return RoiSet(
        footprints=footprints,
        frame_shape=(rows, columns),
        ids=ids,
        accepted=_take(file, "rois/accepted", np.bool_, (n_rois,)),
        reasons=_read_strings(file, "rois/reason"),
        score=_take(file, "rois/score", np.float32, (n_rois,)),
        snr=_take(file, "rois/snr", np.float32, (n_rois,)),
        quality=_read_quality(file, n_rois),
    )


def _read_quality(file: Any, n_rois: int) -> Quality | None:
    """Results of earlier versions have none."""
    if "rois/quality" not in file:
        return None
    return Quality(
        **{n: _take(file, f"rois/quality/{n}", np.float32, (n_rois,)) for n in QUALITY_NAMES}
    )


def _read_projections(file: Any, frame_shape: tuple[int, int]) -> dict[str, FloatArray]:
    return {
        name: _take(file, f"images/projections/{name}", np.float32, frame_shape)
        for name in file["images/projections"]
    }


def _read_deformation(file: Any) -> Deformation | None:
    if "motion/deformation" not in file:
        return None
    arrays: dict[str, Any] = {
        name: np.asarray(file[f"motion/deformation/{_DEFORMATION_PATHS[name]}"][()], dtype)
        for name, dtype in _DEFORMATION.items()
    }
    frames, grid, y, x = (arrays[name] for name in _DEFORMATION)
    if grid.shape != (len(frames), len(y), len(x), 2) or grid.size == 0:
        msg = f"motion/deformation has {grid.shape} displacements"
        raise ValueError(msg)
    return Deformation(frames, grid, y, x)


def _read(file: Any, info: RunInfo, left_at: Path | None) -> Result:
    """Read everything; arrays (n_rois, n_frames) stay on disk where `left_at` names the file."""
    rois = _read_rois(file)
    rows, columns = rois.frame_shape
    times = np.asarray(file["time_s"][()], np.float64)
    n_rois, n_frames = len(rois), len(times)
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        msg = "the times of the frames are not finite or do not rise"
        raise ValueError(msg)

    def take(name: str, dtype: type, shape: tuple[int, ...]) -> Any:
        if left_at is None or shape != (n_rois, n_frames):
            return _take(file, name, dtype, shape)
        if file[name].shape != shape:
            msg = f"{name} has shape {file[name].shape}, expected {shape}"
            raise ValueError(msg)
        return StoredArray(left_at, name, dtype, shape)

    n_events = (len(file["events/roi"]),)
    event_roi = take("events/roi", np.int32, n_events)
    event_frames = {name: take(f"events/{name}", np.int32, n_events) for name in EVENT_NAMES}
    if event_roi.size and (
        event_roi.min() < 0
        or event_roi.max() >= n_rois
        or any(f.min() < 0 or f.max() >= n_frames for f in event_frames.values())
    ):
        msg = "events name ROIs or frames that do not exist"
        raise ValueError(msg)
    return Result(
        rois=rois,
        traces=Traces(
            **{n: take(f"traces/{n}", np.float32, (n_rois, n_frames)) for n in TRACE_NAMES},
            **{n: take(f"traces/{n}", np.float32, (n_rois,)) for n in PER_ROI_NAMES},
        ),
        raster=take("raster", np.bool_, (n_rois, n_frames)),
        events=Events(
            roi=event_roi,
            **event_frames,
            amplitude=take("events/amplitude", np.float32, n_events),
        ),
        probability=take("images/probability", np.float32, (rows, columns)),
        projections=_read_projections(file, rois.frame_shape),
        valid=take("images/valid", np.bool_, (rows, columns)),
        motion=Motion(
            shifts=take("motion/shift_yx", np.float32, (n_frames, 2)),
            confidence=take("motion/confidence", np.float32, (n_frames,)),
            flags=take("motion/flags", np.uint8, (n_frames,)),
            deformation=_read_deformation(file),
        ),
        times_s=times,
        frame_rate_hz=_positive(file, "frame_rate_hz"),
        pixel_size_um=_positive(file, "pixel_size_um") if "pixel_size_um" in file.attrs else None,
        diameter_px=_positive(file, "diameter_px"),
        name=str(file.attrs["name"]),
        info=info,
        parts=_read_parts(file, rois, n_frames) if "recordings" in file else (),
    )


def _read_parts(file: Any, rois: RoiSet, n_frames: int) -> tuple[Part, ...]:
    names = _read_strings(file, "recordings/name")
    n = len(names)
    starts = _take(file, "recordings/first_frame", np.int32, (n,)).tolist()
    lengths = _take(file, "recordings/n_frames", np.int32, (n,)).tolist()
    if starts != np.cumsum([0, *lengths])[:-1].tolist() or sum(lengths) != n_frames:
        msg = "the recordings do not follow one another"
        raise ValueError(msg)
    offsets = _take(file, "recordings/offset_yx", np.float32, (n, 2)).tolist()
    correlation = _take(file, "recordings/correlation", np.float32, (n,)).tolist()
    found = _take(file, "recordings/found", np.bool_, (n, len(rois)))
    valid = _take(file, "recordings/valid", np.bool_, (n, *rois.frame_shape))
    mean = _take(file, "recordings/mean", np.float32, (n, *rois.frame_shape))
    return tuple(
        Part(
            name=names[i],
            start=starts[i],
            stop=starts[i] + lengths[i],
            offset_px=(offsets[i][0], offsets[i][1]),
            correlation=correlation[i],
            valid=valid[i],
            mean=mean[i],
            found=tuple(rois.ids[k] for k in np.flatnonzero(found[i])),
        )
        for i in range(n)
    )


def _read_strings(file: Any, name: str) -> tuple[str, ...]:
    return tuple(str(text) for text in file[name].asstr()[()])

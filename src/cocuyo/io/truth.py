"""Cells of a field of view, read from any file that states them."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from cocuyo.core import (
    NO_PIXEL,
    AnyArray,
    BoolArray,
    Periods,
    Regions,
    ResultError,
    RoiSet,
    SettingsError,
)
from cocuyo.io.caiman import read_caiman
from cocuyo.io.imagej import draw_roi_set, read_roi_set
from cocuyo.io.minian import is_minian, read_minian
from cocuyo.io.recordings import identity_of_files
from cocuyo.io.results import is_result, load_result
from cocuyo.io.sources import decode_picture
from cocuyo.io.suite2p import find_plane, read_suite2p
from cocuyo.io.tiff import quiet_tifffile

_PICTURES = {".tif", ".tiff", ".png", ".bmp"}
_ROI_SETS = {".zip", ".roi"}
_HDF5 = {".h5", ".hdf5"}
_PLANE_FILES = ("stat.npy", "iscell.npy", "ops.npy", "db.npy", "settings.npy")
"""What ROIs are read from in a folder of Suite2p, where the movie may lie too."""


def load_ground_truth(path: str | Path, *, frame_shape: tuple[int, int] | None = None) -> Regions:
    """Read cells: a truth, a person's drawing, or the result of any program.

    Parameters
    ----------
    path : str or Path
        One of: a result folder of cocuyo; an ``.npz`` with ``footprints`` (n, Y, X) and
        optionally ``traces`` and ``raster`` (n, T), ``spikes`` (counts (n, T), or rows of
        cell and second), ``events`` (rows of cell, first and last second), ``mask``
        (Y, X), ``fps`` and ``ignore`` (n,); a TIFF or PNG of labels or of a mask; an ROI
        set of ImageJ (``.zip``, ``.roi``); the folder of a plane of Suite2p; an HDF5 file of
        CaImAn; a folder or ``.nc`` file of minian. Nothing pickled is executed.
    frame_shape : tuple of int, optional
        Rows and columns of the recording. An ROI set needs it; others are checked.

    Returns
    -------
    Regions
        The cells. A weighted footprint of an ``.npz``, of CaImAn or minian is cut at half of
        its maximum; the pixels of ROIs of a result folder or of Suite2p stay as they are, their
        rejected candidates are ignored. A picture of one value besides 0 (255, or 1 in 8 bits)
        is a mask without cells; any other is a picture of labels.

    Raises
    ------
    ResultError
        If the file is absent, cannot be read, or does not fit the frame.
    """
    path = Path(path)
    if not path.exists():
        msg = (
            f"{path} does not exist; give a result of cocuyo, Suite2p, CaImAn or minian, an .npz, "
            "a label picture or an ROI set."
        )
        raise ResultError(msg)
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            regions = _from_folder(path)
        elif is_minian(path):
            regions = read_minian(path)
        elif suffix in _HDF5:
            regions = read_caiman(path)
        elif suffix == ".npz":
            regions = _from_npz(path)
        elif suffix in _PICTURES:
            regions = _from_picture(path)
        elif suffix in _ROI_SETS:
            regions = _from_roi_set(path, frame_shape)
        else:
            msg = (
                f"{path} is of no kind that states cells; give a result of cocuyo, Suite2p, CaImAn "
                "or minian, an .npz, a TIFF or PNG of labels or of a mask, or an ROI set of ImageJ."
            )
            raise ResultError(msg)
    except SettingsError as error:
        msg = f"{path}: {error}"
        raise ResultError(msg) from error
    if frame_shape is not None:
        _check_shape(path, regions.frame_shape, frame_shape)
    return regions


def _check_shape(path: Path, shape: tuple[int, int], frame_shape: tuple[int, int]) -> None:
    if shape != tuple(frame_shape):
        msg = (
            f"{path} has {shape[0]} x {shape[1]} pixels (rows x columns), the recording "
            f"{frame_shape[0]} x {frame_shape[1]}; give the cells of this recording."
        )
        raise ResultError(msg)


def read_rois(path: str | Path, *, frame_shape: tuple[int, int]) -> RoiSet:
    """Read ROIs whose traces are wanted: drawn by hand, or of a result.

    Names stay: the ids of a result folder, the names of an ROI set (a name that is there twice
    gets a number, with a warning). Labels give ``roi_0001`` for label 1 and so on.

    Parameters
    ----------
    path : str or Path
        One of: a result folder of cocuyo; a TIFF or PNG of labels; an ROI set of ImageJ
        (``.zip``, ``.roi``); an ``.npz`` with ``footprints`` (n, Y, X) and optionally
        ``ignore`` (n,); a result of Suite2p, CaImAn or minian.
    frame_shape : tuple of int
        Rows and columns of the recording.

    Returns
    -------
    RoiSet
        The ROIs in the order of the file. Weights are those of the file, 1 where it has none; an
        ``.npz`` and results of CaImAn and minian are cut at half of each maximum. Not accepted are
        the rejected ones of a result, the ignored ones of an ``.npz``, and ROIs without area or
        outside the frame, each with a reason.

    Raises
    ------
    ResultError
        If the file is absent, cannot be read, holds no ROI, or belongs to frames of another
        size.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _ROI_SETS and path.is_file():
        rois = _drawn_rois(path, frame_shape)
    elif suffix in _PICTURES and path.is_file():
        rois = _labelled_rois(path)
    elif path.is_dir() and _is_cocuyos(path):
        rois = load_result(path).rois
    else:
        regions = load_ground_truth(path)
        if regions.footprints is None:
            msg = f"{path} holds a mask only, which does not part the ROIs; give footprints."
            raise ResultError(msg)
        word = "is ignored in the file" if path.suffix == ".npz" else "was rejected there"
        given = [word if ignored else "" for ignored in regions.ignored]
        rois = RoiSet.given(
            regions.footprints, regions.frame_shape, accepted=~regions.ignored, reasons=given
        )
    _check_shape(path, rois.frame_shape, frame_shape)
    if len(rois) == 0:
        msg = f"{path} holds no ROI; give one with at least one."
        raise ResultError(msg)
    return rois


def is_foreign(path: str | Path) -> bool:
    """Tell whether ROIs may be read from a path that is no result of cocuyo.

    Parameters
    ----------
    path : str or Path
        A file or folder.

    Returns
    -------
    bool
        True for a folder of Suite2p (also the one above ``suite2p``) or minian, and for any file:
        `read_rois` refuses those without ROIs.

    Raises
    ------
    ResultError
        If it holds several planes of Suite2p.
    """
    path = Path(path)
    return path.is_file() or (path.is_dir() and not _is_cocuyos(path))


def rois_identity(path: str | Path) -> dict[str, Any]:
    """Say which file or folder gave the ROIs, so that a result can be traced back to it.

    Parameters
    ----------
    path : str or Path
        What `read_rois` read.

    Returns
    -------
    dict
        ``path``, ``bytes`` and ``sha256`` as of `file_identity`, and ``role``. Of a folder only the
        files that state the ROIs count; of a result of cocuyo that is its ``result.h5``.

    Raises
    ------
    RecordingError
        If a file cannot be read.
    """
    path = Path(path)
    files = [path]
    if path.is_dir() and is_result(path):
        path = path / "result.h5"
        files = [path]
    elif path.is_dir() and is_minian(path):
        files = sorted(file for file in (path / "A.zarr").rglob("*") if file.is_file())
    elif path.is_dir() and (plane := find_plane(path)) is not None:
        files = [plane / name for name in _PLANE_FILES if (plane / name).is_file()]
    return {**identity_of_files(path, files), "role": "rois"}


def _drawn_rois(path: Path, frame_shape: tuple[int, int]) -> RoiSet:
    drawn = draw_roi_set(path, frame_shape)
    if drawn and all(roi.lack == NO_PIXEL for roi in drawn):
        msg = (
            f"No ROI of {path} holds a pixel of a frame of {frame_shape[0]} x {frame_shape[1]} "
            "(rows x columns); is it the set of another recording?"
        )
        raise ResultError(msg)
    pixels = [roi.pixels for roi in drawn]
    footprints = _csr(
        [0, *np.cumsum([p.size for p in pixels]).tolist()],
        list(pixels),
        [np.ones(p.size) for p in pixels],
        frame_shape[0] * frame_shape[1],
    )
    ids = _unique_ids([roi.name for roi in drawn], path)
    return RoiSet.given(footprints, frame_shape, ids=ids, reasons=[roi.lack for roi in drawn])


def _unique_ids(names: list[str], path: Path) -> list[str]:
    """Make ids of names: one line each, none empty, none twice."""
    ids: dict[str, None] = {}
    repeated = []
    for i, name in enumerate(names):
        text = "".join(letter if letter.isprintable() else " " for letter in name)
        first = " ".join(text.split()) or f"roi_{i + 1:04d}"
        unique, n = first, 2
        while unique in ids or unique == "time_s":  # the first column of a table of traces
            unique, n = f"{first}_{n}", n + 1
        if unique != first:
            repeated.append(f"{first!r} is called {unique!r}")
        ids[unique] = None
    if repeated:
        warnings.warn(
            f"Each ROI needs a name of its own; in {path} {', '.join(repeated)}.", stacklevel=4
        )
    return list(ids)


def _labelled_rois(path: Path) -> RoiSet:
    image = _read_picture(path)
    values, footprints = _label_footprints(image, path)
    white = 255 if image.dtype.kind not in "u" else np.iinfo(image.dtype).max
    if image.dtype == np.bool_ or values.tolist() == [white]:
        msg = (
            f"{path} is a mask: one value does not say which pixels are one ROI. Give a picture "
            "of labels (0 outside, 1, 2, ... in the ROIs)."
        )
        raise ResultError(msg)
    ids = [f"roi_{int(value):04d}" for value in values]
    return RoiSet.given(footprints, (int(image.shape[0]), int(image.shape[1])), ids=ids)


def read_mask(path: str | Path) -> BoolArray:
    """Read a picture as a mask.

    Parameters
    ----------
    path : str or Path
        A TIFF or PNG; every value but 0 belongs to the mask.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        The mask.

    Raises
    ------
    ResultError
        If the file is absent or is no single grey picture.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path} does not exist; give a TIFF or PNG."
        raise ResultError(msg)
    return np.asarray(_read_picture(path) != 0)


def _is_cocuyos(folder: Path) -> bool:
    """Tell our result from those of others; what is of nobody is for us to refuse."""
    return is_result(folder) or not (is_minian(folder) or find_plane(folder))


def _from_folder(folder: Path) -> Regions:
    if _is_cocuyos(folder):
        return _from_result(folder)
    if is_minian(folder):
        return read_minian(folder)
    plane = find_plane(folder)
    return read_suite2p(plane if plane is not None else folder)


def _from_result(folder: Path) -> Regions:
    result = load_result(folder)
    events, times = result.events, result.times_s
    return Regions(
        frame_shape=result.rois.frame_shape,
        footprints=result.rois.footprints,
        ignore=~result.rois.accepted,
        ignored_are="rejected candidates",
        traces=result.traces.delta_f_over_f,
        raster=result.raster,
        events=Periods(events.roi, times[events.onset], times[events.offset]),
        frame_rate_hz=result.frame_rate_hz,
        times_s=times,
        name=result.name,
    )


def _from_npz(path: Path) -> Regions:
    if not zipfile.is_zipfile(path):  # NumPy would take it for a pickle, or leave it open
        msg = (
            f"{path} cannot be read as .npz (it is no such archive, or is cut); save it with "
            "numpy.savez_compressed."
        )
        raise ResultError(msg)
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in _NPZ_NAMES if name in file.files}
            found = ", ".join(file.files) or "nothing"
    except Exception as error:  # readers raise whatever they like on bad bytes
        msg = f"{path} cannot be read as .npz ({error}); save it with numpy.savez_compressed."
        raise ResultError(msg) from error
    if "footprints" not in content and "mask" not in content:
        msg = f"{path} holds {found}; it needs footprints (n, Y, X)."
        raise ResultError(msg)
    rate = None
    if "fps" in content:
        rate = float(content["fps"].reshape(-1)[0]) if content["fps"].size == 1 else np.nan
        if not (np.isfinite(rate) and rate > 0):
            msg = f"fps of {path} must be one positive number of frames per second."
            raise ResultError(msg)
    mask = content.get("mask")
    if "footprints" not in content:
        mask = np.asarray(content["mask"]) != 0
        return Regions(_image_shape(mask, path), mask=mask, frame_rate_hz=rate, name=path.stem)
    footprints = content["footprints"]
    if footprints.ndim != 3 or footprints.dtype.kind not in "buif":
        msg = (
            f"footprints of {path} have shape {footprints.shape} and type {footprints.dtype}; "
            "they need numbers with the axes (n, Y, X)."
        )
        raise ResultError(msg)
    n_rois = len(footprints)
    ignore, unscored = content.get("ignore"), content.get("ignore_pixels")
    return Regions(
        frame_shape=(int(footprints.shape[1]), int(footprints.shape[2])),
        footprints=_half_maximum(footprints, path),
        mask=None if mask is None else np.asarray(mask != 0),
        ignore=None if ignore is None else np.asarray(ignore, np.bool_),
        ignore_pixels=None if unscored is None else np.asarray(unscored, np.bool_),
        traces=_per_cell(content, "traces", n_rois, path),
        raster=_raster(content, n_rois, path),
        spikes=_spikes(content, n_rois, rate, path),
        events=_events(content, n_rois, path),
        frame_rate_hz=rate,
        name=path.stem,
    )


_NPZ_NAMES = (
    "footprints",
    "mask",
    "ignore",
    "ignore_pixels",
    "traces",
    "raster",
    "spikes",
    "events",
    "fps",
)


def _image_shape(image: AnyArray, path: Path) -> tuple[int, int]:
    if image.ndim != 2:
        msg = f"mask of {path} has shape {image.shape}; it needs the axes (Y, X)."
        raise ResultError(msg)
    return int(image.shape[0]), int(image.shape[1])


def _half_maximum(footprints: AnyArray, path: Path) -> sparse.csr_array:
    """Keep the pixels of at least half the maximum, with weights in (0, 1]."""
    indptr, indices, weights = [0], [], []
    for i, footprint in enumerate(footprints):
        flat = np.asarray(footprint, np.float32).ravel()
        top = float(flat.max()) if flat.size else 0.0
        if not (np.isfinite(flat).all() and top > 0):
            msg = (
                f"Footprint {i} of {path} is empty or not finite; every cell needs a pixel "
                "with a positive weight."
            )
            raise ResultError(msg)
        kept = np.flatnonzero(flat >= top / 2)
        indices.append(kept)
        weights.append(flat[kept] / top)
        indptr.append(indptr[-1] + kept.size)
    return _csr(indptr, indices, weights, footprints.shape[1] * footprints.shape[2])


def _csr(
    indptr: list[int], indices: list[AnyArray], weights: list[AnyArray], n_pixels: int
) -> sparse.csr_array:
    return sparse.csr_array(
        (
            np.concatenate([*weights, np.zeros(0)]).astype(np.float32),
            np.concatenate([*indices, np.zeros(0)]).astype(np.int32),
            np.array(indptr, np.int32),
        ),
        shape=(len(indptr) - 1, n_pixels),
    )


def _per_cell(content: dict[str, Any], name: str, n_rois: int, path: Path) -> Any:
    if name not in content:
        return None
    values = content[name]
    if values.ndim != 2 or len(values) != n_rois or values.dtype.kind not in "buif":
        msg = f"{name} of {path} has shape {values.shape}; it needs ({n_rois}, n_frames)."
        raise ResultError(msg)
    return values if values.dtype == np.bool_ else np.asarray(values, np.float32)


def _raster(content: dict[str, Any], n_rois: int, path: Path) -> BoolArray | None:
    values = _per_cell(content, "raster", n_rois, path)
    return None if values is None else np.asarray(values != 0)


def _spikes(content: dict[str, Any], n_rois: int, rate: float | None, path: Path) -> Periods | None:
    if "spikes" not in content:
        return None
    spikes = content["spikes"]
    frames = {content[k].shape[1] for k in ("traces", "raster") if k in content}
    is_rows = spikes.ndim == 2 and spikes.shape[1] == 2 and frames != {2}
    if spikes.ndim == 2 and len(spikes) == n_rois and not is_rows:
        if rate is None:
            msg = f"spikes of {path} are counted in frames, so it needs fps as well."
            raise ResultError(msg)
        counts = spikes.astype(np.int64)
        roi, frame = np.nonzero(counts > 0)
        times = counts[roi, frame]
        return Periods.from_times(np.repeat(roi, times), np.repeat(frame, times) / rate)
    if not is_rows:
        msg = (
            f"spikes of {path} have shape {spikes.shape}; they need ({n_rois}, n_frames) "
            "with counts, or (n_spikes, 2) with cell and second."
        )
        raise ResultError(msg)
    return Periods.from_times(_cells(spikes[:, 0], n_rois, "spikes", path), spikes[:, 1])


def _events(content: dict[str, Any], n_rois: int, path: Path) -> Periods | None:
    if "events" not in content:
        return None
    events = np.asarray(content["events"], np.float64)
    if events.ndim != 2 or events.shape[1] != 3:
        msg = (
            f"events of {path} have shape {events.shape}; they need (n_events, 3) with cell, "
            "first and last second."
        )
        raise ResultError(msg)
    return Periods(_cells(events[:, 0], n_rois, "events", path), events[:, 1], events[:, 2])


def _cells(values: AnyArray, n_rois: int, name: str, path: Path) -> Any:
    cells = np.asarray(values)
    if cells.size and (
        not np.array_equal(cells, np.round(cells)) or cells.min() < 0 or cells.max() >= n_rois
    ):
        msg = f"{name} of {path} name cells outside 0 to {n_rois - 1}."
        raise ResultError(msg)
    return cells.astype(np.int32)


def _from_picture(path: Path) -> Regions:
    image = _read_picture(path)
    values = np.unique(image)
    values = values[values != 0]
    shape = (int(image.shape[0]), int(image.shape[1]))
    byte_mask = image.dtype == np.uint8 and values.tolist() in ([], [1], [255])
    if image.dtype == np.bool_ or byte_mask:
        return Regions(shape, mask=np.asarray(image != 0), name=path.stem)
    return Regions(shape, footprints=_label_footprints(image, path)[1], name=path.stem)


def _label_footprints(image: AnyArray, path: Path) -> tuple[AnyArray, sparse.csr_array]:
    """Values of the labels, rising, and the pixels of each."""
    values, sizes = np.unique(image, return_counts=True)
    values, sizes = values[values != 0], sizes[values != 0]
    if image.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
        msg = (
            f"{path} holds fractions; give a picture of whole labels or a mask "
            "(a probability must be cut at its threshold first)."
        )
        raise ResultError(msg)
    if values.size and values[0] < 0:
        msg = f"{path} holds negative labels; give 0 outside and 1, 2, ... in the cells."
        raise ResultError(msg)
    order = np.argsort(image.ravel(), kind="stable")[image.size - int(sizes.sum()) :]
    indptr = [0, *np.cumsum(sizes).tolist()]
    return values, _csr(indptr, [order], [np.ones(order.size)], image.size)


def _read_picture(path: Path) -> AnyArray:
    try:
        image = _decode(path)
    except Exception as error:  # decoders raise whatever they like on bad bytes
        msg = f"{path} cannot be read as a picture ({error}); save it again as TIFF or PNG."
        raise ResultError(msg) from error
    if image.ndim == 3 and image.shape[2] in (3, 4):
        # A grey picture saved in colour; a fourth channel is its opacity.
        if np.any(image[:, :, 1:3] != image[:, :, :1]):
            msg = f"{path} is in colour; save labels or the mask in grey."
            raise ResultError(msg)
        image = image[:, :, 0]
    if image.ndim != 2 or image.size == 0:
        msg = f"{path} has shape {image.shape}; it needs a single picture (rows, columns)."
        raise ResultError(msg)
    return image


def _decode(path: Path) -> AnyArray:
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        with quiet_tifffile():
            return np.asarray(np.squeeze(tifffile.imread(path)))
    image = decode_picture(path)
    if image is None:
        msg = "it is damaged or of another format"
        raise ValueError(msg)
    return image


def _from_roi_set(path: Path, frame_shape: tuple[int, int] | None) -> Regions:
    if frame_shape is None:
        msg = (
            f"{path} does not say how large the picture is; give the recording "
            "(or frame_shape) with it."
        )
        raise ResultError(msg)
    _, masks = read_roi_set(path, frame_shape)
    pixels = [np.flatnonzero(mask) for mask in masks]
    indptr = [0, *np.cumsum([p.size for p in pixels]).tolist()] if pixels else [0]
    footprints = _csr(
        indptr, list(pixels), [np.ones(p.size) for p in pixels], frame_shape[0] * frame_shape[1]
    )
    return Regions((frame_shape[0], frame_shape[1]), footprints=footprints, name=path.stem)

"""Cells of a field of view, read from any file that states them."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from cocuyo.core import AnyArray, BoolArray, Periods, Regions, ResultError, SettingsError
from cocuyo.io.imagej import read_roi_set
from cocuyo.io.results import load_result
from cocuyo.io.sources import decode_picture
from cocuyo.io.tiff import quiet_tifffile

_PICTURES = {".tif", ".tiff", ".png", ".bmp"}
_ROI_SETS = {".zip", ".roi"}


def load_ground_truth(path: str | Path, *, frame_shape: tuple[int, int] | None = None) -> Regions:
    """Read cells: a truth, a person's drawing, or the result of any program.

    Parameters
    ----------
    path : str or Path
        One of: a result folder of cocuyo; an ``.npz`` with ``footprints`` (n, Y, X) and
        optionally ``traces`` and ``raster`` (n, T), ``spikes`` (counts (n, T), or rows of
        cell and second), ``events`` (rows of cell, first and last second), ``mask``
        (Y, X), ``fps`` and ``ignore`` (n,); a TIFF or PNG of labels or of a mask; an ROI
        set of ImageJ (``.zip``, ``.roi``).
    frame_shape : tuple of int, optional
        Rows and columns of the recording. An ROI set needs it; others are checked.

    Returns
    -------
    Regions
        The cells. A weighted footprint of an ``.npz`` is cut at half of its maximum; the
        pixels of a result folder's ROIs stay as they are, its rejected candidates are
        ignored. A picture of one value besides 0 (255, or 1 in 8 bits) is a mask without
        cells; any other is a picture of labels.

    Raises
    ------
    ResultError
        If the file is absent, cannot be read, or does not fit the frame.
    """
    path = Path(path)
    if not path.exists():
        msg = f"{path} does not exist; give a result folder, .npz, label picture or ROI set."
        raise ResultError(msg)
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            regions = _from_result(path)
        elif suffix == ".npz":
            regions = _from_npz(path)
        elif suffix in _PICTURES:
            regions = _from_picture(path)
        elif suffix in _ROI_SETS:
            regions = _from_roi_set(path, frame_shape)
        else:
            msg = (
                f"{path} is of no kind that states cells; give a result folder, .npz, "
                "a TIFF or PNG of labels or of a mask, or an ROI set of ImageJ."
            )
            raise ResultError(msg)
    except SettingsError as error:
        msg = f"{path}: {error}"
        raise ResultError(msg) from error
    if frame_shape is not None and regions.frame_shape != tuple(frame_shape):
        msg = (
            f"{path} has {regions.frame_shape[0]} x {regions.frame_shape[1]} pixels (rows x "
            f"columns), the recording {frame_shape[0]} x {frame_shape[1]}; give the cells of "
            "this recording."
        )
        raise ResultError(msg)
    return regions


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


def _from_result(folder: Path) -> Regions:
    result = load_result(folder)
    events, times = result.events, result.times_s
    return Regions(
        frame_shape=result.rois.frame_shape,
        footprints=result.rois.footprints,
        ignore=~result.rois.accepted,
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
    if image.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
        msg = (
            f"{path} holds fractions; give a picture of whole labels or a mask "
            "(a probability must be cut at its threshold first)."
        )
        raise ResultError(msg)
    if values.size and values[0] < 0:
        msg = f"{path} holds negative labels; give 0 outside and 1, 2, ... in the cells."
        raise ResultError(msg)
    flat = image.ravel()
    order = np.argsort(flat, kind="stable")
    order = order[flat[order] != 0]
    sizes = np.searchsorted(flat[order], values, side="right")
    footprints = _csr([0, *sizes.tolist()], [order], [np.ones(order.size)], flat.size)
    return Regions(shape, footprints=footprints, name=path.stem)


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

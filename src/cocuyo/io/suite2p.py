"""Folders of Suite2p, read and written."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage, sparse

from cocuyo.core import AnyArray, Regions, Result, ResultError
from cocuyo.io.pickled import load_npy

_NEUROPIL_SHARE = 0.7
"""Suite2p's own default of ``neucoeff``."""


def write_suite2p(folder: Path, result: Result) -> None:
    """Write a result as one plane of Suite2p.

    ``spks`` is 1 while an ROI is active: nothing is deconvolved.

    Parameters
    ----------
    folder : Path
        The folder ``plane0`` to make.
    result : Result
        The result; every ROI has a pixel.
    """
    folder.mkdir()
    rois, traces = result.rois, result.traces
    n = len(rois)
    np.save(folder / "F.npy", np.asarray(traces.raw, np.float32))
    np.save(folder / "Fneu.npy", np.asarray(traces.neuropil, np.float32))
    np.save(folder / "spks.npy", np.asarray(result.raster, np.float32))
    score = np.where(np.isfinite(rois.score), rois.score, rois.accepted)
    np.save(folder / "iscell.npy", np.column_stack([rois.accepted, score]).astype(np.float32))
    stat = np.empty(n, object)
    times_used = np.bincount(rois.footprints.indices, minlength=rois.footprints.shape[1])
    areas = rois.area_px[rois.accepted] if rois.accepted.any() else rois.area_px
    typical = float(np.mean(areas)) if len(areas) else 1.0
    for i in range(n):
        stat[i] = _describe(result, i, times_used, typical)
    np.save(folder / "stat.npy", stat, allow_pickle=True)
    recording, settings = _recording(result), _settings(result)
    # Version 1 reads the two, earlier ones both in one.
    for name, content in (
        ("db", recording),
        ("settings", settings),
        ("ops", recording | settings),
    ):
        np.save(folder / f"{name}.npy", np.array(content, object), allow_pickle=True)


def _describe(result: Result, i: int, times_used: AnyArray, typical: float) -> dict[str, Any]:
    """What ``stat.npy`` says of an ROI."""
    rois = result.rois
    y, x, weight = rois.pixels(i)
    width = rois.frame_shape[1]
    corrected = result.traces.raw[i] - _NEUROPIL_SHARE * result.traces.neuropil[i]
    finite = corrected[np.isfinite(corrected)].astype(np.float64)
    spread = float(finite.std()) if finite.size else 0.0
    skew = float(np.mean(((finite - finite.mean()) / spread) ** 3)) if spread > 0 else 0.0
    radius = np.sqrt(len(y) / np.pi)
    moments = np.cov(np.vstack([y, x]).astype(np.float64)) if len(y) > 1 else np.eye(2)
    axes = 2 * np.sqrt(np.maximum(np.linalg.eigvalsh(np.atleast_2d(moments)), 0.25))
    distance = np.hypot(y - np.median(y), x - np.median(x))
    # Mean distance from the centre over that in a disc of the same area, 2/3 of its radius.
    compact = max(1.0, float(distance.mean()) / max(2 / 3 * radius, 0.5))
    return {
        "ypix": y.astype(np.int64),
        "xpix": x.astype(np.int64),
        "lam": weight.astype(np.float32),
        "med": [int(np.median(y)), int(np.median(x))],
        "npix": len(y),
        "npix_soma": len(y),
        "soma_crop": np.ones(len(y), np.bool_),
        "overlap": times_used[y * width + x] > 1,
        "radius": float(axes.max()),
        "aspect_ratio": float(2 * axes.max() / (axes.max() + axes.min())),
        "compact": compact,
        "footprint": 1.0,
        "mrs": float(distance.mean() / max(radius, 0.5)),
        "mrs0": 2 / 3,
        "npix_norm": float(len(y) / typical),
        "npix_norm_no_crop": float(len(y) / typical),
        "iplane": 0,
        "snr": float(np.nan_to_num(rois.snr[i])),
        "skew": skew,
        "std": spread,
        "neuropil_mask": _ring(rois.frame_shape, y, x),
        "cocuyo_id": rois.ids[i],
    }


def _ring(frame_shape: tuple[int, int], y: AnyArray, x: AnyArray) -> AnyArray:
    """Flat indices of the pixels next to an ROI: where its neuropil begins."""
    mask = np.zeros(frame_shape, np.bool_)
    mask[y, x] = True
    around: AnyArray = np.flatnonzero(ndimage.binary_dilation(mask, iterations=2) & ~mask)
    return around


def _recording(result: Result) -> dict[str, Any]:
    """What ``db.npy`` says of the recording."""
    rows, columns = result.rois.frame_shape
    mean = np.asarray(result.projections.get("mean", result.probability), np.float32)
    shifts = np.asarray(result.motion.shifts, np.float64)
    return {
        "written_by": "cocuyo",
        "Ly": rows,
        "Lx": columns,
        "Lyc": rows,
        "Lxc": columns,
        "yrange": [0, rows],
        "xrange": [0, columns],
        "dy": 0,
        "dx": 0,
        "iplane": 0,
        "nframes": result.n_frames,
        "frames_per_file": np.array([result.n_frames]),
        "frames_per_folder": np.array([result.n_frames]),
        "nplanes": 1,
        "nrois": 1,
        "nchannels": 1,
        "functional_chan": 1,
        "meanImg": mean,
        "meanImgE": _between_0_and_1(mean),
        "max_proj": np.asarray(result.projections.get("max", mean), np.float32),
        "Vcorr": np.asarray(result.probability, np.float32),
        "yoff": np.round(-shifts[:, 0]).astype(np.int32),
        "xoff": np.round(-shifts[:, 1]).astype(np.int32),
        "corrXY": np.asarray(result.motion.confidence, np.float32),
        "badframes": np.asarray(result.motion.flags) != 0,
        "save_path": "",
        "file_list": [],
    }


def _settings(result: Result) -> dict[str, Any]:
    """What ``settings.npy`` says; ``tau`` and the baseline are Suite2p's own defaults."""
    baseline = {
        "baseline": "maximin",
        "win_baseline": 60.0,
        "sig_baseline": 10.0,
        "prctile_baseline": 8.0,
    }
    return {
        "fs": float(result.frame_rate_hz),
        "tau": 1.0,
        "diameter": [float(result.diameter_px)] * 2,
        "aspect": 1.0,
        "neucoeff": _NEUROPIL_SHARE,
        "extraction": {"neuropil_coefficient": _NEUROPIL_SHARE},
        "dcnv_preprocess": dict(baseline),
        **baseline,
    }


def _between_0_and_1(image: AnyArray) -> AnyArray:
    low, high = np.percentile(image, [1, 99])
    return np.asarray(np.clip((image - low) / max(high - low, 1e-9), 0, 1), np.float32)


def find_plane(folder: Path) -> Path | None:
    """Find the plane of a Suite2p folder.

    Parameters
    ----------
    folder : Path
        The folder of the plane itself, the one that holds it (``suite2p``), or the one above.

    Returns
    -------
    Path or None
        The folder with ``stat.npy``; None where there is none.

    Raises
    ------
    ResultError
        If there are several planes.
    """
    for base in (folder, folder / "suite2p"):
        if (base / "stat.npy").is_file():
            return base
        planes = sorted(path.parent for path in base.glob("plane*/stat.npy"))
        if len(planes) > 1:
            names = ", ".join(plane.name for plane in planes)
            msg = f"{base} holds several planes ({names}); give the folder of one of them."
            raise ResultError(msg)
        if planes:
            return planes[0]
    return None


def read_suite2p(folder: Path) -> Regions:
    """Read the ROIs of one plane of Suite2p.

    Nothing in its pickled files is executed.

    Parameters
    ----------
    folder : Path
        A folder with ``stat.npy`` and ``ops.npy`` (or ``db.npy`` and ``settings.npy``);
        ``iscell.npy``, ``F.npy`` and ``Fneu.npy`` are read where they are there.

    Returns
    -------
    Regions
        All ROIs with all their pixels; those that ``iscell`` rejects are ignored. Traces are
        ``F - neucoeff * Fneu``.

    Raises
    ------
    ResultError
        If a file cannot be read, or holds other objects than arrays, dictionaries and numbers.
    """
    stat = _load(folder / "stat.npy")
    # Version 1 can leave ops.npy out: then its parts lie beside it.
    names = ["ops"] if (folder / "ops.npy").is_file() else ["db", "settings"]
    parts = [_load(folder / f"{name}.npy") for name in names if (folder / f"{name}.npy").is_file()]
    options = {
        key: value for part in parts if isinstance(part, dict) for key, value in part.items()
    }
    if not isinstance(stat, np.ndarray):
        msg = f"{folder} holds no stat.npy and ops.npy of Suite2p."
        raise ResultError(msg)
    try:
        pixels = [
            (np.asarray(s["ypix"]), np.asarray(s["xpix"]), np.asarray(s["lam"])) for s in stat
        ]
        shape = (int(options["Ly"]), int(options["Lx"]))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        msg = (
            f"{folder} is no plane of Suite2p ({error}). ROIs need ypix, xpix and lam in stat.npy, "
            "the frame Ly and Lx in ops.npy."
        )
        raise ResultError(msg) from error
    footprints = _footprints(pixels, shape, folder)
    n_rois = len(pixels)
    cells = _array(folder / "iscell.npy", n_rois)
    return Regions(
        frame_shape=shape,
        footprints=footprints,
        ignore=None if cells is None else np.asarray(cells[:, 0] == 0),
        ignored_are="rejected candidates",
        traces=_traces(folder, n_rois, options),
        frame_rate_hz=_positive(options.get("fs")),
        name=folder.name,
    )


def _load(path: Path) -> Any:
    try:
        return load_npy(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        msg = f"{path} is not read: {reason}."
        raise ResultError(msg) from error


def _array(path: Path, n_rois: int) -> AnyArray | None:
    """Numbers with a row for each ROI; None where the file is absent."""
    if not path.is_file():
        return None
    values = _load(path)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf" or values.ndim != 2:
        msg = f"{path} holds no table of numbers."
        raise ResultError(msg)
    if len(values) != n_rois:
        msg = f"{path} has {len(values)} rows for the {n_rois} ROIs of stat.npy."
        raise ResultError(msg)
    return values


def _footprints(
    pixels: list[tuple[AnyArray, AnyArray, AnyArray]], shape: tuple[int, int], folder: Path
) -> sparse.csr_array:
    rows: list[AnyArray] = []
    weights: list[AnyArray] = []
    for i, (y, x, lam) in enumerate(pixels):
        ok = y.ndim == x.ndim == lam.ndim == 1 and len(y) == len(x) == len(lam)
        if not ok or y.dtype.kind not in "iu" or x.dtype.kind not in "iu":
            msg = f"ROI {i} of {folder} needs lists of pixels of one length."
            raise ResultError(msg)
        if len(y) and (min(y.min(), x.min()) < 0 or y.max() >= shape[0] or x.max() >= shape[1]):
            msg = f"ROI {i} of {folder} leaves the frame of {shape[0]} x {shape[1]} pixels."
            raise ResultError(msg)
        # A pixel belongs to the ROI whatever its weight.
        weight = np.asarray(lam, np.float64)
        top = float(np.nanmax(weight, initial=0.0))
        rows.append(y.astype(np.int64) * shape[1] + x.astype(np.int64))
        weights.append(np.clip(np.nan_to_num(weight) / (top or 1.0), 1e-6, 1.0))
    lengths = [len(row) for row in rows]
    return sparse.csr_array(
        (
            np.concatenate([*weights, np.zeros(0)]).astype(np.float32),
            (
                np.repeat(np.arange(len(rows)), lengths),
                np.concatenate([*rows, np.zeros(0, np.int64)]),
            ),
        ),
        shape=(len(rows), shape[0] * shape[1]),
    )


def _traces(folder: Path, n_rois: int, options: dict[str, Any]) -> Any:
    own = _array(folder / "F.npy", n_rois)
    if own is None:
        return None
    around = _array(folder / "Fneu.npy", n_rois)
    if around is None or around.shape != own.shape:
        return own.astype(np.float32)
    extraction = options.get("extraction")  # a table of its own since version 1
    nested = extraction if isinstance(extraction, dict) else {}
    share = options.get("neucoeff", nested.get("neuropil_coefficient", _NEUROPIL_SHARE))
    share = float(share) if isinstance(share, int | float | np.number) else _NEUROPIL_SHARE
    return (own - share * around).astype(np.float32)


def _positive(value: Any) -> float | None:
    ok = isinstance(value, int | float | np.number) and 0 < float(value) < np.inf
    return float(value) if ok else None

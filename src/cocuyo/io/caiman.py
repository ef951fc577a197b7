"""Results of CaImAn (HDF5), read and written as its ``estimates`` are laid out."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from cocuyo.core import AnyArray, Regions, Result, ResultError


def write_caiman(path: Path, result: Result) -> None:
    """Write a result in the layout of CaImAn's HDF5 files.

    ``A`` holds the footprints with a largest weight of 1 (CaImAn's columns have norm 1), ``C`` the
    corrected trace in camera counts, unsmoothed, so that the residual ``YrA`` is 0, ``S`` 1 while
    an ROI is active. Background terms are left out: there are none.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        The result; every ROI has a pixel.
    """
    import h5py

    rois, traces = result.rois, result.traces
    rows, columns = rois.frame_shape
    y, x = np.divmod(np.asarray(rois.footprints.indices), columns)
    owner = np.repeat(np.arange(len(rois)), np.diff(rois.footprints.indptr))
    # Flattened by columns, as MATLAB does.
    matrix = sparse.csc_array(
        (rois.footprints.data.astype(np.float64), (x * rows + y, owner)),
        shape=(rows * columns, len(rois)),
    )
    matrix.sort_indices()
    with h5py.File(path, "w") as file:
        estimates = file.create_group("estimates")
        footprints = estimates.create_group("A")
        footprints["data"] = matrix.data
        footprints["indices"] = matrix.indices.astype(np.int32)
        footprints["indptr"] = matrix.indptr.astype(np.int32)
        footprints["shape"] = np.array(matrix.shape, np.int64)
        corrected = np.asarray(traces.corrected, np.float32)
        for name, data in (
            ("C", corrected),
            ("YrA", np.zeros_like(corrected)),
            ("F_dff", np.asarray(traces.delta_f_over_f, np.float32)),
            ("S", np.asarray(result.raster, np.float32)),
        ):
            estimates.create_dataset(name, data=data, **_packing(data))
        estimates["idx_components"] = np.flatnonzero(rois.accepted).astype(np.int64)
        estimates["idx_components_bad"] = np.flatnonzero(~rois.accepted).astype(np.int64)
        estimates["SNR_comp"] = np.asarray(rois.snr, np.float64)
        estimates["dims"] = np.array([rows, columns], np.int64)
        names = np.array(rois.ids, dtype=object)
        estimates.create_dataset("cocuyo_id", data=names, dtype=h5py.string_dtype("utf-8"))
        params = file.create_group("params/data")
        params["dims"] = np.array([rows, columns], np.int64)
        params["fr"] = float(result.frame_rate_hz)
        if result.pixel_size_um is not None:
            params["dxy"] = np.array([result.pixel_size_um] * 2, np.float64)


def _packing(data: AnyArray) -> dict[str, Any]:
    if data.nbytes < 2**16:
        return {}
    return {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def read_caiman(path: Path) -> Regions:
    """Read the components of CaImAn.

    Parameters
    ----------
    path : Path
        An HDF5 file that ``CNMF.save`` wrote, of any version that has ``estimates``.

    Returns
    -------
    Regions
        All components; where CaImAn chose some (``idx_components``), the others are ignored. A
        component is where its weights are at least half of its maximum. Traces are ``F_dff``
        where it was computed, else ``C``.

    Raises
    ------
    ResultError
        If the file cannot be read or holds no components.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _read(file, path)
    except ResultError:
        raise
    except Exception as error:  # HDF5 raises whatever it likes on bad bytes
        msg = f"{path} cannot be read as a result of CaImAn ({error}); save it again there."
        raise ResultError(msg) from error


def _read(file: Any, path: Path) -> Regions:
    if "estimates/A" not in file:
        msg = f"{path} holds no estimates/A, so it is no result of CaImAn."
        raise ResultError(msg)
    estimates = file["estimates"]
    stored = estimates["A"]
    shape = tuple(int(n) for n in stored["shape"][()])
    dims = _numbers(estimates, "dims")
    if dims is None:
        dims = _numbers(file, "params/data/dims")
    if dims is None or len(dims) != 2 or len(shape) != 2 or int(np.prod(dims)) != shape[0]:
        found = None if dims is None else tuple(int(n) for n in dims)
        msg = (
            f"Components of {path} have {shape[0]} pixels in frames of {found}; only components "
            "of single planes, with their dims, can be read."
        )
        raise ResultError(msg)
    rows, columns = int(dims[0]), int(dims[1])
    matrix = sparse.csc_array(
        (stored["data"][()], stored["indices"][()], stored["indptr"][()]), shape=shape
    )
    matrix.check_format(full_check=True)
    n_rois = shape[1]
    parts: list[tuple[AnyArray, AnyArray]] = []
    for i in range(n_rois):
        span = slice(int(matrix.indptr[i]), int(matrix.indptr[i + 1]))
        index, weight = matrix.indices[span], np.asarray(matrix.data[span], np.float64)
        top = float(weight.max(initial=0.0))
        if not np.isfinite(weight).all():
            msg = f"Component {i} of {path} has weights that are not finite."
            raise ResultError(msg)
        kept = weight >= top / 2 if top > 0 else np.zeros(len(weight), np.bool_)
        x, y = np.divmod(index[kept], rows)
        parts.append((y * columns + x, weight[kept] / max(top, 1e-300)))
    owner = np.repeat(np.arange(n_rois), [len(index) for index, _ in parts])
    footprints = sparse.csr_array(
        (
            np.concatenate([*(weight for _, weight in parts), np.zeros(0)]).astype(np.float32),
            (owner, np.concatenate([*(index for index, _ in parts), np.zeros(0, np.int64)])),
        ),
        shape=(n_rois, rows * columns),
    )
    ignore = None
    chosen = _numbers(estimates, "idx_components")
    if chosen is not None:
        ignore = np.ones(n_rois, np.bool_)
        ignore[chosen.astype(np.int64)] = False
    traces = _traces(estimates, n_rois)
    rate = _numbers(file, "params/data/fr")
    return Regions(
        frame_shape=(rows, columns),
        footprints=footprints,
        ignore=ignore,
        ignored_are="rejected candidates",
        traces=traces,
        frame_rate_hz=None if rate is None else float(rate.reshape(-1)[0]),
        name=path.stem,
    )


def _traces(estimates: Any, n_rois: int) -> Any:
    for name in ("F_dff", "C"):
        values = _numbers(estimates, name)
        if values is not None and values.ndim == 2 and len(values) == n_rois:
            return values.astype(np.float32)
    return None


def _numbers(group: Any, name: str) -> AnyArray | None:
    """Numbers of a data set; None where it is absent or holds CaImAn's word for None."""
    if name not in group or not hasattr(group[name], "shape"):
        return None
    values = np.asarray(group[name][()])
    return values if values.dtype.kind in "iuf" else None

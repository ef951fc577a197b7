"""Results of minian: one Zarr folder for each variable, or one netCDF file."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from cocuyo.core import AnyArray, MissingExtraError, Regions, ResultError

_FOOTPRINT_AXES = ("unit_id", "height", "width")
_TRACE_AXES = ("unit_id", "frame")


def is_minian(path: Path) -> bool:
    """Tell whether a path is a result of minian.

    Parameters
    ----------
    path : Path
        A folder or a file.

    Returns
    -------
    bool
        True for a folder with ``A.zarr`` and for a netCDF file.
    """
    return (path / "A.zarr").is_dir() or path.suffix.lower() == ".nc"


def read_minian(path: Path) -> Regions:
    """Read the cells of minian.

    Parameters
    ----------
    path : Path
        The folder that holds ``A.zarr`` and ``C.zarr``, or the ``.nc`` file of older versions.

    Returns
    -------
    Regions
        All units. A unit is where its footprint ``A`` is at least half of its maximum; one
        without any weight is ignored. Traces are ``C``. minian keeps no frame rate.

    Raises
    ------
    ResultError
        If the files cannot be read or hold no footprints.
    MissingExtraError
        If Zarr is not installed.
    """
    try:
        if path.is_dir():
            footprints = _zarr(path / "A.zarr", "A", _FOOTPRINT_AXES)
            traces = _zarr(path / "C.zarr", "C", _TRACE_AXES)
        else:
            footprints, traces = _netcdf(path)
    except (ResultError, MissingExtraError):
        raise
    except Exception as error:  # decoders raise whatever they like on bad bytes
        msg = f"{path} cannot be read as a result of minian ({error}); save it again there."
        raise ResultError(msg) from error
    if footprints is None:
        msg = f"{path} holds no footprints A of minian."
        raise ResultError(msg)
    n_rois, rows, columns = footprints.shape
    if traces is not None and len(traces) != n_rois:
        traces = None
    flat = np.nan_to_num(np.asarray(footprints, np.float32).reshape(n_rois, -1))
    top = flat.max(axis=1, initial=0.0)[:, None]
    owner, index = np.nonzero((flat >= top / 2) & (top > 0))
    return Regions(
        frame_shape=(rows, columns),
        footprints=sparse.csr_array(
            (flat[owner, index] / top[owner, 0], (owner, index)), shape=flat.shape
        ),
        ignore=top[:, 0] == 0,
        ignored_are="rejected candidates",
        traces=None if traces is None else np.asarray(traces, np.float32),
        name=path.stem,
    )


def _zarr(path: Path, name: str, axes: tuple[str, ...]) -> AnyArray | None:
    if not path.is_dir():
        return None
    try:
        import zarr
    except ImportError as error:
        msg = (
            f'Results of minian need the extra "formats": pip install "cocuyo[formats]" ({error}).'
        )
        raise MissingExtraError(msg) from error
    group: Any = zarr.open_group(path, mode="r")
    variable = group[name]
    own = variable.attrs.get("_ARRAY_DIMENSIONS")
    if own is None:  # Zarr 3 keeps the names elsewhere
        own = getattr(getattr(variable, "metadata", None), "dimension_names", None)
    return _in_order(np.asarray(variable[...]), own, axes, path)


def _netcdf(path: Path) -> tuple[AnyArray | None, AnyArray | None]:
    """Read netCDF 4, which is HDF5 with names for the axes."""
    import h5py

    found: list[AnyArray | None] = []
    with h5py.File(path, "r") as file:
        for name, axes in (("A", _FOOTPRINT_AXES), ("C", _TRACE_AXES)):
            if name not in file:
                found.append(None)
                continue
            own = [
                str(axis[0].name).rpartition("/")[2] if len(axis) else ""
                for axis in file[name].dims
            ]
            found.append(_in_order(np.asarray(file[name][()]), own, axes, path))
    return found[0], found[1]


def _in_order(values: AnyArray, own: Any, axes: tuple[str, ...], path: Path) -> AnyArray:
    """Bring the axes of a variable into ours, by their names where it has them."""
    names = [str(axis) for axis in own] if own is not None else list(axes)
    if values.ndim != len(axes) or sorted(names) != sorted(axes):
        msg = f"{path} has the axes {', '.join(names)}; it needs {', '.join(axes)}."
        raise ResultError(msg)
    return np.transpose(values, [names.index(axis) for axis in axes])

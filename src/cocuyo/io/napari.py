"""Result folders as layers of napari.

napari finds this module through the manifest ``cocuyo/napari.yaml``. Nothing of napari or Qt is
imported: layers are plain tuples of data, their properties and their kind.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import AnyArray, LabelArray, ResultError, RoiSet
from cocuyo.core.curation import curate
from cocuyo.io.edits import read_edits
from cocuyo.io.resultfile import read_map_file

LayerData = tuple[AnyArray, dict[str, Any], str]
ReaderFunction = Callable[[str | Sequence[str]], list[LayerData]]

_PERCENTILES = (0.5, 99.7)  # of a projection, between which its contrast is shown
_PROJECTIONS = (("mean", "mean projection"), ("max", "maximum projection"))
# Blue and orange are told apart by everyone, also on grey; Okabe and Ito's.
_REJECTED_RGBA = (0.84, 0.37, 0.0, 1.0)


def get_reader(path: str | Sequence[str]) -> ReaderFunction | None:
    """Give napari the function that reads a path, where it is a result folder.

    Parameters
    ----------
    path : str or sequence of str
        What the user opens.

    Returns
    -------
    callable or None
        `read_layers`; None for anything that is no result folder.
    """
    paths = [path] if isinstance(path, str) else list(path)
    folders = [Path(item) for item in paths]
    if folders and all((f / "run.json").is_file() and (f / "result.h5").is_file() for f in folders):
        return read_layers
    return None


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Read one or several result folders as layers.

    Parameters
    ----------
    path : str or sequence of str
        Result folders.

    Returns
    -------
    list of tuple
        For each folder mean and maximum projection, probability, labels of the rejected and of the
        accepted ROIs in the curated state; the two last with a table (``features``), a row for
        each label.

    Raises
    ------
    ResultError
        If a folder is damaged or incomplete.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return [layer for item in paths for layer in _layers(Path(item), several=len(paths) > 1)]


def _layers(folder: Path, *, several: bool) -> list[LayerData]:
    if not (folder / "run.json").is_file():
        msg = f"{folder} is not a result folder of cocuyo: it has no run.json."
        raise ResultError(msg)
    maps = read_map_file(folder / "result.h5")
    state = curate(maps.rois, read_edits(folder), valid=maps.valid)
    # Events of new shapes and moved thresholds are not counted without traces.
    n_events = np.full(len(state.rois), np.nan)
    as_found = np.setdiff1d(np.arange(len(state.rois)), state.stale)
    n_events[as_found] = maps.n_events[state.source[as_found]]
    prefix = f"{maps.name}: " if several else ""
    metadata = {
        "cocuyo": {
            "folder": str(folder),
            "recording": maps.name,
            "frame_rate_hz": maps.frame_rate_hz,
            "pixel_size_um": maps.pixel_size_um,
        }
    }
    placed: dict[str, Any] = {"metadata": metadata}
    if maps.pixel_size_um is not None:
        placed["scale"] = (maps.pixel_size_um, maps.pixel_size_um)
        placed["units"] = ("um", "um")

    layers: list[LayerData] = []
    for key, title in _PROJECTIONS:
        if key in maps.projections:
            image = maps.projections[key]
            shown = {
                "name": prefix + title,
                "colormap": "gray",
                "contrast_limits": _limits(image),
                "visible": key == "mean",
            }
            layers.append((image, {**placed, **shown}, "image"))
    probability = {
        "name": prefix + "probability",
        "colormap": "magma",
        "contrast_limits": (0.0, 1.0),
        "blending": "additive",
        "opacity": 0.6,
        "visible": False,
    }
    layers.append((maps.probability, {**placed, **probability}, "image"))
    for wanted, title in ((False, "rejected ROIs"), (True, "accepted ROIs")):
        chosen = np.flatnonzero(state.rois.accepted == wanted)
        labels = {
            "name": prefix + title,
            "features": _table(state.rois, chosen, n_events),
            "opacity": 0.7,
            "visible": wanted,
        }
        if not wanted:  # one colour for all: they are not neurons
            labels["colormap"] = {None: _REJECTED_RGBA, 0: (0.0, 0.0, 0.0, 0.0)}
        layers.append((_paint(state.rois, chosen), {**placed, **labels}, "labels"))
    return layers


def _limits(image: AnyArray) -> tuple[float, float]:
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, _PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def _paint(rois: RoiSet, chosen: AnyArray) -> LabelArray:
    """Draw ROIs as 1, 2, ...; a pixel of several goes to the larger footprint weight."""
    labels = np.zeros(rois.frame_shape[0] * rois.frame_shape[1], np.int32)
    highest = np.zeros(labels.shape, np.float32)
    matrix = rois.footprints
    for number, roi in enumerate(chosen.tolist(), start=1):
        part = slice(matrix.indptr[roi], matrix.indptr[roi + 1])
        pixels, weights = matrix.indices[part], matrix.data[part]
        wins = weights > highest[pixels]
        labels[pixels[wins]] = number
        highest[pixels[wins]] = weights[wins]
    return labels.reshape(rois.frame_shape)


def _table(rois: RoiSet, chosen: AnyArray, n_events: AnyArray) -> dict[str, AnyArray]:
    """Make the columns that napari shows for a label; the row of label 0 comes first."""
    centroids = rois.centroids[chosen]

    def column(first: Any, values: Any) -> AnyArray:
        return np.concatenate([np.asarray([first]), np.asarray(values)])

    texts = {
        "id": [rois.ids[roi] for roi in chosen.tolist()],
        "reason": [rois.reasons[roi] for roi in chosen.tolist()],
    }
    numbers = {
        "score": rois.score[chosen],
        "snr": rois.snr[chosen],
        "y_px": centroids[:, 0],
        "x_px": centroids[:, 1],
        "area_px": rois.area_px[chosen],
        "n_events": n_events[chosen],
    }
    table = {"index": np.arange(len(chosen) + 1), "id": column("", texts["id"])}
    table |= {name: column(np.nan, np.asarray(values, float)) for name, values in numbers.items()}
    if any(texts["reason"]):
        table["reason"] = column("", texts["reason"])
    return table

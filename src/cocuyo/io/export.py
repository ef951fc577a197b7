"""Results for other programs: one file or folder in each one's own format."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from scipy import ndimage, sparse

from cocuyo.core import AnyArray, Events, FloatArray, Result, ResultError, RoiSet, Traces, outline
from cocuyo.io.atomic import write_atomically, write_json
from cocuyo.io.caiman import write_caiman
from cocuyo.io.imagej import write_roi_set, write_tiff
from cocuyo.io.nwb import ExternalMovie, NwbMetadata, write_nwb
from cocuyo.io.results import (
    MAX_ROIS,
    FolderKind,
    alone_in,
    cannot_write,
    check_destination,
    check_writable,
    partial_folder,
    put_in_place,
    remove,
)
from cocuyo.io.suite2p import write_suite2p
from cocuyo.io.tables import (
    write_derived_table,
    write_event_table,
    write_roi_table,
    write_rows,
)

ExportName = Literal[
    "nwb",
    "suite2p",
    "imagej",
    "caiman",
    "mat",
    "csv",
    "geojson",
    "labels",
    "zscore",
    "denoised",
    "deconvolved",
]

EXPORT = FolderKind("export", "export.json", "cocuyo-export")
_MAT_BYTES = 2**31 - 2**16
"""What one variable of a MATLAB 5 file can hold."""


@dataclass(frozen=True)
class ExportOptions:
    """What some formats need besides the result.

    Attributes
    ----------
    metadata : NwbMetadata or None
        What a person says of the session; NWB needs it.
    movie : ExternalMovie or None
        Where the recording lies; NWB refers to it.
    derived : ndarray of float32, shape (n_accepted, n_frames), or None
        What ``zscore``, ``denoised`` and ``deconvolved`` write
        (`cocuyo.pipeline.derived_traces`); they need it.
    """

    metadata: NwbMetadata | None = None
    movie: ExternalMovie | None = None
    derived: FloatArray | None = None


@dataclass(frozen=True)
class _Format:
    ending: str
    write: Callable[[Path, Result, ExportOptions], None]
    suffixes: tuple[str, ...] = ()

    @property
    def is_folder(self) -> bool:
        return not self.suffixes


def export_path(folder: str | Path, to: ExportName) -> Path:
    """Name the file or folder of an export: beside the result, after its name.

    Parameters
    ----------
    folder : str or Path
        The result folder.
    to : str
        The format.

    Returns
    -------
    Path
        Such as ``slice.nwb`` for ``slice.cocuyo``.
    """
    folder = Path(folder).resolve()
    return folder.parent / f"{folder.stem}{_FORMATS[to].ending}"


def export_names(folder: str | Path) -> frozenset[str]:
    """Name what the exports of a result have for names: no recordings, though they hold movies.

    Parameters
    ----------
    folder : str or Path
        The result folder.

    Returns
    -------
    frozenset of str
        Names beside the folder.
    """
    return frozenset(export_path(folder, to).name for to in get_args(ExportName))


def check_export(
    path: str | Path,
    to: ExportName,
    *,
    overwrite: bool = False,
    inputs: Iterable[str | Path] = (),
) -> Path:
    """Refuse a place in which an export cannot be made, before any work is done.

    Parameters
    ----------
    path : str or Path
        The file or folder to make.
    to : str
        The format.
    overwrite : bool, default: False
        Allow a file that exists, or a folder that an export made.
    inputs : iterable of str or Path, optional
        What is read: never replaced, and nothing is made in a folder of these.

    Returns
    -------
    Path
        The absolute path. Nothing is made.

    Raises
    ------
    ResultError
        If something is there that may not be replaced, or its place cannot be written.
    """
    path = Path(path)
    inputs = list(map(Path, inputs))
    for source in map(Path, inputs):
        if source.exists() and path.resolve().is_relative_to(source.resolve()):
            msg = f"{path} is, or lies in, {source}, which is not changed; choose another --out."
            raise ResultError(msg)
    if _FORMATS[to].is_folder:
        return check_destination(path, overwrite, inputs=inputs, kind=EXPORT)
    path = path.absolute()
    if path.suffix.lower() not in _FORMATS[to].suffixes:
        msg = (
            f"{path} must end in {' or '.join(_FORMATS[to].suffixes)}, by which other programs "
            "know what it is; name it so with --out."
        )
        raise ResultError(msg)
    if path.is_dir():
        msg = f"{path} is a folder; --to {to} makes a file, name it with --out."
        raise ResultError(msg)
    if path.exists() and not overwrite:
        msg = f"{path} exists; choose another file with --out, or replace it with --overwrite."
        raise ResultError(msg)
    check_writable(path.parent)
    return path


def export_result(
    result: Result,
    path: str | Path,
    *,
    to: ExportName,
    overwrite: bool = False,
    options: ExportOptions = ExportOptions(),
) -> Path:
    """Write a result in the format of another program, whole or not at all.

    ROIs without a pixel in the frame are left out: no other program knows any.

    Parameters
    ----------
    result : Result
        The result; in its curated state if that is wanted (`cocuyo.pipeline.curated_result`).
    path : str or Path
        The file or folder to make; its parents are made.
    to : {"nwb", "suite2p", "imagej", "caiman", "mat", "csv", "geojson", "labels", ...}
        The format, or traces that were derived: ``zscore``, ``denoised``, ``deconvolved``;
        ``docs/how-to/export.md`` says what each holds.
    overwrite : bool, default: False
        Replace a file that exists, or a folder that an export made.
    options : ExportOptions
        What some formats need besides.

    Returns
    -------
    Path
        The file or folder.

    Raises
    ------
    ResultError
        If it cannot be written there, or the format cannot hold the result.
    MissingExtraError
        If the format needs an extra that is not installed.
    """
    if to not in get_args(ExportName):
        msg = f"There is no format {to!r}; choose one of {', '.join(get_args(ExportName))}."
        raise ResultError(msg)
    path = check_export(path, to, overwrite=overwrite)
    kind = _FORMATS[to]
    shown = _with_pixels(result)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind.is_folder:
            with alone_in(path):
                _write_folder(path, shown, kind, to, options)
        else:
            with write_atomically(path) as temporary:
                kind.write(temporary, shown, options)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def _write_folder(
    path: Path, result: Result, kind: _Format, to: ExportName, options: ExportOptions
) -> None:
    partial = partial_folder(path)
    remove(partial)
    partial.mkdir()
    record = {"format": EXPORT.format, "to": to, "name": result.name}
    try:
        write_json(partial / EXPORT.record, record)
        kind.write(partial, result, options)
        put_in_place(partial, path)
    except BaseException:
        remove(partial)
        raise


def _with_pixels(result: Result) -> Result:
    """Leave out ROIs without a pixel; what is known of the others stays."""
    kept = np.flatnonzero(result.rois.area_px > 0)
    rois, events = result.rois, result.events
    if len(kept) == len(rois):
        return result
    place = np.full(len(rois), -1, np.int32)
    place[kept] = np.arange(len(kept))
    own = place[events.roi] >= 0
    columns = {part.name: getattr(events, part.name)[own] for part in fields(Events)}
    return replace(
        result,
        rois=RoiSet(
            sparse.csr_array(rois.footprints[kept]),
            rois.frame_shape,
            tuple(rois.ids[i] for i in kept),
            rois.accepted[kept],
            tuple(rois.reasons[i] for i in kept),
            rois.score[kept],
            rois.snr[kept],
            None if rois.quality is None else rois.quality.rows(kept),
        ),
        traces=Traces(
            **{part.name: getattr(result.traces, part.name)[kept] for part in fields(Traces)}
        ),
        raster=result.raster[kept],
        events=Events(**columns | {"roi": place[columns["roi"]]}),
    )


# ---------------------------------------------------------------------------------------------
# Formats without a program of their own
# ---------------------------------------------------------------------------------------------


def _write_imagej(path: Path, result: Result, _: ExportOptions) -> None:
    write_roi_set(path, result.rois)


def _write_labels(path: Path, result: Result, _: ExportOptions) -> None:
    n = int(result.rois.accepted.sum())
    if n > MAX_ROIS:
        msg = f"{n} ROIs are accepted; a picture of 16 bits holds {MAX_ROIS} labels."
        raise ResultError(msg)
    names = [result.rois.ids[i] for i in np.flatnonzero(result.rois.accepted)]
    write_tiff(
        path,
        result.rois.label_image().astype(np.uint16),
        pixel_size_um=result.pixel_size_um,
        info="\n".join(f"{label} {name}" for label, name in enumerate(names, start=1)),
    )


def _write_tables(path: Path, result: Result, _: ExportOptions) -> None:
    write_roi_table(path / "rois.csv", result)
    write_event_table(path / "events.csv", result)
    write_rows(path / "activity.csv", _ACTIVITY_COLUMNS, _activity_rows(result))


_ACTIVITY_COLUMNS = ("id", "frame", "time_s", "raw", "delta_f_over_f", "active")


def _activity_rows(result: Result) -> Iterator[tuple[Any, ...]]:
    """One row for each accepted ROI and frame."""
    times = [f"{time:.10g}" for time in result.times_s.tolist()]
    for i in np.flatnonzero(result.rois.accepted).tolist():
        raw = result.traces.raw[i].tolist()
        ratio = result.traces.delta_f_over_f[i].tolist()
        active = np.asarray(result.raster[i], np.uint8).tolist()
        for frame, time in enumerate(times):
            yield (
                result.rois.ids[i],
                frame,
                time,
                f"{raw[frame]:.7g}" if math.isfinite(raw[frame]) else "",
                f"{ratio[frame]:.6g}" if math.isfinite(ratio[frame]) else "",
                active[frame],
            )


def _write_derived(path: Path, result: Result, options: ExportOptions) -> None:
    if options.derived is None:
        msg = (
            "These traces are computed first (cocuyo.pipeline.derived_traces); give them as the "
            "option derived."
        )
        raise ResultError(msg)
    wanted = (int(result.rois.accepted.sum()), result.n_frames)
    if options.derived.shape != wanted:
        msg = (
            f"derived has shape {options.derived.shape}; it needs a row for each accepted ROI and "
            f"a column for each frame of this result, {wanted}."
        )
        raise ResultError(msg)
    write_derived_table(path, result, options.derived, digits=6)


def _write_geojson(path: Path, result: Result, _: ExportOptions) -> None:
    rois = result.rois
    counts = result.events.count(len(rois))
    features = []
    for i in np.flatnonzero(rois.accepted).tolist():
        figures = {
            "area_px": int(rois.area_px[i]),
            "score": float(rois.score[i]),
            "snr": float(rois.snr[i]),
            "n_events": int(counts[i]),
        }
        features.append(
            {
                "type": "Feature",
                "id": rois.ids[i],
                "geometry": _geometry(rois, i),
                "properties": {
                    "objectType": "annotation",
                    "name": rois.ids[i],
                    "classification": {"name": "neuron", "color": [0, 158, 115]},
                    "measurements": {k: v for k, v in figures.items() if math.isfinite(v)},
                },
            }
        )
    text = json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _geometry(rois: RoiSet, roi: int) -> dict[str, Any]:
    """Outline of an ROI as polygons with holes, in pixels; (0, 0) is the frame's corner."""
    y, x, _ = rois.pixels(roi)
    top, left = int(y.min()), int(x.min())
    crop = np.zeros((int(y.max()) - top + 1, int(x.max()) - left + 1), np.bool_)
    crop[y - top, x - left] = True
    # Pieces that touch at a corner only are polygons of their own: else, where they surround a
    # hole, the inside of a polygon would not hang together.
    pieces, n_pieces = ndimage.label(crop)
    polygons = []
    for piece in range(1, n_pieces + 1):
        rings = [simple for ring in outline(pieces == piece) for simple in _simple_rings(ring)]
        rings.sort(key=_signed_area, reverse=True)  # the one around it first, then its holes
        placed = [ring + np.array([left, top]) for ring in rings]
        polygons.append([[*ring.tolist(), ring[0].tolist()] for ring in placed])
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _simple_rings(ring: AnyArray) -> list[AnyArray]:
    """Cut a ring that touches itself at corners into rings that do not."""
    rings, path = [], list[tuple[int, int]]()
    place: dict[tuple[int, int], int] = {}
    for x, y in _every_corner(ring):
        point = (x, y)
        if point in place:
            start = place[point]
            rings.append(np.array(path[start:]))
            for passed in path[start:]:
                del place[passed]
            del path[start:]
        place[point] = len(path)
        path.append(point)
    rings.append(np.array(path))
    return [_straight(each) for each in rings]


def _every_corner(ring: AnyArray) -> list[list[int]]:
    """All pixel corners along a ring: where it touches itself need not be a turn."""
    points: list[list[int]] = []
    for (x0, y0), (x1, y1) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        points += [[x0 + (x1 - x0) * k // steps, y0 + (y1 - y0) * k // steps] for k in range(steps)]
    return points


def _straight(ring: AnyArray) -> AnyArray:
    """Leave out the points between two turns."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(ring[turns])


def _signed_area(ring: AnyArray) -> float:
    """Positive for rings that run clockwise on the screen."""
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def _write_mat(path: Path, result: Result, _: ExportOptions) -> None:
    from scipy.io import savemat

    rois, events = result.rois, result.events
    accepted = np.flatnonzero(rois.accepted)
    number = np.zeros(len(rois), np.int32)
    number[accepted] = np.arange(1, len(accepted) + 1)
    own = number[events.roi] > 0
    rows, columns = rois.frame_shape
    footprints = rois.footprints[accepted]
    y, x = np.divmod(footprints.indices, columns)
    by_column = sparse.csc_array(
        (footprints.data.astype(np.float64), (x * rows + y, _owners(footprints))),
        shape=(rows * columns, len(accepted)),
    )
    variables: dict[str, Any] = {
        "Raster": np.asarray(result.raster[accepted], np.bool_),
        "DeltaFOverF": np.asarray(result.traces.delta_f_over_f[accepted], np.float32),
        "Raw": np.asarray(result.traces.raw[accepted], np.float32),
        "TimeS": result.times_s[None, :],
        "FrameRateHz": float(result.frame_rate_hz),
        "PixelSizeUm": np.nan if result.pixel_size_um is None else float(result.pixel_size_um),
        "Ids": np.array([[rois.ids[i]] for i in accepted], object).reshape(-1, 1),
        "CentroidsYX": rois.centroids[accepted].astype(np.float64) + 1,
        "Score": rois.score[accepted, None].astype(np.float64),
        "Snr": rois.snr[accepted, None].astype(np.float64),
        "Labels": rois.label_image().astype(np.uint16 if len(accepted) <= MAX_ROIS else np.uint32),
        "Footprints": by_column,
        "MeanImage": result.projections.get("mean", np.zeros((0, 0), np.float32)),
        "Events": {
            "Neuron": number[events.roi[own], None].astype(np.float64),
            **{
                name.capitalize(): getattr(events, name)[own, None].astype(np.float64) + 1
                for name in ("onset", "peak", "offset")
            },
            "Amplitude": events.amplitude[own, None].astype(np.float64),
        },
        "Name": result.name,
    }
    largest = max(getattr(value, "nbytes", 0) for value in variables.values())
    if largest > _MAT_BYTES:
        msg = (
            f"A variable would have {largest / 1e9:.1f} GB; a .mat file of this kind holds 2 GB. "
            "Read result.h5 in MATLAB instead (h5read; the reference of result folders shows how)."
        )
        raise ResultError(msg)
    savemat(str(path), variables, appendmat=False, do_compression=True, oned_as="column")


def _owners(matrix: sparse.csr_array) -> AnyArray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


# ---------------------------------------------------------------------------------------------
# Formats of other programs
# ---------------------------------------------------------------------------------------------


def _write_nwb(path: Path, result: Result, options: ExportOptions) -> None:
    if options.metadata is None:
        msg = "NWB needs to know when the session started; give metadata."
        raise ResultError(msg)
    write_nwb(path, result, options.metadata, movie=options.movie)


def _write_suite2p(path: Path, result: Result, _: ExportOptions) -> None:
    write_suite2p(path / "plane0", result)


def _write_caiman(path: Path, result: Result, _: ExportOptions) -> None:
    write_caiman(path, result)


_FORMATS: dict[ExportName, _Format] = {
    "nwb": _Format(".nwb", _write_nwb, (".nwb",)),
    "suite2p": _Format(".suite2p", _write_suite2p),
    "imagej": _Format("_rois.zip", _write_imagej, (".zip",)),
    "caiman": _Format("_caiman.hdf5", _write_caiman, (".hdf5", ".h5")),
    "mat": _Format(".mat", _write_mat, (".mat",)),
    "csv": _Format(".tables", _write_tables),
    "geojson": _Format(".geojson", _write_geojson, (".geojson", ".json")),
    "labels": _Format("_labels.tif", _write_labels, (".tif", ".tiff")),
    "zscore": _Format("_zscore.csv", _write_derived, (".csv",)),
    "denoised": _Format("_denoised.csv", _write_derived, (".csv",)),
    "deconvolved": _Format("_deconvolved.csv", _write_derived, (".csv",)),
}

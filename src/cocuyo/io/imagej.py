"""Pictures and ROI sets as ImageJ reads them."""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import (
    NO_PIXEL,
    AnyArray,
    BoolArray,
    LabelArray,
    ResultError,
    RoiSet,
    fill,
    outline,
)

# Path segments of ImageJ's composite ROIs, after java.awt.geom.PathIterator.
_MOVE, _LINE, _QUADRATIC, _CUBIC, _CLOSE = 0, 1, 2, 3, 4
_CURVE_STEPS = 16
_MAX_COORDINATE = 1e7
_MAX_BYTES = 256e6
"""Size to which an ROI set may unpack; an ROI takes some hundred bytes."""


def write_tiff(
    path: Path, image: AnyArray, *, pixel_size_um: float | None, info: str | None = None
) -> None:
    """Write one picture as a TIFF that ImageJ opens with its scale.

    Parameters
    ----------
    path : Path
        The file to make.
    image : ndarray of uint8, uint16 or float32, shape (n_rows, n_columns)
        The picture.
    pixel_size_um : float or None
        Side of a pixel in µm, where known.
    info : str, optional
        Text that ImageJ shows under Image > Show Info.
    """
    import tifffile

    scale: dict[str, Any] = {"metadata": {"axes": "YX"}}
    if info is not None:
        scale["metadata"]["Info"] = info
    if pixel_size_um is not None:
        scale["resolution"] = (1 / pixel_size_um, 1 / pixel_size_um)
        scale["metadata"]["unit"] = "um"
    tifffile.imwrite(path, image, imagej=True, **scale)


def write_roi_set(path: Path, rois: RoiSet) -> None:
    """Write the accepted ROIs as a ROI set of ImageJ.

    An ROI in one piece is a traced polygon; one with holes or of several pieces is a
    composite ROI. Both fill to exactly the pixels of the footprint.

    Parameters
    ----------
    path : Path
        The ``.zip`` file to make; without ROIs it is a valid empty archive.
    rois : RoiSet
        The candidates.
    """
    taken: set[str] = set()
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for roi in np.flatnonzero(rois.accepted):
            name = rois.ids[roi]
            # An id that a person gave may not be a file's name; the ROI itself carries the id.
            stem = re.sub(r'^\.|[\\/:*?"<>|\x00-\x1f]', "_", name)
            while stem in taken:
                stem += "_"
            taken.add(stem)
            # A fixed date: equal results give equal files.
            entry = zipfile.ZipInfo(f"{stem}.roi", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _encode(rois, int(roi), name))


def _encode(rois: RoiSet, roi: int, name: str) -> bytes:
    import roifile

    rows, columns, _ = rois.pixels(roi)
    top, left = int(rows.min()), int(columns.min())
    crop = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), np.bool_)
    crop[rows - top, columns - left] = True
    rings = outline(crop)
    shape = roifile.ImagejRoi()
    shape.name = name
    shape.top, shape.left = top, left
    shape.bottom, shape.right = top + crop.shape[0], left + crop.shape[1]
    if len(rings) == 1:
        shape.roitype = roifile.ROI_TYPE.TRACED
        shape.integer_coordinates = rings[0]
        shape.n_coordinates = len(rings[0])
    else:
        path: list[float] = []
        for ring in rings:
            for i, (x, y) in enumerate(ring.tolist()):
                path += [_LINE if i else _MOVE, x + left, y + top]
            path.append(_CLOSE)
        shape.roitype = roifile.ROI_TYPE.RECT
        shape.multi_coordinates = np.array(path, np.float32)
        shape.shape_roi_size = len(path)
    return bytes(shape.tobytes())


def read_roi_set(path: Path, frame_shape: tuple[int, int]) -> tuple[list[str], list[BoolArray]]:
    """Draw the area ROIs of an ImageJ ROI set as masks.

    Parameters
    ----------
    path : Path
        A ``.zip`` of the ROI manager, or a single ``.roi`` file.
    frame_shape : tuple of int
        Number of rows and columns of the picture they belong to.

    Returns
    -------
    names : list of str
        Name of each ROI.
    masks : list of ndarray of bool, shape (n_rows, n_columns)
        Pixels whose centre lies inside.

    Raises
    ------
    ResultError
        If the file is no ROI set, an ROI has no area, or lies outside the frame.
    """
    names, masks = [], []
    for roi in draw_roi_set(path, frame_shape):
        if roi.lack == NO_PIXEL:
            msg = (
                f"ROI {roi.name or '(unnamed)'} of {path} holds no pixel of a frame of "
                f"{frame_shape[0]} x {frame_shape[1]} (rows x columns); is it the set of "
                "another recording?"
            )
            raise ResultError(msg)
        if roi.lack:
            msg = (
                f"ROI {roi.name or '(unnamed)'} of {path} {roi.lack}; a ROI set needs polygons, "
                "rectangles, ovals or freehand areas."
            )
            raise ResultError(msg)
        mask = np.zeros(frame_shape, np.bool_)
        mask.ravel()[roi.pixels] = True
        names.append(roi.name)
        masks.append(mask)
    return names, masks


@dataclass(frozen=True, eq=False)
class DrawnRoi:
    """One ROI of an ImageJ ROI set.

    Attributes
    ----------
    name : str
        Its name; empty where it has none.
    pixels : ndarray of int32, shape (n_pixels,)
        Flat indices of the pixels whose centre lies inside, rising.
    lack : str
        Why there is no pixel, in words; empty where there is one.
    """

    name: str
    pixels: LabelArray
    lack: str


def draw_roi_set(path: Path, frame_shape: tuple[int, int]) -> list[DrawnRoi]:
    """Draw every ROI of an ImageJ ROI set; those without area or outside the frame say so.

    Polygons, freehand and traced areas, ellipses, ovals, rectangles (rotated ones too) and
    composite ROIs have an area; coordinates may be fractions of a pixel. Nothing in a file is
    executed.

    Parameters
    ----------
    path : Path
        A ``.zip`` of the ROI manager, or a single ``.roi`` file.
    frame_shape : tuple of int
        Number of rows and columns of the picture they belong to.

    Returns
    -------
    list of DrawnRoi
        In the order of the file.

    Raises
    ------
    ResultError
        If the file is no ROI set.
    """
    drawn = []
    for name, roi in _decode_roi_set(path):
        lack = _without_area(roi)
        pixels = np.zeros(0, np.int32)
        if not lack:
            try:
                rings = _rings(roi)
                pixels = np.flatnonzero(fill(rings, frame_shape)).astype(np.int32)
            except (ValueError, IndexError, OverflowError) as error:
                msg = (
                    f"ROI {name or '(unnamed)'} of {path} is damaged ({error}); "
                    "draw it again in ImageJ."
                )
                raise ResultError(msg) from error
            lack = "" if len(pixels) else NO_PIXEL
        drawn.append(DrawnRoi(name, pixels, lack))
    return drawn


def _decode_roi_set(path: Path) -> list[tuple[str, Any]]:
    """Name and content of each ROI; the name of its file where it carries none."""
    import roifile

    found: list[tuple[str, Any]] = []
    try:
        if path.suffix.lower() != ".zip":
            found.append((path.stem, roifile.ImagejRoi.frombytes(path.read_bytes())))
        else:
            with zipfile.ZipFile(path) as archive:
                for entry in _roi_entries(archive):
                    roi = roifile.ImagejRoi.frombytes(archive.read(entry))
                    found.append((Path(entry.filename).name.removesuffix(".roi"), roi))
    except Exception as error:  # readers raise whatever they like on bad bytes
        msg = f"{path} cannot be read as an ROI set of ImageJ ({error}); save it again there."
        raise ResultError(msg) from error
    return [(str(roi.name) or stem, roi) for stem, roi in found]


def _roi_entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Leave out folders, and what macOS adds to an archive; refuse one that would fill memory."""
    entries = []
    for entry in archive.infolist():
        name = entry.filename.rpartition("/")[2]
        if not (entry.is_dir() or name.startswith("._") or name == ".DS_Store"):
            entries.append(entry)
    n_bytes = sum(entry.file_size for entry in entries)
    if n_bytes > _MAX_BYTES:
        msg = f"it would unpack to {n_bytes / 1e6:.0f} MB"
        raise ValueError(msg)
    return entries


def _without_area(roi: Any) -> str:
    """Say why an ROI has no area; empty where it may have one."""
    import roifile

    kinds, subtypes = roifile.ROI_TYPE, roifile.ROI_SUBTYPE
    areas = (kinds.RECT, kinds.OVAL, kinds.POLYGON, kinds.FREEHAND, kinds.TRACED)
    if roi.multi_coordinates is not None:
        return ""
    if roi.subtype in (subtypes.TEXT, subtypes.IMAGE, subtypes.ARROW):
        kind = roi.subtype.name.lower()
    elif roi.roitype not in areas:
        kind = roi.roitype.name.lower()
    else:
        return ""
    return f"is {'an' if kind[0] in 'aeiou' else 'a'} {kind}, which has no area"


def _rings(roi: Any) -> list[AnyArray]:
    """Outlines of one ROI as arrays of (x, y) in corner coordinates."""
    import roifile

    kind = roifile.ROI_TYPE
    left, top, right, bottom = roi.left, roi.top, roi.right, roi.bottom
    if roi.widthd > 0 and roi.heightd > 0:
        left, top, right, bottom = roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
    if roi.multi_coordinates is not None:
        rings = _path_rings(roi.multi_coordinates)
    elif roi.roitype == kind.RECT:
        rings = [np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)]
    elif roi.roitype == kind.OVAL:
        angle = np.linspace(0, 2 * np.pi, 256, endpoint=False)
        x = (left + right) / 2 + (right - left) / 2 * np.cos(angle)
        y = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(angle)
        rings = [np.column_stack([x, y])]
    elif roi.subpixel_coordinates is not None:
        rings = [np.asarray(roi.subpixel_coordinates, float)]
    elif roi.integer_coordinates is not None and len(roi.integer_coordinates):
        rings = [np.asarray(roi.integer_coordinates, float) + np.array([left, top])]
    else:
        msg = "it has no outline"
        raise ValueError(msg)
    if not all(np.all(np.abs(ring) < _MAX_COORDINATE) for ring in rings):  # NaN is not, either
        msg = "its outline lies beyond any picture"
        raise ValueError(msg)
    return rings


def _path_rings(path: AnyArray) -> list[AnyArray]:
    rings: list[list[Any]] = []
    i = 0
    while i < len(path):
        segment = int(path[i])
        count = {_MOVE: 1, _LINE: 1, _QUADRATIC: 2, _CUBIC: 3, _CLOSE: 0}.get(segment)
        if count is None:
            break
        points = np.asarray(path[i + 1 : i + 1 + 2 * count], float).reshape(-1, 2)
        i += 1 + 2 * count
        if segment == _MOVE:
            rings.append([points[0]])
        elif segment == _LINE:
            rings[-1].append(points[0])
        elif segment in (_QUADRATIC, _CUBIC):
            control = np.vstack([rings[-1][-1], points])
            for t in np.linspace(0, 1, _CURVE_STEPS + 1)[1:]:
                curve = control
                while len(curve) > 1:  # de Casteljau's construction
                    curve = (1 - t) * curve[:-1] + t * curve[1:]
                rings[-1].append(curve[0])
    return [np.array(ring, float) for ring in rings if len(ring) > 2]

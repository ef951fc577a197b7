"""Recordings in Zarr stores, formats 2 and 3, and in OME-Zarr images (0.4 and 0.5)."""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import RecordingError
from cocuyo.io.arrays import guess_axes, pick_frames
from cocuyo.io.hdf5 import PIXEL_NAMES, RATE_NAMES
from cocuyo.io.readers import Choice, Reader
from cocuyo.io.sources import (
    Source,
    check_dtype,
    natural_key,
    plausible_pixel_size,
    plausible_rate,
)

_MARKS = (".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json")
# What xarray, minian and others call their axes.
_AXIS_WORDS = {
    "t": "T", "time": "T", "frame": "T", "frames": "T",
    "c": "C", "channel": "C", "channels": "C",
    "z": "Z", "plane": "Z", "depth": "Z", "slice": "Z",
    "y": "Y", "height": "Y", "row": "Y", "rows": "Y",
    "x": "X", "width": "X", "column": "X", "columns": "X",
}  # fmt: skip
_UM = {
    "angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4,
    "meter": 1e6, "µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3,
}  # fmt: skip
_SECONDS = {
    "nanosecond": 1e-9, "microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "minute": 60.0,
    "hour": 3600.0, "s": 1.0, "ms": 1e-3,
}  # fmt: skip
# Decoding must not run what a file brings along: numcodecs' "pickle" does. Only codecs that are
# known to turn bytes into numbers are let through.
_SAFE_CODECS = frozenset(
    (
        "adler32", "astype", "base64", "bitround", "blosc", "bytes", "bz2", "cast_value", "crc32",
        "crc32c", "delta", "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "lz4",
        "lzma", "packbits", "pcodec", "quantize", "scale_offset", "sharding_indexed", "shuffle",
        "transpose", "zfpy", "zlib", "zstd",
    )
)  # fmt: skip
_MAX_ARRAYS = 1000


class ZarrReader(Reader):
    """Zarr stores in folders."""

    name = "a Zarr store"
    options = frozenset(("dataset", "channel", "plane", "axes"))
    modules = ("zarr",)
    install = 'pip install "cocuyo[formats]"'

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a folder is of this kind."""
        return path.is_dir() and any((path / name).is_file() for name in _MARKS)

    def open(self, path: Path, choice: Choice) -> Source:
        """Open the array that is the movie.

        Raises
        ------
        RecordingError
            If the store is damaged, holds no movie, or several of which none was named.
        """
        with _readable(path):
            found = _find_array(path, choice.dataset)
            array, name = found.array, f"{path}:{found.array.path or '/'}"
            check_dtype(np.dtype(array.dtype), name)
            _check_codecs(array, name)
            axes = found.axes
            if choice.axes is not None or len(axes) != array.ndim:
                if array.ndim < 3:
                    msg = f"{name} has shape {array.shape}; a recording has the axes (T, Y, X)."
                    raise RecordingError(msg)
                axes = guess_axes(tuple(array.shape), name, choice)
            notes = [*found.notes, *_stored(array, name)]
            picked = pick_frames(
                array,
                axes,
                name=name,
                choice=choice,
                errors=(Exception,),  # codecs raise whatever they like on bad bytes
                chunk_frames=lambda time: int(array.chunks[time]),
            )
        time_chunk = int(array.chunks[axes.index("T")]) if "T" in axes else 1
        return Source(
            picked.movie,
            format=f"{found.kind} (format {array.metadata.zarr_format}), array {array.path or '/'}",
            access=f"in blocks, {time_chunk} frame(s) to a chunk",
            n_promised=picked.movie.shape[0],
            frame_rate_hz=plausible_rate(found.rate_hz),
            frame_rate_origin=found.rate_origin if plausible_rate(found.rate_hz) else "",
            pixel_size_um=plausible_pixel_size(found.pixel_um),
            pixel_size_origin=found.pixel_origin if plausible_pixel_size(found.pixel_um) else "",
            notes=(*notes, *picked.notes),
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what zarr raises on a damaged store into one line, and keep its warnings to itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RecordingError:
        raise
    except Exception as error:
        what = str(error) or type(error).__name__
        msg = f"{path} is a Zarr store that cannot be read; it is damaged or cut ({what})."
        raise RecordingError(msg) from error


@dataclass(frozen=True, eq=False)
class _Found:
    """An array, and what stands around it."""

    array: Any
    axes: str = ""
    kind: str = "Zarr"
    rate_hz: float | None = None
    rate_origin: str = ""
    pixel_um: float | None = None
    pixel_origin: str = ""
    notes: tuple[str, ...] = ()


def _find_array(path: Path, wanted: str | None) -> _Found:
    """Find the array that is the movie.

    Raises
    ------
    RecordingError
        If there is none, or several would do and none was named.
    """
    import zarr

    root = zarr.open(str(path), mode="r")
    if isinstance(root, zarr.Array):
        if wanted is not None:
            msg = f"A data set ({wanted}) was named, but {path} is a single Zarr array."
            raise RecordingError(msg)
        return _plain(root, root.attrs)
    if wanted is not None:
        item = root.get(wanted.strip("/"))
        if isinstance(item, zarr.Array):
            return _plain(item, root.attrs)
        if item is None or not _multiscales(item.attrs):
            msg = f"{path} has no array {wanted!r}. Arrays in it: {_listing(_arrays(root))}."
            raise RecordingError(msg)
        return _image(item)
    if _multiscales(root.attrs):
        return _image(root)
    # A store lists its groups in any order.
    groups = sorted(root.groups(), key=lambda found: natural_key(found[0]))
    images = [group for _, group in groups if _multiscales(group.attrs)]
    if len(images) == 1:  # the layout of bioformats2raw
        return _image(images[0])
    if images:
        names = ", ".join(group.path for group in images)
        msg = f"{path} holds {len(images)} OME-Zarr images; choose one with --dataset: {names}."
        raise RecordingError(msg)
    arrays = _arrays(root)
    movies = [array for array in arrays if array.ndim == 3 and np.dtype(array.dtype).kind in "buif"]
    if not movies:
        movies = [a for a in arrays if a.ndim > 3 and np.dtype(a.dtype).kind in "buif"]
    if len(movies) != 1:
        msg = (
            f"{path} holds {len(movies)} arrays with the axes of a recording; "
            f"name one with --dataset. Arrays: {_listing(arrays)}."
        )
        raise RecordingError(msg)
    return _plain(movies[0], root.attrs)


def _arrays(root: Any) -> list[Any]:
    import zarr

    found: list[Any] = []
    for _, item in root.members(max_depth=6):
        if isinstance(item, zarr.Array):
            found.append(item)
        if len(found) >= _MAX_ARRAYS:
            break
    return sorted(found, key=lambda array: str(array.path))


def _listing(arrays: list[Any]) -> str:
    return ", ".join(f"{array.path} {tuple(array.shape)}" for array in arrays[:20]) or "none"


def _plain(array: Any, root: Mapping[str, Any]) -> _Found:
    """Read what the attributes of an array and of its store say."""
    names = array.attrs.get("_ARRAY_DIMENSIONS")
    names = names or getattr(array.metadata, "dimension_names", None) or ()
    axes = "".join(_AXIS_WORDS.get(str(name).lower(), "?") for name in names)
    rate, rate_origin = _attribute(array.attrs, root, RATE_NAMES)
    pixel, pixel_origin = _attribute(array.attrs, root, PIXEL_NAMES)
    return _Found(
        array,
        _usable_axes(axes),
        rate_hz=rate,
        rate_origin=rate_origin,
        pixel_um=pixel,
        pixel_origin=pixel_origin,
    )


def _usable_axes(axes: str) -> str:
    fits = {"Y", "X"} <= set(axes) <= set("TZCYX") and len(set(axes)) == len(axes)
    return axes if fits else ""


def _attribute(
    own: Mapping[str, Any], root: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[float | None, str]:
    for where, attributes in (("array", own), ("store", root)):
        for name in names:
            value = attributes.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value), f"the attribute {name} of the Zarr {where}"
    return None, ""


# --- OME-Zarr ----------------------------------------------------------------------------------


def _multiscales(attributes: Mapping[str, Any]) -> list[Any]:
    """Give the images that a group describes: under ``ome`` from version 0.5 on."""
    inner = attributes.get("ome")
    holder = inner if isinstance(inner, Mapping) else attributes
    found = holder.get("multiscales")
    return found if isinstance(found, list) else []


def _image(group: Any) -> _Found:
    """Open the full resolution of an OME-Zarr image.

    Raises
    ------
    RecordingError
        If its description is not that of an image.
    """
    import zarr

    place = f"{group.store_path}"
    image = _multiscales(group.attrs)[0]
    try:
        first = image["datasets"][0]
        array = group[first["path"]]
        axes = image.get("axes", list("tczyx"))  # version 0.3 and before: no units
        axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in axes]
        names = [str(axis["name"]).lower() for axis in axes]
        scale = np.ones(len(names))
        given = [False] * len(names)
        for holder in (first, image):
            for step in holder.get("coordinateTransformations", ()):
                if step.get("type") == "scale":
                    scale = scale * np.asarray(step["scale"], np.float64)
                    given = [True] * len(names)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        msg = f"{place} is an OME-Zarr image whose description is damaged ({error!r})."
        raise RecordingError(msg) from error
    if not isinstance(array, zarr.Array):
        msg = f"{place} is an OME-Zarr image whose first data set ({first['path']}) is no array."
        raise RecordingError(msg)
    letters = "".join(_AXIS_WORDS.get(name, "?") for name in names)

    def measure(letter: str, units: dict[str, float]) -> float | None:
        at = letters.find(letter)
        factor = units.get(str(axes[at].get("unit", "")).lower()) if at >= 0 else None
        return float(scale[at]) * factor if factor is not None and given[at] else None

    interval = measure("T", _SECONDS)
    wordless = [
        scale[at]
        for at, axis in enumerate(axes)
        if letters[at] in "TYX" and scale[at] != 1 and not axis.get("unit")
    ]
    sides = measure("Y", _UM), measure("X", _UM)
    notes = []
    if wordless:
        notes.append(
            "The image has a scale but no unit of it; give pixel size and frame rate yourself "
            "(--pixel-size, --frame-rate)."
        )
    pixel = None
    if sides[0] and sides[1]:
        pixel = float(np.sqrt(sides[0] * sides[1]))
        if abs(sides[0] - sides[1]) > 0.01 * pixel:
            notes.append(
                f"Pixels are {sides[0]:.4g} x {sides[1]:.4g} µm; they are taken as squares of "
                f"{pixel:.4g} µm of the same area."
            )
    if len(image["datasets"]) > 1:
        notes.append(f"Of {len(image['datasets'])} resolutions the full one is read.")
    return _Found(
        array,
        _usable_axes(letters),
        kind="OME-Zarr",
        rate_hz=1 / interval if interval else None,
        rate_origin="the time scale of the OME-Zarr image",
        pixel_um=pixel,
        pixel_origin="the scale of the OME-Zarr image",
        notes=tuple(notes),
    )


# --- What is stored ----------------------------------------------------------------------------


def _check_codecs(array: Any, name: str) -> None:
    """Refuse an array whose decoding could run code that the file brings along.

    Raises
    ------
    RecordingError
        If a codec is not one of those known to turn bytes into numbers.
    """
    described = json.loads(json.dumps(array.metadata.to_dict(), default=str))
    codecs: list[Any] = list(described.get("codecs") or ())
    codecs += list(described.get("filters") or ())
    codecs.append(described.get("compressor"))
    while codecs:
        codec = codecs.pop()
        if codec is None:
            continue
        if not isinstance(codec, dict):
            kind = str(codec)
        else:
            kind = str(codec.get("id", codec.get("name", "")))
            inner = codec.get("configuration") or {}
            codecs += [*(inner.get("codecs") or ()), *(inner.get("index_codecs") or ())]
        plain = kind.removeprefix("numcodecs.").removeprefix("imagecodecs_")
        if plain not in _SAFE_CODECS and not kind.startswith("imagecodecs_"):
            msg = (
                f"{name} is packed with {kind!r}, which cocuyo does not decode: it reads codecs "
                "of numbers only. Write the array again with blosc, zstd, gzip or none."
            )
            raise RecordingError(msg)


def _stored(array: Any, name: str) -> list[str]:
    """Tell where chunks are absent, which Zarr reads as its fill value.

    Raises
    ------
    RecordingError
        If none is there.
    """
    there, wanted = int(array.nchunks_initialized), int(array.nchunks)
    if there == 0:
        msg = (
            f"{name} says that its shape is {tuple(array.shape)}, but nothing is stored; "
            "it was not written, or only its description was copied. Copy it again."
        )
        raise RecordingError(msg)
    if there < wanted:
        return [
            f"{wanted - there} of {wanted} chunks are not stored and read as "
            f"{array.fill_value}: frames there are empty, or a part was not copied."
        ]
    return []

"""Recordings in TIFF files: plain, BigTIFF, ImageJ, OME, written whole or page by page.

The chain of pages is walked here, not by tifffile, for two reasons: a file cut in the middle
must say how many frames are good, and pages written one by one, which tifffile shows as many
series of one image, are one movie to us.
"""

import json
import logging
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from cocuyo.core import AnyArray, MissingExtraError, RecordingError
from cocuyo.io.readers import Choice, Reader
from cocuyo.io.sources import (
    GREY_EQUAL_NOTE,
    GREY_NOTE,
    MAX_FRAME_PIXELS,
    MAX_FRAMES,
    TIFF_SUFFIXES,
    RawMovie,
    Source,
    check_dtype,
    equal_channels,
    plausible_pixel_size,
    plausible_rate,
    select_frames,
    to_grey,
)

# --- The chain of pages ------------------------------------------------------------------------

_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # TIFF 6.0 and BigTIFF, integers
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _FILL_ORDER = 256, 257, 258, 259, 266
_STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES = 273, 277, 279
_TILE_OFFSETS, _TILE_BYTES, _SUBFILE, _SAMPLE_FORMAT = 324, 325, 254, 339
_WANTED = frozenset(
    (_WIDTH, _LENGTH, _BITS, _COMPRESSION, _FILL_ORDER, _STRIP_OFFSETS, _SAMPLES,
     _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES, _SUBFILE, _SAMPLE_FORMAT)
)  # fmt: skip


class Page(NamedTuple):
    """One image of the file.

    Attributes
    ----------
    ifd : int
        Position of its directory.
    layout : tuple
        Width, length, bits, samples, sample format, compression: equal for all frames.
    start : int
        Position of its first byte.
    raw : bool
        Whether its bytes lie there uncompressed in one run.
    """

    ifd: int
    layout: tuple[Any, ...]
    start: int
    raw: bool


@dataclass(frozen=True)
class Chain:
    """All pages that are whole, and what is wrong after them.

    Attributes
    ----------
    pages : tuple of Page
        The pages, without reduced images (previews).
    damage : str
        Empty where the chain ends as it should.
    second_ifd : int
        Where the first page says that the second directory is; 0 for none.
    order : {"<", ">"}
        Byte order of the file.
    last_ifd : int
        Position of the last directory that is whole; 0 for none.
    n_directories : int
        Number of whole directories, previews counted.
    """

    pages: tuple[Page, ...]
    damage: str
    second_ifd: int
    order: Literal["<", ">"]
    last_ifd: int = 0
    n_directories: int = 0


class _Broken(Exception):  # noqa: N818 - a finding, not a failure
    """Why a page is not whole."""


_LOOP = "the directory of the next page is an earlier one"
_NO_DIRECTORY = "the file ends before the directory of the next page"
_BAD_DIRECTORY = "the directory of the next page is damaged"
_CUT_DIRECTORY = "the file ends inside the directory of the next page"
_CUT_IMAGE = "the file ends inside the next image"


def walk_pages(path: Path, *, known: Chain | None = None) -> Chain:
    """Walk the directories of a TIFF file as far as they are whole.

    Parameters
    ----------
    path : Path
        The file.
    known : Chain, optional
        What an earlier walk found, while the file was shorter: it goes on from there.

    Returns
    -------
    Chain
        The whole pages and the damage after them.
    """
    size = path.stat().st_size
    pages: list[Page] = []
    damage = ""
    second = last = n_seen = 0
    with path.open("rb") as file:
        head = file.read(16).ljust(16, b"\0")
        order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\0", b"\0+")
        at = struct.unpack_from(order + "Q", head, 8)[0] if big else 0
        at = at if big else struct.unpack_from(order + "I", head, 4)[0]
        seen: set[int] = set()
        if known is not None and known.last_ifd:  # the last one may point to the next by now
            at, n_seen, second = known.last_ifd, known.n_directories - 1, known.second_ifd
            pages = [page for page in known.pages if page.ifd != at]
        while at:
            try:
                seen.add(at)
                page, at, preview = _read_page(file, at, order, big, size)
            except _Broken as reason:
                damage = str(reason)
                break
            n_seen, last = n_seen + 1, page.ifd
            if n_seen == 1:
                second = at
            if not preview:
                pages.append(page)
            if at in seen:
                damage = _LOOP
                break
    return Chain(tuple(pages), damage, second, order, last, n_seen)


def _read_page(file: BinaryIO, at: int, order: str, big: bool, size: int) -> tuple[Page, int, bool]:
    n_count, n_entry, n_next = (8, 20, 8) if big else (2, 12, 4)
    if not 8 <= at <= size - n_count:
        raise _Broken(_NO_DIRECTORY)
    file.seek(at)
    n_tags = int.from_bytes(file.read(n_count), "little" if order == "<" else "big")
    if not 0 < n_tags <= 4096:
        raise _Broken(_BAD_DIRECTORY)
    body = file.read(n_tags * n_entry + n_next)
    if len(body) < n_tags * n_entry + n_next:
        raise _Broken(_CUT_DIRECTORY)
    tags: dict[int, tuple[int, ...]] = {}
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    for tag, kind, count, value in entry.iter_unpack(body[: n_tags * n_entry]):
        if tag in _WANTED and kind in _FORMATS:
            tags[tag] = _values(file, f"{order}{count}{_FORMATS[kind]}", value, size)
    next_ifd = struct.unpack(order + ("Q" if big else "I"), body[-n_next:])[0]
    try:
        width, length = tags[_WIDTH][0], tags[_LENGTH][0]
        starts = tags[_TILE_OFFSETS] if _TILE_OFFSETS in tags else tags[_STRIP_OFFSETS]
    except (KeyError, IndexError):
        raise _Broken(_BAD_DIRECTORY) from None
    if not 0 < width * length <= MAX_FRAME_PIXELS:
        raise _Broken(_BAD_DIRECTORY)
    bits = tags.get(_BITS, (1,))
    samples = tags.get(_SAMPLES, (1,))[0]
    compression = tags.get(_COMPRESSION, (1,))[0]
    n_bytes = width * length * sum(bits if len(bits) == samples else bits * samples) // 8
    counts = tags.get(_TILE_BYTES, tags.get(_STRIP_BYTES, ()))
    raw = compression == 1 and samples == 1 and _TILE_OFFSETS not in tags
    raw = raw and bits[0] in (8, 16, 32, 64) and tags.get(_FILL_ORDER, (1,))[0] == 1
    if raw and len(starts) > 1:
        raw = len(counts) == len(starts) and all(
            a + n == b for a, n, b in zip(starts, counts, starts[1:], strict=False)
        )
    if raw:
        end = starts[0] + n_bytes
    elif len(counts) == len(starts):
        end = max(a + n for a, n in zip(starts, counts, strict=True))
    else:
        end = max(starts)
    if end > size:
        raise _Broken(_CUT_IMAGE)
    layout = (width, length, bits, samples, tags.get(_SAMPLE_FORMAT, (1,)), compression)
    preview = bool(tags.get(_SUBFILE, (0,))[0] & 1)
    return Page(at, layout, starts[0], raw), next_ifd, preview


def _values(file: BinaryIO, code: str, value: bytes, size: int) -> tuple[int, ...]:
    """Unpack the values of an entry, from the entry itself or where it points to."""
    try:
        width = struct.calcsize(code)
    except (struct.error, OverflowError):
        raise _Broken(_BAD_DIRECTORY) from None
    if not 0 < width <= size:
        raise _Broken(_BAD_DIRECTORY)
    if width > len(value):
        where = int.from_bytes(value, "little" if code[0] == "<" else "big")
        if where + width > size:
            raise _Broken(_CUT_DIRECTORY)
        file.seek(where)
        value = file.read(width)
    return struct.unpack_from(code, value)


# --- Movies ------------------------------------------------------------------------------------


class PagedMovie:
    """Frames that tifffile decodes page by page.

    Parameters
    ----------
    path : Path
        The file.
    shape : tuple of int
        Frames, rows and columns.
    dtype : dtype
        Type of the values.
    ifds : ndarray of int64, shape (n_frames,)
        Position of each frame's directory.
    sample : int or None
        The colour to take; None makes grey of colour.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        dtype: "np.dtype[np.generic]",
        ifds: NDArray[np.int64],
        sample: int | None,
    ) -> None:
        self._path = path
        self._ifds = ifds
        self._sample = sample
        self.shape = shape
        self.dtype = dtype

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        import tifffile

        places = self._ifds[start:stop].tolist()
        frames = np.empty((len(places), *self.shape[1:]), self.dtype)
        with quiet_tifffile(), tifffile.TiffFile(self._path) as tif:
            for i, place in enumerate(places):
                try:
                    tif.filehandle.seek(place)
                    picture = _decode(tifffile.TiffPage(tif, start + i), self._path)
                    frames[i] = self._one_plane(picture)
                except (MissingExtraError, RecordingError, MemoryError):
                    raise
                except Exception as error:  # decoders raise whatever they like on bad bytes
                    msg = (
                        f"Frame {start + i} of {self._path} is damaged and cannot be decoded "
                        f"({error}). Leave it out with --frames A:B, or copy the file again."
                    )
                    raise RecordingError(msg) from error
        return frames

    def _one_plane(self, picture: AnyArray) -> AnyArray:
        if picture.ndim == 2:
            return picture
        return to_grey(picture) if self._sample is None else picture[..., self._sample]


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Keep tifffile from logging what we say in an error of our own.

    Yields
    ------
    None
        Nothing.
    """
    logger = logging.getLogger("tifffile")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _decode(page: Any, path: Path) -> AnyArray:
    """Decode a page to (Y, X) or (Y, X, samples)."""
    try:
        picture = np.asarray(page.asarray())
    except Exception as error:
        if isinstance(error, ImportError) or "imagecodecs" in str(error):
            msg = (
                f"{path} is compressed ({page.compression.name}), which needs an extra package: "
                'pip install "cocuyo[formats]".'
            )
            raise MissingExtraError(msg) from error
        raise
    if picture.ndim == 3 and int(page.planarconfig or 1) == 2:
        picture = np.moveaxis(picture, 0, -1)
    return picture


# --- Opening -----------------------------------------------------------------------------------


class TiffReader(Reader):
    """TIFF files in all their writings."""

    name = "a TIFF file"
    suffixes = TIFF_SUFFIXES
    options = frozenset(("channel", "plane"))

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind."""
        return head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))

    def open(self, path: Path, choice: Choice) -> Source:
        """Open the pages as frames.

        Raises
        ------
        RecordingError
            If no page is whole, pages differ, or a choice of channel or plane is missing.
        MissingExtraError
            If the compression needs the extra ``formats``.
        """
        return open_tiff(path, channel=choice.channel, plane=choice.plane)


def open_tiff(
    path: Path,
    *,
    channel: int | None = None,
    plane: int | None = None,
    chain: Chain | None = None,
) -> Source:
    """Open a TIFF file.

    Parameters
    ----------
    path : Path
        The file.
    channel, plane : int, optional
        Which to read of several channels or planes, from 0.
    chain : Chain, optional
        Its pages, where they are known already.

    Returns
    -------
    Source
        Its frames, with what the file says of time and space.

    Raises
    ------
    RecordingError
        If no page is whole, pages differ, or a choice of channel or plane is missing.
    MissingExtraError
        If the compression needs the extra ``formats``.
    """
    chain = chain or walk_pages(path)
    if not chain.pages:
        reason = chain.damage or "it holds no image"
        msg = f"{path} is a TIFF file without a whole image: {reason}."
        raise RecordingError(msg)
    probe = _probe(path, chain.pages[0])
    facts, first, dtype = probe.facts, chain.pages[0], probe.dtype
    if facts.n_planes > MAX_FRAMES:
        msg = f"{path} says that it holds {facts.n_planes} images; its description is damaged."
        raise RecordingError(msg)
    if probe.samples > 1 and facts.n_planes == probe.samples and len(chain.pages) == 1:
        msg = (
            f"{path} holds its {facts.n_planes} frames as the colours of one image, as tifffile "
            "writes 3 or 4 of them; write it again with photometric='minisblack'."
        )
        raise RecordingError(msg)
    frame_shape = (int(first.layout[1]), int(first.layout[0]))
    offsets, damage, n_promised = _place_planes(chain, facts, dtype.itemsize, path.stat().st_size)
    pages = chain.pages
    if offsets is None:
        _check_alike(pages, path)
    axes, page_of_plane = _axes(facts, n_promised)
    lost = "The directories of the pages are damaged; all images are there and are read."
    notes = [lost] if chain.damage and not damage else []
    sample, channel, colour_notes = _choose_sample(probe, axes, channel, path)
    chosen = select_frames(axes, name=str(path), channel=channel, plane=plane)
    planes = page_of_plane[chosen.planes]
    whole = planes < (len(pages) if offsets is None else len(offsets))
    n_frames = len(planes) if whole.all() else int(np.argmin(whole))
    planes = planes[:n_frames]

    raw = first.raw and (offsets is not None or all(page.raw for page in pages))
    if raw:
        starts = np.array([p.start for p in pages], np.int64) if offsets is None else offsets
        stored = dtype.newbyteorder(chain.order)
        movie: RawMovie | PagedMovie = RawMovie(path, stored, frame_shape, starts[planes])
    else:
        ifds = np.array([page.ifd for page in pages], np.int64)[planes]
        native = dtype.newbyteorder("=")
        movie = PagedMovie(path, (n_frames, *frame_shape), native, ifds, sample)
    return Source(
        movie,
        format=facts.kind,
        access="directly, uncompressed" if raw else "decoded page by page",
        n_promised=len(chosen.planes),
        damage=damage,
        frame_rate_hz=facts.rate_hz,
        frame_rate_origin=facts.rate_origin,
        pixel_size_um=facts.pixel_um,
        pixel_size_origin=facts.pixel_origin,
        notes=(*notes, *colour_notes, *chosen.notes, *facts.notes),
    )


@dataclass(frozen=True, eq=False)
class _Probe:
    """What the first page tells."""

    facts: "_Facts"
    dtype: "np.dtype[np.generic]"
    samples: int
    picture: AnyArray | None  # decoded where it has to be
    photometric: int


def _probe(path: Path, first: Page) -> _Probe:
    import tifffile

    try:
        with quiet_tifffile(), tifffile.TiffFile(path) as tif:
            tif.filehandle.seek(first.ifd)
            page = tifffile.TiffPage(tif, 0)
            facts = _read_facts(tif, page)
            samples = int(page.samplesperpixel)
            dtype = page.dtype
            picture = None if first.raw else _decode(page, path)
            photometric = int(page.photometric)
    except (RecordingError, MissingExtraError, OSError, MemoryError):
        raise
    except Exception as error:  # parsers and decoders raise whatever they like on bad bytes
        msg = f"{path} is a damaged TIFF file: {error}"
        raise RecordingError(msg) from error
    if dtype is None:
        msg = f"{path} holds values of a type that cannot be read ({first.layout[2]} bits)."
        raise RecordingError(msg)
    check_dtype(dtype, str(path))
    return _Probe(facts, np.dtype(dtype), samples, picture, photometric)


def read_first_page(path: Path) -> AnyArray:
    """Read the first image of a TIFF file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray, shape (n_rows, n_columns) or (n_rows, n_columns, n_samples)
        The image as stored, red first where it is in colour.

    Raises
    ------
    RecordingError
        If it cannot be decoded.
    MissingExtraError
        If its compression needs the extra ``formats``.
    """
    import tifffile

    try:
        with quiet_tifffile(), tifffile.TiffFile(path) as tif:
            return _decode(tif.pages[0], path)
    except (MissingExtraError, OSError, MemoryError):
        raise
    except Exception as error:
        msg = f"{path} cannot be decoded: {error}"
        raise RecordingError(msg) from error


def _check_alike(pages: tuple[Page, ...], path: Path) -> None:
    first = pages[0].layout
    for i, page in enumerate(pages):
        if page.layout != first:
            msg = (
                f"Page {i} of {path} has {page.layout[1]} x {page.layout[0]} pixels "
                f"({page.layout[2][0]} bits), page 0 has {first[1]} x {first[0]} "
                f"({first[2][0]} bits); the frames of a recording are alike."
            )
            raise RecordingError(msg)


_PHOTOMETRIC_NOTES = {
    0: "The file says that 0 is white; the stored values are used, so high ones count as bright.",
    3: "The file has a colour table; the stored values are used.",
}


def _choose_sample(
    probe: _Probe, axes: tuple[tuple[str, int], ...], channel: int | None, path: Path
) -> tuple[int | None, int | None, list[str]]:
    """Say which of several values in a pixel to take, what is left of the choice, and notes."""
    n = probe.samples
    notes = []
    if probe.photometric in _PHOTOMETRIC_NOTES:
        notes.append(_PHOTOMETRIC_NOTES[probe.photometric])
    n_channels = math.prod(size for label, size in axes if label == "C")
    if n > 1 and n_channels == 1 and channel is not None:
        if not 0 <= channel < n:
            msg = f"--channel {channel} was given, but {path} has {n} channels, counted from 0."
            raise RecordingError(msg)
        return channel, None, [*notes, f"Channel {channel} of {n} is read."]
    if n == 2 or n > 4:
        msg = (
            f"{path} has {n} channels in each image; a recording is one image per time. "
            f"Choose with --channel N (0 to {n - 1})."
        )
        raise RecordingError(msg)
    if n > 2:
        equal = (
            probe.picture is not None and probe.picture.ndim == 3 and equal_channels(probe.picture)
        )
        notes.append(GREY_EQUAL_NOTE if equal else GREY_NOTE)
    return None, channel, notes


def _place_planes(
    chain: Chain, facts: "_Facts", itemsize: int, size: int
) -> tuple[NDArray[np.int64] | None, str, int]:
    """Find whether planes lie one after the other without directories of their own.

    ImageJ writes stacks above 4 GB so, and ImageJ and tifffile put the directories of all
    other pages behind the images, where a cut file has lost them.

    Returns
    -------
    offsets : ndarray of int64 or None
        Where each whole plane starts; None to use the chain's pages.
    damage : str
        What is wrong after the last whole plane.
    n_promised : int
        Number of planes that the file says it has.
    """
    n_pages = len(chain.pages)
    first = chain.pages[0]
    n_bytes = int(first.layout[0]) * int(first.layout[1]) * itemsize
    n_planes = facts.n_planes
    steps = np.diff([page.start for page in chain.pages])
    if chain.damage and n_planes == 1 and first.raw and np.all(steps == n_bytes):
        # The description is lost too. Where the second directory was to lie several images on,
        # these images lie before it.
        n_planes = min((chain.second_ifd - first.start) // n_bytes, MAX_FRAMES)
    if n_planes <= n_pages:
        return None, chain.damage, n_pages
    end = first.start + n_bytes * n_planes
    behind = chain.second_ifd == 0 or chain.second_ifd >= min(end, size)
    if not (first.raw and np.all(steps == n_bytes) and (n_pages > 1 or behind)):
        damage = chain.damage or f"the chain of pages ends, where {n_planes} were promised"
        return None, damage, n_planes
    n_good = min(n_planes, (size - first.start) // n_bytes)
    damage = "" if n_good == n_planes else "the file ends inside the next image"
    return first.start + n_bytes * np.arange(n_good, dtype=np.int64), damage, n_planes


def _axes(facts: "_Facts", n_planes: int) -> tuple[tuple[tuple[str, int], ...], NDArray[np.int64]]:
    """Give the axes before Y and X, and the page of each plane."""
    if facts.axes and math.prod(size for _, size in facts.axes) == n_planes:
        pages = np.arange(n_planes, dtype=np.int64) if facts.pages is None else facts.pages
        return facts.axes, pages
    if facts.pages is not None and facts.axes:  # OME whose pages do not follow the planes
        return facts.axes, facts.pages
    return (("T", n_planes),), np.arange(n_planes, dtype=np.int64)


# --- What the file says ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    kind: str
    n_planes: int = 1
    axes: tuple[tuple[str, int], ...] = ()
    pages: NDArray[np.int64] | None = None
    rate_hz: float | None = None
    rate_origin: str = ""
    pixel_um: float | None = None
    pixel_origin: str = ""
    notes: tuple[str, ...] = ()


_SECONDS = {
    "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "secs": 1.0,
    "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "us": 1e-6, "µs": 1e-6, "usec": 1e-6, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
}  # fmt: skip
_MICROMETRES = {
    "um": 1.0, "µm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0, "in": 25400.0,
}  # fmt: skip


def _unit(text: object) -> str:
    word = str(text).strip().strip("\0").replace("\\u00b5", "µ").replace("\\u00B5", "µ")
    return word.replace("μ", "µ").lower()


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]  # anything a file may hold
    except (TypeError, ValueError):
        return None


def _read_facts(tif: Any, page: Any) -> _Facts:
    big = "BigTIFF" if tif.is_bigtiff else "TIFF"
    text = page.description or ""
    if text.startswith("ImageJ="):
        return _imagej_facts(text, page, big)
    if "<OME" in text[:2000] or "<ome:OME" in text[:2000]:
        facts = _ome_facts(text, big, int(page.samplesperpixel))
        if facts is not None:
            return facts
    kind = big
    values: dict[str, Any] = {}
    if text.startswith("{"):
        try:
            loaded = json.loads(text)
        except ValueError:
            loaded = None
        values = loaded if isinstance(loaded, dict) else {}
    axes: tuple[tuple[str, int], ...] = ()
    shape = values.get("shape")
    if isinstance(shape, list) and all(isinstance(n, int) and n > 0 for n in shape):
        axes = _shaped_axes(shape, str(values.get("axes", "")), int(page.samplesperpixel))
    rate = plausible_rate(_number(values.get("fps", values.get("frame_rate_hz"))))
    interval = _number(values.get("finterval"))
    if rate is None and interval:
        rate = plausible_rate(1 / interval)
    pixel, origin = _resolution(page)
    return _Facts(
        kind,
        n_planes=math.prod(size for _, size in axes),
        axes=axes,
        rate_hz=rate,
        rate_origin="the description in the TIFF file" if rate else "",
        pixel_um=pixel,
        pixel_origin=origin,
    )


def _shaped_axes(shape: list[int], labels: str, samples: int) -> tuple[tuple[str, int], ...]:
    """Axes before Y and X of a shape that tifffile wrote."""
    n_last = 3 if samples > 1 else 2
    leading = shape[:-n_last]
    if len(labels) == len(shape):
        return tuple(
            (label if label in "TZC" else "Q", size)
            for label, size in zip(labels.upper(), shape, strict=True)
            if label not in "YXS"
        )
    if len(leading) == 1:
        return (("T", leading[0]),)
    return tuple(("Q", size) for size in leading)


def _resolution(page: Any) -> tuple[float | None, str]:
    """Pixel size from the resolution tags, where they are more than a printer's default."""
    unit = {2: 25400.0, 3: 10000.0}.get(int(page.resolutionunit or 1))
    per_unit = _per_unit(page)
    if unit is None or per_unit is None:
        return None, ""
    size = plausible_pixel_size(unit / per_unit)
    # 72 to 600 dots per inch (42 µm and more) is paper or a screen, not a microscope.
    if size is None or size > 40:
        return None, ""
    return size, "the resolution in the TIFF file"


def _per_unit(page: Any) -> float | None:
    tag = page.tags.get("XResolution")
    if tag is None:
        return None
    value = tag.value
    if isinstance(value, tuple) and len(value) == 2:
        return value[0] / value[1] if value[0] > 0 and value[1] > 0 else None
    number = _number(value)
    return number if number is not None and number > 0 else None


def _imagej_facts(text: str, page: Any, big: str) -> _Facts:
    values = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip().lower()] = value.strip()

    def count(key: str) -> int:
        number = _number(values.get(key))
        return int(number) if number is not None and number >= 1 else 1

    images = count("images")
    channels, slices, frames = count("channels"), count("slices"), count("frames")
    if channels * slices * frames != images:
        channels, slices, frames = 1, 1, images
    axes = (("T", frames), ("Z", slices), ("C", channels))  # ImageJ: channel fastest

    rate, origin = None, ""
    interval = _number(values.get("finterval", values.get("frame interval")))
    seconds = _SECONDS.get(_unit(values.get("tunit", "")))
    if interval and seconds:
        rate = plausible_rate(1 / (interval * seconds))
        origin = "ImageJ's frame interval"
    notes = []
    if rate is None:
        rate = plausible_rate(_number(values.get("fps")))
        origin = "ImageJ's fps"
        if rate is not None:
            notes.append(
                "The frame rate is ImageJ's fps, which may be a playback speed; "
                "check it, and give the true one with --frame-rate."
            )
    pixel = None
    unit = _MICROMETRES.get(_unit(values.get("unit", "")))
    per_unit = _per_unit(page)
    if unit is not None and per_unit:
        pixel = plausible_pixel_size(unit / per_unit)
    return _Facts(
        "ImageJ TIFF" if big == "TIFF" else "ImageJ BigTIFF",
        n_planes=images,
        axes=axes,
        rate_hz=rate,
        rate_origin=origin if rate else "",
        pixel_um=pixel,
        pixel_origin="ImageJ's calibration" if pixel else "",
        notes=tuple(notes),
    )


def _ome_facts(text: str, big: str, samples: int) -> _Facts | None:
    """Read the OME-XML of the first image; None where there is none to use."""
    try:
        root = ET.fromstring(text.strip().strip("\0"))
    except ET.ParseError:
        return None
    images = [element for element in root if _tag(element) == "Image"]
    pixels = next((e for image in images[:1] for e in image if _tag(e) == "Pixels"), None)
    if pixels is None:
        return None
    sizes = {axis: int(_number(pixels.get(f"Size{axis}")) or 1) for axis in "TZC"}
    if samples > 1 and sizes["C"] % samples == 0:
        sizes["C"] //= samples
    order = re.sub("[^TZC]", "", pixels.get("DimensionOrder", "XYCZT"))[::-1]
    order = order if sorted(order) == ["C", "T", "Z"] else "TZC"
    axes = tuple((axis, sizes[axis]) for axis in order)
    notes = []
    if len(images) > 1:
        notes.append(f"The OME-TIFF holds {len(images)} images; the first is read.")
    pixel = None
    unit = _MICROMETRES.get(_unit(pixels.get("PhysicalSizeXUnit", "µm")))
    size = _number(pixels.get("PhysicalSizeX"))
    if unit is not None and size:
        pixel = plausible_pixel_size(size * unit)
    rate, origin = _ome_rate(pixels)
    pages = _ome_pages(pixels, order, sizes)
    n_planes = math.prod(sizes.values())
    return _Facts(
        f"OME-{big}",
        n_planes=n_planes if pages is None else int(pages.max()) + 1,
        axes=axes,
        pages=pages,
        rate_hz=rate,
        rate_origin=origin,
        pixel_um=pixel,
        pixel_origin="PhysicalSizeX of the OME metadata" if pixel else "",
        notes=tuple(notes),
    )


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _ome_rate(pixels: ET.Element) -> tuple[float | None, str]:
    step = _number(pixels.get("TimeIncrement"))
    unit = _SECONDS.get(_unit(pixels.get("TimeIncrementUnit", "s")))
    if step and unit:
        rate = plausible_rate(1 / (step * unit))
        if rate is not None:
            return rate, "TimeIncrement of the OME metadata"
    times: dict[int, float] = {}
    for element in pixels:
        if _tag(element) != "Plane":
            continue
        delta, at = _number(element.get("DeltaT")), _number(element.get("TheT"))
        unit = _SECONDS.get(_unit(element.get("DeltaTUnit", "s")))
        if delta is not None and at is not None and unit:
            times.setdefault(int(at), delta * unit)
    steps = np.diff([times[at] for at in sorted(times)])
    if len(steps) and np.all(steps > 0):
        rate = plausible_rate(1 / float(np.median(steps)))
        if rate is not None:
            return rate, "DeltaT of the OME metadata"
    return None, ""


def _ome_pages(pixels: ET.Element, order: str, sizes: dict[str, int]) -> NDArray[np.int64] | None:
    """Page of each plane where the metadata say it; None where pages follow the planes.

    Raises
    ------
    RecordingError
        If planes lie in other files.
    """
    shape = tuple(sizes[axis] for axis in order)
    n_planes = math.prod(shape)
    if not 0 < n_planes <= MAX_FRAMES:
        return None
    pages = np.full(n_planes, -1, np.int64)
    files = set()
    ifd = 0
    for element in (e for e in pixels if _tag(e) == "TiffData"):
        uuid = next((e for e in element if _tag(e) == "UUID"), None)
        if uuid is not None:
            files.add(uuid.get("FileName", uuid.text))
        first = {axis: int(_number(element.get(f"First{axis}")) or 0) for axis in "TZC"}
        given = _number(element.get("IFD"))
        ifd = ifd if given is None else int(given)
        count = _number(element.get("PlaneCount"))
        n = int(count) if count is not None else (n_planes if given is None else 1)
        if any(first[axis] >= sizes[axis] for axis in "TZC"):
            continue
        at = int(np.ravel_multi_index(tuple(first[axis] for axis in order), shape))
        n = min(n, n_planes - at)
        pages[at : at + n] = np.arange(ifd, ifd + n)
        ifd += n
    if len(files) > 1:
        msg = (
            f"The OME-TIFF is split over {len(files)} files. Give them as the parts of one "
            "recording after saving each with its own metadata, or save it as one file."
        )
        raise RecordingError(msg)
    if np.all(pages == -1) or np.any(pages < 0):
        return None
    return None if np.array_equal(pages, np.arange(n_planes)) else pages

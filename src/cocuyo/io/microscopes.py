"""Recordings in the files of microscopes' makers, through their libraries or well-kept ones."""

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from cocuyo.core import AnyArray, CocuyoError, RecordingError
from cocuyo.io.readers import Choice, Reader
from cocuyo.io.sources import (
    GREY_EQUAL_NOTE,
    GREY_NOTE,
    Source,
    check_dtype,
    equal_channels,
    plausible_pixel_size,
    plausible_rate,
    select_frames,
    to_grey,
)

_FORMATS = 'pip install "cocuyo[formats]"'


class PlaneMovie:
    """Frames that a library reads one by one.

    Parameters
    ----------
    read_plane : callable
        Gives the frame of a number, (Y, X) or (Y, X, 3 or 4) with red first.
    n_frames : int
        Number of frames.
    name : str
        Name of the file, for messages.
    """

    def __init__(self, read_plane: Callable[[int], AnyArray], n_frames: int, name: str) -> None:
        self._read_plane = read_plane
        self._name = name
        self._lock = threading.Lock()
        first = self._plane(0)
        check_dtype(first.dtype, name)
        self.colour_note = ""
        if first.ndim == 3:
            self.colour_note = GREY_EQUAL_NOTE if equal_channels(first) else GREY_NOTE
        self.shape = (n_frames, int(first.shape[0]), int(first.shape[1]))
        self.dtype = first.dtype.newbyteorder("=")

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        stop = min(stop, self.shape[0])
        frames = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        with self._lock:
            for at, frame in enumerate(frames, start=start):
                picture = self._plane(at)
                if picture.shape[:2] != self.shape[1:]:
                    msg = (
                        f"Frame {at} of {self._name} has {picture.shape[0]} x {picture.shape[1]} "
                        f"pixels, frame 0 {self.shape[1]} x {self.shape[2]}."
                    )
                    raise RecordingError(msg)
                frame[:] = picture if picture.ndim == 2 else to_grey(picture)
        return frames

    def _plane(self, at: int) -> AnyArray:
        try:
            return np.asarray(self._read_plane(at))
        except Exception as error:  # libraries raise whatever they like on bad bytes
            msg = (
                f"Frame {at} of {self._name} is damaged and cannot be read ({error}). "
                "Leave it out with --frames A:B, or copy the file again."
            )
            raise RecordingError(msg) from error


def _with_library(
    path: Path, kind: str, *, open_it: Callable[[], Any], look: Callable[[Any], Source]
) -> Source:
    """Open a file with its library and look into it; it is closed with its movie.

    Raises
    ------
    RecordingError
        Whatever the library raises.
    """
    file: Any = None
    try:
        file = open_it()
        source = look(file)
        close = getattr(file, "close", None)
        if close is not None:
            weakref.finalize(source.movie, close)
    except BaseException as error:
        if hasattr(file, "close"):
            file.close()
        if isinstance(error, CocuyoError | MemoryError) or not isinstance(error, Exception):
            raise
        what = str(error) or type(error).__name__
        msg = f"{path} is {kind} that cannot be opened; it is damaged or cut ({what})."
        raise RecordingError(msg) from error
    return source


def _index_of(wanted: str | None, names: list[str], path: Path, what: str) -> int:
    """Choose one of several movies in a file, by its name or number.

    Raises
    ------
    RecordingError
        If several are there and none was named, or the name is not among them.
    """
    listing = ", ".join(f"{at} ({name})" if name else str(at) for at, name in enumerate(names))
    if wanted is None:
        if len(names) == 1:
            return 0
        msg = f"{path} holds {len(names)} {what}s; choose one with --dataset: {listing}."
        raise RecordingError(msg)
    fitting = [at for at, name in enumerate(names) if wanted in (name, str(at))]
    if len(fitting) != 1:
        msg = f"{path} has no {what} {wanted!r}; there is {listing}."
        raise RecordingError(msg)
    return fitting[0]


def _per_plane(
    sizes: Mapping[str, int],
    read: Callable[[dict[str, int]], AnyArray],
    path: Path,
    choice: Choice,
) -> tuple[PlaneMovie, list[str]]:
    """Make a movie of planes that are found by their position on labelled axes."""
    axes = [(label, size) for label, size in sizes.items() if label in "TZC"]
    chosen = select_frames(axes, name=str(path), channel=choice.channel, plane=choice.plane)
    fixed = {
        label: value
        for (label, _), value in zip(axes, chosen.index, strict=True)
        if isinstance(value, int)
    }
    moving = [
        label
        for (label, _), value in zip(axes, chosen.index, strict=True)
        if isinstance(value, slice)
    ]

    def plane(at: int) -> AnyArray:
        return read({**fixed, **dict.fromkeys(moving, at)})

    movie = PlaneMovie(plane, len(chosen.planes), str(path))
    return movie, [*chosen.notes, *([movie.colour_note] if movie.colour_note else [])]


def _source(
    movie: PlaneMovie,
    kind: str,
    notes: list[str],
    *,
    rate: tuple[float | None, str],
    pixel: tuple[float | None, str],
) -> Source:
    rate_hz, pixel_um = plausible_rate(rate[0]), plausible_pixel_size(pixel[0])
    return Source(
        movie,
        format=kind,
        access="frame by frame",
        n_promised=movie.shape[0],
        frame_rate_hz=rate_hz,
        frame_rate_origin=rate[1] if rate_hz else "",
        pixel_size_um=pixel_um,
        pixel_size_origin=pixel[1] if pixel_um else "",
        notes=tuple(notes),
    )


# --- Nikon -------------------------------------------------------------------------------------


class Nd2Reader(Reader):
    """Nikon's ND2 files."""

    name = "a Nikon ND2 file"
    suffixes = frozenset((".nd2",))
    options = frozenset(("dataset", "channel", "plane"))
    modules = ("nd2",)
    install = _FORMATS

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind: the present container, or the old JPEG 2000 one."""
        old = head[4:12] == b"jP  \r\n\x87\n" and path.suffix.lower() == ".nd2"
        return head.startswith(b"\xda\xce\xbe\x0a") or old

    def open(self, path: Path, choice: Choice) -> Source:
        """Open a position (``dataset``) of the file.

        Raises
        ------
        RecordingError
            If it is damaged, or a position, channel or plane must be chosen.
        """
        import nd2

        return _with_library(
            path,
            self.name,
            open_it=lambda: nd2.ND2File(path),
            look=lambda file: self._look(file, path, choice),
        )

    def _look(self, file: Any, path: Path, choice: Choice) -> Source:
        sizes = dict(file.sizes)
        n_positions = sizes.pop("P", 1)
        position = _index_of(choice.dataset, [""] * n_positions, path, "position")
        loops = [label for label in file.sizes if label not in "CYXS"]  # in the frames' order
        odd = [label for label in loops if label not in ("T", "P", "Z")]
        if odd:
            msg = (
                f"{path} has more axes ({', '.join(odd)}) than T, positions, Z and channels; "
                "save the part that is the recording as a file of its own."
            )
            raise RecordingError(msg)
        lengths = [file.sizes[label] for label in loops]

        def read(at: dict[str, int]) -> AnyArray:
            place = [position if label == "P" else at.get(label, 0) for label in loops]
            number = int(np.ravel_multi_index(place, lengths)) if loops else 0
            frame = np.asarray(file.read_frame(number))  # (Y, X), (C, Y, X), or colour last
            per_channel = frame.ndim == 4 or (frame.ndim == 3 and "S" not in file.sizes)
            return np.asarray(frame[at.get("C", 0)]) if per_channel else frame

        movie, notes = _per_plane(sizes, read, path, choice)
        voxel = file.voxel_size()
        return _source(
            movie,
            "Nikon ND2",
            notes,
            rate=(_nd2_rate(file), "the time loop of the ND2 file"),
            pixel=(float(voxel.x) if voxel else None, "the calibration in the ND2 file"),
        )


def _nd2_rate(file: Any) -> float | None:
    """Frames per second: the mean interval that was measured, else the one asked for."""
    for loop in file.experiment or ():
        if not str(getattr(loop, "type", "")).endswith("TimeLoop"):
            continue
        periods = getattr(loop.parameters, "periods", None) or [loop.parameters]
        if len(periods) > 1:
            return None  # several rates in one recording
        measured = getattr(getattr(periods[0], "periodDiff", None), "avg", None)
        for milliseconds in (measured, getattr(periods[0], "periodMs", None)):
            if milliseconds and milliseconds > 0:
                return 1000.0 / float(milliseconds)
    return None


# --- Zeiss -------------------------------------------------------------------------------------


class CziReader(Reader):
    """Zeiss' CZI files."""

    name = "a Zeiss CZI file"
    suffixes = frozenset((".czi",))
    options = frozenset(("dataset", "channel", "plane"))
    modules = ("pylibCZIrw",)
    install = _FORMATS

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind."""
        return head.startswith(b"ZISRAWFILE")

    def open(self, path: Path, choice: Choice) -> Source:
        """Open a scene (``dataset``) of the file.

        Raises
        ------
        RecordingError
            If it is damaged, or a scene, channel or plane must be chosen.
        """
        from pylibCZIrw import czi

        return _with_library(
            path,
            self.name,
            open_it=lambda: czi.CziReader(str(path)),
            look=lambda file: self._look(file, path, choice),
        )

    def _look(self, file: Any, path: Path, choice: Choice) -> Source:
        box = dict(file.total_bounding_box)
        scenes = sorted(file.scenes_bounding_rectangle)
        scene = None
        if choice.dataset is not None or len(scenes) > 1:
            scene = _index_of(choice.dataset, [""] * max(1, len(scenes)), path, "scene")
            scene = scenes[scene] if scenes else None
        sizes = {}
        starts = {}
        for label in "TZC":
            first, last = box.get(label, (0, 1))
            sizes[label], starts[label] = max(1, int(last) - int(first)), int(first)
        others = {k: v for k, v in box.items() if k not in ("T", "Z", "C", "X", "Y", "S", "M")}
        several = [k for k, (first, last) in others.items() if last - first > 1]
        if several:
            msg = (
                f"{path} has more axes ({', '.join(several)}) than T, Z, C, Y and X; "
                "save the part that is the recording as a file of its own."
            )
            raise RecordingError(msg)

        def read(at: dict[str, int]) -> AnyArray:
            plane = {label: starts[label] + at.get(label, 0) for label in "TZC"}
            picture = np.asarray(file.read(plane=plane, scene=scene))
            return picture[..., 0] if picture.shape[-1] == 1 else picture[..., 2::-1]

        movie, notes = _per_plane(sizes, read, path, choice)
        xml = file.raw_metadata
        return _source(
            movie,
            "Zeiss CZI",
            notes,
            rate=_czi_rate(xml),
            pixel=(_czi_pixel_um(xml), "the scaling in the CZI file"),
        )


def _xml(text: str) -> ET.Element | None:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # no microscope writes these
        return None
    try:
        return ET.fromstring(text)
    except ET.ParseError:
        return None


def _float(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _czi_pixel_um(xml: str) -> float | None:
    root = _xml(xml)
    if root is None:
        return None
    for item in root.iter("Distance"):
        if item.get("Id") == "X":
            metres = _float(item.findtext("Value"))
            return None if metres is None else metres * 1e6
    return None


def _czi_rate(xml: str) -> tuple[float | None, str]:
    """Look for the interval between frames, where ZEN writes it."""
    root = _xml(xml)
    if root is None:
        return None, ""
    for tag, origin in (
        (".//Dimensions/T/Positions/Interval/Increment", "the time axis of the CZI file"),
        (".//TimeSeriesSetup/Interval/TimeSpan/Value", "the time series of the CZI file"),
    ):
        seconds = _float(root.findtext(tag))
        if seconds and tag.endswith("Value"):
            unit = root.findtext(".//TimeSeriesSetup/Interval/TimeSpan/DefaultUnitFormat") or "s"
            seconds *= {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}.get(unit, 1.0)
        if seconds and seconds > 0:
            return 1 / seconds, origin
    return None, ""


# --- Leica -------------------------------------------------------------------------------------


class LifReader(Reader):
    """Leica's LIF files."""

    name = "a Leica LIF file"
    suffixes = frozenset((".lif",))
    options = frozenset(("dataset", "channel", "plane"))
    modules = ("liffile",)
    install = _FORMATS

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind."""
        return head.startswith(b"\x70\x00\x00\x00") and head[8:9] == b"\x2a"

    def open(self, path: Path, choice: Choice) -> Source:
        """Open an image (``dataset``) of the file.

        Raises
        ------
        RecordingError
            If it is damaged, or an image, channel or plane must be chosen.
        """
        import liffile

        return _with_library(
            path,
            self.name,
            open_it=lambda: liffile.LifFile(path),
            look=lambda file: self._look(file, path, choice),
        )

    def _look(self, file: Any, path: Path, choice: Choice) -> Source:
        images = list(file.images)
        if not images:
            msg = f"{path} is a Leica LIF file without an image."
            raise RecordingError(msg)
        names = [str(image.path if hasattr(image, "path") else image.name) for image in images]
        image = images[_index_of(choice.dataset, names, path, "image")]
        sizes = dict(image.sizes)
        odd = [label for label, n in sizes.items() if label not in "TZCYXS" and n > 1]
        if odd or not {"Y", "X"} <= set(sizes):
            msg = (
                f"{path}: the image {image.name} has the axes {', '.join(sizes)}; cocuyo reads T, "
                "Z, C, Y and X. Save the part that is the recording as TIFF."
            )
            raise RecordingError(msg)

        def read(at: dict[str, int]) -> AnyArray:
            wanted = {label: at.get(label, 0) for label in sizes if label not in "YXS"}
            return np.asarray(image.frame(**wanted))

        movie, notes = _per_plane(sizes, read, path, choice)
        step = _lif_step(image, "X")
        interval = _lif_step(image, "T")
        return _source(
            movie,
            f"Leica LIF, image {image.name}",
            notes,
            rate=(1 / interval if interval else None, "the time axis of the LIF file"),
            pixel=(step * 1e6 if step else None, "the scale of the LIF file"),
        )


def _lif_step(image: Any, label: str) -> float | None:
    """Distance between neighbours on an axis, in metres or seconds."""
    values = np.asarray(image.coords.get(label, ()), np.float64)
    if len(values) < 2:
        return None
    step = float(values[-1] - values[0]) / (len(values) - 1)
    return abs(step) or None


# --- Inscopix ----------------------------------------------------------------------------------


_ISXD_TAIL_BYTES = 2**20  # the description of a long recording lists its dropped frames


class InscopixReader(Reader):
    """Inscopix' ISXD movies."""

    name = "an Inscopix ISXD file"
    suffixes = frozenset((".isxd",))
    modules = ("isx",)
    # No extra of ours: its licence forbids commercial use, and it is not built for every system.
    install = "pip install isx (Inscopix' own package, free for non-commercial use)"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind, by its name: it begins with the first frame."""
        return path.suffix.lower() == ".isxd" and not path.is_dir()

    def open(self, path: Path, choice: Choice) -> Source:
        """Open the movie; frames that the camera dropped are repeated from the one before.

        Raises
        ------
        RecordingError
            If it is damaged, or holds traces of cells and not a movie.
        """
        import isx

        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _ISXD_TAIL_BYTES))
            if b'"type"' not in file.read():
                msg = (
                    f"{path} is an Inscopix file without the description at its end; it is damaged "
                    "or cut. Copy it again."
                )
                raise RecordingError(msg)
        return _with_library(
            path,
            self.name,
            open_it=lambda: isx.Movie.read(str(path)),
            look=lambda movie: self._look(movie, path),
        )

    def _look(self, movie: Any, path: Path) -> Source:
        timing = movie.timing
        n_frames = int(timing.num_samples)
        lost = sorted({*map(int, timing.dropped), *_cropped(timing), *map(int, timing.blank)})
        gone = np.zeros(n_frames, bool)
        gone[[at for at in lost if at < n_frames]] = True
        if gone.all():
            msg = f"{path} is an Inscopix movie without a frame."
            raise RecordingError(msg)
        # The frame to show at each time: the last one that is there, or the first of all.
        there = np.flatnonzero(~gone)
        shown = there[np.maximum(np.searchsorted(there, np.arange(n_frames), side="right") - 1, 0)]
        frames = PlaneMovie(
            lambda at: np.asarray(movie.get_frame_data(int(shown[at]))), n_frames, str(path)
        )
        notes = []
        if gone.any():
            notes.append(
                f"{int(gone.sum())} frames were dropped by the camera or cut out; the frame before "
                f"stands in their place, first at {int(np.flatnonzero(gone)[0])}."
            )
        source = _source(
            frames,
            "Inscopix ISXD",
            notes,
            rate=(1 / float(timing.period.secs_float), "the timing in the ISXD file"),
            pixel=(None, ""),
        )
        return replace(source, access="frame by frame, through Inscopix' library")


def _cropped(timing: Any) -> list[int]:
    """List cropped samples, which are kept as ranges (first, last)."""
    found: list[int] = []
    for item in timing.cropped:
        if np.ndim(item):
            first, last = (int(value) for value in item)
            found.extend(range(first, last + 1))
        else:
            found.append(int(item))
    return found

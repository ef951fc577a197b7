"""Recordings in AVI, MP4, MKV and other video containers."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import AnyArray, RecordingError
from cocuyo.io.readers import Choice, Reader
from cocuyo.io.sources import (
    GREY_EQUAL_NOTE,
    GREY_NEARLY_EQUAL_NOTE,
    GREY_NOTE,
    VIDEO_SUFFIXES,
    Source,
    plausible_rate,
)

# Containers without an index only estimate their number of frames, from duration times rate.
_ESTIMATE_TOLERANCE_FRAMES = 2
_ESTIMATE_TOLERANCE_SHARE = 0.005


# Grey through JPEG's luma and chroma comes back with channels up to 2 levels apart.
_ROUNDING_LEVELS = 3
_QUIET_FFMPEG = "-8"  # AV_LOG_QUIET


class VideoReader(Reader):
    """Videos in the containers that OpenCV opens."""

    name = "a video"
    suffixes = VIDEO_SUFFIXES

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind."""
        return (
            (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
            or head.startswith(b"\x1aE\xdf\xa3")  # Matroska
            or head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")  # MP4 and QuickTime
        )

    def open(self, path: Path, choice: Choice) -> Source:
        """Open it as grey frames.

        Raises
        ------
        RecordingError
            If no frame can be decoded.
        """
        return open_video(path)


@contextmanager
def _quiet_decoder() -> Iterator[None]:
    """Keep OpenCV and FFmpeg from writing to stderr what we say in an error of our own.

    OpenCV reads FFmpeg's level from the environment once, when it first opens a video.
    """
    import cv2

    variable = "OPENCV_FFMPEG_LOGLEVEL"
    given = variable in os.environ
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault(variable, _QUIET_FFMPEG)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
        if not given:
            os.environ.pop(variable, None)


def _open_capture(path: Path) -> Any:
    import cv2

    ffmpeg = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
    with _quiet_decoder():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG if ffmpeg else cv2.CAP_ANY)
    if not capture.isOpened():
        msg = (
            f"{path} looks like a video but cannot be opened. It is damaged, was cut before its "
            "index was written, or uses a codec that OpenCV does not have; convert it to TIFF."
        )
        raise RecordingError(msg)
    return capture


class VideoMovie:
    """Frames decoded one after the other; going back starts again from the first.

    Seeking in a video lands on a nearby key frame in many containers, so it is never used.

    Parameters
    ----------
    path : Path
        The file.
    shape : tuple of int
        Number of frames that can be decoded, rows and columns.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._path = path
        self._capture: Any = None
        self._next = 0
        self._lock = threading.Lock()
        self.shape = shape
        self.dtype = np.dtype(np.uint8)

    def read(self, start: int, stop: int) -> AnyArray:
        """Read frames ``start`` to ``stop`` (excluded) as an array (T, Y, X)."""
        stop = min(stop, self.shape[0])
        frames = np.empty((max(0, stop - start), *self.shape[1:]), np.uint8)
        with self._lock:
            if self._capture is None or self._next > start:
                self._release()
                self._capture = _open_capture(self._path)
            while self._next < start:
                self._advance()
            for frame in frames:
                self._advance()
                good, picture = self._capture.retrieve()
                if not good or picture.shape[:2] != self.shape[1:]:
                    msg = f"Frame {self._next - 1} of {self._path} cannot be decoded."
                    raise RecordingError(msg)
                frame[:] = _grey(picture)
            if self._next >= self.shape[0]:
                self._release()
        return frames

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        with self._lock:
            self._release()

    def _advance(self) -> None:
        if not self._capture.grab():
            msg = f"Frame {self._next} of {self._path} cannot be decoded."
            raise RecordingError(msg)
        self._next += 1

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = None
        self._next = 0


def _grey(picture: AnyArray) -> AnyArray:
    import cv2

    if picture.ndim == 2:
        return picture
    if picture.shape[2] == 1:
        return picture[..., 0]
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))


def _missing_bytes(path: Path) -> int:
    """Bytes that an AVI's header promises beyond the end of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF":
        return 0
    return max(0, int.from_bytes(head[4:8], "little") + 8 - size)


def open_video(path: Path) -> Source:
    """Open a video file.

    All frames are decoded once to count them, because containers are often wrong about their
    number.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Source
        Its frames as uint8 grey, and the frame rate that the container says.

    Raises
    ------
    RecordingError
        If no frame can be decoded.
    """
    import cv2

    capture = _open_capture(path)
    with _quiet_decoder():
        rate = plausible_rate(float(capture.get(cv2.CAP_PROP_FPS)))
        promised = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        codec = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        count = 0
        frame_shape = (0, 0)
        spread = -1  # largest difference between the channels; -1 without colour
        while capture.grab():
            if count < 3 or count & (count - 1) == 0:  # 0, 1, 2, 4, 8, ...
                good, picture = capture.retrieve()
                if not good:
                    break
                frame_shape = frame_shape if count else picture.shape[:2]
                if picture.ndim == 3 and picture.shape[2] >= 3:
                    channels = picture[..., :3].astype(np.int16)
                    spread = max(spread, int(np.max(np.ptp(channels, axis=2))))
            count += 1
        capture.release()
    if count == 0:
        msg = f"{path} is a video, but no frame of it can be decoded. It is damaged or empty."
        raise RecordingError(msg)
    notes = []
    if spread >= 0:
        nearly = GREY_EQUAL_NOTE if spread == 0 else GREY_NEARLY_EQUAL_NOTE
        notes.append(nearly if spread <= _ROUNDING_LEVELS else GREY_NOTE)
    damage = ""
    allowed = max(_ESTIMATE_TOLERANCE_FRAMES, round(promised * _ESTIMATE_TOLERANCE_SHARE))
    missing = _missing_bytes(path)
    if missing > 0:
        damage = f"the file is {missing} bytes shorter than its header says"
    elif promised - count > allowed:
        damage = "decoding stops"
    elif promised and promised != count:
        notes.append(f"The container says {promised} frames; {count} were decoded and are used.")
    n_good = count - 1 if damage else count  # decoders fill in what is missing of the last one
    name = bytes(codec >> shift & 0xFF for shift in (0, 8, 16, 24)).decode("latin-1").strip("\0 ")
    kind = path.suffix.lstrip(".").upper() or "video"
    return Source(
        VideoMovie(path, (n_good, int(frame_shape[0]), int(frame_shape[1]))),
        format=f"{kind} video ({name})" if name.isprintable() and name else f"{kind} video",
        access="decoded frame after frame",
        n_promised=max(promised, count) if damage else count,
        damage=damage,
        frame_rate_hz=rate,
        frame_rate_origin="the video's header" if rate else "",
        notes=tuple(notes),
    )

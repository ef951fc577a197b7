"""Recordings in the folders that UCLA Miniscopes write.

Version 3: ``msCam1.avi``, ``msCam2.avi``, ... beside those of a behaviour camera, and
``timestamp.dat``. Version 4 (Miniscope DAQ): ``0.avi``, ``1.avi``, ..., ``timeStamps.csv`` and
``metaData.json`` in a folder for each device, within a folder for the session.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import RecordingError, TimeArray
from cocuyo.io.folders import join_sources
from cocuyo.io.readers import Choice, Reader, open_file
from cocuyo.io.sources import Source, natural_key, plausible_rate
from cocuyo.io.timestamps import read_timestamps

_V3_MOVIE = re.compile(r"msCam(\d+)\.avi", re.IGNORECASE)
_V3_BEHAVIOUR = re.compile(r"behavCam(\d+)\.avi", re.IGNORECASE)
_V4_MOVIE = re.compile(r"(\d+)\.avi", re.IGNORECASE)
_MAX_RATE_DIFFERENCE = 0.1  # between what was asked of the camera and the times of the frames


@dataclass(frozen=True)
class _Folder:
    """A device's folder."""

    version: int
    movies: tuple[Path, ...]
    times: Path | None
    metadata: Path | None


class MiniscopeReader(Reader):
    """Folders of a UCLA Miniscope, versions 3 and 4."""

    name = "a folder of a UCLA Miniscope"
    options = frozenset(("dataset",))

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a folder is of this kind: a device's, or a session's with devices in it."""
        return path.is_dir() and (_look_into(path) is not None or bool(_devices(path)))

    def open(self, path: Path, choice: Choice) -> Source:
        """Open the movies in the order of time, with the rate and times that stand beside them.

        Raises
        ------
        RecordingError
            If a session has several miniscopes and none was named, or a movie cannot be read.
        """
        place, notes = _choose_device(path, choice.dataset)
        folder = _look_into(place)
        assert folder is not None
        sources = [open_file(movie, Choice()) for movie in folder.movies]
        source = join_sources(sources, [str(movie) for movie in folder.movies])
        notes += _missing_movies(folder, [s.movie.shape[0] for s in sources])
        metadata = _read_metadata(folder.metadata, notes)
        rate = _rate(metadata)
        times, origin = None, ""
        if folder.times is not None:
            camera = _camera_of_names(folder)
            times = _read_times(folder.times, source.n_promised, notes, camera=camera)
            origin = f"{folder.times.name} of the Miniscope"
        if times is not None:
            measured = plausible_rate(float(1 / np.median(np.diff(times))))
            if rate and measured and abs(measured - rate) > _MAX_RATE_DIFFERENCE * rate:
                notes.append(
                    f"The camera was set to {rate:.4g} frames per second; the times of the frames "
                    f"say {measured:.4g}, which is used."
                )
            rate = rate or measured
        device = str(metadata.get("deviceType", "")) or f"version {folder.version}"
        kind = f"UCLA Miniscope ({device}), {len(folder.movies)} movie(s)"
        if rate is None and source.frame_rate_hz is not None:
            notes.append(
                "The frame rate is that of the videos' header, which may be a playback speed; "
                "check it, and give the true one with --frame-rate."
            )
        return replace(
            source,
            format=f"{kind}, {sources[0].format}",
            frame_rate_hz=rate or source.frame_rate_hz,
            frame_rate_origin="metaData.json of the Miniscope"
            if rate
            else source.frame_rate_origin,
            timestamps_s=times,
            timestamps_origin=origin,
            notes=(*source.notes, *notes),
        )

    def files(self, path: Path) -> list[Path]:
        """List the movies, their times and the description of the device."""
        folder = _look_into(path)
        if folder is None:
            devices = _devices(path)
            parts = [self.files(device) for device in devices]
            return [file for part in parts for file in part]
        return [*folder.movies, *(f for f in (folder.times, folder.metadata) if f is not None)]


def _look_into(path: Path) -> _Folder | None:
    """Say what a device's folder holds; None where it is no such folder."""
    try:
        names = sorted(file.name for file in path.iterdir() if file.is_file())
    except OSError:
        return None
    lower = {name.lower(): path / name for name in names}
    for version, pattern, times, needed in (
        (3, _V3_MOVIE, "timestamp.dat", ("timestamp.dat", "settings_and_notes.dat")),
        (4, _V4_MOVIE, "timestamps.csv", ("timestamps.csv", "metadata.json")),
    ):
        movies = [path / name for name in names if pattern.fullmatch(name)]
        if movies and any(name in lower for name in needed):
            movies.sort(key=lambda file: natural_key(file.name))
            metadata = lower.get("metadata.json") if version == 4 else None
            return _Folder(version, tuple(movies), lower.get(times), metadata)
    return None


def _devices(path: Path) -> list[Path]:
    """List the miniscopes' folders of a session; cameras that watch the animal are left out."""
    if not (path / "metaData.json").is_file():
        return []
    found = []
    for folder in sorted(path.iterdir()):
        inside = _look_into(folder) if folder.is_dir() else None
        if inside is not None and inside.version == 4 and not watches_animal(folder):
            found.append(folder)
    return found


def watches_animal(folder: Path) -> bool:
    """Say whether a folder is that of a camera beside the miniscope (version 4).

    Parameters
    ----------
    folder : Path
        Any folder.

    Returns
    -------
    bool
        True for a camera that watches the animal.
    """
    inside = _look_into(folder)
    if inside is None or inside.version != 4:
        return False
    kind = str(_read_metadata(inside.metadata, []).get("deviceType", folder.name)).lower()
    return "webcam" in kind or "behav" in kind


def _choose_device(path: Path, wanted: str | None) -> tuple[Path, list[str]]:
    """Choose the folder of a device.

    Raises
    ------
    RecordingError
        If there are several and none was named, or the name is not among them.
    """
    devices = _devices(path)
    if _look_into(path) is not None or not devices:
        if wanted is not None:
            msg = f"A data set ({wanted}) was named, but {path} is the folder of one Miniscope."
            raise RecordingError(msg)
        return path, []
    listing = ", ".join(device.name for device in devices)
    fitting = [device for device in devices if wanted in (None, device.name)]
    if len(fitting) != 1:
        msg = (
            f"{path} holds the recordings of {len(devices)} miniscopes; choose one with "
            f"--dataset: {listing}."
        )
        raise RecordingError(msg)
    return fitting[0], [f"Of the session the folder {fitting[0].name} is read."]


def _missing_movies(folder: _Folder, n_frames: list[int]) -> list[str]:
    """Tell where the numbers of the movies jump, or one in the middle is shorter than others."""
    numbers = [int(re.findall(r"\d+", movie.stem)[-1]) for movie in folder.movies]
    first = 1 if folder.version == 3 else 0
    notes = []
    wanted = set(range(min(first, numbers[0]), numbers[-1] + 1))
    absent = sorted(wanted - set(numbers))
    if absent:
        listing = ", ".join(map(str, absent[:10]))
        notes.append(f"Movies are missing between the others (number {listing}): there is a gap.")
    short = [i for i, n in enumerate(n_frames[:-1]) if n < max(n_frames)]
    if short:
        notes.append(
            f"{folder.movies[short[0]].name} has {n_frames[short[0]]} frames, others "
            f"{max(n_frames)}; frames may be missing."
        )
    return notes


def _read_metadata(path: Path | None, notes: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        notes.append(f"{path.name} cannot be read; it is left aside.")
        return {}
    return found if isinstance(found, dict) else {}


def _rate(metadata: dict[str, Any]) -> float | None:
    """Take the rate from ``"20FPS"``, ``"20"`` or ``20``."""
    number = re.match(r"\s*(\d+(?:\.\d+)?)", str(metadata.get("frameRate", "")))
    return plausible_rate(float(number[1])) if number else None


def _camera_of_names(folder: _Folder) -> int | None:
    """Take the number of the camera from the names of the movies, where it can be known.

    The numbers of version 3 count the movies of a camera from 1. A single movie beside a single one
    of the behaviour camera with another number bears that of its camera.
    """
    if folder.version != 3 or len(folder.movies) != 1:
        return None
    names = [file.name for file in folder.movies[0].parent.iterdir()]
    others = [int(found[1]) for found in map(_V3_BEHAVIOUR.fullmatch, names) if found]
    own = _V3_MOVIE.fullmatch(folder.movies[0].name)
    assert own is not None
    return int(own[1]) if len(others) == 1 and others[0] != int(own[1]) else None


def _read_times(
    path: Path, n_frames: int, notes: list[str], *, camera: int | None
) -> TimeArray | None:
    """Read the times of the frames; None, with a note, where they cannot be those."""
    try:
        times = read_timestamps(path, n_frames, camera=camera)
    except RecordingError as error:
        notes.append(f"The times of the frames are not used: {error}")
        return None
    if len(times) != n_frames:
        notes.append(
            f"{path.name} has {len(times)} times for {n_frames} frames; they are not used, and "
            "frames are taken as regular."
        )
        return None
    steps = np.diff(times)
    if len(steps) > 1 and steps[0] <= 0 and np.all(steps[1:] > 0):
        # The clock of the first frame is often that of the program's start (version 3).
        times[0] = times[1] - np.median(steps[1:])
        notes.append("The time of the first frame was wrong; it is taken one step before the next.")
    elif len(steps) > 1 and steps[0] > 20 * np.median(steps) and np.all(steps > 0):
        notes.append(f"{path.name}: the second frame comes {steps[0]:.3g} s after the first one.")
    if not (np.all(np.isfinite(times)) and np.all(np.diff(times) > 0)):
        notes.append(
            f"The times in {path.name} do not rise from frame to frame; they are not used, and "
            "frames are taken as regular."
        )
        return None
    return times

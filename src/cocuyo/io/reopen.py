"""The recording that a result was made of, opened again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cocuyo.core import Recording, RecordingError, Result
from cocuyo.io.folders import recording_files
from cocuyo.io.nwb import ExternalMovie
from cocuyo.io.recordings import file_identity, open_recording
from cocuyo.io.sources import JoinedMovie

Frames = tuple[int | None, int | None]
READING_CHOICES = ("dataset", "channel", "plane", "axes", "frames")
"""Options of `open_recording` that a result keeps besides paths, to open its recording again."""


def find_inputs(result: Result, folder: str | Path) -> tuple[Path, ...]:
    """Say where the files of a result's recording lie now.

    A path is looked for as it was given, from the present folder, then from the result folder
    and those above it, then by its last part beside the result.

    Parameters
    ----------
    result : Result
        The result.
    folder : str or Path
        Its folder.

    Returns
    -------
    tuple of Path
        A path for each part of the recording.

    Raises
    ------
    RecordingError
        If the result does not say what it was made of, or a file is not found or has another
        size.
    """
    inputs = [entry for entry in result.info.inputs if entry.get("role") in (None, "recording")]
    if not inputs:
        msg = f"The result {folder} does not say which recording it was made of."
        raise RecordingError(msg)
    return tuple(_find(entry, Path(folder)) for entry in inputs)


def inputs_of(
    result: Result, recordings: Sequence[Recording], *, frames: Sequence[Frames | None] = ()
) -> tuple[dict[str, Any], ...]:
    """Say which files the recordings of a result were.

    Parameters
    ----------
    result : Result
        The result.
    recordings : sequence of Recording
        The recording that it was made of, or those of its `parts`, in order.
    frames : sequence of (tuple of int or None), optional
        Frames that were read of each, where they are not the same for all: first, one past the
        last; None for all of them.

    Returns
    -------
    tuple of dict
        As `file_identity` gives it for each path; in an experiment ``recording`` names the part
        that it belongs to, and ``frames`` those of it that were read, if not the same of all.

    Raises
    ------
    RecordingError
        If a file is absent or cannot be read.
    """
    told: list[dict[str, Any]] = [{"recording": part.name} for part in result.parts] or [{}]
    for own, chosen in zip(told, frames, strict=False):
        if chosen is not None:
            own["frames"] = list(chosen)
    return tuple(
        {**entry, **own}
        for recording, own in zip(recordings, told, strict=True)
        for entry in file_identity(recording.paths)
    )


def _find(entry: dict[str, Any], folder: Path) -> Path:
    given = Path(str(entry.get("path", "")))
    beside = folder.resolve()
    tried = [given, *(parent / given for parent in (beside, *beside.parents))]
    tried += [beside.parent / given.name]
    for path in tried:
        if path.exists() and _size(path) in (None, entry.get("bytes")):
            return path
    other = next((path for path in tried if path.exists()), None)
    if other is not None:
        msg = f"{other} has not the size that the recording of {folder} had; is it another one?"
    else:
        msg = f"The recording {given} of {folder} is not found."
    raise RecordingError(msg)


def _size(path: Path) -> int | None:
    """Bytes of a file; None for a folder, whose parts are compared when they are opened."""
    return path.stat().st_size if path.is_file() else None


def reopen_recording(
    result: Result, folder: str | Path, *, recording: str | Path | None = None
) -> Recording:
    """Open the recording of a result again, as it was read then.

    Those of an experiment become one movie, one after the other, as in the result.

    Parameters
    ----------
    result : Result
        The result.
    folder : str or Path
        Its folder.
    recording : str or Path, optional
        Where the recording lies now, if it was moved; of an experiment, the folder in which its
        recordings lie now.

    Returns
    -------
    Recording
        The recording, with the frame rate and pixel size of the result.

    Raises
    ------
    RecordingError
        If it is not found, cannot be read, or has not the frames of the result.
    """
    opened = [
        _open_again(result, folder, paths, n_frames, frames)
        for paths, n_frames, frames in _recordings_of(result, folder, recording)
    ]
    movie = opened[0].movie if len(opened) == 1 else JoinedMovie([one.movie for one in opened])
    # The result's rate is that of the times it was made with; frames may carry none or others.
    return replace(
        opened[0],
        movie=movie,
        frame_rate_hz=result.frame_rate_hz,
        timestamps_s=None,
        name=result.name if result.parts else opened[0].name,
        paths=tuple(path for one in opened for path in one.paths),
        notes=tuple(note for one in opened for note in one.notes),
    )


def _recordings_of(
    result: Result, folder: str | Path, given: str | Path | None
) -> list[tuple[tuple[Path, ...], int, Frames | None]]:
    """Paths of each recording that a result was made of, how many frames, and which of its file."""
    if not result.parts:
        paths = (Path(given),) if given is not None else find_inputs(result, folder)
        return [(paths, result.n_frames, _frames_read(result, result.info.inputs))]
    if given is not None and not Path(given).is_dir():
        msg = (
            f"{folder} was made of {len(result.parts)} recordings; name the folder in which they "
            f"lie now, not one of them ({given})."
        )
        raise RecordingError(msg)
    found = []
    for part in result.parts:
        entries = [e for e in result.info.inputs if e.get("recording") == part.name]
        if not entries:
            msg = f"The result {folder} does not say which files {part.name} was made of."
            raise RecordingError(msg)
        if given is not None:
            entries = [{**e, "path": str(Path(given) / Path(e["path"]).name)} for e in entries]
        paths = tuple(_find(entry, Path(folder)) for entry in entries)
        found.append((paths, part.n_frames, _frames_read(result, entries)))
    return found


def _frames_read(result: Result, entries: Sequence[dict[str, Any]]) -> Frames | None:
    """Frames of a recording that were read: its own, or those of all recordings."""
    own = [entry["frames"] for entry in entries if "frames" in entry]
    frames = own[0] if own else result.info.reading.get("frames")
    return None if frames is None else (frames[0], frames[1])


def _open_again(
    result: Result,
    folder: str | Path,
    paths: tuple[Path, ...],
    n_frames: int,
    frames: Frames | None,
) -> Recording:
    reading = result.info.reading
    opened = open_recording(
        list(paths) if len(paths) > 1 else paths[0],
        frame_rate_hz=result.frame_rate_hz,
        pixel_size_um=result.pixel_size_um,
        frames=frames,
        dataset=reading.get("dataset"),
        channel=reading.get("channel"),
        plane=reading.get("plane"),
        axes=reading.get("axes"),
        join=len(paths) > 1,
    )
    expected = (n_frames, *result.rois.frame_shape)
    found = (opened.n_frames, *opened.frame_shape)
    if found != expected:
        msg = (
            f"{paths[0]} has {found[0]} frames of {found[1]} x {found[2]}, the result {folder} "
            f"was made of {expected[0]} frames of {expected[1]} x {expected[2]}; give its own "
            "recording."
        )
        raise RecordingError(msg)
    return opened


def refer_to_recording(
    result: Result, folder: str | Path, *, recording: str | Path | None = None
) -> ExternalMovie:
    """Describe the files of a result's recording, for a file that refers to them.

    Parameters
    ----------
    result : Result
        The result.
    folder : str or Path
        Its folder.
    recording : str or Path, optional
        Where the recording lies now, if it was moved; as for `reopen_recording`.

    Returns
    -------
    ExternalMovie
        Its files, and at which frame each begins.

    Raises
    ------
    RecordingError
        If it is not found or cannot be read, or if only some frames of several recordings were
        used, which cannot be said there.
    """
    reading = result.info.reading
    recordings = _recordings_of(result, folder, recording)
    chosen = [frames for _, _, frames in recordings]
    if len(recordings) > 1 and any(chosen):
        msg = f"{folder} holds some frames of each of {len(recordings)} recordings."
        raise RecordingError(msg)
    choices = {name: reading.get(name) for name in READING_CHOICES if name != "frames"}
    files, lengths = [], list[int]()
    for paths, _, _ in recordings:
        more = _list_files(paths, choices)
        files += [file for file, _ in more]
        lengths += [length for _, length in more]
    total = sum(lengths)
    first, _, _ = slice(*(chosen[0] or (None, None))).indices(total)
    starts = tuple(sum(lengths[:i]) for i in range(len(files)))
    return ExternalMovie(tuple(files), starts, first, total)


def _list_files(paths: tuple[Path, ...], choices: dict[str, Any]) -> list[tuple[Path, int]]:
    """Files of a recording, and how many frames each holds."""
    files = [f for path in paths for f in (recording_files(path) if path.is_dir() else [path])]

    def length(path: Path) -> int:
        return open_recording(path, **choices).n_frames

    if len(files) > 1 and len(paths) == 1 and length(paths[0]) == len(files):
        return [(file, 1) for file in files]
    return [(file, length(file)) for file in files]

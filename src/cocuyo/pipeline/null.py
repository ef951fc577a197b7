"""Null controls: what is found in surrogates of a recording, in which there is nothing to find.

A surrogate is made of the motion-corrected frames, written once to a file as large as the recording
and analysed as any recording is. Memory stays that of a run.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cocuyo.core import (
    AnyArray,
    BoolArray,
    FloatArray,
    Progress,
    ProgressCallback,
    Recording,
    RecordingError,
    Result,
    SettingsError,
    ignore_progress,
    stream,
)
from cocuyo.io.sources import RawMovie
from cocuyo.pipeline.run import segment
from cocuyo.pipeline.stream import corrected_blocks
from cocuyo.postprocessing import randomise_phases, shift_circularly

NullKind = Literal["phase", "shift", "frames"]
"""What a surrogate loses. All keep the mean picture and each pixel's mean and variance.

``phase``
    Each pixel has random phases of its own: its spectrum stays, transients and the agreement of
    neighbours go.
``shift``
    Each pixel is moved in time by a lag of its own: its time course stays, transients included;
    the agreement of neighbours goes.
``frames``
    The frames come in random order, the same for all pixels: pictures and the agreement of
    neighbours stay, the course of time goes. Neurons still flash in it, a frame at a time; what is
    found says how much the method relies on pictures alone.
"""
NULLS: tuple[NullKind, ...] = get_args(NullKind)

_BAND_VALUES = 4_000_000
"""Values of the pixels that are transformed together: 16 MB, and as much for each copy of them."""
_TRANSFORMS: dict[str, Callable[[FloatArray, np.random.Generator], FloatArray]] = {
    "phase": randomise_phases,
    "shift": shift_circularly,
}


@dataclass(frozen=True)
class Surrogate:
    """What was found in one surrogate.

    Attributes
    ----------
    kind : {"phase", "shift", "frames"}
        What it had lost.
    seed : int
        Seed of it.
    n_candidates, n_accepted, n_events : int
        Candidates, accepted ROIs, and events of these.
    """

    kind: NullKind
    seed: int
    n_candidates: int
    n_accepted: int
    n_events: int


@dataclass(frozen=True, eq=False)
class NullControl:
    """A recording and its surrogates.

    Attributes
    ----------
    result : Result
        Of the recording itself.
    surrogates : tuple of Surrogate
        In the order in which they were made; none where fewer than two frames are usable.
    n_frames : int
        Frames of each: those of the recording that are not flagged.
    """

    result: Result
    surrogates: tuple[Surrogate, ...]
    n_frames: int

    def record(self) -> dict[str, Any]:
        """Return all figures as plain JSON.

        Returns
        -------
        dict
            ``recording``, ``surrogates``, ``false_events``, and how they came about.
        """
        result, info = self.result, self.result.info
        return {
            "name": result.name,
            "recording": _count(result),
            "surrogates": [vars(one) for one in self.surrogates],
            "false_events": info.false_events,
            "n_frames": result.n_frames,
            "n_frames_of_surrogates": self.n_frames,
            "frame_rate_hz": result.frame_rate_hz,
            "diameter_px": result.diameter_px,
            "preset": info.preset,
            "model": info.model,
            "seed": info.seed,
            "versions": info.versions,
        }


def null_control(
    recording: Recording,
    *,
    kinds: Sequence[NullKind] = NULLS,
    repeats: int = 1,
    seed: int = 0,
    exclude: BoolArray | None = None,
    work: Path | None = None,
    progress: ProgressCallback = ignore_progress,
    **how: Any,
) -> NullControl:
    """Analyse a recording and surrogates of it.

    Parameters
    ----------
    recording : Recording
        The recording; it needs a frame rate.
    kinds : sequence of {"phase", "shift", "frames"}
        Which surrogates.
    repeats : int, default: 1
        Surrogates of each kind.
    seed : int, default: 0
        Seed of the first of each kind; the next ones follow.
    exclude : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out.
    work : Path, optional
        Existing folder for the surrogate, one at a time, as large as the recording; the system's
        temporary folder if None.
    progress : callable, optional
        Called as the work goes on; may raise `Cancelled`.
    **how
        Further arguments of `segment`: preset, model, config, precision, n_threads.

    Returns
    -------
    NullControl
        What was found in each.

    Raises
    ------
    SettingsError
        If there is no kind, or a number is negative.
    RecordingError
        If the recording cannot be used, or there is no room for a surrogate.
    """
    if repeats < 1 or seed < 0 or not kinds:
        msg = (
            f"{len(kinds)} kinds of surrogates, {repeats} of each and seed {seed} were asked for; "
            "give a kind at least, a number from 1 and a seed from 0."
        )
        raise SettingsError(msg)

    def named(name: str) -> ProgressCallback:
        def tell(step: Progress) -> None:
            progress(Progress(f"{name}: {step.stage}", step.done, step.total, step.detail))

        return tell

    result = segment(recording, exclude=exclude, seed=seed, progress=named("the recording"), **how)
    found: list[Surrogate] = []
    usable = np.flatnonzero(np.asarray(result.motion.flags) == 0)
    for kind in kinds if len(usable) >= 2 else ():
        for i in range(repeats):
            name = f"{kind} {i + 1}" if repeats > 1 else kind
            with tempfile.TemporaryDirectory(dir=work, prefix="cocuyo-null-") as folder:
                surrogate = make_surrogate(
                    recording,
                    result,
                    kind=kind,
                    seed=seed + i,
                    path=Path(folder) / "frames.raw",
                    progress=named(name),
                )
                one = segment(
                    surrogate, exclude=~result.valid, seed=seed + i, progress=named(name), **how
                )
            found.append(Surrogate(kind, seed + i, **_count(one)))
    return NullControl(result, tuple(found), len(usable))


def _count(result: Result) -> dict[str, int]:
    accepted = result.rois.accepted
    return {
        "n_candidates": len(result.rois),
        "n_accepted": int(accepted.sum()),
        "n_events": int(result.events.count(len(result.rois))[accepted].sum()),
    }


def make_surrogate(
    recording: Recording,
    result: Result,
    *,
    kind: NullKind,
    seed: int,
    path: Path,
    progress: ProgressCallback = ignore_progress,
) -> Recording:
    """Write a surrogate of a recording to a file.

    Parameters
    ----------
    recording : Recording
        The recording.
    result : Result
        Found in it: shifts, flags and diameter are taken from there.
    kind : {"phase", "shift", "frames"}
        What the surrogate loses.
    seed : int
        Seed of it.
    path : Path
        The file, which must outlive what is returned.
    progress : callable, optional
        Called after each block.

    Returns
    -------
    Recording
        The usable frames, corrected and changed; in the recording's type, so that it is as large.

    Raises
    ------
    RecordingError
        If the disk has no room.
    """
    rng = stream(seed, f"pipeline.null.{kind}")
    dtype = recording.movie.dtype if recording.movie.dtype.kind in "iu" else np.dtype(np.float32)
    usable = np.asarray(result.motion.flags) == 0
    n, shape = int(usable.sum()), recording.frame_shape
    frame_bytes = dtype.itemsize * shape[0] * shape[1]
    free = shutil.disk_usage(path.parent).free
    if free < 1.02 * n * frame_bytes:
        msg = (
            f"A surrogate of {recording.name} takes {n * frame_bytes / 1e9:.1f} GB, and "
            f"{path.parent} has {free / 1e9:.1f} GB left; name a folder with more (--work)."
        )
        raise RecordingError(msg)
    places = np.full(recording.n_frames, -1, np.int64)
    places[usable] = rng.permutation(n) if kind == "frames" else np.arange(n)
    with path.open("wb") as file:
        file.truncate(n * frame_bytes)
        for start, frames in corrected_blocks(
            recording, result.motion, progress=progress, stage="copying frames"
        ):
            for place, frame in zip(places[start : start + len(frames)], frames, strict=True):
                if place >= 0:
                    file.seek(int(place) * frame_bytes)
                    file.write(_as_type(frame, dtype).tobytes())
    if kind != "frames":
        _transform_pixels(path, dtype, (n, *shape), kind, rng, progress)
    movie = RawMovie(path, dtype, shape, frame_bytes * np.arange(n, dtype=np.int64))
    return replace(
        recording,
        movie=movie,
        frame_rate_hz=recording.rate_hz,
        timestamps_s=None,
        diameter_um=None,
        diameter_px=result.diameter_px,
        name=f"{recording.name}, {kind}",
        paths=(),
        notes=(),
    )


def _transform_pixels(
    path: Path,
    dtype: "np.dtype[Any]",
    shape: tuple[int, int, int],
    kind: NullKind,
    rng: np.random.Generator,
    progress: ProgressCallback,
) -> None:
    """Change the time courses in a file of frames, some pixels at a time."""
    n_frames, n_pixels = shape[0], shape[1] * shape[2]
    width = max(1, _BAND_VALUES // n_frames)
    # Read and written, not mapped: the system maps far more than is asked for, and it all counts as
    # memory of the process.
    with path.open("r+b", buffering=0) as file:
        for start in range(0, n_pixels, width):
            stop = min(start + width, n_pixels)
            places = dtype.itemsize * (n_pixels * np.arange(n_frames, dtype=np.int64) + start)
            band = np.empty((n_frames, stop - start), dtype)
            for place, row in zip(places.tolist(), band, strict=True):
                file.seek(place)
                file.readinto(row)
            courses = np.ascontiguousarray(band.T, np.float32)
            band[:] = _as_type(_TRANSFORMS[kind](courses, rng).T, dtype)
            for place, row in zip(places.tolist(), band, strict=True):
                file.seek(place)
                file.write(row.data)
            progress(Progress("changing time courses", stop, n_pixels))


def _as_type(values: AnyArray, dtype: "np.dtype[Any]") -> AnyArray:
    if dtype.kind not in "iu":
        return np.asarray(values, dtype)
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(values), limits.min, limits.max), dtype)

"""The folder of a live recording: frames as they arrive, and what is provisional."""

import csv
import io
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cocuyo.core import PartOfMovie, Recording, ResultError, RoiSet
from cocuyo.io.atomic import save_npz_atomic, write_atomically, write_json
from cocuyo.io.imagej import write_tiff
from cocuyo.io.live import LiveFacts
from cocuyo.io.results import remove
from cocuyo.io.spool import Spool

RECORD = "live.json"
FORMAT = "cocuyo live"
FORMAT_VERSION = 1
_ROIS = "rois.npz"
_EVENT_COLUMNS = (
    "id", "onset_s", "detected_s", "height_sd", "delta_f_over_f", "y_px", "x_px"
)  # fmt: skip


def live_folder(folder: Path) -> Path:
    """Name the folder of a live recording.

    Parameters
    ----------
    folder : Path
        The result folder that will be made of it.

    Returns
    -------
    Path
        `folder` with ``.live`` added.
    """
    return folder.with_name(folder.name + ".live")


class LiveFolder:
    """A live recording on disk.

    Parameters
    ----------
    path : Path
        The folder; it is made, with its parents. One that holds a recording which was interrupted
        is taken up again.
    key : dict
        What the recording is made with; only the same may go on with it.

    Raises
    ------
    ResultError
        If something else lies there, or a recording that was made with other settings.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self.path = path
        self._traces: TextIO | None = None
        self._events: TextIO | None = None
        self._ids: tuple[str, ...] | None = None
        record = read_record(path)
        if record is None:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                msg = (
                    f"{path} is where the frames would be kept, but it exists and is not cocuyo's; "
                    "move it away, or choose another result folder with --out."
                )
                raise ResultError(msg)
            path.mkdir(parents=True, exist_ok=True)
            record = {"session": secrets.token_hex(8), "status": "recording"}
            self.resumed = False
        else:
            self.resumed = True
            differing = [name for name in key if record.get("key", {}).get(name) != key[name]]
            if differing:
                msg = (
                    f"{path} holds a recording that was interrupted; it was made with another "
                    f"{', '.join(differing)}. Start again with the same options to complete it, "
                    "or move the folder away."
                )
                raise ResultError(msg)
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **record,
            "key": dict(key),
        }
        self.write()

    @property
    def facts(self) -> LiveFacts | None:
        """What the frames are, where that is known already."""
        stored = self.record.get("facts")
        if stored is None:
            return None
        lists = {"frame_shape", "paths", "notes"}
        values: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in stored.items()}
        return LiveFacts(**values)

    def write(self, **changes: Any) -> None:
        """Change the record and write it."""
        self.record.update(changes)
        write_json(self.path / RECORD, self.record)

    def write_rois(
        self, rois: RoiSet, *, pixel_size_um: float | None, times: Sequence[float]
    ) -> None:
        """Write mask, labels and table of the ROIs found by now.

        Parameters
        ----------
        rois : RoiSet
            All of them.
        pixel_size_um : float or None
            For the pictures.
        times : sequence of float
            When each was found, in seconds.
        """
        mask = rois.mask().astype(np.uint8) * np.uint8(255)
        for name, image in (
            ("mask.tif", mask),
            ("labels.tif", rois.label_image().astype(np.uint16)),
        ):
            with write_atomically(self.path / name) as temporary:
                write_tiff(temporary, image, pixel_size_um=pixel_size_um)
        labels = np.cumsum(rois.accepted) * rois.accepted
        rows = [
            (name, int(label), f"{y:.2f}", f"{x:.2f}", int(area), f"{score:.3f}", f"{at:.3f}")
            for name, label, (y, x), area, score, at in zip(
                rois.ids, labels, rois.centroids, rois.area_px, rois.score, times, strict=True
            )
        ]
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("id", "label", "y_px", "x_px", "area_px", "score", "found_s"))
        table.writerows(rows)
        with write_atomically(self.path / "rois.csv") as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="\n")

    def keep_rois(self, arrays: Mapping[str, Any]) -> None:
        """Keep the ROIs for a second start.

        Parameters
        ----------
        arrays : mapping of str to array_like
            What they are.
        """
        save_npz_atomic(self.path / _ROIS, arrays)

    def kept_rois(self) -> dict[str, Any] | None:
        """Read what `keep_rois` wrote; None where there is nothing that can be read."""
        try:
            with np.load(self.path / _ROIS, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (OSError, ValueError, KeyError, EOFError):
            return None

    def add_traces(
        self, ids: tuple[str, ...], frame: int, time_s: float, values: Iterable[float]
    ) -> None:
        """Add a row of ΔF/F₀; other ROIs than before begin a new file.

        Parameters
        ----------
        ids : tuple of str
            The ROIs.
        frame : int
            Index of the frame.
        time_s : float
            Its time in seconds.
        values : iterable of float
            One for each; NaN is left empty.
        """
        if not ids:
            return
        if ids != self._ids or self._traces is None:
            if self._traces is not None:
                self._traces.close()
            path = self.path / f"traces_{frame:07d}.csv"
            self._traces = path.open("w", encoding="utf-8", newline="\n", buffering=1)
            self._traces.write("time_s," + ",".join(ids) + "\n")
            self._ids = ids
        row = ",".join(["" if value != value else f"{value:.5g}" for value in values])  # noqa: PLR0124 - NaN
        self._traces.write(f"{time_s:.6f},{row}\n")

    def add_event(self, *row: Any) -> None:
        """Add an event to the table.

        Parameters
        ----------
        *row : object
            Id, onset and detection in seconds, height, ΔF/F₀, centre.
        """
        if self._events is None:
            path = self.path / "events.csv"
            fresh = not path.exists()
            self._events = path.open("a", encoding="utf-8", newline="\n", buffering=1)
            if fresh:
                self._events.write(",".join(_EVENT_COLUMNS) + "\n")
        name, onset_s, detected_s, *rest = row
        cells = [str(name), f"{onset_s:.6f}", f"{detected_s:.6f}", *(f"{v:.5g}" for v in rest)]
        self._events.write(",".join(cells) + "\n")

    def close(self) -> None:
        """Let the tables go."""
        for file in (self._traces, self._events):
            if file is not None:
                file.close()

    def delete(self) -> None:
        """Remove the folder with all it holds."""
        self.close()
        with suppress(OSError):
            remove(self.path)


def read_record(path: Path) -> dict[str, Any] | None:
    """Read the record of a live recording.

    Parameters
    ----------
    path : Path
        Its folder.

    Returns
    -------
    dict or None
        None where there is none of cocuyo's.
    """
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None


def spooled_recording(
    spool: Spool, facts: LiveFacts, *, diameter_um: float | None, n_frames: int | None = None
) -> Recording:
    """Make a recording of the frames that were kept.

    Where the sender gave times, these count; where frames were lost on the way, the numbers of
    the others tell their times.

    Parameters
    ----------
    spool : Spool
        The frames.
    facts : LiveFacts
        What they are.
    diameter_um : float or None
        Typical diameter of a soma, in µm.
    n_frames : int, optional
        How many of them, from the start; all if None.

    Returns
    -------
    Recording
        The recording.
    """
    n = spool.n_frames if n_frames is None else n_frames
    numbers, times, _ = spool.entries()[:n].T
    notes, stamps = list(facts.notes), None
    if n and np.isfinite(times).all():
        if (np.diff(times) > 0).all():
            stamps = times
        else:
            notes.append("The times that came with the frames do not rise; they were not used.")
    missing = int(numbers[-1] - numbers[0]) + 1 - n if n else 0
    if missing:
        if stamps is None and facts.frame_rate_hz is not None:
            stamps = numbers / facts.frame_rate_hz
        notes.append(f"{missing} frames never arrived; the times of the others allow for them.")
    return Recording(
        PartOfMovie(spool, 0, n),
        frame_rate_hz=facts.frame_rate_hz,
        pixel_size_um=facts.pixel_size_um,
        diameter_um=diameter_um,
        timestamps_s=stamps,
        name=facts.name,
        paths=facts.paths or (str(spool.path),),
        notes=tuple(notes),
    )

"""One opened result: its curated state, what the page is told of it, and its edits."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import (
    AnyArray,
    CocuyoError,
    Events,
    FloatArray,
    LabelArray,
    Recording,
    Result,
    SettingsError,
    Suspicion,
    Traces,
    acceptance_limit,
    find_suspects,
    outline,
    score_decides,
)
from cocuyo.core.curation import (
    Activity,
    Curation,
    Edit,
    MinScore,
    active_edits,
    check_edit,
    curate,
    next_redo,
    next_undo,
)
from cocuyo.io import EditLog, TraceStore, open_result
from cocuyo.pipeline import events_from, retrace_one, settings_of, shape_key
from cocuyo.server.actions import make_edit, parse_action
from cocuyo.server.frames import Deviation, Frames

logger = logging.getLogger(__name__)

_MOST_KEPT = 64
"""Computed traces that are kept though no ROI has their shape now (an undo may bring it back)."""
PROJECTIONS = {
    "mean": "Mean",
    "max": "Maximum",
    "std": "Standard deviation",
    "correlation": "Correlation",
    "probability": "Probability",
    "contrast": "Contrast",
    "mean_raw": "Mean before correction",
    "max_raw": "Maximum before correction",
}
"""Pictures of the whole recording that the page can show, in its order."""
_COMPUTED = ("std", "correlation")


@dataclass
class _Told:
    """What windows know of one ROI, since which version, and what it follows from."""

    content: dict[str, Any]
    version: int
    basis: tuple[Any, ...]


@dataclass
class _Traces:
    """Traces of new shapes: computed one after the other, beside everything else."""

    compute: Callable[[LabelArray, Callable[[float], None]], Activity]
    done: Callable[[], None]
    store: TraceStore
    n_frames: int
    kept: OrderedDict[str, Activity] = field(default_factory=OrderedDict)
    failed: dict[str, str] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)
    _wanted: OrderedDict[str, LabelArray] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _worker: threading.Thread | None = None

    def want(self, key: str, index: LabelArray, *, first: bool = False) -> None:
        with self._lock:
            if key in self.kept or key in self.failed:
                return
            self._wanted.setdefault(key, index)
            self._wanted.move_to_end(key, last=not first)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, daemon=True)
                self._worker.start()

    def keep_only(self, keys: set[str]) -> None:
        """Forget what no ROI needs now, but for the latest."""
        with self._lock:
            for key in [k for k in self._wanted if k not in keys]:
                del self._wanted[key]
            spare = [key for key in self.kept if key not in keys]
            for key in spare[: max(0, len(spare) - _MOST_KEPT)]:
                del self.kept[key]

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._worker = None
                    return
                key, index = next(iter(self._wanted.items()))
            found, reason = self._find(key, index)
            with self._lock:
                if found is not None:
                    self.kept[key] = found
                else:
                    self.failed[key] = reason
                self._wanted.pop(key, None)
                self.share.pop(key, None)
            self.done()

    def _find(self, key: str, index: LabelArray) -> tuple[Activity | None, str]:
        """Take what was kept on the disk, or compute it; else say why not."""
        found = self.store.get(key)
        if found is not None and found.traces.raw.shape == (1, self.n_frames):
            return found, ""
        try:
            found = self.compute(index, lambda share: self.share.__setitem__(key, share))
        except (CocuyoError, OSError) as error:
            return None, str(error)
        except Exception:  # a bug; the worker goes on with the next shape
            logger.exception("The trace of a new shape")
            return None, "cocuyo failed; the terminal in which it runs says more."
        self.store.put(key, found)
        return found, ""


def stored_activity(result: Result, roi: int, name: str) -> Activity:
    """Read one ROI of a result.

    Parameters
    ----------
    result : Result
        The result; its traces may lie on the disk.
    roi : int
        Index of the ROI.
    name : str
        Its id.

    Returns
    -------
    Activity
        Traces, raster and events, one row.
    """
    rows, of_roi = slice(roi, roi + 1), result.events.roi == roi
    traces = {each.name: getattr(result.traces, each.name)[rows] for each in fields(Traces)}
    events = {each.name: getattr(result.events, each.name)[of_roi] for each in fields(Events)}
    events["roi"] = np.zeros(int(of_roi.sum()), np.int32)
    return Activity((name,), Traces(**traces), result.raster[rows], Events(**events))


class Session:
    """A result that is looked at and corrected, perhaps in several windows at once.

    Every window sends its edits here, and here they are put in one order: checked, appended to
    ``edits.jsonl``, flushed, then confirmed. Windows ask what changed since the version they know.

    Parameters
    ----------
    folder : Path
        The result folder.
    open_movie : callable
        Opens the recording of the result; raises `CocuyoError` where it cannot.
    """

    def __init__(self, folder: Path, open_movie: Callable[[Result], Recording]) -> None:
        self.folder = folder
        self.result = open_result(folder)
        self._found_ids = frozenset(self.result.rois.ids)
        self.frames: Frames | None = None
        self.deviation: Deviation | None = None
        self.no_movie = ""
        """Why there is no movie; empty where there is one."""
        self._recording: Recording | None = None
        try:
            self._recording = open_movie(self.result)
        except (CocuyoError, OSError) as error:
            self.no_movie = str(error)
        else:
            args = (self._recording, self.result.motion, self.result.projections["mean"])
            self.frames = Frames(*args, self.result.diameter_px)
            self.deviation = Deviation(*args)
        self._counts = self.result.events.count(len(self.result.rois))
        mean, contrast = (self.result.projections.get(n) for n in ("mean", "contrast"))
        self._images: dict[str, tuple[AnyArray, Callable[[AnyArray], Any]]] = {
            "probability": (self.result.probability.ravel(), np.mean)
        }
        if contrast is not None:
            self._images["contrast"] = (contrast.ravel(), np.max)
        if mean is not None:
            self._images["mean"] = (mean.ravel(), np.mean)
        self._log = EditLog(folder)
        self._edits = self._log.read()
        self._lock = threading.RLock()
        self._version = 0
        self._told: dict[str, _Told] = {}
        self._gone: dict[str, int] = {}
        self._rings: dict[str, list[list[int]]] = {}
        self._keys: dict[str, str] = {}
        self._suspicions: list[Suspicion | None] = []
        self._moved: OrderedDict[tuple[str, float], Activity] = OrderedDict()
        self._traces = _Traces(self._compute, self._tell, TraceStore(folder), self.result.n_frames)
        self._state = self._curate()
        self._tell()

    @property
    def recording(self) -> Recording | None:
        """The recording, where it could be opened."""
        return self._recording

    # --- What the page asks ---------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Say what the page must know of the result before anything else.

        Returns
        -------
        dict
            Plain JSON.
        """
        result = self.result
        images = [
            {"name": name, "title": title}
            for name, title in PROJECTIONS.items()
            if (name == "probability" and float(result.probability.max(initial=0)) > 0)
            or name in result.projections
            or (name in _COMPUTED and self.deviation is not None)
        ]
        return {
            "name": result.name,
            "folder": str(self.folder),
            "frame_shape": list(result.rois.frame_shape),
            "n_frames": result.n_frames,
            "frame_rate_hz": result.frame_rate_hz,
            "duration_s": float(result.times_s[-1]) if result.n_frames else 0.0,
            "pixel_size_um": result.pixel_size_um,
            "diameter_px": result.diameter_px,
            "images": images,
            "movie": None
            if self.frames is None
            else {
                "kinds": ["raw", "corrected", "dff"],
                "shape": list(self.frames.shape),
            },
            "no_movie": self.no_movie,
            "min_score": acceptance_limit(self.result),
            "warnings": list(result.info.warnings),
            "task": result.info.task,
            "recordings": [{"name": part.name, "start": part.start} for part in result.parts],
        }

    def changes(self, since: int) -> dict[str, Any]:
        """Say what changed since a version; everything since version 0.

        Parameters
        ----------
        since : int
            The version a window knows.

        Returns
        -------
        dict
            Plain JSON: version, ROIs that are new or other, ids of those that went, the history.
        """
        with self._lock:
            self._take_in()
            if since == self._version:
                return {"version": self._version}
            rois = [told.content for told in self._told.values() if told.version > since]
            return {
                "version": self._version,
                "rois": rois,
                "gone": [name for name, version in self._gone.items() if version > since],
                "history": self._history(),
            }

    def _history(self) -> dict[str, Any]:
        edits = self._edits
        undo, redo = next_undo(edits), next_redo(edits)
        by_id = {edit.id: edit for edit in edits}
        return {
            "n_edits": len(edits),
            "undo": describe(by_id[undo]) if undo else "",
            "redo": describe(by_id[redo]) if redo else "",
            "min_score": self._min_score_set(),
            "skipped": len(self._state.skipped),
        }

    def _min_score_set(self) -> float | None:
        """Least score that a person set."""
        scores = [e.score for e in active_edits(self._edits) if isinstance(e, MinScore)]
        return scores[-1] if scores else None

    def _look_for_suspects(self) -> list[Suspicion | None]:
        """How much each ROI asks for a look; none that a person judged or drew does."""
        state, set_by_person = self._state, self._min_score_set()
        limit = acceptance_limit(self.result) if set_by_person is None else set_by_person
        n_events = np.append(self._counts, -1)[state.source]  # a source of -1 is a new shape
        found = find_suspects(
            state.rois,
            n_events,
            min_score=limit,
            score_decides=set_by_person is not None or score_decides(self.result),
        )
        settled = state.judged | (state.source < 0)
        return [None if done else one for one, done in zip(found, settled, strict=True)]

    def times(self) -> FloatArray:
        """Time of each frame in seconds.

        Returns
        -------
        ndarray of float32, shape (n_frames,)
            From 0.
        """
        return self.result.times_s.astype(np.float32)

    def trace(self, name: str) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Give the trace of an ROI, its events and what found them.

        Parameters
        ----------
        name : str
            Id of the ROI.

        Returns
        -------
        head : dict
            Plain JSON: threshold, or why there is no trace (yet).
        arrays : dict of str to ndarray
            ``dff``, ``dog``, ``raw``, ``neuropil`` and the frames of ``events`` (onset, peak,
            offset); empty while the trace is computed.

        Raises
        ------
        SettingsError
            If there is no such ROI now.
        """
        with self._lock:
            self._take_in()
            row = self._row(name)
            activity = self._activity(row, urgent=True)
            key = self._keys.get(name, "")
            if activity is None:
                return {
                    "id": name,
                    "pending": not self._traces.failed.get(key),
                    "share": self._traces.share.get(key, 0.0),
                    "reason": self._traces.failed.get(key, ""),
                }, {}
        traces, events = activity.traces, activity.events
        head = {
            "id": name,
            "pending": False,
            "threshold": float(traces.threshold[0]),
            "judged": bool(np.isnan(self._state.threshold_sd[row])),
        }
        if not np.isfinite(traces.delta_f_over_f).all():
            return {**head, "reason": "This ROI has no pixel in the frame and so no trace."}, {}
        return head, {
            "dff": traces.delta_f_over_f[0],
            "dog": traces.dog[0],
            "raw": np.nan_to_num(traces.raw[0]),
            "neuropil": np.nan_to_num(traces.neuropil[0]),
            "events": np.stack([events.onset, events.peak, events.offset]).astype(np.int32),
        }

    def _row(self, name: str) -> int:
        try:
            return self._state.rois.ids.index(name)
        except ValueError:
            what = self._state.gone.get(name)
            msg = f"{name} {'was ' + what if what else 'is not there'}."
            raise SettingsError(msg) from None

    # --- Edits ----------------------------------------------------------------------------------

    def act(self, content: dict[str, Any]) -> dict[str, Any]:
        """Do what a person did on the page: check it, keep it on the disk, say how it stands now.

        Parameters
        ----------
        content : dict
            The action as JSON.

        Returns
        -------
        dict
            Plain JSON: the edit that was kept.

        Raises
        ------
        SettingsError
            If it cannot be done; nothing was then kept.
        ResultError
            If it cannot be written.
        """
        action = parse_action(content)
        with self._lock:
            self._take_in()
            known = next((e for e in self._edits if action.id and e.id == action.id), None)
            if known is not None:  # sent again: its answer was lost
                return {"edit": known.id, "kind": known.kind, "made": made_ids(known)}
            found = self.result.rois
            after: list[Curation] = []

            def make(edits: tuple[Edit, ...]) -> Edit:
                if len(edits) != len(self._edits):  # another program was quicker
                    self._edits, self._state = edits, self._curate(edits)
                edit = make_edit(action, edits, self._state, found)
                if edit.kind == "event_threshold":
                    settings_of(
                        self.result, with_judge=False
                    )  # raises where events cannot be found
                after.append(check_edit(found, edits, edit, valid=self.result.valid))
                return edit

            edit = self._log.append(make)
            self._edits, self._state = self._log.read(), after[-1]
            if self._edits[-1].id != edit.id:  # another program wrote meanwhile
                self._state = self._curate()
            self._tell()
        return {
            "edit": edit.id,
            "kind": edit.kind,
            "made": made_ids(edit),
            "text": describe(edit),
        }

    def _take_in(self) -> None:
        """Follow the log, which another program may have written to."""
        edits = self._log.read()
        if len(edits) != len(self._edits):
            self._edits = edits
            self._state = self._curate()
            self._tell()

    def _curate(self, edits: tuple[Edit, ...] | None = None) -> Curation:
        wanted = self._edits if edits is None else edits
        return curate(self.result.rois, wanted, valid=self.result.valid)

    # --- Traces of new shapes -------------------------------------------------------------------

    def _compute(self, index: LabelArray, told: Callable[[float], None]) -> Activity:
        if self._recording is None:
            msg = f"The trace of a new shape is read from the recording. {self.no_movie}"
            raise SettingsError(msg)
        return retrace_one(
            self._recording,
            self.result,
            index,
            progress=lambda progress: told(progress.done / max(progress.total, 1)),
        )

    def _activity(self, row: int, *, urgent: bool = False) -> Activity | None:
        """Traces and events of one ROI; None while they are computed."""
        state, name = self._state, self._state.rois.ids[row]
        source, threshold = int(state.source[row]), float(state.threshold_sd[row])
        if source >= 0:
            key, activity = f"found {source}", None
            if np.isnan(threshold):
                return stored_activity(self.result, source, name)
        else:
            key = self._keys.setdefault(name, shape_key(state.rois, row))
            activity = self._traces.kept.get(key)
            if activity is None:
                self._traces.want(key, self._index(row), first=urgent)
                return None
        if np.isnan(threshold):
            return activity
        moved = self._moved.get((key, threshold))
        if moved is None:
            before = activity or stored_activity(self.result, source, name)
            try:
                moved = events_from(
                    self.result, before.traces, [name], np.array([threshold], np.float32)
                )
            except CocuyoError as error:
                self._traces.failed[self._keys.setdefault(name, key)] = str(error)
                return None
            self._moved[key, threshold] = moved
            while len(self._moved) > _MOST_KEPT:
                self._moved.popitem(last=False)
        return moved

    def _index(self, row: int) -> LabelArray:
        bounds = self._state.rois.footprints.indptr
        return self._state.rois.footprints.indices[bounds[row] : bounds[row + 1]]

    def _weights(self, row: int) -> FloatArray:
        bounds = self._state.rois.footprints.indptr
        return self._state.rois.footprints.data[bounds[row] : bounds[row + 1]]

    # --- Telling --------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Compare the state with what windows were told, under a new version where it differs."""
        with self._lock:
            rois, version = self._state.rois, self._version + 1
            self._keys = {rois.ids[i]: shape_key(rois, i) for i in self._state.redrawn.tolist()}
            self._suspicions = self._look_for_suspects()
            for row, name in enumerate(rois.ids):
                basis = self._basis(row)
                known = self._told.get(name)
                if known is None or known.basis != basis:
                    self._told[name] = _Told(self._describe(row), version, basis)
                self._gone.pop(name, None)
            there = set(rois.ids)
            for name in [name for name in self._told if name not in there]:
                del self._told[name]
                self._gone[name] = version
            self._version = version
            self._traces.keep_only(set(self._keys.values()))

    def _basis(self, row: int) -> tuple[Any, ...]:
        """Give everything that the description of an ROI follows from."""
        state, name = self._state, self._state.rois.ids[row]
        source, threshold = int(state.source[row]), float(state.threshold_sd[row])
        moved = not np.isnan(threshold)
        return (
            bool(state.rois.accepted[row]),
            state.rois.reasons[row],
            bool(state.judged[row]),
            source if source >= 0 else self._keys[name],
            threshold if moved else None,
            state.parents[row],
            self._suspicions[row],
            (source >= 0 and not moved) or self._activity(row) is not None,
            source >= 0 or self._hopeful(row),
        )

    def _describe(self, row: int) -> dict[str, Any]:
        state, result, suspicion = self._state, self.result, self._suspicions[row]
        rois, name = state.rois, state.rois.ids[row]
        source, threshold = int(state.source[row]), float(state.threshold_sd[row])
        redrawn, moved = source < 0, np.isfinite(threshold)
        index = self._index(row)
        snr, n_events, noise, share = float(rois.snr[row]), None, None, None
        activity = self._activity(row) if redrawn or moved else None
        if activity is not None:
            noise = float(activity.traces.noise[0])
            share = float(activity.traces.neuropil_coefficient[0])
            highest = float(activity.traces.delta_f_over_f[0].max(initial=0))
            snr = highest / noise if noise > 0 else 0.0
            n_events = len(activity.events)
        elif not redrawn:
            noise = float(result.traces.noise[source])
            share = float(result.traces.neuropil_coefficient[source])
            n_events = int(self._counts[source])
        minutes = max(result.n_frames / result.frame_rate_hz / 60, 1e-9)
        diameter = 2 * np.sqrt(len(index) / np.pi) * (result.pixel_size_um or 1.0)
        y, x = _centre(index, self._weights(row), rois.frame_shape[1])
        return {
            "id": name,
            "accepted": bool(rois.accepted[row]),
            "reason": rois.reasons[row],
            "judged": bool(state.judged[row]),
            "shape": "new" if name not in self._found_ids else "changed" if redrawn else "",
            "threshold_sd": _finite(threshold),
            "parents": list(state.parents[row]),
            "suspicion": None if suspicion is None else _finite(suspicion.value),
            "doubts": [] if suspicion is None else list(suspicion.reasons),
            "pending": bool(redrawn and activity is None and self._hopeful(row)),
            "y": _finite(y),
            "x": _finite(x),
            "rings": self._outline(row, index),
            "figures": {
                "score": _finite(rois.score[row]),
                "snr": _finite(snr),
                "events": n_events,
                "rate": None if n_events is None else _finite(n_events / minutes),
                "peak": None if noise is None else _finite(snr * noise),
                "noise": _finite(noise),
                "area": len(index),
                "diameter": _finite(diameter),
                "neuropil": _finite(share),
                **{
                    what: _finite(take(image[index])) if len(index) else None
                    for what, (image, take) in self._images.items()
                },
            },
        }

    def _hopeful(self, row: int) -> bool:
        return self._keys.get(self._state.rois.ids[row], "") not in self._traces.failed

    def _outline(self, row: int, index: LabelArray) -> list[list[int]]:
        """Rings along the pixels' edges as x, y, x, y, ...; kept by shape."""
        source = int(self._state.source[row])
        key = f"found {source}" if source >= 0 else self._keys[self._state.rois.ids[row]]
        if key not in self._rings:
            if len(index) == 0:
                return []
            y, x = np.divmod(np.asarray(index, np.int64), self.result.rois.frame_shape[1])
            box = np.zeros((int(np.ptp(y)) + 1, int(np.ptp(x)) + 1), np.bool_)
            box[y - y.min(), x - x.min()] = True
            corner = np.array([x.min(), y.min()])
            self._rings[key] = [(ring + corner).ravel().tolist() for ring in outline(box)]
        return self._rings[key]


def _centre(index: LabelArray, weight: FloatArray, n_columns: int) -> tuple[float, float]:
    """Weighted centre (y, x); NaN without pixels."""
    total = float(weight.sum())
    if total <= 0:
        return np.nan, np.nan
    y, x = np.divmod(np.asarray(index, np.int64), n_columns)
    return float(y @ weight) / total, float(x @ weight) / total


def _finite(value: Any) -> float | None:
    """Give a number for JSON, in as many digits as anybody reads."""
    return None if value is None or not np.isfinite(value) else float(f"{float(value):.5g}")


def made_ids(edit: Edit) -> list[str]:
    """Name the ROIs that an edit made or is about, for the page to select.

    Parameters
    ----------
    edit : Edit
        The edit.

    Returns
    -------
    list of str
        Their ids; none for undo, redo and the least score.
    """
    if edit.kind == "split":
        return [part.roi for part in edit.parts]
    if edit.kind in ("merge", "draw", "reshape", "event_threshold"):
        return [edit.roi]
    if edit.kind in ("accept", "reject"):
        return list(edit.rois)
    return []


def describe(edit: Edit) -> str:
    """Say in a few words what an edit does.

    Parameters
    ----------
    edit : Edit
        The edit.

    Returns
    -------
    str
        Such as "reject roi_0007".
    """
    match edit.kind:
        case "accept" | "reject" | "delete":
            what = edit.rois[0] if len(edit.rois) == 1 else f"{len(edit.rois)} ROIs"
            return f"{edit.kind} {what}"
        case "merge":
            return f"merge {', '.join(edit.rois[:3])}{' ...' if len(edit.rois) > 3 else ''}"
        case "split" | "draw" | "reshape":
            return f"{edit.kind} {edit.roi}"
        case "event_threshold":
            return f"threshold of {edit.roi}"
        case "min_score":
            return f"accept from a score of {edit.score:.2f}"
        case _:
            return edit.kind

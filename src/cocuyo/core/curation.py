"""Curation: what a person changed in a result, edit by edit, and the state that follows.

A result is never changed. Edits are kept in the order in which they were made, undo and redo are
edits too, and the curated state is a function of the result and the edits.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field, TypeAdapter, model_validator
from scipy import sparse

from cocuyo.core.arrays import AnyArray, BoolArray, FloatArray, LabelArray
from cocuyo.core.errors import ResultError, SettingsError
from cocuyo.core.outlines import fill
from cocuyo.core.result import Events, Result, Traces
from cocuyo.core.rois import RoiSet
from cocuyo.core.settings import FrozenConfig

EDIT_VERSION = 1
"""Version of the edits that this cocuyo writes; it reads none above it."""
BY_PERSON = "rejected by a person"
"""Reason of an ROI that a person rejected without saying why."""
STANDING_REASONS = ("too small for a soma", "no event in its trace", "shows the same neuron as")
"""Reasons (their beginnings) that have nothing to do with the score: `MinScore` leaves them."""

_MOST_POINTS = 100_000
_Id = Annotated[str, Field(min_length=1, max_length=200)]
_Whole = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
_Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]


# ---------------------------------------------------------------------------------------------
# Shapes
# ---------------------------------------------------------------------------------------------


class Pixels(FrozenConfig):
    """A footprint, pixel by pixel."""

    kind: Literal["pixels"] = "pixels"
    y: tuple[_Whole, ...] = Field(
        min_length=1, max_length=_MOST_POINTS, description="Rows, from 0."
    )
    x: tuple[_Whole, ...] = Field(
        min_length=1, max_length=_MOST_POINTS, description="Columns, from 0."
    )
    weight: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        default=None, description="Weight of each pixel in (0, 1]; 1 everywhere if None."
    )

    @model_validator(mode="after")
    def _one_length(self) -> "Pixels":
        lengths = {len(self.y), len(self.x)} | ({len(self.weight)} if self.weight else set())
        if len(lengths) != 1:
            msg = "y, x and weight must have one length"
            raise ValueError(msg)
        return self


class Polygon(FrozenConfig):
    """An outline; a pixel belongs to it if its centre lies inside (even-odd rule)."""

    kind: Literal["polygon"] = "polygon"
    points: tuple[tuple[_Coordinate, _Coordinate], ...] = Field(
        min_length=3,
        max_length=_MOST_POINTS,
        description="Corners (y, x) in pixels; the centre of the first pixel is (0, 0).",
    )


Shape = Annotated[Pixels | Polygon, Field(discriminator="kind")]
"""What an ROI covers."""


@lru_cache(maxsize=4096)
def _draw(shape: Pixels | Polygon, frame_shape: tuple[int, int]) -> tuple[AnyArray, AnyArray]:
    """Flat indices within the frame, rising, and weights; neither may be changed."""
    rows, columns = frame_shape
    if isinstance(shape, Polygon):
        corners = np.asarray(shape.points, np.float64)[:, ::-1] + 0.5
        index = np.flatnonzero(fill([corners], frame_shape))
        return index, np.ones(len(index), np.float32)
    y, x = np.asarray(shape.y), np.asarray(shape.x)
    weight = np.ones(len(y)) if shape.weight is None else np.asarray(shape.weight)
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    index, first = np.unique(y[inside] * columns + x[inside], return_index=True)
    return index, weight[inside][first].astype(np.float32)


def draw_shape(
    shape: Pixels | Polygon, frame_shape: tuple[int, int], *, valid: BoolArray | None = None
) -> tuple[LabelArray, FloatArray]:
    """Say which pixels a shape covers.

    Parameters
    ----------
    shape : Pixels or Polygon
        The shape.
    frame_shape : tuple of int
        Number of rows and columns.
    valid : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels that can be used; the others are left out.

    Returns
    -------
    index : ndarray of int32, shape (n_pixels,)
        Flat indices of its pixels, rising; none where it lies outside.
    weight : ndarray of float32, shape (n_pixels,)
        Their weights, the largest 1.

    Examples
    --------
    >>> square = Polygon(points=((0.5, 0.5), (0.5, 2.5), (2.5, 2.5), (2.5, 0.5)))
    >>> draw_shape(square, (4, 5))[0].tolist()
    [6, 7, 11, 12]
    """
    index, weight = _draw(shape, (int(frame_shape[0]), int(frame_shape[1])))
    if valid is not None:
        kept = valid.ravel()[index]
        index, weight = index[kept], weight[kept]
    largest = weight.max(initial=0.0)
    return index.astype(np.int32), np.asarray(weight / max(largest, 1e-30), np.float32)


def shape_of(rois: RoiSet, ids: Sequence[str]) -> Pixels:
    """Give the footprint of an ROI, or the union of several, as a shape.

    Parameters
    ----------
    rois : RoiSet
        The ROIs.
    ids : sequence of str
        One id, or those to be joined.

    Returns
    -------
    Pixels
        Every pixel of any of them, with the largest of its weights.

    Raises
    ------
    SettingsError
        If an id is not there, or no pixel is.
    """
    index_of = {name: i for i, name in enumerate(rois.ids)}
    unknown = [name for name in ids if name not in index_of]
    if unknown or not ids:
        msg = f"There is no ROI {', '.join(unknown) or 'given'}; name ROIs of this result."
        raise SettingsError(msg)
    joined = rois.footprints[[index_of[name] for name in ids]].tocsc().max(axis=0).tocoo()
    index, weight = np.asarray(joined.coords[-1]), np.asarray(joined.data)
    if len(index) == 0:
        msg = f"{', '.join(ids)} cover no pixel."
        raise SettingsError(msg)
    order = np.argsort(index)
    y, x = np.divmod(index[order], rois.frame_shape[1])
    return Pixels(
        y=tuple(y.tolist()),
        x=tuple(x.tolist()),
        weight=tuple(np.clip(weight[order], 1e-6, 1).round(6).tolist()),
    )


# ---------------------------------------------------------------------------------------------
# Edits
# ---------------------------------------------------------------------------------------------


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _edit_id() -> str:
    return secrets.token_hex(8)


class _BaseEdit(FrozenConfig):
    version: Literal[1] = 1
    id: _Id = Field(default_factory=_edit_id, description="Name of the edit, each once.")
    time: str = Field(default_factory=_now, max_length=64, description="When, ISO 8601, UTC.")
    session: str = Field(default="", max_length=64, description="Window or program it came from.")


class Accept(_BaseEdit):
    """ROIs are neurons."""

    kind: Literal["accept"] = "accept"
    rois: tuple[_Id, ...] = Field(min_length=1, description="Ids of the ROIs.")


class Reject(_BaseEdit):
    """ROIs are no neurons."""

    kind: Literal["reject"] = "reject"
    rois: tuple[_Id, ...] = Field(min_length=1, description="Ids of the ROIs.")
    reason: str = Field(default=BY_PERSON, min_length=1, max_length=1000, description="Why.")


class MinScore(_BaseEdit):
    """Candidates that no person judged are accepted from this score on, and only those.

    Candidates rejected for what has nothing to do with the score (`STANDING_REASONS`) stay so.
    The last one counts.
    """

    kind: Literal["min_score"] = "min_score"
    score: float = Field(ge=0, le=1, description="Least score of an accepted candidate.")


class Merge(_BaseEdit):
    """Several ROIs are one neuron: a new ROI takes their place."""

    kind: Literal["merge"] = "merge"
    rois: tuple[_Id, ...] = Field(min_length=2, description="Ids of those that go.")
    roi: _Id = Field(description="Id of the new one.")
    shape: Shape


class Part(FrozenConfig):
    """One of the ROIs that a split makes."""

    roi: _Id = Field(description="Id of the new ROI.")
    shape: Shape


class Split(_BaseEdit):
    """An ROI is several neurons: new ROIs take its place."""

    kind: Literal["split"] = "split"
    roi: _Id = Field(description="Id of the one that goes.")
    parts: tuple[Part, ...] = Field(min_length=2, description="Those that come.")


class Draw(_BaseEdit):
    """A neuron that was missed."""

    kind: Literal["draw"] = "draw"
    roi: _Id = Field(description="Id of the new ROI.")
    shape: Shape


class Reshape(_BaseEdit):
    """An ROI has another shape."""

    kind: Literal["reshape"] = "reshape"
    roi: _Id = Field(description="Its id, which stays.")
    shape: Shape


class Delete(_BaseEdit):
    """ROIs are taken out: neither neurons nor rejected."""

    kind: Literal["delete"] = "delete"
    rois: tuple[_Id, ...] = Field(min_length=1, description="Ids of the ROIs.")


class EventThreshold(_BaseEdit):
    """Events of an ROI are what reaches this height, and nothing else judges them."""

    kind: Literal["event_threshold"] = "event_threshold"
    roi: _Id = Field(description="Its id.")
    threshold_sd: float | None = Field(
        gt=0,
        le=1e6,
        description="Height in the DoG signal, in units of its noise; None for events as found.",
    )


class Undo(_BaseEdit):
    """An earlier edit does not count."""

    kind: Literal["undo"] = "undo"
    edit: _Id = Field(description="Id of that edit.")


class Redo(_BaseEdit):
    """An edit that was undone counts again, in its old place."""

    kind: Literal["redo"] = "redo"
    edit: _Id = Field(description="Id of that edit.")


Change = Accept | Reject | MinScore | Merge | Split | Draw | Reshape | Delete | EventThreshold
"""An edit that changes ROIs."""
Edit = Change | Undo | Redo
"""Any edit."""
_EDIT: TypeAdapter[Edit] = TypeAdapter(Annotated[Edit, Field(discriminator="kind")])


def parse_edit(content: Mapping[str, Any]) -> Edit:
    """Make an edit of what JSON holds; the inverse of `dump_edit`.

    Parameters
    ----------
    content : mapping
        Decoded JSON. Lists stand for tuples. A new edit may leave out ``id`` and ``time``.

    Returns
    -------
    Edit
        The edit.

    Raises
    ------
    SettingsError
        If it is of a later version, of no known kind, or a value makes no sense.

    Examples
    --------
    >>> parse_edit({"kind": "accept", "rois": ["roi_0001"]}).rois
    ('roi_0001',)
    """
    version = content.get("version", EDIT_VERSION)
    if isinstance(version, int) and version > EDIT_VERSION:
        msg = (
            f"The edit has version {version}, this cocuyo knows up to {EDIT_VERSION}; "
            "update cocuyo."
        )
        raise SettingsError(msg)
    try:
        return _EDIT.validate_python(dict(content))
    except ValueError as error:
        problems: list[Any] = getattr(error, "errors", list)()
        first = problems[0] if problems else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"])
        msg = f"This is no edit: {where + ': ' if where else ''}{first['msg']}."
        raise SettingsError(msg) from None


def dump_edit(edit: Edit) -> dict[str, Any]:
    """Turn an edit into what JSON can hold.

    Parameters
    ----------
    edit : Edit
        The edit.

    Returns
    -------
    dict
        Its fields, ``version`` and ``kind`` among them.
    """
    return edit.model_dump(mode="json")


def active_edits(edits: Iterable[Edit]) -> tuple[Change, ...]:
    """Leave out what was undone.

    Parameters
    ----------
    edits : iterable of Edit
        All edits, in the order in which they were made.

    Returns
    -------
    tuple of Change
        Those that count, in the same order, without undo and redo.
    """
    counts: dict[str, bool] = {}
    changes: dict[str, Change] = {}
    for edit in edits:
        if isinstance(edit, Undo | Redo):
            if edit.edit in counts:
                counts[edit.edit] = isinstance(edit, Redo)
        elif edit.id not in changes:
            changes[edit.id] = edit
            counts[edit.id] = True
    return tuple(change for name, change in changes.items() if counts[name])


def next_undo(edits: Iterable[Edit], *, session: str | None = None) -> str | None:
    """Name the edit that one step back would undo.

    Parameters
    ----------
    edits : iterable of Edit
        All edits, in order.
    session : str, optional
        Look at the edits of this window only.

    Returns
    -------
    str or None
        Id of the latest edit that counts; None where there is none.
    """
    return _steps(edits, session)[0]


def next_redo(edits: Iterable[Edit], *, session: str | None = None) -> str | None:
    """Name the edit that one step forward would bring back.

    Parameters
    ----------
    edits : iterable of Edit
        All edits, in order.
    session : str, optional
        Look at the edits of this window only.

    Returns
    -------
    str or None
        Id of the edit undone last; None where nothing was undone since the last change.
    """
    return _steps(edits, session)[1]


def _steps(edits: Iterable[Edit], session: str | None) -> tuple[str | None, str | None]:
    done: list[str] = []
    undone: list[str] = []
    for edit in edits:
        if session is not None and edit.session != session:
            continue
        if isinstance(edit, Undo):
            if edit.edit in done:
                done.remove(edit.edit)
                undone.append(edit.edit)
        elif isinstance(edit, Redo):
            if edit.edit in undone:
                undone.remove(edit.edit)
                done.append(edit.edit)
        else:
            done.append(edit.id)
            undone.clear()
    return (done[-1] if done else None), (undone[-1] if undone else None)


def next_roi_id(rois: RoiSet, edits: Iterable[Edit]) -> str:
    """Find a name for a new ROI that none has or ever had.

    Parameters
    ----------
    rois : RoiSet
        Those of the result.
    edits : iterable of Edit
        All edits, undone ones too.

    Returns
    -------
    str
        Such as ``roi_0042``; for more, count up from its number.
    """
    taken = set(rois.ids)
    for edit in edits:
        if isinstance(edit, Merge | Draw):
            taken.add(edit.roi)
        elif isinstance(edit, Split):
            taken.update(part.roi for part in edit.parts)
    numbers = [int(t[4:]) for t in taken if t.startswith("roi_") and t[4:].isdecimal()]
    return f"roi_{max(numbers, default=0) + 1:04d}"


# ---------------------------------------------------------------------------------------------
# The state that follows from edits
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Curation:
    """ROIs after a list of edits.

    Attributes
    ----------
    rois : RoiSet
        Those that are accepted or rejected now: the result's in their order, then new ones in
        the order in which they were made. New and changed shapes have NaN for score (no network
        saw them) and for SNR (until traces are there).
    source : ndarray of int32, shape (n_rois,)
        Index in the result of the ROI with this very shape; -1 where the shape is new.
    threshold_sd : ndarray of float32, shape (n_rois,)
        Height of an event that a person set; NaN where events are as found.
    judged : ndarray of bool, shape (n_rois,)
        Whether a person accepted, rejected or made it.
    parents : tuple of tuple of str
        Ids of the ROIs that a merge or split made each of; empty for others.
    made_of : tuple of tuple of int
        Indices of the ROIs in the result that a merge joined and whose pixels are exactly its
        pixels; empty for others.
    gone : dict of str to str
        What became of ROIs that are there no longer, in words, by id.
    skipped : dict of str to str
        Why edits that count could not be done, by their ids: they name an ROI that an undo or
        another window took away.
    """

    rois: RoiSet
    source: LabelArray
    threshold_sd: FloatArray
    judged: BoolArray
    parents: tuple[tuple[str, ...], ...]
    made_of: tuple[tuple[int, ...], ...]
    gone: dict[str, str]
    skipped: dict[str, str]

    @property
    def redrawn(self) -> LabelArray:
        """Indices of the ROIs that need traces: their shape is not one of the result's."""
        return np.flatnonzero(self.source < 0).astype(np.int32)

    @property
    def stale(self) -> LabelArray:
        """Indices of the ROIs whose traces or events are not those of the result."""
        moved = np.isfinite(self.threshold_sd)
        return np.flatnonzero((self.source < 0) | moved).astype(np.int32)


@dataclass
class _Roi:
    """One ROI while edits are replayed."""

    accepted: bool
    reason: str
    source: int
    empty: bool = False
    shape: tuple[LabelArray, FloatArray] | None = None
    threshold_sd: float | None = None
    judged: bool = False
    parents: tuple[str, ...] = ()
    made_of: tuple[int, ...] = ()


class _CannotError(Exception):
    """An edit cannot be done in this state; says why."""


@dataclass
class _Replay:
    found: RoiSet
    valid: BoolArray | None
    rois: dict[str, _Roi]
    min_score: float | None = None
    gone: dict[str, str] = field(default_factory=dict)

    def do(self, edit: Change) -> None:
        """Do an edit whole, or raise and leave everything as it was."""
        match edit:
            case Accept():
                for roi in self._with_pixels(edit.rois):
                    roi.accepted, roi.reason, roi.judged = True, "", True
            case Reject():
                for roi in self._all(edit.rois):
                    if roi.accepted or edit.reason != BY_PERSON:
                        roi.reason = edit.reason
                    roi.accepted, roi.judged = False, True
            case MinScore():
                self.min_score = edit.score
            case Delete():
                self._all(edit.rois)
                self._remove(edit.rois, "deleted")
            case EventThreshold():
                (roi,) = self._with_pixels((edit.roi,))
                roi.threshold_sd = edit.threshold_sd
            case _:
                self._reshape(edit)

    def _reshape(self, edit: Merge | Split | Draw | Reshape) -> None:
        match edit:
            case Merge():
                parents = self._all(edit.rois)
                if len(set(edit.rois)) < 2:
                    msg = "a merge needs two different ROIs"
                    raise _CannotError(msg)
                self._is_new(edit.roi)
                shape = self._shape(edit.shape)
                accepted = any(roi.accepted for roi in parents)
                self._add(edit.roi, shape, accepted, parents[0].reason, edit.rois)
                self.rois[edit.roi].made_of = self._joined(parents, shape[0])
                self._remove(edit.rois, f"merged into {edit.roi}")
            case Split():
                (whole,) = self._all((edit.roi,))
                names = tuple(part.roi for part in edit.parts)
                self._is_new(*names)
                shapes = [self._shape(part.shape) for part in edit.parts]
                for name, shape in zip(names, shapes, strict=True):
                    self._add(name, shape, whole.accepted, whole.reason, (edit.roi,))
                self._remove((edit.roi,), f"split into {', '.join(names)}")
            case Draw():
                self._is_new(edit.roi)
                self._add(edit.roi, self._shape(edit.shape), True, "", ())
            case Reshape():
                (roi,) = self._all((edit.roi,))
                roi.shape, roi.source, roi.empty = self._shape(edit.shape), -1, False
                roi.made_of = ()

    def _all(self, names: Iterable[str]) -> list[_Roi]:
        for name in names:
            if name not in self.rois:
                what = f"was {self.gone[name]}" if name in self.gone else "is not there"
                msg = f"{name} {what}"
                raise _CannotError(msg)
        return [self.rois[name] for name in names]

    def _with_pixels(self, names: Sequence[str]) -> list[_Roi]:
        found = self._all(names)
        for name, roi in zip(names, found, strict=True):
            if roi.empty:
                msg = f"{name} has no pixel in the frame"
                raise _CannotError(msg)
        return found

    def _is_new(self, *names: str) -> None:
        for i, name in enumerate(names):
            if name in self.rois or name in self.gone or name in names[:i]:
                msg = f"there is an ROI {name} already"
                raise _CannotError(msg)

    def _shape(self, shape: Pixels | Polygon) -> tuple[LabelArray, FloatArray]:
        drawn = draw_shape(shape, self.found.frame_shape, valid=self.valid)
        if len(drawn[0]) == 0:
            msg = "the shape covers no pixel that is in view at all times and not excluded"
            raise _CannotError(msg)
        return drawn

    def _joined(self, parents: Sequence[_Roi], pixels: LabelArray) -> tuple[int, ...]:
        """ROIs of the result that are joined here, if these are exactly their pixels."""
        found = [roi.made_of or ((roi.source,) if roi.source >= 0 else ()) for roi in parents]
        if not all(found):
            return ()
        joined = tuple(dict.fromkeys(i for each in found for i in each))
        union = np.unique(self.found.footprints[list(joined)].indices)
        return joined if np.array_equal(union, pixels) else ()

    def _add(
        self,
        name: str,
        shape: tuple[LabelArray, FloatArray],
        accepted: bool,
        reason: str,
        parents: tuple[str, ...],
    ) -> None:
        self.rois[name] = _Roi(
            accepted,
            "" if accepted else reason,
            -1,
            shape=shape,
            judged=True,
            parents=parents,
        )

    def _remove(self, names: Iterable[str], what: str) -> None:
        for name in names:
            self.rois.pop(name, None)
            self.gone[name] = what


def curate(rois: RoiSet, edits: Sequence[Edit], *, valid: BoolArray | None = None) -> Curation:
    """Replay edits on the ROIs of a result.

    Every list of edits has a state: an edit that names an ROI which an undo or another window
    took away is skipped, and the state says so.

    Parameters
    ----------
    rois : RoiSet
        The candidates as they were found.
    edits : sequence of Edit
        All edits, in the order in which they were made.
    valid : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels in view at all times and not excluded; new shapes are cut to them.

    Returns
    -------
    Curation
        The state.

    Examples
    --------
    >>> import numpy as np
    >>> rois = RoiSet.given(np.eye(4, dtype=np.bool_).reshape(2, 2, 4)[:, :, :])
    >>> after = curate(rois, [Reject(rois=("roi_0001",))])
    >>> after.rois.accepted.tolist(), after.rois.reasons
    ([False, True], ('rejected by a person', ''))
    """
    replay = _Replay(
        rois,
        valid,
        {
            name: _Roi(bool(rois.accepted[i]), rois.reasons[i], i, empty=not rois.area_px[i])
            for i, name in enumerate(rois.ids)
        },
    )
    skipped: dict[str, str] = {}
    for edit in active_edits(edits):
        try:
            replay.do(edit)
        except _CannotError as error:
            skipped[edit.id] = str(error)
    if replay.min_score is not None:
        _accept_from(replay.min_score, replay.rois, rois)
    return _state(replay, rois, skipped)


def _accept_from(least: float, current: dict[str, _Roi], rois: RoiSet) -> None:
    """Judge by the score what nobody judged."""
    for roi in current.values():
        score = float(rois.score[roi.source]) if roi.source >= 0 else np.nan
        if roi.judged or not np.isfinite(score) or roi.reason.startswith(STANDING_REASONS):
            continue
        roi.accepted = score >= least
        if roi.accepted:
            roi.reason = ""
        elif not roi.reason:
            roi.reason = f"score {score:.2f} is below {least:.2f}"


def _state(replay: _Replay, rois: RoiSet, skipped: dict[str, str]) -> Curation:
    current = list(replay.rois.values())
    source = np.array([roi.source for roi in current], np.int32)
    bounds = rois.footprints.indptr
    rows = [
        roi.shape
        if roi.shape is not None
        else (
            rois.footprints.indices[bounds[roi.source] : bounds[roi.source + 1]],
            rois.footprints.data[bounds[roi.source] : bounds[roi.source + 1]],
        )
        for roi in current
    ]
    lengths = [len(index) for index, _ in rows]
    footprints = sparse.csr_array(
        (
            np.concatenate([np.zeros(0, np.float32), *(weight for _, weight in rows)]),
            np.concatenate([np.zeros(0, np.int32), *(index for index, _ in rows)]),
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int32)]).astype(np.int32),
        ),
        shape=(len(rows), rois.footprints.shape[1]),
        dtype=np.float32,
    )
    thresholds = [np.nan if r.threshold_sd is None else r.threshold_sd for r in current]
    return Curation(
        RoiSet(
            footprints,
            rois.frame_shape,
            tuple(replay.rois),
            np.array([roi.accepted for roi in current], np.bool_),
            tuple(roi.reason for roi in current),
            _take(rois.score, source),
            _take(rois.snr, source),
            None if rois.quality is None else rois.quality.rows(source),
        ),
        source,
        np.array(thresholds, np.float32),
        np.array([roi.judged for roi in current], np.bool_),
        tuple(roi.parents for roi in current),
        tuple(roi.made_of for roi in current),
        dict(replay.gone),
        skipped,
    )


def _take(values: FloatArray, source: LabelArray) -> FloatArray:
    """Rows of the result; NaN where there is none."""
    taken = np.full((len(source), *values.shape[1:]), np.nan, np.float32)
    known = source >= 0
    taken[known] = values[source[known]]
    return taken


def check_edit(
    rois: RoiSet, edits: Sequence[Edit], edit: Edit, *, valid: BoolArray | None = None
) -> Curation:
    """Refuse an edit that would do nothing; to be asked before it is kept.

    Parameters
    ----------
    rois : RoiSet
        The candidates as they were found.
    edits : sequence of Edit
        The edits so far.
    edit : Edit
        The next one.
    valid : ndarray of bool, shape (n_rows, n_columns), optional
        As for `curate`.

    Returns
    -------
    Curation
        The state after it.

    Raises
    ------
    SettingsError
        If it names an ROI or an edit that is not there, makes an ROI whose name is taken, or has
        a shape without any usable pixel.
    """
    if any(earlier.id == edit.id for earlier in edits):
        msg = f"There is an edit {edit.id} already; each needs an id of its own."
        raise SettingsError(msg)
    if isinstance(edit, Undo | Redo):
        counting = {change.id for change in active_edits(edits)}
        known = {e.id for e in edits if not isinstance(e, Undo | Redo)}
        wanted = counting if isinstance(edit, Undo) else known - counting
        if edit.edit not in wanted:
            msg = f"There is no edit {edit.edit} to {edit.kind}."
            raise SettingsError(msg)
    state = curate(rois, [*edits, edit], valid=valid)
    if edit.id in state.skipped:
        msg = f"The edit ({edit.kind.replace('_', ' ')}) cannot be made: {state.skipped[edit.id]}."
        raise SettingsError(msg)
    return state


# ---------------------------------------------------------------------------------------------
# A result with its edits
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Activity:
    """Traces and events of some ROIs, computed anew after edits.

    Attributes
    ----------
    ids : tuple of str
        Ids of the ROIs, one for each row.
    traces : Traces
        Their traces.
    raster : ndarray of bool, shape (n_rois, n_frames)
        Their activity.
    events : Events
        Their events; ``roi`` counts the rows.
    """

    ids: tuple[str, ...]
    traces: Traces
    raster: BoolArray
    events: Events


def apply_edits(
    result: Result, edits: Sequence[Edit], *, recomputed: Activity | None = None
) -> Result:
    """Bring a result to the curated state.

    Accepting, rejecting and deleting need nothing but the result. New shapes need traces and
    moved thresholds events, which `recomputed` brings (`cocuyo.pipeline.curated_result` computes
    them from the recording).

    Parameters
    ----------
    result : Result
        The result as it was saved.
    edits : sequence of Edit
        All edits, in the order in which they were made.
    recomputed : Activity, optional
        Traces and events of (at least) every ROI in `Curation.stale`.

    Returns
    -------
    Result
        ROIs, traces, raster and events of the curated state; everything else is the result's.
        The result itself if no edit counts.

    Raises
    ------
    ResultError
        If an ROI needs traces or events that `recomputed` does not bring.

    Examples
    --------
    >>> from cocuyo.simulation import PRESETS, simulate
    >>> from cocuyo.pipeline import segment
    >>> small = PRESETS["demo"].model_copy(update={"n_frames": 90, "n_rows": 96, "n_columns": 96})
    >>> result = segment(simulate(small, seed=1).recording(), preset="srname")
    >>> after = apply_edits(result, [Reject(rois=result.rois.ids[:1])])
    >>> len(after.rois) == len(result.rois), bool(after.rois.accepted[0])
    (True, False)
    """
    if not active_edits(edits):
        return result
    state = curate(result.rois, edits, valid=result.valid)
    rows = {} if recomputed is None else {name: i for i, name in enumerate(recomputed.ids)}
    missing = [state.rois.ids[i] for i in state.stale if state.rois.ids[i] not in rows]
    if missing:
        msg = (
            f"{', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''} have another shape "
            "or threshold than in the result; their traces or events must be computed anew."
        )
        raise ResultError(msg)
    if recomputed is None:
        recomputed = Activity((), Traces.empty(result.n_frames), result.raster[:0], Events.empty())
    row = np.array([rows.get(name, -1) for name in state.rois.ids], np.int32)
    source = np.where(row >= 0, -1, state.source)
    traces = Traces(
        **{
            part.name: _mix(
                getattr(result.traces, part.name),
                source,
                getattr(recomputed.traces, part.name),
                row,
            )
            for part in fields(Traces)
        }
    )
    highest = traces.delta_f_over_f[row >= 0].max(axis=1, initial=0.0)
    noise = traces.noise[row >= 0]
    snr = np.array(state.rois.snr, np.float32)
    snr[row >= 0] = np.divide(highest, noise, out=np.zeros_like(highest), where=noise > 0)
    return replace(
        result,
        rois=replace(state.rois, snr=snr),
        traces=traces,
        raster=_mix(result.raster, source, recomputed.raster, row),
        events=_join_events((result.events, source), (recomputed.events, row)),
    )


_Array = TypeVar("_Array", bound=AnyArray)


def _mix(old: _Array, source: LabelArray, new: _Array, row: LabelArray) -> _Array:
    """Rows of two arrays in one order; -1 stands for the other array."""
    mixed = np.empty((len(source), *old.shape[1:]), old.dtype)
    mixed[source >= 0] = old[source[source >= 0]]
    mixed[row >= 0] = new[row[row >= 0]]
    return mixed  # type: ignore[return-value]  # of the same type as both


def _join_events(*parts: tuple[Events, LabelArray]) -> Events:
    """Events of ROIs from several lists, under their new indices, sorted by ROI and onset."""
    columns: dict[str, list[AnyArray]] = {part.name: [] for part in fields(Events)}
    for events, origin in parts:
        place = np.full(max(origin.max(initial=-1), events.roi.max(initial=-1)) + 1, -1, np.int32)
        place[origin[origin >= 0]] = np.flatnonzero(origin >= 0)
        kept = place[events.roi] >= 0
        for name, column in columns.items():
            values = np.asarray(getattr(events, name))[kept]
            column.append(place[values] if name == "roi" else values)
    joined = {name: np.concatenate(column) for name, column in columns.items()}
    order = np.lexsort((joined["onset"], joined["roi"]))
    return Events(**{name: values[order] for name, values in joined.items()})

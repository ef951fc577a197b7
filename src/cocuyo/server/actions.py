"""What a person does on the page, turned into edits."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from scipy import ndimage

from cocuyo.core import AnyArray, FloatArray, FrozenConfig, LabelArray, RoiSet, SettingsError
from cocuyo.core.curation import (
    BY_PERSON,
    Accept,
    Curation,
    Delete,
    Draw,
    Edit,
    EventThreshold,
    Merge,
    MinScore,
    Part,
    Pixels,
    Polygon,
    Redo,
    Reject,
    Reshape,
    Split,
    Undo,
    draw_shape,
    next_redo,
    next_roi_id,
    next_undo,
    shape_of,
)

_SMALLEST_PART = 3  # pixels; less is a slip of the line
_Id = Annotated[str, Field(min_length=1, max_length=200)]
_Ids = Annotated[tuple[_Id, ...], Field(min_length=1, max_length=100_000)]
_Coordinate = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]
_Point = tuple[_Coordinate, _Coordinate]


class Outline(FrozenConfig):
    """A polygon."""

    kind: Literal["polygon"] = "polygon"
    points: tuple[_Point, ...] = Field(
        min_length=3, max_length=20_000, description="Corners (y, x) in pixels."
    )


class Stroke(FrozenConfig):
    """What a round brush covers on its way."""

    kind: Literal["stroke"] = "stroke"
    points: tuple[_Point, ...] = Field(
        min_length=1, max_length=20_000, description="The way (y, x), in pixels."
    )
    radius_px: float = Field(gt=0, le=500, description="Radius of the brush, in pixels.")


Area = Annotated[Outline | Stroke, Field(discriminator="kind")]


class _Action(FrozenConfig):
    id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{8,64}$",
        description="Name for the edit: sent again after a lost answer, it is made once.",
    )
    session: str = Field(default="", max_length=64, description="Window it comes from.")


class AcceptAction(_Action):
    """Accept ROIs."""

    do: Literal["accept"]
    rois: _Ids


class RejectAction(_Action):
    """Reject ROIs."""

    do: Literal["reject"]
    rois: _Ids
    reason: str = Field(default=BY_PERSON, min_length=1, max_length=1000)


class DeleteAction(_Action):
    """Take ROIs out."""

    do: Literal["delete"]
    rois: _Ids


class MergeAction(_Action):
    """Join ROIs."""

    do: Literal["merge"]
    rois: tuple[_Id, ...] = Field(min_length=2, max_length=1000)


class SplitAction(_Action):
    """Part an ROI along a line, or across its longer axis without one."""

    do: Literal["split"]
    roi: _Id
    line: tuple[_Point, ...] | None = Field(default=None, min_length=2, max_length=1000)


class DrawAction(_Action):
    """A new ROI."""

    do: Literal["draw"]
    area: Area


class ReshapeAction(_Action):
    """Add to an ROI, or take away from it."""

    do: Literal["add", "erase"]
    roi: _Id
    area: Area


class ThresholdAction(_Action):
    """Move the threshold of events."""

    do: Literal["threshold"]
    roi: _Id
    threshold_sd: float | None = Field(default=None, gt=0, le=1e6)


class MinScoreAction(_Action):
    """Accept from a score on."""

    do: Literal["min_score"]
    score: float = Field(ge=0, le=1)


class StepAction(_Action):
    """One step back or forward."""

    do: Literal["undo", "redo"]


Action = (
    AcceptAction
    | RejectAction
    | DeleteAction
    | MergeAction
    | SplitAction
    | DrawAction
    | ReshapeAction
    | ThresholdAction
    | MinScoreAction
    | StepAction
)
_ACTION: TypeAdapter[Action] = TypeAdapter(Annotated[Action, Field(discriminator="do")])


def parse_action(content: Mapping[str, Any]) -> Action:
    """Make an action of what the page sent.

    Parameters
    ----------
    content : mapping
        Decoded JSON.

    Returns
    -------
    Action
        The action.

    Raises
    ------
    SettingsError
        If it is none, or a value makes no sense.
    """
    try:
        return _ACTION.validate_python(dict(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        msg = f"This is no action: {where + ': ' if where else ''}{first['msg']}."
        raise SettingsError(msg) from None


def make_edit(  # noqa: PLR0911 - one return for each action
    action: Action, edits: Sequence[Edit], state: Curation, found: RoiSet
) -> Edit:
    """Turn an action into the edit to be kept.

    Parameters
    ----------
    action : Action
        What the person did.
    edits : sequence of Edit
        All edits before it.
    state : Curation
        The state they lead to.
    found : RoiSet
        The result's ROIs.

    Returns
    -------
    Edit
        The edit, not yet checked against the state.

    Raises
    ------
    SettingsError
        If it cannot be done.
    """
    common: dict[str, Any] = {"session": action.session}
    if action.id is not None:
        common["id"] = action.id
    match action:
        case AcceptAction():
            return Accept(rois=action.rois, **common)
        case RejectAction():
            return Reject(rois=action.rois, reason=action.reason, **common)
        case DeleteAction():
            return Delete(rois=action.rois, **common)
        case ThresholdAction():
            return EventThreshold(roi=action.roi, threshold_sd=action.threshold_sd, **common)
        case MinScoreAction():
            return MinScore(score=action.score, **common)
        case StepAction():
            step = next_undo if action.do == "undo" else next_redo
            wanted = step(edits)
            if wanted is None:
                msg = f"There is nothing to {action.do}."
                raise SettingsError(msg)
            return (Undo if action.do == "undo" else Redo)(edit=wanted, **common)
        case _:
            return _make_shape_edit(action, edits, state, found, common)


def _make_shape_edit(
    action: MergeAction | SplitAction | DrawAction | ReshapeAction,
    edits: Sequence[Edit],
    state: Curation,
    found: RoiSet,
    common: dict[str, Any],
) -> Edit:
    rois, shape = state.rois, state.rois.frame_shape
    new_id = next_roi_id(found, edits)
    match action:
        case MergeAction():
            return Merge(rois=action.rois, roi=new_id, shape=shape_of(rois, action.rois), **common)
        case DrawAction():
            return Draw(roi=new_id, shape=_as_shape(action.area, shape), **common)
        case ReshapeAction():
            before = shape_of(rois, [action.roi])
            after = _change(before, action, shape)
            return Reshape(roi=action.roi, shape=after, **common)
        case SplitAction():
            parts = _part(shape_of(rois, [action.roi]), action.line, shape)
            number = int(new_id.removeprefix("roi_"))
            named = tuple(
                Part(roi=f"roi_{number + i:04d}", shape=part) for i, part in enumerate(parts)
            )
            return Split(roi=action.roi, parts=named, **common)


def rasterise(area: Outline | Stroke, frame_shape: tuple[int, int]) -> LabelArray:
    """Say which pixels an area covers.

    Parameters
    ----------
    area : Outline or Stroke
        The area.
    frame_shape : tuple of int
        Number of rows and columns.

    Returns
    -------
    ndarray of int32, shape (n_pixels,)
        Flat indices, rising: pixels whose centre lies in the outline, or within the brush's
        radius of its way. None where it lies outside the frame.
    """
    if isinstance(area, Outline):
        return draw_shape(Polygon(points=area.points), frame_shape)[0]
    points = np.asarray(area.points, np.float64)
    top, left = (int(np.floor(v)) for v in points.min(axis=0) - area.radius_px)
    bottom, right = (int(np.ceil(v)) + 1 for v in points.max(axis=0) + area.radius_px)
    top, left = max(top, 0), max(left, 0)
    bottom, right = min(bottom, frame_shape[0]), min(right, frame_shape[1])
    if bottom <= top or right <= left:
        return np.zeros(0, np.int32)
    y, x = np.mgrid[top:bottom, left:right].astype(np.float64)
    near = np.zeros(y.shape, np.bool_)
    for start, end in zip(points[:1].tolist() + points[:-1].tolist(), points.tolist(), strict=True):
        near |= _distance(y, x, start, end) <= area.radius_px
    rows, columns = np.nonzero(near)
    return np.asarray((rows + top) * frame_shape[1] + columns + left, np.int32)


def _distance(y: AnyArray, x: AnyArray, start: list[float], end: list[float]) -> AnyArray:
    """Distance of each point from a piece of a line."""
    dy, dx = end[0] - start[0], end[1] - start[1]
    length = dy * dy + dx * dx
    along = ((y - start[0]) * dy + (x - start[1]) * dx) / length if length > 0 else np.zeros_like(y)
    along = np.clip(along, 0.0, 1.0)
    return np.asarray(np.hypot(y - start[0] - along * dy, x - start[1] - along * dx))


def _as_shape(area: Outline | Stroke, frame_shape: tuple[int, int]) -> Polygon | Pixels:
    if isinstance(area, Outline):
        return Polygon(points=area.points)
    return _pixels(rasterise(area, frame_shape), frame_shape[1])


def _pixels(index: AnyArray, n_columns: int, weight: FloatArray | None = None) -> Pixels:
    if len(index) == 0:
        msg = "The shape covers no pixel of the frame."
        raise SettingsError(msg)
    y, x = np.divmod(np.asarray(index), n_columns)
    weights = None
    if weight is not None:
        weights = tuple(np.clip(weight / weight.max(), 1e-6, 1).round(6).tolist())
    return Pixels(y=tuple(y.tolist()), x=tuple(x.tolist()), weight=weights)


def _change(before: Pixels, action: ReshapeAction, frame_shape: tuple[int, int]) -> Pixels:
    """Add an area to a footprint or take it away; what stays keeps its weight."""
    index, weight = draw_shape(before, frame_shape)
    area = rasterise(action.area, frame_shape)
    if action.do == "add":
        new = np.setdiff1d(area, index)
        if len(new) == 0:
            msg = f"The shape adds nothing to {action.roi}."
            raise SettingsError(msg)
        index = np.concatenate([index, new])
        weight = np.concatenate([weight, np.ones(len(new), np.float32)])
    else:
        kept = ~np.isin(index, area)
        if kept.all():
            msg = f"The shape takes nothing away from {action.roi}."
            raise SettingsError(msg)
        if not kept.any():
            msg = f"Nothing would be left of {action.roi}; delete it instead."
            raise SettingsError(msg)
        index, weight = index[kept], weight[kept]
    order = np.argsort(index)
    return _pixels(index[order], frame_shape[1], weight[order])


def _part(
    before: Pixels, line: Sequence[_Point] | None, frame_shape: tuple[int, int]
) -> list[Pixels]:
    """Part a footprint in two or more."""
    index, weight = draw_shape(before, frame_shape)
    y, x = np.divmod(index.astype(np.int64), frame_shape[1])
    labels = _halves(y, x, weight) if line is None else _sides(y, x, line)
    sizes = np.bincount(labels)
    if len(sizes) < 2 or np.sort(sizes)[-2] < _SMALLEST_PART:
        msg = "The line does not part the ROI; draw it from edge to edge through the ROI."
        if line is None:
            msg = "The ROI is too small to be parted."
        raise SettingsError(msg)
    kept = np.flatnonzero(sizes >= _SMALLEST_PART)
    return [_pixels(index[labels == k], frame_shape[1], weight[labels == k]) for k in kept]


def _halves(y: AnyArray, x: AnyArray, weight: FloatArray) -> AnyArray:
    """Part pixels across their longer axis, through the weighted centre."""
    centred = np.stack([y - np.average(y, weights=weight), x - np.average(x, weights=weight)])
    values, vectors = np.linalg.eigh(np.cov(centred, aweights=weight) + 1e-9 * np.eye(2))
    axis = vectors[:, int(np.argmax(values))]
    return np.asarray((axis @ centred > 0).astype(np.int64))


def _sides(y: AnyArray, x: AnyArray, line: Sequence[_Point]) -> AnyArray:
    """Label the pieces that a line leaves; pixels on it go to the nearest piece."""
    scale = 4  # the line is drawn finer than the pixels, so that it cuts and does not eat
    top, left = int(y.min()) - 1, int(x.min()) - 1
    rows, columns = int(y.max()) - top + 2, int(x.max()) - left + 2
    inside = np.zeros((rows, columns), np.bool_)
    inside[y - top, x - left] = True
    fine = np.kron(inside, np.ones((scale, scale))).astype(np.uint8)
    points = np.asarray(line, np.float64)
    points = _reach_beyond(points, inside.shape, (top, left))
    drawn = np.rint((points[:, ::-1] - (left, top) + 0.5) * scale).astype(np.int32)
    cut = np.zeros_like(fine)
    cv2.polylines(cut, [drawn.reshape(-1, 1, 2)], isClosed=False, color=1, thickness=1)
    # Neighbours at corners count as one piece for the line, not for the pieces.
    thick = cv2.dilate(cut, np.ones((2, 2), np.uint8))
    labels, n = ndimage.label(fine.astype(np.bool_) & (thick == 0))
    if n == 0:
        return np.zeros(len(y), np.int64)
    nearest = ndimage.distance_transform_edt(
        labels == 0, return_distances=False, return_indices=True
    )
    filled = labels[tuple(nearest)]
    middle = scale // 2
    of_pixels = filled[(y - top) * scale + middle, (x - left) * scale + middle]
    return np.unique(of_pixels, return_inverse=True)[1]


def _reach_beyond(points: AnyArray, shape: tuple[int, int], corner: tuple[int, int]) -> AnyArray:
    """Draw a line on at both ends if they lie within the ROI's rectangle."""
    reach = float(np.hypot(*shape))

    def onward(end: AnyArray, before: AnyArray) -> AnyArray:
        inside = (end - corner >= 0).all() and (end - corner < shape).all()
        step = end - before
        length = float(np.hypot(*step))
        return end + step / length * reach if inside and length > 0 else end

    first, last = onward(points[0], points[1]), onward(points[-1], points[-2])
    return np.vstack([first, points, last])

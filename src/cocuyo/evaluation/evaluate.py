"""All scores of one prediction against one truth."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from cocuyo.core import BoolArray, Periods, Regions, Result, SettingsError
from cocuyo.evaluation.activity import (
    EventScores,
    TraceScores,
    event_scores,
    periods_from_raster,
    trace_correlation,
)
from cocuyo.evaluation.instances import (
    IOU_THRESHOLD,
    MAX_DISTANCE_PX,
    InstanceScores,
    Matches,
    SilentScores,
    binary_of,
    cut_by_border,
    instance_scores,
    silent_accepted,
)
from cocuyo.evaluation.pixels import PixelScores, pixel_scores

BORDER_PX = 3.0
"""Cells whose centroid is nearer to the border than this are not scored as instances."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a prediction; what could not be scored is None and has its reason.

    Attributes
    ----------
    pixels : PixelScores
        Predicted mask against the mask of the functional cells; silent cells are background.
    pixels_silent_ignored : PixelScores or None
        The same without the pixels of silent cells; None where no cell is ignored.
    iou_strict, distance_strict : InstanceScores or None
        Instances at the overlap and at the distance; an ROI on a silent cell is false.
    iou_silent_ignored, distance_silent_ignored : InstanceScores or None
        The same where an ROI on a silent cell counts neither way; None where no cell is ignored.
    silent : SilentScores or None
        Silent cells accepted; None where no cell is ignored.
    ignored_are : str
        What is silent here: ``"silent cells"``, or ``"rejected candidates"`` of a result that
        stands for the truth.
    traces : TraceScores or None
        Correlation of the traces of matched cells.
    events : EventScores or None
        Events of matched cells.
    matches : Matches or None
        The pairs at the distance on which traces and events are scored; indices are those of
        the regions given.
    n_border : int
        Functional cells that were not scored as instances: cut by the border, or mostly in
        pixels of which nothing is known.
    max_distance_px, min_iou, border_px : float
        The criteria used.
    not_scored : tuple of str
        What could not be scored and why, in sentences.
    prediction_name, truth_name : str
        Names for people.
    """

    pixels: PixelScores
    pixels_silent_ignored: PixelScores | None
    iou_strict: InstanceScores | None
    distance_strict: InstanceScores | None
    iou_silent_ignored: InstanceScores | None
    distance_silent_ignored: InstanceScores | None
    silent: SilentScores | None
    ignored_are: str
    traces: TraceScores | None
    events: EventScores | None
    matches: Matches | None
    n_border: int
    max_distance_px: float
    min_iou: float
    border_px: float
    not_scored: tuple[str, ...]
    prediction_name: str
    truth_name: str

    def to_dict(self) -> dict[str, Any]:
        """Give all scores and counts as plain JSON.

        Returns
        -------
        dict
            Nested; a score without denominator is None, as is what could not be scored.
        """
        return {
            "prediction": self.prediction_name,
            "truth": self.truth_name,
            "criteria": {
                "max_distance_px": self.max_distance_px,
                "min_iou": self.min_iou,
                "border_px": self.border_px,
            },
            "pixels": _pixel_dict(self.pixels),
            "pixels_silent_ignored": _pixel_dict(self.pixels_silent_ignored),
            "instances": {
                "iou": _instance_dict(self.iou_strict),
                "distance": _instance_dict(self.distance_strict),
                "iou_silent_ignored": _instance_dict(self.iou_silent_ignored),
                "distance_silent_ignored": _instance_dict(self.distance_silent_ignored),
                "n_border": self.n_border,
            },
            "silent": None
            if self.silent is None
            else {
                "accepted": self.silent.n_accepted,
                "silent": self.silent.n_silent,
                "share": _number(self.silent.share),
            },
            "traces": None
            if self.traces is None
            else {
                "median_correlation": _number(self.traces.median),
                "n": self.traces.n,
                "n_pairs": self.traces.n_pairs,
                "correlation": [_number(value) for value in self.traces.correlation],
            },
            "events": None
            if self.events is None
            else {
                "f1": _number(self.events.f1),
                "precision": _number(self.events.precision),
                "recall": _number(self.events.recall),
                "tp": self.events.tp,
                "fp": self.events.fp,
                "fn": self.events.fn,
                "median_cell_f1": _number(self.events.median_f1),
                "n_cells": self.events.n_cells,
                "n_pairs": self.events.n_pairs,
            },
            "not_scored": list(self.not_scored),
        }

    def to_text(self) -> str:
        """Give the scores as tables for people, each with its numerator and denominator.

        Returns
        -------
        str
            Lines without a trailing newline; a dash is a score without denominator.
        """
        lines: list[str] = []
        ignored = f"{self.ignored_are.split()[0]} ignored"
        if self.prediction_name or self.truth_name:
            lines += [f"{self.prediction_name} against {self.truth_name}", ""]
        rows = [
            ("", "SDC", "IoU", "precision", "recall"),
            _pixel_row("all", self.pixels),
        ]
        if self.pixels_silent_ignored is not None:
            rows.append(_pixel_row(f"without {self.ignored_are}", self.pixels_silent_ignored))
        lines += ["Pixels", *_table(rows)]
        rows = [("", "F1", "precision", "recall", "neutral")]
        for text, scores in (
            (f"IoU >= {self.min_iou:g}", self.iou_strict),
            (f"IoU >= {self.min_iou:g}, {ignored}", self.iou_silent_ignored),
            (f"within {self.max_distance_px:g} px", self.distance_strict),
            (f"within {self.max_distance_px:g} px, {ignored}", self.distance_silent_ignored),
        ):
            if scores is not None:
                rows.append(_instance_row(text, scores))
        if len(rows) > 1:
            lines += ["", "Cells", *_table(rows)]
            if self.n_border:
                lines.append(
                    f"  {self.n_border} cell(s) less than {self.border_px:g} px from the border, "
                    "or in pixels left out, count neither way"
                )
        rows = []
        if self.silent is not None:
            text = _share(self.silent.share, self.silent.n_accepted, self.silent.n_silent)
            rows.append((f"{self.ignored_are} accepted", text))
        if self.traces is not None:
            text = _median(self.traces.median, self.traces.n, self.traces.n_pairs)
            rows.append(("trace correlation", text))
        if self.events is not None:
            events = self.events
            hits, onsets, truth = events.tp, events.tp + events.fp, events.tp + events.fn
            rows += [
                ("event F1", _share(events.f1, 2 * hits, onsets + truth)),
                ("event precision", _share(events.precision, hits, onsets)),
                ("event recall", _share(events.recall, hits, truth)),
                (
                    "event F1 of a cell",
                    _median(events.median_f1, events.n_cells, events.n_pairs),
                ),
            ]
        if rows:
            title = f"{self.ignored_are.capitalize()} and activity" if self.silent else "Activity"
            lines += ["", title, *_table(rows)]
        if self.not_scored:
            lines += ["", "Not scored", *(f"  {sentence}" for sentence in self.not_scored)]
        return "\n".join(lines)


def regions_of(result: Result) -> Regions:
    """See a result as regions that can be scored.

    Parameters
    ----------
    result : Result
        What a run found.

    Returns
    -------
    Regions
        Its candidates with ΔF/F₀ and events; rejected ones are ignored.
    """
    times_s = np.asarray(result.times_s, dtype=np.float64)
    events = result.events
    return Regions(
        frame_shape=result.rois.frame_shape,
        footprints=result.rois.footprints,
        ignore=~result.rois.accepted,
        ignored_are="rejected candidates",
        traces=result.traces.delta_f_over_f,
        raster=result.raster,
        events=Periods(events.roi, times_s[events.onset], times_s[events.offset]),
        frame_rate_hz=result.frame_rate_hz,
        times_s=times_s,
        name=result.name,
    )


def evaluate(
    prediction: Regions | Result,
    truth: Regions | Result,
    *,
    max_distance_px: float = MAX_DISTANCE_PX,
    min_iou: float = IOU_THRESHOLD,
    border_px: float = BORDER_PX,
    ignore_pixels: BoolArray | None = None,
) -> Evaluation:
    """Score a prediction against the truth in every way its parts allow.

    Pixels, instances (one to one, at an overlap and at a distance), silent cells accepted,
    correlation of traces, and events; traces and events on the cells matched at the distance.
    Scores are strict: an ROI on a silent or faint cell (``truth.ignore``) is false; where the
    truth has such cells, every score is also given with them ignored.

    A functional cell whose centroid is less than `border_px` from the frame's border, or that
    lies by more than half in ignored pixels, counts neither way as an instance. A predicted ROI
    that lies by more than half in ignored pixels is left out.

    Parameters
    ----------
    prediction : Regions or Result
        What is scored; its ignored (rejected) cells are left out.
    truth : Regions or Result
        What it should be.
    max_distance_px : float, default: 5.0
        Largest distance between the centroids of a match, in pixels.
    min_iou : float, default: 0.5
        Smallest intersection over union of a match.
    border_px : float, default: 3.0
        Width of the border, in pixels; 0 scores every cell.
    ignore_pixels : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out, besides those the truth names.

    Returns
    -------
    Evaluation
        All scores with their counts, and what could not be scored.

    Raises
    ------
    SettingsError
        If the frames differ in shape, or an argument makes no sense.

    Examples
    --------
    >>> import numpy as np
    >>> from cocuyo.core import Regions
    >>> truth = Regions((1, 4), mask=np.array([[True, True, False, False]]))
    >>> prediction = Regions((1, 4), mask=np.array([[True, False, False, False]]))
    >>> scores = evaluate(prediction, truth)
    >>> scores.pixels.precision, scores.pixels.recall
    (1.0, 0.5)
    """
    prediction = regions_of(prediction) if isinstance(prediction, Result) else prediction
    truth = regions_of(truth) if isinstance(truth, Result) else truth
    _check_frames(prediction, truth)
    if not (np.isfinite(border_px) and border_px >= 0):
        msg = f"border_px is {border_px}; it must be a number of at least 0."
        raise SettingsError(msg)
    unknown = np.zeros(truth.frame_shape, np.bool_)
    for image in (truth.ignore_pixels, ignore_pixels):
        if image is not None:
            if image.shape != truth.frame_shape:
                msg = (
                    f"The image of pixels to ignore has shape {image.shape}, the frame "
                    f"{truth.frame_shape} (rows, columns); give one of the frame's shape."
                )
                raise SettingsError(msg)
            unknown |= np.asarray(image, dtype=np.bool_)
    silent = truth.ignored
    functional_mask = truth.union()
    pixels = pixel_scores(prediction.union(), functional_mask, ignore=unknown)
    pixels_silent_ignored = None
    if silent.any():
        silent_only = truth.union_of(silent) & ~functional_mask
        pixels_silent_ignored = pixel_scores(
            prediction.union(), functional_mask, ignore=unknown | silent_only
        )
    not_scored: list[str] = []
    instances = _score_instances(
        prediction, truth, unknown, (max_distance_px, min_iou, border_px), not_scored
    )
    matches = instances.matches
    return Evaluation(
        pixels=pixels,
        pixels_silent_ignored=pixels_silent_ignored,
        iou_strict=instances.iou_strict,
        distance_strict=instances.distance_strict,
        iou_silent_ignored=instances.iou_silent_ignored,
        distance_silent_ignored=instances.distance_silent_ignored,
        silent=instances.silent,
        ignored_are=truth.ignored_are,
        traces=_score_traces(prediction, truth, matches, not_scored),
        events=_score_events(prediction, truth, matches, not_scored),
        matches=matches,
        n_border=instances.n_border,
        max_distance_px=max_distance_px,
        min_iou=min_iou,
        border_px=border_px,
        not_scored=tuple(not_scored),
        prediction_name=prediction.name,
        truth_name=truth.name,
    )


def _check_frames(prediction: Regions, truth: Regions) -> None:
    if prediction.frame_shape == truth.frame_shape:
        return
    hint = "Score results of the same field of view at the same resolution."
    if prediction.frame_shape == truth.frame_shape[::-1]:
        hint = "Rows and columns seem to be exchanged in one of them."
    msg = (
        f"The prediction's frame is {prediction.frame_shape[0]} x {prediction.frame_shape[1]} "
        f"pixels (rows x columns), the truth's {truth.frame_shape[0]} x {truth.frame_shape[1]}. "
        f"{hint}"
    )
    raise SettingsError(msg)


@dataclass(frozen=True, eq=False)
class _Instances:
    iou_strict: InstanceScores | None = None
    distance_strict: InstanceScores | None = None
    iou_silent_ignored: InstanceScores | None = None
    distance_silent_ignored: InstanceScores | None = None
    silent: SilentScores | None = None
    matches: Matches | None = None
    n_border: int = 0


def _mostly_in(footprints: sparse.csr_array, pixels: BoolArray) -> BoolArray:
    inside = binary_of(footprints)
    size = np.diff(inside.indptr)
    return np.asarray(2 * (inside @ pixels.ravel().astype(np.int64)) > size, dtype=np.bool_)


def _score_instances(
    prediction: Regions,
    truth: Regions,
    unknown: BoolArray,
    criteria: tuple[float, float, float],
    not_scored: list[str],
) -> _Instances:
    if prediction.footprints is None or truth.footprints is None:
        which = "prediction" if prediction.footprints is None else "truth"
        not_scored.append(f"Cells: the {which} is a mask, which does not tell cells apart.")
        return _Instances()
    max_distance_px, min_iou, border_px = criteria
    shape = truth.frame_shape
    kept = np.flatnonzero(~prediction.ignored & ~_mostly_in(prediction.footprints, unknown))
    rois = prediction.footprints[kept]
    hidden = _mostly_in(truth.footprints, unknown)
    border = cut_by_border(truth.footprints, frame_shape=shape, border_px=border_px) | hidden
    silent = truth.ignored
    functional = np.flatnonzero(~silent)
    cells = truth.footprints[functional]

    def strict(criterion: Any, threshold: float) -> InstanceScores:
        return instance_scores(
            rois,
            cells,
            frame_shape=shape,
            criterion=criterion,
            threshold=threshold,
            ignored=border[functional],
        )

    def lenient(criterion: Any, threshold: float) -> InstanceScores | None:
        if not silent.any():
            return None
        return instance_scores(
            rois,
            truth.footprints,  # type: ignore[arg-type]  # checked above
            frame_shape=shape,
            criterion=criterion,
            threshold=threshold,
            ignored=silent | border,
        )

    distance = strict("distance", max_distance_px)
    found = distance.matches
    return _Instances(
        iou_strict=strict("iou", min_iou),
        distance_strict=distance,
        iou_silent_ignored=lenient("iou", min_iou),
        distance_silent_ignored=lenient("distance", max_distance_px),
        silent=silent_accepted(
            rois,
            cells,
            truth.footprints[np.flatnonzero(silent & ~hidden)],
            frame_shape=shape,
            max_distance_px=max_distance_px,
        )
        if silent.any()
        else None,
        matches=Matches(
            kept[found.predicted].astype(np.int32),
            functional[found.truth].astype(np.int32),
            found.quality,
            prediction.n_rois,
            truth.n_rois,
        ),
        n_border=int(np.count_nonzero(border & ~silent)),
    )


def _score_traces(
    prediction: Regions, truth: Regions, matches: Matches | None, not_scored: list[str]
) -> TraceScores | None:
    if matches is None:
        not_scored.append("Traces: they are compared on matched cells, which a mask cannot give.")
        return None
    if prediction.traces is None or truth.traces is None:
        sides = (("prediction", prediction), ("truth", truth))
        missing = [f"the {name}" for name, regions in sides if regions.traces is None]
        not_scored.append(f"Traces: there are none in {' and '.join(missing)}.")
        return None
    n_predicted, n_true = prediction.traces.shape[1], truth.traces.shape[1]
    if n_predicted != n_true:
        not_scored.append(
            f"Traces: the prediction has {n_predicted} frames, the truth {n_true}; "
            "give results of the same frames."
        )
        return None
    return trace_correlation(prediction.traces, truth.traces, matches)


def _score_events(
    prediction: Regions, truth: Regions, matches: Matches | None, not_scored: list[str]
) -> EventScores | None:
    if matches is None:
        not_scored.append("Events: they are compared on matched cells, which a mask cannot give.")
        return None
    predicted = _activity(prediction, truth, ("events", "raster", "spikes"), not_scored)
    true = _activity(truth, prediction, ("spikes", "events", "raster"), not_scored)
    if predicted is None or true is None:
        return None
    return event_scores(predicted, true, matches)


def _activity(
    regions: Regions, other: Regions, order: tuple[str, ...], not_scored: list[str]
) -> Periods | None:
    """Take the first form of activity that is there, in the given order."""
    role = "truth" if order[0] == "spikes" else "prediction"
    for form in order:
        value = getattr(regions, form)
        if value is None:
            continue
        if isinstance(value, Periods):
            return value
        rate_hz = regions.frame_rate_hz or other.frame_rate_hz
        times_s = regions.times_s
        if times_s is None and other.times_s is not None and len(other.times_s) == value.shape[1]:
            times_s = other.times_s
        if times_s is None and rate_hz is None:
            not_scored.append(
                f"Events: the {role}'s raster has no frame rate; give it in frames per second."
            )
            return None
        return periods_from_raster(value, frame_rate_hz=rate_hz, times_s=times_s)
    not_scored.append(f"Events: the {role} has neither raster, events nor spikes.")
    return None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _pixel_dict(scores: PixelScores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {
        "sdc": _number(scores.sdc),
        "iou": _number(scores.iou),
        "precision": _number(scores.precision),
        "recall": _number(scores.recall),
        "tp": scores.tp,
        "fp": scores.fp,
        "fn": scores.fn,
    }


def _instance_dict(scores: InstanceScores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {
        "f1": _number(scores.f1),
        "precision": _number(scores.precision),
        "recall": _number(scores.recall),
        "tp": scores.tp,
        "fp": scores.fp,
        "fn": scores.fn,
        "neutral": scores.n_neutral,
    }


def _score(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _share(value: float, numerator: int, denominator: int) -> str:
    return f"{_score(value)} ({numerator}/{denominator})"


def _median(value: float, n: int, n_pairs: int) -> str:
    return f"{_score(value)} (median of {n} of {n_pairs} pairs)"


def _pixel_row(name: str, scores: PixelScores) -> tuple[str, ...]:
    tp, fp, fn = scores.tp, scores.fp, scores.fn
    return (
        name,
        _share(scores.sdc, 2 * tp, 2 * tp + fp + fn),
        _share(scores.iou, tp, tp + fp + fn),
        _share(scores.precision, tp, tp + fp),
        _share(scores.recall, tp, tp + fn),
    )


def _instance_row(name: str, scores: InstanceScores) -> tuple[str, ...]:
    tp, fp, fn = scores.tp, scores.fp, scores.fn
    return (
        name,
        _share(scores.f1, 2 * tp, 2 * tp + fp + fn),
        _share(scores.precision, tp, tp + fp),
        _share(scores.recall, tp, tp + fn),
        str(scores.n_neutral),
    )


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]

"""Scores: how well pixels, cells, traces and events agree with the truth. Arrays only."""

from cocuyo.evaluation.activity import (
    EventScores,
    TraceScores,
    event_scores,
    join_periods,
    periods_from_raster,
    trace_correlation,
)
from cocuyo.evaluation.evaluate import Evaluation, evaluate, regions_of
from cocuyo.evaluation.instances import (
    InstanceScores,
    Matches,
    SilentScores,
    centroids_of,
    cut_by_border,
    instance_scores,
    match_rois,
    silent_accepted,
)
from cocuyo.evaluation.pixels import PixelScores, pixel_scores

__all__ = [
    "Evaluation",
    "EventScores",
    "InstanceScores",
    "Matches",
    "PixelScores",
    "SilentScores",
    "TraceScores",
    "centroids_of",
    "cut_by_border",
    "evaluate",
    "event_scores",
    "instance_scores",
    "join_periods",
    "match_rois",
    "periods_from_raster",
    "pixel_scores",
    "regions_of",
    "silent_accepted",
    "trace_correlation",
]

"""The nouns every stage shares: recordings, ROIs, traces, results, settings, errors."""

from cocuyo.core.arrays import AnyArray, BoolArray, FloatArray, LabelArray, TimeArray, median
from cocuyo.core.deformation import Deformation
from cocuyo.core.errors import (
    CocuyoError,
    InvalidTraceError,
    MissingExtraError,
    MissingFrameRateError,
    ModelError,
    RecordingError,
    ResultError,
    SettingsError,
    Terminated,
    TruncatedRecordingError,
)
from cocuyo.core.outlines import fill, outline
from cocuyo.core.population import (
    Coactivity,
    Ensembles,
    PairCorrelations,
    PopulationAnalysis,
    StimulusResponse,
    SynchronyPeaks,
)
from cocuyo.core.progress import Cancelled, Progress, ProgressCallback, ignore_progress
from cocuyo.core.quality import Quality
from cocuyo.core.randomness import stream
from cocuyo.core.recording import (
    FRAME_RATE_LIMITS_HZ,
    ArrayMovie,
    Movie,
    PartOfMovie,
    Recording,
    check_frame_rate,
    read_rows,
)
from cocuyo.core.regions import Periods, Regions
from cocuyo.core.result import (
    FLAG_FLASH,
    FLAG_INVALID,
    FLAG_UNPLACED,
    IN_VIEW_SHARE,
    Events,
    Motion,
    Part,
    Result,
    RunInfo,
    Traces,
)
from cocuyo.core.rois import NO_PIXEL, RoiSet
from cocuyo.core.scratch import MEMORY, Scratch, release_pages, roi_blocks
from cocuyo.core.settings import FrozenConfig
from cocuyo.core.suspects import (
    Suspicion,
    acceptance_limit,
    find_suspects,
    overlaps,
    score_decides,
)
from cocuyo.core.threads import map_in_threads

__all__ = [
    "FLAG_FLASH",
    "FLAG_INVALID",
    "FLAG_UNPLACED",
    "FRAME_RATE_LIMITS_HZ",
    "IN_VIEW_SHARE",
    "MEMORY",
    "NO_PIXEL",
    "AnyArray",
    "ArrayMovie",
    "BoolArray",
    "Cancelled",
    "Coactivity",
    "CocuyoError",
    "Deformation",
    "Ensembles",
    "Events",
    "FloatArray",
    "FrozenConfig",
    "InvalidTraceError",
    "LabelArray",
    "MissingExtraError",
    "MissingFrameRateError",
    "ModelError",
    "Motion",
    "Movie",
    "PairCorrelations",
    "Part",
    "PartOfMovie",
    "Periods",
    "PopulationAnalysis",
    "Progress",
    "ProgressCallback",
    "Quality",
    "Recording",
    "RecordingError",
    "Regions",
    "Result",
    "ResultError",
    "RoiSet",
    "RunInfo",
    "Scratch",
    "SettingsError",
    "StimulusResponse",
    "Suspicion",
    "SynchronyPeaks",
    "Terminated",
    "TimeArray",
    "Traces",
    "TruncatedRecordingError",
    "acceptance_limit",
    "check_frame_rate",
    "fill",
    "find_suspects",
    "ignore_progress",
    "map_in_threads",
    "median",
    "outline",
    "overlaps",
    "read_rows",
    "release_pages",
    "roi_blocks",
    "score_decides",
    "stream",
]

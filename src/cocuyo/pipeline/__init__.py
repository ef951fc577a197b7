"""The three stages composed: recordings in, results out; models saved and loaded."""

from cocuyo.pipeline.analysis import (
    UNLEARNED,
    Analysis,
    analyse,
    final_mask,
    find_rois,
    unlearned_map,
)
from cocuyo.pipeline.curate import (
    TraceCache,
    curated_result,
    events_from,
    retrace,
    settings_of,
    shape_key,
)
from cocuyo.pipeline.derive import DerivedKind, derived_traces
from cocuyo.pipeline.expect import Expected, expect, expected_cost
from cocuyo.pipeline.experiment import (
    LAST_STAGE,
    Merged,
    merge_candidates,
    require_alike,
    segment_experiment,
)
from cocuyo.pipeline.extract import extract
from cocuyo.pipeline.finish import (
    Extracted,
    Finished,
    Maps,
    extract_traces,
    finish_candidates,
    finish_mask,
    peak_snr,
)
from cocuyo.pipeline.model import (
    FORMAT_VERSION,
    Model,
    ModelSettings,
    hash_weights,
    load_model,
    write_part,
    write_settings,
)
from cocuyo.pipeline.null import (
    NULLS,
    NullControl,
    NullKind,
    Surrogate,
    null_control,
)
from cocuyo.pipeline.patch import retrace_one, trace_patch
from cocuyo.pipeline.run import segment, with_inputs
from cocuyo.pipeline.settings import PRESETS, PipelineConfig, PresetName, ScaleConfig
from cocuyo.pipeline.srname import blob_labels

__all__ = [
    "FORMAT_VERSION",
    "LAST_STAGE",
    "NULLS",
    "PRESETS",
    "UNLEARNED",
    "Analysis",
    "DerivedKind",
    "Expected",
    "Extracted",
    "Finished",
    "Maps",
    "Merged",
    "Model",
    "ModelSettings",
    "NullControl",
    "NullKind",
    "PipelineConfig",
    "PresetName",
    "ScaleConfig",
    "Surrogate",
    "TraceCache",
    "analyse",
    "blob_labels",
    "curated_result",
    "derived_traces",
    "events_from",
    "expect",
    "expected_cost",
    "extract",
    "extract_traces",
    "final_mask",
    "find_rois",
    "finish_candidates",
    "finish_mask",
    "hash_weights",
    "load_model",
    "merge_candidates",
    "null_control",
    "peak_snr",
    "require_alike",
    "retrace",
    "retrace_one",
    "segment",
    "segment_experiment",
    "settings_of",
    "shape_key",
    "trace_patch",
    "unlearned_map",
    "with_inputs",
    "write_part",
    "write_settings",
]

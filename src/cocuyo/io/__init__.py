"""Every file format, in and out."""

from cocuyo.io.atomic import save_npz_atomic
from cocuyo.io.edits import EditLog, TraceStore, read_edits
from cocuyo.io.ensembles import read_stimuli, save_ensembles
from cocuyo.io.export import ExportOptions, check_export, export_path, export_result
from cocuyo.io.nwb import ExternalMovie, NwbMetadata, read_metadata
from cocuyo.io.readers import Choice, Reader
from cocuyo.io.recordings import (
    RecordingFacts,
    file_identity,
    inspect_recording,
    open_recording,
    read_exclusion,
)
from cocuyo.io.reopen import (
    READING_CHOICES,
    find_inputs,
    inputs_of,
    refer_to_recording,
    reopen_recording,
)
from cocuyo.io.results import (
    check_destination,
    is_result,
    load_result,
    open_result,
    partial_folder,
    save_result,
    start_partial,
    work_folder,
)
from cocuyo.io.scratch import DiskScratch
from cocuyo.io.sources import Source
from cocuyo.io.truth import (
    is_foreign,
    load_ground_truth,
    read_mask,
    read_rois,
    rois_identity,
)

__all__ = [
    "READING_CHOICES",
    "Choice",
    "DiskScratch",
    "EditLog",
    "ExportOptions",
    "ExternalMovie",
    "NwbMetadata",
    "Reader",
    "RecordingFacts",
    "Source",
    "TraceStore",
    "check_destination",
    "check_export",
    "export_path",
    "export_result",
    "file_identity",
    "find_inputs",
    "inputs_of",
    "inspect_recording",
    "is_foreign",
    "is_result",
    "load_ground_truth",
    "load_result",
    "open_recording",
    "open_result",
    "partial_folder",
    "read_edits",
    "read_exclusion",
    "read_mask",
    "read_metadata",
    "read_rois",
    "read_stimuli",
    "refer_to_recording",
    "reopen_recording",
    "rois_identity",
    "save_ensembles",
    "save_npz_atomic",
    "save_result",
    "start_partial",
    "work_folder",
]

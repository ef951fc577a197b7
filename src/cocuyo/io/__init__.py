"""Every file format, in and out."""

from cocuyo.io.atomic import save_npz_atomic
from cocuyo.io.ensembles import read_stimuli, save_ensembles
from cocuyo.io.readers import Choice, Reader
from cocuyo.io.recordings import (
    RecordingFacts,
    file_identity,
    inspect_recording,
    open_recording,
    read_exclusion,
)
from cocuyo.io.results import (
    check_destination,
    load_result,
    partial_folder,
    save_result,
    start_partial,
    work_folder,
)
from cocuyo.io.sources import Source
from cocuyo.io.truth import load_ground_truth, read_mask, read_rois

__all__ = [
    "Choice",
    "Reader",
    "RecordingFacts",
    "Source",
    "check_destination",
    "file_identity",
    "inspect_recording",
    "load_ground_truth",
    "load_result",
    "open_recording",
    "partial_folder",
    "read_exclusion",
    "read_mask",
    "read_rois",
    "read_stimuli",
    "save_ensembles",
    "save_npz_atomic",
    "save_result",
    "start_partial",
    "work_folder",
]

"""Exports that are asked for on the page: the curated state, for other programs."""

from http import HTTPStatus
from pathlib import Path
from typing import get_args

from cocuyo.io import (
    DiskScratch,
    ExportOptions,
    TraceStore,
    check_destination,
    check_export,
    export_path,
    export_result,
    load_result,
    read_edits,
    save_result,
)
from cocuyo.io.export import ExportName
from cocuyo.pipeline import curated_result, derived_traces
from cocuyo.report import render_report
from cocuyo.server.session import Session
from cocuyo.server.web import RequestError

FORMATS = {
    "result": "result folder of cocuyo, edits done",
    "imagej": "ImageJ / Fiji ROI set",
    "csv": "tables (CSV)",
    "mat": "MATLAB",
    "suite2p": "Suite2p folder",
    "caiman": "CaImAn (HDF5)",
    "geojson": "GeoJSON (QuPath)",
    "labels": "picture of labels (napari)",
    "zscore": "z-scored traces (CSV)",
    "denoised": "denoised traces (CSV)",
    "deconvolved": "deconvolved activity (CSV)",
}
"""What the page offers. NWB asks for more than a page of outlines knows: it stays a command."""


def export_session(session: Session, to: str, *, overwrite: bool) -> Path:
    """Write the curated state of a result beside it.

    Parameters
    ----------
    session : Session
        The result.
    to : str
        One of `FORMATS`.
    overwrite : bool
        Replace an earlier export.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    RequestError
        If there is no such format.
    MissingExtraError
        If deconvolution is asked for and its extra is not installed.
    ResultError
        If it cannot be written, or something is in the way.
    """
    folder = session.folder
    if to not in FORMATS:
        msg = f"There is no format {to!r} on this page; choose one of {', '.join(FORMATS)}."
        raise RequestError(HTTPStatus.BAD_REQUEST, msg)
    name = next((each for each in get_args(ExportName) if each == to), None)
    if name is None:
        place = folder.parent / f"{folder.stem}.curated.cocuyo"
        check_destination(place, overwrite, inputs=[folder])
    else:
        place = export_path(folder, name)
        check_export(place, name, overwrite=overwrite, inputs=[folder])
    result = curated_result(
        load_result(folder),
        read_edits(folder),
        recording=session.recording,
        cache=TraceStore(folder),
    )
    if name is None:
        return save_result(result, place, overwrite=overwrite, report_html=render_report)
    options = ExportOptions()
    if name in ("zscore", "denoised", "deconvolved"):
        options = ExportOptions(
            derived=derived_traces(result, name, scratch=DiskScratch(folder.parent))
        )
    return export_result(result, place, to=name, overwrite=overwrite, options=options)

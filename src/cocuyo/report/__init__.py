"""The pages of a result, of its ensembles and of a batch: each one file that opens offline."""

from cocuyo.report.batch import IndexRow, Strip, draw_strip, draw_thumbnail, render_index
from cocuyo.report.ensembles import render_ensembles
from cocuyo.report.page import render_report, write_report

__all__ = [
    "IndexRow",
    "Strip",
    "draw_strip",
    "draw_thumbnail",
    "render_ensembles",
    "render_index",
    "render_report",
    "write_report",
]

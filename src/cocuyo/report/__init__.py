"""The pages of a result and of its ensembles: each one file that opens offline."""

from cocuyo.report.ensembles import render_ensembles
from cocuyo.report.page import render_report, write_report

__all__ = ["render_ensembles", "render_report", "write_report"]

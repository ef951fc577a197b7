"""The report of a result: one page that opens offline."""

from cocuyo.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]

"""The report of a run, one self-contained HTML file: ``python -m mlprune.report RUN [RUN ...]``."""

from mlprune.report.page import render, write_report
from mlprune.runs.content import RunContent, read_run

__all__ = ["RunContent", "read_run", "render", "write_report"]

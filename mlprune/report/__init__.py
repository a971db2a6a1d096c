"""The report of a run, one self-contained HTML file: ``python -m mlprune.report RUN [RUN ...]``."""

from mlprune.report.page import render, write_report
from mlprune.report.reading import Run, read_run

__all__ = ["Run", "read_run", "render", "write_report"]

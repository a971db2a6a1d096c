"""Figures with intervals, and systems compared on the same examples: records in, rows out; no model is loaded."""

from mlprune.comparison.chance import chance_levels
from mlprune.comparison.compare import compare, compare_all
from mlprune.comparison.controls import explained, read_controls
from mlprune.comparison.difference import Difference
from mlprune.comparison.headline import OF_ONE_RUN
from mlprune.comparison.records import TaskRecords
from mlprune.comparison.rows import differences_of, figures_of
from mlprune.comparison.schema1 import read_differences, read_figures
from mlprune.comparison.verdicts import by_verdict, is_sure, verdict

__all__ = [
    "OF_ONE_RUN",
    "Difference",
    "TaskRecords",
    "by_verdict",
    "chance_levels",
    "compare",
    "compare_all",
    "differences_of",
    "explained",
    "figures_of",
    "is_sure",
    "read_controls",
    "read_differences",
    "read_figures",
    "verdict",
]

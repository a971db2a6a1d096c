"""How rows are shown: one table of them on the console, as Markdown, CSV, LaTeX and HTML."""

from mlprune.present.comparison import COMPARISON_FILES, FORMATS, card_markdown, comparison_markdown, several_markdown
from mlprune.present.controls import control_tables
from mlprune.present.curves import Curve, curves_of, curves_table
from mlprune.present.influence import influence_table
from mlprune.present.rows import (
    comparison_tables,
    console_rows,
    detail_lines,
    figure_tables,
    raw_table,
    shown_rows,
)
from mlprune.present.table import Table, to_console, to_csv, to_html, to_latex, to_markdown

__all__ = [
    "COMPARISON_FILES",
    "FORMATS",
    "Curve",
    "Table",
    "card_markdown",
    "comparison_markdown",
    "comparison_tables",
    "console_rows",
    "control_tables",
    "curves_of",
    "curves_table",
    "detail_lines",
    "figure_tables",
    "influence_table",
    "raw_table",
    "several_markdown",
    "shown_rows",
    "to_console",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
]

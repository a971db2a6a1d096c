"""The tables a run ends with, at most 100 columns wide."""

from typing import Any

from rich.console import Console
from rich.table import Table

from mlprune.callbacks.base import RunCallback
from mlprune.comparison import read_figures
from mlprune.evaluation.sweep import Curves
from mlprune.present import figure_tables, to_console
from mlprune.run import Run

WIDTH = 100


def console() -> Console:
    """Return a console of at most 100 columns, plain text when not a terminal."""
    made = Console(highlight=False)
    made.width = min(made.width, WIDTH) if made.is_terminal else WIDTH
    return made


class ResultsTable(RunCallback):
    """Prints the tables of an evaluation after ``test``; an experiment ends with those of its comparison."""

    def on_evaluated(self, run: Run, system: str, results: dict[str, Any]) -> None:
        """Print on one process."""
        if run.writes and not run.is_experiment:
            out = console()
            out.print(f"\n[bold]{run.module.source.name}, {system}[/bold]")
            for table in figure_tables({system: read_figures(results)}):
                out.print(to_console(table))


def sweep_table(curves: Curves) -> Table:
    """Return a table with a line a sparsity and a column a curve; a star where an interval excludes zero.

    Example:
        >>> sweep_table({"nli accuracy": [(0.3, {"dense": 0.5, "pruned": 0.4})]}).row_count
        2
    """
    table = Table("sparsity", *curves, title="sweep (accuracy: languages but English)", title_justify="left")
    table.add_row("0 (dense)", *(f"{points[0][1]['dense']:.3f}" for points in curves.values()))
    for i in range(len(next(iter(curves.values())))):
        cells = []
        for points in curves.values():
            figures = points[i][1]
            clear = "low" in figures and (figures["low"] > 0 or figures["high"] < 0)
            cells.append(f"{figures['pruned']:.3f}{'*' if clear else ''}")
        table.add_row(f"{next(iter(curves.values()))[i][0]:g}", *cells)
    if any("low" in figures for points in curves.values() for _, figures in points):
        table.caption = "* the 95% interval of the difference from dense excludes zero"
    return table

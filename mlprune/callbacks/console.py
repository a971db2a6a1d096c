"""The tables a run ends with, at most 100 columns wide."""

from typing import Any

from rich.console import Console

from mlprune.callbacks.base import RunCallback
from mlprune.comparison import read_figures
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

"""The tables a run ends with, at most 100 columns wide."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from mlprune.callbacks.base import Viewer
from mlprune.comparison import read_figures
from mlprune.present import Table, figure_tables, to_console
from mlprune.run import Run
from mlprune.text import visible

WIDTH = 100


class PipedConsole(Console):
    """A console whose reader may stop reading, as ``head`` does, without ending the program."""

    def on_broken_pipe(self) -> None:
        """Write nothing more, and raise what a viewer may raise."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise BrokenPipeError("nothing reads the output") from None


def console() -> Console:
    """Return a console of at most 100 columns, plain text when not on a terminal."""
    console = PipedConsole(highlight=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables."""
    for table in tables:
        console().print(to_console(table))


def print_line(text: str, style: str = "", wrap: bool = True) -> None:
    """Print text in which nothing is markup, wrapped unless it is to be copied."""
    console().print(Text(visible(text), style), soft_wrap=not wrap)


class ResultsTable(Viewer):
    """Prints the tables of an evaluation after ``test``; an experiment ends with those of its comparison."""

    shows = "console table"

    def on_evaluated(self, run: Run, system: str, results: dict[str, Any]) -> None:
        """Print on one process."""
        if run.writes and not run.is_experiment:
            print_line("")
            print_line(f"{run.module.source.name}, {system}", "bold")
            shown = [row for row in read_figures(results) if not row.measure.detail]
            print_tables(figure_tables({system: shown}))

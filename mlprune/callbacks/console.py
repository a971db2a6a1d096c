"""The tables a run ends with, at most 100 columns wide."""

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from mlprune.comparison import read_figures
from mlprune.evaluation.sweep import Curves
from mlprune.present import figure_tables, to_console

WIDTH = 100


def console() -> Console:
    """Return a console of at most 100 columns, plain text when not a terminal."""
    made = Console(highlight=False)
    made.width = min(made.width, WIDTH) if made.is_terminal else WIDTH
    return made


class ResultsTable(Callback):
    """Prints the tables of an evaluation after ``test``."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print on one process."""
        if trainer.is_global_zero and not self.quiet:
            out = console()
            out.print(f"\n[bold]{pl_module.source.name}, {pl_module.pruning_stage}[/bold]")
            for table in figure_tables({pl_module.pruning_stage: read_figures(pl_module.results)}):
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

"""The tables a run ends with, at most 100 columns wide."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from mlprune.evaluation.sweep import Curves

WIDTH = 100


def console() -> Console:
    """Return a console of at most 100 columns, plain text when not a terminal."""
    made = Console(highlight=False)
    made.width = min(made.width, WIDTH) if made.is_terminal else WIDTH
    return made


def results_tables(results: dict[str, Any]) -> list[Table]:
    """Return tables of one evaluation.

    Args:
        results: Sections of results.json.
    """
    tables = []
    for task, languages in results.get("tasks", {}).items():
        table = Table("language", "accuracy", "95% CI", "RankC to English", "n", title=task, title_justify="left")
        for lang, row in languages.items():
            rankc = results.get("rankc", {}).get(task, {}).get(f"en-{lang}")
            interval = " to ".join(f"{100 * bound:.1f}" for bound in row.get("ci95", []))
            accuracy = f"{100 * row['accuracy']:.1f}" if "accuracy" in row else "-"
            table.add_row(lang, accuracy, interval, "" if rankc is None else f"{rankc:.3f}", str(row["n"]))
        tables.append(table)
    if results.get("translation"):
        table = Table("direction", "BLEU", "chrF++", "n", title="translation", title_justify="left")
        for direction, row in results["translation"].items():
            table.add_row(direction, f"{row.get('bleu', 0):.1f}", f"{row.get('chrf', 0):.1f}", str(row["n"]))
        tables.append(table)
    if results.get("perplexity"):
        table = Table("language", "bits per character", "n", title="language modelling", title_justify="left")
        for lang, row in results["perplexity"].items():
            table.add_row(lang, f"{row['bits_per_char']:.3f}" if "bits_per_char" in row else "-", str(row["n"]))
        tables.append(table)
    return tables


def comparison_tables(comparison: dict[str, Any], dense: dict[str, Any], pruned: dict[str, Any]) -> list[Table]:
    """Return tables of dense against pruned.

    Args:
        comparison: Content of comparison.json.
        dense: Content of results.dense.json.
        pruned: Content of results.json.
    """
    tables = []
    for task, rows in comparison["tasks"].items():
        columns = ("language", "dense", "pruned", "delta", "95% CI of delta", "p", "n", "RankC dense", "pruned")
        table = Table(*columns, title=f"{task} (accuracy, %)", title_justify="left")
        for lang, row in rows.items():
            low, high = row["delta_ci95"]
            rankc = [results.get("rankc", {}).get(task, {}).get(f"en-{lang}") for results in (dense, pruned)]
            table.add_row(
                lang,
                f"{100 * row['dense']:.1f}",
                f"{100 * row['pruned']:.1f}",
                f"{100 * row['delta']:+.1f}",
                f"{100 * low:+.1f} to {100 * high:+.1f}",
                f"{row['p']:.3f}",
                str(row["n"]),
                *("" if value is None else f"{value:.3f}" for value in rankc),
            )
        tables.append(table)
    if comparison["translation"]:
        table = Table(
            "direction", "dense", "pruned", "delta", "p", "n", title="translation (BLEU)", title_justify="left"
        )
        for direction, row in comparison["translation"].items():
            figures = (f"{row['dense']:.1f}", f"{row['pruned']:.1f}", f"{row['delta']:+.1f}", f"{row['p']:.3f}")
            table.add_row(direction, *figures, str(row["n"]))
        tables.append(table)
    if dense.get("perplexity") and pruned.get("perplexity"):
        table = Table("language", "dense", "pruned", "n", title="bits per character")
        table.title_justify = "left"
        for lang, row in dense["perplexity"].items():
            after = pruned["perplexity"].get(lang, {})
            table.add_row(lang, f"{row['bits_per_char']:.3f}", f"{after['bits_per_char']:.3f}", str(row["n"]))
        tables.append(table)
    return tables


class ResultsTable(Callback):
    """Prints the tables of an evaluation after ``test``."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print on one process."""
        if trainer.is_global_zero and not self.quiet:
            out = console()
            out.print(f"\n[bold]{pl_module.source.name}, {pl_module.pruning_stage}[/bold]")
            for table in results_tables(pl_module.results):
                out.print(table)


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

"""The comparison of a run's two evaluations."""

from pathlib import Path
from typing import Any

from mlprune.callbacks.console import console
from mlprune.comparison import compare, read_differences
from mlprune.experiments.dense import PREDICTIONS
from mlprune.files import write_json, write_text
from mlprune.present import comparison_files, comparison_tables, to_console


def compare_with_dense(folder: Path, seed: int) -> dict[str, Any]:
    """Compare a run's two evaluations, on files and on the console, and return the content of comparison.json.

    Args:
        folder: The run's folder.
        seed: Seed of the resampling.
    """
    comparison = compare(folder / PREDICTIONS, folder / "predictions", seed)
    write_json(folder / "comparison.json", comparison)
    for name, text in comparison_files(comparison).items():
        write_text(folder / name, text)
    out = console()
    for table in comparison_tables(read_differences(comparison)):
        out.print(to_console(table))
    out.print(f"[bold]{comparison['headline']}[/bold]")
    return comparison

"""The comparison of a run's two evaluations."""

from typing import Any

from mlprune.callbacks.console import print_line, print_tables
from mlprune.callbacks.pruned_model import write_results_card
from mlprune.comparison import compare, read_differences
from mlprune.experiments.dense import PREDICTIONS
from mlprune.files import write_json, write_text
from mlprune.present import COMPARISON_FILES, card_markdown, comparison_tables, console_rows, detail_lines
from mlprune.run import Run


def compare_with_dense(run: Run) -> dict[str, Any]:
    """Compare a run's two evaluations, on files and on the console, and return the content of comparison.json.

    Args:
        run: The run; its folder has the predictions of both.
    """
    folder = run.folder
    comparison = compare(folder / PREDICTIONS, folder / "predictions", run.data.seed, ("dense", run.module.system))
    write_json(folder / "comparison.json", comparison)
    for name, render in COMPARISON_FILES.items():
        with run.viewer(name):
            write_text(folder / name, render(comparison))
    write_results_card(run, card_markdown(comparison))
    with run.viewer("console table"):
        rows = read_differences(comparison)
        print_tables(comparison_tables(console_rows(rows)))
        for line in detail_lines(rows):
            print_line(line)
        for sentence in comparison["sentences"] or [comparison["headline"]]:
            print_line(sentence, "bold")
    return comparison

"""A comparison as a run's folder has it: for people, for papers, for programs."""

from typing import Any

from mlprune.comparison import read_differences
from mlprune.present.rows import comparison_tables, raw_table
from mlprune.present.table import to_csv, to_latex, to_markdown, visible

METHOD = (
    "Intervals: 95%; examples are resampled in clusters (translations of one another, or examples that share a text) "
    "with all their languages; below 20 clusters a t interval. p: the two systems' answers are swapped cluster by "
    "cluster, which tests that the systems are exchangeable; Holm: corrected over the languages of a table, averages "
    "over all averages."
)


def comparison_markdown(comparison: dict[str, Any]) -> str:
    """Return a comparison as Markdown: the headline, and a table for each task and measure.

    Args:
        comparison: Content of comparison.json.

    Example:
        >>> entry = {"dense": 0.5, "pruned": 0.6, "delta": 0.1, "delta_ci95": [-0.1, 0.3], "n": 20}
        >>> text = comparison_markdown({"tasks": {"xnli": {"fr": entry}}, "headline": "Too few to tell."})
        >>> text.splitlines()[0], text.splitlines()[-3]
        ('# Dense against pruned', '| French | 50.0 | 60.0 | +10.0 | -10.0 to +30.0 | 20 |')
    """
    before, after = comparison.get("systems", ["dense", "pruned"])
    title = "Dense against pruned" if (before, after) == ("dense", "pruned") else f"{before} against {after}"
    tables = map(to_markdown, comparison_tables(read_differences(comparison)))
    return "\n\n".join([f"# {visible(title)}", visible(comparison["headline"]), *tables, METHOD]) + "\n"


def comparison_files(comparison: dict[str, Any]) -> dict[str, str]:
    """Return the files that hold a comparison besides comparison.json, name to text."""
    rows = read_differences(comparison)
    return {
        "comparison.md": comparison_markdown(comparison),
        "comparison.csv": to_csv(raw_table(rows)),
        "comparison.tex": "\n\n".join(map(to_latex, comparison_tables(rows))) + "\n",
    }

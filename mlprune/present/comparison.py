"""A comparison as a run's folder has it: for people, for papers, for programs."""

from collections.abc import Callable
from typing import Any

from mlprune.comparison import OF_ONE_RUN, Difference, read_differences
from mlprune.present.rows import comparison_tables, matrix_tables, raw_table
from mlprune.present.table import Table, to_csv, to_latex, to_markdown
from mlprune.text import visible

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
    title = f"{'Dense' if (before, after) in OF_ONE_RUN else before} against {after}"
    tables = map(to_markdown, _tables(comparison))
    return "\n\n".join([f"# {visible(title)}", visible(comparison["headline"]), *tables, METHOD]) + "\n"


def several_markdown(comparison: dict[str, Any]) -> str:
    """Return a comparison of several systems as Markdown: headlines, matrices of all, then each with the first.

    Args:
        comparison: What :func:`mlprune.comparison.compare_all` returned.
    """
    systems = comparison["systems"]
    parts = [f"# {visible(', '.join(systems[1:]))} against {visible(systems[0])}"]
    parts += map(visible, comparison["headlines"])
    matrix = [Difference.from_json(row) for row in comparison["matrix"]]
    parts += map(to_markdown, matrix_tables(matrix, systems))
    rows = read_differences(comparison)
    for name in systems[1:]:
        parts += map(to_markdown, comparison_tables([row for row in rows if row.system == name]))
    return "\n\n".join([*parts, METHOD]) + "\n"


def _tables(comparison: dict[str, Any]) -> list[Table]:
    return comparison_tables(read_differences(comparison))


COMPARISON_FILES: dict[str, Callable[[dict[str, Any]], str]] = {  # what comparison.json holds, for reading
    "comparison.md": comparison_markdown,
    "comparison.csv": lambda comparison: to_csv(raw_table(read_differences(comparison))),
    "comparison.tex": lambda comparison: "\n\n".join(map(to_latex, _tables(comparison))) + "\n",
}

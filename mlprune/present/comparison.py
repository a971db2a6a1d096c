"""A comparison as a run's folder has it: for people, for papers, for programs."""

from collections.abc import Callable
from html import escape
from typing import Any

from mlprune.comparison import OF_ONE_RUN, Difference, read_controls, read_differences
from mlprune.present.controls import control_tables
from mlprune.present.rows import comparison_tables, console_rows, matrix_tables, raw_table
from mlprune.present.table import Table, to_csv, to_html, to_latex, to_markdown
from mlprune.text import visible

METHOD = (
    "Intervals: 95%; examples are resampled in clusters (translations of one another, or examples that share a text) "
    "with all their languages; below 20 clusters a t interval. p: the two systems' answers are swapped cluster by "
    "cluster, which tests that the systems are exchangeable; Holm: corrected over the languages of a table, averages "
    "over all averages."
)


def comparison_markdown(comparison: dict[str, Any]) -> str:
    """Return a comparison as Markdown: its sentences, and a table for each task and measure.

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
    return "\n\n".join([f"# {visible(title)}", *_said(comparison), *tables, METHOD]) + "\n"


def card_markdown(comparison: dict[str, Any]) -> str:
    """Return a comparison as the section of a model card: its sentences and the tables but for details.

    Args:
        comparison: Content of comparison.json.
    """
    tables = (f"#{to_markdown(table)}" for table in comparison_tables(console_rows(read_differences(comparison))))
    return "\n\n".join([*_said(comparison), *tables, METHOD])


def several_markdown(comparison: dict[str, Any]) -> str:
    """Return a comparison of several systems as Markdown: headlines, matrices of all, then each with the first.

    Args:
        comparison: What :func:`mlprune.comparison.compare_all` returned.
    """
    systems = comparison["systems"]
    parts = [f"# {visible(', '.join(systems[1:]))} against {visible(systems[0])}"]
    return "\n\n".join([*parts, *_said(comparison), *map(to_markdown, _tables(comparison)), METHOD]) + "\n"


def comparison_html(comparison: dict[str, Any]) -> str:
    """Return a comparison of two or more systems as a page of HTML.

    Args:
        comparison: Content of comparison.json, or what :func:`mlprune.comparison.compare_all` returned.

    Example:
        >>> page = comparison_html({"systems": ["a", "<b>"], "headline": "Too few to tell.", "differences": []})
        >>> "<h1>&lt;b&gt; against a</h1>" in page, "<p>Too few to tell.</p>" in page
        (True, True)
    """
    systems = [escape(visible(name)) for name in comparison.get("systems", ["dense", "pruned"])]
    title = f"{', '.join(systems[1:])} against {systems[0]}"
    body = [f"<h1>{title}</h1>", *(f"<p>{escape(sentence)}</p>" for sentence in _said(comparison))]
    body += [*map(to_html, _tables(comparison)), f"<p>{escape(METHOD)}</p>"]
    style = "body{font-family:sans-serif;margin:2em auto;max-width:70em}td,th{padding:.2em .6em;text-align:right}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>"]) + "\n"


def _said(comparison: dict[str, Any]) -> list[str]:
    """What a comparison says: a sentence a task, or of several systems a paragraph each."""
    said = comparison.get("headlines") or comparison.get("sentences") or [comparison["headline"]]
    return list(map(visible, said))


def _tables(comparison: dict[str, Any]) -> list[Table]:
    """The tables of a comparison, controls last; of several systems matrices, then each system's against the first."""
    rows = read_differences(comparison)
    if "matrix" not in comparison:
        return [*comparison_tables(rows), *control_tables(comparison)]
    systems = comparison["systems"]
    tables = matrix_tables([Difference.from_json(row) for row in comparison["matrix"]], systems)
    of_each = [comparison_tables([row for row in rows if row.system == name]) for name in systems[1:]]
    return [*tables, *(table for part in of_each for table in part), *control_tables(comparison)]


def _controls(comparison: dict[str, Any]) -> list[Difference]:
    return [row for pair in read_controls(comparison) for row in pair]


FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "markdown": lambda comparison: (several_markdown if "matrix" in comparison else comparison_markdown)(comparison),
    "csv": lambda comparison: to_csv(raw_table([*read_differences(comparison), *_controls(comparison)])),
    "latex": lambda comparison: "\n\n".join(map(to_latex, _tables(comparison))) + "\n",
    "html": comparison_html,
}
COMPARISON_FILES = {  # what comparison.json holds, for reading
    "comparison.md": FORMATS["markdown"],
    "comparison.csv": FORMATS["csv"],
    "comparison.tex": FORMATS["latex"],
}

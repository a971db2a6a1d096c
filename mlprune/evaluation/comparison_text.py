"""A comparison as people read it: a headline that claims no more than the intervals do, and tables as in a paper."""

from collections.abc import Sequence
from typing import Any

Comparison = dict[str, Any]


def headline(comparison: Comparison) -> str:
    """Say in one plain sentence whether pruning helped outside English; "too few to tell" unless an interval tells.

    Args:
        comparison: Content of comparison.json.

    Example:
        >>> row = {"non_en": {"delta": 0.05, "delta_ci95": [-0.01, 0.1], "n": 60}}
        >>> headline({"average": {"xnli": row}})
        'Outside English, pruning changed xnli accuracy by +5.0 points (95% CI -1.0 to +10.0, n = 60): too few to tell.'
        >>> headline({"average": {"xnli": row}, "systems": ["runs/a", "runs/b"]})
        'Outside English, runs/b against runs/a changed xnli accuracy by +5.0 points (95% CI -1.0 to +10.0, n = 60): too
        few to tell.'
    """
    parts = []
    for task, average in comparison["average"].items():
        row = average.get("non_en")
        if row:
            low, high = (100 * bound for bound in row["delta_ci95"])
            verdict = "it helped" if low > 0 else "it hurt" if high < 0 else "too few to tell"
            change = f"{100 * row['delta']:+.1f} points (95% CI {low:+.1f} to {high:+.1f}, n = {row['n']})"
            parts.append(f"{task} accuracy by {change}: {verdict}")
    if not parts:
        return "No accuracy outside English was measured in both runs, so nothing is said of it."
    before, after = comparison.get("systems", ["dense", "pruned"])
    subject = "pruning" if (before, after) == ("dense", "pruned") else f"{after} against {before}"
    return f"Outside English, {subject} changed {'; '.join(parts)}."


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown tables, the headline first.

    Args:
        comparison: Content of comparison.json.

    Example:
        >>> row = {"dense": 0.5, "pruned": 0.6, "delta": 0.1, "delta_ci95": [-0.1, 0.3], "n": 20}
        >>> row |= {"p": 0.3, "p_holm": 0.6, "disagreement": 0.25}
        >>> comparison = {"tasks": {"xnli": {"fr": row}}, "average": {}, "headline": "Too few to tell."}
        >>> print(markdown(comparison).splitlines()[-1])
        | fr | 50.0 | 60.0 | +10.0 | -10.0 to +30.0 | 0.300 | 0.600 | 25.0 | 20 |
    """
    before, after = comparison.get("systems", ["dense", "pruned"])
    lines = [f"# {before[:1].upper() + before[1:]} against {after}", "", comparison["headline"], ""]
    for task, rows in comparison["tasks"].items():
        lines += _accuracies(task, rows, comparison["average"].get(task, {}), before, after)
        rankc = comparison.get("rankc", {}).get(task)
        if rankc:
            header = ("languages", before, after, "delta", "95% CI of delta", "by chance", "n")
            cells = [(pair, *_plain(row, 3), f"{row['expected']:.3f}", str(row["n"])) for pair, row in rankc.items()]
            lines += _table(f"{task}: consistency with English (RankC)", header, cells)
    if comparison.get("translation"):
        header = ("direction", f"BLEU {before}", after, "delta", "p", f"chrF++ {before}", after, "delta", "p", "n")
        cells = [
            (direction, *_score(row), *_score(row["chrf"]), str(row["n"]))
            for direction, row in comparison["translation"].items()
        ]
        lines += _table("Translation (p by paired bootstrap)", header, cells)
    if comparison.get("perplexity"):
        header = ("language", before, after, "delta", "95% CI of delta", "n")
        cells = [(lang, *_plain(row, 3), str(row["n"])) for lang, row in comparison["perplexity"].items()]
        lines += _table("Language modelling (bits per character, lower is better)", header, cells)
    return "\n".join(lines)


def _accuracies(task: str, rows: dict[str, Any], average: dict[str, Any], before: str, after: str) -> list[str]:
    header = ("language", before, after, "delta", "95% CI of delta", "p (McNemar)", "p (Holm)", "changed", "n")
    cells = []
    for lang, row in rows.items():
        tests = f"{row['p']:.3f}", f"{row['p_holm']:.3f}", f"{100 * row['disagreement']:.1f}"
        cells.append((lang, *_percent(row), *tests, str(row["n"])))
    if average.get("non_en"):
        row = average["non_en"]
        cells.append(("average without en", *_percent(row), "", "", "", str(row["n"])))
    return _table(f"{task} (accuracy, and predictions changed, %)", header, cells)


def _percent(row: dict[str, Any]) -> tuple[str, ...]:
    return _plain({name: [100 * x for x in v] if name == "delta_ci95" else 100 * v for name, v in row.items()}, 1)


def _plain(row: dict[str, Any], digits: int) -> tuple[str, ...]:
    low, high = (f"{bound:+.{digits}f}" for bound in row["delta_ci95"])
    figures = f"{row['dense']:.{digits}f}", f"{row['pruned']:.{digits}f}", f"{row['delta']:+.{digits}f}"
    return *figures, f"{low} to {high}"


def _score(row: dict[str, Any]) -> tuple[str, ...]:
    return f"{row['dense']:.1f}", f"{row['pruned']:.1f}", f"{row['delta']:+.1f}", f"{row['p']:.3f}"


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table under its heading, the first column to the left and figures to the right.

    Example:
        >>> _table("Sizes", ("name", "size"), [("a", "1")])
        ['## Sizes', '', '| name | size |', '| --- | ---: |', '| a | 1 |', '']
    """
    lines = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] + ["---:"] * (len(header) - 1), *rows)]
    return [f"## {title}", "", *lines, ""]

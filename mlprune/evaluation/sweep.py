"""What a sweep over sparsities found: the rows of sweep.csv, and the few curves worth looking at."""

from typing import Any

COLUMNS = ("sparsity", "task", "language", "metric", "dense", "pruned", "delta", "low", "high", "p", "n")
Curves = dict[str, list[tuple[float, dict[str, float]]]]


def sweep_rows(sparsity: float, comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """Flatten a comparison into rows of ``sweep.csv``; an average over languages is the language ``non_en``.

    Example:
        >>> figures = {"dense": 0.5, "pruned": 0.75, "delta": 0.25, "delta_ci95": [0.0, 0.5], "p": 0.5, "n": 4}
        >>> sweep_rows(0.3, {"tasks": {"nli": {"fr": figures}}})[0]["pruned"]
        0.75
    """
    rows = []

    def add(task: str, language: str, metric: str, figures: dict[str, Any]) -> None:
        low, high = figures.get("delta_ci95", ("", ""))
        row = {"sparsity": sparsity, "task": task, "language": language, "metric": metric, "low": low, "high": high}
        rows.append(row | {name: figures.get(name, "") for name in ("dense", "pruned", "delta", "p", "n")})

    for section, metric in (("tasks", "accuracy"), ("average", "accuracy"), ("rankc", "rankc")):
        for task, languages in comparison.get(section, {}).items():
            for language, figures in languages.items():
                add(task, language, metric, figures)
    for direction, figures in comparison.get("translation", {}).items():
        add("translation", direction, "bleu", figures)
    for language, figures in comparison.get("perplexity", {}).items():
        add("perplexity", language, "bits_per_char", figures)
    return rows


def sweep_curves(rows: list[dict[str, Any]]) -> Curves:
    """Name the curves worth drawing and their points: averages without English, and means over languages.

    Args:
        rows: Rows of ``sweep.csv``.

    Returns:
        Name of a curve to (sparsity, figures ``dense`` and ``pruned``, and ``low`` and ``high`` of the difference
        where it has an interval), by sparsity.

    Example:
        >>> row = {"task": "nli", "language": "non_en", "metric": "accuracy", "dense": 0.5, "low": ""}
        >>> sweep_curves([row | {"sparsity": 0.1, "pruned": 0.5}, row | {"sparsity": 0.2, "pruned": 0.25}])
        {'nli accuracy': [(0.1, {'dense': 0.5, 'pruned': 0.5}), (0.2, {'dense': 0.5, 'pruned': 0.25})]}
    """
    curves: Curves = {}
    chosen: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in rows:
        if row["metric"] == "accuracy" and row["language"] != "non_en":
            continue
        name = f"{row['task']} {row['metric']}"
        chosen.setdefault((name, row["sparsity"]), []).append(row)
    for (name, sparsity), own in chosen.items():
        figures = {side: sum(row[side] for row in own) / len(own) for side in ("dense", "pruned")}
        if len(own) == 1 and own[0]["low"] != "":
            figures |= {"low": own[0]["low"], "high": own[0]["high"]}
        curves.setdefault(name, []).append((sparsity, figures))
    return curves

"""The section on a sweep over sparsities: a curve a figure, averages over the languages but English."""

from typing import Any

from markupsafe import Markup

from mlprune.report.charts import line_chart
from mlprune.report.reading import Run
from mlprune.report.tables import Table

METRICS = {"accuracy": "accuracy", "rankc": "RankC", "bleu": "BLEU", "bits_per_char": "bits per character"}


def sweep_section(run: Run) -> dict[str, Any] | None:
    """Return the table and the figures of a sweep; None where there was none.

    Args:
        run: A run with ``sweep``.
    """
    curves: dict[str, dict[float, list[dict[str, str]]]] = {}
    for row in run.sweep:
        if row["metric"] == "accuracy" and row["language"] != "non_en":
            continue
        name = "" if row["task"] in ("translation", "perplexity") else f"{row['task']} "
        where = " outside English" if row["metric"] == "accuracy" else ", mean"
        points = curves.setdefault(f"{name}{METRICS.get(row['metric'], row['metric'])}{where}", {})
        points.setdefault(float(row["sparsity"]), []).append(row)
    if not curves:
        return None
    rows = {sparsity: [f"{100 * sparsity:g}"] for points in curves.values() for sparsity in sorted(points)}
    dense = ["0 (dense)"]
    figures = []
    for name, points in curves.items():
        scale, digits = (100, 1) if "accuracy" in name else (1, 1 if "BLEU" in name else 3)
        before = _mean(next(iter(points.values())), "dense")
        dense.append(f"{scale * before:.{digits}f}")
        for sparsity, cells in rows.items():
            own = points.get(sparsity, [])
            cells.append(f"{scale * _mean(own, 'pruned'):.{digits}f}{_star(own)}" if own else "")
        line = [(100 * sparsity, scale * _mean(own, "pruned")) for sparsity, own in sorted(points.items())]
        level = [(0.0, scale * before), (line[-1][0], scale * before)]
        label = "accuracy, %" if scale == 100 else name.removesuffix(", mean")
        alt = f"Lines over sparsity: {name} of the pruned model, and of the dense one for comparison; see the table."
        chart = line_chart({"dense": level, "pruned": line}, ("weights pruned, %", label), alt)
        figures.append((name, Markup(chart)))
    title = "Figures by sparsity (* the 95% interval of the difference from dense excludes zero)"
    return {"table": Table(title, ("weights pruned, %", *curves), [dense, *rows.values()]), "figures": figures}


def _mean(rows: list[dict[str, str]], side: str) -> float:
    return sum(float(row[side]) for row in rows) / len(rows)


def _star(rows: list[dict[str, str]]) -> str:
    clear = len(rows) == 1 and rows[0]["low"] and (float(rows[0]["low"]) > 0 or float(rows[0]["high"]) < 0)
    return "*" if clear else ""

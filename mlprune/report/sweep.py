"""The section on a sweep over sparsities: a figure for each task and measure, averages over languages."""

from typing import Any

from markupsafe import Markup

from mlprune.comparison.schema1 import read_sweep
from mlprune.present import Curve, curves_of, curves_table
from mlprune.report.charts import line_chart
from mlprune.runs.content import RunContent


def sweep_section(run: RunContent) -> dict[str, Any] | None:
    """Return the table and the figures of a sweep; None where there was none.

    Args:
        run: A run with ``sweep``.
    """
    curves = curves_of(read_sweep(run.sweep))
    if not curves:
        return None
    return {"table": curves_table(curves), "figures": [(curve.title, Markup(_chart(curve))) for curve in curves]}


def _chart(curve: Curve) -> str:
    scale, reference = curve.measure.scale, curve.reference
    line = [(100 * sparsity, scale * row.after) for sparsity, row in curve.points if row.after is not None]
    series = {reference.system: line}
    if reference.before is not None and line:
        level = scale * reference.before
        series = {"dense": [(0.0, level), (line[-1][0], level)], **series}
    alt = f"Lines over sparsity: {curve.title} of the pruned model, and of the dense one for comparison; see the table."
    return line_chart(series, ("weights pruned, %", curve.measure.label), alt)

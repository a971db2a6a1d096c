"""The section on a sweep over sparsities: for each task and measure a picture with a curve a language."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from mlprune.comparison.schema1 import read_sweep
from mlprune.metrics.measure import AVERAGE, AVERAGE_ALL
from mlprune.present import Curve, curves_of, curves_table
from mlprune.present.rows import grouped, title_of
from mlprune.report.charts import line_chart
from mlprune.runs.content import RunContent


def sweep_section(run: RunContent) -> dict[str, Any] | None:
    """Return the tables and the figures of a sweep; None where there was none.

    Args:
        run: A run with ``sweep``.

    Returns:
        ``table`` of averages, ``figures``, and ``languages``, a table of each language.
    """
    curves = curves_of(read_sweep(run.sweep), languages=True)
    if not curves:
        return None
    averages = [curve for curve in curves if curve.language == AVERAGE]
    others = [curve for curve in curves if curve.language not in (AVERAGE, AVERAGE_ALL)]
    return {
        "table": curves_table(averages or others),
        "languages": curves_table(others) if averages and others else None,
        "figures": [_figure(group) for group in grouped([*averages, *others]).values()],
    }


def _figure(curves: Sequence[Curve]) -> tuple[str, Markup]:
    """One task and measure: a curve a language from the dense model's value on, and their average."""
    measure, series = curves[0].measure, {}
    for curve in curves:
        dense = curve.reference.before
        points = [(0.0, dense), *((100 * sparsity, row.after) for sparsity, row in curve.points)]
        series[curve.label] = [(x, measure.scale * y) for x, y in points if y is not None]
    average = next((curve.label for curve in curves if curve.language == AVERAGE), "")
    title = title_of(curves[0].task, measure)
    alt = f"Lines over sparsity, from the dense model at 0: {title} for {', '.join(series)}; see the table."
    return title, Markup(line_chart(series, ("weights pruned, %", measure.label), alt, summary=average))

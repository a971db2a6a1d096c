"""The charts of a report."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mlprune.metrics import Figure as Row
from mlprune.models.paths import LayerPath
from mlprune.present.rows import grouped, language_labels, pivot_of, title_of
from mlprune.report.charts import Bars, bar_chart, line_chart
from mlprune.report.tables import share_lost
from mlprune.runs.content import RunContent

Figures = list[tuple[str, Markup]]


def result_figures(systems: Mapping[str, Sequence[Row]]) -> Figures:
    """Bars by language for each task and measure, with intervals, and a line at chance level.

    Args:
        systems: Name to figures.
    """
    tables = {name: grouped(list(rows)) for name, rows in systems.items()}
    keys = list(dict.fromkeys(key for table in tables.values() for key in table))
    measures = {key: next(table[key][0].measure for table in tables.values() if key in table) for key in keys}
    chances = {(task, measure.chance) for (task, _), measure in measures.items()}
    figures: Figures = []
    for key in keys:
        if key in chances:
            continue
        task, measure = key[0], measures[key]
        series = {name: _bars(table[key]) for name, table in tables.items() if key in table}
        series = {name: bars for name, bars in series.items() if bars}
        if series:
            guessed = [
                measure.scale * row.value
                for table in tables.values()
                for row in table.get((task, str(measure.chance)), [])
                if row.value is not None
            ]
            line = ("by chance", sum(guessed) / len(guessed)) if guessed else None
            title = title_of(task, measure)
            alt = f"Bars of {title} by language for {' and '.join(series)}, with 95% intervals; see the table."
            figures.append((title, Markup(bar_chart(series, measure.label, alt, line))))
    return figures


def _bars(rows: Sequence[Row]) -> Bars:
    bars = {}
    labels = language_labels([row.language for row in rows], pivot_of(rows))
    for label, row in zip(labels, rows, strict=True):
        if row.value is not None:
            low, high = (row.value if bound is None else bound for bound in (row.low, row.high))
            scale = row.measure.scale
            bars[label] = (scale * row.value, scale * low, scale * high)
    return bars


def layer_figures(runs: Sequence[RunContent]) -> Figures:
    """Sparsity, importance lost and change of output over depth; of several runs the mean over a block's layers."""
    figures: Figures = []
    several = len(runs) > 1
    sparsity: dict[str, list[tuple[float, float]]] = {}
    lost: dict[str, list[tuple[float, float]]] = {}
    error: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        before = f"{run.name} " if several else ""
        for block, kind, row in _rows(run):
            name = run.name if several else kind
            sparsity.setdefault(name, []).append((block, 100 * float(row["sparsity"])))
            if row.get("kept_importance"):
                lost.setdefault(name, []).append((block, 100 * share_lost(row)))
            for column, value in row.items():
                if column.startswith("output_error.") and value:
                    points = error.setdefault(before + column.removeprefix("output_error."), [])
                    if not points or points[-1][0] != block:
                        points.append((block, 100 * float(value)))
    for title, series, label in (
        ("Sparsity of each layer", sparsity, "weights pruned, %"),
        ("Where importance was lost", lost, "score pruned away, %"),
        ("Change of each block's output", error, "relative error, %"),
    ):
        if series:
            series = {name: _mean_by_block(points) for name, points in series.items()}
            alt = f"Lines over the blocks: {label}, for {', '.join(series)}."
            figures.append((title, Markup(line_chart(series, ("block", label), alt))))
    return figures


def _mean_by_block(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    blocks: dict[float, list[float]] = {}
    for block, value in points:
        blocks.setdefault(block, []).append(value)
    return [(block, sum(values) / len(values)) for block, values in blocks.items()]


def _rows(run: RunContent) -> list[tuple[int, str, dict[str, str]]]:
    """Block, kind of layer and figures; from mlprune.json where there is no layers.csv."""
    if run.layers:
        return [(int(row["block"]), LayerPath.of(row["layer"]).layer, row) for row in run.layers]
    blocks: dict[str, int] = {}
    found = []
    for path, sparsity in run.recipe.get("layers", {}).items():
        place = LayerPath.of(path)
        if place.block is not None:
            block = blocks.setdefault(place.block_path, len(blocks))
            found.append((block, place.layer, {"sparsity": str(sparsity)}))
    return found

"""The charts of a report."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mlprune.comparison import Difference, is_sure
from mlprune.comparison.chance import Levels
from mlprune.metrics import Figure as Row
from mlprune.metrics.measure import AVERAGE, AVERAGE_ALL
from mlprune.models.paths import LayerPath
from mlprune.present.rows import Key, grouped, language_labels, pivot_of, title_of
from mlprune.report.charts import line_chart
from mlprune.report.dots import Dots, Interval, dot_chart
from mlprune.report.tables import share_lost
from mlprune.runs.content import RunContent

UNEVEN = 0.5  # percentage points between layers that are worth a chart
Figures = list[tuple[str, Markup]]


def charted(systems: Mapping[str, Sequence[Row]]) -> list[Key]:
    """Return the tasks and measures that have a chart: those with values; of chance levels there is a line in others.

    Args:
        systems: Name to figures.
    """
    tables = [grouped(list(rows)) for rows in systems.values()]
    keys = dict.fromkeys(key for table in tables for key in table)
    shown = {key: [row for table in tables for row in table.get(key, [])] for key in keys}
    levels = {(task, rows[0].measure.chance) for (task, _), rows in shown.items()}
    return [key for key, rows in shown.items() if key not in levels and any(row.value is not None for row in rows)]


def result_figures(
    systems: Mapping[str, Sequence[Row]],
    keys: Sequence[Key],
    differences: Sequence[Difference] = (),
    chances: Levels | None = None,
) -> dict[Key, tuple[str, Markup]]:
    """Dots by language for each task and measure: title and picture; measures of chance level are lines in others.

    Args:
        systems: Name to figures.
        keys: Tasks and measures that have a chart; see :func:`charted`.
        differences: Of two systems, what changed.
        chances: Chance level by task, measure and language, beyond what the figures say.
    """
    tables = {name: grouped(list(rows)) for name, rows in systems.items()}
    changed = grouped(list(differences))
    figures = {}
    for key in keys:
        shown = {name: table[key] for name, table in tables.items() if key in table}
        task, measure = key[0], next(iter(shown.values()))[0].measure
        guessed = {lang: level for (*known, lang), level in (chances or {}).items() if tuple(known) == key}
        for table in tables.values():
            guessed |= {row.language: row.value for row in table.get((task, str(measure.chance)), []) if row.value}
        dots = dots_of(shown, changed.get(key, []), guessed)
        title = title_of(task, measure)
        alt = f"{title} by language: a dot with its 95% interval for {' and '.join(shown)}; see the table."
        figures[key] = (title, Markup(dot_chart(dots, alt)))
    return figures


def dots_of(
    systems: Mapping[str, Sequence[Row]], differences: Sequence[Difference] = (), chances: Mapping[str, float] = {}
) -> Dots:
    """Return one measure's figures as dots, languages by name.

    Args:
        systems: Name to figures of one task and measure.
        differences: What changed, where that is shown.
        chances: Language to chance level.
    """
    languages = list(dict.fromkeys(row.language for rows in systems.values() for row in rows))
    pivot = pivot_of([row for rows in systems.values() for row in rows])
    names = dict(zip(languages, language_labels(languages, pivot), strict=True))
    measure = next(row.measure for rows in systems.values() for row in rows)
    scale = measure.scale
    shown = {
        name: {
            names[row.language]: _scaled(row.value, row.low, row.high, scale) for row in rows if row.value is not None
        }
        for name, rows in systems.items()
    }
    changes = {
        names[row.language]: _scaled(row.delta, row.low, row.high, scale)
        for row in differences
        if row.language in names and row.delta is not None
    }
    return Dots(
        {name: intervals for name, intervals in shown.items() if intervals},
        measure.label,
        {names[language]: scale * level for language, level in chances.items() if language in names},
        changes,
        frozenset(names[row.language] for row in differences if row.language in names and is_sure(row)),
        {True: 1, False: -1, None: 0}[measure.higher_is_better],
        frozenset(names[language] for language in (AVERAGE, AVERAGE_ALL) if language in names),
    )


def _scaled(value: float, low: float | None, high: float | None, scale: float) -> Interval:
    return scale * value, scale * (value if low is None else low), scale * (value if high is None else high)


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
        ("Sparsity of each layer", {} if uniform_sparsity(runs) else sparsity, "weights pruned, %"),
        ("Where importance was lost", lost, "score pruned away, %"),
        ("Change of each block's output", error, "relative error, %"),
    ):
        if series:
            series = {name: _mean_by_block(points) for name, points in series.items()}
            alt = f"Lines over the blocks: {label}, for {', '.join(series)}."
            figures.append((title, Markup(line_chart(series, ("block", label), alt))))
    return figures


def uniform_sparsity(runs: Sequence[RunContent]) -> list[tuple[str, str]]:
    """Return each run's sparsity in words where every run's is the same in all layers, for which a chart says nothing.

    Layers whose width is no multiple of what is pruned differ a little, which is still uniform.

    Example:
        >>> from pathlib import Path
        >>> rows = [{"block": str(k), "layer": f"h.{k}.q", "sparsity": str(0.3 - k / 1000)} for k in range(2)]
        >>> uniform_sparsity([RunContent(Path("v0"), "v0", layers=rows)])
        [('v0', '29.9 to 30.0% of the weights of each of the 2 layers were pruned, in every block alike.')]
    """
    found = []
    for run in runs:
        levels = [100 * float(row["sparsity"]) for _, _, row in _rows(run)]
        if not levels:
            continue
        if max(levels) - min(levels) > UNEVEN and run.recipe.get("allocation") != "uniform":
            return []
        ends = dict.fromkeys(f"{level:.1f}" for level in (min(levels), max(levels)))
        share = f"{' to '.join(ends)}% of the weights of each of the {len(levels)} layers"
        found.append((run.name, f"{share} were pruned, in every block alike."))
    return found


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

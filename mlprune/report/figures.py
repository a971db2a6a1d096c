"""Which charts a report has."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mlprune.models.paths import LayerPath
from mlprune.report.charts import Bars, bar_chart, line_chart
from mlprune.report.reading import Json, Run

Figures = list[tuple[str, Markup]]


def result_figures(systems: Mapping[str, Json]) -> Figures:
    """Accuracy, RankC, BLEU and bits per character by language.

    Args:
        systems: Name to results.
    """
    figures: Figures = []
    names = " and ".join(systems)
    for task in _keys(systems, "tasks"):
        series = {
            name: {
                lang: (100 * row["accuracy"], *(100 * bound for bound in row.get("ci95", [row["accuracy"]] * 2)))
                for lang, row in results.get("tasks", {}).get(task, {}).items()
                if "accuracy" in row
            }
            for name, results in systems.items()
        }
        alt = f"Bars of {task} accuracy in percent by language for {names}, with 95% intervals; see the table."
        _add(figures, f"{task}: accuracy by language, 95% intervals", series, "accuracy, %", alt)
        series = _plain(systems, "rankc", task)
        expected = [value for r in systems.values() for value in (r.get("rankc_expected", {}).get(task) or {}).values()]
        line = ("by chance", sum(expected) / len(expected)) if expected else None
        alt = f"Bars of RankC of English against every other language on {task} for {names}."
        _add(figures, f"{task}: consistency with English (RankC)", series, "RankC", alt, line)
    series = {
        name: {pair: (row["bleu"],) * 3 for pair, row in results.get("translation", {}).items() if "bleu" in row}
        for name, results in systems.items()
    }
    _add(figures, "Translation by direction", series, "BLEU", f"Bars of BLEU by direction for {names}.")
    series = {
        name: {
            lang: (row["bits_per_char"],) * 3
            for lang, row in results.get("perplexity", {}).items()
            if "bits_per_char" in row
        }
        for name, results in systems.items()
    }
    alt = f"Bars of bits per character by language for {names}; lower is better."
    _add(figures, "Language modelling (lower is better)", series, "bits per character", alt)
    return figures


def _keys(systems: Mapping[str, Json], section: str) -> list[str]:
    return list(dict.fromkeys(key for results in systems.values() for key in results.get(section, {})))


def _plain(systems: Mapping[str, Json], section: str, task: str) -> dict[str, Bars]:
    return {
        name: {key: (value,) * 3 for key, value in results.get(section, {}).get(task, {}).items()}
        for name, results in systems.items()
    }


def _add(
    figures: Figures, title: str, series: dict[str, Bars], label: str, alt: str, line: tuple[str, float] | None = None
) -> None:
    series = {name: bars for name, bars in series.items() if bars}
    if series:
        figures.append((title, Markup(bar_chart(series, label, alt, line))))


def layer_figures(runs: Sequence[Run]) -> Figures:
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
                lost.setdefault(name, []).append((block, 100 * (1 - float(row["kept_importance"]))))
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


def _rows(run: Run) -> list[tuple[int, str, dict[str, str]]]:
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

"""The section on a study: leaderboard, recipes by languages, selection against confirmation, seeds, curves, looks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup

from mlprune.comparison import read_figures
from mlprune.metrics import Figure, Measure
from mlprune.present.study import measure_of, tables_of
from mlprune.report.charts import INK, SERIES, SETTINGS, axes_of, line_chart, to_svg
from mlprune.report.recipe_map import recipe_maps
from mlprune.runs.content import RunContent
from mlprune.runs.reading import read_json
from mlprune.text import plot_text

Json = Mapping[str, Any]


def study_section(run: RunContent) -> dict[str, Any] | None:
    """Return lines, tables and figures of a study; None where there was none, or it was but a sweep.

    Args:
        run: A run.
    """
    study = run.study
    if not study or run.sweep:
        return None
    metric = (study.get("endpoint") or {}).get("metric")
    figures = [
        *recipe_maps(run.study_rows, "confirm" if study.get("confirmed") else "select", metric),
        *(
            [("Selection against confirmation", _scatter(study))]
            if study.get("confirmed") and study.get("selection")
            else []
        ),
        *(
            [("Calibration seeds", _seeds(study))]
            if any(len(r["by_seed"]) > 1 for r in study.get("confirmed", []))
            else []
        ),
        *_curves(study),
    ]
    return {
        "lines": _lines(study),
        "tables": tables_of(study, run.study_rows),
        "figures": [(title, Markup(svg)) for title, svg in figures],
    }


def dense_models(run: RunContent) -> dict[str, list[Figure]]:
    """Return the figures of dense models that recipes have of their own, by the recipes' names.

    Args:
        run: A run.
    """
    found: dict[str, list[Figure]] = {}
    recipes = [recipe for recipe in run.study.get("recipes", []) if recipe.get("dense") and not recipe["control"]]
    for folder in dict.fromkeys(recipe["dense"] for recipe in recipes):
        first, *others = (recipe["name"] for recipe in recipes if recipe["dense"] == folder)
        name = f"dense of {first}{f' and {len(others)} more' if others else ''}"
        found[name] = read_figures(read_json(run.folder / folder / "results.json"))
    return found


def _lines(study: Json) -> list[str]:
    """What was declared, and how often the confirmation rows were looked at."""
    found = []
    if endpoint := study.get("endpoint"):
        tasks = ", ".join(endpoint["tasks"] or ["all tasks"])
        languages = ", ".join(endpoint["languages"] or ["all languages but the pivot"])
        how = "their average decides" if endpoint["average"] else "each decides for itself"
        if any(recipe.get("endpoint") for recipe in study.get("recipes", [])):
            how += ", and a recipe that names fewer is judged in these alone"
        against = f" against {endpoint['against']}" if endpoint.get("against") else ""
        found.append(f"Declared before anything ran: {endpoint['metric']} of {tasks} in {languages}{against}; {how}.")
    steps = [f"{step['recipes']} recipes on {step['rows']} rows" for step in study.get("rounds", [])]
    if study.get("confirm") and steps:
        by = (study.get("select") or {}).get("metric") or "the probability of the right answer, where there is one"
        found.append(f"Selection, by {by}: {', then '.join(steps)}; {study['confirm']['top']} confirmed on other rows.")
    found += _screened(study.get("screening"))
    for count in study.get("looks", {}).values():
        times = (
            "once, by this study" if count == 1 else f"{count} times, this study included; its p values are too small"
        )
        found.append(f"The confirmation rows were looked at {times}.")
    return found


def _screened(found: Json | None) -> list[str]:
    """What recipes were not asked, and whether that can have mattered."""
    if found is None:
        return []
    most = found["largest_turned"]
    seen = "no answer was turned" if not most else f"the largest margin that was turned is {_each(most)}"
    last = f"of {found['asked']} such answers of the chosen recipes, asked at last, {found['turned']} were turned"
    verdict = ": the margin was too narrow, and the selection may have been another" if found["turned"] else ""
    given = found["margin"]
    margin = _each(given) if isinstance(given, dict) else f"{given:g}"
    return [
        f"Screened: rows that the dense model answers by a margin of {margin} or more, "
        f"{found['share']:.0%} of those that choose, counted as answered alike; {seen}, and {last}{verdict}."
    ]


def _each(by_task: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.3g} ({task})" for task, value in by_task.items())


def _scatter(study: Json) -> str:
    """Each difference where chosen against that where judged: points below the line regressed to the mean."""
    chosen = {(row["system"], row["task"], row["language"]): row["delta"] for row in study.get("selection", [])}
    rows = study["confirmed"]
    measure = measure_of(rows[0])
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        before, after = chosen.get((row["system"], row["task"], row["language"])), row["delta"]
        if before is not None and after is not None:
            points.setdefault(row["system"], []).append((measure.scale * before, measure.scale * after))
    with matplotlib.rc_context(SETTINGS):
        figure, axes = axes_of(4.2, 3.4)
        for i, (name, places) in enumerate(points.items(), start=1):
            x, y = zip(*places, strict=True)
            axes.plot(x, y, "o", color=SERIES[i % len(SERIES)], label=plot_text(name), markersize=6)
        ends = [value for places in points.values() for point in places for value in point] + [0.0]
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=INK, linewidth=0.8, linestyle="--")
        axes.set_xlabel(plot_text(f"difference where chosen, {unit_of(measure)}"))
        axes.set_ylabel(plot_text(f"difference where judged, {unit_of(measure)}"))
        axes.legend(fontsize=8)
        alt = "Points: each confirmed recipe's difference on rows that chose it and on rows that judge; dashed: equal."
        return to_svg(figure, alt)


def _seeds(study: Json) -> str:
    """Each confirmed recipe's difference by calibration seed, with the interval over rows and seeds."""
    rows = study["confirmed"]
    measure, where = measure_of(rows[0]), _where(rows)
    with matplotlib.rc_context(SETTINGS):
        figure, axes = axes_of(5.6, 0.8 + 0.4 * len(rows))
        for place, row in enumerate(rows):
            if row["total_low"] is not None:
                ends = [measure.scale * row["total_low"], measure.scale * row["total_high"]]
                axes.plot(ends, [place, place], color=INK, linewidth=1.0)
            values = [measure.scale * value for value in row["by_seed"]]
            axes.plot(values, [place] * len(values), "o", color=SERIES[1], markersize=5)
        axes.axvline(0, color=INK, linewidth=0.8, linestyle="--")
        axes.invert_yaxis()
        names = [", ".join(filter(None, (row["system"], where(row)))) for row in rows]
        axes.set_yticks(range(len(rows)), list(map(plot_text, names)))
        axes.set_xlabel(plot_text(f"difference, {unit_of(measure)}"))
        return to_svg(figure, "Dots: difference by calibration seed; lines: 95% interval over rows and seeds.")


def _curves(study: Json) -> list[tuple[str, str]]:
    """A chart for each numeric key of the grid: the difference by its value, a line for what else differs.

    All points are of the same rows: of those that choose, where recipes are chosen.
    """
    chose = study.get("selection", [])
    rows = [row for row in chose or study.get("confirmed", []) if row["delta"] is not None]
    recipes, where = {recipe["name"]: recipe for recipe in study.get("recipes", [])}, _where(rows)
    found = []
    for key in dict.fromkeys(key for row in rows for key in recipes[row["system"]]["values"]):
        series: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            values: Json = recipes[row["system"]]["values"]
            value = values.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                others = (f"{name.rpartition('.')[2]} {given}" for name, given in values.items() if name != key)
                name = ", ".join(filter(None, (row["system"].split(", ")[0], *others, where(row))))
                series.setdefault(name, []).append((value, measure_of(row).scale * row["delta"]))
        lines: Mapping[str, Sequence[tuple[float, float]]] = {name: sorted(points) for name, points in series.items()}
        if any(len(points) > 1 for points in lines.values()):
            measure, last = measure_of(rows[0]), key.rpartition(".")[2]
            labels = (last, f"difference, {unit_of(measure)}")
            found.append(
                (
                    f"Difference by {last}{' on the rows that choose' if chose else ''}",
                    line_chart(lines, labels, f"Lines: difference by {last}; see the tables.", is_change=True),
                )
            )
    return found


def _where(rows: Sequence[Json]) -> Callable[[Json], str]:
    """What tells the rows of one recipe apart: task and language, where there are several."""
    tasks, languages = ({row[key] for row in rows} for key in ("task", "language"))

    def where(row: Json) -> str:
        parts = (row["task"] if len(tasks) > 1 else "", row["language"] if len(languages) > 1 else "")
        return " ".join(filter(None, parts))

    return where


def unit_of(measure: Measure) -> str:
    """Return the unit of a measure's differences, for an axis.

    Example:
        >>> unit_of(Measure("accuracy", unit="%")), unit_of(Measure("ppl"))
        ('points', 'ppl')
    """
    return "points" if measure.unit == "%" else measure.unit or measure.name

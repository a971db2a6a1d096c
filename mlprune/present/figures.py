"""Pictures of figures and differences, for files and TensorBoard; the report draws its own."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as Picture

from mlprune.metrics.measure import Figure
from mlprune.present.curves import Curve
from mlprune.present.rows import grouped, language_labels, pivot_of, title_of
from mlprune.text import LONGEST, plot_text

COLORS = ("#8a94a6", "#0b6e99")  # of the first system, and of the last
BETWEEN = ("#c2410c", "#2e7d32", "#8e24aa", "#b08900")  # of those between them


def task_bars(systems: Mapping[str, Sequence[Figure]]) -> dict[str, Picture]:
    """Draw each task's first measure by language with its intervals.

    Args:
        systems: Name to figures; any number of systems.

    Returns:
        Task to picture.

    Example:
        >>> from mlprune.metrics import Measure
        >>> list(task_bars({"dense": [Figure("dense", "nli", "fr", Measure("f1"), 0.5)]}))
        ['nli']
    """
    pictures: dict[str, Picture] = {}
    tables = {name: grouped(list(rows)) for name, rows in systems.items()}
    for task, measure in list(tables.values())[-1]:
        by_language = {
            name: {row.language: row for row in table.get((task, measure), [])} for name, table in tables.items()
        }
        last = list(by_language.values())[-1]
        languages = [language for language, row in last.items() if row.value is not None]
        if task in pictures or not languages:
            continue
        shown = last[languages[0]].measure
        picture = Picture(figsize=(1.5 + 0.8 * len(languages), 3.4), layout="constrained")
        axes = picture.subplots()
        width = 0.8 / len(systems)
        for place, (name, rows) in enumerate(by_language.items()):
            bars = [_bar(rows.get(language)) for language in languages]
            heights, below, above = zip(*bars, strict=True)
            x = [i + (place - (len(systems) - 1) / 2) * width for i in range(len(languages))]
            color = _color(place, len(systems))
            axes.bar(
                x, heights, width, label=plot_text(name), color=color, yerr=(below, above), ecolor="#444", capsize=2
            )
        labels = language_labels(languages, pivot_of(list(last.values())))
        axes.set_xticks(range(len(languages)), list(map(plot_text, labels)), rotation=30, ha="right")
        axes.set_ylabel(plot_text(shown.label))
        axes.set_title(plot_text(title_of(task, shown), longest=2 * LONGEST), wrap=True)
        picture.legend(loc="outside lower center", ncols=2, fontsize="small")
        pictures[task] = picture
    return pictures


def _color(place: int, num: int) -> str:
    if place == num - 1:
        return COLORS[1]
    return COLORS[0] if place == 0 else BETWEEN[(place - 1) % len(BETWEEN)]


def _bar(row: Figure | None) -> tuple[float, float, float]:
    """Height, and how far the interval goes below and above it."""
    if row is None or row.value is None:
        return math.nan, math.nan, math.nan
    scale = row.measure.scale
    if row.low is None or row.high is None:
        return scale * row.value, 0.0, 0.0
    return scale * row.value, max(scale * (row.value - row.low), 0.0), max(scale * (row.high - row.value), 0.0)


def sparsity_curves(curves: Sequence[Curve]) -> Picture:
    """Draw what a sweep found: a panel a curve, the dense model as a dashed line, intervals of the difference.

    Args:
        curves: The curves.
    """
    columns = max(min(len(curves), 3), 1)
    lines = max(-(-len(curves) // columns), 1)
    picture = Picture(figsize=(4 * columns, 3 * lines), layout="constrained")
    panels = list(picture.subplots(lines, columns, squeeze=False).flat)
    for axes, curve in zip(panels, curves, strict=False):
        scale, before = curve.measure.scale, curve.reference.before
        shown = [(sparsity, row) for sparsity, row in curve.points if row.after is not None]
        if before is not None:
            axes.axhline(scale * before, color=COLORS[0], linestyle="--", label=plot_text(curve.reference.reference))
        places, heights = [x for x, _ in shown], [scale * (row.after or 0.0) for _, row in shown]
        axes.plot(places, heights, color=COLORS[1], marker="o", label=plot_text(curve.reference.system))
        known = [
            (x, scale * (before + row.low), scale * (before + row.high))
            for x, row in shown
            if before is not None and row.low is not None and row.high is not None
        ]
        if known:
            label = "95% interval of the difference"
            axes.fill_between(*zip(*known, strict=True), color=COLORS[1], alpha=0.15, label=label)
        axes.set_title(plot_text(curve.title), fontsize="medium")
        axes.set_xlabel("sparsity")
    for axes in panels[len(curves) :]:
        axes.remove()
    handles = {label: handle for axes in picture.axes for handle, label in zip(*axes.get_legend_handles_labels())}
    picture.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize="small")
    return picture

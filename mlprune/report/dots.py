"""The picture of a report: a row a language, a dot a system with its interval, and how sure the change is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlprune.report.charts import BAD, GOOD, INK, SERIES, SETTINGS, columns_of, to_svg
from mlprune.text import plot_text

MARKERS = "osD^vPX*"
LANE, MARGIN = 0.13, 0.17  # inches: a system within a row, and around the row
HEAD = 0.75  # inches, of the axis' numbers and label
Interval = tuple[float, float, float]  # value, lower and upper bound


@dataclass(frozen=True)
class Dots:
    """What a dot picture shows, on the scale it is shown on.

    Args:
        systems: Name of a system to its dots: row to value and interval. The first one is grey.
        label: What the horizontal axis shows, with its unit.
        chance: Row to chance level, where it is known.
        changes: Row to difference and its interval; drawn beside the dots.
        sure: Rows whose change is significant; the others are drawn in grey.
        better: Whether a positive change is better (1), worse (-1) or neither (0).
        summaries: Rows that are averages of others, set apart.
    """

    systems: Mapping[str, Mapping[str, Interval]]
    label: str
    chance: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, Interval] = field(default_factory=dict)
    sure: frozenset[str] = frozenset()
    better: int = 0
    summaries: frozenset[str] = frozenset()

    @property
    def rows(self) -> list[str]:
        """Rows from top to bottom: the best change first, else the best value; averages last."""
        names = list(dict.fromkeys(name for dots in self.systems.values() for name in dots))
        last = list(self.systems.values())[-1] if self.systems else {}
        shown = self.changes or last
        sign = self.better or 1
        lowest = min((sign * value for value, _, _ in shown.values()), default=0.0) - 1

        def place(name: str) -> tuple[bool, float]:
            return name in self.summaries, -(sign * shown[name][0] if name in shown else lowest)

        return sorted(names, key=place)


def dot_chart(dots: Dots, alt: str) -> str:
    """Draw dots with intervals, chance level as a dashed line, and the changes beside them.

    Args:
        dots: What is shown.
        alt: The same in words.

    Returns:
        An ``<svg>`` element.

    Example:
        >>> svg = dot_chart(Dots({"dense": {"French": (50, 40, 60)}, "pruned": {"French": (55, 45, 65)}}, "%"), "Dots.")
        >>> svg.startswith("<svg"), "French" in svg
        (True, True)
    """
    rows = dots.rows
    num = len(dots.systems)
    with matplotlib.rc_context(SETTINGS):
        height = HEAD + len(rows) * (MARGIN + LANE * num)
        figure = Figure(figsize=(5.0, height), layout="constrained")
        figure.patch.set_visible(False)
        if dots.changes:
            left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
            _draw_changes(right, dots, rows)
        else:
            left = figure.subplots()
        _draw_values(left, dots, rows)
        first = sum(name not in dots.summaries for name in rows)
        for axes in figure.axes:
            axes.patch.set_visible(False)
            axes.xaxis.grid(True)
            axes.set_axisbelow(True)
            axes.tick_params(axis="y", length=0)
            axes.locator_params(axis="x", nbins=5 if axes is left else 4)
            if 0 < first < len(rows):
                axes.axhline(first - 0.5, color=INK, linewidth=0.5)
        left.set_yticks(range(len(rows)), list(map(plot_text, rows)))
        left.set_ylim(len(rows) - 0.5, -0.5)
        if num > 1 or dots.chance:
            columns = columns_of(left.get_legend_handles_labels()[1], figure.get_figwidth())
            figure.legend(loc="outside upper left", ncols=columns, fontsize=9, handlelength=1.6, columnspacing=1.2)
        return to_svg(figure, alt)


def _draw_values(axes: Axes, dots: Dots, rows: list[str]) -> None:
    num = len(dots.systems)
    lane = LANE / (MARGIN + LANE * num)
    for i, (name, intervals) in enumerate(dots.systems.items()):
        places = [row for row in rows if row in intervals]
        y = [rows.index(row) + (i - (num - 1) / 2) * lane for row in places]
        x = [intervals[row][0] for row in places]
        color = SERIES[(i if num > 1 else 1) % len(SERIES)]
        style: dict[str, Any] = {"color": color, "marker": MARKERS[i % len(MARKERS)], "linestyle": "none"}
        axes.errorbar(x, y, xerr=_arms(intervals, places), label=plot_text(name), markersize=5, elinewidth=1.2, **style)
    marked = [row for row in rows if row in dots.chance]
    for place, row in enumerate(marked):
        y = [rows.index(row) - 0.42, rows.index(row) + 0.42]
        label = "by chance" if place == 0 else None
        axes.plot([dots.chance[row]] * 2, y, color=INK, linewidth=1, linestyle=(0, (2, 1.5)), label=label)
    axes.set_xlabel(plot_text(dots.label))


def _draw_changes(axes: Axes, dots: Dots, rows: list[str]) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    for row in rows:
        if row in dots.changes:
            value = dots.changes[row][0]
            side = dots.better * value
            color = SERIES[0] if row not in dots.sure else GOOD if side > 0 else BAD if side < 0 else INK
            arms = _arms(dots.changes, [row])
            axes.errorbar([value], [rows.index(row)], xerr=arms, color=color, marker="D", markersize=5, elinewidth=1.6)
    axes.set_xlabel("difference")


def _arms(intervals: Mapping[str, Interval], rows: list[str]) -> list[list[float]] | None:
    """How far the intervals reach to the left and to the right; None where there are none."""
    arms = [
        [max(intervals[row][0] - intervals[row][1], 0) for row in rows],
        [max(intervals[row][2] - intervals[row][0], 0) for row in rows],
    ]
    return arms if any(map(any, arms)) else None

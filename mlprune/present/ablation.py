"""The matrix of ablated by measured language, as tables, CSV and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure as Picture

from mlprune.comparison import Difference
from mlprune.present.rows import language_labels, pivot_of, title_of
from mlprune.present.table import Table
from mlprune.text import plot_text

SETS = {
    "units": "without the language's units",
    "random": "without as many random units",
    "units against random": "the first against the second",
}
NOTE = (
    "change from the whole model; * the 95% interval of the difference from as many random units, not corrected for "
    "the number of languages, excludes zero"
)
LONGEST_TITLE = 80
DARK = 0.6  # share of the largest value from which a map's color is too dark for black letters


@dataclass(frozen=True)
class Ablated:
    """A difference that the ablation of some units made.

    Args:
        language: Whose units were ablated.
        units: ``units``, ``random``, or ``units against random``.
        num_units: How many.
        row: The difference, of one measured language.
    """

    language: str
    units: str
    num_units: int
    row: Difference

    def to_json(self) -> dict[str, Any]:
        """Return the row as ablation.csv has it."""
        return {"ablated": self.language, "units": self.units, "num_units": self.num_units} | self.row.to_json()


def ablation_csv(rows: Sequence[Ablated]) -> Table:
    """Return all rows, a column a field."""
    content = [row.to_json() for row in rows]
    columns = tuple(content[0]) if content else ()
    return Table(
        "", columns, [tuple("" if row[name] is None else str(row[name]) for name in columns) for row in content]
    )


def _matrices(
    rows: Sequence[Ablated],
) -> dict[str, tuple[list[str], list[str], dict[tuple[str, str, str], Difference]]]:
    """Title to ablated languages, measured languages, and (set, ablated, measured) to difference; no details."""
    found: dict[str, dict[tuple[str, str, str], Difference]] = {}
    for row in rows:
        if not row.row.measure.detail:
            cells = found.setdefault(title_of(row.row.task, row.row.measure), {})
            cells[row.units, row.language, row.row.language] = row.row
    return {
        title: (
            list(dict.fromkeys(ablated for _, ablated, _ in cells)),
            list(dict.fromkeys(measured for _, _, measured in cells)),
            cells,
        )
        for title, cells in found.items()
    }


def ablation_tables(rows: Sequence[Ablated]) -> list[Table]:
    """Return a table for each task and measure: two lines an ablated language, a column a measured one.

    Example:
        >>> from mlprune.metrics import Measure
        >>> row = Difference("without fr", "whole", "nli", "fr", Measure("f1"), 0.5, 0.25, -0.25, -0.5, -0.1)
        >>> table = ablation_tables([Ablated("fr", name, 3, row) for name in SETS])[0]
        >>> table.columns, table.rows
        (('ablated', 'units', 'French'), [('French', '3', '-0.250*'), ('', '3 random', '-0.250')])
    """
    sizes = {row.language: row.num_units for row in rows}
    tables = []
    for title, (ablated, measured, cells) in _matrices(rows).items():
        labels = language_labels(measured, pivot_of(list(cells.values())))
        lines = [
            (head, f"{sizes[lang]}{kind}", *(_cell(cells, units, lang, other) for other in measured))
            for name, lang in zip(language_labels(ablated), ablated, strict=True)
            for units, head, kind in (("units", name, ""), ("random", "", " random"))
        ]
        tables.append(Table(title, ("ablated", "units", *labels), lines, (NOTE,)))
    return tables


def _cell(cells: dict[tuple[str, str, str], Difference], units: str, ablated: str, measured: str) -> str:
    row, excess = cells.get((units, ablated, measured)), cells.get(("units against random", ablated, measured))
    if row is None:
        return ""
    star = "*" if units == "units" and excess is not None and excess.clear else ""
    return f"{row.measure.text(row.delta, sign=True)}{star}"


def ablation_maps(rows: Sequence[Ablated]) -> Picture:
    """Draw a line of maps for each task and measure: the language's units, random ones, and the difference.

    Blue is better, red is worse; a star marks an interval that excludes zero.

    Args:
        rows: Of all languages.
    """
    matrices = _matrices(rows)
    size = 0.62 * max(len(measured) for _, measured, _ in matrices.values()) + 1.6
    picture = Picture(figsize=(3 * size, size * len(matrices)), layout="constrained")
    grid = picture.subplots(len(matrices), 3, squeeze=False)
    for line, (title, (ablated, measured, cells)) in zip(grid, matrices.items(), strict=True):
        measure = next(iter(cells.values())).measure
        good = -1 if measure.higher_is_better is False else 1
        limit = max((abs(row.delta) for row in cells.values() if row.delta is not None), default=0) or 1.0
        for axes, (name, caption) in zip(line, SETS.items(), strict=True):
            found = [[cells.get((name, lang, other)) for other in measured] for lang in ablated]
            values = [
                [good * (row.delta or 0.0) if row is not None else 0.0 for row in differences] for differences in found
            ]
            axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
            for i, differences in enumerate(found):
                for j, row in enumerate(differences):
                    text = "" if row is None else row.measure.text(row.delta, sign=True) + "*" * row.clear
                    color = "white" if abs(values[i][j]) > DARK * limit else "black"
                    axes.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
            labels = language_labels(measured, pivot_of(list(cells.values())))
            axes.set_xticks(range(len(measured)), list(map(plot_text, labels)), rotation=40, ha="right", fontsize=8)
            axes.set_yticks(range(len(ablated)), list(map(plot_text, language_labels(ablated))), fontsize=8)
            axes.set_title(f"{plot_text(title, LONGEST_TITLE)}\n{caption}", fontsize=8)
            axes.set_xlabel("measured", fontsize=8)
        line[0].set_ylabel("ablated", fontsize=8)
    return picture

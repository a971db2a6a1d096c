"""A sweep over sparsities: what each of its figures does as more weights are pruned."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlprune.comparison import Difference
from mlprune.metrics.measure import AVERAGE, Measure
from mlprune.present.rows import language_labels, pivot_of, title_of
from mlprune.present.table import Table

NOTE = "* the 95% interval of the difference, not corrected for the number of sparsities, excludes zero"


@dataclass(frozen=True)
class Curve:
    """One measure in one language, or on average over languages, by sparsity.

    Args:
        task: The task's name.
        measure: What was measured.
        points: Sparsity, and the difference from the dense model there; by sparsity.
        language: As in :class:`mlprune.metrics.Figure`.
    """

    task: str
    measure: Measure
    points: list[tuple[float, Difference]]
    language: str = AVERAGE

    @property
    def label(self) -> str:
        """What its language is called."""
        return language_labels([self.language], pivot_of([row for _, row in self.points]))[0]

    @property
    def title(self) -> str:
        """What tables and charts call it."""
        return f"{title_of(self.task, self.measure)}, {self.label}"

    @property
    def reference(self) -> Difference:
        """A row that has the dense model's value."""
        return self.points[0][1]


def curves_of(rows: Sequence[tuple[float, Difference]], languages: bool = False) -> list[Curve]:
    """Return a curve for each task and measure, the average over languages; details have none.

    Args:
        rows: Sparsities and differences.
        languages: Return those of each language as well, after the average of their task and measure.

    Example:
        >>> row = Difference("pruned", "dense", "nli", "average", Measure("f1"), 0.5, 0.25, -0.25, -0.5, -0.1)
        >>> [(curve.task, len(curve.points)) for curve in curves_of([(0.1, row), (0.2, row)])]
        [('nli', 2)]
    """
    found: dict[tuple[str, str], dict[str, Curve]] = {}
    for sparsity, row in sorted(rows, key=lambda entry: entry[0]):
        if not row.measure.detail and (languages or row.language == AVERAGE):
            curves = found.setdefault((row.task, row.measure.name), {})
            curve = curves.setdefault(row.language, Curve(row.task, row.measure, [], row.language))
            curve.points.append((sparsity, row))
    return [curves[name] for curves in found.values() for name in sorted(curves, key=lambda name: name != AVERAGE)]


def curves_table(curves: Sequence[Curve]) -> Table:
    """Return a table with a line a curve and a column a sparsity; a star where an interval excludes zero.

    Example:
        >>> row = Difference("pruned", "dense", "nli", "average", Measure("f1"), 0.5, 0.25, -0.25, -0.5, -0.1)
        >>> table = curves_table(curves_of([(0.1, row)]))
        >>> table.columns, table.rows
        (('weights pruned, %', '0 (dense)', '10'), [('nli: f1, average', '0.500', '0.250*')])
    """
    levels = sorted({sparsity for curve in curves for sparsity, _ in curve.points})
    name = curves[0].reference.reference if curves else "dense"
    rows = []
    for curve in curves:
        points = dict(curve.points)
        cells = [curve.measure.text(points[x].after) + "*" * points[x].clear if x in points else "" for x in levels]
        rows.append((curve.title, curve.measure.text(curve.reference.before), *cells))
    starred = any("*" in cell for row in rows for cell in row[2:])
    columns = ("weights pruned, %", f"0 ({name})", *(f"{100 * level:g}" for level in levels))
    return Table("Figures by sparsity", columns, rows, (NOTE,) if starred else ())

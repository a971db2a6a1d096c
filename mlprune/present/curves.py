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
    """The average over languages of one measure, by sparsity.

    Args:
        task: The task's name.
        measure: What was measured.
        points: Sparsity, and the difference from the dense model there; by sparsity.
    """

    task: str
    measure: Measure
    points: list[tuple[float, Difference]]

    @property
    def title(self) -> str:
        """What tables and charts call it."""
        rows = [row for _, row in self.points]
        return f"{title_of(self.task, self.measure)}, {language_labels([AVERAGE], pivot_of(rows))[0]}"

    @property
    def reference(self) -> Difference:
        """A row that has the dense model's value."""
        return self.points[0][1]


def curves_of(rows: Sequence[tuple[float, Difference]]) -> list[Curve]:
    """Return a curve for each task and measure; details have none.

    Args:
        rows: Sparsities and differences.

    Example:
        >>> row = Difference("pruned", "dense", "nli", "average", Measure("f1"), 0.5, 0.25, -0.25, -0.5, -0.1)
        >>> [(curve.task, len(curve.points)) for curve in curves_of([(0.1, row), (0.2, row)])]
        [('nli', 2)]
    """
    found: dict[tuple[str, str], Curve] = {}
    for sparsity, row in sorted(rows, key=lambda entry: entry[0]):
        if row.language == AVERAGE and not row.measure.detail:
            key = (row.task, row.measure.name)
            found.setdefault(key, Curve(row.task, row.measure, [])).points.append((sparsity, row))
    return list(found.values())


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

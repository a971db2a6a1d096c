"""A sweep over sparsities: what each of its figures does as more weights are pruned."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlprune.comparison import Difference
from mlprune.metrics.measure import AVERAGE, Measure
from mlprune.present.rows import title_of
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
        return f"{title_of(self.task, self.measure)}, average"

    @property
    def reference(self) -> Difference:
        """A row that has the dense model's value."""
        return self.points[0][1]


def curves_of(rows: Sequence[tuple[float, Difference]]) -> list[Curve]:
    """Return a curve for each task and measure.

    Args:
        rows: Sparsities and differences.

    Example:
        >>> row = Difference("pruned", "dense", "nli", "average", Measure("f1"), 0.5, 0.25, -0.25, -0.5, -0.1)
        >>> [(curve.task, len(curve.points)) for curve in curves_of([(0.1, row), (0.2, row)])]
        [('nli', 2)]
    """
    found: dict[tuple[str, str], Curve] = {}
    for sparsity, row in sorted(rows, key=lambda entry: entry[0]):
        if row.language == AVERAGE:
            key = (row.task, row.measure.name)
            found.setdefault(key, Curve(row.task, row.measure, [])).points.append((sparsity, row))
    return list(found.values())


def curves_table(curves: Sequence[Curve]) -> Table:
    """Return a table with a line a sparsity and a column a curve; a star where an interval excludes zero.

    Example:
        >>> row = Difference("pruned", "dense", "nli", "average", Measure("f1"), 0.5, 0.25, -0.25, -0.5, -0.1)
        >>> curves_table(curves_of([(0.1, row)])).rows
        [('0 (dense)', '0.500'), ('10', '0.250*')]
    """
    name = curves[0].reference.reference if curves else "dense"
    rows = [(f"0 ({name})", *(curve.measure.text(curve.reference.before) for curve in curves))]
    for sparsity in sorted({sparsity for curve in curves for sparsity, _ in curve.points}):
        cells = []
        for curve in curves:
            own = next((row for level, row in curve.points if level == sparsity), None)
            cells.append("" if own is None else curve.measure.text(own.after) + "*" * own.clear)
        rows.append((f"{100 * sparsity:g}", *cells))
    starred = any(cell.endswith("*") for row in rows for cell in row)
    columns = ("weights pruned, %", *(curve.title for curve in curves))
    return Table("Figures by sparsity", columns, rows, (NOTE,) if starred else ())

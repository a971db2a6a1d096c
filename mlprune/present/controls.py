"""What constants added to the scores of labels do, beside what the second system did."""

from collections.abc import Sequence
from typing import Any

from mlprune.comparison import Difference, read_controls
from mlprune.present.rows import interval_text, language_labels
from mlprune.present.table import Table

HEADS = ("constants minus", "95% CI", "minus constants", "95% CI")
NOTE = (
    "Matched constants give {0} the label shares of {1} on the same rows, without right answers; fitted ones the most "
    "right answers, on other clusters than those they are judged by. A gain of {1} is called a shift of labels "
    "unless it is above {0} with matched constants, pooled and by language."
)


def control_tables(comparison: dict[str, Any]) -> list[Table]:
    """Return a table for each task whose rows share their labels: constants against both systems, by language.

    Args:
        comparison: Content of comparison.json.

    Example:
        >>> from mlprune.comparison.controls import named
        >>> from mlprune.metrics import Measure
        >>> accuracy, name = Measure("accuracy", unit="%", scale=100, digits=1), named("dense", "matched constants")
        >>> gain = Difference(name, "dense", "nli", "fr", accuracy, 0.5, 0.6, 0.1, 0.0, 0.2)
        >>> rest = Difference("pruned", name, "nli", "fr", accuracy, 0.6, 0.55, -0.05, -0.1, 0.0)
        >>> (table,) = control_tables({"controls": [gain.to_json(), rest.to_json()], "constants": []})
        >>> table.title, table.rows[0][:5]
        ('nli: accuracy, %, with constants added to the scores of labels', ('matched constants, French', '50.0', '60.0',
        '55.0', '+10.0'))
    """
    pairs = read_controls(comparison)
    tables = []
    for task, first, second in dict.fromkeys((gain.task, gain.reference, rest.system) for gain, rest in pairs):
        chosen = [pair for pair in pairs if (pair[0].task, pair[0].reference, pair[1].system) == (task, first, second)]
        heads = ("", first, "with constants", second, f"{HEADS[0]} {first}", HEADS[1], f"{second} {HEADS[2]}", HEADS[3])
        title = f"{task}: {chosen[0][0].measure.label}, with constants added to the scores of labels"
        tables.append(Table(title, heads, _lines(chosen), (NOTE.format(first, second),)))
    return tables


def _lines(pairs: Sequence[tuple[Difference, Difference]]) -> list[tuple[str, ...]]:
    pivot = next((gain.pivot for gain, _ in pairs if gain.pivot), None)
    labels = language_labels([gain.language for gain, _ in pairs], pivot)
    return [
        (
            f"{gain.system.removeprefix(gain.reference).removeprefix(' with ')}, {label}",
            *(gain.measure.text(value) for value in (gain.before, gain.after, rest.after)),
            *(cell for row in (gain, rest) for cell in (row.measure.text(row.delta, sign=True), _interval(row))),
        )
        for (gain, rest), label in zip(pairs, labels, strict=True)
    ]


def _interval(row: Difference) -> str:
    return interval_text(row.measure, row.low, row.high, sign=True)

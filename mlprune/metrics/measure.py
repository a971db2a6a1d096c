"""A figure: its measure says how it is displayed, its row holds one value of one system with its interval."""

import math
from dataclasses import dataclass, fields
from typing import Any

from torchmetrics import Metric

AVERAGE, AVERAGE_ALL = "average", "average_all"  # languages of rows: without the pivot, and with it


@dataclass(frozen=True)
class Measure:
    """One number that a metric gives, and how it is displayed.

    Args:
        name: Key of the metric's ``compute``, and ``metric`` of a row.
        title: What tables and charts call it; the name if omitted.
        unit: Unit of what is shown, ``scale`` times the value.
        scale: What a value is multiplied by to be shown.
        digits: Decimal places of what is shown.
        higher_is_better: None where neither is.
        bounds: Smallest and largest possible value, where there is one; intervals are clipped to them.
        chance: Name of the sibling measure that gives chance level; it is shown beside this one, and not compared.
        beside: Name of the sibling measure that headlines name together with this one.
        detail: Files and reports have it, the console does not; it is corrected among details.

    Example:
        >>> Measure("f1", "F1", unit="%", scale=100, digits=1).text(0.5)
        '50.0'
    """

    name: str
    title: str = ""
    unit: str = ""
    scale: float = 1.0
    digits: int = 3
    higher_is_better: bool | None = True
    bounds: tuple[float | None, float | None] = (None, None)
    chance: str | None = None
    beside: str | None = None
    detail: bool = False

    @property
    def label(self) -> str:
        """Title and unit, as the head of a table or an axis."""
        title = self.title or self.name
        return f"{title}, {self.unit}" if self.unit else title

    def text(self, value: float | None, sign: bool = False) -> str:
        """Return a value as it is shown, with its sign if asked for, zero without a minus; empty if there is none."""
        if value is None:
            return ""
        shown = round(self.scale * value, self.digits) + 0.0  # which makes 0.0 of -0.0
        return f"{shown:{'+' if sign else ''}.{self.digits}f}"

    def amount(self, change: float | None, sign: bool = True) -> str:
        """Return a difference between two values as it is said in a sentence.

        Example:
            >>> Measure("f1", unit="%", scale=100, digits=1).amount(0.05), Measure("bits", digits=2).amount(-0.1)
            ('+5.0 points', '-0.10')
        """
        unit = " points" if self.unit == "%" else f" {self.unit}" if self.unit else ""
        return f"{self.text(change, sign)}{unit}"

    def clip(self, low: float, high: float) -> tuple[float, float]:
        """Return an interval of values within the bounds."""
        lowest, highest = self.bounds
        return (low if lowest is None else max(low, lowest)), (high if highest is None else min(high, highest))

    def clip_change(self, low: float, high: float) -> tuple[float, float]:
        """Return an interval of differences between two values, within what the bounds leave."""
        lowest, highest = self.bounds
        if lowest is None or highest is None:
            return low, high
        return max(low, lowest - highest), min(high, highest - lowest)

    def to_json(self) -> dict[str, Any]:
        """Return what rows of results.json and comparison.json carry of their measure."""
        shown = ("title", "unit", "scale", "digits", "higher_is_better", "chance", "beside", "detail")
        return {name: getattr(self, name) for name in shown}


def measures_of(metric: Metric) -> tuple[Measure, ...]:
    """Return the measures a metric declares, or one by its class's name.

    Example:
        >>> from torchmetrics.classification import BinaryF1Score
        >>> measures_of(BinaryF1Score())[0].name, measures_of(BinaryF1Score())[0].higher_is_better
        ('BinaryF1Score', True)
    """
    declared: tuple[Measure, ...] | None = getattr(metric, "measures", None)
    if declared:
        return declared
    return (Measure(type(metric).__name__, higher_is_better=metric.higher_is_better),)


def settled(value: float, *scale: float | None) -> float:
    """Return a value, or 0.0 where it is nothing but the rounding error of a difference.

    Args:
        value: The value.
        scale: What it was computed from.

    Example:
        >>> settled(-5.6e-17), settled(1e-14, 35.2), settled(1e-14)
        (0.0, 0.0, 1e-14)
    """
    error = max(1e-15, *(1e-12 * abs(part) for part in scale if part is not None), 0.0)
    return 0.0 if abs(value) <= error else value


def change(before: float | None, after: float | None) -> float | None:
    """Return the difference of two values; zero where they are equal but for the last bits.

    Example:
        >>> change(0.1 + 0.2, 0.3), change(0.5, 0.75), change(None, 1.0)
        (0.0, 0.25, None)
    """
    return None if before is None or after is None else settled(after - before, before, after)


def read_values(metric: Metric, computed: Any) -> dict[str, float]:
    """Return measure to value of what a metric's ``compute`` returned: a dictionary, or one number.

    Example:
        >>> import torch
        >>> from torchmetrics.classification import BinaryF1Score
        >>> read_values(BinaryF1Score(), torch.tensor(0.5))
        {'BinaryF1Score': 0.5}
    """
    names = [measure.name for measure in measures_of(metric)]
    if not isinstance(computed, dict):
        return {names[0]: float(computed)}
    return {name: float(computed.get(name, math.nan)) for name in names}


@dataclass(frozen=True)
class Figure:
    """One measured number of one system.

    Args:
        system: The evaluated model's name, such as ``dense``.
        task: The task's name.
        language: Code; a pair such as ``en-fr`` where two languages are measured together; ``average`` (without the
            pivot, which is English unless the task says another) or ``average_all``.
        measure: What was measured.
        value: None without examples.
        low: Lower bound of its 95% interval; None where there is none.
        high: Upper bound.
        n: Number of examples.
        clusters: Number of independent groups of them.
        pivot: The language that an average leaves out; None for other rows.

    Example:
        >>> row = Figure("dense", "nli", "fr", Measure("f1"), 0.5, n=4).to_json()
        >>> row["metric"], row["value"], Figure.from_json(row).measure.name
        ('f1', 0.5, 'f1')
    """

    system: str
    task: str
    language: str
    measure: Measure
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    clusters: int | None = None
    pivot: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the row as results.json has it."""
        return row_to_json(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Figure":
        """Return a row of results.json."""
        return cls(**row_from_json(cls, row))


def row_to_json(row: Any) -> dict[str, Any]:
    """Return a row as JSON: its fields, the measure as ``metric`` and how it reads; None for what is not finite."""
    content: dict[str, Any] = {}
    for part in fields(row):
        value = getattr(row, part.name)
        if part.name == "measure":
            content["metric"] = value.name
        else:
            content[part.name] = None if isinstance(value, float) and not math.isfinite(value) else value
    measure: Measure = row.measure
    return content | measure.to_json()


def row_from_json(kind: type, row: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a row from its JSON."""
    shown = {name: row[name] for name in Measure("").to_json() if name in row}
    known = {part.name: row[part.name] for part in fields(kind) if part.name in row}
    return known | {"measure": Measure(str(row["metric"]), **shown)}

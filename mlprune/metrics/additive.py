"""Metrics over records whose value follows from statistics of each: one mechanism for values, intervals and tests.

Statistics are added up (or weighted) over batches, processes, resampled clusters of records, or records swapped between
two systems.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlprune.exact import ExactMetric, accumulator_dtype, column_sums
from mlprune.metrics.measure import Measure

Record = dict[str, Any]
Array = NDArray[np.float64]


class RecordMetric(ExactMetric):
    """A metric over records (lines of a predictions file) that keeps a row of statistics of each.

    Subclasses declare ``measures``. ``answer`` is the key under which a record has what the system answered, if it has
    one; ``given`` are the keys that come with the data, in which two systems' records must agree.
    """

    measures: tuple[Measure, ...] = ()
    answer: str | None = None
    given: tuple[str, ...] = ()
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # kept one by one and summed in sorted order, so that sums have the same bits on any number of processes
        self.add_state("rows", [], dist_reduce_fx="cat")

    def selects(self, record: Any) -> bool:
        """Return whether a record is measured at all; figures count only those that are."""
        return True

    @abstractmethod
    def statistics(self, records: Sequence[Any]) -> Array:
        """Return what each record has, (n, k); of no records (0, k)."""

    def update(self, records: Sequence[Any]) -> None:
        """Add the records that are measured."""
        self.add(self.statistics([record for record in records if self.selects(record)]))

    def add(self, rows: Array) -> None:
        """Add statistics of records, (n, k)."""
        self.rows.append(torch.from_numpy(rows).to(self.device, accumulator_dtype(self.device)))

    def stacked(self) -> Tensor:
        """Return the statistics of all records, (n, k)."""
        rows = self.rows if isinstance(self.rows, list) else [self.rows]  # one tensor after a collective
        return torch.cat([self.empty_state("rows"), *rows])

    def count(self) -> int:
        """Return the number of records."""
        return sum(map(len, self.rows)) if isinstance(self.rows, list) else len(self.rows)

    def empty_state(self, name: str) -> Tensor:
        return torch.from_numpy(self.statistics([])).to(self.device, accumulator_dtype(self.device))


class AdditiveMetric(RecordMetric):
    """A metric over records that says what to add up, and what follows from the sums.

    Subclasses declare ``measures`` and define ``statistics`` and ``values``; see :class:`RecordMetric`.

    Example:
        >>> class MeanLength(AdditiveMetric):
        ...     measures = (Measure("length", "length of answers", unit="characters", higher_is_better=None),)
        ...     answer = "output"
        ...
        ...     def statistics(self, records):
        ...         return np.array([[len(record["output"]), 1.0] for record in records]).reshape(-1, 2)
        ...
        ...     def values(self, sums):
        ...         return {"length": ratio(sums[..., 0], sums[..., 1])}
        >>> metric = MeanLength()
        >>> metric.update([{"output": "yes"}, {"output": "no"}])
        >>> metric.compute()
        {'length': 2.5, 'n': 2}
    """

    @abstractmethod
    def values(self, sums: Array) -> dict[str, Array]:
        """Return measure to value for sums of statistics, (..., k) to (...); NaN where there is none."""

    def interval(self, sums: Array) -> dict[str, tuple[float, float]]:
        """Return measure to 95% interval for independent records, where a formula is better than resampling."""
        return {}

    def paired_p(self, before: Array, after: Array) -> dict[str, float]:
        """Return measure to p value of two systems on the same independent records, where there is an exact test.

        Args:
            before: Statistics of the first system's records, (n, k).
            after: Of the second's.
        """
        return {}

    def flips(self, before: Array, after: Array) -> dict[str, tuple[int, int]]:
        """Return measure to (won, lost), where records are right or wrong: only the second system right, or the first.

        Args:
            before: Statistics of the first system's records, (n, k).
            after: Of the second's.
        """
        return {}

    def sums(self) -> Array:
        """Return the sums of all statistics, (k,)."""
        found: Array = column_sums(self.stacked()).numpy()
        return found

    def compute(self) -> Any:
        """Return measure to value, and ``n``, the number of records; without any ``n`` alone."""
        n = self.count()
        return ({name: float(value) for name, value in self.values(self.sums()).items()} if n else {}) | {"n": n}


class WeightedMetric(RecordMetric):
    """A metric over records whose value does not follow from sums, but can be computed for many weightings at once.

    Subclasses declare ``measures`` and define ``statistics`` and ``weighted``; see :class:`RecordMetric`.
    """

    @abstractmethod
    def weighted(self, rows: Array, weights: Array) -> dict[str, Array]:
        """Return measure to value, (b,), of statistics (n, k) that count so many times, (b, n); NaN where undefined."""

    def compute(self) -> Any:
        """Return measure to value, and ``n``, the number of records; without any ``n`` alone."""
        n = self.count()
        found = self.weighted(self.stacked().double().cpu().numpy(), np.ones((1, n))) if n else {}
        return {name: float(value[0]) for name, value in found.items()} | {"n": n}


class PairMetric(AdditiveMetric):
    """An additive metric over pairs of records: of one example, in two languages."""

    @staticmethod
    def comparable(first: Record, second: Record) -> bool:
        """Return whether two records of one example can be measured together."""
        return True


def ratio(above: Array, below: Array) -> Array:
    """Return a quotient, NaN where the divisor is zero.

    Example:
        >>> ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
        array([0.5, nan])
    """
    quotient: Array = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=np.asarray(below) != 0)
    return quotient

"""Accuracy with its Wilson interval."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from scipy.stats import binomtest

from mlprune.metrics.additive import AdditiveMetric, Array, Record, ratio
from mlprune.metrics.measure import Measure

Z95 = 1.959963984540054


def wilson_interval(correct: float, n: float) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a proportion; it lies in [0, 1] and holds the proportion.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".

    Args:
        correct: Number of successes.
        n: Number of trials, at least 1.

    Example:
        >>> [round(x, 4) for x in wilson_interval(8, 10)]
        [0.4902, 0.9433]
        >>> wilson_interval(0, 9)[0], wilson_interval(9, 9)[1]
        (0.0, 1.0)
    """
    p, z2 = correct / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # by rounding, an end can lie 1e-16 beyond a proportion of 0 or 1
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))


def mcnemar_exact(before: Array, after: Array) -> float:
    """Return the exact two-sided McNemar p value of two systems on the same independent examples.

    It is the sign test of the examples that changed, and thus what swapping the two systems' records example by example
    gives.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages".

    Args:
        before: (n,), 1 where the first system was right, else 0.
        after: (n,), the second.

    Example:
        >>> mcnemar_exact(np.array([1, 1, 0, 0]), np.array([1, 1, 1, 1]))
        0.5
    """
    won, lost = won_and_lost(before, after)
    return 1.0 if lost + won == 0 else float(binomtest(won, lost + won, 0.5).pvalue)


def won_and_lost(before: Array, after: Array) -> tuple[int, int]:
    """Return how many of two systems' answers, each right (1) or wrong (0), only the second has right, and the first.

    Example:
        >>> won_and_lost(np.array([1, 0, 0, 1]), np.array([0, 1, 1, 1]))
        (2, 1)
    """
    return int((before < after).sum()), int((before > after).sum())


class Accuracy(AdditiveMetric):
    """Share of examples answered correctly, with n and a 95% interval.

    Records have ``label`` and ``prediction``, and may have keys that say how they were scored, which are counted.

    Example:
        >>> metric = Accuracy()
        >>> metric.update([{"label": "a", "prediction": answer} for answer in "aab"])
        >>> metric.compute()["accuracy"]
        0.6666666666666666
    """

    counted: ClassVar[dict[str, str]] = {"tokens_cut": "truncated", "joined": "joined"}  # key to count
    measures = (Measure("accuracy", unit="%", scale=100, digits=1, bounds=(0.0, 1.0)),)
    answer = "prediction"
    given = ("label",)
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, k): right, an example, and what is counted."""
        rows = [
            (record["prediction"] == record["label"], 1, *(key in record for key in self.counted)) for record in records
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 2 + len(self.counted))

    def values(self, sums: Array) -> dict[str, Array]:
        return {"accuracy": ratio(sums[..., 0], sums[..., 1])}

    def interval(self, sums: Array) -> dict[str, tuple[float, float]]:
        """Return Wilson's interval."""
        return {"accuracy": wilson_interval(float(sums[0]), float(sums[1]))} if sums[1] else {}

    def paired_p(self, before: Array, after: Array) -> dict[str, float]:
        """Return McNemar's p value."""
        return {"accuracy": mcnemar_exact(before[:, 0], after[:, 0])}

    @staticmethod
    def guessed(record: Record) -> float | None:
        """Return how often guessing among a record's candidates is right; None where it does not say which there are.

        Example:
            >>> Accuracy.guessed({"scores": [-1.0, -2.0, None]}), Accuracy.guessed({})
            (0.5, None)
        """
        scores = [score for score in record.get("scores") or () if score is not None and score == score]
        return 1 / len(scores) if scores else None

    def flips(self, before: Array, after: Array) -> dict[str, tuple[int, int]]:
        """Return how many records were won and lost."""
        return {"accuracy": won_and_lost(before[:, 0], after[:, 0])}

    def compute(self) -> dict[str, Any]:
        """Return ``accuracy``, ``n`` and ``ci95``, and counts that are not 0; no accuracy without examples."""
        found: dict[str, Any] = super().compute()
        sums = self.sums()
        if found["n"]:
            found["ci95"] = list(self.interval(sums)[self.measures[0].name])
        return found | {name: int(count) for name, count in zip(self.counted.values(), sums[2:], strict=True) if count}


class AccuracyIn(Accuracy):
    """Accuracy on the examples of one category, such as a grammatical phenomenon or a subject.

    Records also have ``category``; those of others are passed over.

    Args:
        category: The category.

    Example:
        >>> metric = AccuracyIn("gender")
        >>> answers = [("gender", "good"), ("gender", "bad"), ("case", "bad")]
        >>> metric.update([{"category": own, "label": "good", "prediction": answer} for own, answer in answers])
        >>> metric.compute()["accuracy_gender"], metric.compute()["n"]
        (0.5, 2)
    """

    def __init__(self, category: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.category = category
        (whole,) = Accuracy.measures
        self.measures = (replace(whole, name=f"{whole.name}_{category}", title=f"{whole.name}: {category}"),)

    def selects(self, record: Record) -> bool:
        """Return whether a record is of the category."""
        return record.get("category") == self.category

    def values(self, sums: Array) -> dict[str, Array]:
        return self._named(super().values(sums))

    def interval(self, sums: Array) -> dict[str, tuple[float, float]]:
        """Return Wilson's interval."""
        return self._named(super().interval(sums))

    def paired_p(self, before: Array, after: Array) -> dict[str, float]:
        """Return McNemar's p value."""
        return self._named(super().paired_p(before, after))

    def flips(self, before: Array, after: Array) -> dict[str, tuple[int, int]]:
        """Return how many records were won and lost."""
        return self._named(super().flips(before, after))

    def _named(self, found: dict[str, Any]) -> dict[str, Any]:
        (whole,), (measure,) = Accuracy.measures, self.measures
        return {measure.name if name == whole.name else name: value for name, value in found.items()}

"""The difference between two systems as a row."""

import math
from dataclasses import dataclass
from typing import Any

from scipy import stats

from mlprune.metrics.measure import Measure, row_from_json, row_to_json


@dataclass(frozen=True)
class Difference:
    """One measure of two systems on the same examples.

    Args:
        system: Name of the second system.
        reference: Name of the first.
        task: The task's name.
        language: As in :class:`mlprune.metrics.Figure`.
        measure: What was measured.
        before: The first system's value.
        after: The second's.
        delta: Second minus first.
        low: Lower bound of the 95% interval of ``delta``; None where there is none.
        high: Upper bound.
        p: Two-sided p value, of the hypothesis that the systems are exchangeable.
        p_holm: The same, corrected over the languages of the task and measure, or an average's over all averages.
        n: Number of examples.
        clusters: Number of independent groups of them.
        changed: Share of examples whose answer changed; None if unknown.
        by_chance: Chance level on these examples, if known.
        pivot: The language that an average leaves out; None for other rows.
        won: Number of examples that only the second system has right, where answers are right or wrong.
        lost: Number that only the first has right.

    Example:
        >>> row = Difference("pruned", "dense", "nli", "fr", Measure("f1"), 0.25, 0.5, 0.25)
        >>> Difference.from_json(row.to_json()) == row
        True
        >>> row = Difference("b", "a", "nli", "fr", Measure("f1"), 0.5, 0.51, 0.01, low=-0.01, high=0.03, n=1000)
        >>> round(row.detectable, 4), row.needed  # 2.8 standard errors
        (0.0286, 8167)
    """

    system: str
    reference: str
    task: str
    language: str
    measure: Measure
    before: float | None
    after: float | None
    delta: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    n: int = 0
    clusters: int | None = None
    changed: float | None = None
    by_chance: float | None = None
    pivot: str | None = None
    won: int | None = None
    lost: int | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def detectable(self) -> float | None:
        """The smallest true difference that as many examples would find clear in 80% of cases.

        From the interval's width and the number of clusters. Source: Bloom 1995, "Minimum Detectable Effects".
        """
        if self.low is None or self.high is None or self.high == self.low:
            return None
        t = float(stats.t.ppf(0.975, max((self.clusters or self.n) - 1, 1)))
        return (t + float(stats.norm.ppf(0.8))) * (self.high - self.low) / (2 * t)

    @property
    def needed(self) -> int | None:
        """How many examples of the same kind a true difference of this size needs to be found clear in 80% of cases."""
        if not self.delta or self.detectable is None:
            return None
        return math.ceil(self.n * (self.detectable / self.delta) ** 2)

    def to_json(self) -> dict[str, Any]:
        """Return the row as comparison.json has it."""
        return row_to_json(self) | {"detectable": self.detectable, "needed": self.needed}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Difference":
        """Return a row of comparison.json."""
        return cls(**row_from_json(cls, row))

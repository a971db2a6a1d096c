"""The probability of the right answer: how far a model leans to it, where accuracy only says to which side."""

from collections.abc import Sequence

import numpy as np
import torch

from mlprune.metrics.additive import AdditiveMetric, Array, Record, ratio
from mlprune.metrics.measure import Measure


class RightProbability(AdditiveMetric):
    """Mean probability of the right candidate, the softmax of the scores of all.

    Records have ``scores`` and ``right``, the position of the right candidate. It moves with every margin, so that
    fewer examples tell recipes apart than accuracy needs; its size depends on how scores are normalized.

    Example:
        >>> metric = RightProbability()
        >>> metric.update([{"scores": [np.log(0.75), np.log(0.25)], "right": 0}])
        >>> round(metric.compute()["right_probability"], 3)
        0.75
    """

    measures = (
        Measure(
            "right_probability", "probability of the right answer", unit="%", scale=100, digits=1, bounds=(0.0, 1.0)
        ),
    )
    given = ("right",)

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 2): the probability, an answer."""
        rows = [
            (float(torch.tensor(record["scores"], dtype=torch.float64).softmax(0)[record["right"]]), 1.0)
            for record in records
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    def values(self, sums: Array) -> dict[str, Array]:
        return {"right_probability": ratio(sums[..., 0], sums[..., 1])}

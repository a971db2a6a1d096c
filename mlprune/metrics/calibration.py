"""Whether a model is as sure of its answers as it is right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mlprune.errors import UserError
from mlprune.metrics.additive import AdditiveMetric, Array, Record, ratio
from mlprune.metrics.measure import Measure


class AnswerCalibration(AdditiveMetric):
    """Expected calibration error of answers chosen among candidates, and by how much the best one leads.

    A candidate's probability is the softmax of the scores of all; what its confidence means thus depends on their
    normalization. Confidences are sorted into bins of equal width, and within each the mean confidence is compared with
    the share of right answers. The margin is the best score minus the second, in nats.

    Records have ``scores``, ``label`` and ``prediction``.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".

    Args:
        bins: Number of bins.

    Raises:
        UserError: If there is no bin.

    Example:
        >>> metric = AnswerCalibration()
        >>> sure = {"scores": [np.log(0.9), np.log(0.1)], "prediction": "a"}
        >>> metric.update([sure | {"label": label} for label in "aaab"])
        >>> {name: round(value, 3) for name, value in metric.compute().items()}
        {'calibration_error': 0.15, 'margin': 2.197, 'n': 4}
    """

    measures = (
        Measure(
            "calibration_error",
            "expected calibration error",
            unit="%",
            scale=100,
            digits=1,
            higher_is_better=False,
            bounds=(0.0, 1.0),
        ),
        Measure("margin", "margin of the best candidate", unit="nats", higher_is_better=None, bounds=(0.0, None)),
    )
    answer = "prediction"
    given = ("label",)

    def __init__(self, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if bins < 1:
            raise UserError(f"AnswerCalibration: bins {bins} is not allowed; give at least 1")
        self.bins = bins

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, bins + 2): for each bin confidence less right answers; margin; an answer."""
        rows = np.zeros((len(records), self.bins + 2))
        for row, record in zip(rows, records, strict=True):
            scores = torch.tensor(record["scores"], dtype=torch.float64)
            confidence = float(scores.softmax(0).max())
            place = min(max(int(np.ceil(confidence * self.bins)) - 1, 0), self.bins - 1)
            row[place] = confidence - (record["prediction"] == record["label"])
            row[-2] = float(-scores.topk(2).values.diff()) if len(scores) > 1 else 0.0
            row[-1] = 1
        return rows

    def values(self, sums: Array) -> dict[str, Array]:
        error = np.abs(sums[..., : self.bins]).sum(-1)
        return {"calibration_error": ratio(error, sums[..., -1]), "margin": ratio(sums[..., -2], sums[..., -1])}

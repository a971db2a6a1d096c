"""Accuracy with its Wilson interval."""

import math

import torch
from torch import Tensor

from mlprune.exact import ExactMetric

Z95 = 1.959963984540054


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
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


class Accuracy(ExactMetric):
    """Share of examples answered correctly, with n and a 95% interval.

    Example:
        >>> metric = Accuracy()
        >>> metric.update(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
        >>> metric.compute()["accuracy"]
        0.6666666666666666
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("truncated", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("joined", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, labels: Tensor, truncated: int = 0, joined: int = 0) -> None:
        """Add examples: predicted and right classes, both int64 (n,).

        Args:
            predictions: Predicted classes.
            labels: Right classes.
            truncated: How many of them had tokens cut off.
            joined: How many of them had a token that spans question and answer.
        """
        self.truncated += truncated
        self.joined += joined
        self.correct += (predictions == labels).sum()
        self.n += labels.numel()

    def compute(self) -> dict[str, float | int | list[float]]:
        """Return ``accuracy``, ``n``, ``ci95``, ``truncated`` and ``joined`` if any; only n without examples."""
        n, correct = int(self.n), int(self.correct)
        if n == 0:
            return {"n": 0}
        figures = {"accuracy": correct / n, "n": n, "ci95": list(wilson_interval(correct, n))}
        counts = {"truncated": int(self.truncated), "joined": int(self.joined)}
        return figures | {name: count for name, count in counts.items() if count}

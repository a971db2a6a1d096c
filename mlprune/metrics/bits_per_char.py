"""Language modelling quality, comparable between languages with different tokenizations."""

import math

import torch
from torch import Tensor
from torchmetrics.utilities.data import dim_zero_cat

from mlprune.exact import ExactMetric


class BitsPerChar(ExactMetric):
    """Bits the model needs for a character of text, on average; lower is better.

    Example:
        >>> metric = BitsPerChar()
        >>> metric.update(torch.tensor([-math.log(2) * 10]), torch.tensor([5]))
        >>> metric.compute()
        {'bits_per_char': 2.0, 'n': 1}
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_state("log_probs", [torch.zeros(0, dtype=torch.float64)], dist_reduce_fx="cat")
        self.add_state("chars", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, log_probs: Tensor, chars: Tensor) -> None:
        """Add texts: natural log-probability of each, (n,), and its number of characters, int64 (n,)."""
        self.log_probs.append(log_probs.double().to(self.device))
        self.chars += chars.sum()

    def compute(self) -> dict[str, float | int]:
        """Return ``bits_per_char`` and ``n``, the number of texts."""
        values = dim_zero_cat(self.log_probs)
        if not len(values):
            return {"n": 0}
        return {"bits_per_char": float(-values.sort().values.sum() / math.log(2) / self.chars), "n": len(values)}

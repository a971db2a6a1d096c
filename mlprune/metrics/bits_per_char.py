"""Language modelling quality, comparable between languages with different tokenizations."""

import math

import torch
from torch import Tensor

from mlprune.errors import NOT_FINITE, UserError
from mlprune.exact import ExactMetric


class BitsPerChar(ExactMetric):
    """Bits the model needs for a character of text, on average; lower is better.

    Example:
        >>> metric = BitsPerChar()
        >>> metric.update(torch.tensor([-math.log(2) * 10], dtype=torch.float64), torch.tensor([5]))
        >>> metric.compute()
        {'bits_per_char': 2.0, 'n': 1}
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_state("log_probs", [], dist_reduce_fx="cat")
        self.add_state("n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("chars", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, log_probs: Tensor, chars: Tensor) -> None:
        """Add texts: natural log-probability of each, (n,), and its number of characters, int64 (n,).

        Raises:
            UserError: If a log-probability is not finite.
        """
        if not torch.isfinite(log_probs).all():
            raise UserError(f"log-probabilities of texts are not finite; {NOT_FINITE}")
        self.log_probs.append(log_probs.double().to(self.device))
        self.chars += chars.sum()
        self.n += len(chars)

    def compute(self) -> dict[str, float | int]:
        """Return ``bits_per_char`` and ``n``, the number of texts."""
        if int(self.n) == 0:
            return {"n": 0}
        bits = -float(self.exact_sum("log_probs")) / math.log(2)
        return {"bits_per_char": bits / int(self.chars), "n": int(self.n)}

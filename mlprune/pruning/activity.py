"""Activation probability: how often an input of a layer is active, as a statistic that scores can ask for.

Shapes: x (tokens, in_features); probability (in_features,).
"""

from dataclasses import dataclass
from functools import cache, partial

from torch import Tensor
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.pruning.statistics import Statistic
from mlprune.pruning.sums import count_above


@dataclass(frozen=True)
class ActivationProbability(Statistic):
    """Share of tokens at which an input is above a threshold; :func:`activation_probability` makes one."""

    @override
    def energy(self, mean: Tensor) -> Tensor:
        raise UserError(f"{self.name} have no energies; gather both with joined(ENERGY, ...)")

    @override
    def includes(self, wanted: Statistic) -> bool:
        return wanted == self


@cache
def activation_probability(threshold: float = 0.0, absolute: bool = False) -> Statistic:
    """Return the statistic of the share of tokens at which each input is above a threshold.

    With energies beside it a score is a few lines, here of inputs that are active in every language alike:

    Args:
        threshold: What an input must exceed.
        absolute: Whether its sign does not matter.

    Example:
        >>> import torch
        >>> from mlprune.pruning import ENERGY, Importance, joined
        >>> active = activation_probability()
        >>> class Steady(Importance):
        ...     needs = joined(ENERGY, active)
        ...     def score(self, weight, statistics, path):
        ...         spread = statistics.energies().variance().sqrt()
        ...         return weight.abs() * statistics.part(active).pooled() / (1 + spread)
        >>> active.total(torch.tensor([[1.0, -2.0], [3.0, 4.0]]), None)  # a sum; the mean over tokens is what is kept
        tensor([2., 1.], dtype=torch.float64)
    """
    what = f"activation probabilities above {threshold:g}" + (" in absolute value" if absolute else "")
    return ActivationProbability(what, partial(count_above, threshold, absolute), 1, is_stored=False)

"""FLAP: how much inputs fluctuate, for removing heads and units whose outputs a constant can stand in for.

Shapes: weight (out_features, in_features); moments (2, in_features).
"""

from typing import Any, get_args

from torch import Tensor
from typing_extensions import override

from mlprune.pruning.importance import Importance, magnitudes
from mlprune.pruning.moments import TOKEN_MOMENTS, variance_of
from mlprune.pruning.statistics import LayerStatistics, Pool


class FLAP(Importance):
    """Weight magnitude times how much the input fluctuates: ``|W| * sqrt(variance over tokens)``.

    Of a unit: the variance of the input times the squared norm of its column; of a head: the mean of the squares of its
    inputs' (WIFV). What is removed can be replaced by its mean, in a bias.

    Source: An et al. 2024, "Fluctuation-based Adaptive Structured Pruning for Large Language Models" (AAAI, arXiv
    2312.11983), and CASIA-LMC-Lab/FLAP, ``lib/prune.py: prune_flap``, which squares the metric of attention. Its
    running variance takes the new mean for the old one and leaves out the first sample; here it is the variance over
    all tokens. Cost: one forward pass.

    Args:
        options: ``group`` or ``groups``, and ``pool``, see :class:`Importance`.

    Example:
        >>> import torch
        >>> moments = {"mt": torch.tensor([[5.0, 4.0], [1.0, 2.0]])}
        >>> seen = LayerStatistics(moments, {"mt": torch.tensor(9)}, TOKEN_MOMENTS)
        >>> FLAP().score(torch.tensor([[-1.0, 3.0]]), seen, "fc")  # variances 4 and 0
        tensor([[2., 0.]])
    """

    needs = TOKEN_MOMENTS
    pools: tuple[Pool, ...] = get_args(Pool)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        assert statistics is not None
        return magnitudes(weight).mul_(_variance(self.seen(statistics)).float().sqrt())

    @override
    def grouped(self, scores: Tensor, size: int) -> Tensor:
        fluctuation = scores.square().sum(0)
        if size == 1:
            return fluctuation
        return fluctuation.square().reshape(-1, size).mean(1)


def _variance(statistics: LayerStatistics) -> Tensor:
    """The variance over the tokens of all groups, or one variance of those of the groups."""
    moments = statistics.part(TOKEN_MOMENTS)
    if moments.pool == "tokens":
        return variance_of(moments.pooled())
    variances = {group: variance_of(mean) for group, mean in moments.means.items()}
    return LayerStatistics(variances, moments.tokens, pool=moments.pool).pooled()

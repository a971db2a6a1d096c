"""Wanda++'s regional gradient score: what the norm of a block's own output depends on."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.pruning.gradients import add_gradients, gradient_moments
from mlprune.pruning.importance import Importance
from mlprune.pruning.statistics import LayerStatistics, Statistic


class RegionalGradient(Importance):
    """Wanda plus the gradient of the block's own output norm: ``|W| * (norm + alpha * G)``.

    For each prompt alone, ``norm`` is the input's norm over its tokens and ``G`` the gradient of ``||block(x)||_2`` by
    the weight; both are root mean squares over prompts. No labels, and no graph longer than a block. Source: Yang et
    al. 2025, "Wanda++: Pruning Large Language Models via Regional Gradients" (arXiv 2503.04992), the score without the
    paper's regional optimizer, which changes weights.

    Cost: a backward pass through each block for each prompt, prompts one by one, and for each group a float64 number a
    weight of one block. The authors published no code. An unofficial one adds the unstructured score up over rows, so
    that it prunes whole columns (here every row has its own); torchao's prototype takes the mean of ``|g|`` for ``G``.

    Args:
        alpha: How much the gradient counts; 100 in the paper.
        options: ``group`` or ``groups``, see :class:`mlprune.pruning.Importance`.

    Raises:
        UserError: If alpha is negative.

    Example:
        >>> import torch
        >>> from mlprune.pruning import LayerStatistics
        >>> score = RegionalGradient(alpha=10)
        >>> moments = torch.tensor([[4.0, 9.0], [1.0, 1.0], [0.0, 0.25]])  # one prompt of one token, |g| = 0 and 0.5
        >>> seen = LayerStatistics({"mt": moments}, {"mt": torch.tensor(1)}, score.needs)
        >>> score.score(torch.tensor([[-1.0, 2.0]]), seen, "fc")
        tensor([[ 2., 16.]])
    """

    pools = ("tokens",)  # gradients are counted by prompt

    def __init__(self, alpha: float = 100.0, **options: Any) -> None:
        super().__init__(**options)
        if alpha < 0:
            raise UserError(f"RegionalGradient: alpha {alpha} is not allowed; give 0 or more")
        self.alpha = alpha
        self.needs: Statistic = gradient_moments()

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        return add_gradients(weight, statistics, self.needs, self.alpha)

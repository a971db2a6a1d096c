"""ADMM: mask and weights of a layer by the alternating direction method of multipliers, the mask growing step by step.

Shapes: W, U, scores (out_features, in_features); H (in_features, in_features).
"""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.pruning.gram import normalized, restored
from mlprune.pruning.importance import Decision, Importance
from mlprune.pruning.patterns import NofM, Pattern, Unstructured, keep_highest
from mlprune.pruning.statistics import GRAM, LayerStatistics

PENALTY = 1.0  # rho


class ADMM(Importance):
    """Least damage to the layer's output: a mask that grows sparser by a cubic schedule, and weights that follow it.

    The Gram matrix ``H`` and the weights are scaled so that every input has norm 1. Each iteration prunes the lowest
    ``|W + U|`` (in the first ``schedule`` iterations the sparsity rises to the final one; then the mask is fixed), adds
    what pruning changed to the multipliers ``U``, and solves ``(H + rho) W = H W_dense + rho (Z - U)`` for the weights,
    ``Z`` being the pruned ``W + U``. N:M: the ``n`` highest of every ``m`` are safe, and the schedule's share of the
    layer goes among the others. Source: Boža 2024, "Fast and Effective Weight Update for Pruned Large Language Models"
    (arXiv 2401.02938).

    Cost: Gram matrices, as SparseGPT; one factorization a layer and ``iterations`` products of an (out, in) and an
    (in, in) matrix. The published code ignores its schedule where one threshold holds for the whole layer, has 2:4 as
    its only N:M, and keeps more weights than it should where scores are equal; none of this is done here.

    Args:
        iterations: Iterations in all.
        schedule: In how many of them the mask changes.
        damping: Share of the mean diagonal that is added to the diagonal.
        published: Prune to the final sparsity from the first iteration on with ``Unstructured(scope="layer")``, as the
            published code does, to reproduce its masks.
        options: ``group`` or ``groups``, and ``pool``, see :class:`mlprune.pruning.Importance`.

    Raises:
        UserError: If an argument is out of range.

    Example:
        >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> stats = LayerStatistics({"mt": gram}, {"mt": torch.tensor(9)})
        >>> ADMM(damping=0).decide(torch.tensor([[1.0, 2.0]]), stats, "fc", Unstructured(0.5), 0.5).weight
        tensor([[0.0000, 2.5019]])
    """

    needs = GRAM
    lowest_only = True
    has_fixed_scores = False
    pools = ("tokens", "mean")  # the largest of several matrices is none

    def __init__(
        self,
        iterations: int = 20,
        schedule: int = 15,
        damping: float = 0.1,
        published: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 1 <= schedule <= iterations or damping < 0:
            raise UserError(
                f"ADMM: iterations {iterations}, schedule {schedule}, damping {damping} not allowed; "
                "give 1 <= schedule <= iterations, damping >= 0"
            )
        self.iterations = iterations
        self.schedule = schedule
        self.damping = damping
        self.published = published

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        """Return the scores of the first iteration, before any weight was adjusted."""
        assert statistics is not None
        return (weight.float() * normalized(self.seen(statistics).pooled())[1]).abs()

    @override
    def decide(
        self, weight: Tensor, statistics: LayerStatistics | None, path: str, pattern: Pattern, sparsity: float
    ) -> Decision:
        assert statistics is not None
        gram, norms = normalized(self.seen(statistics).pooled())
        gram.diagonal().add_(self.damping * gram.diagonal().mean())
        left = weight.float() * norms
        mask = pattern.mask(left.abs(), sparsity)
        if bool(mask.all()):
            return Decision(mask, left.abs())
        fitted = left @ gram.float()  # W_dense H; H is symmetric
        gram.diagonal().add_(PENALTY)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram)).float()
        multipliers = torch.zeros_like(left)
        for iteration in range(self.iterations):
            total = left + multipliers
            if iteration < self.schedule:
                mask = self._mask(total.abs(), pattern, sparsity, iteration)
            kept = total * mask
            multipliers = total - kept
            left = (fitted + PENALTY * (kept - multipliers)) @ inverse
        total = left + multipliers
        return Decision(mask, total.abs(), restored(total, norms, mask, weight.dtype))

    def _mask(self, scores: Tensor, pattern: Pattern, sparsity: float, iteration: int) -> Tensor:
        """The mask of one iteration: the sparsity rises by a cubic schedule."""
        if iteration == self.schedule - 1:
            return pattern.mask(scores, sparsity)
        reached = sparsity - sparsity * (1 - (iteration + 1) / self.schedule) ** 3
        if isinstance(pattern, NofM):
            unsafe = scores.masked_fill(pattern.mask(scores, sparsity), float("inf"))
            return keep_highest(unsafe.reshape(1, -1), int(scores.numel() * reached)).reshape(scores.shape)
        whole_layer = isinstance(pattern, Unstructured) and pattern.scope == "layer"
        return pattern.mask(scores, sparsity if self.published and whole_layer else reached)

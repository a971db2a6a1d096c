"""ALPS: mask and weights of a layer by ADMM with a growing penalty, then conjugate gradients on the kept weights.

Shapes: W, B, D, V, scores (out_features, in_features); H (in_features, in_features).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.pruning.gram import normalized, restored
from mlprune.pruning.importance import Decision, Importance
from mlprune.pruning.patterns import Pattern
from mlprune.pruning.statistics import GRAM, LayerStatistics

FIRST_STOP = 30  # iterations before the search may end because hardly any weight changes sides
LARGEST_PENALTY = 1e6
GRADIENT_STEPS = 10
TOLERANCE = 1e-4  # of the conjugate gradients


class ALPS(Importance):
    """Least damage to the layer's output: the mask is searched together with the weights that remain.

    With ``H`` the damped Gram matrix of the inputs, scaled to a diagonal of 1, each iteration solves
    ``(H + rho) B = H W - V + rho D`` for the weights, prunes ``B + V / rho`` to ``D``, the highest squares being kept,
    and moves the multipliers by ``V += rho (B - D)``. Every third iteration the penalty ``rho`` follows how many
    weights changed sides; the search ends when none or few do. Ten steps of conjugate gradients then fit the kept
    weights. Source: Meng et al. 2024, "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large
    Language Models" (arXiv 2406.07831), with the constants of its code.

    Cost: Gram matrices, as SparseGPT; one eigendecomposition a layer, at most ``iterations`` products of an (out, in)
    and an (in, in) matrix (often 30 to 100), and an inverse from the eigenvectors each time the penalty changed.

    Args:
        damping: Share of the mean diagonal that is added to the diagonal.
        penalty: The first ``rho``.
        iterations: The most iterations of the search.
        options: ``group`` or ``groups``, and ``pool``, see :class:`mlprune.pruning.Importance`.

    Raises:
        UserError: If an argument is out of range.

    Example:
        >>> from mlprune.pruning import Unstructured
        >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> stats = LayerStatistics({"mt": gram}, {"mt": torch.tensor(9)})
        >>> ALPS(damping=0).decide(torch.tensor([[1.0, 2.0]]), stats, "fc", Unstructured(0.5), 0.5).weight
        tensor([[0.0000, 2.5000]])
    """

    needs = GRAM
    lowest_only = True
    has_fixed_scores = False
    pools = ("tokens", "mean")  # the largest of several matrices is none

    def __init__(self, damping: float = 0.01, penalty: float = 0.1, iterations: int = 300, **options: Any) -> None:
        super().__init__(**options)
        if damping < 0 or penalty <= 0 or iterations < 1:
            raise UserError(
                f"ALPS: damping {damping}, penalty {penalty}, iterations {iterations} not allowed; "
                "give damping >= 0, penalty > 0, iterations >= 1"
            )
        self.damping = damping
        self.penalty = penalty
        self.iterations = iterations

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        """Return the scores before any weight was adjusted."""
        assert statistics is not None
        return (weight.float() * normalized(self.seen(statistics).pooled(), self.damping)[1]).square()

    @override
    def decide(
        self, weight: Tensor, statistics: LayerStatistics | None, path: str, pattern: Pattern, sparsity: float
    ) -> Decision:
        assert statistics is not None
        gram, norms = normalized(self.seen(statistics).pooled(), self.damping)
        dense = weight.float() * norms
        mask = pattern.mask(dense.square(), sparsity)
        if bool(mask.all()):
            return Decision(mask, dense.square())
        found = _Search(gram, dense, pattern, sparsity).run(self.penalty, self.iterations)
        scores = found.square()
        mask = pattern.mask(scores, sparsity)
        fitted = fit_kept(gram.float(), dense, found * mask, mask)
        return Decision(mask, scores, restored(fitted, norms, mask, weight.dtype))


class _Search:
    """The search for the mask of one layer.

    Args:
        gram: H, in the most exact dtype.
        dense: The dense weights, float32, scaled like H.
        pattern: Chooses masks.
        sparsity: As the pattern takes it.
    """

    def __init__(self, gram: Tensor, dense: Tensor, pattern: Pattern, sparsity: float) -> None:
        self.values, self.vectors = torch.linalg.eigh(gram)
        self.dense = dense
        self.products = dense @ gram.float()  # H W; H is symmetric
        self.pattern = pattern
        self.sparsity = sparsity

    def run(self, penalty: float, iterations: int) -> Tensor:
        """Return the weights at the search's end, scaled and not pruned yet."""
        penalties = _Penalty(penalty)
        mask = start = self._mask(self.dense)
        weights, pruned, multipliers = self.dense, self.dense * start, torch.zeros_like(self.dense)
        inverse, num_kept = self._inverse(penalties.value), max(int(start.sum()), 1)
        for iteration in range(iterations):
            rho = penalties.value
            weights = (self.products - multipliers).add_(pruned, alpha=rho) @ inverse
            target = weights.add(multipliers, alpha=1 / rho)
            support = self._mask(target)
            pruned = target * support
            multipliers.add_(weights - pruned, alpha=rho)
            if (iteration + 1) % 3:
                continue
            changed = int(torch.count_nonzero(support != mask))
            mask = support
            step = penalties.follow(changed, num_kept)
            if step == "stop":
                break
            if step == "restart":
                weights, pruned, multipliers = self.dense, self.dense * start, torch.zeros_like(self.dense)
            if iteration >= FIRST_STOP and changed / num_kept < 0.0003:
                break
            if penalties.value != rho:
                inverse = self._inverse(penalties.value)
        return weights

    def _mask(self, weights: Tensor) -> Tensor:
        return self.pattern.mask(weights.square(), self.sparsity)

    def _inverse(self, penalty: float) -> Tensor:
        inverse: Tensor = (self.vectors / (self.values + penalty)) @ self.vectors.T
        return inverse.float()


@dataclass
class _Penalty:
    """The penalty and how it follows the number of weights that changed sides.

    Args:
        value: rho.
        has_grown: Whether it ever was too small; before that, it is lowered where few weights change.
    """

    value: float
    has_grown: bool = False

    def follow(self, changed: int, num_kept: int) -> str:
        """Adjust the penalty, and tell whether to ``continue``, ``restart`` or ``stop`` the search."""
        share = changed / num_kept
        step = "continue"
        if share > 0.005:
            self.has_grown = True
            self.value *= 1.3 if share > 0.1 else 1.2
        elif self.has_grown:
            self.value *= 1.1
            step = "continue" if changed else "stop"
        else:
            self.value /= 5
            step = "restart" if changed else "continue"
        self.value = min(self.value, LARGEST_PENALTY)
        return step


def fit_kept(gram: Tensor, dense: Tensor, start: Tensor, mask: Tensor) -> Tensor:
    """Improve the kept weights of every row by some steps of conjugate gradients on the layer's output error.

    Args:
        gram: H, (in_features, in_features).
        dense: Weights whose outputs are to be met, (out_features, in_features).
        start: Where to start, zero where pruned.
        mask: bool, True = kept.

    Returns:
        (out_features, in_features), zero where pruned.

    Example:
        >>> gram, dense = torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([[1.0, 2.0]])
        >>> fit_kept(gram, dense, torch.tensor([[0.0, 2.0]]), torch.tensor([[False, True]]))
        tensor([[0.0000, 2.5000]])
    """
    weights, wanted = start, dense @ gram
    gradient = wanted - weights @ gram  # of all weights: it says when the outputs agree
    residual = gradient * mask
    direction, norm = residual, residual.square().sum(-1, keepdim=True)
    limit = TOLERANCE * wanted.norm(dim=0)
    for _ in range(GRADIENT_STEPS):
        product = direction @ gram
        curvature = (direction * product).sum(-1, keepdim=True)
        length = norm / curvature.masked_fill(curvature == 0, 1)
        weights = weights + length * direction
        gradient = gradient - length * product
        if bool((gradient.norm(dim=0) <= limit).all()):
            break
        residual = gradient * mask
        last, norm = norm, residual.square().sum(-1, keepdim=True)
        direction = residual + norm / last.masked_fill(last == 0, 1) * direction
    return weights

"""REAP scores: what each expert of a mixture adds to the tokens that are routed to it.

Shapes: E experts, n tokens, k experts of each; scores (E, 1).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mlprune.errors import UserError
from mlprune.exact import accumulator_dtype
from mlprune.models.mixtures import Mixture
from mlprune.pruning.statistics import LayerStatistics, TokenMean, check_finite


class ExpertScores:
    """Scores of one mixture's experts by group: the mean over its tokens of ``gate * ||expert(x)||_2``.

    Source: Lasby et al. 2025, "REAP the Experts: Why Pruning Prevails for One-Shot MoE Compression" (arXiv 2510.13999).
    Cost: every routed expert is computed once more for each token.

    Args:
        mixture: The mixture.
        groups: Names of all groups, the same on every process.
        device: Where it is computed.
    """

    def __init__(self, mixture: Mixture, groups: Sequence[str], device: torch.device) -> None:
        self.mixture = mixture
        self.means = {group: TokenMean((1,), device, mixture.num_experts) for group in groups}
        self._is_inside = False

    @contextmanager
    def observing(self, group: str) -> Iterator[None]:
        """While open, every forward through the mixture adds its tokens to a group."""

        def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not self._is_inside:
                self._is_inside = True
                try:
                    self._add(group, *_routed(self.mixture, (*args, *kwargs.values())))
                finally:
                    self._is_inside = False

        handle = self.mixture.experts.register_forward_pre_hook(look, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _add(self, group: str, x: Tensor, experts: Tensor, weights: Tensor) -> None:
        exact = accumulator_dtype(x.device)
        for expert in experts.unique().tolist():
            rows, place = (experts == expert).nonzero(as_tuple=True)
            alone = experts.new_full((len(rows), 1), expert)
            output = self.mixture.experts(x[rows], alone, torch.ones_like(weights[rows, :1]))
            added = weights[rows, place].to(exact) * output.to(exact).norm(dim=-1)
            self.means[group].update(added.sum().reshape(1), len(rows), expert)

    def result(self) -> LayerStatistics:
        """Return the scores, summed over processes (a collective)."""
        found = {group: mean.result() for group, mean in self.means.items()}
        for group, (mean, _) in found.items():
            check_finite(self.mixture.path, group, mean)
        return LayerStatistics(
            {group: m for group, (m, _) in found.items()}, {group: t for group, (_, t) in found.items()}
        )


def _routed(mixture: Mixture, values: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (n, features), the experts of each (n, k), and their weights (n, k)."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) == 3 and tensors[1].shape == tensors[2].shape and not tensors[1].is_floating_point():
        x, experts, weights = tensors
        if x.dim() == experts.dim() == 2 and len(x) == len(experts):
            return x, experts, weights
    raise UserError(
        f"'{mixture.path}' is not called with tokens, their experts and the experts' weights; it stays whole"
    )

"""DSnoT: swap kept and pruned weights after any first mask, until each output row's expected error is small.

Shapes: W, contributions (out_features, in_features); moments (4, in_features); errors (out_features,).
"""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.pruning.chunks import chunk_rows
from mlprune.pruning.importance import Decision, Importance, Wanda
from mlprune.pruning.moments import PROMPT_MOMENTS, joined, sum_and_variance
from mlprune.pruning.patterns import CHUNK_SCORES, NofM, Pattern, Unstructured
from mlprune.pruning.statistics import SMALLEST, LayerStatistics
from mlprune.pruning.swaps import GroupSwaps, SignSwaps, Swaps


class DSnoT(Importance):
    """Moves the mask of another method, without new weights, so that what was pruned cancels out.

    A weight contributes ``M = W * s`` to its output, ``s`` being its input's sum over a prompt's tokens (mean over
    prompts), and a row's error is the sum of ``M`` over its pruned weights. As long as ``|error|`` exceeds
    ``threshold``, a row regrows the pruned weight with the largest (error > 0) or smallest (error < 0)
    ``M / variance ** power`` and prunes instead, among the kept weights whose ``M`` has the other sign, the one with
    the lowest Wanda score. With N:M that is the lowest of the regrown weight's own group, and a row stops before its
    error would change its sign. No weight moves twice. The variance is that within a prompt, its mean over prompts.
    Source: Zhang et al. 2024, "Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs"
    (arXiv 2310.08915).

    Cost: three more numbers an input than Wanda, and three sorts of every row. The published code refines attention
    only by default (here all layers are refined), loses sparsity in rows whose candidates run out (here such a row
    stops), and cannot start from SparseGPT (here it starts from its mask, with the dense weights).

    Args:
        first: Gives the mask to start from; Wanda if omitted. Weights that it changes are not used.
        cycles: The most swaps in a row.
        threshold: Error at which a row is left alone. It is per prompt, so it means less for longer prompts.
        power: How much the variance counts.
        same_sign: Stop a row before its error would change its sign; with N:M that is always so.
        options: ``group`` or ``groups``, see :class:`mlprune.pruning.Importance`; those of ``first`` if omitted. Only
            ``first`` takes another ``pool``.

    Raises:
        UserError: If an argument is out of range.

    Example:
        >>> from mlprune.pruning.moments import PROMPT_MOMENTS
        >>> x = torch.tensor([[1.0, 0.0, -3.0, 5.0], [2.0, 1.0, 2.0, 5.0]])  # one prompt of two tokens
        >>> stats = LayerStatistics({"mt": PROMPT_MOMENTS.total(x, None) / 2}, {"mt": torch.tensor(2)}, PROMPT_MOMENTS)
        >>> weight = torch.tensor([[1.0, 1.0, 1.0, 1.0]])  # contributions 3, 1, -1, 10
        >>> Wanda().decide(weight, stats, "fc", Unstructured(0.5), 0.5).mask  # an error of 4
        tensor([[False, False,  True,  True]])
        >>> DSnoT().decide(weight, stats, "fc", Unstructured(0.5), 0.5).mask  # an error of 0
        tensor([[ True, False, False,  True]])
    """

    lowest_only = True
    pools = ("tokens",)  # sums and variances of prompts belong together

    def __init__(
        self,
        first: Importance | None = None,
        cycles: int = 50,
        threshold: float = 0.1,
        power: float = 1.0,
        same_sign: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if cycles < 0 or threshold < 0 or power < 0:
            raise UserError(
                f"DSnoT: cycles {cycles}, threshold {threshold}, power {power} not allowed; give 0 or more for each"
            )
        self.first = first or Wanda()
        self.cycles = cycles
        self.threshold = threshold
        self.power = power
        self.same_sign = same_sign
        if self.groups and self.first.groups not in ((), self.groups):
            raise UserError(
                f"DSnoT: groups {self.groups}, but those of first are {self.first.groups}; give one of them"
            )
        self.groups = self.groups or self.first.groups
        needed = self.first.needs
        self.needs = (
            PROMPT_MOMENTS if needed is None or PROMPT_MOMENTS.includes(needed) else joined(PROMPT_MOMENTS, needed)
        )

    @property
    @override
    def has_fixed_scores(self) -> bool:
        return self.first.has_fixed_scores

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        """Return the scores of the first method."""
        return self.first.score(weight, self._for_first(statistics), path)

    @override
    def check_pattern(self, pattern: Pattern) -> None:
        self.first.check_pattern(pattern)
        super().check_pattern(pattern)
        if not isinstance(pattern, Unstructured | NofM):
            name = type(pattern).__name__
            raise UserError(f"DSnoT swaps weights of a row or a group; use it with Unstructured or NofM, not {name}")

    @override
    def decide(
        self, weight: Tensor, statistics: LayerStatistics | None, path: str, pattern: Pattern, sparsity: float
    ) -> Decision:
        assert statistics is not None
        decision = self.first.decide(weight, self._for_first(statistics), path, pattern, sparsity)
        moments = statistics.part(PROMPT_MOMENTS).pooled()
        size = chunk_rows(weight, CHUNK_SCORES)  # rows at a time: they do not depend on each other
        masks = [
            self._refined(mask, rows, moments, Wanda().score(rows, statistics, path), pattern)
            for mask, rows in zip(decision.mask.split(size), weight.split(size), strict=True)
        ]
        return Decision(torch.cat(masks), decision.scores)

    def _for_first(self, statistics: LayerStatistics | None) -> LayerStatistics | None:
        if statistics is None or self.first.needs is None:
            return None
        return self.first.seen(statistics.part(self.first.needs))

    def _refined(self, mask: Tensor, weight: Tensor, moments: Tensor, wanda: Tensor, pattern: Pattern) -> Tensor:
        """The mask of some rows after all swaps."""
        total, variance = sum_and_variance(moments)
        contributions = weight.to(moments.dtype) * total
        growth = contributions / variance.clamp(min=SMALLEST) ** self.power
        growth = growth.nan_to_num(nan=0.0)  # infinity for the largest number
        if isinstance(pattern, NofM):
            swaps: Swaps = GroupSwaps(mask, contributions, growth, wanda, pattern.of)
        else:
            swaps = SignSwaps(mask, contributions, growth, wanda)
        return swaps.run(self.cycles, self.threshold, self.same_sign or isinstance(pattern, NofM))

"""Swaps of kept and pruned weights, in all rows at once: what to regrow, and what to prune for it.

Shapes: mask, contributions, growth, costs (rows, in_features); errors and everything else by row (rows,).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override


class Swaps(ABC):
    """Regrows pruned weights, in the order of their growth, and prunes others; no weight moves twice.

    Args:
        mask: bool, True = kept.
        contributions: What each weight adds to its row's output; a row's error sums those of its pruned weights.
        growth: Regrown first is the highest while the error is above zero, else the lowest.
    """

    def __init__(self, mask: Tensor, contributions: Tensor, growth: Tensor) -> None:
        self.mask = mask.clone()
        self.contributions = contributions
        self.errors = contributions.masked_fill(mask, 0).sum(1)
        self.active = torch.ones_like(self.errors, dtype=torch.bool)
        self._order, self._num_pruned = ascending(growth, ~mask)
        self._low = torch.zeros_like(self._num_pruned)
        self._high = torch.zeros_like(self._num_pruned)

    @abstractmethod
    def to_prune(self, positive: Tensor, regrown: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each row the input whose weight is pruned next, and whether there is one.

        Args:
            positive: Whether the row's error is above zero.
            regrown: The input whose weight is regrown.
        """

    @abstractmethod
    def was_pruned(self, rows: Tensor, inputs: Tensor, positive: Tensor) -> None:
        """Remember the weights that were pruned.

        Args:
            rows: Positions of the rows.
            inputs: The input whose weight was pruned, one a row.
            positive: Whether the row's error was above zero.
        """

    def run(self, cycles: int, threshold: float, same_sign: bool) -> Tensor:
        """Swap in each row until its error is within the threshold or nothing is left to swap, and return the mask.

        Args:
            cycles: The most swaps in a row.
            threshold: Largest error at which a row stops.
            same_sign: Stop a row before its error would change its sign.
        """
        for _ in range(cycles):
            self.active &= self.errors.abs() > threshold
            if not bool(self.active.any()):
                break
            self._swap(same_sign)
        return self.mask

    def _swap(self, same_sign: bool) -> None:
        positive = self.errors > 0
        place = torch.where(positive, self._num_pruned - 1 - self._high, self._low)
        regrown = at(self._order, place.clamp(0, self.mask.shape[1] - 1))
        pruned, is_left = self.to_prune(positive, regrown)
        after = self.errors + at(self.contributions, pruned) - at(self.contributions, regrown)
        self.active &= is_left & (self._low + self._high < self._num_pruned)
        if same_sign:
            self.active &= after.sign() == self.errors.sign()
        self.errors = torch.where(self.active, after, self.errors)
        rows = self.active.nonzero().flatten()
        self.mask[rows, regrown[rows]] = True
        self.mask[rows, pruned[rows]] = False
        self._high += self.active & positive
        self._low += self.active & ~positive
        self.was_pruned(rows, pruned[rows], positive[rows])


class SignSwaps(Swaps):
    """Prunes the cheapest kept weight that moves the error towards zero, anywhere in the row.

    Args:
        mask: As for :class:`Swaps`.
        contributions: As for :class:`Swaps`.
        growth: As for :class:`Swaps`.
        costs: The lowest is pruned first.

    Example:
        >>> contributions = torch.tensor([[3.0, 1.0, -1.0, 10.0]])  # an error of 4
        >>> swaps = SignSwaps(torch.tensor([[False, False, True, True]]), contributions, contributions, -contributions)
        >>> swaps.run(cycles=9, threshold=0.1, same_sign=False), swaps.errors
        (tensor([[ True, False, False,  True]]), tensor([0.]))
    """

    def __init__(self, mask: Tensor, contributions: Tensor, growth: Tensor, costs: Tensor) -> None:
        super().__init__(mask, contributions, growth)
        self._orders, counts = zip(
            *(ascending(costs, mask & side) for side in (contributions > 0, contributions < 0)), strict=True
        )
        self._counts, self._taken = torch.stack(counts), torch.zeros_like(torch.stack(counts))

    @override
    def to_prune(self, positive: Tensor, regrown: Tensor) -> tuple[Tensor, Tensor]:
        last = self.mask.shape[1] - 1
        above, below = (
            at(order, taken.clamp(max=last)) for order, taken in zip(self._orders, self._taken, strict=True)
        )
        above_left, below_left = self._taken < self._counts
        return torch.where(positive, below, above), torch.where(positive, below_left, above_left)

    @override
    def was_pruned(self, rows: Tensor, inputs: Tensor, positive: Tensor) -> None:
        self._taken[positive.long(), rows] += 1


class GroupSwaps(Swaps):
    """Prunes the cheapest kept weight of the regrown one's own group, so that N:M stays N:M.

    Args:
        mask: As for :class:`Swaps`.
        contributions: As for :class:`Swaps`.
        growth: As for :class:`Swaps`.
        costs: The lowest is pruned first.
        size: Inputs in a group (M).

    Example:
        >>> contributions = torch.tensor([[4.0, 1.5, 2.0, 10.0]])
        >>> mask = torch.tensor([[False, True, True, False]])
        >>> swaps = GroupSwaps(mask, contributions, contributions, contributions, size=2)
        >>> swaps.run(cycles=9, threshold=0.1, same_sign=True), swaps.errors
        (tensor([[ True, False, False,  True]]), tensor([3.5000]))
    """

    def __init__(self, mask: Tensor, contributions: Tensor, growth: Tensor, costs: Tensor, size: int) -> None:
        super().__init__(mask, contributions, growth)
        self._costs = costs.masked_fill(~mask, float("inf"))  # of what may still be pruned
        self._size = size

    @override
    def to_prune(self, positive: Tensor, regrown: Tensor) -> tuple[Tensor, Tensor]:
        start = regrown.div(self._size, rounding_mode="floor") * self._size
        members = start[:, None] + torch.arange(self._size, device=regrown.device)
        lowest, place = self._costs.gather(1, members).min(1)
        return start + place, lowest < float("inf")

    @override
    def was_pruned(self, rows: Tensor, inputs: Tensor, positive: Tensor) -> None:
        self._costs[rows, inputs] = float("inf")


def ascending(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the order of each row's chosen values, lowest first and all others behind, and their number.

    Example:
        >>> ascending(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[True, False, True]]))
        (tensor([[2, 0, 1]]), tensor([2]))
    """
    return values.masked_fill(~chosen, float("inf")).sort(dim=1, stable=True).indices, chosen.sum(1)


def at(matrix: Tensor, inputs: Tensor) -> Tensor:
    """Return one value of each row.

    Example:
        >>> at(torch.tensor([[1, 2], [3, 4]]), torch.tensor([1, 0]))
        tensor([2, 3])
    """
    return matrix.gather(1, inputs[:, None]).squeeze(1)

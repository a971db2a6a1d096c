"""Sparsity patterns: which of the scored weights are kept.

Shapes: scores (out_features, in_features), float32; mask the same, bool, True = kept.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.pruning.chunks import chunk_rows

CHUNK_SCORES = 2**18  # chunk size that fits in the CPU cache


class Pattern(ABC):
    """Turns scores into a mask; subclass it for a pattern of your own."""

    sparsity: float  # the share of weights the pattern prunes by default

    @abstractmethod
    def mask(self, scores: Tensor, sparsity: float) -> Tensor:
        """Return the mask of one layer, True = kept.

        Args:
            scores: (out_features, in_features).
            sparsity: Share of the weights to prune, as the allocation gave it to this layer.
        """

    def check_layer(self, path: str, shape: torch.Size) -> None:
        """Raise UserError if a layer of this shape cannot have the pattern."""


class Unstructured(Pattern):
    """Prunes any weights: the same number in every output row, or anywhere in the layer.

    Args:
        sparsity: Share of the weights to prune, 0 <= sparsity < 1. Exactly ``floor(in_features * sparsity)`` a row go
            (or ``floor(numel * sparsity)`` a layer).
        scope: ``row``: every output row loses equally many, as Wanda does; ``layer``: one threshold for the layer.
        drop: ``lowest`` scores, or ``highest``, the paper's control.

    Raises:
        UserError: If an argument is out of range.

    Example:
        >>> Unstructured(0.5).mask(torch.tensor([[3.0, 1.0], [2.0, 9.0]]), 0.5)
        tensor([[ True, False],
                [False,  True]])
    """

    def __init__(
        self,
        sparsity: float,
        scope: Literal["row", "layer"] = "row",
        drop: Literal["lowest", "highest"] = "lowest",
    ) -> None:
        if not 0 <= sparsity < 1:
            raise UserError(f"Unstructured: sparsity {sparsity} is not allowed; give 0 <= sparsity < 1")
        if scope not in ("row", "layer"):
            raise UserError(f"Unstructured: scope '{scope}' is not allowed; give 'row' or 'layer'")
        if drop not in ("lowest", "highest"):
            raise UserError(f"Unstructured: drop '{drop}' is not allowed; give 'lowest' or 'highest'")
        self.sparsity = sparsity
        self.scope = scope
        self.drop = drop

    @override
    def mask(self, scores: Tensor, sparsity: float) -> Tensor:
        flat = scores if self.scope == "row" else scores.reshape(1, -1)
        num_pruned = math.floor(flat.shape[-1] * sparsity)
        return keep_highest(flat, num_pruned, keep_lowest=self.drop == "highest").reshape(scores.shape)


class NofM(Pattern):
    """Keeps the N highest-scored of every M consecutive inputs (2:4 is what sparse tensor cores run).

    Args:
        kept: N, weights kept of each group.
        of: M, the group's size; it must divide the layer's number of inputs.

    Raises:
        UserError: Unless 1 <= kept < of.

    Example:
        >>> NofM(2, 4).mask(torch.tensor([[4.0, 1.0, 3.0, 2.0]]), 0.5)
        tensor([[ True, False,  True, False]])
    """

    def __init__(self, kept: int = 2, of: int = 4) -> None:
        if not 1 <= kept < of:
            raise UserError(f"NofM: kept {kept} of {of} is not allowed; give 1 <= kept < of")
        self.kept = kept
        self.of = of
        self.sparsity = 1 - kept / of

    @override
    def check_layer(self, path: str, shape: torch.Size) -> None:
        if shape[-1] % self.of:
            raise UserError(
                f"NofM: {path} has {shape[-1]} inputs, which {self.of} does not divide; exclude it or change `of`"
            )

    @override
    def mask(self, scores: Tensor, sparsity: float) -> Tensor:
        grouped = scores.reshape(-1, self.of)
        return keep_highest(grouped, self.of - self.kept).reshape(scores.shape)


def keep_highest(scores: Tensor, num_pruned: int, keep_lowest: bool = False) -> Tensor:
    """Prune exactly ``num_pruned`` lowest scores of each row; among equals the first go.

    Some rows at a time, so that nothing of the size of the scores is copied.

    Args:
        scores: (rows, columns).
        num_pruned: How many go in each row.
        keep_lowest: Prune the highest instead.

    Returns:
        bool (rows, columns), True = kept.

    Example:
        >>> keep_highest(torch.tensor([[1.0, 1.0, 1.0, 2.0]]), 2)
        tensor([[False, False,  True,  True]])
    """
    kept = torch.ones_like(scores, dtype=torch.bool)
    if num_pruned == 0:
        return kept
    rows = chunk_rows(scores, CHUNK_SCORES)
    for part, target in zip(scores.split(rows), kept.split(rows), strict=True):
        target.copy_(_select(-part if keep_lowest else part, num_pruned))
    return kept


def _select(scores: Tensor, num_pruned: int) -> Tensor:
    """Selection instead of sorting: the threshold is the ``num_pruned``-th lowest value of each row.

    Only if several weights share a threshold, rows need a count.
    """
    threshold = kth_lowest(scores, num_pruned)
    kept = scores > threshold
    if int(torch.count_nonzero(kept)) == len(scores) * (scores.shape[-1] - num_pruned):
        return kept
    surplus = scores.shape[-1] - num_pruned - kept.sum(-1)
    for row in surplus.nonzero().flatten().tolist():
        ties = (scores[row] == threshold[row]).nonzero().flatten()
        kept[row, ties[len(ties) - int(surplus[row]) :]] = True
    return kept


def kth_lowest(scores: Tensor, k: int) -> Tensor:
    """Return the k-th lowest score of each row, (rows, 1), counted from 1.

    On the CPU numpy's partition is some 30 times as fast as ``Tensor.kthvalue``.

    Example:
        >>> kth_lowest(torch.tensor([[3.0, 1.0, 2.0]]), 2)
        tensor([[2.]])
    """
    if scores.device.type != "cpu":
        return scores.kthvalue(k, dim=-1, keepdim=True).values
    exact = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
    chosen = np.partition(exact.numpy(), k - 1, axis=-1)[:, k - 1 : k]
    return torch.from_numpy(chosen.copy()).to(scores.dtype)


def keep_by_share(scores: Tensor, sparsity: float, tolerance: float = 0.001) -> Tensor:
    """Wanda's variant: in each row prune the lowest scores until they hold a share ``t`` of the row's total.

    ``t`` is found by bisection (start 0.4, within [0, 0.8]) so that the layer reaches the sparsity. Source: the
    published code of Sun et al. 2024, ``--use_variant``.

    Args:
        scores: (out_features, in_features).
        sparsity: Share of the layer's weights to prune.
        tolerance: How far the layer's sparsity may be off.

    Returns:
        bool, True = kept.

    Example:
        >>> keep_by_share(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 14.0]]), 0.5)
        tensor([[False,  True,  True,  True],
                [False, False, False,  True]])
    """
    ordered, order = scores.sort(dim=-1, stable=True)
    running, total = ordered.cumsum(dim=-1), scores.sum(dim=-1, keepdim=True)
    share, low, high = 0.4, 0.0, 0.8
    pruned = running <= total * share
    while abs(_share_true(pruned) - sparsity) > tolerance and high - low >= tolerance:
        if _share_true(pruned) > sparsity:
            share, high = (share + low) / 2, share
        else:
            share, low = (share + high) / 2, share
        pruned = running <= total * share
    return torch.ones_like(scores, dtype=torch.bool).scatter_(-1, order, ~pruned)


def _share_true(mask: Tensor) -> float:
    return int(mask.sum()) / mask.numel()

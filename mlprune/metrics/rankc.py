"""RankC: how consistently two languages rank the same candidates.

Shapes: scores (n, k), higher is better, NaN = no such candidate.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mlprune.errors import UserError
from mlprune.metrics.additive import Array, PairMetric, Record, ratio
from mlprune.metrics.measure import Measure

Weighting = Literal["softmax", "norm1", "norm2"]
Order = Literal["descending", "ascending"]


def position_weights(count: int, weighting: Weighting) -> Tensor:
    """Return the weight of each rank position, best first, summing to 1.

    Args:
        count: Number of candidates.
        weighting: ``softmax`` of (count, ..., 1) as in the paper; ``norm1``: proportional to it; ``norm2``: to its
            square.

    Example:
        >>> position_weights(2, "norm1")
        tensor([0.6667, 0.3333], dtype=torch.float64)
    """
    steps = torch.arange(count, 0, -1, dtype=torch.float64)
    if weighting == "softmax":
        return steps.softmax(0)
    powers = steps if weighting == "norm1" else steps.square()
    return powers / powers.sum()


def rankc_each(
    scores_a: Tensor, scores_b: Tensor, weighting: Weighting = "softmax", order: Order = "descending"
) -> Tensor:
    """Return RankC of every example: the weighted overlap of the two languages' top-j candidates, over all j.

    Source: Qi et al. 2023, "Cross-Lingual Consistency of Factual Knowledge in Multilingual Language Models", eq. 1-3.

    Args:
        scores_a: (n, k), scores in one language.
        scores_b: (n, k), scores of the same candidates in the other.
        weighting: See :func:`position_weights`.
        order: ``descending``: the heaviest weight falls on the best candidate, as RankC defines; ``ascending``: on the
            worst, as the paper's own script has it.

    Returns:
        float64 (n,).

    Example:
        >>> rankc_each(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[3.0, 1.0, 2.0]]))
        tensor([0.8776], dtype=torch.float64)
    """
    missing = scores_a.isnan()
    worst = -torch.inf if order == "descending" else torch.inf
    ranked = [
        scores.double().masked_fill(missing, worst).argsort(dim=-1, descending=order == "descending", stable=True)
        for scores in (scores_a, scores_b)
    ]
    # position at which a candidate stands in both languages' top-j for the first time
    places = [order_.argsort(dim=-1) for order_ in ranked]
    joined = torch.maximum(*places).masked_fill(missing, scores_a.shape[-1])
    tops = torch.arange(1, scores_a.shape[-1] + 1)
    overlap = (joined[:, None, :] < tops[None, :, None]).sum(-1) / tops.double()
    counts = (~missing).sum(-1)
    weights = torch.zeros_like(overlap)
    for count in sorted(set(counts.tolist())):
        weights[counts == count, :count] = position_weights(count, weighting)
    return (weights * overlap).sum(-1)


def expected_rankc(count: int, weighting: Weighting = "softmax") -> float:
    """Return the RankC two independent random rankings have on average.

    Two random top-j sets of ``count`` candidates share ``j * j / count``, so the overlap is ``j / count``.

    Args:
        count: Number of candidates.
        weighting: See :func:`position_weights`.

    Example:
        >>> round(expected_rankc(3), 3)
        0.475
    """
    share = torch.arange(1, count + 1, dtype=torch.float64) / count
    return float((position_weights(count, weighting) * share).sum())


class RankC(PairMetric):
    """Cross-lingual consistency of rankings, averaged over examples.

    Args:
        weighting: See :func:`position_weights`.
        order: See :func:`rankc_each`.

    Raises:
        UserError: If an argument is not allowed, or the scores' shapes or missing candidates differ.

    Example:
        >>> metric = RankC()
        >>> metric.update(torch.tensor([[2.0, 1.0]]), torch.tensor([[5.0, 4.0]]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    measures = (Measure("rankc", "RankC", bounds=(0.0, 1.0), chance="rankc_expected"),)
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, weighting: Weighting = "softmax", order: Order = "descending", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if weighting not in ("softmax", "norm1", "norm2"):
            raise UserError(f"RankC: weighting '{weighting}' is not allowed; give softmax, norm1 or norm2")
        if order not in ("descending", "ascending"):
            raise UserError(f"RankC: order '{order}' is not allowed; give descending or ascending")
        self.weighting: Weighting = weighting
        self.order: Order = order

    @staticmethod
    def comparable(first: Record, second: Record) -> bool:
        """Return whether both records have scores of as many candidates."""
        return len(first["scores"]) == len(second["scores"])

    def statistics(self, records: Sequence[tuple[Record, Record]]) -> Array:
        """Return (n, 2) for pairs of records with ``scores``: RankC, an example."""
        each = np.zeros(len(records))
        widths = np.array([len(first["scores"]) for first, _ in records])
        for width in np.unique(widths):
            places = np.flatnonzero(widths == width).tolist()
            pairs = torch.tensor([[side["scores"] for side in records[i]] for i in places], dtype=torch.float64)
            each[places] = self._each(pairs[:, 0], pairs[:, 1]).numpy()
        return np.stack([each, np.ones(len(records))], axis=1)

    def values(self, sums: Array) -> dict[str, Array]:
        return {self.measures[0].name: ratio(sums[..., 0], sums[..., 1])}

    def update(self, scores_a: Tensor, scores_b: Tensor) -> None:  # type: ignore[override]  # tensors, as published
        """Add examples; ties keep candidate order.

        Args:
            scores_a: (n, k).
            scores_b: (n, k), missing (NaN) where ``scores_a`` is.
        """
        if scores_a.shape != scores_b.shape or not torch.equal(scores_a.isnan(), scores_b.isnan()):
            raise UserError("RankC: both languages must have the same candidates for every example")
        each = self._each(scores_a.cpu(), scores_b.cpu()).numpy()
        self.add(np.stack([each, np.ones(len(each))], axis=1))

    def _each(self, scores_a: Tensor, scores_b: Tensor) -> Tensor:
        return rankc_each(scores_a, scores_b, self.weighting, self.order)

    def compute(self) -> Tensor:
        """Return the mean, a scalar; NaN if there was no example."""
        (mean,) = self.values(self.sums()).values()
        return torch.tensor(float(mean), dtype=torch.float64)


class ExpectedRankC(RankC):
    """What RankC would be on average if one language ranked the same candidates at random: to be read beside it.

    Example:
        >>> metric = ExpectedRankC()
        >>> metric.update(torch.tensor([[2.0, 1.0]]), torch.tensor([[5.0, 4.0]]))
        >>> metric.compute()
        tensor(0.6345, dtype=torch.float64)
    """

    measures = (Measure("rankc_expected", "RankC by chance", bounds=(0.0, 1.0)),)

    def _each(self, scores_a: Tensor, scores_b: Tensor) -> Tensor:
        counts = (~scores_a.isnan()).sum(-1).tolist()
        known = {count: expected_rankc(count, self.weighting) for count in set(counts)}
        return torch.tensor([known[count] for count in counts], dtype=torch.float64)

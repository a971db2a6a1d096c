"""RankC: how consistently two languages rank the same candidates.

Shapes: scores (n, k), higher is better, NaN = no such candidate.
"""

from typing import Literal

import torch
from torch import Tensor

from mlprune.errors import UserError
from mlprune.exact import ExactMetric

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
    for count in counts.unique().tolist():
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


class RankC(ExactMetric):
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

    def __init__(self, weighting: Weighting = "softmax", order: Order = "descending") -> None:
        super().__init__()
        if weighting not in ("softmax", "norm1", "norm2"):
            raise UserError(f"RankC: weighting '{weighting}' is not allowed; give softmax, norm1 or norm2")
        if order not in ("descending", "ascending"):
            raise UserError(f"RankC: order '{order}' is not allowed; give descending or ascending")
        self.weighting: Weighting = weighting
        self.order: Order = order
        # kept one by one and summed in sorted order, so that the mean has the same bits on any number of processes
        self.add_state("values", [], dist_reduce_fx="cat")
        self.add_state("n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores_a: Tensor, scores_b: Tensor) -> None:
        """Add examples; ties keep candidate order.

        Args:
            scores_a: (n, k).
            scores_b: (n, k), missing (NaN) where ``scores_a`` is.
        """
        if scores_a.shape != scores_b.shape or not torch.equal(scores_a.isnan(), scores_b.isnan()):
            raise UserError("RankC: both languages must have the same candidates for every example")
        self.values.append(self._each(scores_a.cpu(), scores_b.cpu()).to(self.device))
        self.n += len(scores_a)

    def _each(self, scores_a: Tensor, scores_b: Tensor) -> Tensor:
        return rankc_each(scores_a, scores_b, self.weighting, self.order)

    def compute(self) -> Tensor:
        """Return the mean, a scalar; NaN if there was no example."""
        return self.exact_sum("values") / self.n


class ExpectedRankC(RankC):
    """What RankC would be on average if one language ranked the same candidates at random: to be read beside it.

    Example:
        >>> metric = ExpectedRankC()
        >>> metric.update(torch.tensor([[2.0, 1.0]]), torch.tensor([[5.0, 4.0]]))
        >>> metric.compute()
        tensor(0.6345, dtype=torch.float64)
    """

    def _each(self, scores_a: Tensor, scores_b: Tensor) -> Tensor:
        counts = (~scores_a.isnan()).sum(-1).tolist()
        return torch.tensor([expected_rankc(count, self.weighting) for count in counts], dtype=torch.float64)

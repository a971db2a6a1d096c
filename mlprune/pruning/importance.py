"""Importance scores: one number a weight, larger is kept.

Shapes: weight (out_features, in_features); energy (in_features,), the mean square of each input feature; scores like
the weight, float32. Weights that do not matter at all (0/0) score 0.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.pruning.patterns import Pattern, Unstructured, keep_by_share
from mlprune.pruning.statistics import ENERGY, SMALLEST, LayerStatistics, Pool, Statistic


def magnitudes(weight: Tensor) -> Tensor:
    """Return ``|W|`` in float32, a tensor of its own, without another float32 copy.

    Example:
        >>> magnitudes(torch.tensor([-1.5, 2.0], dtype=torch.bfloat16))
        tensor([1.5000, 2.0000])
    """
    return weight.abs().float()


@dataclass
class Decision:
    """What a method decided for one matrix: mask (True = kept), the scores behind it, and new weights if it has any."""

    mask: Tensor
    scores: Tensor
    weight: Tensor | None = None


class Importance(ABC):
    """Scores the weights of a layer; subclass it to try a method of your own.

    ``needs`` is the statistic to gather: ``ENERGY`` or ``GRAM``, or None for methods that look at weights alone.
    ``groups`` names the demonstration groups that the score looks at; all there are if it names none. ``lowest_only``
    is for methods that cannot prune the highest scores. ``pools`` are the ways in which it may pool groups.

    Args:
        group: The demonstration group it looks at, for methods that pool groups.
        groups: Several of them.
        pool: How it pools them: ``tokens`` (mean over all tokens), ``mean`` (over groups), ``max`` or ``worst``; see
            :data:`mlprune.pruning.Pool`.

    Raises:
        UserError: If both are given, or the method cannot pool this way.
    """

    needs: Statistic | None = ENERGY
    groups: tuple[str, ...] = ()
    lowest_only = False
    pool: Pool = "tokens"
    pools: tuple[Pool, ...] = get_args(Pool)

    def __init__(self, group: str | None = None, groups: list[str] | None = None, pool: Pool | None = None) -> None:
        if pool is not None and pool not in self.pools:
            allowed = ", ".join(self.pools)
            raise UserError(f"{type(self).__name__}: pool '{pool}' is not allowed; give one of {allowed}")
        if pool not in (None, self.pool):
            self.pool = pool
        if group is not None and groups is not None:
            raise UserError(f"{type(self).__name__}: give group or groups, not both")
        if group is not None or groups:
            self.groups = (group,) if group is not None else tuple(groups or ())

    @property
    def has_fixed_scores(self) -> bool:
        """Whether :meth:`score` decides; otherwise scores change while the method prunes."""
        return True

    def seen(self, statistics: LayerStatistics) -> LayerStatistics:
        """Return statistics as the method looks at them: those of its groups, pooled its way."""
        chosen = statistics.only(self.groups) if self.groups else statistics
        return chosen if self.pool == chosen.pool else chosen.pooled_by(self.pool)

    @abstractmethod
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        """Return the scores of a layer's weights.

        Args:
            weight: (out_features, in_features), in the model's dtype.
            statistics: What calibration saw at the layer; None if ``needs`` is None.
            path: The layer's path.
        """

    def grouped(self, scores: Tensor, size: int) -> Tensor:
        """Return one score for every so many consecutive inputs, such as those of a head: by default their norm.

        Args:
            scores: (out_features, in_features), from :meth:`score`.
            size: Inputs of each group; 1 for single units.

        Returns:
            (in_features / size,).
        """
        return scores.square().sum(0).reshape(-1, size).sum(1).sqrt()

    def decide(
        self, weight: Tensor, statistics: LayerStatistics | None, path: str, pattern: Pattern, sparsity: float
    ) -> Decision:
        """Score one matrix and choose its mask; methods that do more than score override this."""
        scores = self.score(weight, statistics, path)
        return Decision(pattern.mask(scores, sparsity), scores)

    def check_pattern(self, pattern: Pattern) -> None:
        """Raise UserError if the method cannot work with the pattern."""
        if self.lowest_only and isinstance(pattern, Unstructured) and pattern.drop == "highest":
            name = type(self).__name__
            raise UserError(f"{name} prunes lowest scores; use it with drop='lowest', not 'highest'")


class Wanda(Importance):
    """Weight magnitude times the norm of the input feature: ``|W| * sqrt(energy)``.

    Source: Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models", Section 3.

    Args:
        variant: Choose how much of each row goes by the share of the row's total score it holds, not by count (the
            published code's ``--use_variant``); the layer's sparsity is met within 0.001.
        options: ``group`` or ``groups``, and ``pool``, see :class:`Importance`.

    Example:
        >>> stats = LayerStatistics({"mt": torch.tensor([4.0, 1.0])}, {"mt": torch.tensor(1)})
        >>> Wanda().score(torch.tensor([[-1.0, 3.0]]), stats, "fc")
        tensor([[2., 3.]])
    """

    def __init__(self, variant: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.variant = variant

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        assert statistics is not None
        return magnitudes(weight).mul_(self.seen(statistics).energies().pooled().float().sqrt())

    @override
    def decide(
        self, weight: Tensor, statistics: LayerStatistics | None, path: str, pattern: Pattern, sparsity: float
    ) -> Decision:
        if not self.variant:
            return super().decide(weight, statistics, path, pattern, sparsity)
        scores = self.score(weight, statistics, path)
        return Decision(keep_by_share(scores, sparsity), scores)

    @override
    def check_pattern(self, pattern: Pattern) -> None:
        per_row = isinstance(pattern, Unstructured) and pattern.scope == "row" and pattern.drop == "lowest"
        if self.variant and not per_row:
            raise UserError(
                "Wanda(variant=True) prunes the lowest scores of each row; use it with Unstructured(scope='row')"
            )


class ContrastiveWanda(Importance):
    """Keeps what one group needs and another does not: ``|W| * energy_keep / sqrt(energy_drop)``.

    Source: Kim et al. 2024, "Pruning Multilingual Large Language Models for Multilingual Inference", the score for
    BLOOM (keep translation, drop code). Any two groups can be named.

    Args:
        keep: Group whose features matter.
        drop: Group whose features are penalised. A feature silent there counts as the smallest normal float32; one
            silent in both scores 0.

    Raises:
        UserError: If both names are the same.

    Example:
        >>> stats = LayerStatistics({"mt": torch.tensor([4.0, 0.0]), "code": torch.tensor([16.0, 0.0])},
        ...                         {"mt": torch.tensor(1), "code": torch.tensor(1)})
        >>> ContrastiveWanda().score(torch.tensor([[2.0, 5.0]]), stats, "fc")
        tensor([[2., 0.]])
    """

    def __init__(self, keep: str = "mt", drop: str = "code") -> None:
        super().__init__()
        if keep == drop:
            raise UserError(f"ContrastiveWanda: keep and drop are both '{keep}'; name two different groups")
        self.keep = keep
        self.drop = drop
        self.groups = (keep, drop)

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        assert statistics is not None
        energies = statistics.energies()
        keep, drop = energies.of(self.keep), energies.of(self.drop)
        largest = torch.finfo(torch.float32).max  # infinity times a weight of zero would be NaN
        ratio = (keep / drop.sqrt().clamp(min=SMALLEST)).clamp(max=largest)
        return magnitudes(weight).mul_(ratio.float()).clamp_(max=largest)


class Magnitude(Importance):
    """The weight's absolute value; needs no calibration.

    Source: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks".

    Example:
        >>> Magnitude().score(torch.tensor([[-1.0, 3.0]]), None, "fc")
        tensor([[1., 3.]])
    """

    needs = None
    pools = ("tokens",)

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        return magnitudes(weight)


class Random(Importance):
    """Random scores, the baseline that any method has to beat.

    Args:
        seed: Seed; each layer has its own stream, drawn from the seed and the layer's path.
        options: ``group`` or ``groups``, and ``pool``, see :class:`Importance`.

    Example:
        >>> a, b = (Random(seed=1).score(torch.zeros(2, 3), None, "fc") for _ in range(2))
        >>> torch.equal(a, b)
        True
    """

    needs = None
    pools = ("tokens",)

    def __init__(self, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.seed = seed

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}:{path}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        return torch.rand(weight.shape, generator=generator).to(weight.device)


class RIA(Importance):
    """Relative importance and activations: a weight's share of its column and row, times a power of the input's norm.

    ``(|W| / column sum + |W| / row sum) * sqrt(energy) ** exponent``. Source: Zhang et al. 2024, "Plug-and-Play: An
    Efficient Post-training Pruning Method for Large Language Models".

    Args:
        exponent: Weight of the activations; 0.5 in the paper.
        options: ``group`` or ``groups``, and ``pool``, see :class:`Importance`.

    Example:
        >>> stats = LayerStatistics({"mt": torch.tensor([16.0, 1.0])}, {"mt": torch.tensor(1)})
        >>> RIA().score(torch.tensor([[1.0, 3.0], [1.0, 1.0]]), stats, "fc")
        tensor([[1.5000, 1.5000],
                [2.0000, 0.7500]])
    """

    def __init__(self, exponent: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        if exponent < 0:
            raise UserError(f"RIA: exponent {exponent} is not allowed; give 0 or more")
        self.exponent = exponent

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        assert statistics is not None
        magnitude = magnitudes(weight)
        columns = magnitude.sum(-2, keepdim=True).clamp(min=SMALLEST)
        rows = magnitude.sum(-1, keepdim=True).clamp(min=SMALLEST)
        activation = self.seen(statistics).energies().pooled().float().sqrt() ** self.exponent
        return (magnitude / columns + magnitude / rows) * activation

"""How the sparsity is spread over layers. Uniform is the default and needs no class."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.models.blocks import Block
from mlprune.pruning.importance import Importance
from mlprune.pruning.patterns import Pattern, Unstructured
from mlprune.pruning.statistics import LayerStatistics


class Allocation(ABC):
    """Gives every layer its own sparsity; subclass it for a rule of your own.

    ``needs_statistics`` asks for one calibration of the dense model first.
    """

    needs_statistics = False

    @abstractmethod
    def sparsities(
        self,
        blocks: list[Block],
        importance: Importance,
        sparsity: float,
        statistics: Mapping[str, LayerStatistics] | None,
    ) -> dict[str, float]:
        """Return layer path to sparsity, its parameter-weighted mean equal to ``sparsity``."""

    def check(self, importance: Importance, pattern: Pattern) -> None:
        """Raise UserError if the parts do not go together."""
        if not isinstance(pattern, Unstructured):
            raise UserError(
                f"{type(self).__name__} gives every layer its own sparsity; use it with Unstructured, "
                f"not {type(pattern).__name__}"
            )


class OWL(Allocation):
    """Layers with many outlying scores keep more weights.

    With ``D`` the percentage of a block's scores above ``threshold`` times their mean, the density of the block is
    ``r - mean(r) + 1 - sparsity`` for ``r = (D - min D) / (max D - min D) * 2 spread``. Source: Yin et al. 2024,
    "Outlier Weighed Layerwise Sparsity (OWL)".

    Args:
        threshold: What counts as an outlier, in means (M in the paper).
        spread: Half the range of densities (lambda in the paper).

    Raises:
        UserError: If an argument is out of range.

    Example:
        >>> from mlprune.models.blocks import find_blocks
        >>> from mlprune.pruning import Magnitude
        >>> model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(9, 1)) for _ in "ab"]))
        >>> _ = torch.nn.init.ones_(model[0][0][0].weight), torch.nn.init.ones_(model[0][1][0].weight)
        >>> model[0][1][0].weight.data[0, 0] = 100.0  # an outlier: this block keeps more
        >>> {path: round(s, 2) for path, s in OWL().sparsities(find_blocks(model), Magnitude(), 0.5, None).items()}
        {'0.0.0': 0.58, '0.1.0': 0.42}
    """

    needs_statistics = True

    def __init__(self, threshold: float = 5.0, spread: float = 0.08) -> None:
        if threshold <= 0 or not 0 <= spread < 0.5:
            raise UserError(
                f"OWL: threshold {threshold}, spread {spread} not allowed; give threshold > 0, 0 <= spread < 0.5"
            )
        self.threshold = threshold
        self.spread = spread

    @override
    def sparsities(
        self,
        blocks: list[Block],
        importance: Importance,
        sparsity: float,
        statistics: Mapping[str, LayerStatistics] | None,
    ) -> dict[str, float]:
        blocks = [block for block in blocks if block.layers]
        shares = [self._outliers(block, importance, statistics or {}) for block in blocks]
        ratios = [place * 2 * self.spread for place in _between(shares)]
        mean = sum(ratios) / len(ratios)
        return {
            path: min(max(sparsity - (ratio - mean), 0.0), 0.999)
            for block, ratio in zip(blocks, ratios, strict=True)
            for path in block.layers
        }

    def _outliers(self, block: Block, importance: Importance, statistics: Mapping[str, LayerStatistics]) -> float:
        """Percentage of a block's scores that are outliers."""
        scores = []
        for path, layer in block.layers.items():
            statistic = statistics.get(path)
            statistic = statistic and statistic.to(layer.stored.device)
            if importance.needs is not None and statistic is None:
                continue  # calibration never ran through it, so it will be left dense
            if layer.is_experts:
                for expert, matrix in enumerate(layer.matrix()):
                    seen = statistic.of_expert(expert) if statistic is not None else None
                    scores.append(importance.score(matrix, seen, f"{path}[{expert}]").flatten())
            else:
                scores.append(importance.score(layer.matrix(), statistic, path).flatten())
        if not scores:
            return 0.0
        joined = torch.cat(scores)
        return 100 * int((joined > self.threshold * joined.mean()).sum()) / joined.numel()

    @override
    def check(self, importance: Importance, pattern: Pattern) -> None:
        super().check(importance, pattern)
        if not importance.has_fixed_scores:
            raise UserError(
                f"OWL counts outlying scores, which {type(importance).__name__} has only while it prunes; use Wanda"
            )


class AlphaPruning(Allocation):
    """Blocks whose weight spectra have lighter tails lose more weights.

    The Hill exponent of each matrix's spectrum is averaged per block and mapped linearly to
    ``[1 - spread, 1 + spread]``, then rescaled so that the parameter-weighted mean is the sparsity. Source: Lu et al.
    2024, "AlphaPruning: Using Heavy-Tailed Self Regularization Theory for Improved Layer-wise Pruning".

    Args:
        spread: Half the range of the factors (epsilon in the paper).

    Raises:
        UserError: If the spread is out of range.

    Example:
        >>> from mlprune.models.blocks import find_blocks
        >>> from mlprune.pruning import Magnitude
        >>> model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(2, 2)) for _ in "ab"]))
        >>> model[0][0][0].weight.data = torch.diag(torch.tensor([2.0, 1.0]))
        >>> model[0][1][0].weight.data = torch.diag(torch.tensor([8.0, 1.0]))  # a heavier tail: this block keeps more
        >>> found = AlphaPruning().sparsities(find_blocks(model), Magnitude(), 0.5, None)
        >>> {path: round(s, 2) for path, s in found.items()}
        {'0.0.0': 0.65, '0.1.0': 0.35}
    """

    def __init__(self, spread: float = 0.3) -> None:
        if not 0 <= spread < 1:
            raise UserError(f"AlphaPruning: spread {spread} is not allowed; give 0 <= spread < 1")
        self.spread = spread

    @override
    def sparsities(
        self,
        blocks: list[Block],
        importance: Importance,
        sparsity: float,
        statistics: Mapping[str, LayerStatistics] | None,
    ) -> dict[str, float]:
        blocks = [block for block in blocks if block.layers]
        alphas, sizes = [], []
        for block in blocks:
            stacks = [layer.matrix() for layer in block.layers.values()]
            matrices = [matrix for stack in stacks for matrix in stack.reshape(-1, *stack.shape[-2:])]
            alphas.append(sum(map(hill_exponent, matrices)) / len(matrices))
            sizes.append(sum(layer.matrix().numel() for layer in block.layers.values()))
        factors = [1 - self.spread + place * 2 * self.spread for place in _between(alphas)]
        mean = sum(f * n for f, n in zip(factors, sizes, strict=True)) / sum(sizes)
        return {
            path: min(factor / mean * sparsity, 0.999)
            for block, factor in zip(blocks, factors, strict=True)
            for path in block.layers
        }


def _between(values: list[float]) -> list[float]:
    """Where each value lies between the least (0) and the greatest (1); 0 if all are equal."""
    lowest, highest = min(values), max(values)
    span = (highest - lowest) or 1.0
    return [(value - lowest) / span for value in values]


def hill_exponent(matrix: torch.Tensor) -> float:
    """Return the Hill estimate of the power-law exponent of a matrix's squared singular values.

    The tail is the larger half of the spectrum.

    Args:
        matrix: (out_features, in_features).

    Example:
        >>> round(hill_exponent(torch.diag(torch.tensor([4.0, 2.0, 1.0, 1.0]))), 3)
        1.481
    """
    spectrum = torch.linalg.svdvals(matrix.float()).cpu().double().square().sort(descending=True).values
    tail = max(len(spectrum) // 2, 1)
    pivot = spectrum[min(tail, len(spectrum) - 1)].clamp(min=1e-30)
    logs = (spectrum[:tail].clamp(min=1e-30) / pivot).log().sum()
    return 1 + tail / max(float(logs), 1e-12)

"""What to prune and how: importance, pattern, allocation over layers, and which layers at all."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mlprune.distributed import broadcast_tensor
from mlprune.errors import UserError
from mlprune.exact import accumulator_dtype, full_float32
from mlprune.log import log
from mlprune.models.blocks import Block
from mlprune.models.layers import Layer
from mlprune.models.shards import is_finite
from mlprune.pruning.allocation import Allocation
from mlprune.pruning.chunks import chunk_rows
from mlprune.pruning.importance import Decision, Importance, Wanda
from mlprune.pruning.patterns import CHUNK_SCORES, Pattern, Unstructured
from mlprune.pruning.share import check_share, matrix_sizes, share_of
from mlprune.pruning.statistics import LayerStatistics, check_finite


@dataclass
class LayerReport:
    """What pruning did to one layer.

    Args:
        mask: bool, (out_features, in_features) or (experts, out_features, in_features), True = kept; on the CPU.
        sparsity: Share of the weights pruned.
        threshold: Lowest score kept (averaged over rows it has no meaning; this is the least over the layer).
        kept_importance: Share of the layer's total score that was kept.
        weights_changed: Whether kept weights were adjusted too.
        scored: Whether a score was computed; an expert that no token reached counts, a layer no forward ran does not.
    """

    mask: Tensor
    sparsity: float
    threshold: float
    kept_importance: float
    weights_changed: bool = False
    scored: bool = True


class Pruner:
    """Scores and masks the layers of a block.

    Args:
        importance: How weights are scored.
        pattern: Which of them go.
        allocation: How the sparsity is spread over layers; the same everywhere if omitted.
        include: Regular expressions on layer paths; only matching layers are pruned.
        exclude: Regular expressions on layer paths; matching layers are left dense.

    Raises:
        UserError: If the parts do not go together, or a regular expression is invalid.

    Example:
        >>> Pruner(Wanda(variant=True), Unstructured(0.3, scope="layer"))
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: Wanda(variant=True) prunes the lowest scores of each row; use it with ...
    """

    def __init__(
        self,
        importance: Importance | None = None,
        pattern: Pattern | None = None,
        allocation: Allocation | None = None,
        include: list[str] | None = None,
        exclude: list[str] | None = None,
    ) -> None:
        self.importance = importance or Wanda()
        self.pattern = pattern or Unstructured(0.3)
        self.allocation = allocation
        self.importance.check_pattern(self.pattern)
        if allocation is not None:
            allocation.check(self.importance, self.pattern)
        self.include = _compile("include", include)
        self.exclude = _compile("exclude", exclude)
        self.sparsities: dict[str, float] = {}
        self.matrix_sizes: dict[str, int] = {}  # of all blocks, pruned or not, once select has seen them
        self.silent_inputs: dict[tuple[str, str], int] = {}  # (layer path, group) to inputs that were always zero
        # called with path, scores and each group's mean statistic of every layer, for callbacks that draw them
        self.on_scores: Callable[[str, Tensor, Mapping[str, Tensor]], None] | None = None

    def check_groups(self, groups: Sequence[str], key: str = "") -> None:
        """Raise UserError if the importance compares a group that does not exist.

        Args:
            groups: Names of all groups.
            key: Where the user gives them.
        """
        for group in self.importance.groups:
            if group not in groups:
                name = type(self.importance).__name__
                raise UserError(f"{name} needs the group '{group}'; {key or 'there are'} {', '.join(groups)}")

    def check_batches(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Raise UserError if there is nothing to calibrate on."""
        if self.importance.needs is not None and not batches:
            raise UserError(f"{type(self.importance).__name__} needs calibration batches; none were given")

    def select(self, blocks: list[Block], ran: Collection[str] | None = None) -> list[Block]:
        """Return the blocks with the layers that will be pruned.

        Args:
            blocks: From :func:`mlprune.models.blocks.find_blocks`.
            ran: The layers that a forward pass runs (:func:`mlprune.models.blocks.look_at`); all if omitted.

        Raises:
            UserError: If an expression matches no layer, nothing is left, less than half of the blocks' matrices can be
                scored, or a layer is quantized or cannot have the pattern.
        """
        paths = [path for block in blocks for path in block.layers]
        self.matrix_sizes = {name: size for block in blocks for name, size in matrix_sizes(block).items()}
        for key, patterns in (("include", self.include), ("exclude", self.exclude)):
            for pattern in patterns:
                if not any(pattern.search(name) for name in self.matrix_sizes):
                    raise UserError(f"{key}: '{pattern.pattern}' matches no layer; layers are named like '{paths[0]}'")
        chosen = [
            Block(block.path, block.module, {path: layer for path, layer in block.layers.items() if self._wanted(path)})
            for block in blocks
        ]
        layers = [layer for block in chosen for layer in block.layers.values()]
        if not layers:
            raise UserError("include and exclude leave no layer to prune")
        wanted = [name for name in self.matrix_sizes if self._wanted(name)]
        check_share(self.matrix_sizes, wanted, [path for path in paths if ran is None or path in ran])
        for layer in layers:
            if layer.stored.dtype.itemsize < 2:
                raise UserError(f"{layer.path}: weights are {layer.stored.dtype}; prune the model, then quantize it")
            self.pattern.check_layer(layer.path, layer.matrix().shape)
        return chosen

    def scored_share(self, reports: Mapping[str, LayerReport]) -> float:
        """Return the share of the entries of all blocks' matrices for which a score was computed.

        Args:
            reports: Of all layers that :meth:`select` chose.
        """
        return share_of(self.matrix_sizes, [path for path, report in reports.items() if report.scored])

    def _wanted(self, path: str) -> bool:
        included = not self.include or any(pattern.search(path) for pattern in self.include)
        return included and not any(pattern.search(path) for pattern in self.exclude)

    def allocate(self, blocks: list[Block], statistics: Mapping[str, LayerStatistics] | None = None) -> None:
        """Decide every layer's sparsity, once, before the first block is pruned.

        Args:
            blocks: All blocks, as :meth:`select` returned them.
            statistics: Statistics of the dense model, for allocations that need them.
        """
        if self.allocation is not None:
            seen = statistics and {path: self.importance.seen(layer) for path, layer in statistics.items()}
            self.sparsities = self.allocation.sparsities(blocks, self.importance, self.pattern.sparsity, seen)

    def prune_block(self, block: Block, statistics: Mapping[str, LayerStatistics]) -> dict[str, LayerReport]:
        """Score and mask every layer of a block, and zero the weights.

        Under torch.distributed the first process decides and the others follow.

        Args:
            block: A block of :meth:`select`.
            statistics: Layer path to statistics; may lack layers if the importance needs none.

        Returns:
            Layer path to report.
        """
        return {path: self.prune_layer(layer, statistics.get(path)) for path, layer in block.layers.items()}

    def prune_layer(self, layer: Layer, statistics: LayerStatistics | None) -> LayerReport:
        """Score and mask one layer and zero its weights; see :meth:`prune_block`.

        Raises:
            UserError: If weights or statistics hold NaN or Inf, naming the layer.
        """
        matrix = layer.matrix()
        if not is_finite(matrix):
            raise UserError(f"{layer.path}: weights hold NaN or Inf; the checkpoint is damaged")
        if self.importance.needs is not None:
            if statistics is None:
                reason = (
                    "no calibration token was routed to it" if layer.is_routed else "calibration never ran through it"
                )
                log.warning("%s: %s; left dense", layer.path, reason)
                return LayerReport(torch.ones(matrix.shape, dtype=torch.bool), 0.0, 0.0, 1.0, scored=layer.is_routed)
            statistics = self.importance.seen(statistics.to(matrix.device))
            for group, mean in statistics.means.items():
                check_finite(layer.path, group, mean)
        sparsity = self.sparsities.get(layer.path, self.pattern.sparsity)
        if layer.is_experts:
            decisions = [self._decide_expert(layer, statistics, expert, sparsity) for expert in range(matrix.shape[0])]
            changed = [d.weight for d in decisions if d.weight is not None]
            decision = Decision(
                torch.stack([d.mask for d in decisions]),
                torch.stack([d.scores for d in decisions]),
                torch.stack([matrix[i] if d.weight is None else d.weight for i, d in enumerate(decisions)])
                if changed
                else None,
            )
        else:
            decision = self._decide(matrix, statistics, layer.path, sparsity)
        if self.on_scores is not None:
            self.on_scores(layer.path, decision.scores, {} if statistics is None else statistics.means)
        mask = broadcast_tensor(decision.mask)
        if decision.weight is not None:
            matrix.copy_(broadcast_tensor(decision.weight))
        layer.zero(mask)
        return replace(_report(mask, decision.scores), weights_changed=decision.weight is not None)

    def _decide(self, weight: Tensor, statistics: LayerStatistics | None, path: str, sparsity: float) -> Decision:
        if statistics is not None and self.importance.needs is not None:
            for group, mean in statistics.means.items():
                silent = int(self.importance.needs.energy(mean).eq(0).sum())
                if silent == mean.shape[-1]:
                    log.warning("%s: all inputs are zero in group '%s'; left dense", path, group)
                    return _dense(weight)
                if silent:
                    self.silent_inputs[path, group] = silent
        with full_float32():
            return self.importance.decide(weight, statistics, path, self.pattern, sparsity)

    def _decide_expert(
        self, layer: Layer, statistics: LayerStatistics | None, expert: int, sparsity: float
    ) -> Decision:
        path = f"{layer.path}[{expert}]"
        weight = layer.matrix()[expert]
        if statistics is None or self.importance.needs is None:
            return self._decide(weight, None, path, sparsity)
        of_expert = statistics.of_expert(expert)
        if int(of_expert.total_tokens()) == 0:
            log.warning("%s: no calibration token was routed to this expert; left dense", path)
            return _dense(weight)
        return self._decide(weight, of_expert, path, sparsity)


def _dense(weight: Tensor) -> Decision:
    return Decision(torch.ones_like(weight, dtype=torch.bool), weight.float().abs())


def _report(mask: Tensor, scores: Tensor) -> LayerReport:
    exact = accumulator_dtype(scores.device)
    rows = chunk_rows(scores, CHUNK_SCORES)  # no copy of the size of the scores
    found = []
    for part, part_mask in zip(scores.flatten(0, -2).split(rows), mask.flatten(0, -2).split(rows), strict=True):
        sums = part.sum(-1).to(exact).sum(), (part * part_mask).sum(-1).to(exact).sum()
        found.append(torch.stack([*sums, torch.where(part_mask, part, torch.inf).min().to(exact)]))
    totals, kepts, lows = zip(*torch.stack(found).tolist(), strict=True)  # the device is waited for once
    total, kept, lowest = sum(totals), sum(kepts), min(lows)
    return LayerReport(
        mask=mask.cpu().contiguous(),  # a transposed weight has transposed scores
        sparsity=1 - int(torch.count_nonzero(mask)) / mask.numel(),
        threshold=lowest if lowest < float("inf") else 0.0,
        kept_importance=kept / total if total else 1.0,
    )


def _compile(key: str, patterns: list[str] | None) -> list[re.Pattern[str]]:
    compiled = []
    for pattern in patterns or []:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise UserError(f"{key}: '{pattern}' is not a regular expression: {error}") from error
    return compiled

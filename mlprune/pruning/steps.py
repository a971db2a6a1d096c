"""A block is a step: gather its layers' statistics over all batches, then score and mask them.

:func:`prune_blocks` is the one loop over blocks: the library and streaming run its steps one after the other, and for
Lightning its steps are the batches of validation.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mlprune.models.blocks import Block
from mlprune.pruning.calibration import Calibration
from mlprune.pruning.pruner import LayerReport
from mlprune.pruning.statistics import LayerStatistics


class BlockStep:
    """One block's turn: :meth:`gather`, then :meth:`prune`, each at most once; or :meth:`restore`.

    Args:
        calibration: The calibration, whose batches stand before the block.
        position: Position of the block in ``calibration.blocks``.
    """

    def __init__(self, calibration: Calibration, position: int) -> None:
        self.calibration = calibration
        self.position = position
        self.reports: dict[str, LayerReport] = {}
        self._is_gathered = self._is_pruned = False
        self._statistics: dict[str, LayerStatistics] | None = None

    @property
    def block(self) -> Block:
        """The block, with the layers to be pruned."""
        return self.calibration.blocks[self.position]

    @torch.no_grad()
    def gather(self) -> None:
        """Show the block all batches of this process, so that the statistics of its layers add up."""
        if not self._is_gathered:
            self._is_gathered = True
            self.calibration.enter(self.position)
            if self.calibration.needs_batches:
                self.calibration.propagation.gather(self)

    def statistics(self) -> dict[str, LayerStatistics]:
        """Return what :meth:`gather` measured, summed over processes; layer propagation has used it up.

        A collective: every process calls it, also one without batches.
        """
        self.gather()
        if self._statistics is None:
            self._statistics = {} if self.reports else self.calibration.statistics(self.position)
        return self._statistics

    @torch.no_grad()
    def prune(self) -> dict[str, LayerReport]:
        """Score and mask the block's layers, unless layer propagation has, and forget the statistics.

        Returns:
            Layer path to report.
        """
        statistics = self.statistics()
        if not self._is_pruned:
            self._is_pruned = True
            if not self.reports:
                self.reports = self.calibration.pruner.prune_block(self.block, statistics)
            self.calibration.compare_outputs(self.position)
            self._statistics = {}
        return self.reports

    @torch.no_grad()
    def restore(self, reports: Mapping[str, LayerReport], weights: Mapping[str, Tensor]) -> None:
        """Prune the block as it was pruned before, instead of gathering and pruning.

        Args:
            reports: Layer path to report.
            weights: Layer path to weights, where the method changed them.
        """
        self._is_gathered = self._is_pruned = True
        self._statistics, self.reports = {}, dict(reports)
        self.calibration.enter(self.position)
        self.calibration.run_dense(self.position, moves=self.calibration.propagation.passes_dense)
        for path, report in reports.items():
            if path in weights:
                self.block.layers[path].stored.copy_(weights[path])
            self.block.layers[path].zero(report.mask)
        self.calibration.advance_all(self.position + 1)
        self.calibration.compare_outputs(self.position)

    def progress(self, index: int, share: float) -> None:
        """Say that a batch has passed some of the block.

        Args:
            index: Position of the batch.
            share: How much of its way through the block; adds up to 1.
        """
        if self.calibration.on_progress is not None:
            self.calibration.on_progress(self.position, index, share)


def prune_blocks(calibration: Calibration) -> Iterator[BlockStep]:
    """Calibrate and prune one block after the other.

    Args:
        calibration: A calibration that stands before the first block.

    Yields:
        Each block's step. The caller may take it in parts; what it leaves undone is done when it comes back.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from mlprune.pruning import Pruner, calibrating
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes))
        >>> batches = [{"input_ids": torch.tensor([[3, 1, 4, 1, 5]])}, {"input_ids": torch.tensor([[2, 6]])}]
        >>> with calibrating(model):
        ...     for step in prune_blocks(Calibration(model, batches, pruner=Pruner())):
        ...         tokens = step.statistics()["model.layers.0.mlp.down_proj"].tokens
        ...         print(tokens, step.prune()["model.layers.0.mlp.down_proj"].sparsity)
        {'default': tensor(7)} 0.25
    """
    for position in range(len(calibration.blocks)):
        step = BlockStep(calibration, position)
        yield step
        step.prune()

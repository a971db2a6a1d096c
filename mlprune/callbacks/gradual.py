"""Gradual pruning: a sparsity that rises over the epochs of recovery training."""

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from mlprune.callbacks.base import RunCallback
from mlprune.callbacks.pruning import PruningCallback
from mlprune.errors import UserError
from mlprune.log import log
from mlprune.models.blocks import find_blocks
from mlprune.pruning import Unstructured, collect_statistics
from mlprune.run import Run


def cubic(progress: float, initial: float, final: float) -> float:
    """Return the sparsity at a point of the ramp.

    Source: Zhu and Gupta 2017, "To prune, or not to prune", equation 1.

    Args:
        progress: Share of the ramp that has passed; 1 and more give ``final``.
        initial: Sparsity at its start.
        final: Sparsity at its end.

    Example:
        >>> [round(cubic(progress, 0.0, 0.8), 2) for progress in (0.0, 0.5, 1.0)]
        [0.0, 0.7, 0.8]
    """
    return final + (initial - final) * (1 - min(progress, 1.0)) ** 3


class GradualPruning(RunCallback):
    """Prunes a little at first and more at the start of each epoch, up to the sparsity of ``pruning.pattern``.

    At each step up the model as it is now is calibrated anew; what is pruned stays pruned.

    Args:
        initial: Sparsity before the first epoch.
        ramp: Share of the epochs over which the sparsity rises; the others train at the full one.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(self, initial: float = 0.1, ramp: float = 0.75) -> None:
        if not 0 <= initial < 1:
            raise UserError(f"GradualPruning: initial {initial} is not allowed; give 0 <= initial < 1")
        if not 0 < ramp <= 1:
            raise UserError(f"GradualPruning: ramp {ramp} is not allowed; give 0 < ramp <= 1")
        self.initial = initial
        self.ramp = ramp
        self.final: float | None = None

    @property
    def _pruning(self) -> PruningCallback:
        return next(callback for callback in self.run.callbacks if isinstance(callback, PruningCallback))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let ``validate`` prune to the initial sparsity only."""
        pruning = self._pruning
        pattern = pruning.pruner.pattern
        if self.final is None:
            if not trainer.max_epochs or not isinstance(pattern, Unstructured) or pruning.pruner.allocation is not None:
                raise UserError("GradualPruning needs trainer.max_epochs above 0, Unstructured and no allocation")
            if self.run.module.recipe:
                raise UserError("GradualPruning needs the dense model, and model.name is pruned already")
            if isinstance(trainer.strategy, ModelParallelStrategy):
                raise UserError("GradualPruning needs whole weights; give trainer.strategy auto or ddp")
            if self.run.module.lora is not None:
                raise UserError("GradualPruning prunes while weights train; leave model.lora out")
            if self.initial > pattern.sparsity:
                raise UserError(f"GradualPruning: initial {self.initial} is above pruning.pattern's {pattern.sparsity}")
            self.final = pattern.sparsity
            pruning.pruner.pattern = Unstructured(self.initial, pattern.scope, pattern.drop)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise the sparsity."""
        assert self.final is not None
        steps = max(round((trainer.max_epochs or 1) * self.ramp), 1)
        sparsity = cubic((trainer.current_epoch + 1) / steps, self.initial, self.final)
        pruning = self._pruning
        pattern = pruning.pruner.pattern
        assert isinstance(pattern, Unstructured)
        if sparsity <= pattern.sparsity:
            return
        pruning.pruner.pattern = Unstructured(sparsity, pattern.scope, pattern.drop)
        self._prune(self.run, pruning)
        log.info("epoch %d: sparsity %.3f", trainer.current_epoch + 1, sparsity)

    @staticmethod
    @torch.no_grad()
    def _prune(run: Run, pruning: PruningCallback) -> None:
        module, pruner, masks = run.module, pruning.pruner, dict(run.module.masks)
        statistics = collect_statistics(run.model, run.batches, pruner, pruning.count_padding, run.groups)
        for block in pruner.select(find_blocks(run.model)):
            for path, report in pruner.prune_block(block, statistics).items():
                report.mask &= masks[path]  # ties between zeros never restore a pruned weight
                masks[path] = report.mask
                run.outcome.reports[path] = report
        module.mark_pruned(module.recipe, masks)

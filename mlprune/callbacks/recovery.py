"""The callback around recovery training: its batches before, the trained checkpoint after."""

from lightning.pytorch import LightningModule, Trainer

from mlprune.callbacks.base import RunCallback
from mlprune.callbacks.pruned_model import write_checkpoint, write_masks
from mlprune.callbacks.pruning import PruningCallback
from mlprune.runs.unfinished import Unfinished


class RecoveryTraining(RunCallback):
    """Prepares recovery training and writes what comes of it.

    Args:
        pruning: The callback that pruned the model, if this run did.
    """

    def __init__(self, pruning: PruningCallback) -> None:
        self.pruning = pruning

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Form the batches; mark the run as one to resume, since with a pruned model it begins here."""
        self.run.data.tokenize_training(self.run.model, self.run.module.tokenizer)
        if self.run.writes:
            Unfinished(self.run.folder).start()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the trained checkpoint, its pruned weights at zero."""
        run = self.run
        run.module.end_training()
        recipe = self.pruning.recipe() if run.outcome.reports else run.module.recipe  # of a model pruned before
        run.module.mark_pruned(recipe | {"trained": True})
        write_masks(run)
        if self.pruning.save_model:
            write_checkpoint(run)

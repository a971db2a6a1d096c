"""The callback that calibrates the dense model and prunes nothing, for sweeps."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from mlprune.callbacks.base import Schedule
from mlprune.callbacks.pruning import PruningCallback
from mlprune.models.blocks import find_blocks
from mlprune.module import Step
from mlprune.pruning import BlockStep, Calibration, LayerStatistics, calibrating, load_statistics, save_statistics


class DenseCalibration(Schedule):
    """Gathers the statistics of all layers of the dense model, and keeps them in ``statistics.safetensors``.

    Args:
        pruning: Whose layers and which statistic.
    """

    caption = "calibrating"

    def __init__(self, pruning: PruningCallback) -> None:
        self.pruning = pruning
        self.statistics: Mapping[str, LayerStatistics] = {}
        self._calibrating = ExitStack()
        self._calibration: Calibration | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check what can be checked before the model is loaded, and load the statistics of an earlier start."""
        self.pruning.check(self.run)
        file = self.run.folder / "statistics.safetensors"
        if self.run.resumes and file.is_file() and not self.statistics:
            self.statistics = load_statistics(file)

    def num_steps(self) -> int:
        """One step per block; a single empty step where the statistics are known."""
        return 1 if self.statistics else len(find_blocks(self.run.model))

    def steps(self) -> Iterator[Step]:
        """Every block in order."""
        if self._calibration is None:
            yield _Nothing()
        else:
            yield from (BlockStep(self._calibration, k) for k in range(len(self._calibration.blocks)))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare calibration on this process' batches."""
        if self.statistics:
            return
        self._calibrating.enter_context(calibrating(self.run.model))
        self._calibration = self.pruning.calibration(on_progress=self.report_progress)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a block's statistics up over processes."""
        if isinstance(batch, BlockStep):
            self.statistics = {**self.statistics, **batch.statistics()}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the statistics, unless they are too large or there already."""
        self._calibrating.close()
        needs = self.pruning.pruner.importance.needs
        if self._calibration is not None and self.run.writes and needs is not None and needs.is_stored:
            save_statistics(dict(self.statistics), self.run.folder / "statistics.safetensors")
        self._calibration = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model as it was found."""
        self._calibrating.close()


class _Nothing:
    """A step where nothing is left to do; Lightning calls no hooks without any."""

    def gather(self) -> None:
        """Do nothing."""

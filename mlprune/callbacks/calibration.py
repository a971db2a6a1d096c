"""The callback that calibrates for the recipes of a study: the dense model for many, or one recipe block by block."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from mlprune.batching import deal
from mlprune.callbacks.base import Schedule
from mlprune.datamodule import PruningDataModule
from mlprune.models.blocks import find_blocks
from mlprune.pruning import BlockStep, Calibration, LayerStatistics, Pruner, calibrating, prune_blocks
from mlprune.pruning.propagation import Propagate
from mlprune.pruning.statistics import kept_on_host


@dataclass(frozen=True)
class Job:
    """What is calibrated.

    Args:
        data: Its prompts, which have been chosen.
        pruner: Which layers, which statistic, and, if the model is pruned, how.
        propagate: As in :class:`mlprune.callbacks.PruningCallback`.
        count_padding: As there.
        prunes: Whether the model is pruned; else statistics of the dense model are gathered.
        dense: Statistics of the dense model, where a pruner's allocation needs them.
    """

    data: PruningDataModule
    pruner: Pruner
    propagate: Propagate = "dense"
    count_padding: bool = False
    prunes: bool = False
    dense: Mapping[str, LayerStatistics] | None = None


class RecipeCalibration(Schedule):
    """Gathers the statistics of all layers of the dense model, or prunes it block by block, writing nothing.

    Attributes:
        statistics: Layer path to statistics of the last job.
        masks: Layer path to mask of the last job.
    """

    caption = "calibrating"

    def __init__(self) -> None:
        self.statistics: dict[str, LayerStatistics] = {}
        self.masks: dict[str, Tensor] = {}
        self._job: Job | None = None
        self._batches: list[dict[str, Any]] = []
        self._calibrating = ExitStack()
        self._calibration: Calibration | None = None

    def take(self, job: Job) -> None:
        """Calibrate this when validation starts."""
        self._job = job
        self.statistics, self.masks, self._batches = {}, {}, []

    @property
    def batches(self) -> list[dict[str, Any]]:
        """This process' batches of the job."""
        return self._batches

    def num_steps(self) -> int:
        """One step a block."""
        return len(find_blocks(self.run.model))

    def steps(self) -> Iterator[BlockStep]:
        """Every block in order."""
        assert self._calibration is not None
        assert self._job is not None
        if self._job.prunes:
            yield from prune_blocks(self._calibration)
        else:
            yield from (BlockStep(self._calibration, k) for k in range(len(self._calibration.blocks)))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Form the job's batches and prepare calibration on this process' share of them."""
        if not self.is_active:
            return
        assert self._job is not None
        run, job = self.run, self._job
        batches = job.data.calibration_batches(run.model, run.module.tokenizer, job.pruner.importance.needs)
        self._batches = deal(batches, trainer.global_rank, trainer.world_size)
        self._calibrating.enter_context(calibrating(run.model))
        self._calibration = Calibration(
            run.model,
            self._batches,
            pruner=job.pruner,
            propagate=job.propagate,
            count_padding=job.count_padding,
            groups=list(job.data.demonstrations),
            on_progress=self.report_progress,
        )
        if job.prunes:
            job.pruner.allocate(self._calibration.blocks, job.dense)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Finish a block: prune it, or add its statistics up over processes."""
        if not self.is_active:
            return
        assert self._job is not None
        if self._job.prunes:
            self.masks |= {path: report.mask for path, report in batch.prune().items()}
        else:
            self.statistics |= kept_on_host(batch.statistics())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the model's settings as they were."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model's settings as they were."""
        self._close()

    def _close(self) -> None:
        self._calibrating.close()
        self._calibration = None

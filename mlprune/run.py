"""A run is an object: what it works with, where it writes, and what it found so far."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger
from transformers import PreTrainedModel

from mlprune.batching import deal
from mlprune.datamodule import PruningDataModule
from mlprune.distributed import meet
from mlprune.errors import reason_of
from mlprune.log import log
from mlprune.module import PruningModule
from mlprune.pruning import LayerReport, Statistic
from mlprune.runs.facts import hardware
from mlprune.runs.folder import claim, claim_named, numbered, versions
from mlprune.runs.journal import Journal
from mlprune.runs.warnings import keep_warnings

if TYPE_CHECKING:
    from mlprune.callbacks.base import RunCallback, Schedule

VERSIONED = (TensorBoardLogger, CSVLogger)  # loggers whose folder is a version


@dataclass
class PruningOutcome:
    """What pruning did, filled in block by block.

    Args:
        reports: Layer path to report; with streaming, without the mask, which is on disk.
        sizes: Layer path to number of weights.
        seconds: Block to the time that calibrating and pruning it took, where this start of the run did it.
        output_errors: (block, group) to the relative change of the block's output on the group's first batch.
    """

    reports: dict[str, LayerReport] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    output_errors: Mapping[tuple[int, str], float] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """Share of the weights of all layers that were pruned."""
        pruned = sum(round(report.sparsity * self.sizes[path]) for path, report in self.reports.items())
        return pruned / sum(self.sizes.values())


class Run:
    """One run of an :class:`mlprune.experiments.Engine`, which its callbacks see.

    Args:
        trainer: The trainer.
        module: The model.
        data: Calibration prompts and tasks.
        resumed: Folder of the run to be resumed.
        command: What started it, as it was typed.

    Attributes:
        journal: When, where and how long.
        callbacks: The RunCallbacks among the trainer's callbacks, in their order.
        schedule: The callback whose steps validation takes; None where nothing is validated.
        is_experiment: Its stages are phases of one experiment, which compares dense and pruned at its end.
        is_study: The experiment evaluates many recipes.
        trains: Recovery training follows pruning.
        is_part: What is evaluated is one cell of a matrix, and not shown by itself.
        outcome: What pruning did.
        measured: What calibration measures, which decides how batches are formed.
    """

    def __init__(
        self,
        trainer: Trainer,
        module: PruningModule,
        data: PruningDataModule,
        resumed: Path | None = None,
        command: str = "",
    ) -> None:
        self.trainer = trainer
        self.module = module
        self.data = data
        self.resumes = resumed is not None
        self.is_experiment = False
        self.is_study = False
        self.trains = False
        self.is_part = False
        self.outcome = PruningOutcome()
        self.journal = Journal(command, resumed)
        self.callbacks: list[RunCallback] = []
        self.schedule: Schedule | None = None
        self.measured: Statistic | None = None
        self._failed: dict[str, str] = {}  # viewer to warning
        self._claimed: Path | None = None
        self._folder = resumed

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files; one does."""
        return self.trainer.is_global_zero

    @property
    def folder(self) -> Path:
        """The run's folder, known on the first process once it is claimed, and everywhere from the first stage on."""
        folder = self._folder or self._claimed
        assert folder is not None
        return folder

    def begin_again(self) -> None:
        """Ignore whatever an earlier start computed."""
        self.resumes = False

    @property
    def has_folder(self) -> bool:
        """Whether the run's folder was claimed or settled, or is an earlier start's."""
        return self._folder is not None or self._claimed is not None

    def claim_folder(self) -> Path:
        """Give the run a folder that no other run has; on the first process, before its first stage."""
        self._claimed = claim_folder(self.trainer)
        return self._claimed

    def settle_folder(self) -> Path:
        """Let every process know the run's folder: what was claimed, or where the logger writes.

        The first call is a collective, since only the first process knows the folder.
        """
        if self._folder is None:
            folder = self._claimed or unclaimed_folder(self.trainer)
            self._folder = Path(self.trainer.strategy.broadcast(str(folder)))
        return self._folder

    def use(self, module: PruningModule) -> None:
        """Work with another model from now on."""
        self.module = module

    @property
    def model(self) -> PreTrainedModel:
        """The model, once it is loaded."""
        assert self.module.model is not None
        return self.module.model

    @property
    def prompts(self) -> dict[str, list[list[int]]]:
        """Group to the token ids of its calibration prompts; of encoder-decoder models, of what the encoder reads."""
        return self.data.prompts(self.model, self.module.tokenizer)

    @cached_property
    def batches(self) -> list[dict[str, Any]]:
        """This process' share of the calibration batches, which are formed once, over all prompts."""
        batches = self.data.calibration_batches(self.model, self.module.tokenizer, self.measured)
        return deal(batches, self.trainer.global_rank, self.trainer.world_size)

    @property
    def groups(self) -> list[str]:
        """Names of the groups of calibration prompts."""
        return list(self.data.demonstrations)

    @property
    def device(self) -> torch.device:
        """Where the model is computed."""
        return self.trainer.strategy.root_device

    def barrier(self, name: str) -> None:
        """Wait for all processes."""
        meet()
        self.trainer.strategy.barrier(f"mlprune-{name}")

    @contextmanager
    def phase(self, name: str) -> Iterator[dict[str, Any]]:
        """While open, one phase of the run is worked through; its time goes into the run's journal.

        Args:
            name: What is done.
        """
        with self.journal.phase(name) as entry:
            yield entry
        self.write_journal()

    def write_journal(self) -> None:
        """Write run.json, on one process."""
        if self.writes:
            with self.viewer("run.json"):
                if self.module.model is not None:
                    self.journal.note(dtype=str(self.module.model.dtype).removeprefix("torch."))
                self.journal.note(
                    machine=hardware(),
                    devices=self.trainer.num_devices * self.trainer.num_nodes,
                    processes=self.trainer.world_size,
                    accelerator=type(self.trainer.accelerator).__name__.removesuffix("Accelerator"),
                    threads=torch.get_num_threads(),
                    precision=str(self.trainer.precision),
                )
                self.journal.write(self.folder)

    @property
    def warnings(self) -> list[str]:
        """What could not be shown so far, a line each."""
        return list(self._failed.values())

    @contextmanager
    def viewer(self, name: str, remedy: str = "") -> Iterator[None]:
        """While open, only shows what was computed: an error is one warning, on stderr and in the run's folder.

        Args:
            name: What shows it, such as ``report.html``; one that fails again is not reported again.
            remedy: How to make it later.
        """
        try:
            yield
        except Exception as error:
            if name not in self._failed:
                self._failed[name] = f"{name} failed: {reason_of(error)}{remedy and f'; {remedy}'}"
                log.warning("warning: %s", self._failed[name])
                if self.writes and (self._folder or self._claimed):
                    keep_warnings(self.folder, self.warnings)


def claim_folder(trainer: Trainer) -> Path:
    """Give a run a folder that no other run has, and return it; on the first process, before its first stage.

    It is the version of the first TensorBoard or CSV logger, the next that is free if it has none; other such loggers
    beside it get the same. Elsewhere it is ``mlprune_run``, or ``mlprune_run_1`` and so on.

    Raises:
        UserError: If the logger's version is the user's choice and holds a run, or the folder cannot be made.
    """
    home = home_of(trainer)
    if home is None:
        return claim(numbered(unclaimed_folder(trainer)))
    if home._version is not None:
        return claim_named(unclaimed_folder(trainer))
    folder = claim(versions(_parent(home)))
    for logger in trainer.loggers:
        if isinstance(logger, VERSIONED) and logger._version is None and _parent(logger) == folder.parent:
            logger._version = int(folder.name.removeprefix("version_"))  # loggers have no public way to set it
    return folder


def unclaimed_folder(trainer: Trainer) -> Path:
    """Return where a run is written if that folder is free."""
    home = home_of(trainer)
    if home is not None:
        version = home.version
        return _parent(home) / (version if isinstance(version, str) else f"version_{version}")
    roots = [logger.save_dir for logger in trainer.loggers if not isinstance(logger, MLFlowLogger)]  # it owns its own
    local = [root for root in roots if root is not None and _is_local(root)]
    return Path(local[0] if local else trainer.default_root_dir) / "mlprune_run"


def home_of(trainer: Trainer) -> TensorBoardLogger | CSVLogger | None:
    """Return the logger whose folder is the run's: the first that gives each run one on this machine."""
    loggers = (logger for logger in trainer.loggers if isinstance(logger, VERSIONED))
    return next((logger for logger in loggers if _is_local(logger.root_dir)), None)


def reopened(trainer: Trainer, run: Path) -> list[Logger]:
    """Return the trainer's loggers, where those that write into the run's folder do so in the one to be resumed.

    Args:
        trainer: The trainer.
        run: The folder, which may have been moved since.
    """
    home = home_of(trainer)
    return [
        type(logger)(run.parents[1], run.parent.name, run.name)
        if home is not None and isinstance(logger, VERSIONED) and _parent(logger) == _parent(home)
        else logger
        for logger in trainer.loggers
    ]


def _is_local(folder: str) -> bool:
    return "://" not in folder


def _parent(logger: TensorBoardLogger | CSVLogger) -> Path:
    return Path(os.path.expandvars(logger.root_dir)).expanduser()

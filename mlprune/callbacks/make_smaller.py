"""The callback that makes a model smaller before anything else is done to it."""

import shutil
from dataclasses import replace
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.batching import deal
from mlprune.callbacks.base import RunCallback
from mlprune.callbacks.console import print_line, print_tables
from mlprune.datamodule import PruningDataModule
from mlprune.log import log
from mlprune.models.loading import ModelSource
from mlprune.module import PruningModule
from mlprune.pruning import Statistic
from mlprune.smaller import Prompts, Reduction
from mlprune.smaller.base import Batches

SMALLER = "smaller"  # folder in the run's


class MakeSmaller(RunCallback):
    """Takes the steps of ``model.smaller`` when a model's first stage begins, which is then what they wrote.

    All processes measure what a step has to see the model do; one writes, the others wait. What an earlier start of the
    run wrote is used again.
    """

    def __init__(self) -> None:
        self._done: set[PruningModule] = set()
        self._recipes: dict[PruningModule, tuple[str, PruningDataModule]] = {}

    def expect(self, module: PruningModule, name: str, data: PruningDataModule) -> None:
        """Know the model of a study's recipes that takes steps of its own.

        Args:
            module: The model.
            name: Of its folder.
            data: The demonstrations that its steps see.
        """
        self._recipes.setdefault(module, (name, data))

    def restore(self) -> None:
        """Use what an earlier start of the run wrote, where it took all steps: no stage need begin before that."""
        run = self.run
        if run.resumes and run.module.smaller and all(self._folder(i).exists() for i in range(len(run.module.smaller))):
            log.info("the model was made smaller before: %s", self._folder(0).parent)
            self._done.add(run.module)
            self._use_last()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the steps, once the folder is settled and before the weights are loaded."""
        run = self.run
        if run.module in self._done or not run.module.smaller:
            return
        self._done.add(run.module)
        source = run.module.source
        for place, step in enumerate(run.module.smaller):
            self._take(step, source, self._folder(place))
            run.barrier(f"smaller-{place}")
            source = replace(source, name=str(self._folder(place)), revision=None)
        self._use_last()

    def _folder(self, place: int) -> Path:
        module = self.run.module
        home = self.run.folder / SMALLER
        if module in self._recipes:
            home /= self._recipes[module][0]
        return home / f"{place + 1}-{module.smaller[place].name}"

    @property
    def _data(self) -> PruningDataModule:
        """What the steps of the model see."""
        run = self.run
        return self._recipes[run.module][1] if run.module in self._recipes else run.data

    def _take(self, step: Reduction, source: ModelSource, target: Path) -> None:
        """Let every process measure, and one write."""
        run = self.run
        if run.trainer.strategy.broadcast(target.exists() and run.resumes):
            return
        log.info("making the model smaller: %s", type(step).__name__)
        measured = step.measure(source, self._prompts())
        if not run.writes:
            return
        shutil.rmtree(target, ignore_errors=True)
        texts = dict.fromkeys([*run.data.texts(), *self._data.texts()])
        tables = step.reduce(source, target, list(texts), measured)
        with run.viewer("console table"):
            print_line("")
            print_line(f"{run.module.given.name}, {step.name}", "bold")
            print_tables(tables)

    def _prompts(self) -> Prompts:
        run, data = self.run, self._data

        def batches(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, measured: Statistic | None) -> Batches:
            found = data.batches_of(model, tokenizer, measured)
            return deal(found, run.trainer.global_rank, run.trainer.world_size)

        return Prompts(list(data.demonstrations), batches, run.device)

    def _use_last(self) -> None:
        module = self.run.module
        last = self._folder(len(module.smaller) - 1)
        module.use_source(replace(module.source, name=str(last), revision=None))
        for intervention in module.interventions:
            intervention.prepare(self.run.data.tasks, module.tokenizer)  # again: tokens have other ids now

"""The callback that makes a model smaller before anything else is done to it."""

import shutil
from dataclasses import replace
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer

from mlprune.callbacks.base import RunCallback
from mlprune.callbacks.console import print_line, print_tables
from mlprune.log import log
from mlprune.run import Run
from mlprune.smaller import Reduction

SMALLER = "smaller"  # folder in the run's


class MakeSmaller(RunCallback):
    """Takes the steps of ``model.smaller`` when the first stage begins; the run's model is then what they wrote.

    One process takes a step, the others wait. What an earlier start of the run wrote is used again.
    """

    def __init__(self) -> None:
        self._is_done = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the steps, once the folder is settled and before the weights are loaded."""
        run = self.run
        if self._is_done:
            return
        self._is_done = True
        for number, step in enumerate(run.module.smaller, start=1):
            target = run.folder / SMALLER / f"{number}-{step.name}"
            if run.writes:
                self._take(run, step, target)
            run.barrier(f"smaller-{number}")
            run.module.use_source(replace(run.module.source, name=str(target), revision=None))
        for intervention in run.module.interventions if run.module.smaller else []:
            intervention.prepare(run.data.tasks, run.module.tokenizer)  # again: tokens have other ids now

    @staticmethod
    def _take(run: Run, step: Reduction, target: Path) -> None:
        if target.exists() and run.resumes:
            log.info("the model was made smaller before: %s", target)
            return
        shutil.rmtree(target, ignore_errors=True)
        log.info("making the model smaller: %s", type(step).__name__)
        tables = step.reduce(run.module.source, target, run.data.texts())
        with run.viewer("console table"):
            print_line("")
            print_line(f"{run.module.given.name}, {step.name}", "bold")
            print_tables(tables)

"""The callback that writes an evaluation's results and predictions, each complete or absent."""

import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from mlprune.callbacks.base import RunCallback
from mlprune.files import to_json, write_json, write_text
from mlprune.inputs import INPUTS, evaluated_parts
from mlprune.run import Run
from mlprune.runs.facts import digest, versions
from mlprune.runs.folder import resume_hint
from mlprune.runs.inputs import hashes
from mlprune.runs.reading import SCHEMA_VERSION
from mlprune.runs.unfinished import Unfinished
from mlprune.text import visible


class RunWriter(RunCallback):
    """Writes results.json and the predictions after ``test``.

    Args:
        config: The run's configuration, for its hash.
        subcommand: fit, validate or test, for the hint how to resume.
    """

    def __init__(self, config: Mapping[str, Any], subcommand: str) -> None:
        self.config_hash = digest(config)
        self.subcommand = subcommand
        self._finished: dict[tuple[str, str, int], dict[str, Any]] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the records that an earlier start of the run kept."""
        run, unfinished = self.run, Unfinished(self.run.folder)
        if run.writes:
            unfinished.start()
        run.barrier("unfinished")
        self._finished = unfinished.load_records(run.module.pruning_stage) if run.resumes else {}

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Use a batch's records from the earlier start, if all of them are there."""
        places = [(batch.task.name, batch.lang, position) for position in batch.positions]
        if all(place in self._finished for place in places):
            batch.records = [self._finished[place] for place in places]

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch's records as soon as there are any."""
        run, places = self.run, [(batch.task.name, batch.lang, position) for position in batch.positions]
        if batch.records and not all(place in self._finished for place in places):
            stage, rank = run.module.pruning_stage, trainer.global_rank
            Unfinished(run.folder).add_records(stage, rank, batch.task.name, batch.lang, batch.records)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to resume after Ctrl-C, in a line to be pasted."""
        if not isinstance(exception, KeyboardInterrupt) or not trainer.is_global_zero:
            return
        hint = resume_hint(self.run.folder, self.subcommand)
        print(visible(f"interrupted; {hint}"), file=sys.stderr)  # the log would break the line

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the evaluation, on one process."""
        run = self.run
        if run.writes:
            for (task, lang), records in run.module.records.items():
                where = f"task '{task}', language '{lang}'"
                lines = "".join(to_json(record, where) + "\n" for record in records)
                write_text(run.folder / "predictions" / f"{task}.{lang}.jsonl", lines)
            write_json(run.folder / "results.json", self.results(run))

    def results(self, run: Run) -> dict[str, Any]:
        """Return the content of results.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": run.module.given.name,
            "stage": run.module.pruning_stage,
            "system": run.module.system,
            "sparsity": run.module.recipe.get("sparsity", 0.0),
            "seed": run.data.seed,
            "config_hash": self.config_hash,
            "versions": versions(),
            **({} if run.module.recipe else {INPUTS: hashes(evaluated_parts(run.module, run.data))}),
            **run.module.results,
            **({"warnings": run.warnings} if run.warnings else {}),
        }

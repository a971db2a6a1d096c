"""The stages of a run: each is one call of the trainer."""

from collections.abc import Sequence
from typing import Any

from mlprune.callbacks.base import Schedule, ScheduleLoader
from mlprune.log import log
from mlprune.run import Run
from mlprune.runs.checkpoints import newest_checkpoint


class Stages:
    """What a run may do with its model, one trainer call at a time.

    Args:
        run: The run, whose data has been read.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def begin(self) -> None:
        """Load the model, once the steps that make it smaller have been taken."""
        nothing: Sequence[Any] = []
        self.run.trainer.validate(self.run.module, dataloaders=nothing, verbose=False)

    def evaluate(self) -> None:
        """Evaluate the model as it is, and let the callbacks know."""
        run = self.run
        try:
            run.trainer.test(run.module, datamodule=run.data, verbose=False)
        finally:
            run.module.end_interventions()
        for callback in run.callbacks:
            callback.on_evaluated(run, run.module.system, run.module.results)

    def validate(self, schedule: Schedule) -> None:
        """Take the steps of a schedule: calibrate and prune, or measure.

        Args:
            schedule: The callback whose steps they are.
        """
        self.run.schedule = schedule
        self.run.trainer.validate(self.run.module, dataloaders=ScheduleLoader(schedule), verbose=False)
        self.run.schedule = None

    def train(self, ckpt_path: str | None = None) -> None:
        """Train with the masks held, from the newest Lightning checkpoint of an earlier start if there is one.

        Args:
            ckpt_path: Checkpoint to start from instead.
        """
        run = self.run
        if ckpt_path is None and run.resumes and (newest := newest_checkpoint(run.folder)) is not None:
            log.info("resuming recovery training from %s", newest)
            ckpt_path = str(newest)
        run.trainer.fit(run.module, datamodule=run.data, ckpt_path=ckpt_path, weights_only=True)
        optimizer = run.trainer.optimizers[0]
        rate = optimizer.param_groups[0].get("initial_lr", optimizer.param_groups[0]["lr"])  # a scheduler changes lr
        run.journal.note(
            training={"optimizer": type(optimizer).__name__, "learning_rate": rate, "steps": run.trainer.global_step}
        )

"""Progress on the console: phase, block k of n, tokens per second and time left; plain lines when not a terminal."""

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mlprune.callbacks.base import Viewer
from mlprune.log import log
from mlprune.run import Run


class ProgressDisplay(Viewer, ProgressBar):
    """Shows how far a run is: a live line on a terminal, now and then a plain line elsewhere.

    Args:
        seconds_between_lines: Where output is not a terminal, the least time between two lines.
    """

    def __init__(self, seconds_between_lines: float = 15.0) -> None:
        super().__init__()
        self.seconds_between_lines = seconds_between_lines
        self._enabled = True
        self._live: Progress | None = None
        self._task = TaskID(0)
        self._phase = ""
        self._unit = "tokens"
        self._num_steps = 0
        self._start = self._last_line = 0.0
        self._done = self._amount = self._total = 0.0

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    # -- validate -------------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the phase of calibration."""
        if (schedule := self.run.schedule) is not None:
            self._num_steps = schedule.num_steps()
            self._begin(trainer, schedule.caption, self._num_steps * len(schedule.batches), "tokens")

    def on_calibration_progress(self, run: Run, block: int, index: int, share: float) -> None:
        """Count what a batch has passed of a block."""
        assert run.schedule is not None
        place = f"block {block + 1} of {self._num_steps}" if self._num_steps > 1 else ""
        self._advance(share * int(run.schedule.batches[index]["attention_mask"].sum()), place, share)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the phase before anything else is printed."""
        self._end()

    # -- test -----------------------------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the phase of evaluation."""
        self._begin(trainer, f"evaluating, {pl_module.system}", sum(trainer.num_test_batches), "examples")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count evaluated examples."""
        self._advance(len(batch.examples), f"{batch.task.name} {batch.lang}")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the phase before results are printed."""
        self._end()

    # -- recovery training ----------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the phase of training."""
        self._begin(
            trainer, "recovery training", int(trainer.num_training_batches * (trainer.max_epochs or 1)), "tokens"
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the tokens of a batch."""
        self._advance(int(batch["attention_mask"].sum()), f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the phase."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._end()

    # -- display --------------------------------------------------------------------------------------------------

    def _begin(self, trainer: Trainer, phase: str, total: float, unit: str) -> None:
        self._end()
        self._phase, self._unit, self._total = phase, unit, total
        self._done = self._amount = 0
        self._start = self._last_line = time.monotonic()
        console = shared_console()
        if self._enabled and trainer.is_global_zero and console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[place]}"),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
            )
            self._live = Progress(*columns, console=console, transient=True)
            self._task = self._live.add_task(phase, total=total, place="", speed="")
            self._live.start()

    def _advance(self, amount: float, place: str, steps: float = 1) -> None:
        self._done += steps
        self._amount += amount
        now = time.monotonic()
        rate = self._amount / max(now - self._start, 1e-9)
        speed = f"{rate:,.{0 if rate >= 10 else 1}f} {self._unit}/s"
        if self._live is not None:
            self._live.update(self._task, completed=self._done, place=place, speed=speed)
        elif self._enabled and now - self._last_line >= self.seconds_between_lines:
            self._last_line = now
            left = (now - self._start) / self._done * max(self._total - self._done, 0)
            parts = [part for part in (place, speed, f"{timedelta(seconds=round(left))} left") if part]
            log.info("%s: %s", self._phase, ", ".join(parts))

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def shared_console() -> Console:
    """Return the console that the log writes to, so that log lines and a live line do not disturb each other."""
    consoles = (handler.console for handler in log.handlers if isinstance(handler, RichHandler))
    return next(consoles, None) or Console(stderr=True)

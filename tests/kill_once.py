"""A callback that kills its process at a given step, once."""

import os
import signal
from pathlib import Path

from mlprune.callbacks import RunCallback


class KillOnce(RunCallback):
    """Send SIGKILL to this process before a batch, unless the marker file says that it was done.

    Args:
        stage: ``validation`` (a batch is a block), ``calibration`` (a batch within a block), ``test``, ``train``
            or ``end`` (before the report).
        batch: How many batches of the stage (over all its loaders) to let pass.
        marker: File that is made on the way.
        how: Name of the signal.
    """

    def __init__(self, stage: str, batch: int, marker: str, how: str = "SIGKILL") -> None:
        self.stage, self.left, self.marker, self.how = stage, batch, Path(marker), how

    def _count(self, stage: str) -> None:
        if stage == self.stage and not self.marker.exists():
            if self.left == 0:
                self.marker.touch()
                os.kill(os.getpid(), getattr(signal, self.how))
            self.left -= 1

    def on_validation_batch_start(self, *args) -> None:
        self._count("validation")

    def on_calibration_progress(self, *args) -> None:
        self._count("calibration")

    def on_test_batch_start(self, *args) -> None:
        self._count("test")

    def on_train_batch_start(self, *args) -> None:
        self._count("train")

    def on_run_end(self, *args) -> None:
        self._count("end")

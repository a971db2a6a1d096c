"""SIGTERM, and SLURM's SIGUSR1 before a job's time is up, end a run as Ctrl-C does."""

import signal
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class EndOnSigterm(Callback):
    """Ends all processes within seconds of a signal, with an exit status that is not 0 and the hint how to go on.

    Lightning's own handler talks to the other processes while they may be waiting for each other, and what it ends, it
    ends as if the work were done, with status 0. For SIGUSR1 it writes a checkpoint that no run of ours reads.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handler, which Lightning takes away at the end of each stage."""
        for number in SIGNALS:
            signal.signal(number, _interrupt)

    on_test_start = on_train_start = on_validation_start


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: nothing is to disturb the clearing up
    raise KeyboardInterrupt

"""SIGTERM, and SLURM's SIGUSR1 shortly before a job's time limit, end a run as Ctrl-C does."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class EndOnSigterm(Callback):
    """Ends all processes within seconds of a signal, with an exit status other than 0 and a hint how to resume.

    Lightning's own handler starts collectives while the other processes may be waiting for each other, and exits with
    status 0 as if the work were done. For SIGUSR1 it writes a checkpoint that mlprune never reads.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handler, which Lightning removes at the end of each stage."""
        if threading.current_thread() is threading.main_thread():
            _handle()

    on_test_start = on_train_start = on_validation_start


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """While open, the signals interrupt as Ctrl-C does, also between Lightning's stages; in the main thread only.

    Example:
        >>> with interrupted_by_signals():
        ...     signal.getsignal(signal.SIGTERM).__name__
        '_interrupt'
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _handle()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _handle() -> None:
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # once is enough: nothing may interrupt the cleanup
    raise KeyboardInterrupt

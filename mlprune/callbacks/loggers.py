"""Loggers are viewers: one that fails is a warning, also where Lightning calls it."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from mlprune.run import Run

CALLED = ("log_metrics", "log_hyperparams", "log_graph", "after_save_checkpoint", "save", "finalize")  # by Lightning


def guard_loggers(run: Run) -> None:
    """Have every logger of the run's trainer warn, once, instead of raising; each is still one of its class."""
    for logger in run.trainer.loggers:
        kind = type(logger)
        methods = {name: _guarded(run, kind.__name__, getattr(kind, name)) for name in CALLED}
        logger.__class__ = type(f"_Guarded{kind.__name__}", (kind,), methods)  # a config finds the logger by its name


def _guarded(run: Run, name: str, method: Callable[..., None]) -> Callable[..., None]:
    @wraps(method)
    def guarded(logger: Any, *args: Any, **kwargs: Any) -> None:
        with run.viewer(name):
            method(logger, *args, **kwargs)

    return guarded

"""Loggers are viewers: one that fails is a warning, also where Lightning calls it."""

import csv
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger

from mlprune.run import Run

CALLED = ("log_metrics", "log_hyperparams", "log_graph", "after_save_checkpoint", "save", "finalize")  # by Lightning
GUARDED = "_Guarded"


class Absent:
    """The experiment of a logger that has none because it failed: any call is ignored."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def guard_loggers(run: Run) -> None:
    """Have every logger of the run's trainer warn, once, instead of raising; each is still one of its class."""
    for logger in run.trainer.loggers:
        kind = type(logger)
        methods: dict[str, Any] = {name: _guarded(run, kind.__name__, getattr(kind, name)) for name in CALLED}
        if isinstance(experiment := getattr(kind, "experiment", None), property):
            methods["experiment"] = _guarded_experiment(run, kind.__name__, experiment)
        logger.__class__ = type(f"{GUARDED}{kind.__name__}", (kind,), methods)  # a config finds the logger by its name
        if run.resumes and run.writes and isinstance(logger, CSVLogger):
            with run.viewer(kind.__name__):
                _continue(logger)


def name_of(logger: Logger) -> str:
    """Return the name of a logger's class, guarded or not."""
    return type(logger).__name__.removeprefix(GUARDED)


def _guarded(run: Run, name: str, method: Callable[..., None]) -> Callable[..., None]:
    @wraps(method)
    def guarded(logger: Any, *args: Any, **kwargs: Any) -> None:
        with run.viewer(name):
            method(logger, *args, **kwargs)

    return guarded


def _guarded_experiment(run: Run, name: str, experiment: property) -> property:
    """Lightning makes experiments when a stage begins, which may connect to a server."""
    failed: list[Logger] = []  # each of which tried long enough

    def guarded(logger: Any) -> Any:
        assert experiment.fget is not None
        if logger not in failed:
            with run.viewer(name):
                return experiment.fget(logger)
            failed.append(logger)
        return Absent()

    return property(guarded, doc=experiment.__doc__)


def _continue(logger: CSVLogger) -> None:
    """Keep the metrics.csv of an earlier start, which Lightning would delete."""
    file = Path(logger.log_dir) / "metrics.csv"
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as lines:
            rows: list[Any] = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(lines)]
        logger.experiment.metrics.extend(rows)
        logger.save()

"""The run that a trainer's stages are part of, and its folder."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from mlprune.runs.folder import claim, claim_named, numbered, versions

VERSIONED = (TensorBoardLogger, CSVLogger)  # loggers whose folder is a version


@dataclass
class Run:
    """What callbacks have to know beyond the stage they are called in.

    Args:
        folder: Where the run writes; None until :func:`run_folder` settles it.
        claimed: The folder that the first process claimed for the run; None elsewhere.
        resumes: It goes on in the folder of an earlier start.
        is_experiment: Its stages are phases of one experiment (``fit``), which cleans up and reports at its end.
        is_sweep: The experiment evaluates at many sparsities.
        trains: Recovery training follows pruning.
    """

    folder: Path | None = None
    claimed: Path | None = None
    resumes: bool = False
    is_experiment: bool = False
    is_sweep: bool = False
    trains: bool = False


def run_of(trainer: Any) -> Run:
    """Return the run of a trainer; a trainer of anyone's has one from the first call on.

    Example:
        >>> trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
        >>> run_of(trainer).resumes = True
        >>> run_of(trainer)
        Run(folder=None, claimed=None, resumes=True, is_experiment=False, is_sweep=False, trains=False)
    """
    if not hasattr(trainer, "mlprune_run"):
        trainer.mlprune_run = Run()
    return trainer.mlprune_run


def run_folder(trainer: Trainer) -> Path:
    """Return the run's folder: what was claimed, else the logger's, or ``<default_root_dir>/mlprune_run`` without one.

    The first call is a collective, since only the first process knows its folder; callbacks make it in ``setup``, so
    that later ones may come from any process alone.
    """
    run = run_of(trainer)
    if run.folder is None:
        own = run.claimed or _unclaimed(trainer)
        run.folder = Path(trainer.strategy.broadcast(str(own)))
    return run.folder


def claim_folder(trainer: Trainer) -> Path:
    """Give a run a folder that no other run has, and return it; on the first process, before its first stage.

    A TensorBoard or CSV logger without a version gets the next that is free; elsewhere it is ``mlprune_run``, or
    ``mlprune_run_1`` and so on.

    Raises:
        UserError: If the logger's version is the user's choice and holds a run, or the folder cannot be made.
    """
    logger = trainer.logger
    if not isinstance(logger, VERSIONED):
        folder = claim(numbered(_unclaimed(trainer)))
    elif logger._version is not None:
        folder = claim_named(_unclaimed(trainer))
    else:
        folder = claim(versions(_parent(logger)))
        logger._version = int(folder.name.removeprefix("version_"))  # there is no other way to tell a logger
    run_of(trainer).claimed = folder
    return folder


def _unclaimed(trainer: Trainer) -> Path:
    """Where a run goes if nobody else is there."""
    logger = trainer.logger
    if isinstance(logger, VERSIONED):
        version = logger.version
        return _parent(logger) / (version if isinstance(version, str) else f"version_{version}")
    root = None if logger is None else logger.save_dir
    return Path(trainer.default_root_dir if root is None else root) / "mlprune_run"


def _parent(logger: TensorBoardLogger | CSVLogger) -> Path:
    return Path(os.path.expandvars(logger.root_dir)).expanduser()

"""The run that a trainer's stages are part of, and its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer


@dataclass
class Run:
    """What callbacks have to know beyond the stage they are called in.

    Args:
        folder: Where the run writes; None until :func:`run_folder` settles it.
        resumes: It goes on in the folder of an earlier start.
        is_experiment: Its stages are phases of one experiment (``fit``), which cleans up and reports at its end.
        is_sweep: The experiment evaluates at many sparsities.
        trains: Recovery training follows pruning.
    """

    folder: Path | None = None
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
        Run(folder=None, resumes=True, is_experiment=False, is_sweep=False, trains=False)
    """
    if not hasattr(trainer, "mlprune_run"):
        trainer.mlprune_run = Run()
    return trainer.mlprune_run


def run_folder(trainer: Trainer) -> Path:
    """Return the run's folder: the logger's, or ``<default_root_dir>/mlprune_run`` without a logger.

    The first call is a collective, since only the first process knows its logger's version; callbacks make it in
    ``setup``, so that later ones may come from any process alone.
    """
    run = run_of(trainer)
    if run.folder is None:
        run.folder = Path(str(trainer.log_dir)) if trainer.loggers else Path(trainer.default_root_dir) / "mlprune_run"
    return run.folder

"""The experiment: evaluate dense, prune, train (``max_epochs``), evaluate, compare; or a study of many recipes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mlprune.callbacks.base import Schedule
from mlprune.callbacks.console import print_tables
from mlprune.callbacks.gradual import GradualPruning
from mlprune.comparison import read_figures
from mlprune.errors import UserError
from mlprune.experiments.comparing import compare_with_dense
from mlprune.experiments.dense import check_dense, has_dense, has_pruned, keep_dense, keep_pruned, take_dense
from mlprune.experiments.stages import Stages
from mlprune.experiments.study import StudyExperiment
from mlprune.log import log
from mlprune.present import figure_tables
from mlprune.run import Run

Phase = tuple[str, Callable[[], None]]  # caption, work


class Experiment:
    """The phases of ``fit``, in order.

    Args:
        run: The run.
        pruning: How it prunes.
        stages: The stages that the phases run.
        study: The study of many recipes, if there is one.
        dense: Folder of a run that has the dense model's results.
    """

    def __init__(
        self,
        run: Run,
        pruning: Schedule,
        stages: Stages,
        study: StudyExperiment | None = None,
        dense: Path | None = None,
    ) -> None:
        self.run = run
        self.pruning = pruning
        self.stages = stages
        self.study = study
        self.dense = dense

    def conduct(self, ckpt_path: str | None = None) -> None:
        """Go through all phases, announcing each.

        Args:
            ckpt_path: Lightning checkpoint that recovery training starts from.
        """
        phases = self._phases(ckpt_path)
        for number, (caption, work) in enumerate(phases, start=1):
            log.info("(%d/%d) %s", number, len(phases), caption)
            with self.run.phase(caption):
                work()

    def _phases(self, ckpt_path: str | None) -> list[Phase]:
        was_pruned = bool(self.run.module.recipe)
        if self.study is not None:
            return [self._dense_phase(), *self.study.phases()]
        phases: list[Phase] = []
        if not was_pruned:
            phases += [self._dense_phase(), ("calibrating and pruning", partial(self.stages.validate, self.pruning))]
        if self.run.trains:
            if not was_pruned and self.run.data.tasks and not prunes_while_training(self.run):
                phases.append(self._pruned_phase())
            phases.append(("recovery training with the masks held", partial(self.stages.train, ckpt_path)))
        if self.run.data.tasks or not was_pruned:
            system = "trained" if self.run.trains else "pruned"
            phases.append((f"evaluating the {system} model", self.stages.evaluate))
        return phases

    def _dense_phase(self) -> Phase:
        """Evaluate the dense model, unless an earlier start of the run did, or another run that was given."""
        run, other = self.run, self.dense
        if run.resumes and has_dense(run.folder):
            return "the dense model was evaluated before", self._connect
        if other is not None:
            check_dense(other, run)
            return f"taking the dense model's results from {other}", partial(self._take_dense, other)
        return "evaluating the dense model", self._evaluate_dense

    def _pruned_phase(self) -> Phase:
        """Evaluate the pruned model before it is trained, unless an earlier start of the run did."""
        if self.run.resumes and has_pruned(self.run.folder):
            return "the pruned model was evaluated before", lambda: None
        return "evaluating the pruned model", self._evaluate_pruned

    def _evaluate_pruned(self) -> None:
        self.stages.evaluate()
        if self.run.writes:
            keep_pruned(self.run.folder)
        self.run.barrier("pruned")

    def _evaluate_dense(self) -> None:
        self.stages.evaluate()
        if self.run.writes:
            keep_dense(self.run.folder)
        self.run.barrier("dense")

    def _take_dense(self, other: Path) -> None:
        if self.run.writes:
            take_dense(other, self.run.folder)
        self._connect()

    def _connect(self) -> None:
        """Connect the processes of a study, which decide together what is left; else its first evaluation would."""
        if self.study is not None and self.run.trainer.world_size > 1:
            self.stages.begin()

    def compare(self) -> dict[str, Any]:
        """Compare with the dense model, in files and on the console; a model pruned before the run is only shown.

        Returns:
            The content of comparison.json, or of study.json; empty where nothing was compared.
        """
        run = self.run
        if self.study is not None:
            return self.study.write()
        if has_dense(run.folder):
            return compare_with_dense(run)
        with run.viewer("console table"):
            print_tables(figure_tables({run.module.system: read_figures(run.module.results)}))
        return {}


def prunes_while_training(run: Run) -> bool:
    """Return whether sparsity rises during recovery training, so that there is no pruned model before it."""
    return any(isinstance(callback, GradualPruning) for callback in run.callbacks)


def check_precision(precision: str, trains: bool) -> None:
    """Raise UserError if a trainer's precision would change what is calibrated or evaluated behind ``model.dtype``.

    Args:
        precision: As a trainer says it.
        trains: Recovery training is to follow, for which mixed precision is.

    Example:
        >>> check_precision("bf16-true", trains=True)
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: trainer.precision bf16-true ...; give model.dtype: bfloat16
    """
    kind, _, how = precision.partition("-")
    dtype = {"bf16": "bfloat16", "16": "float16", "64": "float64"}.get(kind, "bfloat16")
    if how == "true" and kind != "32":
        raise UserError(
            f"trainer.precision {precision} also converts what an architecture keeps in float32, and nothing that "
            f"streams or is split; give model.dtype: {dtype}"
        )
    if how == "mixed" and not trains:
        raise UserError(
            f"trainer.precision {precision} is for recovery training (fit with trainer.max_epochs above 0); to "
            f"calibrate and evaluate in another dtype give model.dtype: {dtype}"
        )
    if kind == "transformer":
        raise UserError(f"trainer.precision {precision} replaces the layers that are pruned; give model.dtype: {dtype}")


def check_training(run: Run) -> None:
    """Raise UserError if settings of recovery training do not go with a run's model or with one another."""
    epochs, name = run.trainer.max_epochs, run.module.source.name
    if run.is_study and run.trains:
        raise UserError(f"study and pruning.sweep train nothing; leave trainer.max_epochs {epochs} out")
    if run.module.lora is not None and not run.trains:
        raise UserError("model.lora trains adapters; give trainer.max_epochs above 0, or leave it out")
    if run.trains and run.module.source.has_encoder():
        raise UserError(
            f"trainer.max_epochs {epochs}: recovery training is of models that continue text; "
            f"{name} has an encoder; leave it out"
        )

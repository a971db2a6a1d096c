"""The Engine: evaluate, prune, train, and the experiment that is all of them in order."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from mlprune.callbacks import (
    EndOnSigterm,
    FeatureAnalysis,
    PruningCallback,
    ReportCallback,
    ResultsTable,
    RunFolder,
    RunWriter,
    TensorBoard,
)
from mlprune.callbacks.base import RunCallback, Schedule, ScheduleLoader
from mlprune.callbacks.console import print_line, print_tables
from mlprune.callbacks.loggers import guard_loggers
from mlprune.comparison import read_figures
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.experiments.comparing import compare_with_dense
from mlprune.experiments.dense import check_dense, has_dense, keep_dense, take_dense
from mlprune.experiments.sweep import Sweep
from mlprune.log import log
from mlprune.module import PruningModule
from mlprune.present import figure_tables
from mlprune.run import Run
from mlprune.runs.folder import release
from mlprune.runs.unfinished import Unfinished

TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # batches are dealt by the data module
    "inference_mode": False,  # weights are edited during validation
    "max_epochs": 0,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}

Phase = tuple[str, Callable[[], None]]


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the trainer's own list of callbacks, which Lightning sets without declaring it."""
    callbacks: list[Callback] = vars(trainer)["callbacks"]
    return callbacks


class Engine:
    """One run: a model, data, and what is done with them; the command line is a way to build one.

    Args:
        model: The model, or its name: a hub id, a local folder, or ``demo``.
        data: Calibration prompts and tasks; French-English prompts and no tasks if omitted.
        pruning: How it is pruned; the trainer's own callback, or Wanda at 0.3, if omitted.
        trainer: A trainer made with ``TRAINER_DEFAULTS``; one is made of ``trainer_options`` if omitted.
        config: The run's configuration, for its hash.
        command: fit, validate or test, for the hint how to resume.
        resumed: Folder of the earlier start that the run goes on from.
        dense: Folder of a run that has the dense model's results for the same model, tasks and data already.
        trainer_options: Further arguments of ``lightning.pytorch.Trainer``.

    Example:
        >>> from lightning.pytorch import Callback, Trainer
        >>> engine = Engine("demo", trainer=Trainer(**TRAINER_DEFAULTS, accelerator="cpu", logger=False))
        >>> engine.run.module.source.name
        'demo'
    """

    def __init__(
        self,
        model: PruningModule | str,
        data: PruningDataModule | None = None,
        pruning: PruningCallback | None = None,
        *,
        trainer: Trainer | None = None,
        config: Mapping[str, Any] | None = None,
        command: str = "fit",
        resumed: Path | None = None,
        dense: str | Path | None = None,
        **trainer_options: Any,
    ) -> None:
        if trainer is not None and trainer_options:
            raise UserError(f"Engine: give a trainer, or its options ({', '.join(trainer_options)}), not both")
        trainer = trainer or Trainer(**(TRAINER_DEFAULTS | trainer_options))
        module = PruningModule(model) if isinstance(model, str) else model
        own = [callback for callback in callbacks_of(trainer) if isinstance(callback, PruningCallback)]
        self.pruning = pruning or next(iter(own), None) or PruningCallback()
        self.run = Run(trainer, module, data or PruningDataModule(), resumed)
        self.dense = None if dense is None else Path(dense)
        self._sweep: Sweep | None = None
        self._add_callbacks(config or {}, command)
        guard_loggers(self.run)

    def _add_callbacks(self, config: Mapping[str, Any], command: str) -> None:
        """Add what settles the folder, prunes, writes and shows; the others look at the work of those before them."""
        callbacks = callbacks_of(self.run.trainer)
        added: list[Callback] = [RunWriter(config, command), ResultsTable(), ReportCallback(), EndOnSigterm()]
        if not any(isinstance(callback, TensorBoard) for callback in callbacks):
            added.append(TensorBoard())
        others = [callback for callback in callbacks if callback is not self.pruning]
        callbacks[:] = [RunFolder(), self.pruning, *others, *added]
        self._join_callbacks()

    def _join_callbacks(self) -> None:
        self.run.callbacks = [own for own in callbacks_of(self.run.trainer) if isinstance(own, RunCallback)]
        for callback in self.run.callbacks:
            callback.join(self.run)

    # -- runs -----------------------------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the model, dense or pruned, as ``test`` does, and return the sections of results.json."""
        with self._in_folder():
            self._evaluate()
            self._finish()
        return self.run.module.results

    def prune(self) -> None:
        """Calibrate and prune, as ``validate`` does; if a feature analysis is among the callbacks, measure instead."""
        analyses = [callback for callback in self.run.callbacks if isinstance(callback, FeatureAnalysis)]
        with self._in_folder():
            self.run.data.choose_prompts(self.run.module.tokenizer)
            self._validate(analyses[0] if analyses else self.pruning)
            self._finish()

    def experiment(self, ckpt_path: str | None = None) -> dict[str, Any]:
        """Evaluate dense, prune, train if asked to, evaluate again and compare, as ``fit`` does; or sweep.

        A model that is pruned already is only trained, with its zeros held, and evaluated if there are tasks.

        Args:
            ckpt_path: Lightning checkpoint that recovery training resumes from.

        Returns:
            The content of comparison.json on the process that writes it, or ``sweep`` with the rows of sweep.csv; empty
            on others, and where nothing was compared.

        Raises:
            UserError: If settings of recovery training do not go with the model or with one another.
        """
        run, comparison = self.run, dict[str, Any]()
        run.is_experiment, run.is_sweep = True, self.pruning.sweep is not None
        run.trains = bool(run.trainer.max_epochs)
        self._check_training()
        self._sweep = self._begin_sweep() if run.is_sweep else None
        if not run.module.recipe:
            run.schedule = self.pruning if self._sweep is None else self._sweep.calibration  # checks what it needs
        with self._in_folder():
            run.data.choose_prompts(run.module.tokenizer)
            if run.trains:
                run.data.choose_training(run.module.tokenizer)
            for phase in self._numbered(self._phases(ckpt_path)):
                phase()
            if run.writes:
                comparison = self._compare()
            self._finish()
        return comparison

    @contextmanager
    def _in_folder(self) -> Iterator[None]:
        """Claim the run's folder; a run that is refused before anything was computed leaves none behind."""
        run = self.run
        claimed = run.claim_folder() if run.writes and not run.resumes else None
        try:
            yield
        except (UserError, OSError):
            if claimed is not None:
                release(claimed)
            raise
        except KeyboardInterrupt as interrupt:  # between the trainer's loops, where it tells no callback
            for callback in callbacks_of(run.trainer):
                callback.on_exception(run.trainer, run.module, interrupt)
            raise SystemExit(1) from interrupt  # as the trainer does

    def _phases(self, ckpt_path: str | None) -> list[Phase]:
        was_pruned = bool(self.run.module.recipe)
        if self._sweep is not None:
            return [self._dense_phase(), *self._sweep.phases()]
        phases: list[Phase] = []
        if not was_pruned:
            phases += [self._dense_phase(), ("calibrating and pruning", partial(self._validate, self.pruning))]
        if self.run.trains:
            phases.append(("recovery training with the masks held", partial(self._train, ckpt_path)))
        if self.run.data.tasks or not was_pruned:
            phases.append(("evaluating the pruned model", self._evaluate))
        return phases

    def _begin_sweep(self) -> Sweep:
        sweep = Sweep(self.run, self.pruning, self._validate, self._evaluate)
        callbacks_of(self.run.trainer).append(sweep.calibration)
        self._join_callbacks()
        return sweep

    @staticmethod
    def _numbered(phases: list[Phase]) -> list[Callable[[], None]]:
        def announced(number: int, caption: str, work: Callable[[], None]) -> None:
            log.info("(%d/%d) %s", number, len(phases), caption)
            work()

        return [partial(announced, number, *phase) for number, phase in enumerate(phases, start=1)]

    def _check_training(self) -> None:
        run, epochs = self.run, self.run.trainer.max_epochs
        name = run.module.source.name
        if run.is_sweep and run.trains:
            raise UserError(f"pruning.sweep trains nothing; leave trainer.max_epochs {epochs} out")
        if run.module.lora is not None and not run.trains:
            raise UserError("model.lora trains adapters; give trainer.max_epochs above 0, or leave it out")
        if run.trains and run.module.source.has_encoder():
            raise UserError(
                f"trainer.max_epochs {epochs}: recovery training is of models that continue text; "
                f"{name} has an encoder; leave it out"
            )
        if run.module.recipe and not run.trains:
            raise UserError(
                f"model.name '{name}' is pruned already; give the dense model, or trainer.max_epochs above 0"
            )

    # -- stages ---------------------------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        run = self.run
        run.data.read_examples(run.module.tokenizer)
        try:
            run.trainer.test(run.module, datamodule=run.data, verbose=False)
        finally:
            run.module.end_interventions()
        for callback in run.callbacks:
            callback.on_evaluated(run, run.module.pruning_stage, run.module.results)

    def _validate(self, schedule: Schedule) -> None:
        self.run.schedule = schedule
        self.run.trainer.validate(self.run.module, dataloaders=ScheduleLoader(schedule), verbose=False)
        self.run.schedule = None

    def _train(self, ckpt_path: str | None) -> None:
        run = self.run
        checkpoint = ckpt_path or self._last_checkpoint()
        run.trainer.fit(run.module, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)

    def _last_checkpoint(self) -> str | None:
        """The newest Lightning checkpoint of an earlier start (with ``trainer.enable_checkpointing: true``)."""
        if not self.run.resumes:
            return None
        files = sorted((self.run.folder / "checkpoints").glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
        return str(files[-1]) if files else None

    # -- dense results and the ending -----------------------------------------------------------------------------

    def _dense_phase(self) -> Phase:
        """Evaluate the dense model, unless an earlier start of the run did, or another run that was given."""
        run, other = self.run, self.dense
        if run.resumes and has_dense(run.folder):
            return "the dense model was evaluated before", lambda: None
        if other is not None:
            run.data.read_examples(run.module.tokenizer)
            check_dense(other, run)
            return f"taking the dense model's results from {other}", partial(self._take_dense, other)

        def evaluate() -> None:
            self._evaluate()
            if run.writes:
                keep_dense(run.folder)
            run.barrier("dense")

        return "evaluating the dense model", evaluate

    def _take_dense(self, other: Path) -> None:
        if self.run.writes:
            take_dense(other, self.run.folder)

    def _compare(self) -> dict[str, Any]:
        """Compare with the dense model, on files and on the console; what was pruned before the run is only shown."""
        run = self.run
        if self._sweep is not None:
            return {"sweep": self._sweep.write()}
        if has_dense(run.folder):
            return compare_with_dense(run)
        with run.viewer("console table"):
            print_tables(figure_tables({run.module.pruning_stage: read_figures(run.module.results)}))
        return {}

    def _finish(self) -> None:
        """Let callbacks report, say where everything is, and only then forget what was kept to resume."""
        run = self.run
        for callback in run.callbacks:
            callback.on_run_end(run)
        run.barrier("end")
        if run.writes:
            with run.viewer("console table"):
                here = Path.cwd()
                shown = run.folder.relative_to(here) if run.folder.is_relative_to(here) else run.folder
                print_line(f"Run folder: {shown}", wrap=False)
            Unfinished(run.folder).remove()

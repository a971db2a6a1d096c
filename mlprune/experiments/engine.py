"""The Engine: one run's model, data and folder; it evaluates, prunes, trains, or does all of that in order."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from mlprune.callbacks import (
    EndOnSigterm,
    ExpertPruning,
    LanguageUnits,
    MakeSmaller,
    Peers,
    PruningCallback,
    RecoveryTraining,
    ReportCallback,
    ResultsTable,
    RunFolder,
    RunLogger,
    RunWriter,
)
from mlprune.callbacks.base import Analysis, RunCallback
from mlprune.callbacks.calibration import RecipeCalibration
from mlprune.callbacks.console import print_line
from mlprune.callbacks.loggers import guard_loggers
from mlprune.callbacks.sigterm import interrupted_by_signals
from mlprune.comparison import read_differences
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError, lack_of
from mlprune.experiments.ablations import Ablations
from mlprune.experiments.experiment import Experiment, check_precision, check_training
from mlprune.experiments.next_steps import next_steps, print_next, shown_folder
from mlprune.experiments.stages import Stages
from mlprune.experiments.study import StudyExperiment
from mlprune.experiments.variants import Builder, Variant, sweep_variants
from mlprune.inputs import model_parts, prompt_parts, reduction_parts, task_parts
from mlprune.invocation import script
from mlprune.models.attention import without_plans
from mlprune.module import PruningModule
from mlprune.run import Run
from mlprune.runs.folder import release, resume_hint
from mlprune.runs.inputs import Part
from mlprune.runs.unfinished import Unfinished
from mlprune.studies.recipes import expand
from mlprune.studies.spec import Study

DESCRIBED = ("model", "data", "pruning", "seed_everything")  # sections that config_hash is of

TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # batches are dealt by the data module
    "inference_mode": False,  # weights are edited during validation
    "max_epochs": 0,
    "log_every_n_steps": 1,  # recovery training has few
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the trainer's own list of callbacks, which Lightning sets without declaring it."""
    callbacks: list[Callback] = vars(trainer)["callbacks"]
    return callbacks


class Engine:
    """One run: a model, data, and what is done with them; the command line is a way to build one.

    Args:
        model: The model, or its name: a hub id, a local folder, or ``demo``.
        data: Calibration prompts and tasks; French-English prompts and no tasks if omitted.
        pruning: How it is pruned; the trainer's PruningCallback, or Wanda at 0.3, if omitted.
        trainer: A trainer made with ``TRAINER_DEFAULTS``; built from ``trainer_options`` if omitted.
        config: The run's whole configuration, kept as config.yaml; without it, none is written.
        command: fit, validate or test, for the hint how to resume.
        resumed: Folder of the run to be resumed.
        dense: Folder of a run that already has the dense model's results for the same model, tasks and data.
        typed: What started the run, as it was typed, for its report.
        study: Many recipes in place of one, which differ from ``config``.
        parser: An empty parser for what recipes differ in; jsonargparse's own if omitted.
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
        typed: str = "",
        study: Study | None = None,
        parser: ArgumentParser | None = None,
        **trainer_options: Any,
    ) -> None:
        if trainer is not None and trainer_options:
            raise UserError(f"Engine: give a trainer, or its options ({', '.join(trainer_options)}), not both")
        trainer = trainer or Trainer(**(TRAINER_DEFAULTS | trainer_options))
        module = PruningModule(model) if isinstance(model, str) else model
        given = [callback for callback in callbacks_of(trainer) if isinstance(callback, PruningCallback)]
        self.pruning = pruning or next(iter(given), None) or PruningCallback()
        self.run = Run(trainer, module, data or PruningDataModule(), resumed, typed or script())
        self.dense = None if dense is None else Path(dense)
        self.study = study or Study()
        self._config, self._parser = config, parser
        self.folder = RunFolder(config)
        self.stages = Stages(self.run)
        self.peers = Peers(command)
        self.smaller = MakeSmaller()
        described = {name: config[name] for name in DESCRIBED if name in config} if config else {}
        self._add_callbacks(RunWriter(described, command))
        guard_loggers(self.run)

    def _add_callbacks(self, writer: RunWriter) -> None:
        """Add what settles the folder, prunes, writes and shows; the others look at the work of those before them."""
        callbacks = callbacks_of(self.run.trainer)
        added: list[Callback] = [writer, ResultsTable(), ReportCallback(), EndOnSigterm()]
        if not any(isinstance(callback, RunLogger) for callback in callbacks):
            added.append(RunLogger())
        others = [callback for callback in callbacks if callback is not self.pruning]
        owned = [self.folder, self.peers, self.smaller, self.pruning, RecoveryTraining(self.pruning)]
        callbacks[:] = [*owned, *others, *added]
        self._join_callbacks()

    def _join_callbacks(self) -> None:
        self.run.callbacks = [each for each in callbacks_of(self.run.trainer) if isinstance(each, RunCallback)]
        for callback in self.run.callbacks:
            callback.join(self.run)

    # -- runs -----------------------------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the model, dense or pruned, as ``test`` does, and return the sections of results.json."""
        self._refuse_smaller("test")
        with self._in_folder():
            self._read(examples=True)
            with self.run.phase(f"evaluating the {self.run.module.system} model"):
                self.stages.evaluate()
            self._finish()
        return self.run.module.results

    def prune(self) -> None:
        """Calibrate and prune, as ``validate`` does; if an analysis is among the callbacks, measure instead."""
        analyses = [callback for callback in self.run.callbacks if isinstance(callback, Analysis)]
        self._refuse_smaller("validate")
        self.run.trains = False
        with self._in_folder():
            self._read(prompts=True)
            with self.run.phase("measuring features" if analyses else "calibrating and pruning"):
                self.stages.validate(analyses[0] if analyses else self.pruning)
            self._finish()

    def train(self, ckpt_path: str | None = None) -> None:
        """Train a pruned model with its zeros held, and write it as ``pruned/``.

        Args:
            ckpt_path: Lightning checkpoint that training starts from.

        Raises:
            UserError: If the model is dense, the trainer's ``max_epochs`` is 0, or the model cannot be trained.
        """
        run = self.run
        if not run.trainer.max_epochs:
            raise UserError("trainer.max_epochs 0 trains nothing; give 1 or more")
        if not run.module.recipe:
            raise UserError(f"model.name '{run.module.source.name}' is dense; prune it first, or give a pruned model")
        self._refuse_smaller("train()")
        run.trains = True
        check_training(run)
        with self._in_folder():
            self._read(training=True)
            if run.writes and not run.resumes:
                shutil.rmtree(run.folder / "pruned", ignore_errors=True)  # what prune() wrote, which training replaces
            with run.phase("recovery training with the masks held"):
                self.stages.train(ckpt_path)
            self._finish()

    def experiment(self, ckpt_path: str | None = None) -> dict[str, Any]:
        """Evaluate dense, prune, train (with ``max_epochs``), evaluate again and compare, as ``fit`` does; or a study.

        A model that is pruned already is only trained, with its zeros held, and evaluated if there are tasks.

        Args:
            ckpt_path: Lightning checkpoint that recovery training starts from.

        Returns:
            The content of comparison.json or of study.json, or ``ablation`` with the rows of ablation.csv, on the
            process that writes it; empty on others, and where nothing was compared.

        Raises:
            UserError: If settings of recovery training do not go with the model or with one another.
        """
        run = self.run
        units = [callback for callback in run.callbacks if isinstance(callback, LanguageUnits)]
        if units:
            return self._ablate(units[0])
        experts = [callback for callback in run.callbacks if isinstance(callback, ExpertPruning)]
        run.is_study = self.study.is_declared or self.pruning.sweep is not None
        if experts and run.is_study:
            raise UserError("studies and sweeps prune weights; leave study and pruning.sweep out with ExpertPruning")
        pruning = experts[0] if experts else self.pruning
        run.is_experiment, run.trains = True, bool(run.trainer.max_epochs)
        was_pruned = bool(run.module.recipe)
        check_training(run)
        if was_pruned and not run.trains:
            name = run.module.source.name
            raise UserError(
                f"model.name '{name}' is pruned already; give the dense model, or trainer.max_epochs above 0"
            )
        self._check_smaller()
        study = self._add_study() if run.is_study else None
        if not was_pruned and study is None:
            run.schedule = pruning  # checks what it needs
        experiment = Experiment(run, pruning, self.stages, study, self.dense)
        with self._in_folder():
            self._read(prompts=True, training=run.trains, examples=bool(run.data.tasks) or not was_pruned)
            if study is not None:
                study.declare()
                self.folder.hold(study.other_models())
            if ckpt_path is not None:
                self.folder.hold({"ckpt_path": Part.of_file(Path(ckpt_path))})
            self.smaller.restore()
            experiment.conduct(ckpt_path)
            with run.phase("comparing"):
                comparison = experiment.compare() if run.writes else {}
            self._finish()
        if "sentences" in comparison:
            with run.viewer("console table"):
                steps = next_steps(run, self.pruning if pruning is self.pruning else None, read_differences(comparison))
                print_next(steps)
        return comparison

    def _ablate(self, units: LanguageUnits) -> dict[str, Any]:
        """Evaluate without each language's units, and without as many random ones."""
        run = self.run
        run.is_experiment, run.trains = True, False
        if run.trainer.max_epochs:
            raise UserError("LanguageUnits trains nothing; leave trainer.max_epochs out")
        if self.study.is_declared or self.pruning.sweep is not None:
            raise UserError("LanguageUnits prunes nothing; leave study and pruning.sweep out")
        with self._in_folder():
            self._read(prompts=True, examples=True)
            ablations = Ablations(run, units, self.stages)
            ablations.conduct()
            rows = ablations.write() if run.writes else []
            self._finish()
        return {"ablation": rows} if rows else {}

    # -- how every run begins and ends ----------------------------------------------------------------------------

    @contextmanager
    def _in_folder(self) -> Iterator[None]:
        """Claim the run's folder; a run that is refused before anything was computed leaves none behind."""
        run = self.run
        check_precision(str(run.trainer.precision), run.trains)
        claimed = run.claim_folder() if run.writes and not run.has_folder else None
        try:
            self.folder.begin()
            with interrupted_by_signals(), without_plans(), self.peers.watched():  # analyses and training, too
                yield
        except (UserError, OSError, MemoryError, RuntimeError) as error:
            lack = lack_of(error)
            is_refused = bool(lack) or isinstance(error, UserError | OSError)
            is_left = run.has_folder and not (is_refused and claimed is not None and release(claimed))
            if is_refused and is_left:
                self.peers.is_first_to_report()
            if lack:
                hint = f"; {resume_hint(run.folder, self.peers.subcommand)}" if is_left else ""
                raise UserError(f"{lack}{hint}") from error
            raise
        except KeyboardInterrupt as interrupt:  # between the trainer's loops, where callbacks do not hear of it
            for callback in callbacks_of(run.trainer):
                callback.on_exception(run.trainer, run.module, interrupt)
            self.peers.end_children()
            raise SystemExit(1) from interrupt  # as the trainer does

    def _read(self, prompts: bool = False, training: bool = False, examples: bool = False) -> None:
        """Read what the run computes from, before any weights are loaded; hold a resumed run to what it began with."""
        run, tokenizer = self.run, self.run.module.tokenizer
        if prompts:
            run.data.choose_prompts(tokenizer)
        if training:
            run.data.choose_training(tokenizer)
        if examples:
            run.data.read_examples(tokenizer)
            for intervention in run.module.interventions:
                intervention.prepare(run.data.tasks, tokenizer)
        data = {**reduction_parts(run.module), **prompt_parts(run.data), **(task_parts(run.data) if examples else {})}
        self.folder.hold({**model_parts(run.module), **data})
        files = {name: {"sha256": part.sha256, "origin": part.origin} for name, part in data.items() if part.origin}
        run.journal.note(data=files)
        run.write_journal()

    def _refuse_smaller(self, stage: str) -> None:
        if self.run.module.smaller:
            raise UserError(
                f"model.smaller goes with fit; for {stage} give the folder of the smaller model as model.name"
            )

    def _check_smaller(self) -> None:
        """Refuse steps that do not suit the model, before its weights are loaded."""
        module = self.run.module
        if module.smaller and self.dense is not None:
            raise UserError("--dense does not go with model.smaller: the dense model of this run is its smaller one")
        for step in module.smaller:
            step.check(module.source, self.run.groups)

    def _expect_smaller(self, variant: Variant, seeds: Sequence[int]) -> None:
        """Let the model of a recipe that takes steps of its own take them on the recipe's demonstrations."""
        module, name = variant.module, variant.recipe.name
        if module is self.run.module or not module.smaller:
            return
        if len(seeds) > 1 and not all(step.keeps_tokens for step in module.smaller):
            raise UserError(f"study, recipe '{name}': steps that change the vocabulary go with one of study.seeds")
        for step in module.smaller:
            try:
                step.check(module.source, list(variant.data.demonstrations))
            except UserError as error:
                raise UserError(f"study, recipe '{name}': {error}") from error
        self.smaller.expect(module, f"{variant.recipe.folder}-seed-{variant.seed}", variant.data)

    def _add_study(self) -> StudyExperiment:
        """Build the recipes, and let what calibrates for them hear of the run right after the pruning callback."""
        if self.study.is_declared and self.pruning.sweep is not None:
            raise UserError("pruning.sweep and study go not together; give study.grid pruning.pattern.sparsity instead")
        run, callbacks, schedule = self.run, callbacks_of(self.run.trainer), RecipeCalibration()
        if isinstance(run.trainer.strategy, ModelParallelStrategy):
            raise UserError("study and pruning.sweep need whole weights; give trainer.strategy auto or ddp")
        callbacks.insert(callbacks.index(self.pruning) + 1, schedule)
        self._join_callbacks()
        if self.study.is_declared:
            builder = Builder(run, self.pruning, self._config, self._parser)
            recipes = expand(self.study.recipes, self.study.grid)
            seeds = self.study.seeds or [run.data.seed]
            variants = [variant for recipe in recipes for variant in builder.build(recipe, seeds)]
            for variant in variants:
                self._expect_smaller(variant, seeds)
        else:
            variants = sweep_variants(run, self.pruning)
        study = StudyExperiment(run, self.study, variants, self.stages, schedule, self.dense)
        study.check()
        return study

    def _finish(self) -> None:
        """Let callbacks report, say where everything is, and only then forget what was kept to resume."""
        run = self.run
        for callback in run.callbacks:
            callback.on_run_end(run)
        run.barrier("end")
        self.peers.part()
        if run.writes:
            with run.viewer("console table"):
                print_line(f"Run folder: {shown_folder(run.folder)}", wrap=False)
            Unfinished(run.folder).remove()

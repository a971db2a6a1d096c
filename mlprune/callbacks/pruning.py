"""The callback that scores and masks each block once its statistics are gathered."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from mlprune.callbacks.base import Schedule
from mlprune.callbacks.pruned_model import (
    abandon_stream,
    base_facts,
    finish_stream,
    open_stream,
    write_checkpoint,
    write_masks,
)
from mlprune.errors import UserError
from mlprune.log import log
from mlprune.models.blocks import find_blocks, look_at
from mlprune.models.encoder import has_encoder
from mlprune.models.saving import check_disk
from mlprune.pruning import (
    Allocation,
    BlockStep,
    Calibration,
    Importance,
    LayerReport,
    Pattern,
    Pruner,
    Unstructured,
    calibrating,
    collect_statistics,
    prune_blocks,
    save_statistics,
)
from mlprune.pruning.output_errors import OutputErrors
from mlprune.pruning.propagation import Propagate, propagation_named
from mlprune.pruning.streaming import StreamedPruning, check_streaming
from mlprune.run import PruningOutcome, Run
from mlprune.runs.facts import calibration_facts, describe, versions
from mlprune.runs.unfinished import Unfinished


class PruningCallback(Schedule):
    """Prunes the model block by block during ``validate``.

    Args:
        importance: How weights are scored; Wanda if omitted.
        pattern: Which weights are pruned; 0.3 of each output row if omitted.
        allocation: How the sparsity is spread over layers; the same everywhere if omitted.
        propagate: ``pruned``: calibrate each block on the outputs of the pruned blocks before it; ``dense``: on those
            of the dense model, in half the time; ``layer``: each layer on what all pruned layers before it give, in
            half the time too, with all batches' inner activations in memory.
        include: Regular expressions on layer paths; only matching layers are pruned.
        exclude: Regular expressions on layer paths; matching layers are left dense.
        count_padding: Count padded positions as tokens, as the paper's code does.
        save_model: Write ``pruned/``, an ordinary Hugging Face checkpoint.
        streaming: Read, prune and write the model block by block, never holding it as a whole (``validate`` only).
        hidden_on_disk: With ``streaming``, keep the prompts' hidden states in memory-mapped files.
        sweep: Sparsities that ``fit`` evaluates in place of the pattern's, all from one calibration of the dense model
            (``propagate: dense``).
    """

    caption = "calibrating"

    def __init__(
        self,
        importance: Importance | None = None,
        pattern: Pattern | None = None,
        allocation: Allocation | None = None,
        propagate: Propagate = "pruned",
        include: list[str] | None = None,
        exclude: list[str] | None = None,
        count_padding: bool = False,
        save_model: bool = True,
        streaming: bool = False,
        hidden_on_disk: bool = False,
        sweep: list[float] | None = None,
    ) -> None:
        self.propagation = propagation_named(propagate, "pruning.propagate")
        self.pruner = Pruner(importance, pattern, allocation, include, exclude)
        self.propagation.check_importance(self.pruner.importance)
        self.count_padding = count_padding
        self.save_model = save_model
        if hidden_on_disk and not streaming:
            raise UserError("pruning.hidden_on_disk goes with pruning.streaming: true")
        if streaming:
            check_streaming(self.pruner, "pruning.streaming")
        self.sweep = sweep
        if sweep is not None:
            self.sweep_pruners()  # refuses incompatible settings
        self.streaming = streaming
        self.hidden_on_disk = hidden_on_disk
        self._calibrating = ExitStack()
        self._calibration: Calibration | None = None
        self._stream: StreamedPruning | None = None
        self._finished: list[tuple[dict[str, LayerReport], dict[str, Tensor]]] = []
        self._block_start = 0.0

    def sweep_pruners(self) -> list[Pruner]:
        """Return a pruner for each sparsity of the sweep.

        Raises:
            UserError: If a sparsity or another setting is not allowed in a sweep.
        """
        pruner, levels = self.pruner, self.sweep or []
        names = [f"{level:g}" for level in levels]  # of their folders
        if not levels or len(set(names)) < len(levels):
            raise UserError(f"pruning.sweep {levels}: give at least one sparsity, each once, to six digits")
        if not self.propagation.passes_dense:
            raise UserError(
                f"pruning.sweep needs pruning.propagate dense, not {self.propagation.name}: one calibration for all"
            )
        if not isinstance(pruner.pattern, Unstructured):
            raise UserError(
                f"pruning.sweep needs pruning.pattern Unstructured; {type(pruner.pattern).__name__} has its own"
            )
        patterns = [Unstructured(level, pruner.pattern.scope, pruner.pattern.drop) for level in levels]
        include, exclude = ([found.pattern for found in kind] for kind in (pruner.include, pruner.exclude))
        return [Pruner(pruner.importance, pattern, pruner.allocation, include, exclude) for pattern in patterns]

    # -- what is checked before the model is loaded ---------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check what can be checked before the model is loaded."""
        if self.is_active:
            if self.sweep is not None:
                raise UserError("pruning.sweep goes with fit, which evaluates at each sparsity")
            self.check(self.run)
            if self.streaming:
                self._stream = open_stream(self.run, self.save_model, self.hidden_on_disk)
                self.run.module.use_streamed(self._stream.streamed.model)

    def check(self, run: Run) -> None:
        """Raise UserError if the settings do not fit the run's model or prompts, or the disk is too small."""
        source, strategy = run.module.source, run.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            check_streaming(self.pruner, f"trainer.strategy {type(strategy).__name__}")
        self.pruner.check_groups(run.groups, "data.demonstrations has")
        run.measured = self.pruner.importance.needs
        if source.recipe():
            raise UserError(f"model.name '{source.name}' is pruned already; give the dense model")
        if self.streaming and run.is_experiment:
            raise UserError("pruning.streaming goes with validate; fit evaluates the whole model in memory")
        if not self.streaming and run.module.model is None:
            model = source.skeleton()
            self.pruner.select(find_blocks(model))  # refuses what does not fit the layers
            if self.save_model and not run.is_study and run.writes:
                size = sum(parameter.nbytes for parameter in model.parameters())
                check_disk(run.trainer.default_root_dir, size)

    # -- the steps of validation ----------------------------------------------------------------------------------

    def num_steps(self) -> int:
        """One step a block."""
        return len(find_blocks(self.run.model))

    def steps(self) -> Iterator[BlockStep]:
        """Every block in order; those that an earlier start of the run has pruned are restored."""
        assert self._calibration is not None
        for step in prune_blocks(self._calibration):
            if step.position < len(self._finished):
                step.restore(*self._finished[step.position])
            yield step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare calibration on this process' batches; load the blocks that an earlier start of the run pruned."""
        if not self.is_active:
            return
        run, unfinished = self.run, Unfinished(self.run.folder)
        run.outcome = PruningOutcome()
        self._calibrating.enter_context(calibrating(run.model))
        self._check_causal(run)
        if run.writes:
            unfinished.start()
        run.barrier("unfinished")
        self.pruner.on_scores = self._on_scores
        stream, split = self._stream, run.module.split
        self._calibration = self.calibration(
            on_progress=self.report_progress,
            device=stream.streamed.device if stream else None,
            hidden=stream.hidden if stream else None,
            enter_block=stream.streamed.enter if stream else split.split.enter if split else None,
            output_errors=OutputErrors(run.batches),
        )
        if self._stream is not None:
            self._stream.start(self._calibration.blocks)
        self._allocate(run, unfinished)
        self._finished = unfinished.load_blocks() if run.resumes else []
        run.barrier("finished")  # nobody writes a block before all have counted them
        if self._finished:
            log.info("(%d/%d) blocks were pruned before", len(self._finished), len(self._calibration.blocks))
        self._block_start = time.perf_counter()

    @staticmethod
    def _check_causal(run: Run) -> None:
        """Refuse a model that fills blanks and continues no text; every task would refuse it after pruning."""
        model = run.model
        if not has_encoder(model) and look_at(model, find_blocks(model)).looks_ahead:
            raise UserError(
                f"{type(model).__name__} lets tokens attend to later ones, so texts have no likelihood; use a "
                "causal model"
            )

    def calibration(self, **options: Any) -> Calibration:
        """Return the calibration of the run's model on this process' batches, as the settings say.

        Args:
            options: Further arguments of :class:`mlprune.pruning.Calibration`.
        """
        return Calibration(
            self.run.model,
            self.run.batches,
            pruner=self.pruner,
            propagate=self.propagation.name,
            count_padding=self.count_padding,
            groups=self.run.groups,
            **options,
        )

    def _allocate(self, run: Run, unfinished: Unfinished) -> None:
        """Decide every layer's sparsity, unless an earlier start of the run has."""
        assert self._calibration is not None
        plan = unfinished.load_plan() if run.resumes else None
        if plan is not None:
            self.pruner.sparsities = plan
            return
        dense = None
        if self.pruner.allocation is not None and self.pruner.allocation.needs_statistics:
            log.info("calibrating the dense model once for %s", type(self.pruner.allocation).__name__)
            dense = collect_statistics(run.model, run.batches, self.pruner, self.count_padding, run.groups)
        self.pruner.allocate(self._calibration.blocks, dense)
        if run.writes:
            unfinished.save_plan(self.pruner.sparsities)

    def _on_scores(self, path: str, scores: Tensor, means: Mapping[str, Tensor]) -> None:
        for callback in self.run.callbacks:
            callback.on_layer_scored(self.run, path, scores, means)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Finish a block: reduce its statistics over processes, score, mask, store and report."""
        if not self.is_active:
            return
        if batch.position < len(self._finished):
            self._keep(batch)
        else:
            self._prune(self.run, batch)

    def _prune(self, run: Run, step: BlockStep) -> None:
        unfinished, needs = Unfinished(run.folder), self.pruner.importance.needs
        statistics = step.statistics()
        if run.writes and statistics and needs is not None and needs.is_stored:
            unfinished.save_statistics(step.position, statistics)
        reports = step.prune()
        if run.writes:
            unfinished.save_block(step.position, step.block, reports)
        self._keep(step)
        seconds = time.perf_counter() - self._block_start
        self._block_start = time.perf_counter()
        run.outcome.seconds[step.position] = seconds
        for callback in run.callbacks:
            callback.on_block_pruned(run, step.position, reports, seconds)

    def _keep(self, step: BlockStep) -> None:
        """Remember what was done to a block; with streaming its masks and weights go to disk."""
        outcome, reports = self.run.outcome, step.reports
        if step.calibration.output_errors is not None:
            outcome.output_errors = step.calibration.output_errors.errors
        outcome.sizes |= {path: report.mask.numel() for path, report in reports.items()}
        if self._stream is not None:
            self._stream.keep(step.position, reports)
            reports = {path: replace(report, mask=report.mask.new_empty(0)) for path, report in reports.items()}
        outcome.reports |= reports

    # -- what is written at the end -------------------------------------------------------------------------------

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write masks and the pruned checkpoint."""
        if not self.is_active:
            return
        run = self.run
        self._close()
        if run.module.split is not None:
            run.module.split.split.leave()
        recipe = self.recipe()
        run.module.mark_pruned(recipe)
        sparsity, seen = (100 * recipe[name] for name in ("sparsity", "scored_share"))
        layers = len(run.outcome.reports)
        log.info("pruned %.2f%% of the weights of %d layers (%.1f%% of the blocks' matrices)", sparsity, layers, seen)
        self._log_silent_inputs()
        if run.writes and (statistics := Unfinished(run.folder).load_statistics()):
            save_statistics(statistics, run.folder / "statistics.safetensors")
        if self._stream is not None:
            finish_stream(run, self._stream)
            self._stream = None
            return
        run.module.mark_pruned(recipe, {path: report.mask for path, report in run.outcome.reports.items()})
        write_masks(run)
        if self.save_model and not run.trains:  # else the checkpoint is written after training
            write_checkpoint(run)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model as it was found, hooks and settings included, and no half-written checkpoint."""
        self._close()
        if self._stream is not None:
            stream, self._stream = self._stream, None
            abandon_stream(self.run, stream)

    def _log_silent_inputs(self) -> None:
        """Log the layers with inputs that are zero in all prompts of a group; their weights score lowest."""
        for group in sorted({group for _, group in self.pruner.silent_inputs}):
            layers = [f"{path} ({n})" for (path, of), n in self.pruner.silent_inputs.items() if of == group]
            named = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
            log.info("group '%s': inputs that are always zero: %s", group, named)

    def _close(self) -> None:
        self._calibrating.close()
        self._calibration = None
        self._finished = []
        self.pruner.on_scores = None

    def recipe(self) -> dict[str, Any]:
        """Return what mlprune.json says: how the model was pruned, on what, and how far."""
        run = self.run
        return {
            **base_facts(run),
            "importance": describe(self.pruner.importance),
            "pattern": describe(self.pruner.pattern),
            "allocation": describe(self.pruner.allocation) if self.pruner.allocation else "uniform",
            "propagate": self.propagation.name,
            "count_padding": self.count_padding,
            "seed": run.data.seed,
            "calibration": calibration_facts(run.prompts),
            "sparsity": run.outcome.sparsity,
            "scored_share": self.pruner.scored_share(run.outcome.reports),
            "layers": {path: report.sparsity for path, report in run.outcome.reports.items()},
            "versions": versions(),
        }

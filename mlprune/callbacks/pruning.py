"""The callback that scores and masks blocks between calibration steps, and keeps what came of it."""

import time
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mlprune.callbacks.run_folder import calibration_facts, describe, versions
from mlprune.callbacks.streaming import Streaming
from mlprune.callbacks.unfinished import Unfinished, restore
from mlprune.errors import UserError
from mlprune.log import log
from mlprune.models.blocks import find_blocks
from mlprune.models.saving import check_disk, save_checkpoint
from mlprune.pruning import (
    Allocation,
    Calibration,
    Importance,
    LayerReport,
    Pattern,
    Pruner,
    Unstructured,
    calibrating,
    collect_statistics,
    save_masks,
    save_statistics,
)
from mlprune.pruning.calibration import PROPAGATE, Propagate
from mlprune.run import run_folder, run_of


class PruningCallback(Callback):
    """Prunes the model block by block during ``validate``.

    Args:
        importance: How weights are scored; Wanda if omitted.
        pattern: Which of them go; 0.3 of each output row if omitted.
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
        if propagate not in PROPAGATE:
            raise UserError(f"pruning.propagate '{propagate}' is not allowed; give one of {', '.join(PROPAGATE)}")
        self.pruner = Pruner(importance, pattern, allocation, include, exclude)
        self.propagate: Propagate = propagate
        self.count_padding = count_padding
        self.save_model = save_model
        if hidden_on_disk and not streaming:
            raise UserError("pruning.hidden_on_disk goes with pruning.streaming: true")
        if streaming and allocation is not None:
            name = type(allocation).__name__
            raise UserError(f"pruning.streaming: {name} looks at all blocks first; leave pruning.allocation out")
        self.sweep = sweep
        if sweep is not None:
            self.sweep_pruners()  # refuses what does not go together
        self.streaming = streaming
        self.hidden_on_disk = hidden_on_disk
        self._stream: Streaming | None = None
        self._sizes: dict[str, int] = {}
        self.reports: dict[str, LayerReport] = {}
        self.num_taken_up = 0
        self._context: Any = None
        self._block_start = 0.0

    def sweep_pruners(self) -> list[Pruner]:
        """Return a pruner for each sparsity of the sweep.

        Raises:
            UserError: If a sparsity or another setting does not go with a sweep.
        """
        own, levels = self.pruner, self.sweep or []
        if not levels or len(set(levels)) < len(levels):
            raise UserError(f"pruning.sweep {levels}: give at least one sparsity, each once")
        if self.propagate != "dense":
            raise UserError(
                f"pruning.sweep needs pruning.propagate dense, not {self.propagate}: one calibration for all"
            )
        if not isinstance(own.pattern, Unstructured):
            raise UserError(
                f"pruning.sweep needs pruning.pattern Unstructured; {type(own.pattern).__name__} has its own"
            )
        patterns = [Unstructured(level, own.pattern.scope, own.pattern.drop) for level in levels]
        include, exclude = ([found.pattern for found in kind] for kind in (own.include, own.exclude))
        return [Pruner(own.importance, pattern, own.allocation, include, exclude) for pattern in patterns]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check what can be checked before the model is loaded, and settle the run's folder."""
        self.unfinished = Unfinished(run_folder(trainer))
        pl_module.whole_blocks = self.propagate == "layer"
        pl_module.first_block = self.unfinished.num_blocks() if run_of(trainer).resumes else 0
        groups = list(trainer.datamodule.demonstrations)
        source: Any = pl_module.source
        only_trains = run_of(trainer).trains and bool(source.recipe())  # its zeros are held
        prunes = stage == "validate" or (run_of(trainer).is_experiment and not only_trains)
        for group in self.pruner.importance.groups:
            if prunes and group not in groups:
                name = type(self.pruner.importance).__name__
                raise UserError(f"{name} needs the group '{group}'; data.demonstrations has {', '.join(groups)}")
        if self.sweep is not None and stage == "validate":
            raise UserError("pruning.sweep goes with fit, which evaluates at each sparsity")
        if prunes and source.recipe():
            raise UserError(f"model.name '{source.name}' is pruned already; give the dense model")
        if self.streaming and prunes:
            self._open_stream(trainer, pl_module)
        elif prunes and pl_module.model is None:
            model = source.skeleton()
            self.pruner.select(find_blocks(model))  # refuses what does not fit the layers
            if self.save_model and trainer.is_global_zero:
                check_disk(trainer.default_root_dir, sum(parameter.nbytes for parameter in model.parameters()))

    def _open_stream(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if run_of(trainer).is_experiment:
            raise UserError("pruning.streaming goes with validate; fit evaluates the whole model in memory")
        self._stream = Streaming(
            pl_module.source,
            run_folder(trainer),
            trainer.is_global_zero,
            self.save_model,
            self.hidden_on_disk,
            trainer.global_rank,
            trainer.strategy.root_device,
        )
        pl_module.use_streamed(self._stream.model.model)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare calibration on this process' batches; take up the blocks that an unfinished run left."""
        if trainer.state.fn != "validate":
            return
        data, model = trainer.datamodule, pl_module.model
        batches, groups = data.calibration_batches(), list(data.demonstrations)
        self._context = calibrating(model)
        self._context.__enter__()
        if trainer.is_global_zero:
            self.unfinished.start()
        trainer.strategy.barrier("mlprune-unfinished")
        calibration = Calibration(
            model,
            batches,
            pruner=self.pruner,
            propagate=self.propagate,
            count_padding=self.count_padding,
            groups=groups,
            device=self._stream.model.device if self._stream else None,
            hidden=self._stream.hidden if self._stream else None,
        )
        if self._stream is not None:
            self._stream.start(calibration.blocks)
        self._allocate(trainer, calibration, batches)
        pl_module.calibration = calibration
        self.reports = {}
        self._take_up(trainer, calibration)
        self._block_start = time.perf_counter()

    def _allocate(self, trainer: Trainer, calibration: Calibration, batches: list[dict[str, Any]]) -> None:
        """Decide every layer's sparsity, unless an unfinished run has."""
        plan = self.unfinished.load_plan() if run_of(trainer).resumes else None
        if plan is not None:
            self.pruner.sparsities = plan
            return
        dense = None
        if self.pruner.allocation is not None and self.pruner.allocation.needs_statistics:
            log.info("calibrating the dense model once for %s", type(self.pruner.allocation).__name__)
            dense = collect_statistics(calibration.model, batches, self.pruner, self.count_padding, calibration.groups)
        self.pruner.allocate(calibration.blocks, dense)
        if trainer.is_global_zero:
            self.unfinished.save_plan(self.pruner.sparsities)

    def _take_up(self, trainer: Trainer, calibration: Calibration) -> None:
        """Prune the blocks that an unfinished run has decided, as it decided."""
        blocks = self.unfinished.load_blocks() if run_of(trainer).resumes else []
        trainer.strategy.barrier("mlprune-taken-up")  # nobody writes a block before all have counted them
        if blocks:
            log.info("(%d/%d) blocks were pruned before", len(blocks), len(calibration.blocks))
        for k, (reports, weights) in enumerate(blocks):
            if self._stream is not None:
                self._stream.model.enter(k)
            if self.propagate == "dense":
                self._pass(calibration, k)
            restore(calibration.blocks[k], reports, weights)
            if self._stream is not None:
                self._pass(calibration, k)
            self._keep(trainer, calibration, k, reports)
        self.num_taken_up = len(blocks)

    def _pass(self, calibration: Calibration, k: int) -> None:
        """Run the batches through a block as it is now, unless they are past it."""
        for index in range(calibration.num_batches if self.pruner.importance.needs else 0):
            calibration.advance(k + 1, index)

    def _keep(self, trainer: Trainer, calibration: Calibration, k: int, reports: dict[str, LayerReport]) -> None:
        """Remember what was done to a block; with streaming its masks and weights go to disk."""
        self._sizes |= {path: report.mask.numel() for path, report in reports.items()}
        if self._stream is not None:
            self._stream.keep(k, reports)
            reports = {path: replace(report, mask=report.mask.new_empty(0)) for path, report in reports.items()}
        self.reports |= reports

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Read the block that comes next, with streaming."""
        if self._stream is not None and not self.is_finished(batch.block):
            self._stream.model.enter(batch.block)

    def is_finished(self, block: int) -> bool:
        """Tell whether a block needs no more calibration."""
        return block < self.num_taken_up

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Close a block: add statistics up over processes, score, mask, keep and log."""
        if trainer.state.fn != "validate" or batch.index is not None or self.is_finished(batch.block):
            return
        calibration = pl_module.calibration
        block = calibration.blocks[batch.block]
        with torch.no_grad():
            if self.propagate == "layer":
                reports = calibration.run_block(batch.block)
            else:
                statistics = calibration.statistics(batch.block)
                if trainer.is_global_zero and self.pruner.importance.needs == "energy":  # Gram matrices are too large
                    self.unfinished.save_statistics(batch.block, statistics)
                reports = self.pruner.prune_block(block, statistics)
        if trainer.is_global_zero:
            self.unfinished.save_block(batch.block, block, reports)
        self._keep(trainer, calibration, batch.block, reports)
        seconds = time.perf_counter() - self._block_start
        self._block_start = time.perf_counter()
        for callback in trainer.callbacks:
            if hasattr(callback, "on_block_pruned"):
                callback.on_block_pruned(trainer, pl_module, batch.block, reports, seconds)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write masks and the pruned checkpoint."""
        if trainer.state.fn != "validate":
            return
        self._release()
        pl_module.calibration = None
        pl_module.recipe = self.recipe(trainer, pl_module)
        sparsity, seen = (100 * pl_module.recipe[name] for name in ("sparsity", "scored_share"))
        layers = len(self.reports)
        log.info("pruned %.2f%% of the weights of %d layers (%.1f%% of the blocks' matrices)", sparsity, layers, seen)
        self._tell_silent_inputs()
        if trainer.is_global_zero and (statistics := self.unfinished.load_statistics()):
            save_statistics(statistics, run_folder(trainer) / "statistics.safetensors")
        if self._stream is not None:
            self._stream.finish(pl_module.recipe)
            self._stream = None
        else:
            pl_module.masks = {path: report.mask for path, report in self.reports.items()}
            if trainer.is_global_zero:
                save_masks(pl_module.masks, run_folder(trainer) / "masks.safetensors")
            self._save(trainer, pl_module)
        if trainer.is_global_zero and not run_of(trainer).is_experiment:
            self.unfinished.remove()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model as it was found, hooks and settings included, and no half-written checkpoint."""
        self._release()
        self._abandon()

    def _tell_silent_inputs(self) -> None:
        """Name the layers that have inputs which no prompt of a group ever used; their weights score lowest."""
        for group in sorted({group for _, group in self.pruner.silent_inputs}):
            layers = [f"{path} ({n})" for (path, of), n in self.pruner.silent_inputs.items() if of == group]
            named = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
            log.info("group '%s': inputs that are always zero: %s", group, named)

    def _release(self) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None

    def _abandon(self) -> None:
        if self._stream is not None:
            self._stream.abandon()
            self._stream = None

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # with training to come the checkpoint is written after it
        trains = trainer.state.fn == "validate" and run_of(trainer).trains
        if self.save_model and not trains:
            if trainer.is_global_zero and not (run_folder(trainer) / "pruned").exists():
                save_checkpoint(
                    pl_module.model,
                    pl_module.tokenizer,
                    run_folder(trainer) / "pruned",
                    pl_module.recipe,
                    pl_module.source.card(),
                )
            trainer.strategy.barrier("mlprune-saved")

    def recipe(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what mlprune.json says: how the model was pruned, on what, and how far."""
        data = trainer.datamodule
        pruned = sum(round(report.sparsity * self._sizes[path]) for path, report in self.reports.items())
        return {
            "schema_version": 1,
            "base_model": pl_module.source.name,
            "revision": pl_module.source.revision,
            "importance": describe(self.pruner.importance),
            "pattern": describe(self.pruner.pattern),
            "allocation": describe(self.pruner.allocation) if self.pruner.allocation else "uniform",
            "propagate": self.propagate,
            "count_padding": self.count_padding,
            "seed": data.seed,
            "calibration": calibration_facts(data.prompts()),
            "sparsity": pruned / sum(self._sizes.values()),
            "scored_share": self.pruner.scored_share(self.reports),
            "layers": {path: report.sparsity for path, report in self.reports.items()},
            "versions": versions(),
        }

    # -- recovery training ----------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the run as one to go on with; a model that was pruned before begins here."""
        if trainer.is_global_zero:
            self.unfinished.start()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the trained checkpoint, its pruned weights at zero."""
        pl_module.end_training()
        if self.reports:  # else it was pruned before, as its checkpoint says
            pl_module.recipe = self.recipe(trainer, pl_module)
        if trainer.is_global_zero:
            save_masks(pl_module.masks, run_folder(trainer) / "masks.safetensors")
        self._save(trainer, pl_module)

    # -- Lightning checkpoints ------------------------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the masks in Lightning checkpoints, so that a resumed training still holds them."""
        checkpoint["mlprune_masks"] = pl_module.masks

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the masks from a Lightning checkpoint."""
        pl_module.masks = checkpoint.get("mlprune_masks", pl_module.masks)

"""What TensorBoard shows of a run: blocks as they are pruned, results, settings with headline figures."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from mlprune.analysis.figures import accuracy_bars, layer_map, picture
from mlprune.callbacks.output_error import OutputError
from mlprune.distributed import gather_objects
from mlprune.models.blocks import Block
from mlprune.models.paths import LayerPath
from mlprune.module import scalars
from mlprune.pruning import LayerReport
from mlprune.run import run_folder, run_of

SETTINGS = ("importance", "pattern", "allocation", "propagate")


class TensorBoard(Callback):
    """Logs pruning and evaluation for TensorBoard, where the run has a ``TensorBoardLogger``.

    ``output_errors`` keeps (block, group) to relative error, for whoever else wants them.

    Args:
        output_error: Watch how far pruning moves each block's output, on the first batch of each group (not with
            ``propagate: layer``); with several processes, the first batch of the first process that has one.
        figures: Draw the accuracy bars and the map of kept importance as images.
        histograms: Histograms of every layer's importance scores and input energies; slow on large models.
    """

    def __init__(self, output_error: bool = True, figures: bool = True, histograms: bool = False) -> None:
        self.output_error = output_error
        self.figures = figures
        self.histograms = histograms
        self._watch: OutputError | None = None
        self.output_errors: dict[tuple[int, str], float] = {}
        self._kept: dict[str, list[float]] = {}
        self._seconds = 0.0
        self._dense: dict[str, Any] = {}

    # -- validate -------------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to watch the calibration."""
        calibration = getattr(pl_module, "calibration", None)
        if trainer.state.fn != "validate" or calibration is None:
            return
        self._kept, self.output_errors, self._seconds = {}, {}, 0.0
        if self.output_error and calibration.propagate != "layer" and calibration.pruner.importance.needs:
            self._watch = OutputError(calibration, trainer.datamodule.calibration_batches())
        if self.histograms and trainer.is_global_zero:
            calibration.pruner.on_scores = partial(self._histograms, trainer, calibration.blocks)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Tell the watch which step comes."""
        if self._watch is not None:
            self._watch.before_step(batch.block, batch.index)

    def on_block_pruned(
        self, trainer: Trainer, pl_module: LightningModule, k: int, reports: dict[str, LayerReport], seconds: float
    ) -> None:
        """Log one block, at step ``k``; errors of outputs come a block later, when they are known."""
        if self._watch is not None:
            self._watch.after_pruning(k)
            self._log_errors(trainer, self._watch.errors)
            if k == len(pl_module.calibration.blocks) - 1:
                self._log_errors(trainer, self._of_all_processes())
        if not _writers(trainer):
            return
        self._seconds += seconds
        sizes = {path: report.mask.numel() for path, report in reports.items()}
        pruned = sum(report.sparsity * sizes[path] for path, report in reports.items())
        figures = {
            "pruning/block/sparsity": pruned / sum(sizes.values()),
            "pruning/block/seconds": seconds,
        }
        for path, report in reports.items():
            kind = LayerPath.of(path).layer
            figures[f"pruning/{kind}/sparsity"] = report.sparsity
            figures[f"pruning/{kind}/threshold"] = report.threshold
            figures[f"pruning/{kind}/kept_importance"] = report.kept_importance
            self._kept.setdefault(kind, [float("nan")] * len(pl_module.calibration.blocks))[k] = report.kept_importance
        for writer in _writers(trainer):
            writer.log_metrics(figures, step=k)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what is known at the end only."""
        self._stop_watching()
        if trainer.state.fn != "validate" or not _writers(trainer):
            return
        if self.figures and self._kept and trainer.is_global_zero:
            for writer in _writers(trainer):
                figure = layer_map(self._kept, "share of importance kept")
                writer.experiment.add_image("pruning/kept_importance", picture(figure), dataformats="HWC")
        if pl_module.recipe and not run_of(trainer).is_experiment:
            self._log_settings(trainer, pl_module, {"headline/pruning/seconds": self._seconds})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model as it was found."""
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _of_all_processes(self) -> dict[tuple[int, str], float]:
        """Errors of groups whose batches other processes had; a collective."""
        assert self._watch is not None
        return {key: error for part in reversed(gather_objects(self._watch.errors)) for key, error in part.items()}

    def _log_errors(self, trainer: Trainer, errors: Mapping[tuple[int, str], float]) -> None:
        for (block, group), error in sorted(errors.items()):
            if (block, group) not in self.output_errors:
                self.output_errors[block, group] = error
                for writer in _writers(trainer):
                    writer.log_metrics({f"pruning/{group}/output_error": error}, step=block)

    def _histograms(
        self, trainer: Trainer, blocks: list[Block], path: str, scores: Tensor, energies: Mapping[str, Tensor]
    ) -> None:
        """One histogram a kind of layer, a step a block, so that depth is seen at a glance."""
        step, kind = next(k for k, block in enumerate(blocks) if path in block.layers), LayerPath.of(path).layer
        for writer in _writers(trainer):
            writer.experiment.add_histogram(f"scores_log10/{kind}", _log10(scores), step)
            for group, energy in energies.items():
                if energy.dim() == 1:
                    writer.experiment.add_histogram(f"energies_log10/{kind}/{group}", _log10(energy), step)

    # -- test -----------------------------------------------------------------------------------------------------

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log results: in ``fit`` dense and pruned as points of one curve, elsewhere as they are."""
        if not _writers(trainer):
            return
        results, stage = pl_module.results, pl_module.pruning_stage
        whole = run_of(trainer).is_experiment
        if whole:
            sweeps = run_of(trainer).is_sweep  # then a curve over sparsity, in percent
            step = round(100 * pl_module.recipe.get("sparsity", 0)) if sweeps else int(stage == "pruned")
            for writer in _writers(trainer):
                writer.log_metrics(scalars("fit", results), step=step)
            if not step:
                self._dense = results
                return
            self._dense = self._dense or _read(trainer)
        if trainer.is_global_zero:
            for writer in _writers(trainer):
                writer.experiment.add_text("results", _table(self._dense, results, stage))
                if self.figures:
                    for task, figure in accuracy_bars(self._dense, results, stage).items():
                        writer.experiment.add_image(f"results/{task}", picture(figure), dataformats="HWC")
        self._log_settings(trainer, pl_module, headline_figures(results, self._dense))

    def _log_settings(self, trainer: Trainer, pl_module: LightningModule, figures: dict[str, float]) -> None:
        recipe, data = pl_module.recipe, trainer.datamodule
        settings = {"model": pl_module.source.name, "dtype": pl_module.source.dtype, "stage": pl_module.pruning_stage}
        settings |= {name: recipe[name] for name in SETTINGS if recipe.get(name) is not None}
        settings |= {"groups": "+".join(data.demonstrations), "num_prompts": data.num_prompts, "seed": data.seed}
        figures = {"headline/pruning/sparsity": recipe.get("sparsity", 0.0), **figures}
        for writer in _writers(trainer):
            writer.log_hyperparams(settings, figures)


def headline_figures(results: dict[str, Any], dense: dict[str, Any] | None = None) -> dict[str, float]:
    """Return the few figures by which runs are sorted.

    Args:
        results: Sections of results.json.
        dense: The same of the dense model, for differences.

    Example:
        >>> average = {"average": {"nli": {"non_en": {"accuracy": 0.5}}}}
        >>> headline_figures(average, average)
        {'headline/nli/non_en/accuracy': 0.5, 'headline/nli/non_en/delta': 0.0}
    """
    figures = {}
    for task, average in results.get("average", {}).items():
        if "non_en" in average:
            figures[f"headline/{task}/non_en/accuracy"] = after = average["non_en"]["accuracy"]
            before = (dense or {}).get("average", {}).get(task, {}).get("non_en")
            if before:
                figures[f"headline/{task}/non_en/delta"] = after - before["accuracy"]
    for task, pairs in results.get("rankc", {}).items():
        if pairs:
            figures[f"headline/{task}/mean/rankc"] = sum(pairs.values()) / len(pairs)
    bleu = [row["bleu"] for name, row in results.get("translation", {}).items() if "bleu" in row and "all-" not in name]
    if bleu:
        figures["headline/translation/mean/bleu"] = sum(bleu) / len(bleu)
    bits = [row["bits_per_char"] for row in results.get("perplexity", {}).values() if "bits_per_char" in row]
    if bits:
        figures["headline/perplexity/mean/bits_per_char"] = sum(bits) / len(bits)
    return figures


def _writers(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _log10(values: Tensor) -> Tensor:
    """Of what is above zero: a zero, such as the score of a silent input, would stretch the axis out of sight."""
    found = values[(values > 0) & values.isfinite()].float().log10()
    return found if len(found) else torch.zeros(1)


def _read(trainer: Trainer) -> dict[str, Any]:
    """The dense results of an earlier start."""
    path = run_folder(trainer) / "results.dense.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _table(dense: dict[str, Any], results: dict[str, Any], stage: str) -> str:
    """Markdown of all figures, a line each."""
    before, after = scalars("", dense), scalars("", results)
    columns = [*(["dense"] if before else []), stage, *(["delta"] if before else [])]
    lines = [f"| task | language | metric | {' | '.join(columns)} |", "| --- " * 3 + "| ---: " * len(columns) + "|"]
    for name, value in after.items():
        _, task, lang, metric = name.split("/")
        row = [value]
        if before:
            row = [before[name], value, value - before[name]] if name in before else [float("nan"), value, float("nan")]
        lines.append(f"| {task} | {lang} | {metric} | " + " | ".join(f"{number:.3f}" for number in row) + " |")
    return "\n".join(lines)

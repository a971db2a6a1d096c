"""What TensorBoard shows of a run: blocks as they are pruned, results, settings with headline figures."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from mlprune.analysis.figures import layer_map, picture
from mlprune.callbacks.base import Viewer
from mlprune.comparison import read_figures
from mlprune.metrics.measure import AVERAGE, Figure, change
from mlprune.models.blocks import find_blocks
from mlprune.models.paths import LayerPath
from mlprune.module import scalars
from mlprune.present import comparison_markdown, figure_tables, to_markdown
from mlprune.present.figures import task_bars
from mlprune.pruning import LayerReport
from mlprune.run import Run

SETTINGS = ("importance", "pattern", "allocation", "propagate")


class TensorBoard(Viewer):
    """Logs pruning and evaluation for TensorBoard, if the run has a ``TensorBoardLogger``.

    Args:
        output_error: Log how far pruning moves each block's output (not with ``propagate: layer``).
        figures: Draw each task's figures and the map of kept importance as images.
        histograms: Histograms of every layer's importance scores and input energies; slow on large models.
    """

    shows = "TensorBoardLogger"

    def __init__(self, output_error: bool = True, figures: bool = True, histograms: bool = False) -> None:
        self.output_error = output_error
        self.figures = figures
        self.histograms = histograms
        self._logged: set[tuple[int, str]] = set()
        self._kept: dict[str, list[float]] = {}
        self._dense: dict[str, Any] = {}

    # -- validate -------------------------------------------------------------------------------------------------

    def on_layer_scored(self, run: Run, path: str, scores: Tensor, means: Mapping[str, Tensor]) -> None:
        """One histogram a kind of layer, a step a block, so that trends over depth are visible at a glance."""
        if not self.histograms or not run.writes:
            return
        blocks = find_blocks(run.model)
        step, kind = next(k for k, block in enumerate(blocks) if path in block.layers), LayerPath.of(path).layer
        for writer in _writers(run):
            writer.experiment.add_histogram(f"scores_log10/{kind}", _log10(scores), step)
            for group, mean in means.items():
                if mean.dim() == 1:
                    writer.experiment.add_histogram(f"energies_log10/{kind}/{group}", _log10(mean), step)

    def on_block_pruned(self, run: Run, block: int, reports: dict[str, LayerReport], seconds: float) -> None:
        """Log one block, at its step; output errors follow one block later, when they are known."""
        num_blocks = len(find_blocks(run.model))
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
            self._kept.setdefault(kind, [float("nan")] * num_blocks)[block] = report.kept_importance
        for writer in _writers(run):
            writer.log_metrics(figures, step=block)
        if self.output_error:
            self._log_errors(run)

    def _log_errors(self, run: Run) -> None:
        for (block, group), error in sorted(run.outcome.output_errors.items()):
            if (block, group) not in self._logged:
                self._logged.add((block, group))
                for writer in _writers(run):
                    writer.log_metrics({f"pruning/{group}/output_error": error}, step=block)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what is known only at the end."""
        run = self.run
        if not run.outcome.reports:
            return
        if self.figures and self._kept and run.writes:
            for writer in _writers(run):
                figure = layer_map(self._kept, "share of importance kept")
                writer.experiment.add_image("pruning/kept_importance", picture(figure), dataformats="HWC")
        if not run.is_experiment:
            self._log_settings(run, {"headline/pruning/seconds": sum(run.outcome.seconds.values())})

    # -- test -----------------------------------------------------------------------------------------------------

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log results: in ``fit`` dense and pruned as points of one curve, elsewhere as they are."""
        run = self.run
        if not _writers(run) or run.is_part:
            return
        results, system = run.module.results, run.module.system
        if run.is_experiment:
            # in a study, the step is the sparsity in percent
            step = round(100 * run.module.recipe.get("sparsity", 0)) if run.is_study else int(system != "dense")
            for writer in _writers(run):
                writer.log_metrics(scalars("fit", results), step=step)
            if not step:
                self._dense = results
                return
            self._dense = self._dense or _read(run)
        before = read_figures(self._dense) if self._dense else []
        systems = ({"dense": before} if before else {}) | {system: read_figures(results)}
        if run.writes:
            for writer in _writers(run):
                writer.experiment.add_text("results", "\n\n".join(map(to_markdown, figure_tables(systems))))
                if self.figures:
                    for task, figure in task_bars(systems).items():
                        writer.experiment.add_image(f"results/{task}", picture(figure), dataformats="HWC")
        self._log_settings(run, headline_figures(systems[system], before))

    def on_run_end(self, run: Run) -> None:
        """Log the comparison as text, with intervals and p values."""
        file = run.folder / "comparison.json"
        if run.writes and run.is_experiment and file.is_file():
            text = comparison_markdown(json.loads(file.read_text(encoding="utf-8")))
            for writer in _writers(run):
                writer.experiment.add_text("comparison", text)

    def _log_settings(self, run: Run, figures: dict[str, float]) -> None:
        recipe, data, source = run.module.recipe, run.data, run.module.source
        settings: dict[str, Any] = {"model": source.name, "dtype": source.dtype, "stage": run.module.system}
        settings |= {name: recipe[name] for name in SETTINGS if recipe.get(name) is not None}
        settings |= {"groups": "+".join(run.groups), "num_prompts": data.num_prompts, "seed": data.seed}
        figures = {"headline/pruning/sparsity": recipe.get("sparsity", 0.0), **figures}
        for writer in _writers(run):
            writer.log_hyperparams(settings, figures)


def headline_figures(rows: Sequence[Figure], reference: Sequence[Figure] = ()) -> dict[str, float]:
    """Return the few figures by which runs are sorted: averages over languages.

    Args:
        rows: Figures of an evaluation.
        reference: The same of the dense model, for differences.

    Example:
        >>> from mlprune.metrics import Measure
        >>> rows = [Figure("dense", "nli", "average", Measure("f1"), 0.5)]
        >>> headline_figures(rows, rows)
        {'headline/nli/f1': 0.5, 'headline/nli/f1/change': 0.0}
    """
    before = {(row.task, row.measure.name): row.value for row in reference if row.language == AVERAGE}
    figures = {}
    for row in rows:
        if row.language == AVERAGE and row.value is not None and not row.measure.detail:
            name = f"headline/{row.task}/{row.measure.name}"
            figures[name] = row.value
            if (difference := change(before.get((row.task, row.measure.name)), row.value)) is not None:
                figures[f"{name}/change"] = difference
    return figures


def _writers(run: Run) -> list[TensorBoardLogger]:
    return [logger for logger in run.trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _log10(values: Tensor) -> Tensor:
    """Of what is above zero: a zero, such as the score of a silent input, would stretch the axis out of sight."""
    found = values[(values > 0) & values.isfinite()].float().log10()
    return found if len(found) else torch.zeros(1)


def _read(run: Run) -> dict[str, Any]:
    """The dense results of an earlier start, or of another run."""
    path = run.folder / "results.dense.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

"""The callback that keeps what pruning did to each layer and writes the report when a run ends."""

import csv
import io
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mlprune.callbacks.pruning import PruningCallback
from mlprune.files import write_text
from mlprune.log import log
from mlprune.models.blocks import find_blocks
from mlprune.pruning import LayerReport
from mlprune.report import read_run, write_report
from mlprune.run import run_folder, run_of


class ReportCallback(Callback):
    """Writes ``layers.csv`` after pruning, and ``report.html`` at the end of every run.

    ``layers.csv`` has a line a layer: ``block``, ``layer``, ``sparsity``, ``threshold``, ``kept_importance`` (shares),
    and of its block ``seconds`` and ``output_error.<group>``, the relative change of the block's output on the group's
    first batch, where a callback with ``output_errors`` (TensorBoard's) measures it.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew."""
        self._seconds = {}

    def on_block_pruned(
        self, trainer: Trainer, pl_module: LightningModule, block: int, reports: dict[str, LayerReport], seconds: float
    ) -> None:
        """Keep a block's time."""
        self._seconds[block] = seconds

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write layers.csv; the report too, unless an evaluation follows."""
        pruning = next((callback for callback in trainer.callbacks if isinstance(callback, PruningCallback)), None)
        if trainer.state.fn != "validate" or not trainer.is_global_zero:
            return
        if pruning is not None and pruning.reports:
            errors = next((c.output_errors for c in trainer.callbacks if hasattr(c, "output_errors")), {})
            rows = self._rows(pl_module, pruning.reports, errors)
            out = io.StringIO()
            writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(run_folder(trainer) / "layers.csv", out.getvalue())
        self._write_unless_experiment(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report of an evaluation."""
        self._write_unless_experiment(trainer)

    def on_experiment_end(self, trainer: Trainer) -> None:
        """Write the report of a whole experiment."""
        self._write(trainer)

    def _write_unless_experiment(self, trainer: Trainer) -> None:
        if not run_of(trainer).is_experiment:
            self._write(trainer)

    @staticmethod
    def _write(trainer: Trainer) -> None:
        if trainer.is_global_zero:
            folder = run_folder(trainer)
            log.info("report: %s", write_report([read_run(folder)], folder / "report.html"))

    def _rows(
        self, pl_module: LightningModule, reports: dict[str, LayerReport], errors: dict[tuple[int, str], float]
    ) -> list[dict[str, Any]]:
        groups = list(dict.fromkeys(group for _, group in errors))
        return [
            {
                "block": k,
                "layer": path,
                "sparsity": reports[path].sparsity,
                "threshold": reports[path].threshold,
                "kept_importance": reports[path].kept_importance,
                "seconds": round(self._seconds[k], 3) if k in self._seconds else "",
                **{f"output_error.{group}": errors.get((k, group), "") for group in groups},
            }
            for k, block in enumerate(find_blocks(pl_module.model))
            for path in block.layers
            if path in reports
        ]

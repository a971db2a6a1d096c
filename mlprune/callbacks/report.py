"""The callback that keeps what pruning did to each layer and writes the report when a run ends."""

import csv
import io
import shlex
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from mlprune.callbacks.base import RunCallback
from mlprune.files import write_text
from mlprune.invocation import program
from mlprune.log import log
from mlprune.models.blocks import find_blocks
from mlprune.report import read_run, write_report
from mlprune.run import Run


class ReportCallback(RunCallback):
    """Writes ``layers.csv`` after pruning, and ``report.html`` at the end of every run.

    ``layers.csv`` has a line a layer: ``block``, ``layer``, ``sparsity``, ``threshold``, ``kept_importance`` (shares),
    and of its block ``seconds`` and ``output_error.<group>``, the relative change of the block's output on the group's
    first batch (not with ``propagate: layer``); with several processes, the first batch of the first that has one.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write layers.csv, if layers were pruned."""
        run = self.run
        if run.writes and run.outcome.reports:
            rows = self._rows(run)
            out = io.StringIO()
            writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(run.folder / "layers.csv", out.getvalue())

    def on_run_end(self, run: Run) -> None:
        """Write the report."""
        if run.writes:
            again = f"{program()} report {shlex.quote(str(run.folder))} writes it"
            with run.viewer("report.html", remedy=again):
                log.info("report: %s", write_report([read_run(run.folder)], run.folder / "report.html"))

    @staticmethod
    def _rows(run: Run) -> list[dict[str, Any]]:
        reports, seconds, errors = run.outcome.reports, run.outcome.seconds, run.outcome.output_errors
        groups = list(dict.fromkeys(group for _, group in errors))
        return [
            {
                "block": k,
                "layer": path,
                "sparsity": reports[path].sparsity,
                "threshold": reports[path].threshold,
                "kept_importance": reports[path].kept_importance,
                "seconds": round(seconds[k], 3) if k in seconds else "",
                **{f"output_error.{group}": errors.get((k, group), "") for group in groups},
            }
            for k, block in enumerate(find_blocks(run.model))
            for path in block.layers
            if path in reports
        ]

"""A sweep: many sparsities from one calibration of the dense model, evaluated at each."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mlprune.callbacks.calibration import DenseCalibration
from mlprune.callbacks.console import print_tables
from mlprune.callbacks.pruning import PruningCallback
from mlprune.comparison import compare, read_differences
from mlprune.experiments.stages import Stages
from mlprune.files import whole_file, write_json, write_text
from mlprune.present import Table, curves_of, curves_table, raw_table, to_csv
from mlprune.present.figures import sparsity_curves
from mlprune.pruning import Pruner, sweep
from mlprune.run import Run
from mlprune.runs.facts import describe
from mlprune.runs.unfinished import Unfinished


class Sweep:
    """The simplest study: one recipe at each of ``pruning.sweep``.

    Writes ``sweep.csv`` (a line a sparsity, task, language and metric), ``figures/sweep.png``, and for each sparsity a
    folder ``sweep/<sparsity>`` with results.json, predictions and comparison.json, which comes last. A resumed run
    evaluates only at the sparsities that are not there. The model is dense again at the end.

    Args:
        run: The run.
        pruning: The pruning callback, whose settings all sparsities share.
        stages: The stages that its phases run.
    """

    def __init__(self, run: Run, pruning: PruningCallback, stages: Stages) -> None:
        self.run = run
        self.pruners = pruning.sweep_pruners()
        self.levels = pruning.sweep or []
        self.calibration = DenseCalibration(pruning)
        self.stages = stages

    def phases(self) -> list[tuple[str, Callable[[], None]]]:
        """Return what is done after the dense evaluation, with captions."""
        known = [level for level in self.levels if self.run.resumes and self._comparison_file(level).is_file()]
        left = [pruner for pruner in self.pruners if pruner.pattern.sparsity not in known]
        return [
            ("calibrating the dense model, once", partial(self.stages.validate, self.calibration)),
            *(
                (f"evaluating at sparsity {pruner.pattern.sparsity:g}", partial(self._evaluate_at, pruner))
                for pruner in left
            ),
        ]

    def _evaluate_at(self, pruner: Pruner) -> None:
        run = self.run
        run.module.to(run.device)  # Lightning leaves it on the CPU after each stage
        for _, masks in sweep(run.model, self.calibration.statistics, [pruner]):
            pruned = sum(int((~mask).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
            run.module.mark_pruned({"sparsity": pruned, "pattern": describe(pruner.pattern)})
            self.stages.evaluate()
            if run.writes:
                self._keep(pruner.pattern.sparsity)
            run.barrier("swept")
        run.module.mark_pruned({})

    def _folder(self, level: float) -> Path:
        return self.run.folder / "sweep" / f"{level:g}"

    def _comparison_file(self, level: float) -> Path:
        return self._folder(level) / "comparison.json"

    def _comparison(self, level: float) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._comparison_file(level).read_text(encoding="utf-8"))
        return found

    def _keep(self, level: float) -> None:
        """Move an evaluation into the folder of its sparsity, and compare it with the dense model's."""
        folder, target = self.run.folder, self._folder(level)
        Unfinished(folder).forget_records("pruned")  # the next sparsity starts without any
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        (folder / "predictions").rename(target / "predictions")
        (folder / "results.json").rename(target / "results.json")
        write_json(
            self._comparison_file(level),
            compare(folder / "predictions.dense", target / "predictions", self.run.data.seed),
        )

    def write(self) -> list[dict[str, Any]]:
        """Write sweep.csv and the curves, show the table, and return the rows of sweep.csv."""
        folder = self.run.folder
        found = {level: read_differences(self._comparison(level)) for level in self.levels}
        tables = [raw_table(rows, sparsity=level) for level, rows in found.items()]
        lines = [line for table in tables for line in table.rows]
        write_text(folder / "sweep.csv", to_csv(Table("", tables[0].columns, lines)))
        curves = curves_of([(level, row) for level, rows in found.items() for row in rows])
        with self.run.viewer("figures/sweep.png"), whole_file(folder / "figures" / "sweep.png") as partial:
            sparsity_curves(curves).savefig(partial, dpi=120, format="png")
        with self.run.viewer("console table"):
            print_tables([curves_table(curves)])
        return [{"sparsity": level} | row.to_json() for level, rows in found.items() for row in rows]

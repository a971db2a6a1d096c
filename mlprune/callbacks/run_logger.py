"""What loggers show of a run: blocks as they are pruned, results, settings with headline figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from mlprune.analysis.figures import layer_map, picture
from mlprune.callbacks.base import Viewer
from mlprune.callbacks.logged import headline_figures, layout_of, scalars_of
from mlprune.callbacks.outlets import Outlet, Outlets
from mlprune.callbacks.settings import METHOD, settings_of
from mlprune.comparison import Difference, read_differences, read_figures
from mlprune.comparison.schema1 import read_line, read_sweep
from mlprune.metrics.measure import Figure
from mlprune.models.blocks import find_blocks
from mlprune.models.paths import LayerPath
from mlprune.present import (
    Table,
    comparison_markdown,
    curves_of,
    curves_table,
    figure_tables,
    shown_rows,
    to_markdown,
)
from mlprune.present.figures import sparsity_curves, task_bars
from mlprune.present.study import tables_of
from mlprune.pruning import LayerReport
from mlprune.run import Run
from mlprune.runs.content import read_study

DENSE = "dense"


@dataclass(frozen=True)
class System:
    """An evaluated system: its figures, and how it was pruned."""

    rows: list[Figure]
    recipe: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Its sparsity in percent."""
        return round(100 * float(self.recipe.get("sparsity", 0.0)))


class RunLogger(Viewer):
    """Logs pruning, evaluation and settings to every logger of the trainer, in the units that tables have.

    An evaluated system is logged under its name (``dense``, ``pruned``, ``trained``; of a study the recipe's folder),
    at its sparsity in percent as step; blocks at their position. Images and tables go to loggers that have them.

    Args:
        output_error: Log how far pruning moves each block's output (not with ``propagate: layer``).
        figures: Draw each task's figures and the map of kept importance as images.
    """

    def __init__(self, output_error: bool = True, figures: bool = True) -> None:
        self.output_error = output_error
        self.figures = figures
        self._outlets: Outlets | None = None
        self._settings: dict[str, Any] = {}
        self._errors: set[tuple[int, str]] = set()  # logged
        self._kept: dict[str, list[float]] = {}
        self._systems: dict[str, System] = {}

    @property
    def outlets(self) -> Outlets:
        """The loggers of the run."""
        if self._outlets is None:
            self._outlets = Outlets(self.run)
        return self._outlets

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Log the settings, once."""
        if self.outlets and not self._settings:
            with self.run.viewer(type(self).__name__):
                self._settings = settings_of(self.run)
                self.outlets.each(Outlet.settings, self._settings)

    # -- validate -------------------------------------------------------------------------------------------------

    def on_block_pruned(self, run: Run, block: int, reports: dict[str, LayerReport], seconds: float) -> None:
        """Log one block, at its step; output errors follow one block later, when they are known."""
        if not self.outlets:
            return
        sizes = {path: report.mask.numel() for path, report in reports.items()}
        pruned = sum(report.sparsity * sizes[path] for path, report in reports.items())
        figures = {"pruning/block/sparsity": 100 * pruned / sum(sizes.values()), "pruning/block/seconds": seconds}
        for path, report in reports.items():
            kind = LayerPath.of(path).layer
            figures[f"pruning/{kind}/sparsity"] = 100 * report.sparsity
            figures[f"pruning/{kind}/threshold"] = report.threshold
            figures[f"pruning/{kind}/kept_importance"] = 100 * report.kept_importance
            if kind not in self._kept:
                self._kept[kind] = [float("nan")] * len(find_blocks(run.model))
            self._kept[kind][block] = 100 * report.kept_importance
        self.outlets.each(Outlet.scalars, figures, block)
        if self.output_error:
            self._log_errors(run)

    def _log_errors(self, run: Run) -> None:
        for (block, group), error in sorted(run.outcome.output_errors.items()):
            if (block, group) not in self._errors:
                self._errors.add((block, group))
                figures = {f"pruning/{group}/output_error": 100 * error}
                self.outlets.each(Outlet.scalars, figures, block)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw where importance was lost."""
        if self.figures and self._kept and self.outlets:
            drawn = picture(layer_map(self._kept, "importance kept, %"))
            self.outlets.each(Outlet.image, "pruning/kept_importance", drawn)

    # -- test -----------------------------------------------------------------------------------------------------

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures of the system that was evaluated."""
        module = self.run.module
        if not self.run.is_part:
            self._log_system(module.system, module.recipe, read_figures(module.results))

    def _log_system(self, name: str, recipe: Mapping[str, Any], rows: list[Figure]) -> None:
        """Log figures, at their sparsity as step, so that the axis means something."""
        system = System(rows, recipe)
        self._systems[recipe.get("label", name)] = system
        self.outlets.each(Outlet.system, recipe.get("label", name), scalars_of(rows), system.step)

    # -- the end --------------------------------------------------------------------------------------------------

    def on_run_end(self, run: Run) -> None:
        """Log what compares systems, and the settings with headline figures."""
        if not self.outlets:
            return
        dense = run.folder / f"results.{DENSE}.json"
        if DENSE not in self._systems and dense.is_file():  # of an earlier start, or taken from another run
            others, self._systems = self._systems, {}
            self._log_system(DENSE, {}, read_figures(_read(dense)))
            self._systems |= others
        if run.is_study:
            self._log_study(run.folder)
        elif self._systems:
            self._log_results(run)
        if not run.is_study and (self._systems or self._kept):
            self._log_headline(run)
        last = next((system.rows for system in reversed(self._systems.values())), [])
        self.outlets.each(Outlet.layout, layout_of(last, self._kept, run.groups))
        self.outlets.each(Outlet.close)

    def _log_results(self, run: Run) -> None:
        figures = {name: system.rows for name, system in self._systems.items()}
        self._log_table("results", [row for rows in figures.values() for row in rows])
        self._log_text("results", figure_tables(figures))
        if self.figures:
            for task, figure in task_bars(figures).items():
                self._log_image(f"results/{task}", figure)
        file = run.folder / "comparison.json"
        if run.is_experiment and file.is_file():
            comparison = _read(file)
            self._log_table("comparison", read_differences(comparison))
            self.outlets.each(Outlet.text, "comparison", comparison_markdown(comparison))

    def _log_study(self, folder: Path) -> None:
        """Log a study's leaderboard and curves, and a row of settings for each of its systems."""
        study, lines, sweep = read_study(folder)
        curves = curves_of(read_sweep(sweep))
        tables = [curves_table(curves)] if curves else tables_of(study, lines)
        self._log_text("study", tables)
        columns = {key: [line[key] for line in lines] for key in ("recipe", "seed", "role")}
        self._log_table("study", [read_line(line) for line in lines], **columns)
        if self.figures and curves:
            self._log_image("sweep", sparsity_curves(curves))
        dense = self._systems[DENSE].rows if curves else []  # else it was not evaluated on the recipes' rows alone
        for name, system in self._systems.items():
            if name != DENSE:
                settings = self._settings | {key: system.recipe[key] for key in (*METHOD, "sparsity")}
                self.outlets.each(Outlet.headline, settings, headline_figures(system.rows, dense), system.step, name)

    def _log_headline(self, run: Run) -> None:
        sparsity = 100 * run.module.recipe.get("sparsity", 0.0)
        values = {"headline/pruning/sparsity": sparsity}
        if self._systems:
            systems = [system.rows for system in self._systems.values()]
            values |= headline_figures(systems[-1], systems[0] if len(systems) > 1 else [])
        elif run.outcome.seconds:
            values["headline/pruning/seconds"] = sum(run.outcome.seconds.values())
        self.outlets.each(Outlet.headline, self._settings, values, round(sparsity))

    def _log_text(self, name: str, tables: Sequence[Table]) -> None:
        self.outlets.each(Outlet.text, name, "\n\n".join(map(to_markdown, tables)))

    def _log_image(self, name: str, figure: Any) -> None:
        drawn = picture(figure)
        self.outlets.each(Outlet.image, name, drawn)

    def _log_table(self, name: str, rows: Sequence[Figure | Difference], **columns: Sequence[Any]) -> None:
        heads, cells = shown_rows(rows, **columns)
        self.outlets.each(Outlet.table, name, heads, cells)


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content

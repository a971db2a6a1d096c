"""The callback that scores the experts of a mixture, and removes the lowest instead of pruning weights."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from matplotlib.figure import Figure

from mlprune.callbacks.base import Analysis
from mlprune.callbacks.features import save_figures
from mlprune.callbacks.pruned_model import base_facts, write_checkpoint
from mlprune.errors import UserError
from mlprune.files import write_text
from mlprune.models.blocks import find_blocks
from mlprune.models.mixtures import find_mixtures
from mlprune.present import Table, to_csv
from mlprune.pruning import calibrating
from mlprune.pruning.reap import ExpertPropagate, ExpertPruner, Scores, check_settings
from mlprune.pruning.share import matrix_sizes
from mlprune.pruning.statistics import Pool
from mlprune.run import Run
from mlprune.runs.facts import calibration_facts, versions


class ExpertStep:
    """One block: its experts, if it has some, are scored on all batches, and the lowest removed.

    Args:
        analysis: The callback.
        pruner: What scores.
        block: Position of the block.
    """

    def __init__(self, analysis: "ExpertPruning", pruner: ExpertPruner, block: int) -> None:
        self.analysis = analysis
        self.pruner = pruner
        self.block = block

    def gather(self) -> None:
        """Show the block all batches of this process."""
        self.pruner.step(self.block)
        for index in range(len(self.analysis.run.batches)):
            self.analysis.report_progress(self.block, index, 1.0)


class ExpertPruning(Analysis):
    """Removes experts of a mixture by REAP instead of pruning weights, in ``validate`` and ``fit``.

    Writes experts.csv, a table expert by group of demonstrations (a line an expert: block, expert, whether it was kept,
    and each group's score and routed tokens), a figure, and ``pruned/``, an ordinary smaller checkpoint. The groups
    decide what stays: give demonstrations in the languages and tasks that matter.

    Source: Lasby et al. 2025, "REAP the Experts: Why Pruning Prevails for One-Shot MoE Compression" (arXiv 2510.13999).
    Cost: two forward passes of the prompts, in which routed experts run twice.

    Args:
        share: The share of every layer's experts that goes, rounded down; 0 only scores (``validate``).
        groups: The groups of demonstrations that decide; all if omitted.
        pool: How they are pooled: ``tokens`` (the mean over all), ``mean`` (of groups), ``max`` or ``worst``.
        propagate: ``pruned``: each layer is scored behind the pruned layers before it; ``dense``: on the dense model.
        save_model: Write ``pruned/``.

    Raises:
        UserError: If a setting is out of range.
    """

    caption = "scoring experts"

    def __init__(
        self,
        share: float = 0.25,
        groups: list[str] | None = None,
        pool: Pool = "tokens",
        propagate: ExpertPropagate = "pruned",
        save_model: bool = True,
    ) -> None:
        check_settings(share, pool, propagate)
        self.share = share
        self.groups = groups
        self.pool: Pool = pool
        self.propagate: ExpertPropagate = propagate
        self.save_model = save_model
        self._calibrating = ExitStack()
        self._pruner: ExpertPruner | None = None
        self._weights = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check what can be checked before the model is loaded."""
        if not self.is_active:
            return
        run, source = self.run, self.run.module.source
        for group in self.groups or ():
            if group not in run.groups:
                raise UserError(
                    f"ExpertPruning: groups names '{group}'; data.demonstrations has {', '.join(run.groups)}"
                )
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise UserError("ExpertPruning needs whole weights; give trainer.strategy auto or ddp")
        if run.trains:
            raise UserError("ExpertPruning goes without recovery training; leave trainer.max_epochs out")
        if run.is_experiment and not self.share:
            raise UserError("ExpertPruning: share 0 removes nothing to compare; use validate, or give more than 0")
        if source.recipe():
            raise UserError(f"model.name '{source.name}' is pruned already; give the dense model")
        if run.module.model is None:
            find_mixtures(source.skeleton())

    def num_steps(self) -> int:
        """One step a block."""
        return len(find_blocks(self.run.model))

    def steps(self) -> Iterator[ExpertStep]:
        """Every block in order."""
        assert self._pruner is not None
        for block in range(len(self._pruner.blocks)):
            yield ExpertStep(self, self._pruner, block)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the walk over the blocks on this process' batches."""
        if self.is_active:
            run = self.run
            self._calibrating.enter_context(calibrating(run.model))
            self._pruner = ExpertPruner(
                run.model, run.batches, self.share, self.groups, self.pool, self.propagate, run.groups
            )
            self._weights = _weights(self._pruner)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores and the smaller checkpoint."""
        self._calibrating.close()
        if not self.is_active or self._pruner is None:
            return
        run, pruner = self.run, self._pruner
        self._pruner = None
        pruner.finish()
        if run.writes:
            write_text(run.folder / "experts.csv", experts_csv(pruner.scores, pruner.kept, run.groups))
            save_figures(run, {"experts": partial(expert_maps, pruner.scores, run.groups)})
        if self.share:
            run.module.mark_pruned(self._recipe(run, pruner))
            if self.save_model:
                write_checkpoint(run)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no setting behind."""
        self._calibrating.close()

    def _recipe(self, run: Run, pruner: ExpertPruner) -> dict[str, Any]:
        return {
            **base_facts(run),
            "importance": f"REAP (groups {', '.join(pruner.groups)}, pool {self.pool})",
            "pattern": f"{pruner.num_kept} of {pruner.num_experts} experts a layer",
            "allocation": "uniform",
            "propagate": self.propagate,
            "count_padding": False,
            "seed": run.data.seed,
            "calibration": calibration_facts(run.prompts),
            "sparsity": 1 - _weights(pruner) / self._weights,
            "scored_share": 1.0,
            "layers": {},
            "experts": pruner.kept,
            "versions": versions(),
        }


def _weights(pruner: ExpertPruner) -> int:
    """Entries of all matrices of the blocks."""
    return sum(sum(matrix_sizes(block).values()) for block in pruner.blocks)


def experts_csv(scores: Scores, kept: Mapping[str, list[int]], groups: list[str]) -> str:
    """Return scores as lines ``layer,expert,kept,score.<group>,...,tokens.<group>,...``.

    Example:
        >>> import torch
        >>> from mlprune.pruning import LayerStatistics
        >>> seen = LayerStatistics({"fr": torch.tensor([[2.0], [0.5]])}, {"fr": torch.tensor([3, 1])})
        >>> print(experts_csv({"0.mlp": seen}, {"0.mlp": [0]}, ["fr"]), end="")
        layer,expert,kept,score.fr,tokens.fr
        0.mlp,0,1,2,3
        0.mlp,1,0,0.5,1
    """
    columns = ("layer", "expert", "kept", *(f"{what}.{group}" for what in ("score", "tokens") for group in groups))
    rows = []
    for path, found in scores.items():
        for expert in range(len(next(iter(found.tokens.values())))):
            values = [f"{float(found.means[group][expert, 0]):.9g}" for group in groups]
            tokens = [str(int(found.tokens[group][expert])) for group in groups]
            rows.append((path, str(expert), str(int(expert in kept[path])), *values, *tokens))
    return to_csv(Table("experts", columns, rows))


def expert_maps(scores: Scores, groups: list[str]) -> Figure:
    """Draw a map for each layer: experts by groups, each group's scores as shares of its largest."""
    columns = min(len(scores), 4)
    lines = -(-len(scores) // columns)
    figure = Figure(figsize=(4 * columns, (1.2 + 0.3 * len(groups)) * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, (path, found) in zip(panels, scores.items(), strict=False):
        rows = [found.means[group][:, 0] for group in groups]
        axes.imshow(
            [(row / row.max().clamp(min=1e-30)).tolist() for row in rows], aspect="auto", cmap="viridis", vmin=0
        )
        axes.set_yticks(range(len(groups)), groups, fontsize=8)
        axes.set_xlabel("expert", fontsize=8)
        axes.set_title(path, fontsize=8)
    for axes in panels[len(scores) :]:
        axes.remove()
    figure.suptitle("REAP scores of experts, each group's as shares of its largest", fontsize="medium")
    return figure

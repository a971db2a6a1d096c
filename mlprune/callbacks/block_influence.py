"""The callback that measures how much each block changes what passes through it, by language."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from lightning.pytorch import LightningModule, Trainer

from mlprune.analysis.feature_figures import influence_curves
from mlprune.analysis.influence import Influences, InfluenceSums, influence_csv, least_influential
from mlprune.callbacks.base import Analysis
from mlprune.callbacks.console import print_line, print_tables
from mlprune.callbacks.features import save_figures
from mlprune.files import write_json, write_text
from mlprune.log import log
from mlprune.present import influence_table
from mlprune.pruning import calibrating
from mlprune.run import Run
from mlprune.runs.facts import calibration_facts, versions

INFLUENCE = "influence.csv"


class BlockInfluence(Analysis):
    """Makes ``validate`` measure the influence of each block in place of pruning: 1 - cosine of its input and output.

    It is the mean over the tokens of a group of demonstrations, such as a language; padding never counts. Prints and
    writes the table of blocks by groups (influence.csv, influence.json) and draws it. Source: Men et al. 2024,
    "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect" (arXiv 2403.03853), Equation 1; the
    published code takes the last block's output after the final norm, here it is the block's own. Cost: a forward pass
    of the prompts without the output head.
    """

    caption = "measuring blocks"

    def __init__(self) -> None:
        self.influences: Influences = {}
        self._sums: InfluenceSums | None = None
        self._calibrating = ExitStack()

    def num_steps(self) -> int:
        """One step for the whole model."""
        return 1

    def steps(self) -> Iterator["BlockInfluence"]:
        """The one step: this callback."""
        yield self

    def gather(self) -> None:
        """Measure every batch of this process."""
        assert self._sums is not None
        for index, batch in enumerate(self.run.batches):
            self._sums.add(batch)
            self.report_progress(0, index, 1.0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with nothing measured."""
        if self.is_active:
            self._calibrating.enter_context(calibrating(self.run.model))
            self._sums = InfluenceSums(self.run.model)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up over processes, write and print."""
        self._calibrating.close()
        if not self.is_active or self._sums is None:
            return
        sums, self._sums = self._sums, None
        sums.reduce()
        means = sums.means()
        self.influences = {group: means[group] for group in self.run.groups}
        if self.run.writes:
            self._write(self.run)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model as it was found."""
        self._calibrating.close()

    def _write(self, run: Run) -> None:
        facts = {"model": run.module.source.name, "seed": run.data.seed, "calibration": calibration_facts(run.prompts)}
        write_text(run.folder / INFLUENCE, influence_csv(self.influences))
        content = {"influence": self.influences, "least_influential": least_influential(self.influences)}
        write_json(run.folder / "influence.json", facts | {"versions": versions()} | content)
        save_figures(run, {"influence": partial(influence_curves, self.influences)})
        log.info("least influential: %s", ", ".join(least_influential(self.influences)[:4]))
        with run.viewer("console table"):
            print_line("")
            print_tables([influence_table(self.influences, least_influential(self.influences))])

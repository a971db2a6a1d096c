"""The callback that measures how much each block changes what passes through it, by language."""

from functools import partial

from mlprune.analysis.feature_figures import influence_curves
from mlprune.analysis.influence import Influences, InfluenceSums, influence_csv, least_influential
from mlprune.callbacks.console import print_line, print_tables
from mlprune.callbacks.features import save_figures
from mlprune.callbacks.one_pass import OnePass
from mlprune.files import write_json, write_text
from mlprune.log import log
from mlprune.present import influence_table
from mlprune.run import Run

INFLUENCE = "influence.csv"


class BlockInfluence(OnePass[InfluenceSums]):
    """Makes ``validate`` measure the influence of each block in place of pruning: 1 - cosine of its input and output.

    It is the mean over the tokens of a group of demonstrations, such as a language; padding never counts. Prints and
    writes the table of blocks by groups (influence.csv, influence.json) and draws it. Source: Men et al. 2024,
    "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect" (arXiv 2403.03853), Equation 1; the
    published code takes the last block's output after the final norm, here it is the block's own. Cost: a forward pass
    of the prompts without the output head.
    """

    caption = "measuring blocks"

    def __init__(self) -> None:
        super().__init__()
        self.influences: Influences = {}

    def begin(self) -> InfluenceSums:
        """Know the model's blocks."""
        return InfluenceSums(self.run.model)

    def conclude(self, sums: InfluenceSums) -> None:
        """Write and print the means."""
        means = sums.means()
        self.influences = {group: means[group] for group in self.run.groups}
        if self.run.writes:
            self._write(self.run)

    def _write(self, run: Run) -> None:
        write_text(run.folder / INFLUENCE, influence_csv(self.influences))
        content = {"influence": self.influences, "least_influential": least_influential(self.influences)}
        write_json(run.folder / "influence.json", self.facts() | content)
        save_figures(run, {"influence": partial(influence_curves, self.influences)})
        log.info("least influential: %s", ", ".join(least_influential(self.influences)[:4]))
        with run.viewer("console table"):
            print_line("")
            print_tables([influence_table(self.influences, least_influential(self.influences))])

"""Leaving out blocks as a step: influence measured, model written, costs measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from mlprune.analysis.influence import Influences, block_influence, least_influential
from mlprune.comparison import Difference
from mlprune.data.corpora import Bundled
from mlprune.errors import UserError, did_you_mean
from mlprune.models.blocks import find_blocks
from mlprune.models.folder import read_object
from mlprune.models.loading import ModelSource
from mlprune.present import Table, comparison_tables, influence_table
from mlprune.smaller.base import Prompts, Reduction
from mlprune.smaller.blocks import FACTS, check_removable, remove_blocks
from mlprune.smaller.quality import quality_differences
from mlprune.smaller.summary import add_summary, size_table
from mlprune.smaller.texts import texts_for

REPORT, WITHOUT = "blocks.md", "without blocks"


class RemoveBlocks(Reduction):
    """Leaves out the blocks that change least what passes through them.

    Their influence is measured on the run's demonstrations, all in one pass through the whole model; it says little of
    what they are worth together, so look at what the table says they cost. Source: Men et al. 2024, "ShortGPT: Layers
    in Large Language Models are More Redundant Than You Expect" (arXiv 2403.03853), Section 3. Cost: a forward pass of
    the demonstrations, and two evaluations.

    Args:
        count: How many blocks.
        groups: The groups of demonstrations, such as languages, whose mean influence decides; all if omitted.
        limit: At most this many bundled texts, and minimal pairs, a language by which the original and the smaller
            model are compared; with 0 none are.

    Raises:
        UserError: If a number is out of range.

    Example:
        >>> RemoveBlocks(2, ["fr", "sw"]).name
        'fewer-blocks'
    """

    name = "fewer-blocks"
    keeps_tokens = True

    def __init__(self, count: int, groups: list[str] | None = None, limit: int = 24) -> None:
        if count < 1:
            raise UserError(f"RemoveBlocks: count {count} is not allowed; give at least 1")
        if limit < 0:
            raise UserError(f"RemoveBlocks: limit {limit} is not allowed; give 0 or more")
        self.count = count
        self.groups = groups
        self.limit = limit

    @override
    def check(self, source: ModelSource, groups: Sequence[str]) -> None:
        for group in self.groups or []:
            if group not in groups:
                hint = did_you_mean(group, groups) or f"; groups are {', '.join(groups)}"
                raise UserError(f"RemoveBlocks: groups: '{group}' is no group of data.demonstrations{hint}")
        blocks = find_blocks(source.checkpoint.skeleton)
        if self.count >= len(blocks):
            raise UserError(f"RemoveBlocks: count {self.count} is not allowed; the model has {len(blocks)} blocks")
        check_removable(source, [blocks[-1].path])

    @override
    def measure(self, source: ModelSource, prompts: Prompts) -> Influences:
        model = prompts.load(source)
        found = block_influence(model, prompts.batches(model, source.load_tokenizer(), None))
        return {group: found[group] for group in prompts.groups}

    @override
    def reduce(self, source: ModelSource, target: Path, texts: Sequence[str], measured: Influences) -> list[Table]:
        chosen = {group: values for group, values in measured.items() if not self.groups or group in self.groups}
        removed = least_influential(chosen)[: self.count]
        facts = {"count": self.count, "groups": list(chosen), "influence": measured}

        def describe(folder: Path) -> None:
            texts = texts_for(["bundled:parallel"], Bundled("parallel").languages()) if self.limit else {}
            rows = quality_differences(source, folder, texts, self.limit, WITHOUT)
            more = {"differences": [row.to_json() for row in rows]}
            add_summary(folder / FACTS, REPORT, WITHOUT, more, summary_tables)

        remove_blocks(source, target, removed, facts, describe)
        return summary_tables(read_object(target / FACTS))


def summary_tables(content: Mapping[str, Any]) -> list[Table]:
    """Return what leaving out blocks did as tables: sizes, the influence of all blocks, and costs if measured.

    Args:
        content: That of blocks.json.
    """
    influence, groups, removed = content["influence"], content["groups"], content["removed"]
    order = least_influential({group: influence[group] for group in groups})
    costs = [Difference.from_json(row) for row in content["differences"]]
    return [size_table(content, WITHOUT), influence_table(influence, order, removed), *comparison_tables(costs)]

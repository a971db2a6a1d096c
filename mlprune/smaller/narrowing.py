"""Narrowing as a step: heads and units chosen on the run's demonstrations, model written, effects measured."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from typing_extensions import override

from mlprune.comparison import Difference
from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.models.folder import read_object
from mlprune.models.loading import ModelSource
from mlprune.present import Table, comparison_tables
from mlprune.pruning import FLAP, Importance, Pruner
from mlprune.smaller.base import Prompts, Reduction, refuse_pruned
from mlprune.smaller.narrow import FACTS, REPORT, WHAT, write_narrowed
from mlprune.smaller.plan import Narrowing, narrowing
from mlprune.smaller.quality import quality_differences
from mlprune.smaller.summary import add_summary, size_table
from mlprune.smaller.texts import texts_for
from mlprune.smaller.units import Choice, choose

NARROWED = "narrowed"


class Narrow(Reduction):
    """Leaves out heads and feed-forward units, equally many in every layer, by their scores on demonstrations.

    Sources: An et al. 2024 (FLAP, arXiv 2312.11983); Sun et al. 2024 (Wanda), whose scores make the norm of a group.
    Cost: one forward pass of the prompts.

    Args:
        units: Share of every layer's feed-forward units that goes, rounded down.
        heads: Query heads of every layer that go, equally many of each key-value head.
        whole_groups: Let key-value heads go with all their query heads instead.
        importance: How weights are scored, and which groups of demonstrations decide: a head or unit has the norm of
            the scores of the weights that read it. FLAP if omitted.
        compensate: Add the mean output of what goes to the bias of the layer that reads it, where it has one.
        add_biases: Give these layers a bias where the configuration has a switch for it.
        multiple_of: Round the number of units that stay up to a multiple, as some hardware likes it.
        languages: Languages in which the effect is measured, on the bundled texts; all that are bundled if omitted.
        limit: At most this many texts, and minimal pairs, a language that are evaluated; 0 measures no effect.

    Raises:
        UserError: If a number is out of range.

    Example:
        >>> Narrow(units=0.2).name
        'narrowed'
    """

    name = NARROWED
    keeps_tokens = True

    def __init__(
        self,
        units: float = 0.0,
        heads: int = 0,
        whole_groups: bool = False,
        importance: Importance | None = None,
        compensate: bool = True,
        add_biases: bool = False,
        multiple_of: int = 1,
        languages: list[str] | None = None,
        limit: int = 24,
    ) -> None:
        if limit < 0:
            raise UserError(f"Narrow: limit {limit} is not allowed; give 0 or more")
        self.units = units
        self.heads = heads
        self.whole_groups = whole_groups
        self.importance = importance or FLAP()
        self.compensate = compensate
        self.add_biases = add_biases
        self.multiple_of = multiple_of
        self.languages = languages
        self.limit = limit

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        """Texts that the effect is measured on."""
        languages = Bundled("parallel").languages() if self.languages is None else self.languages
        return texts_for(["bundled:parallel"], languages) if self.limit else {}

    def _narrowing(self, source: ModelSource) -> Narrowing:
        widths = {"units": self.units, "heads": self.heads, "whole_groups": self.whole_groups}
        try:
            return narrowing(
                source.checkpoint,
                self.importance,
                self.compensate,
                self.add_biases,
                multiple_of=self.multiple_of,
                **widths,
            )
        except UserError as error:
            raise UserError(f"Narrow: {error}") from error

    @override
    def check(self, source: ModelSource, groups: Sequence[str] = ()) -> None:
        refuse_pruned(source, WHAT)
        _ = self._texts, self._narrowing(source)
        Pruner(self.importance).check_groups(groups, "data.demonstrations has")

    @override
    def inputs(self) -> Any:
        return {"texts": self._texts}

    @override
    def measure(self, source: ModelSource, prompts: Prompts) -> Choice:
        chosen, model = self._narrowing(source), prompts.load(source)
        batches = prompts.batches(model, source.load_tokenizer(), chosen.needs) if chosen.needs is not None else []
        return choose(model, batches, chosen, prompts.groups)

    @override
    def reduce(self, source: ModelSource, target: Path, texts: Sequence[str], measured: Choice) -> list[Table]:
        def describe(folder: Path) -> None:
            rows = quality_differences(source, folder, self._texts, self.limit, NARROWED)
            more = {"differences": [row.to_json() for row in rows]}
            add_summary(folder / FACTS, REPORT, NARROWED, more, summary_tables)

        write_narrowed(source, target, self._narrowing(source), measured, describe)
        return summary_tables(read_object(target / FACTS))


def summary_tables(facts: Mapping[str, Any]) -> list[Table]:
    """Return what narrowing did as tables: sizes, and by language how it changed the model if that was measured.

    Args:
        facts: Content of narrow.json.
    """
    rows = [Difference.from_json(row) for row in facts.get("differences", [])]
    notes = [f"Scores: {facts['importance']}, groups of demonstrations: {', '.join(facts['groups']) or 'all'}."]
    if facts["compensated"]:
        notes.append(f"The bias of {len(facts['compensated'])} layers took over the mean of what was left out.")
    return [size_table(facts, NARROWED, notes), *comparison_tables(rows)]

"""What trimming costs, by language: tokens and bits per character, under either normalizer, and accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.comparison import Difference, TaskRecords
from mlprune.evaluation.encoding import with_start
from mlprune.evaluation.model_kinds import Request
from mlprune.evaluation.results import task_records
from mlprune.evaluation.scoring import score_request
from mlprune.evaluation.tasks import PerplexityTask, Task
from mlprune.languages import language_name
from mlprune.models.loading import ModelSource
from mlprune.present import Table, comparison_tables
from mlprune.present.rows import interval_text
from mlprune.smaller.quality import PERPLEXITY, difference_rows, records_of
from mlprune.smaller.usage import token_ids

SYSTEMS = ("original", "trimmed")
NOT_A_GAIN = (
    "Under the new normalizer bits are fewer only because removed tokens leave the softmax: that is no gain. What the "
    "trimming costs is the difference under the old one, which is zero where every token was kept."
)


@dataclass(frozen=True)
class Costs:
    """What trimming costs.

    Args:
        tokens: Language to the number of tokens a character, before and after.
        renormalized: Language to bits per character after it under the new normalizer.
        differences: Between the original and the trimmed model; likelihoods under the original's normalizer.
    """

    tokens: dict[str, tuple[float, float]]
    renormalized: dict[str, float]
    differences: list[Difference]

    def to_json(self) -> dict[str, Any]:
        """Return what is stored of them."""
        return {
            "tokens_per_character": {
                lang: {"before": before, "after": after} for lang, (before, after) in self.tokens.items()
            },
            "bits_per_character_renormalized": self.renormalized,
            "differences": [row.to_json() for row in self.differences],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Costs":
        """Return what was stored."""
        tokens = {lang: (pair["before"], pair["after"]) for lang, pair in content["tokens_per_character"].items()}
        differences = [Difference.from_json(row) for row in content["differences"]]
        return cls(tokens, content["bits_per_character_renormalized"], differences)

    def tables(self, kept: Sequence[str]) -> list[Table]:
        """Return them as tables.

        Args:
            kept: Languages whose texts chose the tokens.
        """
        bits = {row.language: row for row in self.differences if row.task == PERPLEXITY}
        rows = []
        for lang, (before, after) in self.tokens.items():
            row, renormalized = bits.get(lang), self.renormalized.get(lang)
            measured = ("", "", "", "")
            if row is not None:
                interval = interval_text(row.measure, row.low, row.high, sign=True)
                new = "" if renormalized is None else row.measure.text(renormalized)
                measured = (row.measure.text(row.before), row.measure.text(row.after), interval, new)
            name = language_name(lang) + ("" if lang in kept else " (not chosen)")
            rows.append((name, f"{before:.3f}", f"{after:.3f}", *measured))
        heads = (
            "language",
            "tokens a char",
            "trimmed",
            "bits a char",
            "trimmed",
            "95% CI of difference",
            "renormalized",
        )
        if not bits:
            return [Table("What it costs", heads[:3], [row[:3] for row in rows])]
        others = [row for row in self.differences if row.task != PERPLEXITY]
        return [Table("What it costs", heads, rows, [NOT_A_GAIN]), *comparison_tables(others)]


def token_costs(
    before: PreTrainedTokenizerBase, after: PreTrainedTokenizerBase, texts: Mapping[str, Sequence[str]]
) -> dict[str, tuple[float, float]]:
    """Return language to tokens a character of its texts, before and after.

    Args:
        before: The original's tokenizer.
        after: The trimmed model's.
        texts: Language to texts.
    """
    found = {}
    for lang, listed in texts.items():
        chars = sum(map(len, listed))
        if chars:
            counts = [sum(map(len, token_ids(tokenizer, listed))) for tokenizer in (before, after)]
            found[lang] = (counts[0] / chars, counts[1] / chars)
    return found


def quality_costs(
    original: ModelSource, trimmed: ModelSource, kept: Sequence[int], tasks: Sequence[Task], seed: int = 0
) -> tuple[dict[str, float], list[Difference]]:
    """Evaluate both models, one after the other.

    Args:
        original: The original.
        trimmed: The trimmed model.
        kept: Its tokens' ids in the original's numbers.
        tasks: What to evaluate; of a :class:`PerplexityTask` also under the original's normalizer.
        seed: Seed of the resampling.

    Returns:
        Language to bits per character under the new normalizer, and the differences, likelihoods under the old one.
    """
    new_tokenizer = trimmed.load_tokenizer()
    model, tokenizer = original.load_model(), original.load_tokenizer()
    before = {task.name: records_of(model, tokenizer, task) for task in tasks}
    old_normalizer = {
        task.name: under_old_normalizer(model, new_tokenizer, kept, task)
        for task in tasks
        if isinstance(task, PerplexityTask)
    }
    del model
    model = trimmed.load_model()
    after = {task.name: records_of(model, new_tokenizer, task) for task in tasks}
    renormalized: dict[str, float] = {}
    differences: list[Difference] = []
    for task in tasks:
        compared = old_normalizer.get(task.name, after[task.name])
        differences += difference_rows(before[task.name], compared, SYSTEMS, seed)
        if task.name in old_normalizer:
            new = difference_rows(before[task.name], after[task.name], SYSTEMS, seed)
            renormalized |= {row.language: row.after for row in new if row.after is not None}
    return renormalized, differences


@torch.no_grad()
def under_old_normalizer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kept: Sequence[int], task: PerplexityTask
) -> TaskRecords:
    """Return what a trimmed model gives under the normalizer of the model with all tokens.

    Args:
        model: The model with all tokens, whose logits the trimmed one has.
        tokenizer: The trimmed one's.
        kept: The trimmed one's tokens, in the ids of the other.
        task: What is evaluated.
    """
    records = {}
    for lang in task.languages:
        examples = task.examples(lang)
        ids, given, _ = with_start(tokenizer, [example.text for example in examples])
        old = [[[kept[index] for index in text] for text in texts] for texts in ids]
        scores = score_request(model, Request(old, given), task.scoring)[:, 0].double().tolist()
        records[lang] = [
            {"id": example.id, "log_prob": score, "chars": len(example.text), "aligned": False}
            for example, score in zip(examples, scores, strict=True)
        ]
    return task_records(task, records)

"""Answers that a model's dtype may have decided, scored again in float32.

In bfloat16 a model's hidden states are rounded in every block, which moves scores by more than the margin of some
answers. A change of such an answer, by pruning say, is noise. How large the noise is, is measured on a few rows; every
row whose margin it could turn is scored again by the same weights in float32, whether or not its answer changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.batching import token_batches
from mlprune.distributed import gather_objects, rank, world_size
from mlprune.errors import UserError, reason_of
from mlprune.evaluation.tasks import Task
from mlprune.log import log
from mlprune.metrics import Record
from mlprune.models.widening import narrow_tensors, room_for, widened

PROBES = 32  # rows of a task whose margins are measured in both dtypes
DEVIATIONS = 4.0  # a margin beyond so many standard deviations of its noise is not turned by it
Place = tuple[str, int]  # language, position of the record
Records = dict[str, list[Record]]  # by language


class NotRechecked(Exception):
    """The model cannot be computed in float32; what was evaluated stands as it is."""


@dataclass(frozen=True)
class Rechecker:
    """Scores rows of a task again.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        task: The task.
        examples: Language to examples.
        max_chars: Character budget of a batch.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    task: Task
    examples: Mapping[str, Sequence[Any]]
    max_chars: int

    def recheck(self, records: Records) -> dict[str, dict[str, Any]]:
        """Replace the records of rows within the noise, and return what was found by language: rows, flipped, noise.

        Every process has all records and calls this; rows are dealt, and what is found is shared.

        Args:
            records: Language to records of all processes; replaced in place, with ``rechecked``.
        """
        margins = {(lang, i): margin_of(row) for lang, rows in records.items() for i, row in enumerate(rows)}
        places = [place for place, margin in margins.items() if margin is not None]
        if not places:
            return {}
        probes = [places[i] for i in np.linspace(0, len(places) - 1, min(PROBES, len(places))).round().astype(int)]
        found = self._scored_again(probes, records)
        noise = noise_of([(records[lang][i], found[lang, i]) for lang, i in probes])
        near = [place for place in places if (margins[place] or 0.0) <= noise]
        found |= self._scored_again([place for place in near if place not in found], records)
        told = {lang: {"rows": 0, "flipped": 0, "noise": noise} for lang in records}
        for lang, i in near:
            before, after = records[lang][i], found[lang, i]
            told[lang]["rows"] += 1
            told[lang]["flipped"] += before.get("prediction") != after.get("prediction")
            records[lang][i] = after | {"rechecked": True}
        return told

    def _scored_again(self, places: Sequence[Place], records: Records) -> dict[Place, Record]:
        """The records of rows by the model as it is now, dealt over processes."""
        by_id = {lang: {example.id: example for example in examples} for lang, examples in self.examples.items()}
        found: dict[Place, Record] = {}
        failed: str | None = None
        for lang in dict.fromkeys(lang for lang, _ in places):
            chosen = [place for place in places if place[0] == lang]
            examples = [by_id[lang][records[lang][i]["id"]] for _, i in chosen]
            batches = token_batches([self.task.length(example) for example in examples], self.max_chars)
            try:
                for batch in batches[rank() :: world_size()]:
                    rows = self.task.predict(self.model, self.tokenizer, lang, [examples[i] for i in batch])
                    found |= {chosen[i]: row for i, row in zip(batch, rows, strict=True)}
            except (RuntimeError, ValueError, UserError) as error:  # kernels for narrow dtypes only, or no memory
                failed = failed or reason_of(error)
        parts = gather_objects((found, failed))
        if reason := next((reason for _, reason in parts if reason), None):
            raise NotRechecked(reason)
        return {place: row for part, _ in parts for place, row in part.items()}


def margin_of(record: Record) -> float | None:
    """Return by how much the best candidate's score leads; None without two scores.

    Example:
        >>> margin_of({"scores": [-1.0, -3.0, -1.5]}), margin_of({"output": "yes"})
        (0.5, None)
    """
    scores = sorted(score for score in record.get("scores") or () if score is not None and score == score)
    return scores[-1] - scores[-2] if len(scores) > 1 else None


def noise_of(pairs: Sequence[tuple[Record, Record]]) -> float:
    """Return the margin that noise hardly turns: four standard deviations of how far it moves the margins of some rows.

    Args:
        pairs: Records of a row in the model's dtype and in float32.

    Example:
        >>> noise_of([({"scores": [0.0, 1.0]}, {"scores": [0.0, 1.5]}), ({"scores": [2.0, 1.0]}, {"scores": [1.5, 1]})])
        2.0
    """
    moved = []
    for before, after in pairs:
        first, second = np.argsort(before["scores"])[::-1][:2]
        moved.append(np.subtract(*(after["scores"][i] for i in (first, second))) - (margin_of(before) or 0.0))
    return DEVIATIONS * float(np.sqrt(np.mean(np.square(moved))))


def recheck_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Mapping[str, Task],
    examples: Mapping[str, Mapping[str, Sequence[Any]]],
    records: dict[tuple[str, str], list[Record]],
    max_chars: int,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Score again in float32 what a bfloat16 or float16 model's dtype may have decided; every process calls this.

    Args:
        model: The model, whose dtype is as before afterwards.
        tokenizer: Its tokenizer.
        tasks: Name to task.
        examples: Task to language to examples.
        records: (Task, language) to records of all processes; those within the noise are replaced.
        max_chars: Character budget of a batch.

    Returns:
        Task to language to ``rows`` (how many were scored again), ``flipped`` (of how many the answer changed) and
        ``noise`` (the margin up to which they were). Empty for other dtypes, and where the model cannot be computed in
        float32, which is a warning.
    """
    judged = [task for (task, _), rows in records.items() if any(margin_of(record) is not None for record in rows)]
    if not judged or not narrow_tensors(model):
        return {}
    found = {}
    try:
        if not all(gather_objects(room_for(model))):
            raise NotRechecked("there is no memory for the model in float32")
        with widened(model):
            for name in dict.fromkeys(judged):
                languages = {lang: rows for (task, lang), rows in records.items() if task == name}
                found[name] = Rechecker(model, tokenizer, tasks[name], examples[name], max_chars).recheck(languages)
                _say(name, found[name].values())
    except NotRechecked as error:
        log.warning("warning: answers within the noise of the model's dtype are not scored again: %s", error)
    return found


def _say(task: str, told: Iterable[Mapping[str, Any]]) -> None:
    rows, flipped = (sum(counts[key] for counts in told) for key in ("rows", "flipped"))
    if rows:
        log.info(
            "%s: %d answers within the noise of the dtype scored again in float32, %d changed", task, rows, flipped
        )

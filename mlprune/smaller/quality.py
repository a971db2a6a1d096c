"""How good a model is before and after it was made smaller, by language: likelihood of texts, minimal pairs."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.comparison import Difference, TaskRecords, differences_of
from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation.results import task_records
from mlprune.evaluation.tasks import MinimalPairs, PerplexityTask, Task
from mlprune.metrics.measure import AVERAGE, AVERAGE_ALL
from mlprune.models.loading import ModelSource
from mlprune.smaller.texts import Texts

PERPLEXITY = "perplexity"
MAX_CHARS = 1000  # of a text that is evaluated


def sample_texts(texts: Sequence[str], limit: int, seed: int = 0) -> list[str]:
    """Return some of the texts, each once and not too long.

    Example:
        >>> sample_texts(["a", "b", "a"], 9)
        ['b', 'a']
    """
    distinct = list(dict.fromkeys(text[:MAX_CHARS] for text in texts))
    return random.Random(seed).sample(distinct, min(limit, len(distinct)))


def quality_tasks(texts: Mapping[str, Sequence[str]], limit: int) -> list[Task]:
    """Return the tasks: likelihood of the texts, and minimal pairs in those languages of which there are some.

    Args:
        texts: Language to texts.
        limit: At most this many minimal pairs a language.
    """
    tasks: list[Task] = [PerplexityTask(list(texts), PERPLEXITY, Texts(texts), aligned=False)]
    if paired := [lang for lang in texts if _has_pairs(lang)]:
        tasks.append(MinimalPairs(paired, by=None, limit=limit))
    return tasks


def _has_pairs(lang: str) -> bool:
    try:
        Bundled("pairs").check(lang)
    except UserError:
        return False
    return True


@torch.no_grad()
def records_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task) -> TaskRecords:
    """Return the records of a model on a task's examples."""
    return task_records(
        task, {lang: task.predict(model, tokenizer, lang, task.examples(lang)) for lang in task.languages}
    )


def difference_rows(before: TaskRecords, after: TaskRecords, systems: tuple[str, str], seed: int) -> list[Difference]:
    """Return the differences of two models by language; no averages, since languages chosen and not are no group.

    Args:
        before: Records of the first.
        after: Records of the second.
        systems: What the two are called.
        seed: Seed of the resampling.
    """
    rows = differences_of(before, after, systems, seed)
    return [row for row in rows if row.language not in (AVERAGE, AVERAGE_ALL)]


def quality_differences(
    original: ModelSource, folder: Path, texts: Mapping[str, Sequence[str]], limit: int, name: str, seed: int = 0
) -> list[Difference]:
    """Evaluate two models of the same vocabulary, one after the other, and return how they differ by language.

    Args:
        original: The original.
        folder: The smaller model.
        texts: Language to texts.
        limit: At most this many texts, and as many minimal pairs, a language.
        name: What the smaller model is called.
        seed: Seed of the choice of texts and of the resampling.

    Returns:
        No rows for an encoder-decoder model, which gives plain text no likelihood, or without texts.
    """
    if not texts or original.has_encoder():
        return []
    tasks = quality_tasks({lang: sample_texts(listed, limit, seed) for lang, listed in texts.items()}, limit)
    sources = original, replace(original, name=str(folder), revision=None)
    before, after = (_all_records(source, tasks) for source in sources)
    pairs = zip(before, after, strict=True)
    return [row for pair in pairs for row in difference_rows(*pair, ("original", name), seed)]


def _all_records(source: ModelSource, tasks: Sequence[Task]) -> list[TaskRecords]:
    model, tokenizer = source.load_model(), source.load_tokenizer()
    return [records_of(model, tokenizer, task) for task in tasks]

"""What trimming did and what it costs, measured and written beside the trimmed model."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation.tasks import MinimalPairs, PerplexityTask, Task
from mlprune.files import write_json, write_text
from mlprune.languages import language_name
from mlprune.models.folder import read_object
from mlprune.models.loading import ModelSource
from mlprune.present import Table, to_markdown
from mlprune.smaller.costs import PERPLEXITY, Costs, quality_costs, token_costs
from mlprune.smaller.texts import Texts
from mlprune.smaller.trim import FACTS, Trimmed

REPORT = "trim.md"
MAX_CHARS = 1000  # of a text that is evaluated


def measure_costs(
    original: ModelSource,
    trimmed: Trimmed,
    texts: Mapping[str, Sequence[str]],
    limit: int = 48,
    quality: bool = True,
    seed: int = 0,
) -> Costs:
    """Measure what trimming costs in some languages.

    Args:
        original: The original.
        trimmed: The trimmed model.
        texts: Language to texts.
        limit: At most this many texts, and as many minimal pairs, a language.
        quality: Evaluate both models; else only tokens are counted, and no model is loaded.
        seed: Seed of the choice of texts and of the resampling.
    """
    sample = {lang: _sample(own, limit, seed) for lang, own in texts.items()}
    small = replace(original, name=str(trimmed.folder), revision=None)
    tokens = token_costs(original.load_tokenizer(), small.load_tokenizer(), sample)
    if not quality or original.has_encoder():  # an encoder-decoder model gives plain text no likelihood
        return Costs(tokens, {}, [])
    return Costs(tokens, *quality_costs(original, small, trimmed.kept, _tasks(sample, limit), seed))


def _sample(texts: Sequence[str], limit: int, seed: int) -> list[str]:
    distinct = list(dict.fromkeys(text[:MAX_CHARS] for text in texts))
    return random.Random(seed).sample(distinct, min(limit, len(distinct)))


def _tasks(texts: Mapping[str, Sequence[str]], limit: int) -> list[Task]:
    """Likelihood of the texts, and minimal pairs in those languages of which there are some."""
    corpus = Texts(texts)
    tasks: list[Task] = [PerplexityTask(list(texts), PERPLEXITY, corpus, aligned=False)]
    if paired := [lang for lang in texts if _has_pairs(lang)]:
        tasks.append(MinimalPairs(paired, by=None, limit=limit))
    return tasks


def _has_pairs(lang: str) -> bool:
    try:
        Bundled("pairs").check(lang)
    except UserError:
        return False
    return True


def tables(trimmed: Trimmed, costs: Costs | None) -> list[Table]:
    """Return what trimming did as tables: sizes, texts, how far they cover held-out ones, and costs."""
    found = [_size_table(trimmed), _coverage_table(trimmed)]
    return found if costs is None else [*found, *costs.tables(list(trimmed.usage))]


def _size_table(trimmed: Trimmed) -> Table:
    sizes: dict[str, tuple[float, float, str]] = {
        "tokens": (trimmed.num_tokens, len(trimmed.kept), ",.0f"),
        "parameters": (*trimmed.num_parameters, ",.0f"),
        "MB": (trimmed.num_bytes[0] / 1e6, trimmed.num_bytes[1] / 1e6, ",.1f"),
    }
    rows = [
        (name, f"{before:{form}}", f"{after:{form}}", f"{after / before:.1%}")
        for name, (before, after, form) in sizes.items()
    ]
    return Table("Size", ("", "original", "trimmed", "left"), rows)


def _coverage_table(trimmed: Trimmed) -> Table:
    usage = {name: own for name, own in trimmed.usage.items() if own.num_texts}
    rows = [
        (f"1/{1 / point.share:.0f}", f"{point.num_tokens:,}", *(_percent(point.coverage[name]) for name in usage))
        for point in trimmed.curve
    ]
    counts = ", ".join(
        f"{language_name(name)} {own.num_texts:,} ({own.num_chars:,} characters)" for name, own in usage.items()
    )
    notes = [
        f"Texts: {counts}.",
        "Each row: the tokens that this part of one half of the texts uses, and the share of the other half's tokens "
        "that are among them. Where a doubling of the text adds little, there is enough of it.",
    ]
    return Table("How far texts cover others", ("texts", "tokens", *map(language_name, usage)), rows, notes)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}%"


def write_report(trimmed: Trimmed, costs: Costs) -> None:
    """Write trim.md beside the trimmed model, and the costs into trim.json.

    Raises:
        UserError: If a file cannot be written.
    """
    facts: dict[str, Any] = read_object(trimmed.folder / FACTS)
    write_json(trimmed.folder / FACTS, {**facts, "costs": costs.to_json()})
    text = "\n\n".join(to_markdown(table) for table in tables(trimmed, costs))
    write_text(Path(trimmed.folder) / REPORT, f"# {facts['base_model']}, trimmed\n\n{text}\n")

"""What trimming did and what it costs, measured and written beside the trimmed model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlprune.languages import language_name
from mlprune.models.loading import ModelSource
from mlprune.present import Table
from mlprune.smaller.costs import Costs, quality_costs, token_costs
from mlprune.smaller.quality import quality_tasks, sample_texts
from mlprune.smaller.summary import add_summary, size_table
from mlprune.smaller.trim import FACTS, kept_ids

REPORT = "trim.md"
COUNTED_TEXTS = 200  # a language, of which tokens are counted


def measure_costs(
    original: ModelSource, trimmed: Path, texts: Mapping[str, Sequence[str]], limit: int = 24, seed: int = 0
) -> Costs:
    """Measure what trimming costs in some languages.

    Args:
        original: The original.
        trimmed: Folder of the trimmed model.
        texts: Language to texts.
        limit: At most this many texts, and as many minimal pairs, a language are evaluated; with 0 only tokens are
            counted, and no model is loaded.
        seed: Seed of the choice of texts and of the resampling.
    """
    small = replace(original, name=str(trimmed), revision=None)
    counted = {lang: sample_texts(listed, COUNTED_TEXTS, seed) for lang, listed in texts.items()}
    tokens = token_costs(original.load_tokenizer(), small.load_tokenizer(), counted)
    if not limit or original.has_encoder():  # an encoder-decoder model gives plain text no likelihood
        return Costs(tokens, {}, [])
    tasks = quality_tasks({lang: listed[:limit] for lang, listed in counted.items()}, limit)
    return Costs(tokens, *quality_costs(original, small, kept_ids(trimmed), tasks, seed))


def write_report(folder: Path, costs: Costs) -> None:
    """Write trim.md beside a trimmed model, and the costs into trim.json.

    Args:
        folder: The trimmed model.
        costs: What it costs.

    Raises:
        UserError: If a file cannot be written.
    """
    add_summary(folder / FACTS, REPORT, "trimmed", {"costs": costs.to_json()}, summary_tables)


def summary_tables(facts: Mapping[str, Any]) -> list[Table]:
    """Return what trimming did as tables: sizes, how far the texts cover held-out ones, and costs if measured.

    Args:
        facts: Content of trim.json.
    """
    costs = Costs.from_json(facts["costs"]) if "costs" in facts else None
    found = [size_table(facts, "trimmed"), _coverage_table(facts)]
    return found if costs is None else [*found, *costs.tables(list(facts["texts"]))]


def _coverage_table(facts: Mapping[str, Any]) -> Table:
    texts = {name: counted for name, counted in facts["texts"].items() if counted["texts"]}
    rows = [
        (
            f"1/{1 / point['share']:.0f}",
            f"{point['num_tokens']:,}",
            *(_percent(point["coverage"][name]) for name in texts),
        )
        for point in facts["coverage"]
    ]
    counts = ", ".join(
        f"{language_name(name)} {counted['texts']:,} ({counted['characters']:,} characters)"
        for name, counted in texts.items()
    )
    notes = [
        f"Texts: {counts}." + (f" Corpora: {', '.join(facts['corpora'])}." if facts.get("corpora") else ""),
        "Each row: the tokens that this part of one half of the texts uses, and the share of the other half's tokens "
        "that are among them. Where a doubling of the text adds little, there is enough of it.",
    ]
    return Table("How far texts cover others", ("texts", "tokens", *map(language_name, texts)), rows, notes)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}%"

"""The model cards of models that were made smaller."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlprune.files import write_text
from mlprune.languages import language_name
from mlprune.models.card import CARD, Facts, card_header, escaped

TEMPLATE = """---
{header}---

# {base_model}, {what}

{done}

Base model: {base_model}. {notice}
"""
TRIMMED = """Trimmed by mlprune to the tokens that texts in {languages} need; the details are in `trim.json`.
Texts of these tokens are split as before and the logits of kept tokens are unchanged; other texts are split into
smaller pieces. Likelihoods are higher than the original's only because removed tokens leave the softmax."""
SHALLOWER = """Made smaller by mlprune, which left out {removed}; the details are in `blocks.json`.
Its logits are those of the original with these blocks skipped: it answers worse, most of all where nothing was
measured. It was not trained after that."""

NARROWED = """Narrowed by mlprune ({widths}); the details are in `narrow.json`.
It is not better than its base model in any language or task unless results with an interval say so."""


def trimmed_card(folder: Path, base: Facts, known: int, kept: int, languages: Sequence[str]) -> None:
    """Write the model card of a trimmed model.

    Args:
        folder: The trimmed model.
        base: What is known of its base.
        known: How many tokens that knows.
        kept: How many are kept.
        languages: Languages of the texts that chose them, and what else texts are.

    Raises:
        UserError: If it cannot be written.
    """
    named = [escaped(language_name(code)) for code in languages]
    done = TRIMMED.format(languages=" and ".join(filter(None, [", ".join(named[:-1]), named[-1]])))
    _write(folder, base, f"with {kept:,} of {known:,} tokens", done)


def shallower_card(folder: Path, base: Facts, removed: Sequence[str], num_blocks: int) -> None:
    """Write the model card of a model without some of its blocks.

    Args:
        folder: The smaller model.
        base: What is known of its base.
        removed: Paths of the blocks that are left out.
        num_blocks: How many the base has.

    Raises:
        UserError: If it cannot be written.
    """
    done = SHALLOWER.format(removed=", ".join(f"`{escaped(path)}`" for path in removed))
    _write(folder, base, f"with {num_blocks - len(removed)} of {num_blocks} blocks", done)


def narrowed_card(folder: Path, base: Facts, widths: Mapping[str, tuple[int, int]]) -> None:
    """Write the model card of a narrowed model.

    Args:
        folder: The narrowed model.
        base: What is known of its base.
        widths: Field of the configuration to its value, before and after.

    Raises:
        UserError: If it cannot be written.
    """
    changed = [f"{name} {after} of {before}" for name, (before, after) in widths.items() if before != after]
    _write(folder, base, "with fewer heads or units", NARROWED.format(widths=", ".join(changed)))


def _write(folder: Path, base: Facts, what: str, done: str) -> None:
    facts = {name: escaped(text) for name, text in base.base.items()}
    text = TEMPLATE.format(
        header=card_header(base, ("mlprune",)),
        base_model=facts["base_model"],
        notice=facts["notice"],
        what=what,
        done=done,
    )
    write_text(folder / CARD, text)

"""The model cards of models that were made smaller."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlprune.files import write_text
from mlprune.languages import language_name
from mlprune.models.card import CARD, Facts, card_header, escaped

TEMPLATE = """---
{header}---

# {base_model}, with {kept:,} of {known:,} tokens

Trimmed by mlprune to the tokens that texts in {languages} need; the details are in `trim.json`.
Texts of these tokens are split as before and the logits of kept tokens are unchanged; other texts are split into
smaller pieces. Likelihoods are higher than the original's only because removed tokens leave the softmax.

Base model: {base_model}. {notice}
"""

NARROWED = """---
{header}---

# {base_model}, with fewer heads or units

Narrowed by mlprune ({widths}); the details are in `narrow.json`.
It is not better than its base model in any language or task unless results with an interval say so.

Base model: {base_model}. {notice}
"""


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
    facts = {name: escaped(text) for name, text in base.base.items()}
    named = [escaped(language_name(code)) for code in languages]
    text = TEMPLATE.format(
        header=card_header(base, ("mlprune",)),
        base_model=facts["base_model"],
        notice=facts["notice"],
        kept=kept,
        known=known,
        languages=" and ".join(filter(None, [", ".join(named[:-1]), named[-1]])),
    )
    write_text(folder / CARD, text)


def narrowed_card(folder: Path, base: Facts, widths: Mapping[str, tuple[int, int]]) -> None:
    """Write the model card of a narrowed model.

    Args:
        folder: The narrowed model.
        base: What is known of its base.
        widths: Field of the configuration to its value, before and after.

    Raises:
        UserError: If it cannot be written.
    """
    facts = {name: escaped(text) for name, text in base.base.items()}
    changed = [f"{name} {after} of {before}" for name, (before, after) in widths.items() if before != after]
    text = NARROWED.format(
        header=card_header(base, ("mlprune",)),
        base_model=facts["base_model"],
        notice=facts["notice"],
        widths=", ".join(changed),
    )
    write_text(folder / CARD, text)

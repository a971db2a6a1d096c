"""Saving a pruned model as an ordinary Hugging Face checkpoint that needs nothing of ours to load."""

import html
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.files import whole_folder, write_json, write_text

CARD = """---
license: {license}
base_model: {base_model}
tags: [pruned, mlprune]
---

# {base_model}, {percent:.1f}% of the prunable weights set to zero

Pruned without training by mlprune with {importance}; the recipe is in `mlprune.json`.
The zeros are stored like any other weight: the file is no smaller and the model no faster by itself.

Base model: {base_model}. {notice}
"""


def save_checkpoint(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    recipe: dict[str, Any],
    card: dict[str, str],
) -> None:
    """Write safetensors, tokenizer, generation config, model card and ``mlprune.json``; all or nothing.

    Args:
        model: The pruned model.
        tokenizer: Its tokenizer.
        folder: Target; it appears only when complete.
        recipe: What goes into ``mlprune.json``; ``importance`` and ``sparsity`` also go into the card.
        card: ``base_model``, ``license`` and ``notice``.

    Raises:
        UserError: If the folder exists, cannot be written, or the disk has too little room.
    """
    check_disk(folder.parent, sum(parameter.nbytes for parameter in model.parameters()))
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_card(partial, recipe, card)


def write_card(folder: Path, recipe: dict[str, Any], card: dict[str, str]) -> None:
    """Write the model card, the base model's notice and ``mlprune.json`` into a checkpoint.

    Args:
        folder: The checkpoint.
        recipe: As for :func:`save_checkpoint`.
        card: As for :func:`save_checkpoint`.
    """
    text = CARD.format(
        base_model=_escaped(card["base_model"]),
        license=_escaped(card["license"]) or "other",
        notice=_escaped(card["notice"]),
        percent=100 * recipe["sparsity"],
        importance=_escaped(recipe["importance"]),
    )
    write_text(folder / "README.md", text)
    if card["notice"]:
        write_text(folder / "NOTICE", card["notice"] + "\n")
    write_json(folder / "mlprune.json", recipe)


def _escaped(text: str) -> str:
    """One line without markup, so that a name can add neither a line to the card's header nor HTML to its page."""
    return html.escape(" ".join(text.split()), quote=False)


def check_disk(folder: str | Path, num_bytes: int) -> None:
    """Raise UserError if a folder's disk has less room than will be written.

    Args:
        folder: The folder, which may have to be made yet.
        num_bytes: Size of what will be written.
    """
    existing = next(path for path in (Path(folder).resolve(), *Path(folder).resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes * 1.05:
        need, have = num_bytes / 2**30, free / 2**30
        raise UserError(
            f"'{folder}': {have:.1f} GiB free, {need:.1f} GiB needed for the model; set pruning.save_model: false"
        )

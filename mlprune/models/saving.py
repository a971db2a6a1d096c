"""Saving a pruned model as an ordinary Hugging Face checkpoint that loads without this package."""

import html
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.files import whole_folder, write_text
from mlprune.text import visible

RECIPE = "mlprune.json"  # which says of a checkpoint that it is pruned, and how
CARD = "README.md"
TEMPLATE = """---
{header}---

# {base_model}, {percent:.1f}% of the prunable weights set to zero

Pruned by mlprune with {importance}, {training}; the recipe is in `mlprune.json`.
The zeros are stored like any other weight: the file is no smaller and the model no faster by itself.

Base model: {base_model}. {notice}
"""


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, describe: Callable[[Path], None]
) -> None:
    """Write safetensors, tokenizer, generation config, and what describes them; all or nothing.

    Args:
        model: The pruned model.
        tokenizer: Its tokenizer.
        folder: Target; it appears only when complete.
        describe: Writes ``mlprune.json`` and the model card into the folder, before that has its name.

    Raises:
        UserError: If the folder exists, cannot be written, or the disk has too little room.
    """
    check_disk(folder.parent, sum(parameter.nbytes for parameter in model.parameters()))
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        describe(partial)


def write_card(folder: Path, recipe: dict[str, Any], card: dict[str, str]) -> None:
    """Write the model card and the base model's notice into a checkpoint.

    Args:
        folder: The checkpoint.
        recipe: What ``mlprune.json`` says, of which ``importance``, ``sparsity`` and ``trained`` go into the card.
        card: ``base_model``, ``license`` and ``notice``.

    Raises:
        UserError: If a file cannot be written.
    """
    facts = {name: escaped(text) for name, text in card.items()}
    header = {"license": facts["license"] or "other", "base_model": facts["base_model"], "tags": ["pruned", "mlprune"]}
    text = TEMPLATE.format(
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=None),
        base_model=facts["base_model"],
        notice=facts["notice"],
        percent=100 * recipe["sparsity"],
        importance=escaped(recipe["importance"]),
        training="then trained with the zeros held" if recipe.get("trained") else "without training",
    )
    write_text(folder / CARD, text)
    if card["notice"]:
        write_text(folder / "NOTICE", "".join(f"{visible(line)}\n" for line in card["notice"].splitlines()))


def escaped(text: str) -> str:
    """Return one line without markup, so that a name can add neither a line to a card's header nor HTML to its page.

    Example:
        >>> escaped("a<b>\\n# title")
        'a&lt;b&gt; # title'
    """
    return visible(html.escape(" ".join(text.split()), quote=False))


def check_disk(folder: str | Path, num_bytes: int, remedy: str = "set pruning.save_model: false") -> None:
    """Raise UserError if a folder's disk has less room than will be written.

    Args:
        folder: The folder, which may have to be made yet.
        num_bytes: Size of what will be written.
        remedy: What the user can do.
    """
    existing = next(path for path in (Path(folder).resolve(), *Path(folder).resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes * 1.05:
        need, have = num_bytes / 2**30, free / 2**30
        raise UserError(f"'{folder}': {have:.1f} GiB free, {need:.1f} GiB needed for the model; {remedy}")

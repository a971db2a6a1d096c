"""Saving a pruned model as an ordinary Hugging Face checkpoint that loads without this package."""

import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import CannotWrite
from mlprune.files import whole_folder

RECIPE = "mlprune.json"  # which says of a checkpoint that it is pruned, and how


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
        raise CannotWrite(f"'{folder}': {have:.1f} GiB free, {need:.1f} GiB needed for the model; {remedy}")

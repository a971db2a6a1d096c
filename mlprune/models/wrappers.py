"""Prefixes that torch.compile, DDP, FSDP, PEFT and Lightning leave in the names of a model that they wrapped."""

import re
from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.log import log
from mlprune.models.integrity import shown

PREFIXES = (
    "_orig_mod.",
    "module.",
    "base_model.model.",
    "_forward_module.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)
LEADING = re.compile("(?:" + "|".join(map(re.escape, PREFIXES)) + ")+")
INNER = re.compile(r"(?<=\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # around single blocks


def unwrapped(names: Iterable[str], model: PreTrainedModel, folder: str | Path) -> dict[str, str]:
    """Return each tensor's name without the prefixes of wrappers, and say in one line which were removed.

    Args:
        names: Names in the checkpoint.
        model: The model; if its own names look like wrapped ones, nothing is removed.
        folder: The checkpoint, as it is named to the user.

    Raises:
        UserError: If two tensors get the same name.
    """
    if any(LEADING.match(name) or INNER.search(name) for name in model.state_dict()):
        return {name: name for name in names}
    short = {name: INNER.sub("", LEADING.sub("", name, count=1) if LEADING.match(name) else name) for name in names}
    owners: dict[str, str] = {}
    for name, new in short.items():
        if new in owners:
            raise UserError(f"'{folder}' has two tensors of one name: {shown(owners[new])} and {shown(name)}")
        owners[new] = name
    removed = sorted({_prefix(name) for name, new in short.items() if new != name})
    if removed:
        log.info("'%s': removed from the names of its tensors: %s", folder, ", ".join(removed))
    return short


def _prefix(name: str) -> str:
    found = LEADING.match(name) or INNER.search(name)
    assert found is not None
    return found.group()

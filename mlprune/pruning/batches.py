"""What calibration batches are: said by one line where something else was given."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mlprune.errors import UserError

GIVE = (
    "give dicts of input_ids and attention_mask, int64 (B, T), as tokenizer(texts, padding=True, return_tensors='pt')"
)
IDS = ("input_ids", "decoder_input_ids")


def listed(batches: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return calibration batches as a list.

    Raises:
        UserError: If they are something else, such as texts or tensors.

    Example:
        >>> len(listed([{"input_ids": torch.tensor([[3, 1, 4]])}]))
        1
        >>> listed(["Il pleut."])
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: batches: number 1 is a str; give dicts of input_ids and ...
    """
    if isinstance(batches, str | bytes | Mapping | Tensor) or not isinstance(batches, Iterable):
        name = "dict" if isinstance(batches, Mapping) else type(batches).__name__
        raise UserError(f"batches is one {name}; give a list: {GIVE}")
    found = list(batches)
    for number, batch in enumerate(found, start=1):
        if fault := _fault(batch):
            raise UserError(f"batches: number {number} {fault}; {GIVE}")
    return found


def _fault(batch: Any) -> str | None:
    """What is wrong with a batch."""
    if not isinstance(batch, Mapping):
        return f"is a {type(batch).__name__}"
    if "input_ids" not in batch:
        return f"has no input_ids, only {', '.join(map(str, batch)) or 'nothing'}"
    for name in IDS:
        ids, mask = batch.get(name), batch.get(name.replace("input_ids", "attention_mask"))
        if ids is None and name != "input_ids":
            continue
        if not isinstance(ids, Tensor):
            return f"has {name} of type {type(ids).__name__}"
        if ids.dim() != 2 or ids.dtype not in (torch.int64, torch.int32) or not ids.numel():
            return f"has {name} {str(ids.dtype).removeprefix('torch.')} {tuple(ids.shape)}"
        if mask is not None and (not isinstance(mask, Tensor) or mask.shape != ids.shape):
            shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            return f"has an attention mask {shape} for {name} {tuple(ids.shape)}"
    return None

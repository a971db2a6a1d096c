"""How far pruning moves each block's output, measured while calibration runs anyway."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlprune.distributed import gather_objects


def relative_error(dense: Tensor, pruned: Tensor, mask: Tensor | None = None) -> float:
    """Return ``||pruned - dense|| / ||dense||`` over the tokens that count.

    Args:
        dense: (B, T, hidden_size), the block's output before pruning.
        pruned: The same after pruning, from the same inputs.
        mask: bool (B, T), True where a token counts; all if omitted.

    Example:
        >>> relative_error(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[3.0, 3.5]]]))
        0.1
    """
    dense, pruned = dense.float(), pruned.float()
    if mask is not None:
        dense, pruned = dense[mask], pruned[mask]
    return round(float((pruned - dense).norm() / dense.norm().clamp_min(torch.finfo(torch.float32).tiny)), 7)


class OutputErrors:
    """Compares each block's output before and after its pruning, on the first batch of each group.

    With ``propagate="pruned"`` this costs nothing but the end of a block: the pruned output is the one that the next
    block's calibration needs. With ``"dense"``, and for the last block, those batches run once more.

    Args:
        batches: The calibration's batches, for their groups and masks.

    ``errors`` keeps (block, group) to relative error.
    """

    def __init__(self, batches: Sequence[Mapping[str, Any]]) -> None:
        self.first: dict[int, str] = {}
        for index, batch in enumerate(batches):
            if batch.get("group", "default") not in self.first.values():
                self.first[index] = batch.get("group", "default")
        self._masks = {index: _padding(batches[index]) for index in self.first}
        self._waiting: dict[int, tuple[Tensor, Callable[[], Tensor]]] = {}
        self.errors: dict[tuple[int, str], float] = {}

    def watches(self, index: int) -> bool:
        """Return whether a batch is one of those that are compared."""
        return index in self.first

    def before(self, index: int, output: Tensor, run_again: Callable[[], Tensor]) -> None:
        """Take the dense output of the block that a batch stands before, and what runs the block on it again."""
        if self.watches(index):
            self._waiting[index] = (output, run_again)

    def after(self, block: int, index: int, output: Tensor) -> None:
        """Compare the pruned output of a block with its dense one, if that was seen."""
        if index not in self._waiting:
            return
        dense, _ = self._waiting.pop(index)
        mask = self._masks[index]
        if mask is not None:
            mask = mask.to(dense.device) if mask.shape == dense.shape[:2] else None
        self.errors[block, self.first[index]] = relative_error(dense, output, mask)

    def run_waiting(self, block: int) -> None:
        """Run the block again on the batches whose pruned output is not computed otherwise."""
        for index, (_, run_again) in list(self._waiting.items()):
            self.after(block, index, run_again())

    def reduce(self) -> None:
        """Take over the errors of groups whose batches other processes had; a collective."""
        parts = gather_objects(self.errors)
        self.errors = {key: error for part in reversed(parts) for key, error in part.items()}


def _padding(batch: Mapping[str, Any]) -> Tensor | None:
    mask = batch.get("decoder_attention_mask", batch.get("attention_mask"))
    return None if mask is None or bool(mask.all()) else mask.bool()

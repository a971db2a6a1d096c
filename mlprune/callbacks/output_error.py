"""What pruning a block does to the block's own output, watched while calibration runs anyway."""

from typing import Any

import torch
from torch import Tensor

from mlprune.models.blocks import Block


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


class OutputError:
    """Compares each block's output before and after its pruning, on the first batch of each group.

    With ``propagate="pruned"`` this costs nothing but the end of a block: the pruned output is the one that the next
    block's calibration needs. With ``"dense"``, and for the last block, those batches run once more.

    Args:
        calibration: The calibration to watch.
        batches: The batches it was made of, for their groups and masks.
    """

    def __init__(self, calibration: Any, batches: list[dict[str, Any]]) -> None:
        self.calibration = calibration
        self.first: dict[int, str] = {}
        for index, batch in enumerate(batches):
            if batch.get("group", "default") not in self.first.values():
                self.first[index] = batch.get("group", "default")
        self.masks = {index: _padding(batches[index]) for index in self.first}
        self.errors: dict[tuple[int, str], float] = {}
        self._dense: dict[int, Tensor] = {}
        self._call: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._step: tuple[int, int] | None = None
        calibration.run_to_end |= set(self.first)
        self._handles = [
            block.module.register_forward_hook(self._hook(position), with_kwargs=True)
            for position, block in enumerate(calibration.blocks)
        ]

    def _hook(self, position: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if self._step is None:
                return
            block, index = self._step
            hidden = output[0] if isinstance(output, tuple) else output
            if position == block:
                self._dense[index], self._call[index] = hidden, (args, kwargs)
            elif position == block - 1 and index in self._dense:
                self._compare(position, index, self._dense.pop(index), hidden)

        return hook

    def _compare(self, block: int, index: int, dense: Tensor, pruned: Tensor) -> None:
        mask = self.masks[index]
        if mask is not None:
            mask = mask.to(dense.device) if mask.shape == dense.shape[:2] else None
        self.errors[block, self.first[index]] = relative_error(dense, pruned, mask)

    def before_step(self, block: int, index: int | None) -> None:
        """Look at a step that is about to run."""
        self._step = (block, index) if index in self.first else None

    def after_pruning(self, position: int) -> None:
        """Finish a block whose pruned output nobody will ask for again."""
        self._step = None
        blocks: list[Block] = self.calibration.blocks
        if self.calibration.propagate == "pruned" and position < len(blocks) - 1:
            return
        for index in list(self._dense):
            args, kwargs = self._call.pop(index)
            with torch.no_grad():
                output = blocks[position].module(*args, **kwargs)
            self._compare(position, index, self._dense.pop(index), output[0] if isinstance(output, tuple) else output)

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _padding(batch: dict[str, Any]) -> Tensor | None:
    mask = batch.get("decoder_attention_mask", batch.get("attention_mask"))
    return None if mask is None or bool(mask.all()) else mask.bool()

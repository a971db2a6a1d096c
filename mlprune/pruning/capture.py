"""What a model passes to its blocks, learned from its own forward.

The blocks are replaced by stubs that return their input, so that one cheap forward shows every block's arguments,
positional and named. Nothing here knows an architecture.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from mlprune.errors import UserError
from mlprune.models.blocks import Block
from mlprune.models.probe import Stop, patched_forwards

INPUT_NAMES = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")


# what a block returns: the number of values (0: a tensor that is in no tuple), and whether others than the first are
# tensors that later blocks may need (the position bias of T5)
Kind = tuple[int, bool]
# stacks that come before: blocks, what probe_outputs said of them, hidden states after the last block
Finished = list[tuple[list[Block], Kind, Tensor]]

Forward = Callable[..., Any]  # a block's, with whatever arguments its model passes


@dataclass
class Call:
    """The arguments of one block call, without its hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    by_name: bool  # whether the hidden states were passed by name

    def run(self, block: Block, hidden: Tensor) -> Tensor:
        """Run the block on hidden states (B, T, hidden_size) and return its hidden states."""
        if self.by_name:
            output = block.module(*self.args, hidden_states=hidden, **self.kwargs)
        else:
            output = block.module(hidden, *self.args, **self.kwargs)
        return output if isinstance(output, Tensor) else output[0]


@dataclass
class Captured:
    """What one batch brings to a stack of blocks: its hidden states before the first block, and every block's call."""

    hidden: Tensor
    calls: list[Call] = field(default_factory=list)


def forward_inputs(batch: Mapping[str, Any], device: torch.device, count_padding: bool) -> dict[str, Tensor]:
    """Return the tensors of a batch for the model's forward; without masks where padding is to count."""
    names = [name for name in INPUT_NAMES if batch.get(name) is not None]
    if count_padding:
        names = [name for name in names if not name.endswith("attention_mask")]
    return {name: batch[name].to(device) for name in names}


def probe_outputs(model: nn.Module, stack: list[Block], inputs: Mapping[str, Tensor], finished: Finished) -> Kind:
    """Run the model on one prompt (a decoder on all), as far as a stack's first block, and see what that returns.

    Args:
        model: The model.
        stack: Blocks of the stack; only the first is run.
        inputs: Inputs of the model's forward.
        finished: As for :func:`capture`.

    Returns:
        What a block returns.
    """
    seen: list[Any] = []

    def look(module: nn.Module, args: Any, output: Any) -> None:
        seen.append(output)
        raise Stop

    handle = stack[0].module.register_forward_hook(look)
    try:
        few = inputs if finished else {name: tensor[:1] for name, tensor in inputs.items()}
        with patched_forwards(replayed(finished)), suppress(Stop):
            model(**few, use_cache=False)
    finally:
        handle.remove()
    if not seen:
        raise UserError(
            f"{type(model).__name__}: a text does not reach its blocks '{stack[0].stack}'; leave them dense"
        )
    output = seen[0]
    if isinstance(output, Tensor):
        return 0, False
    return len(output), any(isinstance(value, Tensor) for value in output[1:])


def capture(
    model: nn.Module,
    stack: list[Block],
    inputs: Mapping[str, Tensor],
    kind: Kind,
    finished: Finished,
) -> Captured:
    """Capture what the model passes to the blocks of one stack for a batch.

    Args:
        model: The model.
        stack: Blocks of the stack.
        inputs: Inputs of the model's forward.
        kind: What :func:`probe_outputs` said of the stack.
        finished: Stacks that come before (an encoder): blocks, kind and the hidden states after their last block.

    Returns:
        Hidden states before the stack's first block and the call of every block.
    """
    captured: list[Captured] = []
    rest: list[Any] = []

    def stub(position: int, block: Block, original: Forward) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            by_name = "hidden_states" in kwargs
            hidden = kwargs.pop("hidden_states") if by_name else args[0]
            if position == 0:
                captured.append(Captured(hidden))
                if kind[1]:
                    again = {"hidden_states": hidden} if by_name else {}
                    rest.extend(original(*args, **again, **kwargs)[1:])
            others = tuple(_no_cache(value) for value in (args if by_name else args[1:]))
            call = Call(others, {name: _no_cache(value) for name, value in kwargs.items()}, by_name)
            captured[0].calls.append(call)
            if position == len(stack) - 1:
                raise Stop
            return (hidden, *(rest or [None] * (kind[0] - 1))) if kind[0] else hidden

        return forward

    replacements = {block.module: stub(i, block, block.module.forward) for i, block in enumerate(stack)}
    replacements |= replayed(finished)
    with patched_forwards(replacements), suppress(Stop):
        model(**inputs, use_cache=False)
    return captured[0]


def replayed(finished: Finished) -> dict[nn.Module, Forward]:
    """Return forwards that give the known result of stacks that batches have passed.

    Args:
        finished: As for :func:`capture`.
    """
    return {block.module: _returning(final, kind) for blocks, kind, final in finished for block in blocks}


def _returning(hidden: Tensor, kind: Kind) -> Forward:
    """A forward that returns given hidden states, with an empty place for each other value."""
    return lambda *args, **kwargs: (hidden, *[None] * (kind[0] - 1)) if kind[0] else hidden


def _no_cache(value: Any) -> Any:
    """A cache that was filled by the capturing forward must not be seen again when the block is replayed."""
    return None if isinstance(value, Cache) else value

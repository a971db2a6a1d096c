"""Units of a feed-forward layer, found by what runs: the outputs of its activation function, before they are projected.

Shapes: tokens (n,), units of one block (F,).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlprune.errors import UserError
from mlprune.models.blocks import Block, find_blocks
from mlprune.models.probe import probe_inputs

Units = Mapping[int, Sequence[int]]  # position of a block to units


@dataclass(frozen=True)
class UnitLayer:
    """The units of one block.

    Args:
        block: Position of the block.
        stack: Path of the list that the block stands in.
        path: Path of the activation function.
        module: The activation function, whose output has a feature a unit.
        width: Number of units.
    """

    block: int
    stack: str
    path: str
    module: nn.Module
    width: int


def find_units(model: nn.Module) -> list[UnitLayer]:
    """Return the feed-forward units of every block.

    An activation function is a module without weights whose output, alone or times the output of a linear layer (a
    gate), is what another linear layer of its block projects. One forward pass of a few tokens shows which.

    Args:
        model: A transformers model.

    Raises:
        UserError: If a block has none, as a mixture of experts.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> [(layer.path, layer.width) for layer in find_units(model)]
        [('transformer.h.0.mlp.act', 16)]
    """
    blocks = find_blocks(model)
    watches = [_Watch(block) for block in blocks]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(**probe_inputs(model))
    finally:
        for watch in watches:
            watch.close()
        model.train(training)
    found = [watch.result(position, model) for position, watch in enumerate(watches)]
    if len({layer.module for layer in found}) < len(found):
        raise UserError(
            f"{type(model).__name__}: blocks share an activation function, so their units are not told apart"
        )
    return found


class _Watch:
    """Sees what a block's linear layers read and write, and what its modules without weights return."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.activations: list[tuple[str, nn.Module, Tensor]] = []
        self.outputs: list[Tensor] = []
        self.found: tuple[str, nn.Module, int] | None = None
        self._handles: list[Any] = []
        for layer in block.layers.values():
            if not layer.is_experts:
                self._handles.append(layer.module.register_forward_pre_hook(self._see_input))
                self._handles.append(layer.module.register_forward_hook(self._see_output))
        for name, module in block.module.named_modules():
            if not any(True for _ in module.parameters()) and not isinstance(module, nn.Dropout | nn.Identity):
                self._handles.append(module.register_forward_hook(self._see_activation(f"{block.path}.{name}")))

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _see_activation(self, path: str) -> Callable[..., None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.activations.append((path, module, output))

        return look

    def _see_output(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.outputs += [output, *(output.chunk(2, dim=-1) if output.shape[-1] % 2 == 0 else ())]

    def _see_input(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0]
        for path, activation, y in reversed(self.activations):
            if y.shape == x.shape and (torch.equal(x, y) or any(_is_product(x, y, gate) for gate in self.outputs)):
                self.found = (path, activation, x.shape[-1])
                return

    def result(self, position: int, model: nn.Module) -> UnitLayer:
        if self.found is not None and not any(layer.is_routed for layer in self.block.layers.values()):
            return UnitLayer(position, self.block.stack, *self.found)
        name, where = type(model).__name__, self.block.path
        if any(layer.is_routed for layer in self.block.layers.values()):
            raise UserError(
                f"{name}: '{where}' has experts, each with its own units; LAPE is of plain feed-forward layers"
            )
        raise UserError(f"{name}: '{where}' has no activation function between two linear layers")


def _is_product(x: Tensor, y: Tensor, gate: Tensor) -> bool:
    return gate.shape == y.shape and torch.allclose(x.float(), (y * gate).float(), rtol=1e-2, atol=1e-6)


@contextmanager
def silenced(layers: Sequence[UnitLayer], units: Units) -> Iterator[None]:
    """While open, some units are zero.

    Args:
        layers: From :func:`find_units`.
        units: Position of a block to units.

    Raises:
        UserError: If the model has no such block or unit.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> with silenced(find_units(model), {0: [3]}):
        ...     model.transformer.h[0].mlp.act(torch.ones(1, 16))[0, 2:5].bool()
        tensor([ True, False,  True])
    """
    by_block = {layer.block: layer for layer in layers}
    handles = []
    try:
        for block, chosen in units.items():
            if block not in by_block:
                raise UserError(f"units: block {block} is not there; give 0 to {len(by_block) - 1}")
            layer = by_block[block]
            unknown = [unit for unit in chosen if not 0 <= unit < layer.width]
            if unknown:
                raise UserError(f"units: block {block} has no unit {unknown[0]}; give 0 to {layer.width - 1}")
            handles.append(layer.module.register_forward_hook(_silencer(list(chosen))))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _silencer(chosen: list[int]) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output.index_fill(-1, torch.tensor(chosen, dtype=torch.int64, device=output.device), 0)

    return hook

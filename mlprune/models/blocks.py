"""Blocks of a model and the prunable layers in them, found by structure, so that no architecture needs code of its own.

A block is an element of the outermost ``nn.ModuleList`` whose elements all hold prunable layers and are none
themselves. A layer is a Linear, a transformers ``Conv1D`` or a 3-D parameter that stacks the weights of experts.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mlprune.errors import UserError
from mlprune.models.experts import ExpertProducts, experts_one_by_one, learn_storage
from mlprune.models.layers import Layer, find_layers
from mlprune.models.probe import kind_of, run_each_kind


@dataclass(frozen=True, eq=False)
class Block:
    """One decoder (or encoder) block and its prunable layers, keyed by path."""

    path: str
    module: nn.Module
    layers: dict[str, Layer]

    @property
    def stack(self) -> str:
        """Path of the list the block stands in; an encoder and a decoder are two stacks."""
        return self.path.rpartition(".")[0]

    def expert_weights(self) -> dict[str, Callable[[], Tensor]]:
        """Return, for each layer that stacks experts, what gets its parameter, which may be read in the meantime."""
        return {path: partial(getattr, layer, "stored") for path, layer in self.layers.items() if layer.is_experts}


def find_blocks(model: nn.Module) -> list[Block]:
    """Find a model's blocks in the order of computation (encoder blocks before decoder blocks).

    Of a model that also sees or hears, only the language model's blocks are found: calibration is on text. Where only
    a forward pass can tell how experts are stored, one of a few tokens is run (not of a model without its weights).

    Args:
        model: A transformers model.

    Raises:
        UserError: If nothing prunable is found, naming what was looked for, or if blocks share weights.

    Example:
        >>> model = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(4, 4)) for _ in range(2)]))
        >>> [block.path for block in find_blocks(model)]
        ['0.0', '0.1']
    """
    blocks = _blocks_of(model)
    if undecided(blocks) and not any(parameter.is_meta for parameter in model.parameters()):
        layers_that_run(model, blocks)
        blocks = _blocks_of(model)
    return blocks


def undecided(blocks: list[Block]) -> bool:
    """Tell whether blocks may have experts of which no forward pass has shown how they are stored."""
    return any(layer.transposed is None for block in blocks for layer in block.layers.values())


def _blocks_of(model: nn.Module) -> list[Block]:
    stacks: list[str] = []
    blocks: list[Block] = []
    text = set(_language_model(model).modules())
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{stack}.") for stack in stacks)
        if inside or not isinstance(module, nn.ModuleList) or module not in text or not len(module):
            continue
        found = [Block(f"{path}.{i}", child, find_layers(child, f"{path}.{i}")) for i, child in enumerate(module)]
        if all(block.layers and block.path not in block.layers for block in found):
            stacks.append(path)
            blocks.extend(found)
    if not blocks:
        raise UserError(
            f"{type(model).__name__}: nothing to prune; looked for an nn.ModuleList of blocks that hold "
            "nn.Linear, Conv1D or stacked expert weights"
        )
    _check_shared(blocks)
    return blocks


def _language_model(model: Any) -> nn.Module:
    config = getattr(model, "config", None)
    if config is None or config.is_encoder_decoder or config.get_text_config() is config:
        return model
    return model.get_decoder()


def _check_shared(blocks: list[Block]) -> None:
    """A weight that several blocks use would be pruned several times, each time for one of them."""
    owners: dict[nn.Parameter, str] = {}
    for path, layer in ((path, layer) for block in blocks for path, layer in block.layers.items()):
        if layer.stored in owners:
            first = owners[layer.stored]
            raise UserError(f"{first} and {path} are one weight; models whose blocks share weights cannot be pruned")
        owners[layer.stored] = path


# what a forward pass of a model used of each kind of block: paths below the block
_RAN: WeakKeyDictionary[nn.Module, dict[Hashable, frozenset[str]]] = WeakKeyDictionary()


def layers_that_run(model: nn.Module, blocks: list[Block]) -> set[str]:
    """Return the paths of the layers that a forward pass uses; where one expert of a list runs, all count.

    It takes a forward of a few tokens through one block of each kind, once for a model, and shows how experts are
    stored, too.

    Args:
        model: A transformers model.
        blocks: From :func:`find_blocks`.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> sorted(layers_that_run(model, find_blocks(model)))[-1]
        'transformer.h.0.mlp.c_proj'
    """
    kinds = [kind_of(block.module) for block in blocks]
    if not set(kinds) <= _RAN.setdefault(model, {}).keys():
        seen: dict[Hashable, frozenset[str]] = dict.fromkeys(kinds, frozenset())

        @contextmanager
        def watching(position: int) -> Iterator[None]:
            used: set[str] = set()
            with _watching(blocks[position], used):
                yield
            seen[kinds[position]] = frozenset(path.removeprefix(blocks[position].path) for path in used)

        with experts_one_by_one(model):
            run_each_kind(model, [block.module for block in blocks], watching)
        for layer in (layer for block in blocks for layer in block.layers.values()):
            if layer.transposed is None:
                learn_storage(layer.module, layer.parameter, None)
        _RAN[model] |= seen
    return {block.path + path for block, kind in zip(blocks, kinds, strict=True) for path in _RAN[model][kind]}


@contextmanager
def _watching(block: Block, used: set[str]) -> Iterator[None]:
    """Add the paths of a block's layers to a set as they are used, and learn how experts are stored."""
    stacks = block.expert_weights()

    def see(path: str, expert: int, x: Tensor, inputs_first: bool) -> None:
        used.add(path)
        if block.layers[path].transposed is None:
            learn_storage(block.layers[path].module, block.layers[path].parameter, inputs_first)

    with ExitStack() as watchers:
        for path, layer in block.layers.items():
            if path not in stacks:
                handle = layer.module.register_forward_pre_hook(lambda module, args, path=path: used.add(path))
                watchers.callback(handle.remove)
        if stacks:
            watchers.enter_context(ExpertProducts(stacks, see))
        yield
    listed = {path for path, layer in block.layers.items() if layer.is_routed and path not in stacks}
    if used & listed:
        used |= listed


def model_device(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter.

    Example:
        >>> model_device(nn.Linear(1, 1))
        device(type='cpu')
    """
    return next(model.parameters()).device

"""Blocks of a model and the prunable layers in them, found by structure, so that no architecture needs code of its own.

A block is an element of the outermost ``nn.ModuleList`` whose elements all hold prunable layers and are none
themselves. A layer is a Linear, a transformers ``Conv1D`` or a 3-D parameter that stacks the weights of experts.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mlprune.errors import UserError, is_out_of_memory
from mlprune.models.encoder import has_encoder
from mlprune.models.experts import ExpertProducts, experts_one_by_one, learn_storage
from mlprune.models.layers import Layer, find_layers
from mlprune.models.probe import TOKENS, Rerun, kind_of, run_each_kind


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
        look_at(model, blocks)
        blocks = _blocks_of(model)
    return blocks


def undecided(blocks: list[Block]) -> bool:
    """Tell whether blocks may have experts of which no forward pass has shown how they are stored."""
    return any(layer.transposed is None for block in blocks for layer in block.layers.values())


def _blocks_of(model: nn.Module) -> list[Block]:
    stacks: list[str] = []
    blocks: list[Block] = []
    text = set(_language_model(model).modules()) - _towers(model)
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
    is_plain = config is None or has_encoder(config) or config.get_text_config() is config
    found: nn.Module = model if is_plain else model.get_decoder()
    return found


def _towers(model: nn.Module) -> set[nn.Module]:
    """The parts of a model that see or hear: those that have such a part of its configuration for their own."""
    config = getattr(model, "config", None)
    kinds = tuple(type(part) for part in _sensory(config)) if config is not None else ()
    towers = [module for module in model.modules() if kinds and isinstance(getattr(module, "config", None), kinds)]
    return {module for tower in towers for module in tower.modules()}


def _sensory(config: Any) -> Iterator[Any]:
    for name in getattr(config, "sub_configs", {}):
        if (part := getattr(config, name, None)) is not None:
            if any(sense in name for sense in ("vision", "image", "audio", "speech")):
                yield part
            else:
                yield from _sensory(part)


def _check_shared(blocks: list[Block]) -> None:
    """A weight that several blocks use would be pruned several times, each time for one of them."""
    owners: dict[nn.Parameter, str] = {}
    for path, layer in ((path, layer) for block in blocks for path, layer in block.layers.items()):
        if layer.stored in owners:
            first = owners[layer.stored]
            raise UserError(f"{first} and {path} are one weight; models whose blocks share weights cannot be pruned")
        owners[layer.stored] = path


@dataclass(frozen=True)
class Look:
    """What a forward of :data:`~mlprune.models.probe.TOKENS` tokens shows of blocks.

    Args:
        layers: Paths of the layers that it uses; where one expert of a list runs, all of them.
        positions: How many positions the blocks see, all streams that a model makes of a token counted.
        in_order: Whether every layer but experts sees each token once, in the order of the input.
        inputs_first: Path of each stack of experts to whether it is stored (experts, in_features, out_features).
        repeated: Paths of the layers that a block runs more than once, but for experts.
        looks_ahead: Whether a token's output depends on later tokens, as in an encoder.
    """

    layers: frozenset[str]
    positions: int
    in_order: bool
    inputs_first: Mapping[str, bool]
    repeated: frozenset[str] = frozenset()
    looks_ahead: bool = False


_LOOKS: WeakKeyDictionary[nn.Module, dict[Hashable, Look]] = WeakKeyDictionary()


def look_at(model: nn.Module, blocks: list[Block]) -> Look:
    """Run a few tokens through one block of each kind, once for a model, which shows how experts are stored, too.

    Args:
        model: A transformers model.
        blocks: From :func:`find_blocks`.

    Raises:
        UserError: If the model's blocks cannot be run one by one.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> look = look_at(model, find_blocks(model))
        >>> sorted(look.layers)[-1], look.positions, look.in_order
        ('transformer.h.0.mlp.c_proj', 31, True)
    """
    kinds = [kind_of(block.module) for block in blocks]
    known = _LOOKS.setdefault(model, {})
    if not set(kinds) <= known.keys():
        unreached = Look(frozenset(), TOKENS, in_order=True, inputs_first={})
        seen = dict.fromkeys(kinds, unreached)

        @contextmanager
        def watching(position: int, hidden: Tensor, rerun: Rerun) -> Iterator[None]:
            watch = _Watch(blocks[position])
            with watch:
                yield
            is_routed = any(layer.is_routed for layer in blocks[position].layers.values())
            seen[kinds[position]] = replace(watch.result(hidden), looks_ahead=_looks_ahead(hidden, rerun, is_routed))

        with experts_one_by_one(model):
            run_each_kind(model, [block.module for block in blocks], watching)
        known |= seen
    looks = dict(zip(blocks, (known[kind] for kind in kinds), strict=True))
    stored = {block.path + below: first for block, look in looks.items() for below, first in look.inputs_first.items()}
    for layer in (layer for block in blocks for layer in block.layers.values()):
        if layer.transposed is None:
            learn_storage(layer.module, layer.parameter, stored.get(layer.path))
    layers = frozenset(block.path + below for block, look in looks.items() for below in look.layers)
    positions = next((look.positions for look in looks.values() if look.positions % TOKENS), TOKENS)
    repeated = frozenset(block.path + below for block, look in looks.items() for below in look.repeated)
    looks_ahead = any(look.looks_ahead for look in looks.values())
    return Look(layers, positions, all(look.in_order for look in looks.values()), stored, repeated, looks_ahead)


def _looks_ahead(hidden: Tensor, rerun: Rerun, is_routed: bool) -> bool:
    """Tell whether a block's output for the first tokens moves, by more than rounding, when the later ones change.

    Rounding moves it where experts get other numbers of tokens.
    """
    if hidden.shape[:-1] != (1, TOKENS):
        return False  # laid out in another way
    half = TOKENS // 2
    changed = torch.cat([hidden[:, :half], hidden[:, half:].flip(-1)], dim=1)
    try:
        expected, again, found = (rerun(states.clone()).float() for states in (hidden, hidden, changed))
    except Exception as error:  # a block that can run but once, as its cache grows (XLM)
        if is_out_of_memory(error):
            raise
        return False
    moved = (expected - found).abs()
    rounding = 2e-2 if is_routed and hidden.dtype.itemsize < 4 else 1e-5
    return torch.equal(expected, again) and bool(moved[:, :half].max() > rounding * moved.max())


class _Watch(ExitStack):
    """While open, sees which layers of a block run and on how many inputs, and learns how experts are stored."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        self.used: set[str] = set()
        self.repeated: set[str] = set()
        self.counts: set[int] = set()
        self.inputs_first: dict[str, bool] = {}
        self.shares: dict[str, list[Tensor]] = {}  # path of a stack to the inputs of each product
        stacks = block.expert_weights()
        for path, layer in block.layers.items():
            if path not in stacks:
                handle = layer.module.register_forward_pre_hook(partial(self._see_input, path))
                self.callback(handle.remove)
        if stacks:
            self.enter_context(ExpertProducts(stacks, self._see_product))

    def _see_input(self, path: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        again = path in self.used
        self.used.add(path)
        if not self.block.layers[path].is_routed:
            self.repeated |= {path} if again else set()
            self.counts.add(args[0].numel() // args[0].shape[-1])

    def _see_product(self, path: str, expert: int, x: Tensor, inputs_first: bool) -> None:
        self.used.add(path)
        self.inputs_first[path] = inputs_first
        self.shares.setdefault(path, []).append(x)

    def _heads(self) -> set[str]:
        """The stacks that are matrices of heads (RecurrentGemma's gates), each for a part of every token's features.

        Experts see chosen tokens, or of one owner's experts some see the same: a block-diagonal matrix does neither.
        """
        of_experts = set()
        for path, shares in self.shares.items():
            first = shares[0]
            if any(len(x) != TOKENS or (x is not first and torch.equal(x, first)) for x in shares):
                of_experts.add(self.block.layers[path].module)
        return {path for path in self.shares if self.block.layers[path].module not in of_experts}

    def result(self, hidden: Tensor) -> Look:
        """What was seen as the block ran on hidden states of one text."""
        listed = {path for path, layer in self.block.layers.items() if layer.is_routed and not layer.is_experts}
        layers = (self.used | (listed if self.used & listed else set())) - (heads := self._heads())
        below = len(self.block.path)
        return Look(
            frozenset(path[below:] for path in layers),
            positions=hidden.numel() // hidden.shape[-1],
            in_order=self.counts <= {TOKENS} and hidden.shape[0] != TOKENS,  # FSMT: (tokens, texts, features)
            inputs_first={path[below:]: first for path, first in self.inputs_first.items() if path not in heads},
            repeated=frozenset(path[below:] for path in self.repeated),
        )


def model_device(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter.

    Raises:
        UserError: If transformers spread the model over devices, or keeps parts of it elsewhere.

    Example:
        >>> model_device(nn.Linear(1, 1))
        device(type='cpu')
    """
    if hasattr(model, "_hf_hook") or getattr(model, "_tp_size", None) not in (None, 1):  # accelerate's; transformers'
        raise UserError(
            f"{type(model).__name__} was spread over devices (device_map or tp_plan); load it without, or, if it is "
            "too large for one device, prune its folder with prune_streaming"
        )
    return next(model.parameters()).device

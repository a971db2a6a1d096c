"""Weights split over processes: each holds an equal part of every block, and what is outside the blocks.

A block is whole on a process only while that process needs it. Calibration and pruning enter one block after the other,
all processes together. In evaluation each process has examples of its own and runs a block whenever it comes to it:
the processes then agree in *rounds*. In a round each says which block it needs, or none, and all send their parts of
these blocks. A process that has nothing left to run takes part in rounds until all have: see
:func:`mlprune.distributed.lending`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mlprune.distributed import PeerGone, lending, rank, world_size
from mlprune.exact import NARROW
from mlprune.models.blocks import Block, find_blocks

NONE = -1  # said in a round by a process that needs no block
ALIGNED = 64  # entries; products of matrices that lie otherwise are rounded otherwise
Slot = tuple[int, str]  # id() of a module, and the name of a parameter in it
Flats = dict[torch.dtype, Tensor]  # all of a block's entries of a dtype, one after the other


@dataclass
class _Place:
    """Where a parameter is: the modules that hold it, and its entries among those of its dtype in its block."""

    owners: list[tuple[nn.Module, str]]
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    start: int

    def put(self, value: Tensor, trains: bool = False) -> None:
        parameter = nn.Parameter(value, requires_grad=trains and value.is_floating_point())
        for module, name in self.owners:
            setattr(module, name, parameter)


class Share:
    """This process' part of a block's parameters, of which the block keeps shapes alone.

    Args:
        block: The block, with its parameters; afterwards they are on the meta device.
        outside: Places of the parameters that are used outside the block, too, and stay whole.
        device: Where the part is kept.
    """

    def __init__(self, block: nn.Module, outside: set[Slot], device: torch.device) -> None:
        self._places: list[_Place] = []
        owners: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
        for module in block.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if (id(module), name) not in outside:
                    owners.setdefault(parameter, []).append((module, name))
        sizes: dict[torch.dtype, int] = {}
        for parameter, places in owners.items():
            start, dtype = -(-sizes.get(parameter.dtype, 0) // ALIGNED) * ALIGNED, parameter.dtype
            self._places.append(_Place(places, parameter.shape, _dense(parameter).stride(), dtype, start))
            sizes[dtype] = start + parameter.numel()
        self.parts: Flats = {
            dtype: torch.zeros(-(-size // world_size()), dtype=dtype, device=device) for dtype, size in sizes.items()
        }
        for place, parameter in zip(self._places, owners, strict=True):
            self._keep(place, parameter.detach())
        self.release()

    def _keep(self, place: _Place, value: Tensor) -> None:
        """Take what is this process' of a whole parameter."""
        part = self.parts[place.dtype]
        first = rank() * len(part) - place.start
        low, high = max(first, 0), min(first + len(part), value.numel())
        if low < high:
            value = value if value.stride() == place.stride else value.contiguous()
            part[low - first : high - first] = value.as_strided((value.numel(),), (1,))[low:high]

    def fill(self, flats: Flats, trains: bool = False) -> None:
        """Let the block have its parameters, views of all its entries."""
        for place in self._places:
            part = flats[place.dtype][place.start : place.start + place.shape.numel()]
            place.put(part.as_strided(place.shape, place.stride), trains)

    def keep(self, flats: Flats) -> None:
        """Keep this process' part of entries that the block may have changed."""
        for dtype, part in self.parts.items():
            part.copy_(flats[dtype][rank() * len(part) :][: len(part)])

    def release(self) -> None:
        """Leave the block without entries."""
        for place in self._places:
            place.put(torch.empty_strided(place.shape, place.stride, dtype=place.dtype, device="meta"))


def _dense(value: Tensor) -> Tensor:
    """A tensor without entries, laid out as one is that may be transposed but has no gaps."""
    return torch.empty_like(value, device="meta")


class SplitModel:
    """A model whose blocks are split over the connected processes. Every process makes one, in the same order.

    Args:
        model: The model; whole, or so that ``fill`` makes its blocks whole.
        device: Where the parts are kept and the blocks are computed.
        fill: Called with a block's position before that block is split, so that no process ever has all of them.

    Attributes:
        blocks: The model's blocks.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> before = model(torch.tensor([[1, 2, 3]])).logits
        >>> split = SplitModel(model, torch.device("cpu"))
        >>> model.transformer.h[0].mlp.c_fc.weight.is_meta
        True
        >>> with torch.no_grad():
        ...     bool((model(torch.tensor([[1, 2, 3]])).logits == before).all())
        True
        >>> split.close()
    """

    def __init__(self, model: Any, device: torch.device, fill: Callable[[int], None] | None = None) -> None:
        self.model = model
        self.device = device
        self.blocks: list[Block] = find_blocks(model)
        self.is_wide = False  # bfloat16 and float16 blocks are computed in float32
        self._group = dist.new_group() if world_size() > 1 else None
        self._resident: dict[int, Flats] = {}
        self._shares: list[Share] = []
        shared = _used_twice(model, [block.module for block in self.blocks])
        for position, block in enumerate(self.blocks):
            if fill is not None:
                fill(position)
            self._shares.append(Share(block.module, shared, device))
        for position, block in enumerate(self.blocks):
            block.module.forward = self._on_demand(position, block.module.forward)
        lending(self.lend if world_size() > 1 else None)
        _SPLIT[model] = self

    def _on_demand(self, position: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def whole(*args: Any, **kwargs: Any) -> Any:
            if position in self._resident:
                return forward(*args, **kwargs)
            share = self._shares[position]
            share.fill(self._widened(self._needed(position)))
            try:
                return forward(*args, **kwargs)
            finally:
                share.release()

        return whole

    def enter(self, position: int) -> None:
        """Make a block whole on every process, and keep parts of all but it and the one before. A collective.

        Args:
            position: The block's.
        """
        for other in self._resident.keys() - {position, position - 1}:
            self._leave(other)
        if position not in self._resident:
            self._resident[position] = self._needed(position)
            self._shares[position].fill(self._resident[position])

    def leave(self) -> None:
        """Keep parts of all blocks."""
        for position in list(self._resident):
            self._leave(position)

    def _leave(self, position: int) -> None:
        self._shares[position].keep(self._resident.pop(position))
        self._shares[position].release()

    @contextmanager
    def widened(self) -> Iterator[None]:
        """Compute bfloat16 and float16 blocks in float32 inside this context."""
        self.leave()
        self.is_wide = True
        try:
            yield
        finally:
            self.is_wide = False

    def _widened(self, flats: Flats) -> Flats:
        return {dtype: flat.float() if self.is_wide and dtype in NARROW else flat for dtype, flat in flats.items()}

    # -- rounds ---------------------------------------------------------------------------------------------------

    def lend(self) -> None:
        """Send this process' parts to those that need them until no process needs any."""
        while self._round(NONE)[0]:
            pass

    def _needed(self, position: int) -> Flats:
        return self._round(position)[1][position]

    @torch.no_grad()
    def _round(self, needed: int) -> tuple[set[int], Mapping[int, Flats]]:
        """Say which block this process needs; return all that were asked for, and the entries of its own."""
        said: list[int] = self._gathered(torch.tensor([needed], device=self.device)).tolist()
        asked, found = {position for position in said if position != NONE}, {}
        for position in sorted(asked):
            flats = {dtype: self._gathered(part) for dtype, part in self._shares[position].parts.items()}
            if position == needed:
                found[position] = flats
        return asked, found

    def _gathered(self, part: Tensor) -> Tensor:
        """What all processes have, one after the other."""
        whole = part.new_empty(world_size() * len(part))
        if self._group is None:
            return whole.copy_(part)
        try:
            dist.all_gather_single(whole.view(torch.uint8), part.view(torch.uint8), group=self._group)
        except RuntimeError as error:
            raise PeerGone(str(error)) from error
        return whole

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End splitting: the blocks keep shapes alone, and no process lends any more."""
        self.leave()
        for block in self.blocks:
            del block.module.forward
        lending(None)
        _SPLIT.pop(self.model, None)

    def take(self, position: int) -> None:
        """Give a block its parameters, to train them, and forget this process' part. A collective, after the end.

        Args:
            position: The block's.
        """
        self._shares[position].fill(self._needed(position), trains=True)
        self._shares[position].parts = {}


_SPLIT: WeakKeyDictionary[nn.Module, SplitModel] = WeakKeyDictionary()


def split_of(model: nn.Module) -> SplitModel | None:
    """Return how a model is split; None of a whole one.

    Example:
        >>> split_of(nn.Linear(1, 1)) is None
        True
    """
    return _SPLIT.get(model)


def _used_twice(model: nn.Module, blocks: list[nn.Module]) -> set[Slot]:
    """Places of parameters that are in two blocks, or in one and outside."""
    inside = {id(module): position for position, block in enumerate(blocks) for module in block.modules()}
    places: dict[nn.Parameter, list[Slot]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            places.setdefault(parameter, []).append((id(module), name))
    several = [users for users in places.values() if len({inside.get(module, NONE) for module, _ in users}) > 1]
    return {place for users in several for place in users}

"""Weights split over processes: each holds an equal part of every block, and what is outside the blocks.

A block is whole on a process only while that process needs it. Calibration and pruning enter one block after the other,
all processes together. In evaluation each process has examples of its own and runs a block whenever it comes to it:
the processes then agree in *rounds*. In a round each says which block it needs, or none, and all send their parts of
the furthest of these blocks, so that a process which is behind is not sent what others will need, too, when they begin
again. A process that has nothing left to run takes part in rounds until all have: see
:func:`mlprune.distributed.lending`. Passes that need not wait for each other's results need each block once: see
:func:`abreast`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mlprune.allocator import return_freed_memory
from mlprune.distributed import PeerGone, lending, rank, world_size
from mlprune.errors import is_out_of_memory
from mlprune.exact import NARROW
from mlprune.models.abreast import run_abreast, stop_at
from mlprune.models.blocks import Block, find_blocks

NONE = -1  # said in a round by a process that needs no block
ALIGNED = 512  # bytes; products of matrices that lie otherwise are rounded otherwise
T = TypeVar("T")
Slot = tuple[int, str]  # id() of a module, and the name of a parameter in it


@dataclass
class _Place:
    """Where a parameter is: the modules that hold it, and its bytes among those of its block."""

    owners: list[tuple[nn.Module, str]]
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    start: int

    @property
    def end(self) -> int:
        return self.start + self.shape.numel() * self.dtype.itemsize

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

    Attributes:
        part: uint8, an equal number on every process of the block's bytes, which are all its parameters in a row.
    """

    def __init__(self, block: nn.Module, outside: set[Slot], device: torch.device) -> None:
        self._places: list[_Place] = []
        owners: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
        for module in block.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if (id(module), name) not in outside:
                    owners.setdefault(parameter, []).append((module, name))
        size = 0
        for parameter, places in owners.items():
            start = -(-size // ALIGNED) * ALIGNED
            place = _Place(places, parameter.shape, _dense(parameter).stride(), parameter.dtype, start)
            self._places.append(place)
            size = place.end
        self.part = torch.zeros(-(-size // world_size()), dtype=torch.uint8, device=device)
        for place, parameter in zip(self._places, owners, strict=True):
            self._keep(place, parameter.detach())
        self.release()

    @property
    def size(self) -> int:
        """Bytes of the whole block, filled up so that all parts are equal."""
        return world_size() * len(self.part)

    def _keep(self, place: _Place, value: Tensor) -> None:
        """Take what is this process' of a whole parameter."""
        first = rank() * len(self.part)
        low, high = max(first, place.start), min(first + len(self.part), place.end)
        if low < high:
            value = value if value.stride() == place.stride else value.contiguous()
            flat = value.as_strided((value.numel(),), (1,)).view(torch.uint8)
            self.part[low - first : high - first] = flat[low - place.start : high - place.start]

    def gather(self, whole: Tensor, group: dist.ProcessGroup | None) -> None:
        """Fill a tensor with all parts, one after the other. A collective.

        Args:
            whole: uint8, at least :attr:`size`.
            group: The processes; None is this one alone.
        """
        if not len(self.part):
            return
        parts, sent = whole[: self.size].split(len(self.part)), []
        if group is not None:  # broadcasts are several times as fast as an all_gather
            for number, part in enumerate(parts):
                mine = number == rank()
                sent.append(dist.broadcast(self.part if mine else part, number, group, async_op=True))
        parts[rank()].copy_(self.part)
        for work in sent:
            work.wait()

    def fill(self, whole: Tensor, wide: bool = False, trains: bool = False) -> None:
        """Let the block have its parameters, views of its bytes.

        Args:
            whole: uint8, at least :attr:`size`.
            wide: Of bfloat16 and float16 ones, copies in float32.
            trains: Let them have gradients.
        """
        for place in self._places:
            value = whole[place.start : place.end].view(place.dtype).as_strided(place.shape, place.stride)
            place.put(value.float() if wide and place.dtype in NARROW else value, trains)

    def keep(self, whole: Tensor) -> None:
        """Keep this process' part of bytes that the block may have changed."""
        self.part.copy_(whole[rank() * len(self.part) :][: len(self.part)])

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
        timeout: How long a process waits for the others; PyTorch's default if omitted.

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

    def __init__(
        self,
        model: Any,
        device: torch.device,
        fill: Callable[[int], None] | None = None,
        timeout: timedelta | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.blocks: list[Block] = find_blocks(model)
        self.is_wide = False  # bfloat16 and float16 blocks are computed in float32
        self._group = dist.new_group(timeout=timeout) if world_size() > 1 else None
        self._resident: dict[int, Tensor] = {}
        self._spare: list[Tensor] = []  # room for a whole block, to be used again
        self._shares: list[Share] = []
        shared = _used_twice(model, [block.module for block in self.blocks])
        for position, block in enumerate(self.blocks):
            if fill is not None:
                fill(position)
            self._shares.append(Share(block.module, shared, device))
            return_freed_memory()
        for position, block in enumerate(self.blocks):
            block.module.forward = self._on_demand(position, block.module.forward)
        lending(self.lend if world_size() > 1 else None)
        _SPLIT[model] = self

    def _on_demand(self, position: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def whole(*args: Any, **kwargs: Any) -> Any:
            if position in self._resident or stop_at(position):
                return forward(*args, **kwargs)
            with self.whole(position):
                return forward(*args, **kwargs)

        return whole

    @contextmanager
    def whole(self, position: int) -> Iterator[None]:
        """Make a block whole on this process while open.

        Args:
            position: The block's.
        """
        share, found = self._shares[position], self._needed(position)
        share.fill(found, wide=self.is_wide)
        try:
            yield
        finally:
            share.release()
            if not torch.is_grad_enabled():  # else a backward pass may need it
                self._spare.append(found)

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
        del self._spare[1:]

    def _leave(self, position: int) -> None:
        found = self._resident.pop(position)
        self._shares[position].keep(found)
        self._shares[position].release()
        self._spare.append(found)

    @contextmanager
    def widened(self) -> Iterator[None]:
        """Compute bfloat16 and float16 blocks in float32 inside this context."""
        self.leave()
        self.is_wide = True
        try:
            yield
        finally:
            self.is_wide = False

    # -- rounds ---------------------------------------------------------------------------------------------------

    def lend(self) -> None:
        """Send this process' parts to those that need them until no process needs any."""
        room = self._room()
        while self._round(NONE, room) != NONE:
            pass
        self._spare.append(room)

    def _needed(self, position: int) -> Tensor:
        """Return all bytes of a block, which other blocks may pass through before."""
        room = self._room()
        while self._round(position, room) != position:
            pass
        return room

    def _room(self) -> Tensor:
        if self._spare:
            return self._spare.pop()
        with torch.inference_mode(False):  # what is made inside could not be changed outside
            return torch.empty(max(share.size for share in self._shares), dtype=torch.uint8, device=self.device)

    @torch.no_grad()
    def _round(self, needed: int, room: Tensor) -> int:
        """Say which block this process needs; return the furthest that any needs, of which ``room`` has all bytes."""
        with self._with_peers():
            furthest = torch.tensor([needed], device=self.device)
            if self._group is not None:
                dist.all_reduce(furthest, dist.ReduceOp.MAX, group=self._group)
            position = int(furthest)
            if position != NONE:
                self._shares[position].gather(room, self._group)
        return position

    @contextmanager
    def _with_peers(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise PeerGone(str(error)) from error

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
        share = self._shares[position]
        room = torch.empty(share.size, dtype=torch.uint8, device=self.device)
        with self._with_peers():
            share.gather(room, self._group)
        share.fill(room, trains=True)
        share.part = share.part[:0].clone()


_SPLIT: WeakKeyDictionary[nn.Module, SplitModel] = WeakKeyDictionary()


def split_of(model: nn.Module) -> SplitModel | None:
    """Return how a model is split; None of a whole one.

    Example:
        >>> split_of(nn.Linear(1, 1)) is None
        True
    """
    return _SPLIT.get(model)


def abreast(model: nn.Module, calls: Sequence[Callable[[], T]]) -> Iterable[T]:
    """Run forward passes that do not need each other's results, and yield what each returns.

    With whole weights they run one after the other, each as its result is asked for. With split weights all run side by
    side, one block at a time, so that a block is sent once for all of them; what they compute is the same to the bit.

    Args:
        model: The model.
        calls: Each runs passes of it.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> [found.shape for found in abreast(layer, [lambda: layer(torch.ones(2)), lambda: layer(torch.ones(1, 2))])]
        [torch.Size([2]), torch.Size([1, 2])]
    """
    split = split_of(model)
    return (call() for call in calls) if split is None else run_abreast(calls, split.whole)


def _used_twice(model: nn.Module, blocks: list[nn.Module]) -> set[Slot]:
    """Places of parameters that are in two blocks, or in one and outside."""
    inside = {id(module): position for position, block in enumerate(blocks) for module in block.modules()}
    places: dict[nn.Parameter, list[Slot]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            places.setdefault(parameter, []).append((id(module), name))
    several = [users for users in places.values() if len({inside.get(module, NONE) for module, _ in users}) > 1]
    return {place for users in several for place in users}

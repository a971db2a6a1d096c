"""Weights split over processes while a model trains: PyTorch's ``fully_shard``, a unit a block."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from mlprune.models.blocks import find_blocks


class Sharded:
    """A model whose parameters are split over the processes of a mesh, in place; each holds a part of every one.

    Blocks are made whole and split one at a time, so that no device ever holds the whole model. A collective.

    Args:
        model: The model, the same on every process.
        mesh: One-dimensional.
        take: Called with a block's position before that block is split, to make it whole.

    Attributes:
        plain: A plain model of the same structure, which has no weights until it is filled.
    """

    def __init__(self, model: PreTrainedModel, mesh: DeviceMesh, take: Callable[[int], None] | None = None) -> None:
        values = {id(parameter): nn.Parameter(parameter.detach().to("meta")) for parameter in model.parameters()}
        self.plain = deepcopy(model, values)  # without values: what its memo holds was copied already
        self._model = model
        blocks = find_blocks(model)
        self._paths = [block.path for block in blocks]
        for position, block in enumerate(blocks):
            if take is not None:
                take(position)
            fully_shard(block.module, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def fill(self, position: int) -> None:
        """Give a block of the plain model the weights as they are now. A collective.

        Args:
            position: The block's.
        """
        self._fill([self._paths[position]])

    def fill_rest(self) -> PreTrainedModel:
        """Give the plain model what is outside the blocks, and return it. A collective."""
        self._fill([], besides=self._paths)
        return self.plain

    def whole(self) -> PreTrainedModel:
        """Return the plain model with all weights, on the CPU. A collective."""
        self._fill([], device=torch.device("cpu"))
        return self.plain.cpu()

    @torch.no_grad()
    def _fill(self, within: list[str], besides: list[str] | None = None, device: torch.device | None = None) -> None:
        inside, outside = (tuple(f"{path}." for path in paths) for paths in (within, besides or []))
        pairs = zip(list(self.plain.named_parameters()), self._model.parameters(), strict=True)
        for (name, empty), part in pairs:
            if name.startswith(inside or "") and not name.startswith(outside):
                whole = part.full_tensor() if isinstance(part, DTensor) else part
                filled = nn.Parameter(whole.detach().to(device), part.requires_grad)
                torch.utils.swap_tensors(empty, filled)  # ties stay ties

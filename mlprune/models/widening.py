"""A bfloat16 or float16 model computed in float32 for a while, where memory allows."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from mlprune.exact import NARROW
from mlprune.models.room import free_memory
from mlprune.models.split import split_of


def narrow_tensors(model: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers of a model that are bfloat16 or float16, each once."""
    found = {id(tensor): tensor for part in (model.parameters(), model.buffers()) for tensor in part}
    return [tensor for tensor in found.values() if tensor.dtype in NARROW and tensor.device.type != "meta"]


def room_for(model: nn.Module) -> bool:
    """Return whether there is memory for a model's narrow tensors in float32 beside them; yes where that is unknown.

    Example:
        >>> room_for(nn.Linear(2, 2).bfloat16())
        True
    """
    wanted: dict[torch.device, int] = {}
    for tensor in narrow_tensors(model):
        wanted[tensor.device] = wanted.get(tensor.device, 0) + 4 * tensor.numel()
    return all(free_memory(device) >= size for device, size in wanted.items())


@contextmanager
def widened(model: nn.Module) -> Iterator[None]:
    """Compute a model in float32 inside this context; at its end it has its own tensors again, to the bit.

    Args:
        model: The model; its narrow tensors stay in memory beside the wide ones.

    Example:
        >>> layer = nn.Linear(2, 2).bfloat16()
        >>> before = layer.weight.clone()
        >>> with widened(layer):
        ...     layer(torch.ones(1, 2)).dtype
        torch.float32
        >>> layer.weight.dtype, torch.equal(layer.weight, before)
        (torch.bfloat16, True)
    """
    narrow, split = [(tensor, tensor.data) for tensor in narrow_tensors(model)], split_of(model)
    try:
        for tensor, data in narrow:
            tensor.data = data.float()
        with nullcontext() if split is None else split.widened():
            yield
    finally:
        for tensor, data in narrow:
            tensor.data = data

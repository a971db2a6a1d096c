"""Communication between processes; with one process, or none connected, every function is the identity.

All but :func:`rank` and :func:`world_size` are collectives: every process calls them, in the same order.
"""

import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
LAUNCHERS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")  # variables with a process's rank before it is connected


def _connected() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return this process's rank; before the processes are connected, the one its launcher set.

    Example:
        >>> rank()
        0
    """
    if _connected():
        return dist.get_rank()
    return int(next((number for name in LAUNCHERS if (number := os.environ.get(name))), "0"))


def world_size() -> int:
    """Return how many processes are connected.

    Example:
        >>> world_size()
        1
    """
    return dist.get_world_size() if _connected() else 1


def gather_objects(value: T) -> list[T]:
    """Return every process's object, in the order of their ranks; anything that can be pickled.

    Example:
        >>> gather_objects({"mt": 3})
        [{'mt': 3}]
    """
    if world_size() == 1:
        return [value]
    gathered: list[T] = [value] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def broadcast_object(value: T) -> T:
    """Return the first process's object.

    Example:
        >>> broadcast_object("version_3")
        'version_3'
    """
    if world_size() == 1:
        return value
    carrier = [value]
    dist.broadcast_object_list(carrier, src=0)
    return carrier[0]


def broadcast_tensor(value: Tensor) -> Tensor:
    """Return the first process's tensor, so that rounding can never make two processes differ.

    Args:
        value: A tensor of the same shape and dtype on every process, on the device that the backend serves.

    Example:
        >>> broadcast_tensor(torch.tensor([True]))
        tensor([True])
    """
    if world_size() == 1:
        return value
    carrier = (value.to(torch.uint8) if value.dtype == torch.bool else value).contiguous()
    dist.broadcast(carrier, src=0)
    return carrier.to(value.dtype)


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()

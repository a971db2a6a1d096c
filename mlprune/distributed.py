"""Communication between processes; with one process, or none connected, every function is the identity.

All but :func:`rank`, :func:`launched_rank`, :func:`world_size` and :func:`lending` are collectives, which every process
calls in one order.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
LAUNCHERS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")  # variables with a process's rank before it is connected


class PeerGone(BaseException):
    """Another process is gone in the middle of a forward pass; no Exception, for those are caught around models."""


def _connected() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return this process's rank.

    Example:
        >>> rank()
        0
    """
    return dist.get_rank() if _connected() else 0


def launched_rank() -> int:
    """Return this process's rank; before the processes are connected, the one that its launcher set.

    Example:
        >>> launched_rank()
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


_lend: Callable[[], None] | None = None


def lending(lend: Callable[[], None] | None) -> None:
    """Set what a process does for the others before it waits for them, while a model's weights are split.

    Args:
        lend: Sends the others what they need, and returns once all processes wait; None if nothing is split.
    """
    global _lend
    _lend = lend


def meet() -> None:
    """Wait until every process waits for the others, with what they need of this one; does nothing otherwise.

    Every function here begins with it. Code that waits in another way calls it first.
    """
    if _lend is not None:
        _lend()


def gather_objects(value: T) -> list[T]:
    """Return every process's object, in the order of their ranks; anything that can be pickled.

    Example:
        >>> gather_objects({"mt": 3})
        [{'mt': 3}]
    """
    if world_size() == 1:
        return [value]
    meet()
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
    meet()
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
    meet()
    carrier = (value.to(torch.uint8) if value.dtype == torch.bool else value).contiguous()
    dist.broadcast(carrier, src=0)
    return carrier.to(value.dtype)


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        meet()
        dist.barrier()

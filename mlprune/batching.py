"""How batches are formed: by one rule for the whole job, so that every number of processes sees the same batches.

A batch's content decides the last bits of what a model computes on it. Batches are therefore formed over all items,
before anything is dealt to processes, and whole batches are dealt.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch.utils.data import Sampler

T = TypeVar("T")


def token_batches(lengths: Sequence[int], max_tokens: int, groups: Sequence[Hashable] | None = None) -> list[list[int]]:
    """Form batches of items of similar length under a token budget.

    Items are grouped (groups in order of first appearance), sorted by length, longest first, ties by position, and a
    batch is closed when one more item would make ``items x longest item`` exceed the budget. An item longer than the
    budget is a batch of its own.

    Args:
        lengths: Length of each item, in tokens.
        max_tokens: Budget of a batch, padding included, in tokens.
        groups: Group of each item; a batch holds items of one group. One group if omitted.

    Returns:
        Batches as lists of positions into ``lengths``.

    Raises:
        ValueError: If ``max_tokens`` is below 1 or ``groups`` has another length than ``lengths``.

    Example:
        >>> token_batches([3, 5, 4, 1], max_tokens=10)
        [[1, 2], [0, 3]]
        >>> token_batches([3, 5, 4, 1], max_tokens=10, groups=["mt", "code", "mt", "mt"])
        [[2, 0], [3], [1]]
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens: {max_tokens} is not allowed; give at least 1")
    if groups is None:
        groups = [0] * len(lengths)
    if len(groups) != len(lengths):
        raise ValueError(f"groups: {len(groups)} given for {len(lengths)} items; give one for each")
    rank_of_group = {group: rank for rank, group in enumerate(dict.fromkeys(groups))}
    order = sorted(range(len(lengths)), key=lambda i: (rank_of_group[groups[i]], -lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        batch = batches[-1] if batches else []
        fits = batch and groups[batch[0]] == groups[i] and (len(batch) + 1) * lengths[batch[0]] <= max_tokens
        if fits:
            batch.append(i)
        else:
            batches.append([i])
    return batches


def deal(items: Sequence[T], rank: int, world_size: int) -> list[T]:
    """Return this process's share of the items: every ``world_size``-th, starting at ``rank``.

    Neighbouring batches are of similar cost, so dealing them in turn balances the work.

    Example:
        >>> deal(["a", "b", "c", "d", "e"], rank=1, world_size=2)
        ['b', 'd']
    """
    return list(items[rank::world_size])


def even_shares(costs: Iterable[float], world_size: int) -> list[int]:
    """Return which process works on each item: in turn, the one with the least to do so far, the first of equal ones.

    Evaluation has many sets of few batches each; were every set dealt from the first process on, that one would have
    the longest batch of each, and the others none of some.

    Args:
        costs: Of each item, in any unit.
        world_size: Number of processes.

    Example:
        >>> even_shares([5, 4, 3, 5, 4, 3], world_size=2)
        [0, 1, 1, 0, 1, 0]
    """
    loads, shares = [0.0] * world_size, []
    for cost in costs:
        shares.append(loads.index(min(loads)))
        loads[shares[-1]] += cost
    return shares


class EpochShuffle(Sampler[int]):
    """Positions in random order, another in each epoch, and the same where training resumes at that epoch.

    Args:
        count: Number of positions.
        seed: Seed of the orders.

    Example:
        >>> shuffle = EpochShuffle(5, seed=0)
        >>> first = list(shuffle)
        >>> shuffle.set_epoch(1)
        >>> list(shuffle) != first
        True
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        torch.empty((), dtype=torch.int64).random_(generator=generator)  # as DataLoader's shuffle does before the first
        yield from torch.randperm(self.count, generator=generator).tolist()

"""How batches are formed: by one rule for the whole job, so that every number of processes sees the same batches.

A batch's content decides the last bits of what a model computes on it. Batches are therefore formed over all items,
before anything is dealt to processes, and whole batches are dealt.
"""

from collections.abc import Hashable, Sequence
from typing import TypeVar

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

"""Tokens to be scored, gathered over batches until running the output head pays off.

Shapes: B rows of a batch, T positions, H hidden size.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from mlprune.evaluation.forward import Scorer

HEAD_ROWS = 512  # positions that go to the output head together

Key = tuple[Hashable, int, int]  # what predicts a token (such as a node and a position in it), and the token


Item = TypeVar("Item", bound=Hashable)


class Scored(NamedTuple):
    """The log-probability of tokens, and whether each is the likeliest at its position.

    Args:
        log_prob: Natural logarithm, summed.
        is_greedy: Whether greedy search would generate these tokens; always true if that was not requested.
    """

    log_prob: float = 0.0
    is_greedy: bool = True


class Targets:
    """Gathers hidden states and their targets, and scores them.

    Args:
        scorer: The model's.
        find_likeliest: Whether to also determine the likeliest tokens.
    """

    def __init__(self, scorer: Scorer, find_likeliest: bool) -> None:
        self.scorer = scorer
        self.find_likeliest = find_likeliest
        self._scored: list[tuple[list[Key], Tensor, Tensor]] = []
        self._forget_gathered()

    def _forget_gathered(self) -> None:
        self._keys: list[Key] = []
        self._rows: list[int] = []
        self._hidden: list[Tensor] = []
        self._size = 0

    def add(self, hidden: Tensor, places: list[tuple[int, int]], keys: list[list[Key]]) -> None:
        """Add positions of a batch.

        Args:
            hidden: What the output head would receive, (B, T, H).
            places: Row and position of each.
            keys: For each the keys of its targets; the last part of a key is the token.
        """
        if places:
            self._hidden.append(hidden[[row for row, _ in places], [column for _, column in places]])
        for at, targets in enumerate(keys, start=self._size):
            self._keys += targets
            self._rows += [at] * len(targets)
        self._size += len(places)
        if self._size >= HEAD_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Score what was gathered; nothing is read from the device yet, as that would wait for it."""
        if self._keys:
            hidden = torch.cat(self._hidden)
            rows = torch.tensor(self._rows, device=hidden.device)
            targets = torch.tensor([target for _, _, target in self._keys], device=hidden.device)
            likeliest = rows.new_zeros(len(hidden)) if self.find_likeliest else None
            found = self.scorer.log_probs(hidden, rows, targets, likeliest)
            greedy = torch.ones_like(targets, dtype=torch.bool) if likeliest is None else likeliest[rows] == targets
            self._scored.append((self._keys, found, greedy))
        self._forget_gathered()

    def take(self, keys: Mapping[Item, Sequence[Key]]) -> Iterator[tuple[Item, Scored]]:
        """Score what was gathered; yield the sum over each item's keys, and forget all values."""
        self._flush()
        values = self._read()
        for i, members in keys.items():
            found = [values[key] for key in members]
            yield i, Scored(sum(value.log_prob for value in found), all(value.is_greedy for value in found))

    def _read(self) -> dict[Key, Scored]:
        """Read all values from the device at once, and forget them there."""
        scored, self._scored = self._scored, []
        if not scored:
            return {}
        log_probs = torch.cat([found for _, found, _ in scored]).tolist()
        greedy = torch.cat([likeliest for _, _, likeliest in scored]).tolist()
        keys = (key for part, _, _ in scored for key in part)
        return {key: Scored(*value) for key, value in zip(keys, zip(log_probs, greedy, strict=True), strict=True)}

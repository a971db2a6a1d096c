"""Passes side by side: each block is made whole once for all, and no pass is left open when one fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
import torch

from mlprune.distributed import PeerGone
from mlprune.evaluation.marks import marking, watched_marks
from mlprune.models.abreast import run_abreast, stop_at


class Blocks:
    """Three blocks, of which it is noted how often each was made whole."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.made: list[int] = []
        self.fails_at = fails_at

    @contextmanager
    def whole(self, position: int) -> Iterator[None]:
        if position == self.fails_at:
            raise PeerGone("gone")
        self.made.append(position)
        yield


def walk(times: int, ends: list[int], error: Exception | None = None) -> Callable[[], int]:
    """A call of so many passes."""

    def call() -> int:
        try:
            for _ in range(times):
                for position in range(3):
                    assert stop_at(position)
                if error is not None:
                    raise error
        finally:
            ends.append(times)
        return times

    return call


def test_a_block_is_made_whole_once_for_all_that_stand_there() -> None:
    blocks = Blocks()
    assert run_abreast([walk(1, []), walk(2, []), walk(1, []), lambda: 0], blocks.whole) == [1, 2, 1, 0]
    assert blocks.made == [0, 1, 2, 0, 1, 2]


def test_an_error_ends_all() -> None:
    ends: list[int] = []
    with pytest.raises(ValueError, match="second"):
        run_abreast([walk(2, ends), walk(1, ends, ValueError("second")), walk(3, ends)], Blocks().whole)
    assert sorted(ends) == [1, 2, 3]


def test_all_end_when_a_block_cannot_be_made_whole() -> None:
    ends: list[int] = []
    with pytest.raises(PeerGone):
        run_abreast([walk(1, ends), walk(2, ends)], Blocks(fails_at=1).whole)
    assert sorted(ends) == [1, 2]


def test_each_pass_has_marks_of_its_own() -> None:
    """What interventions read belongs to the pass that asks, also where another began after it."""
    model, seen = torch.nn.Linear(1, 1), []

    def walk(tokens: torch.Tensor) -> None:
        with marking(model, tokens):
            for position in range(2):
                stop_at(position)
                seen.append((position, marks.tokens is tokens))

    with watched_marks(model) as marks:
        calls = [partial(walk, torch.ones(1, length, dtype=torch.bool)) for length in (2, 3)]
        run_abreast(calls, lambda position: nullcontext())
        assert marks.tokens is None
    assert seen == [(0, True), (0, True), (1, True), (1, True)]

"""Which tokens of each candidate are scored."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlprune.evaluation.options import Scoring


@dataclass(frozen=True)
class Span:
    """The tokens of a candidate whose log-probabilities are summed: those from ``start`` on.

    Args:
        example: Position of the example.
        candidate: Position of the candidate in it.
        ids: All its token ids.
        start: Position of the first scored token.
        divisor: What the sum is divided by.
    """

    example: int
    candidate: int
    ids: tuple[int, ...]
    start: int
    divisor: int


def spans_of(ids: Sequence[Sequence[Sequence[int]]], first: Sequence[Sequence[int]], scoring: Scoring) -> list[Span]:
    """Return the span of every candidate, in order.

    Args:
        ids: For each example its candidates' token ids.
        first: For each candidate how many of its first tokens are given.
        scoring: How they are scored.

    Example:
        >>> [span.start for span in spans_of([[[1, 2, 3], [1, 2, 4]]], [[1, 1]], Scoring(ranking_only=True))]
        [2, 2]
    """
    spans = []
    for i, (example, starts) in enumerate(zip(ids, first, strict=True)):
        divisors = [scoring.divisor(len(c), start) for c, start in zip(example, starts, strict=True)]
        alike = len(example) > 1 and len(set(starts)) == len(set(divisors)) == 1
        skip = _common(example) if scoring.ranking_only and alike else 0
        for j, (candidate, start) in enumerate(zip(example, starts, strict=True)):
            spans.append(Span(i, j, tuple(candidate), max(start, skip), divisors[j]))
    return spans


def _common(example: Sequence[Sequence[int]]) -> int:
    """Return how many leading tokens all candidates share."""
    low, high = min(map(list, example)), max(map(list, example))
    return next((t for t, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))

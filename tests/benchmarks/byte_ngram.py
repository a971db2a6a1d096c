"""Interpolated n-grams of bytes: what a trained model has to beat before it is worth asking anything."""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

Smoothing = list[tuple[float, float]]  # discount and strength, order by order from 1
CHOICES = tuple(itertools.product(np.linspace(0.0, 0.95, 20).tolist(), (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)))


def counts(texts: Sequence[str], asked: Sequence[str], order: int) -> np.ndarray:
    """Return how often each byte asked was seen, how often its context, and how many kinds there: (order, 3, bytes).

    A text begins and ends with zero bytes, which none holds.
    """
    found = []
    for n in range(1, order + 1):
        start = bytes(n - 1)
        seen = Counter(gram for text in texts for gram in _grams(start + text.encode() + b"\0", n))
        contexts, kinds = Counter[bytes](), Counter[bytes]()
        for gram, count in seen.items():
            contexts[gram[:-1]] += count
            kinds[gram[:-1]] += 1
        grams = [gram for text in asked for gram in _grams(start + text.encode(), n)]
        found.append([[seen[gram], contexts[gram[:-1]], kinds[gram[:-1]]] for gram in grams])
    return np.array(found, dtype=np.float64).transpose(0, 2, 1)


def _grams(text: bytes, n: int) -> list[bytes]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def bits(counted: np.ndarray, smoothing: Smoothing) -> float:
    """Return bits for a byte, each order interpolated with the one below it, the lowest with all bytes alike.

    A discount is taken from each count, a strength added to each context's, and both go to the order below: absolute
    discounting and Dirichlet smoothing in one.

    Args:
        counted: Those of :func:`counts`.
        smoothing: Discount and strength of each order.
    """
    p = np.full(counted.shape[-1], 1 / 256)
    for (seen, context, kinds), (discount, strength) in zip(counted, smoothing, strict=True):
        p = (np.maximum(seen - discount, 0) + (strength + discount * kinds) * p) / (context + strength)
    return float(-np.log2(p).mean())


def fitted(counted: np.ndarray) -> Smoothing:
    """Return the smoothing of fewest bits, each order chosen in turn, twice."""
    best: Smoothing = [(0.5, 1.0)] * len(counted)
    for n in (*range(len(counted)), *range(len(counted))):
        tried = [[*best[:n], choice, *best[n + 1 :]] for choice in CHOICES]
        best = min(tried, key=lambda smoothing: bits(counted, smoothing))
    return best

"""Sums over tokens that are exact in float64, or carry the rounding error where a device has none.

Shapes: x (tokens, in_features).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mlprune.exact import accumulator_dtype, full_float32
from mlprune.pruning.chunks import chunk_rows

CHUNK_VALUES = 2**17  # a float64 copy of a chunk fits in the CPU cache
CHUNK_TOKENS = 256  # at most, on a CPU
GRAM_CHUNK_TOKENS = 1024  # a product over this many tokens is exact enough in float32


class Sum:
    """A running sum: float64 where the device has it, else float32 with the rounding error carried along.

    Args:
        total: The sum so far; changed in place.
        lost: Accumulated rounding error (Kahan); None for float64, which does not need it.

    Example:
        >>> small = Sum(torch.zeros((), dtype=torch.float32), torch.zeros((), dtype=torch.float32))
        >>> for value in [1.0, *[3e-8] * 100]:
        ...     small.add(torch.tensor(value))
        >>> float(small.total) > 1.0
        True
    """

    def __init__(self, total: Tensor, lost: Tensor | None) -> None:
        self.total = total
        self.lost = lost

    @classmethod
    def zeros(cls, shape: tuple[int, ...], device: torch.device) -> "Sum":
        """Start a sum in the most exact dtype of the device."""
        total = torch.zeros(shape, dtype=accumulator_dtype(device), device=device)
        return cls(total, None if total.dtype == torch.float64 else torch.zeros_like(total))

    def first(self, count: int) -> "Sum":
        """A view of the first ``count`` sums."""
        return Sum(self.total[:count], None if self.lost is None else self.lost[:count])

    def add_square(self, value: Tensor) -> None:
        """Add the square of a value of the sum's dtype, in one pass where nothing is carried along."""
        if self.lost is None:
            self.total.addcmul_(value, value)
        else:
            self.add(value * value)

    def add(self, value: Tensor) -> None:
        """Add a value."""
        if self.lost is None:
            self.total += value
            return
        corrected = value.to(self.total.dtype) - self.lost
        grown = self.total + corrected
        self.lost.copy_((grown - self.total) - corrected)
        self.total.copy_(grown)


def spans(mask: Tensor) -> list[slice]:
    """Return the runs of tokens that count, so that padding is left out without a copy of the rest.

    Args:
        mask: bool (tokens,).

    Example:
        >>> spans(torch.tensor([False, True, True, False, True]))
        [slice(1, 3, None), slice(4, 5, None)]
    """
    edge = mask.new_zeros(1)
    edges = torch.cat([edge, mask]) != torch.cat([mask, edge])
    return [slice(start, stop) for start, stop in edges.nonzero().reshape(-1, 2).tolist()]


def sum_of_squares(x: Tensor, where: list[slice] | None = None) -> Tensor:
    """Return the sum of squares of every feature over tokens, summed in float64 without a float64 copy of ``x``.

    Args:
        x: (tokens, in_features).
        where: The tokens that count (:func:`spans`); all if omitted.

    Example:
        >>> sum_of_squares(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
        tensor([10.,  4.], dtype=torch.float64)
    """
    size = min(chunk_rows(x, CHUNK_VALUES), _chunk_tokens(x), len(x))
    result = Sum.zeros((size, x.shape[-1]), x.device)  # a sum for each place in a chunk: chunks are added whole
    exact = torch.empty_like(result.total)
    for chunk in _chunks(x, where, size):
        result.first(len(chunk)).add_square(exact[: len(chunk)].copy_(chunk))
    return result.total.sum(0)


def sum_of_inputs(x: Tensor, where: list[slice] | None = None) -> Tensor:
    """Return the sum of every feature over tokens.

    Args:
        x: (tokens, in_features).
        where: The tokens that count; all if omitted.

    Example:
        >>> sum_of_inputs(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
        tensor([4., 2.], dtype=torch.float64)
    """
    result = Sum.zeros((x.shape[-1],), x.device)
    for chunk in _chunks(x, where, _chunk_tokens(x)):
        result.add(chunk.sum(0, dtype=result.total.dtype))
    return result.total


def sum_of_outer_products(x: Tensor, where: list[slice] | None = None) -> Tensor:
    """Return the sum over tokens of ``x x^T``, (in_features, in_features): float32 products summed in float64.

    Args:
        x: (tokens, in_features).
        where: The tokens that count; all if omitted.

    Example:
        >>> sum_of_outer_products(torch.tensor([[1.0, 2.0]]))
        tensor([[1., 2.],
                [2., 4.]], dtype=torch.float64)
    """
    result = Sum.zeros((x.shape[-1], x.shape[-1]), x.device)
    with full_float32():
        for chunk in _chunks(x, where, GRAM_CHUNK_TOKENS):
            product = chunk if chunk.dtype == torch.float64 else chunk.float()
            result.add(product.T @ product)
    return result.total


def count_above(threshold: float, absolute: bool, x: Tensor, where: list[slice] | None = None) -> Tensor:
    """Return the number of tokens at which every feature is above a threshold.

    Args:
        threshold: The threshold.
        absolute: Whether the sign does not matter.
        x: (tokens, in_features).
        where: The tokens that count; all if omitted.

    Example:
        >>> count_above(1.5, True, torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
        tensor([1., 2.], dtype=torch.float64)
    """
    result = torch.zeros(x.shape[-1], dtype=accumulator_dtype(x.device), device=x.device)
    for chunk in _chunks(x, where, _chunk_tokens(x)):
        result += ((chunk.abs() if absolute else chunk) > threshold).sum(0)
    return result


def _chunk_tokens(x: Tensor) -> int:
    return chunk_rows(x, CHUNK_TOKENS * x.shape[-1])


def _chunks(x: Tensor, where: list[slice] | None, size: int) -> Iterator[Tensor]:
    for part in [slice(None)] if where is None else where:
        if len(x[part]):
            yield from x[part].split(size)

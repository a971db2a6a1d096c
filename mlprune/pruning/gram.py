"""Gram matrices as solvers take them: every input scaled to norm 1.

Shapes: gram (in_features, in_features); norms (in_features,).
"""

import torch
from torch import Tensor

from mlprune.exact import accumulator_dtype

SMALLEST_NORM = 1e-8  # of an input, relative to the largest, so that nothing is divided by zero


def normalized(gram: Tensor, damping: float = 0.0) -> tuple[Tensor, Tensor]:
    """Scale a Gram matrix to a diagonal of 1.

    Args:
        gram: (in_features, in_features), mean of ``x x^T``; not all zeros.
        damping: Share of the mean diagonal that is added to the diagonal first. Inputs that are always zero get none,
            so that they are pruned before all others.

    Returns:
        The scaled matrix, in the most exact dtype, and in float32 the norms of the inputs, the largest being 1. A
        weight matrix times the norms has the same outputs, but for one factor, on the scaled inputs.

    Example:
        >>> scaled, norms = normalized(torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
        >>> scaled
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]], dtype=torch.float64)
        >>> norms
        tensor([1.0000, 0.5000])
    """
    scaled = gram.to(accumulator_dtype(gram.device), copy=True)
    diagonal = scaled.diagonal()
    diagonal += damping * diagonal.mean() * (diagonal > 0)
    norms = diagonal.sqrt()
    norms = norms.clamp(min=SMALLEST_NORM * float(norms.max()))
    scaled /= norms[:, None]
    scaled /= norms
    return scaled, (norms / norms.max()).float()


def restored(scaled: Tensor, norms: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return pruned weights for the inputs as they are, from weights for inputs of norm 1.

    Args:
        scaled: (out_features, in_features), float32.
        norms: From :func:`normalized`.
        mask: bool, True = kept; the others become zero.
        dtype: Dtype of the result; values beyond its range become its largest.

    Example:
        >>> restored(torch.tensor([[2.0, 3.0]]), torch.tensor([1.0, 0.5]), torch.tensor([[False, True]]), torch.float16)
        tensor([[0., 6.]], dtype=torch.float16)
    """
    largest = torch.finfo(dtype).max
    return (scaled / norms).clamp_(-largest, largest).masked_fill_(~mask, 0).to(dtype)

"""Moments of a layer's inputs by prompt, and statistics that are gathered side by side.

Shapes: x (tokens of one prompt, in_features); moments (4, in_features).
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.exact import accumulator_dtype
from mlprune.pruning.chunks import chunk_rows
from mlprune.pruning.statistics import ENERGY, Statistic
from mlprune.pruning.sums import CHUNK_VALUES, sum_of_inputs, sum_of_squares

ROWS = 4


def prompt_moments(x: Tensor, where: list[slice] | None = None) -> Tensor:
    """Return the moments of one prompt's inputs: sum of squares, sum, population variance, and 1.

    Args:
        x: (tokens, in_features), of one prompt.
        where: The tokens that count; all if omitted.

    Example:
        >>> prompt_moments(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
        tensor([[10.,  8.],
                [ 4.,  4.],
                [ 1.,  0.],
                [ 1.,  1.]], dtype=torch.float64)
    """
    tokens = x if where is None else torch.cat([x[part] for part in where])
    found = []
    for columns in tokens.split(chunk_rows(tokens.T, CHUNK_VALUES), dim=1):
        exact = columns.to(accumulator_dtype(x.device))
        variance = exact.var(0, correction=0)
        found.append(torch.stack([exact.square().sum(0), exact.sum(0), variance, torch.ones_like(variance)]))
    return torch.cat(found, dim=1)


class PromptMoments(Statistic):
    """Sums of squares, sums, variances within prompts, and number of prompts: all per token, so that means add up."""

    @override
    def shape(self, in_features: int) -> tuple[int, ...]:
        return ROWS, in_features

    @override
    def energy(self, mean: Tensor) -> Tensor:
        return mean[..., 0, :]


PROMPT_MOMENTS = PromptMoments("moments of prompts", prompt_moments, 2, is_stored=False, by_prompt=True)


def sum_and_variance(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum over a prompt's tokens and the variance within a prompt, both as means over prompts.

    Args:
        moments: (4, in_features), pooled.

    Example:
        >>> sum_and_variance(prompt_moments(torch.tensor([[1.0, 2.0], [3.0, 2.0]])) / 2)
        (tensor([4., 4.], dtype=torch.float64), tensor([1., 0.], dtype=torch.float64))
    """
    return moments[1] / moments[3], moments[2] / moments[3]


def token_moments(x: Tensor, where: list[slice] | None = None) -> Tensor:
    """Return the sums over tokens of the squares of the inputs, and of the inputs.

    Args:
        x: (tokens, in_features).
        where: The tokens that count; all if omitted.

    Example:
        >>> token_moments(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
        tensor([[10.,  8.],
                [ 4.,  4.]], dtype=torch.float64)
    """
    return torch.stack([sum_of_squares(x, where), sum_of_inputs(x, where)])


class TokenMoments(Statistic):
    """Mean squares and means of the inputs."""

    @override
    def shape(self, in_features: int) -> tuple[int, ...]:
        return 2, in_features

    @override
    def energy(self, mean: Tensor) -> Tensor:
        return mean[..., 0, :]


TOKEN_MOMENTS = TokenMoments("moments of inputs", token_moments, 2, is_stored=False)


def variance_of(moments: Tensor) -> Tensor:
    """Return the variance over tokens.

    Args:
        moments: (2, in_features), mean squares and means.

    Example:
        >>> variance_of(torch.tensor([[5.0, 4.0], [2.0, 2.0]]))
        tensor([1., 0.])
    """
    return (moments[..., 0, :] - moments[..., 1, :].square()).clamp(min=0)


@dataclass(frozen=True)
class Joined(Statistic):
    """Several statistics gathered together, their rows below one another; :func:`joined` makes one.

    Args:
        parts: The statistics.
    """

    parts: tuple[Statistic, ...] = ()

    @override
    def shape(self, in_features: int) -> tuple[int, ...]:
        return sum(_rows(part, in_features) for part in self.parts), in_features

    @override
    def energy(self, mean: Tensor) -> Tensor:
        return self.part(mean, ENERGY)

    @override
    def includes(self, wanted: Statistic) -> bool:
        return wanted == self or any(part.includes(wanted) for part in self.parts)

    @override
    def part(self, mean: Tensor, wanted: Statistic) -> Tensor:
        if wanted == self:
            return mean
        start, in_features = 0, mean.shape[-1]
        for part in self.parts:
            rows = _rows(part, in_features)
            if part.includes(wanted):
                selected = mean[..., start : start + rows, :].reshape(*mean.shape[:-2], *part.shape(in_features))
                return part.part(selected, wanted)
            start += rows
        raise ValueError(f"{self.name}: there are no {wanted.name}")


def joined(*parts: Statistic) -> Statistic:
    """Return a statistic that gathers several.

    Raises:
        UserError: If one of them is not of single layers.

    Example:
        >>> from mlprune.pruning import GRAM
        >>> both = joined(PROMPT_MOMENTS, GRAM)
        >>> both.name, both.shape(3)
        ('moments of prompts and Gram matrices', (7, 3))
        >>> both.part(both.total(torch.tensor([[1.0, 2.0]]), None), GRAM)
        tensor([[1., 2.],
                [2., 4.]], dtype=torch.float64)
    """
    if (other := next((part for part in parts if part.scope != "layer"), None)) is not None:
        raise UserError(f"{other.name} are not gathered beside other statistics; use their score by itself")
    name = " and ".join(part.name for part in parts)
    by_prompt = any(part.by_prompt for part in parts)
    return Joined(name, partial(_totals, parts), 2, is_stored=False, by_prompt=by_prompt, parts=parts)


def _totals(parts: tuple[Statistic, ...], x: Tensor, where: list[slice] | None) -> Tensor:
    return torch.cat([part.total(x, where).reshape(-1, x.shape[-1]) for part in parts])


def _rows(statistic: Statistic, in_features: int) -> int:
    return math.prod(statistic.shape(in_features)[:-1])

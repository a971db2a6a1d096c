"""Selection by successive halving: all recipes on a few rows, the better half on twice as many, and so on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlprune.metrics.additive import Array

FEWEST = 16  # rows of the first round, if there are as many


@dataclass(frozen=True)
class Round:
    """One round of the selection.

    Args:
        recipes: How many recipes enter it.
        rows: How many rows they have been evaluated on at its end, those of earlier rounds included.
    """

    recipes: int
    rows: int


def rounds(num_recipes: int, num_rows: int, top: int) -> list[Round]:
    """Return the rounds that lead from all recipes to the chosen ones; the last one is on all rows.

    Source: Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization".

    Args:
        num_recipes: How many recipes there are.
        num_rows: How many selection rows there are.
        top: How many are chosen.

    Example:
        >>> rounds(20, 100, 3)
        [Round(recipes=20, rows=25), Round(recipes=10, rows=50), Round(recipes=5, rows=100)]
        >>> rounds(2, 100, 3)
        [Round(recipes=2, rows=100)]
    """
    halvings = max(math.ceil(math.log2(num_recipes / top)), 1) if num_recipes > top else 1
    while halvings > 1 and num_rows >> (halvings - 1) < FEWEST:
        halvings -= 1
    return [
        Round(min(num_recipes, max(math.ceil(num_recipes / 2**place), top)), num_rows >> (halvings - 1 - place))
        for place in range(halvings)
    ]


def best(gains: Mapping[str, float], count: int) -> list[str]:
    """Return the names of the highest gains, highest first; of equals the earlier, and NaN last.

    Example:
        >>> best({"a": 0.1, "b": float("nan"), "c": 0.3, "d": 0.1}, 3)
        ['c', 'a', 'd']
    """
    names = list(gains)
    order = np.argsort([-gains[name] for name in names], kind="stable")
    return [names[i] for i in order[:count]]


def select(gains: Mapping[str, Array], top: int) -> list[str]:
    """Return the recipes that successive halving chooses, best first, given what it would see.

    Args:
        gains: Recipe to its gain on each selection row, (rows,), in the order in which rows are evaluated.
        top: How many are chosen.

    Example:
        >>> gains = {f"recipe {i}": np.full(64, float(i)) for i in range(8)}
        >>> select(gains, 2)
        ['recipe 7', 'recipe 6']
    """
    left: Sequence[str] = list(gains)
    plan = rounds(len(left), len(next(iter(gains.values()))), top)
    for step, following in zip(plan, [*plan[1:], Round(top, 0)], strict=True):
        left = best({name: float(gains[name][: step.rows].mean()) for name in left}, following.recipes)
    return list(left)

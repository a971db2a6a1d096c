"""Choices among labels whose scores are shifted by constants, and where such shifts change them.

Shapes: n examples, k labels. Constants are (k,). Choices are positions of labels, (n,).
"""

import numpy as np
from numpy.typing import NDArray

from mlprune.metrics.additive import Array

Choices = NDArray[np.int64]
SAME = 1e-9  # relative: margins that are equal but for rounding


def choose(scores: Array, constants: Array, chosen: Choices) -> Choices:
    """Return the labels with the highest scores once constants are added; of equal ones the system's own choice.

    Args:
        scores: (n, k).
        constants: (k,).
        chosen: What the system chose without constants, (n,).

    Example:
        >>> choose(np.array([[0.0, -1.0], [0.0, -3.0], [0.0, -2.0]]), np.array([0.0, 2.0]), np.zeros(3, int)).tolist()
        [1, 0, 0]
    """
    shifted = scores + constants
    kept = shifted[np.arange(len(scores)), chosen] == shifted.max(1, initial=-np.inf)
    return np.where(kept, chosen, shifted.argmax(1)).astype(np.int64)


def cuts(margins: Array) -> tuple[Array, Choices]:
    """Return the values that cut sorted margins in two, and how many margins lie below each.

    They are halfway between neighbors, or half the mean distance of neighbors outside; margins that differ by nothing
    but rounding are not cut.

    Example:
        >>> cuts(np.array([1.0, 1.0, 2.0]))
        (array([0.5, 1.5, 2.5]), array([0, 2, 3]))
    """
    if not len(margins):
        return np.zeros(1), np.zeros(1, np.int64)
    apart = np.diff(margins) > SAME * np.abs(margins).max()
    below = np.concatenate([[0], np.flatnonzero(apart) + 1, [len(margins)]])
    beyond = 0.5 * float((margins[-1] - margins[0]) / apart.sum()) if apart.any() else 0.5
    between = (margins[1:][apart] + margins[:-1][apart]) / 2
    return np.concatenate([[margins[0] - beyond], between, [margins[-1] + beyond]]), below


def size(constants: Array) -> float:
    """Return how far constants shift labels against each other.

    Example:
        >>> size(np.array([0.0, 1.0, -0.5]))
        1.5
    """
    return float(np.ptp(constants))

"""Constants of highest accuracy: the most that a shift of labels alone can give.

Shapes: n examples, k labels.
"""

import numpy as np

from mlprune.comparison.choices import Choices, choose, cuts, size
from mlprune.comparison.matching import matched_constants
from mlprune.metrics.additive import Array

MOST_ROUNDS = 50


def fitted_constants(scores: Array, chosen: Choices, right: Choices) -> Array:
    """Return the constants that give the highest accuracy; of equally good ones the smallest.

    One label's constant after another is set to the best value, halfway between two neighboring margins at which
    choices change, until none gains. With two labels that is the highest accuracy there is; with more, a label at a
    time can miss it, so that the search starts from zero and from the constants that choose labels as often as they
    are right, and the better end counts.

    Args:
        scores: (n, k).
        chosen: What the system chose, (n,).
        right: The right labels, (n,); -1 where it is none of them.

    Example:
        >>> scores = np.array([[0.0, -1.0], [0.0, -2.0], [0.0, -3.0]])
        >>> fitted_constants(scores, np.zeros(3, int), np.array([1, 0, 0])).tolist()
        [0.0, 1.5]
    """
    num_labels = scores.shape[1]
    start = np.zeros(num_labels)
    ends = [_ascended(scores, chosen, right, start)]
    if num_labels > 2 and (right >= 0).all():
        ends.append(
            _ascended(
                scores, chosen, right, matched_constants(scores, chosen, np.bincount(right, minlength=num_labels))
            )
        )
    hits = [int((choose(scores, constants, chosen) == right).sum()) for constants in ends]
    best = min(range(len(ends)), key=lambda i: (-hits[i], size(ends[i])))
    found: Array = ends[best] - ends[best][0] + 0.0  # which makes 0.0 of -0.0
    return found


def _ascended(scores: Array, chosen: Choices, right: Choices, constants: Array) -> Array:
    """The constants where no change of a single one gives more right answers, or as many with smaller constants."""
    labels = range(1, 2) if len(constants) == 2 else range(len(constants))
    hits = int((choose(scores, constants, chosen) == right).sum())
    for _ in range(MOST_ROUNDS):
        before = (-hits, size(constants))
        for label in labels:
            hits, constants = _best_for(scores, right, constants, label, hits)
        if (-hits, size(constants)) >= before:
            break
    return constants


def _best_for(scores: Array, right: Choices, constants: Array, label: int, hits: int) -> tuple[int, Array]:
    """The most right answers that one label's constant can give, and the constants; as given where none is better."""
    shifted = scores + constants
    shifted[:, label] = -np.inf
    other = shifted.argmax(1)
    margins = shifted[np.arange(len(scores)), other] - scores[:, label]
    order = np.argsort(margins, kind="stable")
    steps, won = cuts(margins[order])
    gained = np.pad((right[order] == label).cumsum(), (1, 0))
    lost = np.pad((right[order] == other[order]).cumsum(), (1, 0))
    found = (gained - lost)[won] + lost[-1]
    moved = np.tile(constants, (len(steps), 1))
    moved[:, label] = steps
    sizes = np.ptp(moved, axis=1)
    best = min(np.flatnonzero(found == found.max()), key=lambda i: sizes[i])
    better = (-int(found[best]), sizes[best]) < (-hits, size(constants))
    return (int(found[best]), moved[best]) if better else (hits, constants)

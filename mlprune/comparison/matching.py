"""Constants with which labels are chosen as often as wanted: the transportation problem of examples and labels.

Shapes: n examples, k labels.
"""

import numpy as np

from mlprune.comparison.choices import Choices, choose, cuts, size
from mlprune.metrics.additive import Array

MOST_STEPS = 50


def matched_constants(scores: Array, chosen: Choices, counts: Choices) -> Array:
    """Return the constants with which every label is chosen as often as wanted; no right answers are needed.

    First, all labels that are chosen too rarely are raised together, until together they are chosen as often as they
    should be; repeated while that helps. Each step goes to the lowest point, along the steepest direction, of the sum
    over examples of the highest shifted score, less the constants weighted by the wanted counts. With two labels one
    step suffices. With more a few examples may still be missing; they are moved along chains of labels, those that cost
    least first, which is exact, and the constants are taken from the middle of those that give these choices. Where
    examples with equal scores make the counts unreachable, the closest that were seen remain. Zero where the counts
    are reached already.

    Sources: Murota and Shioura 2014, "Exact Bounds for Steepest Descent Algorithms of L-Convex Function Minimization";
    Ahuja, Magnanti and Orlin 1993, "Network Flows" (successive shortest paths).

    Args:
        scores: (n, k).
        chosen: What the system chose, (n,).
        counts: How often each label is to be chosen, (k,); they add up to n.

    Example:
        >>> scores = np.array([[0.0, -1.0], [0.0, -2.0], [0.0, -3.0]])
        >>> matched_constants(scores, np.zeros(3, int), np.array([1, 2])).tolist()
        [0.0, 2.5]
    """
    best = descended = np.zeros(scores.shape[1])
    for _ in range(MOST_STEPS):
        missing = _missing(scores, descended, chosen, counts)
        if not missing.any():
            break
        descended = _raised(scores, descended, chosen, missing)
        best = min(best, descended, key=lambda found: _rank(scores, found, chosen, counts))
    if len(counts) > 2 and _missing(scores, best, chosen, counts).any():
        moved = _assigned(scores, choose(scores, best, chosen), counts)
        best = min(best, _between(scores, moved), key=lambda found: _rank(scores, found, chosen, counts))
    found: Array = best - best[0] + 0.0  # which makes 0.0 of -0.0
    return found


def _missing(scores: Array, constants: Array, chosen: Choices, counts: Choices) -> Choices:
    """How many choices each label lacks, (k,); they add up to zero."""
    lacking: Choices = counts - np.bincount(choose(scores, constants, chosen), minlength=len(counts))
    return lacking


def _rank(scores: Array, constants: Array, chosen: Choices, counts: Choices) -> tuple[int, float]:
    """By how many choices the counts are missed, and the constants' size; the smaller the better."""
    return int(np.abs(_missing(scores, constants, chosen, counts)).sum()), size(constants)


def _raised(scores: Array, constants: Array, chosen: Choices, missing: Choices) -> Array:
    """The constants once the labels that are chosen too rarely are raised together."""
    rare = missing > 0
    shifted = (scores + constants)[~rare[choose(scores, constants, chosen)]]
    steps, won = cuts(np.sort(shifted[:, ~rare].max(1) - shifted[:, rare].max(1)))
    closest = np.abs(won[1:] - missing[rare].sum()).argmin() + 1  # the first cut raises nothing
    raised: Array = constants + rare * steps[closest]
    return raised


def _costs(scores: Array, chosen: Choices) -> tuple[Array, Choices]:
    """What moving one example from a label to another costs at least, and which example, (k, k)."""
    num_labels = scores.shape[1]
    costs, which = np.full((num_labels, num_labels), np.inf), np.zeros((num_labels, num_labels), np.int64)
    for label in range(num_labels):
        rows = np.flatnonzero(chosen == label)
        if len(rows):
            lost = scores[rows, label][:, None] - scores[rows]
            costs[label], which[label] = lost.min(0), rows[lost.argmin(0)]
    return costs, which


def _assigned(scores: Array, chosen: Choices, counts: Choices) -> Choices:
    """The choices of highest total score with the wanted counts, from choices that are best for their own counts."""
    chosen = chosen.copy()
    while (missing := counts - np.bincount(chosen, minlength=len(counts))).any():
        costs, which = _costs(scores, chosen)
        distance, before = np.where(missing < 0, 0.0, np.inf), np.full(len(counts), -1)
        for _ in counts:  # Bellman and Ford, from all labels that are chosen too often
            through = distance[:, None] + costs
            nearest, shorter = through.argmin(0), through.min(0) < distance - 1e-12
            distance, before = np.where(shorter, through.min(0), distance), np.where(shorter, nearest, before)
        label = int(np.where(missing > 0, distance, np.inf).argmin())
        while before[label] >= 0:
            chosen[which[before[label], label]] = label
            label = int(before[label])
    return chosen


def _between(scores: Array, chosen: Choices) -> Array:
    """Constants in the middle of those that give such choices.

    They are the mean, over labels, of the highest constants that the others can have against that one.
    """
    costs, _ = _costs(scores, chosen)
    used = np.isfinite(costs).any(1)
    for label in np.flatnonzero(used):  # Floyd and Warshall
        costs = np.minimum(costs, costs[:, [label]] + costs[[label]])
    constants: Array = costs[used].mean(0)
    constants[~used] -= size(constants) + 1.0  # no example may choose these
    return constants

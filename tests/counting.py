"""How work grows with its size, by counted function calls, which no busy machine changes."""

import cProfile
import pstats
from collections.abc import Callable


def calls_of(work: Callable[[], object]) -> int:
    """Return how many Python and C functions a piece of work calls."""
    profile = cProfile.Profile()
    profile.runcall(work)
    found: int = vars(pstats.Stats(profile))["total_calls"]
    return found


def growth(work: Callable[[int], object], size: int) -> float:
    """Return how many times as many calls the step from 2 to 4 times a size adds as that from 1 to 2 times it.

    Twice as many is linear, 4 times as many quadratic; what does not depend on the size drops out.
    """
    work(size)  # what is done once
    one, two, four = (calls_of(lambda count=count: work(count)) for count in (size, 2 * size, 4 * size))
    return (four - two) / (two - one)

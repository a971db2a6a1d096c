"""Is the difference real: paired tests on per-example results, with intervals, and corrections for many languages."""

import numpy as np
from scipy.stats import binomtest

NUM_RESAMPLES = 1000


def mcnemar_exact(a: np.ndarray, b: np.ndarray) -> float:
    """Return the exact two-sided McNemar p value of two systems on the same examples.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages".

    Args:
        a: bool (n,), whether the first system was right.
        b: bool (n,), the second.

    Example:
        >>> mcnemar_exact(np.array([1, 1, 0, 0], bool), np.array([1, 1, 1, 1], bool))
        0.5
    """
    lost, won = int((a & ~b).sum()), int((~a & b).sum())
    return 1.0 if lost + won == 0 else float(binomtest(won, lost + won, 0.5).pvalue)


def paired_bootstrap(difference: np.ndarray, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> tuple[float, float]:
    """Return the 95% percentile interval of a mean paired difference.

    Args:
        difference: float (n,), second minus first system, one an example.
        seed: Seed of the resampling.
        num_resamples: How many resamples (1,000 in the paper).

    Example:
        >>> paired_bootstrap(np.array([0.0, 1.0, 1.0, 0.0]))
        (0.0, 1.0)
    """
    picks = np.random.default_rng(seed).integers(0, len(difference), size=(num_resamples, len(difference)))
    low, high = np.percentile(difference[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)


def stratified_bootstrap(differences: list[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """Return the 95% interval of the unweighted average over languages; each language is resampled by itself.

    Args:
        differences: For each language its paired differences.
        seed: Seed of the resampling.

    Example:
        >>> stratified_bootstrap([np.zeros(4), np.zeros(4)])
        (0.0, 0.0)
    """
    generator = np.random.default_rng(seed)
    means = [
        difference[generator.integers(0, len(difference), size=(NUM_RESAMPLES, len(difference)))].mean(1)
        for difference in differences
    ]
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return float(low), float(high)


def holm(p_values: list[float]) -> list[float]:
    """Return p values corrected for a family of tests.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = running
    return corrected

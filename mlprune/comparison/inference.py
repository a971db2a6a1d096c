"""Intervals and p values of any figure, and of any difference between two systems, by clusters of examples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mlprune.comparison.clusters import Indices
from mlprune.comparison.pools import Part, Pool, Values
from mlprune.metrics.additive import Array

FEWEST = 20  # clusters for a bootstrap; below, a t interval
CELLS = 1 << 21  # weights of clusters in memory at a time: 16 MiB
TIE = 1e-12  # relative: differences that are equal but for the last bits
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Target:
    """What an interval or a p value is of: one channel, or the unweighted average over several.

    Args:
        language: What rows call it.
        channels: Positions of the channels.
        clusters: Clusters of their rows, each once.
        groups: The same, by stratum.
    """

    language: str
    channels: list[int]
    clusters: Indices
    groups: list[Indices]

    @property
    def fewest(self) -> int:
        """Number of clusters of the smallest stratum."""
        return min(map(len, self.groups), default=0)


def averaged(values: Array, targets: Sequence[Target]) -> Array:
    """Return the targets' values from those of channels, (b, h) to (b, targets)."""
    return np.stack([values[:, target.channels].mean(1) for target in targets], axis=1)


class Estimate:
    """A figure of one system, or the difference between two.

    Args:
        after: The system.
        before: The system that is subtracted, if there is one.
    """

    def __init__(self, after: Pool, before: Pool | None = None) -> None:
        self.signed = [(1, after)] + ([(-1, before)] if before is not None else [])
        self.num_resamples = after.num_resamples

    def point(self) -> Values:
        """Return the values as they are, (1, h)."""
        return self._added([{name: v[None] for name, v in pool.point().items()} for _, pool in self.signed])

    def drawn(self, weights: Array) -> Values:
        """Return the values under weights of the clusters, alike for both systems."""
        return self._added([pool.values([Part(pool, slice(None), weights)]) for _, pool in self.signed])

    def without(self, clusters: Indices) -> Values:
        """Return the values with one cluster left out, for each of some clusters."""
        return self._added([pool.without(clusters) for _, pool in self.signed])

    def _added(self, parts: Sequence[Values]) -> Values:
        signs = [sign for sign, _ in self.signed]
        start = np.zeros(())
        return {
            name: sum((sign * part[name] for sign, part in zip(signs, parts, strict=True)), start) for name in parts[0]
        }


def intervals(estimate: Estimate, targets: Sequence[Target], stratum: Indices, seed: int) -> dict[str, list[Interval]]:
    """Return 95% intervals of every measure and target.

    Clusters are resampled with all their rows in all languages, within each stratum, and the statistic is computed
    anew; the interval lies between percentiles, a little further out so that few clusters have the coverage of a t
    interval. Where a stratum has fewer than 20 clusters it is the t interval of the jackknife, which for a mean over
    clusters of one size is that of the clusters' own values; degrees of freedom over several strata by Satterthwaite.

    Sources: Efron and Tibshirani 1993, "An Introduction to the Bootstrap"; Field and Welsh 2007, "Bootstrapping
    clustered data"; Hesterberg 2015, "What Teachers Should Know About the Bootstrap" (percentiles); Tukey 1958, "Bias
    and confidence in not-quite large samples" (jackknife); Satterthwaite 1946.

    Args:
        estimate: What is estimated.
        targets: Channels and averages.
        stratum: The stratum of each cluster, (c,).
        seed: Seed of the resampling.

    Returns:
        Measure to an interval a target; None where one cluster, or no value, leaves it undefined.
    """
    point = {name: averaged(values, targets)[0] for name, values in estimate.point().items()}
    found: dict[str, list[Interval]] = {name: [None] * len(targets) for name in point}
    many = [i for i, target in enumerate(targets) if target.fewest >= FEWEST]
    few = [i for i, target in enumerate(targets) if 0 < target.fewest < FEWEST]
    if many:
        chosen = [targets[i] for i in many]
        parts = [estimate.drawn(weights) for weights in resamples(stratum, estimate.num_resamples, seed)]
        for name in point:
            drawn = averaged(np.concatenate([part[name] for part in parts]), chosen)
            for i, target, values in zip(many, chosen, drawn.T, strict=True):
                found[name][i] = percentile_interval(values, target.fewest) if np.isfinite(point[name][i]) else None
    if few:
        clusters = np.unique(np.concatenate([targets[i].clusters for i in few]))
        left_out = estimate.without(clusters)
        for name, values in left_out.items():
            for i, column in zip(few, averaged(values, [targets[i] for i in few]).T, strict=True):
                groups = [column[np.searchsorted(clusters, group)] for group in targets[i].groups]
                found[name][i] = t_interval(float(point[name][i]), groups)
    return found


def percentile_interval(values: Array, num_clusters: int) -> Interval:
    """Return the interval between two percentiles of resampled values; those without a value are left out.

    Example:
        >>> low, high = percentile_interval(np.linspace(0, 1, 10001), 10**6)
        >>> round(low, 3), round(high, 3)
        (0.025, 0.975)
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    t = stats.t.ppf(0.975, num_clusters - 1)
    tail = stats.norm.cdf(-t * np.sqrt(num_clusters / (num_clusters - 1)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def t_interval(value: float, left_out: Sequence[Array]) -> Interval:
    """Return the jackknife's t interval; None where one cluster, or no value, leaves it undefined.

    Args:
        value: The value of all clusters.
        left_out: For each stratum the values with one of its clusters left out.

    Example:
        >>> low, high = t_interval(1.0, [np.array([0.5, 1.5])])  # a mean of the clusters' values 1.5 and 0.5
        >>> round(low, 2), round(high, 2)  # 1 -+ 12.71 * 0.5
        (-5.35, 7.35)
    """
    freedom = [len(column) - 1 for column in left_out]
    variances = [(len(column) - 1) * float(column.var()) for column in left_out]
    variance = sum(variances)
    if sum(freedom) == 0 or not np.isfinite(value + variance):
        return None
    below = sum(variance**2 / max(f, 1) for variance, f in zip(variances, freedom, strict=True))
    t = stats.t.ppf(0.975, variance**2 / below if below else sum(freedom))
    half = float(t * np.sqrt(variance))
    return value - half, value + half


def resamples(stratum: Indices, num: int, seed: int) -> Iterator[Array]:
    """Iterate over weights of resampled clusters, (b, c), in pieces that fit in memory.

    Example:
        >>> [weights.sum(1).tolist() for weights in resamples(np.zeros(4, int), 3, seed=0)]
        [[4.0, 4.0, 4.0]]
    """
    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(stratum == k) for k in range(int(stratum.max(initial=-1)) + 1)]
    rows = max(CELLS // len(stratum), 1)
    for start in range(0, num, rows):
        count = min(rows, num - start)
        weights = np.zeros((count, len(stratum)))
        for group in groups:
            picks = generator.integers(0, len(group), size=(count, len(group))) + len(group) * np.arange(count)[:, None]
            weights[:, group] = np.bincount(picks.ravel(), minlength=count * len(group)).reshape(count, len(group))
        yield weights


def p_values(before: Pool, after: Pool, targets: Sequence[Target], seed: int) -> dict[str, list[float | None]]:
    """Return two-sided p values of the hypothesis that the two systems are exchangeable.

    The systems' records are swapped cluster by cluster and the difference is computed anew; p is the share of
    assignments under which it is at least as large. All assignments of the clusters that changed are gone through where
    there are at most 2^14; else m = 9,999 are drawn and p = (b + 1) / (m + 1). (For a metric that has to be computed
    anew each time: 2^9 and 999.) What is tested is that a record could as well be the other system's, which is more
    than that both have the same mean.

    Sources: Fisher 1935, "The Design of Experiments"; Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses";
    Riezler and Maxwell 2005, "On Some Pitfalls in Automatic Evaluation and Significance Testing for MT"; Phipson and
    Smyth 2010, "Permutation P-values Should Never Be Zero".

    Args:
        before: The first system.
        after: The second, on the same rows.
        targets: Channels and averages.
        seed: Seed of the drawn assignments.

    Returns:
        Measure to a p value a target; None where there is no difference to test.
    """
    changed = before.changed(after)
    where = [np.flatnonzero(changed[:, target.channels].any(1)) for target in targets]
    exact = [i for i, clusters in enumerate(where) if 2 ** len(clusters) <= before.max_assignments]
    drawn = [i for i in range(len(targets)) if i not in exact]
    found: dict[str, list[float | None]] = {}
    for chosen in [[i] for i in exact] + ([drawn] if drawn else []):
        clusters = np.unique(np.concatenate([where[i] for i in chosen]))
        swaps = all_swaps(len(clusters)) if chosen != drawn else random_swaps(len(clusters), before.num_swaps, seed)
        extra = 0 if chosen != drawn else 1
        tested = _swapped(before, after, [targets[i] for i in chosen], clusters, swaps, extra)
        for name, values in tested.items():
            column = found.setdefault(name, [None] * len(targets))
            for i, value in zip(chosen, values, strict=True):
                column[i] = value
    return found


def _swapped(
    before: Pool, after: Pool, targets: Sequence[Target], clusters: Indices, swaps: Iterator[Array], extra: int
) -> dict[str, list[float | None]]:
    """Count the assignments under which the difference is at least as large as it is."""
    others = np.setdiff1d(np.arange(before.num_clusters), clusters)
    fixed = Part(before, others, np.ones((1, len(others))))
    channels = sorted({h for target in targets for h in target.channels})

    def differences(swap: Array) -> tuple[Values, Values]:
        sides = []
        for first, second in ((before, after), (after, before)):
            parts = [fixed, Part(first, clusters, 1 - swap), Part(second, clusters, swap)]
            sides.append({name: averaged(v, targets) for name, v in before.values(parts, channels).items()})
        return {name: sides[1][name] - sides[0][name] for name in sides[0]}, sides[0]

    observed, level = differences(np.zeros((1, len(clusters))))
    hits = {name: np.zeros(len(targets), int) for name in observed}
    total = 0
    for swap in swaps:
        total += len(swap)
        for name, values in differences(swap)[0].items():
            size = np.abs(observed[name][0])
            hits[name] += (np.abs(values) >= size - TIE * np.maximum(np.abs(level[name][0]), size)).sum(0)
    return {
        name: [
            float((count + extra) / (total + extra)) if np.isfinite(size) else None
            for count, size in zip(counts, observed[name][0], strict=True)
        ]
        for name, counts in hits.items()
    }


def all_swaps(num_clusters: int) -> Iterator[NDArray[np.float64]]:
    """Iterate over every assignment of clusters to be swapped, (2^c, c), as one piece.

    Example:
        >>> next(all_swaps(2)).tolist()
        [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    yield (np.arange(2**num_clusters)[:, None] >> np.arange(num_clusters) & 1).astype(np.float64)


def random_swaps(num_clusters: int, num: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Iterate over drawn assignments, (b, c), in pieces that fit in memory."""
    generator = np.random.default_rng(seed)
    rows = max(CELLS // num_clusters, 1)
    for start in range(0, num, rows):
        count = min(rows, num - start)
        yield generator.integers(0, 2, size=(count, num_clusters), dtype=np.uint8).astype(np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
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

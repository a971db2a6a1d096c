"""One system's rows in clusters, measured under any weights of the clusters: resampled, left out, or swapped.

Shapes: b draws, c clusters, h channels (languages or pairs of them), k statistics.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics import Metric

from mlprune.comparison.clusters import Indices
from mlprune.comparison.records import Channel
from mlprune.exact import column_sums
from mlprune.metrics.additive import AdditiveMetric, Array, WeightedMetric
from mlprune.metrics.measure import measures_of, read_values
from mlprune.metrics.states import SummedStates, as_additive, single_process

Values = dict[str, Array]  # measure to (b, h)
PIECE = 1 << 20  # weights of rows in memory at a time: 8 MiB, and several of that size


class Part(NamedTuple):
    """A system's rows, and how often each of some clusters counts: whole numbers, (b, those clusters)."""

    pool: "Pool"
    clusters: Indices | slice
    weights: Array


class Pool(ABC):
    """One system's rows of one family of channels.

    Args:
        channels: The channels.
        num_clusters: Number of clusters of the task.
    """

    num_resamples: int
    num_swaps: int
    max_assignments: int

    def __init__(self, channels: Sequence[Channel], num_clusters: int) -> None:
        self.channels = list(channels)
        self.num_clusters = num_clusters

    @abstractmethod
    def point(self) -> Values:
        """Return the values of the rows as they are, each (h,)."""

    @abstractmethod
    def values(self, parts: Sequence[Part], channels: Sequence[int] | None = None) -> Values:
        """Return the values of rows from one or two systems.

        Args:
            parts: Rows that count together; those with one draw count in all.
            channels: Only these channels; the others are NaN.
        """

    @abstractmethod
    def without(self, clusters: Indices) -> Values:
        """Return the values with one cluster left out, for each of some clusters."""

    @abstractmethod
    def changed(self, other: "Pool") -> NDArray[np.bool_]:
        """Return where another system's rows differ, (c, h)."""

    def _unknown(self, num_draws: int) -> Values:
        """All measures of all channels, not yet known: NaN."""
        names = [measure.name for measure in measures_of(self.channels[0].metric)]
        return {name: np.full((num_draws, len(self.channels)), np.nan) for name in names}


class SummedPool(Pool):
    """Rows that add up: any weighting is a matrix product."""

    num_resamples = 2_000
    num_swaps = 9_999
    max_assignments = 2**14

    def __init__(self, channels: Sequence[Channel], num_clusters: int) -> None:
        super().__init__(channels, num_clusters)
        self.metrics = [_summed(channel.metric) for channel in channels]
        self.statistics = [
            metric.statistics(channel.rows) for metric, channel in zip(self.metrics, channels, strict=True)
        ]
        ends = np.cumsum([rows.shape[1] for rows in self.statistics])
        self.columns = [slice(end - rows.shape[1], end) for end, rows in zip(ends, self.statistics, strict=True)]
        self.table = np.zeros((num_clusters, int(ends[-1])))
        for channel, columns, rows in zip(channels, self.columns, self.statistics, strict=True):
            np.add.at(self.table[:, columns], channel.clusters, rows)

    def point(self) -> Values:
        found = []
        for metric, rows in zip(self.metrics, self.statistics, strict=True):
            sums = column_sums(torch.from_numpy(rows)).numpy()
            found.append(metric.values(sums) if len(rows) else {})
        names = [measure.name for measure in measures_of(self.channels[0].metric)]
        return {name: np.array([float(values.get(name, np.nan)) for values in found]) for name in names}

    def values(self, parts: Sequence[Part], channels: Sequence[int] | None = None) -> Values:
        chosen = range(len(self.channels)) if channels is None else channels
        used = np.concatenate([np.arange(self.columns[h].start, self.columns[h].stop) for h in chosen])
        sums = np.zeros((1, len(used)))
        for pool, clusters, weights in parts:
            assert isinstance(pool, SummedPool)
            sums = sums + weights @ pool.table[clusters][:, used]
        return self._values(sums, chosen)

    def without(self, clusters: Indices) -> Values:
        return self._values(self.table.sum(0) - self.table[clusters], range(len(self.channels)))

    def changed(self, other: Pool) -> NDArray[np.bool_]:
        assert isinstance(other, SummedPool)
        differs = self.table != other.table
        return np.stack([differs[:, columns].any(1) for columns in self.columns], axis=1)

    def _values(self, sums: Array, channels: Sequence[int]) -> Values:
        """The values of channels whose sums stand side by side."""
        found = self._unknown(len(sums))
        start = 0
        for h in channels:
            end = start + self.statistics[h].shape[1]
            for name, values in self.metrics[h].values(sums[:, start:end]).items():
                found[name][:, h] = values
            start = end
        return found


def _summed(metric: Metric) -> AdditiveMetric | SummedStates:
    found = as_additive(metric)
    assert found is not None  # make_pools has looked
    return found


class DrawnPool(Pool):
    """Rows of a metric that does not add up: each weighting of them costs what the rows cost, so there are fewer."""

    num_resamples = 1_000
    num_swaps = 999
    max_assignments = 2**9

    def point(self) -> Values:
        whole = Part(self, slice(None), np.ones((1, self.num_clusters)))
        return {name: values[0] for name, values in self.values([whole]).items()}

    def without(self, clusters: Indices) -> Values:
        weights = np.ones((len(clusters), self.num_clusters))
        weights[np.arange(len(clusters)), clusters] = 0
        return self.values([Part(self, slice(None), weights)])


class RecomputedPool(DrawnPool):
    """Rows of a metric that is computed anew from the rows of each draw."""

    def __init__(self, channels: Sequence[Channel], num_clusters: int) -> None:
        super().__init__(channels, num_clusters)
        self.metrics = [single_process(channel.metric).cpu() for channel in channels]

    def values(self, parts: Sequence[Part], channels: Sequence[int] | None = None) -> Values:
        num = max(len(part.weights) for part in parts)
        found = self._unknown(num)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a resample may lack a class
            for h in range(len(self.channels)) if channels is None else channels:
                for draw in range(num):
                    for name, value in self._value(h, draw, parts).items():
                        found[name][draw, h] = value
        return found

    def _value(self, h: int, draw: int, parts: Sequence[Part]) -> dict[str, float]:
        rows = []
        for pool, clusters, weights in parts:
            times = np.zeros(self.num_clusters, int)
            times[clusters] = weights[min(draw, len(weights) - 1)]
            channel = pool.channels[h]
            counts = times[channel.clusters]
            rows += [row for row, count in zip(channel.rows, counts, strict=True) for _ in range(count)]
        if not rows:
            return {}
        metric = self.metrics[h]
        metric.reset()
        metric.update(rows)
        return read_values(metric, metric.compute())

    def changed(self, other: Pool) -> NDArray[np.bool_]:
        differs = np.zeros((self.num_clusters, len(self.channels)), bool)
        for h, (ours, others) in enumerate(zip(self.channels, other.channels, strict=True)):
            places = [a != b for a, b in zip(ours.rows, others.rows, strict=True)]
            differs[ours.clusters[np.array(places, bool)], h] = True
        return differs


class WeightedPool(DrawnPool):
    """Rows of a metric that computes many weightings of them at once."""

    def __init__(self, channels: Sequence[Channel], num_clusters: int) -> None:
        super().__init__(channels, num_clusters)
        self.metrics = [_weighted(channel.metric) for channel in channels]
        self.statistics = [
            metric.statistics(channel.rows) for metric, channel in zip(self.metrics, channels, strict=True)
        ]

    def values(self, parts: Sequence[Part], channels: Sequence[int] | None = None) -> Values:
        num = max(len(part.weights) for part in parts)
        found = self._unknown(num)
        for h in range(len(self.channels)) if channels is None else channels:
            pieces = [_counted(part, h, num) for part in parts]
            rows = np.concatenate([rows for rows, _ in pieces])
            step = max(PIECE // max(len(rows), 1), 1)
            for start in range(0, num, step):
                weights = np.concatenate([weights[start : start + step] for _, weights in pieces], axis=1)
                for name, values in self.metrics[h].weighted(rows, weights).items():
                    found[name][start : start + step, h] = values
        return found

    def changed(self, other: Pool) -> NDArray[np.bool_]:
        assert isinstance(other, WeightedPool)
        differs = np.zeros((self.num_clusters, len(self.channels)), bool)
        for h, (ours, others) in enumerate(zip(self.statistics, other.statistics, strict=True)):
            differs[self.channels[h].clusters[(ours != others).any(1)], h] = True
        return differs


def _weighted(metric: Metric) -> WeightedMetric:
    assert isinstance(metric, WeightedMetric)  # make_pools has looked
    return metric


def _counted(part: Part, h: int, num: int) -> tuple[Array, Array]:
    """A part's rows in one channel, and how often each counts, (b, n)."""
    assert isinstance(part.pool, WeightedPool)
    places = np.full(part.pool.num_clusters, -1)
    places[part.clusters] = np.arange(part.weights.shape[1])
    taken = places[part.pool.channels[h].clusters]
    weights = part.weights[:, taken[taken >= 0]]
    return part.pool.statistics[h][taken >= 0], np.broadcast_to(weights, (num, weights.shape[1]))


def make_pools(systems: Sequence[Sequence[Channel]], num_clusters: int) -> list[Pool]:
    """Return a pool for each system's channels, all of one kind.

    Sums of clusters are rounded to a grid on which any sum of them is exact, so that the order of summation, and with
    it the number of threads, changes no bit; the rounding is below 1e-9 of the largest.
    """
    if all(isinstance(channel.metric, WeightedMetric) for channels in systems for channel in channels):
        return [WeightedPool(channels, num_clusters) for channels in systems]
    if any(as_additive(channel.metric) is None for channels in systems for channel in channels):
        return [RecomputedPool(channels, num_clusters) for channels in systems]
    pools = [SummedPool(channels, num_clusters) for channels in systems]
    largest = np.max([np.abs(pool.table).max(0, initial=0.0) for pool in pools], axis=0)
    limit = np.maximum(2.0 * num_clusters * largest, np.finfo(float).tiny * 2.0**60)
    grid = np.exp2(np.ceil(np.log2(limit)) - 52)
    for pool in pools:
        pool.table = np.round(pool.table / grid) * grid
    return list(pools)

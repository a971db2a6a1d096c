"""Data sets by the thousand, measured at once: each is a few channels of one pool."""

from dataclasses import dataclass

import numpy as np

from mlprune.comparison.inference import Target
from mlprune.comparison.pools import Pool, make_pools
from mlprune.comparison.records import Channel
from mlprune.metrics import AdditiveMetric, Measure


class Mean(AdditiveMetric):
    """The mean of numbers, which are the rows themselves."""

    measures = (Measure("mean"),)

    def statistics(self, records: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(records, dtype=float), np.ones(len(records))], axis=1)

    def values(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": sums[..., 0] / np.maximum(sums[..., 1], 1)}


@dataclass
class Simulation:
    """Two systems on many data sets.

    Args:
        before: The first system's rows, a channel a data set and language.
        after: The second's.
        targets: Each data set's average over languages.
        stratum: The stratum of each cluster.
    """

    before: Pool
    after: Pool
    targets: list[Target]
    stratum: np.ndarray


def simulate(
    num_sets: int,
    num_clusters: int,
    correlated: bool,
    worse: float = 0.1,
    better: float = 0.15,
    num_languages: int = 2,
    rows: int = 1,
) -> Simulation:
    """Draw right and wrong answers of two systems; a share of them gets worse, and a share better.

    Where languages are correlated, a cluster's rows flip together in all languages, four times in five.
    """
    generator = np.random.default_rng([num_sets, num_clusters, correlated])
    shape = (num_sets, num_languages, num_clusters, rows)
    change = generator.random(shape)
    if correlated:
        shared = generator.random((num_sets, 1, num_clusters, 1))
        change = np.where(generator.random(shape) < 0.8, shared, change)
    before = np.where(change < worse, 1.0, np.where(change < worse + better, 0.0, generator.random(shape) < 0.5))
    after = np.where(change < worse, 0.0, np.where(change < worse + better, 1.0, before))
    clusters = np.repeat(np.arange(num_clusters), rows)
    sides = [values.reshape(num_sets * num_languages, -1) for values in (before, after)]
    pools = make_pools([[Channel("fr", Mean(), own, clusters) for own in side] for side in sides], num_clusters)
    everything = np.arange(num_clusters)
    targets = [
        Target("average", list(range(start, start + num_languages)), everything, [everything])
        for start in range(0, num_sets * num_languages, num_languages)
    ]
    return Simulation(*pools, targets, np.zeros(num_clusters, int))

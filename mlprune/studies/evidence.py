"""What records say of a recipe under a study's endpoint, over rows and over calibration seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from mlprune.comparison.clusters import Indices, cluster_records, strata
from mlprune.comparison.difference import Difference
from mlprune.comparison.inference import Estimate, Interval, averaged, intervals, p_values
from mlprune.comparison.pools import make_pools
from mlprune.comparison.records import Channel, TaskRecords, families
from mlprune.comparison.rows import target_of
from mlprune.errors import UserError
from mlprune.metrics.measure import AVERAGE, Measure, change, measures_of
from mlprune.studies.endpoint import Endpoint


@dataclass(frozen=True)
class Evidence:
    """What a recipe did to the endpoint on some rows.

    Args:
        row: Recipe against reference, averaged over calibration seeds; interval and p are over rows.
        by_seed: The difference of each calibration seed.

    Example:
        >>> row = Difference("a", "dense", "nli", "fr", Measure("f1"), 0.5, 0.6, 0.1, 0.06, 0.14, 0.01, clusters=100)
        >>> evidence = Evidence(row, (0.1, 0.1))
        >>> evidence.seeds_deviation, evidence.total
        (0.0, (0.06, 0.14))
        >>> [round(bound, 2) for bound in Evidence(row, (0.02, 0.18)).total]  # two seeds that disagree
        [-0.7, 0.9]
    """

    row: Difference
    by_seed: tuple[float, ...] = ()

    @property
    def seeds_deviation(self) -> float | None:
        """Standard deviation between calibration seeds; None with fewer than two."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None

    @property
    def total(self) -> Interval:
        """The 95% interval over rows and calibration seeds; over rows where there is one seed.

        Variances add up, with Satterthwaite's degrees of freedom; it is never inside the interval over rows.
        """
        row, deviation = self.row, self.seeds_deviation
        if row.low is None or row.high is None or row.delta is None:
            return None
        if not deviation:
            return row.low, row.high
        freedom = max((row.clusters or row.n) - 1, 1), len(self.by_seed) - 1
        of_rows = ((row.high - row.low) / 2 / float(stats.t.ppf(0.975, freedom[0]))) ** 2
        of_seeds = deviation**2 / len(self.by_seed)
        both = (of_rows + of_seeds) ** 2 / (of_rows**2 / freedom[0] + of_seeds**2 / freedom[1])
        half = float(stats.t.ppf(0.975, both)) * float(np.sqrt(of_rows + of_seeds))
        return min(row.delta - half, row.low), max(row.delta + half, row.high)

    def to_json(self) -> dict[str, Any]:
        """Return the row as study.json has it, with both sources of variance."""
        low, high = self.total or (None, None)
        return self.row.to_json() | {
            "by_seed": list(self.by_seed),
            "seeds_deviation": self.seeds_deviation,
            "total_low": low,
            "total_high": high,
            "detectable": self.detectable,
        }

    @property
    def clear(self) -> bool:
        """Whether the interval over rows and seeds excludes zero."""
        return self.total is not None and (self.total[0] > 0 or self.total[1] < 0)

    @property
    def detectable(self) -> float | None:
        """The smallest true difference that would be found clear in 80% of cases, rows and seeds considered."""
        low, high = self.total or (None, None)
        return replace(self.row, low=low, high=high).detectable


def evidence_of(
    dense: Sequence[TaskRecords],
    pruned: Sequence[Sequence[TaskRecords]],
    endpoint: Endpoint,
    recipe: str,
    reference: str = "dense",
    seed: int = 0,
    references: Sequence[Sequence[TaskRecords]] | None = None,
) -> list[Evidence]:
    """Return what records say of the endpoint: of the average, or of each task and language.

    Rows of one id or group are one cluster over languages and seeds, as in
    :func:`mlprune.comparison.clusters.cluster_records`; tasks are samples of their own.

    Args:
        dense: The reference's records of each task.
        pruned: For each calibration seed the recipe's records: the same tasks, languages and examples in one order.
        endpoint: What decides.
        recipe: The recipe's name.
        reference: The reference's name.
        seed: Seed of resampling and swapping.
        references: For each calibration seed the reference's records, where it has some of its own.

    Raises:
        UserError: If no records are of the endpoint's measure, tasks and languages.

    Example:
        >>> from mlprune.metrics import Accuracy
        >>> def records(answers):
        ...     rows = [{"id": str(i), "label": "a", "prediction": answer} for i, answer in enumerate(answers)]
        ...     return [TaskRecords("nli", {"fr": rows}, {"fr": [Accuracy()]})]
        >>> (found,) = evidence_of(records("bbbb"), [records("aabb"), records("aaab")], Endpoint(), "wanda")
        >>> found.row.delta, found.by_seed, found.row.n, found.row.clusters
        (0.625, (0.5, 0.75), 4, 4)
    """
    reference_cells, stratum = _cells(dense, endpoint)
    sides = [_cells(side, endpoint)[0] for side in pruned]
    names = list(reference_cells)
    if not names:
        raise UserError(f"study.endpoint: no records of {endpoint.metric} in the tasks and languages it names")
    others = [_cells(side, endpoint)[0] for side in references or ()] or [reference_cells for _ in sides]
    before = [side[name] for side in others for name in names]
    after = [side[name] for side in sides for name in names]
    pools = make_pools([before, after], len(stratum))
    found = []
    for places in [list(range(len(names)))] if endpoint.average else [[i] for i in range(len(names))]:
        by_seed = [[len(names) * s + i for i in places] for s in range(len(sides))]
        targets = [
            target_of(AVERAGE, indices, before, stratum)
            for indices in ([i for indices in by_seed for i in indices], *by_seed)
        ]
        one, two = (averaged(pool.point()[endpoint.metric][None], targets)[0].tolist() for pool in pools)
        tasks, languages = (list(dict.fromkeys(part)) for part in zip(*(names[i] for i in places), strict=True))
        interval = intervals(Estimate(pools[1], pools[0]), targets[:1], stratum, seed)[endpoint.metric][0]
        low, high = interval or (None, None)
        row = Difference(
            recipe,
            reference,
            "+".join(tasks),
            languages[0] if len(languages) == 1 else AVERAGE,
            _measure(before[places[0]], endpoint.metric),
            one[0],
            two[0],
            change(one[0], two[0]),
            low,
            high,
            p=p_values(pools[0], pools[1], targets[:1], seed)[endpoint.metric][0],
            n=sum(len(before[i].rows) for i in places),
            clusters=len(targets[0].clusters),
        )
        deltas = [change(a, b) for a, b in zip(one[1:], two[1:], strict=True)]
        found.append(Evidence(row, tuple(delta for delta in deltas if delta is not None)))
    return found


def _cells(tasks: Sequence[TaskRecords], endpoint: Endpoint) -> tuple[dict[tuple[str, str], Channel], Indices]:
    """The endpoint's channels by task and language, clusters numbered over all tasks; and the stratum of each."""
    cells: dict[tuple[str, str], Channel] = {}
    stratum = np.zeros(0, np.int64)
    for task in tasks:
        if endpoint.tasks is not None and task.task not in endpoint.tasks:
            continue
        clusters = cluster_records(task.records, task.aligned)
        num = 1 + max((int(found.max(initial=-1)) for found in clusters.values()), default=-1)
        for family in families(task, {lang: found + len(stratum) for lang, found in clusters.items()}):
            if any(measure.name == endpoint.metric for measure in family.measures):
                cells |= {(task.task, channel.language): channel for channel in _wanted(family.channels, endpoint)}
        stratum = np.concatenate([stratum, strata(clusters.values(), num) + 1 + stratum.max(initial=-1)])
    return cells, stratum


def _wanted(channels: Sequence[Channel], endpoint: Endpoint) -> list[Channel]:
    """The channels of the endpoint's languages that have rows; without any named, all but the pivot's."""
    filled = [channel for channel in channels if len(channel.rows)]
    if endpoint.languages is not None:
        return [channel for channel in filled if channel.language in endpoint.languages]
    return [channel for channel in filled if channel.in_average] or filled


def _measure(channel: Channel, name: str) -> Measure:
    return next(measure for measure in measures_of(channel.metric) if measure.name == name)

"""From records to rows: figures of one system, differences between two."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from mlprune.comparison.clusters import Indices, cluster_records, strata
from mlprune.comparison.difference import Difference
from mlprune.comparison.inference import Estimate, Interval, Target, averaged, holm, intervals, p_values
from mlprune.comparison.pools import Pool, SummedPool, make_pools
from mlprune.comparison.records import Channel, Family, TaskRecords, families
from mlprune.metrics.measure import AVERAGE, AVERAGE_ALL, Figure, Measure, change, settled

AnyRow = TypeVar("AnyRow", Figure, Difference)


def figures_of(task: TaskRecords, system: str, seed: int = 0) -> list[Figure]:
    """Return the figures of one system on one task, averages over languages last.

    Args:
        task: Its records.
        system: Its name.
        seed: Seed of the resampling.

    Example:
        >>> from mlprune.metrics import Accuracy
        >>> records = [{"id": str(i), "label": "a", "prediction": "a" if i else "b"} for i in range(4)]
        >>> row = figures_of(TaskRecords("nli", {"fr": records}, {"fr": [Accuracy()]}), "dense")[0]
        >>> row.language, row.value, row.n, round(row.low, 2), round(row.high, 2)
        ('fr', 0.75, 4, 0.3, 0.95)
    """
    rows = []
    clusters = cluster_records(task.records, task.aligned)
    num, stratum = _design(clusters)
    for family in families(task, clusters):
        (pool,) = make_pools([family.channels], num)
        targets = targets_of(family.channels, stratum)
        point = {name: averaged(values[None], targets)[0] for name, values in pool.point().items()}
        bounds = intervals(Estimate(pool), targets, stratum, seed)
        for measure in family.measures:
            for i, target in enumerate(targets):
                value = _number(point[measure.name][i])
                interval = _formula(pool, target, measure, bounds[measure.name][i])
                low, high = _holding(value, interval, measure.clip)
                n, size = _size(target, family.channels), len(target.clusters)
                rows.append(Figure(system, task.task, target.language, measure, value, low, high, n, size))
    return naming_pivot(rows, task.pivot)


def differences_of(
    before: TaskRecords, after: TaskRecords, systems: tuple[str, str], seed: int = 0
) -> list[Difference]:
    """Return the differences between two systems on one task, averages over languages last.

    Args:
        before: The first system's records.
        after: The second's, of the same examples in the same order.
        systems: What they are called.
        seed: Seed of resampling and swapping.

    Example:
        >>> from mlprune.metrics import Accuracy
        >>> wrong, right = ([{"id": "0", "label": "a", "prediction": answer}] for answer in "ba")
        >>> sides = [TaskRecords("nli", {"fr": records}, {"fr": [Accuracy()]}) for records in (wrong, right)]
        >>> row = differences_of(*sides, ("dense", "pruned"))[0]
        >>> row.before, row.after, row.delta, row.changed, row.p
        (0.0, 1.0, 1.0, 1.0, 1.0)
    """
    rows = []
    clusters = cluster_records(before.records, before.aligned)
    sides = [families(task, clusters) for task in (before, after)]
    num, stratum = _design(clusters)
    chance = _by_chance(sides[0], num, stratum)
    for first, second in zip(*sides, strict=True):
        measures = [measure for measure in first.measures if measure.name not in _chance_names(sides[0])]
        if measures:
            rows += _compare(first, second, measures, chance, (num, stratum, seed), (before.task, *systems))
    return naming_pivot(rows, before.pivot)


def _compare(
    first: Family,
    second: Family,
    measures: Sequence[Measure],
    chance: dict[tuple[str, str], float | None],
    design: tuple[int, Indices, int],
    names: tuple[str, str, str],
) -> list[Difference]:
    """Return the rows of one family of channels."""
    num, stratum, seed = design
    task, reference, system = names
    pools = make_pools([first.channels, second.channels], num)
    targets = targets_of(first.channels, stratum)
    points = [{name: averaged(v[None], targets)[0] for name, v in pool.point().items()} for pool in pools]
    bounds = intervals(Estimate(pools[1], pools[0]), targets, stratum, seed)
    p = p_values(pools[0], pools[1], targets, seed)
    rows = []
    for measure in measures:
        name = measure.name
        for i, target in enumerate(targets):
            one, two = (_number(point[name][i]) for point in points)
            delta = change(one, two)
            low, high = _holding(delta, bounds[name][i], measure.clip_change, one, two)
            row = Difference(system, reference, task, target.language, measure, one, two, delta, low, high)
            won, lost = _flips(pools, target, name)
            rows.append(
                replace(
                    row,
                    p=_paired_p(pools, target, name, p[name][i]),
                    n=_size(target, first.channels),
                    clusters=len(target.clusters),
                    changed=_changed(first.channels, second.channels, target),
                    by_chance=chance.get((str(measure.chance), target.language)),
                    won=won,
                    lost=lost,
                )
            )
    return rows


def corrected(rows: Sequence[Difference]) -> list[Difference]:
    """Return the rows with Holm's correction: over the languages of a task and measure, and over all averages.

    Averages of details are corrected among themselves, so that they do not weaken what a task is judged by.

    Example:
        >>> row = Difference("b", "a", "nli", "fr", Measure("f1"), 0.0, 1.0, 1.0, p=0.02)
        >>> [round(row.p_holm, 2) for row in corrected([row, replace(row, language="sw", p=0.5)])]
        [0.04, 0.5]
    """
    kinds: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        is_average = row.language in (AVERAGE, AVERAGE_ALL)
        if row.p is not None:
            average = (row.language, "detail" if row.measure.detail else "")
            kinds.setdefault(average if is_average else (row.task, row.measure.name), []).append(i)
    found = list(rows)
    for places in kinds.values():
        for i, p in zip(places, holm([rows[i].p or 0.0 for i in places]), strict=True):
            found[i] = replace(rows[i], p_holm=p)
    return found


def naming_pivot(rows: Sequence[AnyRow], pivot: str | None) -> list[AnyRow]:
    """Return the rows of a task; averages that leave the pivot out say so.

    Args:
        rows: Its figures or differences.
        pivot: Code of the language.

    Example:
        >>> rows = [Figure("dense", "nli", language, Measure("f1")) for language in ("fr", "average", "average_all")]
        >>> [row.pivot for row in naming_pivot(rows, "fr")]
        [None, 'fr', None]
    """
    without = {row.measure.name for row in rows if row.language == AVERAGE_ALL}
    return [
        replace(row, pivot=pivot) if row.language == AVERAGE and row.measure.name in without else row for row in rows
    ]


def targets_of(channels: Sequence[Channel], stratum: Indices) -> list[Target]:
    """Return what intervals and p values are of: each channel, and averages over those that have rows."""
    filled = [h for h, channel in enumerate(channels) if len(channel.rows)]
    without_pivot = [h for h in filled if channels[h].in_average]
    chosen = [(channel.language, [h]) for h, channel in enumerate(channels)]
    if without_pivot:
        chosen.append((AVERAGE, without_pivot))
        if without_pivot != filled:
            chosen.append((AVERAGE_ALL, filled))
    return [target_of(language, indices, channels, stratum) for language, indices in chosen]


def target_of(language: str, indices: list[int], channels: Sequence[Channel], stratum: Indices) -> Target:
    """Return what intervals and p values of some channels are of, under the name of a language or an average."""
    clusters = np.unique(np.concatenate([channels[h].clusters for h in indices]))
    groups = [clusters[stratum[clusters] == k] for k in np.unique(stratum[clusters])]
    return Target(language, indices, clusters, groups)


def _design(clusters: dict[str, Indices]) -> tuple[int, Indices]:
    """Number of clusters, and the stratum of each."""
    num = 1 + max((int(ids.max(initial=-1)) for ids in clusters.values()), default=-1)
    return num, strata(clusters.values(), num)


def _chance_names(found: Sequence[Family]) -> set[str]:
    return {measure.chance for family in found for measure in family.measures if measure.chance}


def _by_chance(found: Sequence[Family], num: int, stratum: Indices) -> dict[tuple[str, str], float | None]:
    """What guessing gives, by measure and language."""
    wanted = _chance_names(found)
    values: dict[tuple[str, str], float | None] = {}
    for family in found:
        for name in wanted & {measure.name for measure in family.measures}:
            targets = targets_of(family.channels, stratum)
            point = averaged(make_pools([family.channels], num)[0].point()[name][None], targets)[0]
            values |= {(name, t.language): _number(value) for t, value in zip(targets, point, strict=True)}
    return values


def _formula(pool: Pool, target: Target, measure: Measure, resampled: Interval) -> Interval:
    """The metric's own interval, of one channel whose rows are independent; else the given one.

    Where clusters are all alike, resampling gives no width; the metric's own interval of as many rows as clusters does.
    """
    h = target.channels[0]
    if len(target.channels) > 1 or not isinstance(pool, SummedPool):
        return resampled
    metric, rows, channel = pool.metrics[h], pool.statistics[h], pool.channels[h]
    if not len(rows):
        return resampled
    if channel.independent:
        return metric.interval(rows.sum(0)).get(measure.name, resampled)
    if resampled is None or resampled[0] == resampled[1]:
        return metric.interval(rows.sum(0) * len(target.clusters) / len(rows)).get(measure.name, resampled)
    return resampled


def _holding(
    value: float | None,
    interval: Interval,
    clip: Callable[[float, float], tuple[float, float]],
    *scale: float | None,
) -> tuple[float | None, float | None]:
    """The interval within what is possible; by rounding, an end can lie 1e-16 beyond the value or zero."""
    if value is None or interval is None:
        return None, None
    low, high = (settled(end, *scale) for end in clip(*interval))
    return min(low, value), max(high, value)


def _paired_p(pools: Sequence[Pool], target: Target, name: str, p: float | None) -> float | None:
    """The metric's own exact test, of one channel whose rows are independent; else the given p value."""
    first, second = pools
    h = target.channels[0]
    if len(target.channels) > 1 or not first.channels[h].independent or not len(first.channels[h].rows):
        return p
    if not isinstance(first, SummedPool) or not isinstance(second, SummedPool):
        return p
    return first.metrics[h].paired_p(first.statistics[h], second.statistics[h]).get(name, p)


def _flips(pools: Sequence[Pool], target: Target, name: str) -> tuple[int | None, int | None]:
    """How many rows only the second system has right, and only the first; None where rows are not right or wrong."""
    first, second = pools
    if not isinstance(first, SummedPool) or not isinstance(second, SummedPool):
        return None, None
    found = [first.metrics[h].flips(first.statistics[h], second.statistics[h]).get(name) for h in target.channels]
    counts = [count for count in found if count is not None]
    return (sum(won for won, _ in counts), sum(lost for _, lost in counts)) if counts else (None, None)


def _changed(first: Sequence[Channel], second: Sequence[Channel], target: Target) -> float | None:
    """Share of rows that were answered otherwise."""
    same = []
    for h in target.channels:
        answer = getattr(first[h].metric, "answer", None)
        if answer is None:
            return None
        same += [a.get(answer) == b.get(answer) for a, b in zip(first[h].rows, second[h].rows, strict=True)]
    return 1 - sum(same) / len(same) if same else None


def _size(target: Target, channels: Sequence[Channel]) -> int:
    return sum(len(channels[h].rows) for h in target.channels)


def _number(value: float) -> float | None:
    return settled(float(value)) if np.isfinite(value) else None

"""What is measured: one system's records of one task, and the channels that figures are computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torchmetrics import Metric

from mlprune.comparison.clusters import Indices
from mlprune.errors import UserError
from mlprune.metrics import Measure, PairMetric, Record, measures_of
from mlprune.metrics.description import Description, describe_metric, make_metric


@dataclass(frozen=True)
class TaskRecords:
    """One system's records of one task, and how they are measured.

    Args:
        task: The task's name.
        records: Language to records, in the order of the corpus.
        metrics: Language to the metrics of its records.
        pair_metrics: Metrics of pairs of records, of one example in two languages.
        pairs: The pairs of languages they measure.
        pivot: Language that the average leaves out; None if there is no such language.
        aligned: Whether records of two languages with the same id are translations of each other.
        headline: Whether the task's first measure stands in the headline of a comparison.
    """

    task: str
    records: dict[str, list[Record]]
    metrics: dict[str, list[Metric]]
    pair_metrics: list[PairMetric] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    pivot: str | None = None
    aligned: bool = True
    headline: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return how the records are measured, as results.json has it under ``measured_by``."""
        first = next((metrics[0] for metrics in self.metrics.values() if metrics), None)
        return {
            "metrics": {
                lang: [describe_metric(metric) for metric in metrics] for lang, metrics in self.metrics.items()
            },
            "pair_metrics": [describe_metric(metric) for metric in self.pair_metrics],
            "pairs": [list(pair) for pair in self.pairs],
            "pivot": self.pivot,
            "aligned": self.aligned,
            "headline": self.headline,
            "answer": getattr(first, "answer", None),
            "given": list(getattr(first, "given", ())),
        }

    @classmethod
    def from_json(cls, task: str, records: dict[str, list[Record]], content: dict[str, Any]) -> "TaskRecords":
        """Return records with the metrics that results.json names.

        Raises:
            UserError: If a metric's class cannot be imported or created, or a pair metric is not a PairMetric.
        """
        metrics = {lang: [make_metric(entry) for entry in content["metrics"].get(lang, [])] for lang in records}
        pair_metrics = [_pair_metric(entry) for entry in content["pair_metrics"]]
        pairs = [(first, second) for first, second in content["pairs"]]
        return cls(
            task, records, metrics, pair_metrics, pairs, **{k: content[k] for k in ("pivot", "aligned", "headline")}
        )


@dataclass(frozen=True)
class Channel:
    """The rows behind one figure: a language's records, or pairs of two languages' records.

    Args:
        language: The language, or a pair such as ``en-fr``.
        metric: What measures them.
        rows: Records, or pairs of records.
        clusters: The cluster of each, (n,).
        in_average: Whether the average without the pivot has it.
    """

    language: str
    metric: Metric
    rows: Sequence[Any]
    clusters: Indices
    in_average: bool = True

    @property
    def independent(self) -> bool:
        """Whether no two rows share a cluster."""
        return len(np.unique(self.clusters)) == len(self.rows)


@dataclass(frozen=True)
class Family:
    """Channels with the same measures: one column of figures by language."""

    measures: tuple[Measure, ...]
    channels: list[Channel]


def families(task: TaskRecords, clusters: Mapping[str, Indices]) -> list[Family]:
    """Return a task's channels, grouped by what they measure.

    Args:
        task: One system's records.
        clusters: For each language the cluster of each record.
    """
    found: dict[tuple[int, tuple[Measure, ...]], list[Channel]] = {}
    for lang, records in task.records.items():
        for place, metric in enumerate(task.metrics[lang]):
            measured = _measured(metric, records)
            if measured or not records:
                rows = [records[i] for i in measured]
                channel = Channel(lang, metric, rows, clusters[lang][measured], lang != task.pivot)
                found.setdefault((place, measures_of(metric)), []).append(channel)
    for place, metric in enumerate(task.pair_metrics):
        channels = [_pairs(task, metric, pair, clusters) for pair in task.pairs if set(pair) <= task.records.keys()]
        if channels := [channel for channel in channels if channel.rows]:
            found[-1 - place, measures_of(metric)] = channels
    return [Family(measures, channels) for (_, measures), channels in found.items()]


def _measured(metric: Metric, records: Sequence[Record]) -> list[int]:
    """Where the records are that a metric measures: all, unless it says so."""
    selects = getattr(metric, "selects", None)
    return [i for i, record in enumerate(records) if selects is None or selects(record)]


def _pair_metric(description: Description) -> PairMetric:
    metric = make_metric(description)
    if not isinstance(metric, PairMetric):
        raise UserError(f"metric '{description['class_path']}' does not measure pairs of records; make it a PairMetric")
    return metric


def _pairs(task: TaskRecords, metric: PairMetric, pair: tuple[str, str], clusters: Mapping[str, Indices]) -> Channel:
    """Pair two languages' records by id."""
    first, second = pair
    by_id = {record["id"]: record for record in task.records[second]}
    found = [
        (cluster, (record, by_id[record["id"]]))
        for record, cluster in zip(task.records[first], clusters[first], strict=True)
        if record["id"] in by_id and metric.comparable(record, by_id[record["id"]])
    ]
    rows = [row for _, row in found]
    return Channel(f"{first}-{second}", metric, rows, np.array([cluster for cluster, _ in found], dtype=np.int64))

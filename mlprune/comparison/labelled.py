"""Records whose rows all choose among the same labels, as arrays; and the same records once constants are added."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torchmetrics import Metric

from mlprune.comparison.choices import Choices, choose
from mlprune.comparison.records import TaskRecords
from mlprune.metrics import Accuracy, LabelShares, Record
from mlprune.metrics.additive import Array


@dataclass(frozen=True)
class Labelled:
    """Scores and positions of labels, each by language; the labels' order is the same in all.

    Args:
        labels: The labels.
        scores: (n, k).
        chosen: What was chosen, (n,).
        right: What is right, (n,); -1 where it is none of the labels.
    """

    labels: list[str]
    scores: dict[str, Array]
    chosen: dict[str, Choices]
    right: dict[str, Choices]


def labelled(task: TaskRecords) -> Labelled | None:
    """Return a task's records as arrays; None where rows do not all choose among the same labels, with a score of each.

    Args:
        task: A system's records, of which accuracy is measured first; their metrics say which labels there are.

    Example:
        >>> record = {"id": "0", "label": "good", "prediction": "bad", "scores": [-1.0, -2.0]}
        >>> metrics = [Accuracy(), LabelShares(["bad", "good"])]
        >>> found = labelled(TaskRecords("reviews", {"fr": [record]}, {"fr": metrics}))
        >>> found.labels, found.chosen["fr"].tolist(), found.right["fr"].tolist()
        (['bad', 'good'], [0], [1])
    """
    orders = {lang: labels_of(task, lang) for lang in task.records}
    labels = next(iter(orders.values()), [])
    if not labels or any(sorted(order) != sorted(labels) for order in orders.values()):
        return None
    found = Labelled(labels, {}, {}, {})
    for lang, records in task.records.items():
        rows = [record.get("scores") or [] for record in records]
        if not rows or any(len(row) != len(labels) or None in row for row in rows):
            return None
        scores = np.array(rows, dtype=np.float64)
        found.scores[lang] = scores[:, [orders[lang].index(label) for label in labels]]
        found.chosen[lang] = _positions([record.get("prediction") for record in records], labels)
        found.right[lang] = _positions([record.get("label") for record in records], labels)
        if not np.isfinite(scores).all() or (found.chosen[lang] < 0).any():
            return None
    return found


def labels_of(task: TaskRecords, lang: str) -> list[str]:
    """Return a language's labels in the order of its scores; none where rows have candidates of their own."""
    metrics = task.metrics[lang]
    found = [metric.labels for metric in metrics if isinstance(metric, LabelShares)]
    return found[0] if found and type(metrics[0]) is Accuracy else []


def _positions(names: Sequence[Any], labels: Sequence[str]) -> Choices:
    places = {label: place for place, label in enumerate(labels)}
    return np.array([places.get(name, -1) for name in names], dtype=np.int64)


def with_constants(task: TaskRecords, arrays: Labelled, constants: Mapping[str, Array]) -> TaskRecords:
    """Return a system's records with constants added to its labels' scores, and the answers that follow.

    Only accuracy is measured of them.

    Args:
        task: The system's records.
        arrays: Its records as arrays.
        constants: Language to constants: (k,), or (n, k) where they differ by record.
    """
    records = {}
    for lang, rows in task.records.items():
        shifted = arrays.scores[lang] + constants[lang]
        order = [arrays.labels.index(label) for label in labels_of(task, lang)]
        chosen = choose(arrays.scores[lang], constants[lang], arrays.chosen[lang])
        records[lang] = [
            row | {"scores": scores, "prediction": arrays.labels[answer]}
            for row, scores, answer in zip(rows, shifted[:, order].tolist(), chosen, strict=True)
        ]
    return accuracy_only(task, records)


def accuracy_only(task: TaskRecords, records: dict[str, list[Record]]) -> TaskRecords:
    """Return a task with other records, of which only accuracy is measured.

    Args:
        task: The task.
        records: Language to records.
    """
    metrics: dict[str, list[Metric]] = {lang: [Accuracy()] for lang in records}
    return replace(task, records=records, metrics=metrics, pair_metrics=[], pairs=[])

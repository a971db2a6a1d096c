"""Answers among a fixed set of labels: what is chosen how often, and how well each label and their order are told."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torchmetrics import Metric

from mlprune.metrics.accuracy import Accuracy, AccuracyIn
from mlprune.metrics.additive import AdditiveMetric, Array, Record, WeightedMetric, ratio
from mlprune.metrics.measure import Measure

SHARE = Measure("", unit="%", scale=100, digits=1, bounds=(0.0, 1.0), detail=True)


class LabelShares(AdditiveMetric):
    """Balanced accuracy, and the share of answers that each label gets.

    Balanced accuracy is the mean over labels of the share of their examples that are answered correctly (recall); a
    model that always gives one label has 1/k, whatever the labels' shares among the examples. Labels that no example
    has do not count.

    Records have ``label`` and ``prediction``.

    Source: Brodersen et al. 2010, "The Balanced Accuracy and Its Posterior Distribution".

    Args:
        labels: The labels, in the order of the scores.

    Example:
        >>> metric = LabelShares(["bad", "good"])
        >>> metric.update([{"label": label, "prediction": "good"} for label in ("good", "good", "good", "bad")])
        >>> metric.compute()
        {'balanced_accuracy': 0.5, 'predicted_bad': 0.0, 'predicted_good': 1.0, 'n': 4}
    """

    answer = "prediction"
    given = ("label",)

    def __init__(self, labels: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = list(labels)
        shares = [
            replace(SHARE, name=f"predicted_{label}", title=f"answered {label}", higher_is_better=None)
            for label in sorted(self.labels)  # in one order, also where languages list them in another
        ]
        self.measures = (replace(SHARE, name="balanced_accuracy", title="balanced accuracy"), *shares)

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 3k): for each label whether it is right, right and answered, answered."""
        places = {label: place for place, label in enumerate(sorted(self.labels))}
        rows = np.zeros((len(records), 3, len(self.labels)))
        for row, record in zip(rows, records, strict=True):
            right, answered = places.get(record["label"]), places.get(record["prediction"])
            if right is not None:
                row[0, right] = 1
                row[1, right] = right == answered
            if answered is not None:
                row[2, answered] = 1
        return rows.reshape(len(records), 3 * len(self.labels))

    def values(self, sums: Array) -> dict[str, Array]:
        examples, right, answered = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
        recall = ratio(right, examples)
        balanced = ratio(np.nansum(recall, axis=-1), np.isfinite(recall).sum(-1).astype(float))
        shares = ratio(answered, np.broadcast_to(examples.sum(-1, keepdims=True), answered.shape))
        names = [measure.name for measure in self.measures]
        return dict(zip(names, [balanced, *np.moveaxis(shares, -1, 0)], strict=True))


class Recall(AccuracyIn):
    """Accuracy on the examples whose right answer is one label; won and lost examples by gold label.

    Args:
        label: The label.

    Example:
        >>> metric = Recall("good")
        >>> metric.update([{"label": label, "prediction": "good"} for label in ("good", "bad")])
        >>> metric.compute()["recall_good"], metric.compute()["n"]
        (1.0, 1)
    """

    def __init__(self, label: str, **kwargs: Any) -> None:
        super().__init__(label, **kwargs)
        self.label = label
        (whole,) = Accuracy.measures
        name, title = f"recall_{label}", f"accuracy where {label} is right"
        self.measures = (replace(whole, name=name, title=title, detail=True),)

    def selects(self, record: Record) -> bool:
        """Return whether the label is a record's right answer."""
        return bool(record["label"] == self.label)


class Auroc(WeightedMetric):
    """Area under the ROC curve of two labels: how well the scores order the examples, whatever the threshold.

    It is the probability that an example of the second label has a larger difference of scores (second minus first)
    than one of the first label; equal differences count half. A constant added to a label's scores changes accuracy,
    and never this.

    Records have ``label`` and ``scores``, one for each label.

    Source: Hanley and McNeil 1982, "The Meaning and Use of the Area under a ROC Curve".

    Args:
        labels: The two labels, in the order of the scores.

    Example:
        >>> metric = Auroc(["bad", "good"])
        >>> metric.update([{"label": "bad", "scores": [0, x]} for x in (0.1, 0.3)])
        >>> metric.update([{"label": "good", "scores": [0, x]} for x in (0.2, 0.4)])
        >>> metric.compute()
        {'auroc': 0.75, 'n': 4}
    """

    measures = (replace(SHARE, name="auroc", title="AUROC"),)
    given = ("label",)
    higher_is_better = True

    def __init__(self, labels: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = list(labels)

    def selects(self, record: Record) -> bool:
        """Return whether a record's right answer is one of the labels."""
        return record["label"] in self.labels

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 2): second score minus first; whether the second label is right."""
        rows = [(record["scores"][1] - record["scores"][0], record["label"] == self.labels[1]) for record in records]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    def weighted(self, rows: Array, weights: Array) -> dict[str, Array]:
        order = np.argsort(rows[:, 0], kind="stable")
        scores, second, counts = rows[order, 0], rows[order, 1], weights[:, order]
        first_below = np.pad((counts * (1 - second)).cumsum(1), ((0, 0), (1, 0)))
        below = first_below[:, np.searchsorted(scores, scores, side="left")]
        up_to = first_below[:, np.searchsorted(scores, scores, side="right")]
        above = counts * second
        pairs = above.sum(1) * first_below[:, -1]
        return {"auroc": ratio((above * (below + up_to)).sum(1) / 2, pairs)}


def label_metrics(labels: Sequence[str]) -> list[Metric]:
    """Return what is measured beside accuracy where all examples have the same labels.

    Args:
        labels: The labels, in the order of the scores.

    Example:
        >>> [type(metric).__name__ for metric in label_metrics(["bad", "good"])]
        ['LabelShares', 'Recall', 'Recall', 'Auroc']
    """
    ordered = [Auroc(labels)] if len(labels) == 2 else []
    return [LabelShares(labels), *map(Recall, sorted(labels)), *ordered]

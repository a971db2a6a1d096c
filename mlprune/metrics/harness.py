"""Metrics of lm-evaluation-harness over records: its own value of each document, and its own aggregation.

A record has ``values``: metric (and filter, where it is not ``none``) to what the harness found for the document.
"""

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torchmetrics import Metric

from mlprune.errors import UserError, reason_of
from mlprune.metrics.accuracy import mcnemar_exact, wilson_interval, won_and_lost
from mlprune.metrics.additive import AdditiveMetric, Array, Record, ratio
from mlprune.metrics.measure import Measure

Better = Literal["higher", "lower"] | None
SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "em", "f1")  # between 0 and 1
PERPLEXITIES = {"perplexity": 1.0, "word_perplexity": 1.0, "byte_perplexity": 1.0, "bits_per_byte": 0.0}  # their least
# aggregations that follow from sums of the documents' values
ADDITIVE = ("mean", "nanmean", "perplexity", "weighted_perplexity", "bits_per_byte", "brier_score")
# metrics whose aggregation is not a mean; what is lower where it is better
AGGREGATIONS = {"perplexity": "perplexity", "word_perplexity": "weighted_perplexity", "f1": "f1", "bleu": "bleu",
                "byte_perplexity": "weighted_perplexity", "bits_per_byte": "bits_per_byte", "chrf": "chrf",
                "ter": "ter", "mcc": "matthews_corrcoef"}  # fmt: skip
LOWER = (*PERPLEXITIES, "ter", "brier_score")
# key of a record (the likeliest choice, a text, whether greedy search agrees) to the metrics that judge what it holds
JUDGES = {"best": ("acc",), "greedy": ("acc", "perplexity"),
          "output": ("exact_match", "em", "f1", "bleu", "chrf", "chrf++", "ter")}  # fmt: skip
GIVEN = ("prompt_hash", "target_hash")  # two systems are compared on the same prompts and answers only


def measure_of(name: str, better: Better) -> Measure:
    """Return how a metric of the harness is shown.

    Args:
        name: Metric, with ``,filter`` where the filter is not ``none``.
        better: ``higher`` or ``lower`` values; None where neither is.

    Example:
        >>> measure_of("exact_match,strict-match", "higher").label
        'exact_match,strict-match, %'
    """
    higher_is_better = None if better is None else better == "higher"
    metric = name.partition(",")[0]
    if metric in SHARES:
        return Measure(name, unit="%", scale=100, digits=1, higher_is_better=higher_is_better, bounds=(0.0, 1.0))
    return Measure(name, higher_is_better=higher_is_better, bounds=(PERPLEXITIES.get(metric), None))


class HarnessMean(AdditiveMetric):
    """A metric of the harness whose aggregation follows from sums: a mean, a perplexity, bits per byte.

    Args:
        name: Key of the documents' values.
        aggregation: ``mean``, ``nanmean``, ``perplexity``, ``weighted_perplexity``, ``bits_per_byte`` or
            ``brier_score``.
        better: ``higher`` or ``lower`` values; None where neither is.
        answer: Key under which records have the answer that the metric judges, if there is one.
        parts: Tasks of a group whose means count alike, however many documents they have; one mean of all documents
            if omitted.

    Raises:
        UserError: If the aggregation is none of these.

    Example:
        >>> metric = HarnessMean("acc")
        >>> metric.update([{"values": {"acc": value}} for value in (1.0, 0.0, 1.0, 1.0)])
        >>> metric.compute()
        {'acc': 0.75, 'n': 4}
        >>> metric = HarnessMean("acc", parts=["law", "medicine"])
        >>> metric.update([{"values": {"acc": 1.0}, "part": part} for part in ("law", "law", "law")])
        >>> metric.update([{"values": {"acc": 0.0}, "part": "medicine"}])
        >>> metric.compute()["acc"]
        0.5
    """

    given = GIVEN

    def __init__(
        self,
        name: str,
        aggregation: str = "mean",
        better: Better = "higher",
        answer: str | None = None,
        parts: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if aggregation not in ADDITIVE:
            raise UserError(f"aggregation '{aggregation}' is not allowed; give one of {', '.join(ADDITIVE)}")
        self.name = name
        self.aggregation = aggregation
        self.better = better
        self.answer = answer
        self.parts = None if parts is None else list(parts)
        self.measures = (measure_of(name, better),)

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 3) for each part: value, weight, whether the value is neither 0 nor 1."""
        count = 1 if self.parts is None else len(self.parts)
        rows = np.zeros((len(records), count, 3))
        for row, record in zip(rows, records, strict=True):
            place = 0 if self.parts is None else self.parts.index(record["part"])
            row[place] = self._one(record["values"].get(self.name))
        return rows.reshape(len(records), 3 * count)

    def _one(self, value: Any) -> tuple[float, float, bool]:
        """A document's value, its weight, and whether the value is neither 0 nor 1; nothing where it has none."""
        weight = 1.0
        if value is None or (self.aggregation == "nanmean" and math.isnan(value)):
            return 0.0, 0.0, False
        if self.aggregation in ("weighted_perplexity", "bits_per_byte"):
            value, weight = value
        elif self.aggregation == "brier_score":
            gold, probabilities = value
            value = sum((p - (i == gold)) ** 2 for i, p in enumerate(probabilities))
        return float(value), float(weight), value not in (0, 1)

    def values(self, sums: Array) -> dict[str, Array]:
        split = sums.reshape(*sums.shape[:-1], -1, 3)
        each = ratio(split[..., 0], split[..., 1])
        found = ratio(np.nansum(each, axis=-1), np.isfinite(each).sum(-1).astype(float))
        if self.aggregation in ("perplexity", "weighted_perplexity"):
            found = np.exp(-found)
        elif self.aggregation == "bits_per_byte":
            found = -found / math.log(2)
        return {self.name: found}

    def interval(self, sums: Array) -> dict[str, tuple[float, float]]:
        """Return Wilson's interval of a share."""
        if self._is_share(sums) and sums[1]:
            return {self.name: wilson_interval(float(sums[0]), float(sums[1]))}
        return {}

    def paired_p(self, before: Array, after: Array) -> dict[str, float]:
        """Return McNemar's p value of two shares."""
        if self._is_share(before.sum(0)) and self._is_share(after.sum(0)):
            return {self.name: mcnemar_exact(before[:, 0], after[:, 0])}
        return {}

    def flips(self, before: Array, after: Array) -> dict[str, tuple[int, int]]:
        """Return how many documents were won and lost, where each is right or wrong."""
        if self._is_share(before.sum(0)) and self._is_share(after.sum(0)):
            return {self.name: won_and_lost(before[:, 0], after[:, 0])}
        return {}

    def _is_share(self, sums: Array) -> bool:
        return self.aggregation in ("mean", "nanmean") and self.parts is None and sums[2] == 0


class HarnessAggregate(Metric):
    """A metric of the harness with any aggregation: computed anew on the documents' values.

    Args:
        name: Key of the documents' values.
        aggregation: The harness' name of the aggregation, or ``file.py:function``.
        better: ``higher`` or ``lower`` values; None where neither is.
        answer: Key under which records have the answer that the metric judges, if there is one.
        parts: Tasks of a group, each aggregated by itself; one aggregation of all documents if omitted.
        by_size: Weigh parts by their number of documents.
    """

    full_state_update = False
    given = GIVEN

    def __init__(
        self,
        name: str,
        aggregation: str,
        better: Better = "higher",
        answer: str | None = None,
        parts: Sequence[str] | None = None,
        by_size: bool = True,
    ) -> None:
        super().__init__()
        self.name = name
        self.aggregation = aggregation
        self.better = better
        self.answer = answer
        self.parts = None if parts is None else list(parts)
        self.by_size = by_size
        self.measures = (measure_of(name, better),)
        self._items: dict[str, list[Any]] = {}

    def update(self, records: Sequence[Record]) -> None:
        """Add records."""
        for record in records:
            if self.name in record["values"]:
                part = "" if self.parts is None else record["part"]
                self._items.setdefault(part, []).append(record["values"][self.name])

    def compute(self) -> Any:
        """Return the measure's value, and ``n``, the number of documents."""
        sizes = [len(items) for items in self._items.values()]
        if not sizes:
            return {"n": 0}
        aggregate = aggregation_function(self.aggregation)
        each = [float(aggregate(items)) for items in self._items.values()]
        value = float(np.average(each, weights=sizes if self.by_size else None))
        return {self.name: value, "n": sum(sizes)}

    def reset(self) -> None:
        """Forget all records."""
        super().reset()
        self._items = {}


def aggregation_function(name: str) -> Callable[[list[Any]], float]:
    """Return an aggregation of the harness, or a function of a file.

    Args:
        name: The harness' name, or ``file.py:function``.

    Raises:
        UserError: If there is no such aggregation, or the harness is not installed.
    """
    file, _, function = name.rpartition(":")
    try:
        if file:
            return _function_of(Path(file), function)
        importlib.import_module("lm_eval.api.metrics")
        found = importlib.import_module("lm_eval.api.registry").get_aggregation(name)
    except Exception as error:  # a file of the user's may fail in any way
        raise UserError(f"aggregation '{name}' cannot be loaded: {reason_of(error)}") from error
    if found is None:
        raise UserError(f"aggregation '{name}' is not known to lm-evaluation-harness")
    aggregate: Callable[[list[Any]], float] = found
    return aggregate


def _function_of(file: Path, name: str) -> Callable[[list[Any]], float]:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    found: Callable[[list[Any]], float] = getattr(module, name)
    return found


def harness_metric(
    name: str,
    aggregation: str,
    better: Better,
    answer: str | None = None,
    parts: Sequence[str] | None = None,
    by_size: bool = True,
) -> Metric:
    """Return the metric that is fastest for an aggregation; see :class:`HarnessMean`, :class:`HarnessAggregate`.

    Args:
        name: Key of the documents' values.
        aggregation: As there.
        better: As there.
        answer: As there.
        parts: Tasks of a group.
        by_size: Weigh parts by their number of documents.

    Example:
        >>> harness_metric("acc", "mean", "higher").parts, type(harness_metric("f1", "f1", "higher")).__name__
        (None, 'HarnessAggregate')
    """
    sums_up = aggregation in ("mean", "nanmean", "brier_score") or (aggregation in ADDITIVE and not parts)
    if sums_up:
        return HarnessMean(name, aggregation, better, answer, None if by_size else parts)
    return HarnessAggregate(name, aggregation, better, answer, parts, by_size)


def judged(metric: str, record: Record) -> str | None:
    """Return the key of what a metric judges in a record, if there is one.

    Example:
        >>> judged("acc", {"best": 1}), judged("acc_norm", {"best": 1})
        ('best', None)
    """
    return next((key for key, names in JUDGES.items() if key in record and metric in names), None)


def better_of(metric: str, higher_is_better: bool | None = None) -> Better:
    """Return which values of a metric are better, by its name where nothing says so."""
    higher = metric not in LOWER if higher_is_better is None else higher_is_better
    return "higher" if higher else "lower"


def aggregation_of(named: str | None, metric: str, value: Any) -> str | None:
    """Return the aggregation of a metric whose values were read from a file; None where they cannot be aggregated.

    Args:
        named: What a task file says.
        metric: The metric.
        value: A document's value.

    Example:
        >>> aggregation_of(None, "acc", 1.0), aggregation_of(None, "brier_score", "[0.5 0.5]")
        ('mean', None)
    """
    aggregation = named or AGGREGATIONS.get(metric, "mean")
    if isinstance(value, int | float):
        return aggregation if aggregation in ("mean", "nanmean", "perplexity") else "mean"
    pairs = isinstance(value, list) and aggregation not in ("mean", "nanmean", "perplexity")
    known = aggregation in AGGREGATIONS.values() or aggregation in ADDITIVE
    return aggregation if pairs and known else None

"""Any torchmetrics metric read as an additive one, where all its states are sums over records."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_sum

from mlprune.metrics.additive import AdditiveMetric, Array
from mlprune.metrics.measure import measures_of, read_values


def states(metric: Metric) -> Iterator[tuple[Metric, str, Any]]:
    """Iterate over a metric's states, those of the metrics it is built on too: owner, name, empty value."""
    for part in metric.modules():
        if isinstance(part, Metric):
            yield from ((part, name, default) for name, default in part._defaults.items())


def has_sums_only(metric: Metric) -> bool:
    """Return whether all states are sums, so that those of single records can be added up.

    Example:
        >>> from torchmetrics.classification import BinaryAUROC, BinaryF1Score
        >>> has_sums_only(BinaryF1Score()), has_sums_only(BinaryAUROC())
        (True, False)
    """
    found = list(states(metric))
    return bool(found) and all(
        isinstance(default, torch.Tensor) and part._reductions[name] is dim_zero_sum for part, name, default in found
    )


def single_process(metric: Metric) -> Metric:
    """Return a copy that computes from what it holds: no collective, no cache, no warning that it was not updated."""
    alone = copy.deepcopy(metric)
    alone.reset()
    for part in alone.modules():
        if isinstance(part, Metric):
            part.sync_on_compute = part._to_sync = False
            part.compute_with_cache = False
    return alone


class SummedStates:
    """A metric whose states are sums, with the methods of :class:`mlprune.metrics.AdditiveMetric`.

    Args:
        metric: Its ``update`` takes a list of records.

    Example:
        >>> from torchmetrics import SumMetric
        >>> class Length(SumMetric):
        ...     def update(self, records):
        ...         super().update(float(sum(len(record["output"]) for record in records)))
        >>> summed = SummedStates(Length())
        >>> summed.values(summed.statistics([{"output": "yes"}, {"output": "no"}]).sum(0))
        {'Length': array(5.)}
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = single_process(metric).cpu()

    def statistics(self, records: Sequence[Any]) -> Array:
        """Return each record's states, flat, (n, k)."""
        rows = []
        for record in records:
            self.metric.reset()
            self.metric.update([record])
            found = [getattr(part, name).double().reshape(-1) for part, name, _ in states(self.metric)]
            rows.append(torch.cat(found).numpy())
        width = sum(default.numel() for _, _, default in states(self.metric))
        return np.array(rows, dtype=np.float64).reshape(-1, width)

    def values(self, sums: Array) -> dict[str, Array]:
        """Return measure to value for sums of states, (..., k) to (...); equal sums are computed once."""
        rows, inverse = np.unique(sums.reshape(-1, sums.shape[-1]), axis=0, return_inverse=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a resample may lack a class
            found = [self._value(row) for row in rows]
        names = [measure.name for measure in measures_of(self.metric)]
        columns = {name: np.array([value[name] for value in found], dtype=np.float64) for name in names}
        return {name: column[inverse].reshape(sums.shape[:-1]) for name, column in columns.items()}

    def interval(self, sums: Array) -> dict[str, tuple[float, float]]:
        """Return no interval: there is no formula."""
        return {}

    def paired_p(self, before: Array, after: Array) -> dict[str, float]:
        """Return no p value: there is no test but swapping."""
        return {}

    def flips(self, before: Array, after: Array) -> dict[str, tuple[int, int]]:
        """Return nothing: records are not right or wrong."""
        return {}

    def _value(self, row: Array) -> dict[str, float]:
        start = 0
        for part, name, default in states(self.metric):
            value = torch.from_numpy(row[start : start + default.numel()]).reshape(default.shape)
            setattr(part, name, (value if default.is_floating_point() else value.round()).to(default.dtype))
            part._update_count, part._computed = 1, None
            start += default.numel()
        return read_values(self.metric, self.metric.compute())


def as_additive(metric: Metric) -> AdditiveMetric | SummedStates | None:
    """Return a metric with ``statistics`` and ``values``; None where it has to be computed anew on other records."""
    if isinstance(metric, AdditiveMetric):
        return metric
    return SummedStates(metric) if has_sums_only(metric) else None

"""Any torchmetrics metric of texts, over the answers and references of records."""

import re
from collections.abc import Sequence
from typing import Any

from torchmetrics import Metric

from mlprune.metrics.additive import Record
from mlprune.metrics.measure import Measure, measures_of


class TextMetric(Metric):
    """A torchmetrics class that compares texts with references, such as ``torchmetrics.text.CharErrorRate``.

    Args:
        metric: Its ``update`` takes a list of texts and one of references.
        answer: Key under which a record has what the system said.
        reference: Key under which it has what is right.
        name: Name of the figure; the class's, in small letters, if omitted.

    Example:
        >>> from torchmetrics.text import CharErrorRate
        >>> metric = TextMetric(CharErrorRate())
        >>> metric.update([{"output": "a cat", "reference": "a hat"}])
        >>> round(float(metric.compute()), 2), metric.measures[0].name, metric.measures[0].higher_is_better
        (0.2, 'char_error_rate', False)
    """

    full_state_update = False

    def __init__(
        self, metric: Metric, answer: str = "output", reference: str = "reference", name: str | None = None
    ) -> None:
        super().__init__()
        self.metric = metric
        self.answer = answer
        self.reference = reference
        self.name = name
        self.given = (reference,)
        (measure,) = measures_of(metric)[:1]
        usual = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", measure.name).lower()
        self.measures = (Measure(name or usual, name or "", higher_is_better=measure.higher_is_better),)

    def update(self, records: Sequence[Record]) -> None:
        """Add records."""
        self.metric.update(*([record[key] for record in records] for key in (self.answer, self.reference)))

    def compute(self) -> Any:
        """Return what the metric computes."""
        return self.metric.compute()

    def reset(self) -> None:
        """Forget all records."""
        super().reset()
        self.metric.reset()

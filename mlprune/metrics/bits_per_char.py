"""Language modelling quality, comparable between languages with different tokenizations."""

import math
from collections.abc import Sequence

import numpy as np

from mlprune.errors import NOT_FINITE, UserError
from mlprune.metrics.additive import AdditiveMetric, Array, Record, ratio
from mlprune.metrics.measure import Measure


class BitsPerChar(AdditiveMetric):
    """Bits the model needs for a character of text, on average; lower is better.

    Records have ``log_prob``, the natural log-probability of a text, and ``chars``, its number of characters.

    Example:
        >>> metric = BitsPerChar()
        >>> metric.update([{"log_prob": -math.log(2) * 10, "chars": 5}])
        >>> metric.compute()
        {'bits_per_char': 2.0, 'n': 1}
    """

    measures = (Measure("bits_per_char", "bits per character", higher_is_better=False, bounds=(0.0, None)),)
    given = ("chars",)
    higher_is_better = False
    plot_lower_bound = 0.0

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 2): log-probability, characters.

        Raises:
            UserError: If a log-probability is not finite.
        """
        rows = np.array([(record["log_prob"], record["chars"]) for record in records], dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(rows).all():
            raise UserError(f"log-probabilities of texts are not finite; {NOT_FINITE}")
        return rows

    def values(self, sums: Array) -> dict[str, Array]:
        return {"bits_per_char": ratio(-sums[..., 0] / math.log(2), sums[..., 1])}

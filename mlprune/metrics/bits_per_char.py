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
    key = "chars"  # what a record's bits are divided by
    higher_is_better = False
    plot_lower_bound = 0.0

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 2): log-probability, characters (or bytes).

        Raises:
            UserError: If a log-probability is not finite.
        """
        pairs = [(record["log_prob"], record.get(self.key, 0)) for record in records]
        rows = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(rows).all():
            raise UserError(f"log-probabilities of texts are not finite; {NOT_FINITE}")
        return rows

    def values(self, sums: Array) -> dict[str, Array]:
        return {"bits_per_char": ratio(-sums[..., 0] / math.log(2), sums[..., 1])}


class BitsPerByte(BitsPerChar):
    """Bits the model needs for a byte of UTF-8 text, on average; lower is better. A further metric.

    A character of Hindi or Chinese takes three bytes and says more than a Latin one: bytes compare scripts differently.

    Records have ``log_prob`` and ``bytes``; of those without the latter there is no value.

    Example:
        >>> metric = BitsPerByte()
        >>> metric.update([{"log_prob": -math.log(2) * 12, "bytes": 6}])
        >>> metric.compute()
        {'bits_per_byte': 2.0, 'n': 1}
    """

    measures = (Measure("bits_per_byte", "bits per byte", higher_is_better=False, bounds=(0.0, None)),)
    given = ("bytes",)
    key = "bytes"

    def values(self, sums: Array) -> dict[str, Array]:
        return {"bits_per_byte": ratio(-sums[..., 0] / math.log(2), sums[..., 1])}


class Fertility(AdditiveMetric):
    """Tokens that the tokenizer makes of a word, on average: how well it knows a language. A further metric.

    Words are what stands between spaces; of scripts that put none between words there is no value.

    Source: Rust et al. 2021, "How Good is Your Tokenizer?".

    Records have ``tokens`` and ``words``; of those without them there is no value.

    Example:
        >>> metric = Fertility()
        >>> metric.update([{"tokens": 9, "words": 6}, {"tokens": 7, "words": 0}])
        >>> metric.compute()
        {'fertility': 1.5, 'n': 2}
    """

    measures = (Measure("fertility", "tokens per word", digits=2, higher_is_better=None, bounds=(0.0, None)),)
    given = ("words",)
    plot_lower_bound = 0.0

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 2): tokens, words."""
        rows = [(record.get("tokens", 0), record["words"]) if record.get("words") else (0, 0) for record in records]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    def values(self, sums: Array) -> dict[str, Array]:
        return {"fertility": ratio(sums[..., 0], sums[..., 1])}

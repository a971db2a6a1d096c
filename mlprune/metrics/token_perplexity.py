"""Perplexity of tokens, as papers on pruning print it."""

from collections.abc import Sequence

import numpy as np

from mlprune.errors import NOT_FINITE, UserError
from mlprune.metrics.additive import AdditiveMetric, Array, Record, ratio
from mlprune.metrics.measure import Measure


class TokenPerplexity(AdditiveMetric):
    """The exponential of the mean negative log-probability of a token; lower is better.

    Only models with one tokenizer can be compared by it; :class:`mlprune.metrics.BitsPerChar` compares any.

    Records have ``log_prob``, the natural log-probability of a text, and ``tokens``, how many tokens it is of.

    Example:
        >>> metric = TokenPerplexity()
        >>> metric.update([{"log_prob": -4 * np.log(8), "tokens": 4}])
        >>> round(metric.compute()["token_perplexity"], 6)
        8.0
    """

    measures = (Measure("token_perplexity", "perplexity", digits=2, higher_is_better=False, bounds=(1.0, None)),)
    given = ("tokens",)
    higher_is_better = False
    plot_lower_bound = 1.0

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 2): log-probability, tokens.

        Raises:
            UserError: If a log-probability is not finite.
        """
        rows = np.array([(record["log_prob"], record["tokens"]) for record in records], np.float64).reshape(-1, 2)
        if not np.isfinite(rows).all():
            raise UserError(f"log-probabilities of texts are not finite; {NOT_FINITE}")
        return rows

    def values(self, sums: Array) -> dict[str, Array]:
        with np.errstate(over="ignore"):
            found: Array = np.exp(-ratio(sums[..., 0], sums[..., 1]))
        return {"token_perplexity": found}

"""How well generated answers match given ones, by their words."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlprune.metrics.additive import AdditiveMetric, Array, Record, ratio
from mlprune.metrics.measure import Measure

ARTICLES = {"en": r"\b(a|an|the)\b", "ar": r"(?:^|\s)ال"}


def normalized(text: str, lang: str | None = None) -> str:
    """Return an answer as answers are compared: small letters, no punctuation, no articles, single spaces.

    Args:
        text: The answer.
        lang: Its language, whose articles go, and any script's punctuation; as SQuAD's script does with English (ASCII
            punctuation only) if omitted.

    Example:
        >>> normalized("The  Nile, of course!"), normalized("«Le Nil»", "fr")
        ('nile of course', 'le nil')
    """
    text = text.lower()
    if lang is None:
        text = "".join(char for char in text if char not in string.punctuation)
    else:
        marks = set(string.punctuation)
        text = "".join(char for char in text if char not in marks and not unicodedata.category(char).startswith("P"))
    if articles := ARTICLES.get(lang or "en"):
        text = re.sub(articles, " ", text)
    return " ".join(text.split())


class SpanMatch(AdditiveMetric):
    """F1 over words and exact match of answers with the best-fitting one of several right ones.

    Records have ``output`` and ``references``, a list of texts.

    Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text"; Clark et al. 2020,
    "TyDi QA" (``lang``).

    Args:
        lang: See :func:`normalized`.

    Example:
        >>> metric = SpanMatch()
        >>> metric.update([{"output": "on the blue Nile", "references": ["The Nile", "Cairo"]}])
        >>> metric.compute()
        {'f1': 0.5, 'exact_match': 0.0, 'n': 1}
    """

    measures = (
        Measure("f1", "F1", unit="%", scale=100, digits=1, bounds=(0.0, 1.0)),
        Measure("exact_match", "exact match", unit="%", scale=100, digits=1, bounds=(0.0, 1.0)),
    )
    answer = "output"
    given = ("references",)
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, lang: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lang = lang

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 3): F1, exact match, an answer."""
        rows = [(*self._best(record["output"], record["references"]), 1) for record in records]
        return np.array(rows, dtype=np.float64).reshape(-1, 3)

    def values(self, sums: Array) -> dict[str, Array]:
        return {"f1": ratio(sums[..., 0], sums[..., 2]), "exact_match": ratio(sums[..., 1], sums[..., 2])}

    def _best(self, output: str, references: Sequence[str]) -> tuple[float, float]:
        said = normalized(output, self.lang)
        right = [normalized(reference, self.lang) for reference in references]
        return max(word_f1(said, text) for text in right), float(said in right)


def word_f1(said: str, right: str) -> float:
    """Return the harmonic mean of the words' precision and recall.

    Example:
        >>> word_f1("blue nile", "nile"), word_f1("", "nile"), word_f1("", "")
        (0.6666666666666666, 0.0, 1.0)
    """
    words, wanted = said.split(), right.split()
    if not words or not wanted:
        return float(words == wanted)
    return 2 * (Counter(words) & Counter(wanted)).total() / (len(words) + len(wanted))

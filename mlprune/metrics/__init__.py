"""torchmetrics metrics: accuracy with its interval, RankC, BLEU and chrF, bits per character."""

from mlprune.metrics.accuracy import Accuracy, wilson_interval
from mlprune.metrics.bits_per_char import BitsPerChar
from mlprune.metrics.rankc import ExpectedRankC, RankC, expected_rankc, rankc_each
from mlprune.metrics.translation import Translation

__all__ = [
    "Accuracy",
    "BitsPerChar",
    "ExpectedRankC",
    "RankC",
    "Translation",
    "expected_rankc",
    "rankc_each",
    "wilson_interval",
]

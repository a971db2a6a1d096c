"""Metrics, and what they declare of their figures: accuracy, RankC, F1, BLEU and chrF++, bits per character."""

from mlprune.metrics.accuracy import Accuracy, AccuracyIn, mcnemar_exact, wilson_interval
from mlprune.metrics.additive import AdditiveMetric, PairMetric, Record, WeightedMetric
from mlprune.metrics.bits_per_char import BitsPerByte, BitsPerChar, Fertility
from mlprune.metrics.calibration import AnswerCalibration
from mlprune.metrics.fidelity import LanguageFidelity
from mlprune.metrics.harness import HarnessAggregate, HarnessMean
from mlprune.metrics.labels import Auroc, LabelShares, Recall, label_metrics
from mlprune.metrics.measure import Figure, Measure, measures_of
from mlprune.metrics.probability import RightProbability
from mlprune.metrics.rankc import ExpectedRankC, RankC, expected_rankc, rankc_each
from mlprune.metrics.spans import SpanMatch
from mlprune.metrics.spbleu import SpBleu
from mlprune.metrics.text import TextMetric
from mlprune.metrics.token_perplexity import TokenPerplexity
from mlprune.metrics.translation import Translation

__all__ = [
    "Accuracy",
    "AccuracyIn",
    "AdditiveMetric",
    "AnswerCalibration",
    "Auroc",
    "BitsPerByte",
    "BitsPerChar",
    "ExpectedRankC",
    "Fertility",
    "Figure",
    "HarnessAggregate",
    "HarnessMean",
    "LabelShares",
    "LanguageFidelity",
    "Measure",
    "PairMetric",
    "RankC",
    "Recall",
    "Record",
    "RightProbability",
    "SpBleu",
    "SpanMatch",
    "TextMetric",
    "TokenPerplexity",
    "Translation",
    "WeightedMetric",
    "expected_rankc",
    "label_metrics",
    "mcnemar_exact",
    "measures_of",
    "rankc_each",
    "wilson_interval",
]

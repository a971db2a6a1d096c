"""BLEU and chrF over a corpus, from sacrebleu's own sufficient statistics, which add up over processes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from mlprune.errors import UserError
from mlprune.languages import is_language, language
from mlprune.metrics.additive import AdditiveMetric, Array, Record
from mlprune.metrics.measure import Measure

TOKENIZERS = {"Hans": "zh", "Hant": "zh", "Jpan": "ja-mecab", "Hang": "ko-mecab"}  # by script, as in FLORES
# scripts that put no space between words, where 13a would compare whole sentences
TOKENIZERS |= dict.fromkeys(("Khmr", "Laoo", "Mymr", "Thai", "Tibt"), "char")
EXTRAS = {"ja-mecab": "ja", "ko-mecab": "ko"}
BLEU_STATISTICS = 10  # two lengths, and matching and all n-grams of four orders


def bleu_tokenizer(target_lang: str) -> str:
    """Return the name of sacrebleu's tokenizer for a language: 13a, which cuts at spaces, unless its script has none.

    Example:
        >>> bleu_tokenizer("fr"), bleu_tokenizer("km")
        ('13a', 'char')
    """
    script = language(target_lang).script if is_language(target_lang) else ""
    return TOKENIZERS.get(script, "13a")


def bleu_scorer(target_lang: str, tokenizer: str | None = None, references: list[list[str]] | None = None) -> BLEU:
    """Return sacrebleu's BLEU with the tokenizer for a target language.

    Args:
        target_lang: ISO 639-1 code of the language translated into.
        tokenizer: A sacrebleu tokenizer name instead.
        references: Lists of references to be kept ready, one list in most cases.

    Raises:
        UserError: If the tokenizer is not known, or needs a package or a file that cannot be had.

    Example:
        >>> bleu_scorer("zh").corpus_score(["我今天去学校。"], [["我今天去学校。"]]).score > 99
        True
    """
    name = tokenizer or bleu_tokenizer(target_lang)
    if name not in BLEU.TOKENIZERS:
        raise UserError(f"bleu_tokenizer '{name}' is not allowed; give one of {', '.join(BLEU.TOKENIZERS)}")
    try:
        return BLEU(tokenize=name, references=references)
    except OSError as error:  # flores200 and its kind are downloaded once
        raise UserError(f"BLEU tokenizer '{name}' cannot be downloaded: {error}; set bleu_tokenizer: char") from error
    except (ImportError, RuntimeError) as error:
        todo = f'run: pip install "sacrebleu[{EXTRAS[name]}]", or set bleu_tokenizer: char' if name in EXTRAS else error
        raise UserError(f"BLEU tokenizer '{name}' for '{target_lang}' is not installed; {todo}") from error


class Translation(AdditiveMetric):
    """Corpus BLEU and chrF++ with sacrebleu's signatures.

    Records have ``output``, the translation, and ``reference``.

    Args:
        target_lang: Language translated into; it chooses BLEU's tokenizer.
        bleu_tokenizer: A sacrebleu tokenizer name instead.

    Example:
        >>> metric = Translation("en")
        >>> metric.update([{"output": "the cat sat on the mat", "reference": "the cat sat on the mat"}])
        >>> round(metric.compute()["bleu"], 1)
        100.0
    """

    measures = (
        Measure("bleu", "BLEU", digits=1, bounds=(0.0, 100.0), beside="chrf"),
        Measure("chrf", "chrF++", digits=1, bounds=(0.0, 100.0)),
    )
    answer = "output"
    given = ("reference",)
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, target_lang: str = "en", bleu_tokenizer: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_lang = target_lang
        self.bleu_tokenizer = bleu_tokenizer
        self.bleu_scorer = bleu_scorer(target_lang, bleu_tokenizer)
        self.chrf_scorer = CHRF(word_order=2)
        self.bleu_scorer.num_refs = self.chrf_scorer.num_refs = 1  # their signatures name it

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return sacrebleu's statistics, (n, 35): 10 of BLEU, 24 of chrF++, and whether the prompt was cut."""
        if not records:
            return np.zeros((0, BLEU_STATISTICS + 3 * self.chrf_scorer.order + 1))
        outputs, references = ([record[key] for record in records] for key in ("output", "reference"))
        scorers = (self.bleu_scorer, self.chrf_scorer)
        parts = [scorer._extract_corpus_statistics(outputs, [references]) for scorer in scorers]
        parts.append([["tokens_cut" in record] for record in records])
        return np.concatenate([np.array(part, dtype=np.float64) for part in parts], axis=1)

    def values(self, sums: Array) -> dict[str, Array]:
        """Return sacrebleu's own score of one vector of sums, and the same to the last bits but few of many."""
        bleu, chrf = sums[..., :BLEU_STATISTICS], sums[..., BLEU_STATISTICS:-1]
        if sums.ndim > 1:
            return {"bleu": corpus_bleu(bleu), "chrf": corpus_chrf(chrf, self.chrf_scorer.beta)}
        parts = ((self.bleu_scorer, bleu), (self.chrf_scorer, chrf))
        scores = [scorer._compute_score_from_stats([int(count) for count in part]).score for scorer, part in parts]
        return {"bleu": np.asarray(scores[0]), "chrf": np.asarray(scores[1])}

    def compute(self) -> dict[str, Any]:
        """Return ``bleu`` and ``chrf`` (0 to 100), ``chrf_variant``, ``signatures``, ``n``; ``truncated`` if any."""
        found: dict[str, Any] = super().compute()
        if found["n"] == 0:
            return found
        scorers = {"bleu": self.bleu_scorer, "chrf": self.chrf_scorer}
        signatures = {name: str(scorer.get_signature()) for name, scorer in scorers.items()}
        cut = int(self.sums()[-1])
        about = {"chrf_variant": "chrF++ (word order 2)", "signatures": signatures}
        return found | about | ({"truncated": cut} if cut else {})


def corpus_bleu(sums: Array) -> Array:
    """Return BLEU for sums of sacrebleu's statistics, with its smoothing (``exp``).

    Source: Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; Chen and Cherry
    2014, method 3.

    Args:
        sums: (..., 10): lengths of output and reference, matching n-grams, all n-grams.

    Example:
        >>> corpus_bleu(np.array([[4, 4, 4, 3, 2, 1, 4, 3, 2, 1.0]])).round(1)
        array([100.])
    """
    size, wanted = sums[..., 0], sums[..., 1]
    found, total = sums[..., 2:6], sums[..., 6:10]
    halvings = np.cumsum((found == 0) & (total > 0), axis=-1)
    counted = np.where(found > 0, found, 0.5**halvings)
    precisions = np.divide(100 * counted, total, out=np.zeros_like(total), where=total > 0)
    logs = np.log(precisions, out=np.full_like(precisions, -9999999999.0), where=precisions > 0)
    shortness = np.divide(wanted, size, out=np.full_like(size, np.inf), where=size > 0)
    score = np.exp(np.minimum(1 - shortness, 0.0)) * np.exp(logs.sum(-1) / 4)
    return np.where(found.any(-1), score, 0.0)


def corpus_chrf(sums: Array, beta: int) -> Array:
    """Return chrF for sums of sacrebleu's statistics.

    Source: Popovic 2017, "chrF++: words helping character n-grams".

    Args:
        sums: (..., 3 * orders): n-grams of the output, of the reference and matching ones, for each order.
        beta: Weight of recall.

    Example:
        >>> corpus_chrf(np.array([[4.0, 4, 4, 3, 3, 3]]), beta=2)
        array([100.])
    """
    output, reference, match = (sums[..., i::3] for i in range(3))
    counts = (output > 0) & (reference > 0)
    orders = np.maximum(counts.sum(-1), 1)
    precision, recall = (
        np.divide(match, size, out=np.zeros_like(match), where=counts).sum(-1) / orders for size in (output, reference)
    )
    below = beta**2 * precision + recall
    score: Array = np.divide((1 + beta**2) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    return 100 * score

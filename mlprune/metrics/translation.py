"""BLEU and chrF over a corpus, from sacrebleu's own sufficient statistics, which add up over processes."""

import torch
from sacrebleu.metrics import BLEU, CHRF
from torch import Tensor

from mlprune.errors import UserError
from mlprune.exact import ExactMetric
from mlprune.languages import LANGUAGES

TOKENIZERS = {"Hans": "zh", "Hant": "zh", "Jpan": "ja-mecab", "Hang": "ko-mecab"}  # by script, as in FLORES
# scripts that put no space between words, where 13a would compare whole sentences
TOKENIZERS |= dict.fromkeys(("Khmr", "Laoo", "Mymr", "Thai", "Tibt"), "char")
EXTRAS = {"ja-mecab": "ja", "ko-mecab": "ko"}


def bleu_tokenizer(target_lang: str) -> str:
    """Return the name of sacrebleu's tokenizer for a language: 13a, which cuts at spaces, unless its script has none.

    Example:
        >>> bleu_tokenizer("fr"), bleu_tokenizer("km")
        ('13a', 'char')
    """
    script = LANGUAGES[target_lang].flores.rpartition("_")[2] if target_lang in LANGUAGES else ""
    return TOKENIZERS.get(script, "13a")


def bleu_scorer(target_lang: str, tokenizer: str | None = None, references: list[list[str]] | None = None) -> BLEU:
    """Return sacrebleu's BLEU with the tokenizer for a target language.

    Args:
        target_lang: ISO 639-1 code of the language translated into.
        tokenizer: A sacrebleu tokenizer name instead.
        references: Lists of references to be kept ready, one list in most cases.

    Raises:
        UserError: If the tokenizer is not known, or needs a package that is not installed.

    Example:
        >>> bleu_scorer("zh").corpus_score(["我今天去学校。"], [["我今天去学校。"]]).score > 99
        True
    """
    name = tokenizer or bleu_tokenizer(target_lang)
    if name not in BLEU.TOKENIZERS:
        raise UserError(f"bleu_tokenizer '{name}' is not allowed; give one of {', '.join(BLEU.TOKENIZERS)}")
    try:
        return BLEU(tokenize=name, references=references)
    except (ImportError, RuntimeError) as error:
        todo = f'run: pip install "sacrebleu[{EXTRAS[name]}]", or set bleu_tokenizer: char' if name in EXTRAS else error
        raise UserError(f"BLEU tokenizer '{name}' for '{target_lang}' is not installed; {todo}") from error


class Translation(ExactMetric):
    """Corpus BLEU and chrF++ with sacrebleu's signatures.

    Args:
        target_lang: Language translated into; it chooses BLEU's tokenizer.
        bleu_tokenizer: A sacrebleu tokenizer name instead.

    Example:
        >>> metric = Translation("en")
        >>> metric.update(["the cat sat on the mat"], ["the cat sat on the mat"])
        >>> round(metric.compute()["bleu"], 1)
        100.0
    """

    def __init__(self, target_lang: str = "en", bleu_tokenizer: str | None = None) -> None:
        super().__init__()
        self.bleu_scorer = bleu_scorer(target_lang, bleu_tokenizer)
        self.chrf_scorer = CHRF(word_order=2)
        bleu, chrf = (len(stats) for stats in segment_statistics([""], [""], self.bleu_scorer, self.chrf_scorer))
        self.add_state("bleu", torch.zeros(bleu, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("chrf", torch.zeros(chrf, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: list[str], references: list[str]) -> None:
        """Add segments: translations and one reference for each."""
        if outputs:
            bleu, chrf = segment_statistics(outputs, references, self.bleu_scorer, self.chrf_scorer)
            self.bleu += bleu.to(self.device)
            self.chrf += chrf.to(self.device)
            self.n += len(outputs)

    def compute(self) -> dict[str, float | int | str | dict[str, str]]:
        """Return ``bleu`` and ``chrf`` (0 to 100), ``chrf_variant``, ``signatures`` and ``n``."""
        if int(self.n) == 0:
            return {"n": 0}
        return {
            "bleu": self.bleu_scorer._compute_score_from_stats(self.bleu.tolist()).score,
            "chrf": self.chrf_scorer._compute_score_from_stats(self.chrf.tolist()).score,
            "chrf_variant": "chrF++ (word order 2)",
            "signatures": {
                "bleu": str(self.bleu_scorer.get_signature()),
                "chrf": str(self.chrf_scorer.get_signature()),
            },
            "n": int(self.n),
        }


def segment_statistics(outputs: list[str], references: list[str], bleu: BLEU, chrf: CHRF) -> tuple[Tensor, Tensor]:
    """Return sacrebleu's statistics summed over segments.

    Args:
        outputs: Translations.
        references: One reference each.
        bleu: The scorer, with its tokenizer.
        chrf: The scorer.

    Returns:
        int64 vectors for BLEU and chrF.

    Example:
        >>> bleu, _ = segment_statistics(["a b c d"], ["a b c d"], BLEU(), CHRF())
        >>> bleu.tolist()  # lengths, then matching and all n-grams
        [4, 4, 4, 3, 2, 1, 4, 3, 2, 1]
    """
    totals = []
    for scorer in (bleu, chrf):
        rows = scorer._extract_corpus_statistics(outputs, [references])
        totals.append(torch.tensor(rows, dtype=torch.int64).sum(0))
        # a signature needs to know how many references there are
        scorer.num_refs = 1
    return totals[0], totals[1]

"""Calibration mixes: prompts of many languages in given proportions, such as those a model was trained in."""

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from mlprune.data.corpora import Corpus
from mlprune.data.demonstrations import (
    DemonstrationGroups,
    Demonstrations,
    MonolingualDemonstrations,
    TranslationDemonstrations,
)
from mlprune.errors import UserError, did_you_mean
from mlprune.languages import language

NUM_PROMPTS = 256  # as Multilingual Brain Surgeon has

# Multilingual Brain Surgeon (X-LANCE/MBS, bloom-7b1_MBS.sh): of its 256 segments for BLOOM, how many each language has
MBS: dict[str, float] = {
    **{"en": 87, "zh": 47, "fr": 37, "es": 31, "pt": 14, "ar": 13, "vi": 7, "hi": 4, "id": 3, "bn": 3},
    **dict.fromkeys(("ta", "te", "ur", "ne", "mr", "gu", "zh-Hant", "sw", "yo", "ig"), 1),
}
# BLOOM (BigScience's training README): percent of the training data; the rest, 13%, is code
BLOOM = {
    **{"en": 30.3, "zh": 17.7, "fr": 13.1, "es": 10.7, "pt": 5.0, "ar": 3.3, "vi": 2.5, "ca": 1.1, "id": 1.1},
    **{"eu": 0.2, "hi": 0.7, "bn": 0.5, "ta": 0.2, "ur": 0.1, "ml": 0.1, "te": 0.09, "ne": 0.07, "kn": 0.06},
    **{"pa": 0.05, "mr": 0.05, "gu": 0.04, "or": 0.04, "as": 0.01, "sw": 0.02, "yo": 0.006, "rw": 0.003},
    **{"xh": 0.001, "ig": 0.001, "zu": 0.001, "sn": 0.001, "lg": 0.0004, "wo": 0.0004, "rn": 0.0003, "fon": 0.0002},
    **{"nso": 0.0002, "ln": 0.0002, "tn": 0.0002, "tw": 0.0001, "ny": 0.0001, "st": 0.00007, "ts": 0.00007},
    **{"ak": 0.00007, "bm": 0.00004, "ki": 0.00004, "tum": 0.00002},
}
# XGLM (its model card, "ratio w/ lowRes upsampling"): share of what the model saw in training
XGLM = {
    **{"en": 0.3259, "ru": 0.0602, "zh": 0.0483, "de": 0.0363, "es": 0.0353, "fr": 0.0313, "ja": 0.0269},
    **{"it": 0.0171, "pt": 0.0297, "el": 0.0233, "ko": 0.0811, "fi": 0.0681, "id": 0.0125, "tr": 0.0101},
    **{"ar": 0.0099, "vi": 0.0091, "th": 0.044, "bg": 0.0393, "ca": 0.0287, "hi": 0.014, "et": 0.0133},
    **{"bn": 0.0066, "ta": 0.006, "ur": 0.0055, "sw": 0.0037, "te": 0.0028, "eu": 0.0043, "my": 0.003},
    **{"ht": 0.0035, "qu": 0.0001},
}
PRESETS: dict[str, dict[str, float]] = {"mbs": MBS, "bloom": BLOOM, "xglm": XGLM}


class LanguageMix(DemonstrationGroups):
    """Prompts of many languages in given proportions, in all as many as asked for, of each language at least one.

    Each language is a calibration group of its own, named by its code, so that a score may pool languages in several
    ways (``pool``); pooled by tokens, the default, they count as they are mixed. Multilingual Brain Surgeon (Zeng et
    al. 2024, arXiv 2404.04748) is Wanda or SparseGPT after calibration on ``proportions: mbs``; its segments are whole
    documents of CC100, cut at 2,048 tokens. Cost: that of as many prompts of one language.

    Args:
        proportions: Language to its weight, or a preset: ``mbs`` (its 256 segments for BLOOM), ``bloom`` or ``xglm``
            (shares of the training data). mGPT's are public as a chart only.
        languages: Only these languages, such as those that the corpus has; all if omitted.
        num_prompts: Prompts of all languages together; 256 if omitted.
        target_lang: Translation prompts into this language instead of text in one language; its own share is text.
        shots: Sentences, or sentence pairs, in a prompt.
        corpus: Column ``text`` in every language, parallel with ``target_lang``; the bundled dev split if omitted.
        separator: ``eos`` for the tokenizer's end-of-text token, else the text that ends each sentence.
        max_tokens: Longer prompts are cut; ``data.max_tokens`` if omitted.
        seed: Seed of the choice of rows; ``data.seed`` if omitted.

    Raises:
        UserError: If a preset, a language or a weight is not allowed, or there are fewer prompts than languages.

    Example:
        >>> LanguageMix("mbs", languages=["en", "fr", "hi"], num_prompts=64).counts
        {'en': 44, 'fr': 18, 'hi': 2}
        >>> LanguageMix("mbs").counts == MBS
        True
    """

    def __init__(
        self,
        proportions: str | dict[str, float],
        languages: list[str] | None = None,
        num_prompts: int | None = None,
        target_lang: str | None = None,
        shots: int = 4,
        corpus: Corpus | None = None,
        separator: str = "eos",
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> None:
        weights = chosen_proportions(proportions, languages)
        self.counts = shares_of(weights, NUM_PROMPTS if num_prompts is None else num_prompts)
        self.target_lang = target_lang
        self.options: dict[str, Any] = {
            "shots": shots,
            "corpus": corpus,
            "separator": separator,
            "max_tokens": max_tokens,
            "seed": seed,
        }

    @override
    def groups(self, name: str) -> dict[str, Demonstrations]:
        return {lang: self._part(lang, count) for lang, count in self.counts.items()}

    def _part(self, lang: str, num_prompts: int) -> Demonstrations:
        if self.target_lang is None or self.target_lang == lang:
            return MonolingualDemonstrations(lang, num_prompts=num_prompts, **self.options)
        return TranslationDemonstrations(lang, self.target_lang, num_prompts=num_prompts, **self.options)


def chosen_proportions(proportions: str | dict[str, float], languages: list[str] | None) -> dict[str, float]:
    """Return language to weight, of a preset or as given, of some languages or all.

    Raises:
        UserError: If a preset, language or weight is not allowed.

    Example:
        >>> chosen_proportions("xglm", ["fr", "sw"])
        {'fr': 0.0313, 'sw': 0.0037}
    """
    if isinstance(proportions, str) and proportions not in PRESETS:
        allowed = f"a dict of language to weight, or one of {', '.join(PRESETS)}"
        hint = did_you_mean(proportions, PRESETS)
        raise UserError(f"LanguageMix: proportions '{proportions}' does not exist; give {allowed}{hint}")
    weights = dict(PRESETS[proportions]) if isinstance(proportions, str) else dict(proportions)
    for lang, weight in weights.items():
        language(lang)
        if not 0 < weight < float("inf"):
            raise UserError(f"LanguageMix: proportions {weight} of '{lang}' is not allowed; give more than 0")
    if not weights or languages == []:
        raise UserError("LanguageMix: there is no language; give at least one")
    for lang in languages or []:
        if lang not in weights:
            raise UserError(f"LanguageMix: proportions have no '{lang}'; they have {', '.join(weights)}")
    return {lang: weights[lang] for lang in languages or weights}


def shares_of(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Return whole numbers in these proportions, none below one; what is left goes to the largest remainders.

    Raises:
        UserError: If there are fewer than one for each.

    Example:
        >>> shares_of({"en": 3, "fr": 1, "sw": 0.001}, 10)
        {'en': 7, 'fr': 2, 'sw': 1}
    """
    if total < len(weights):
        raise UserError(f"LanguageMix: num_prompts {total} is less than one for each of {len(weights)} languages")
    whole = sum(weights.values())
    above = {lang: max(total * weight / whole - 1, 0.0) for lang, weight in weights.items()}  # one, which each has
    scale = (total - len(weights)) / (sum(above.values()) or 1.0)
    exact = {lang: scale * value for lang, value in above.items()}
    shares = {lang: 1 + int(value + 1e-9) for lang, value in exact.items()}
    by_remainder = sorted(exact, key=lambda lang: shares[lang] - 1 - exact[lang])  # stable: ties in the given order
    for lang in by_remainder[: total - sum(shares.values())]:
        shares[lang] += 1
    return shares

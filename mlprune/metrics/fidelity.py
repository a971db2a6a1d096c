"""Whether a model writes in the language it should: by script, or by a language identifier."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from mlprune.errors import UserError
from mlprune.languages import language
from mlprune.metrics.additive import AdditiveMetric, Array, Record, ratio
from mlprune.metrics.measure import Measure

Identifier = Literal["script", "lingua"]
SCRIPTS = {  # ISO 15924 code to what the names of its letters in Unicode begin with
    "Arab": ("ARABIC",),
    "Armn": ("ARMENIAN",),
    "Beng": ("BENGALI",),
    "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",),
    "Geor": ("GEORGIAN",),
    "Grek": ("GREEK",),
    "Gujr": ("GUJARATI",),
    "Guru": ("GURMUKHI",),
    "Hang": ("HANGUL", "CJK"),
    "Hans": ("CJK",),
    "Hant": ("CJK",),
    "Hebr": ("HEBREW",),
    "Jpan": ("HIRAGANA", "KATAKANA", "CJK"),
    "Khmr": ("KHMER",),
    "Knda": ("KANNADA",),
    "Kore": ("HANGUL", "CJK"),
    "Laoo": ("LAO",),
    "Latn": ("LATIN",),
    "Mlym": ("MALAYALAM",),
    "Mymr": ("MYANMAR",),
    "Nkoo": ("NKO",),
    "Olck": ("OL",),
    "Orya": ("ORIYA",),
    "Sinh": ("SINHALA",),
    "Taml": ("TAMIL",),
    "Telu": ("TELUGU",),
    "Tfng": ("TIFINAGH",),
    "Thai": ("THAI",),
    "Tibt": ("TIBETAN",),
}
UNSPACED = ("Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt")  # no space between words
SHORTEST_LINE = 5  # words of a line that is judged
SHORTEST_WORD = 4  # letters of a foreign word


class LanguageFidelity(AdditiveMetric):
    """Share of outputs in the language they should be in, and the pass rates of the Language Confusion Benchmark.

    - ``right_language``: the output as a whole is in its language; one without letters is in none.
    - ``line_pass_rate``: every line of five words or more is in it; shorter lines are not judged.
    - ``word_pass_rate``: of outputs that pass by line, those without a Latin word of four letters or more, where the
      language's script is another. (The benchmark asks for words of an English dictionary, and so lets names pass.)

    ``script`` needs no package and cannot tell languages of one script apart; ``lingua`` can, for its 75 languages:
    ``pip install "mlprune[langid]"``. Where the language (or its script) is not known there is no value.

    Records have ``output`` and ``target_lang``.

    Source: Marchisio et al. 2024, "Understanding and Mitigating Language Confusion in LLMs".

    Args:
        identifier: ``script`` or ``lingua``.

    Raises:
        UserError: If the identifier is another, or its package is missing.

    Example:
        >>> metric = LanguageFidelity()
        >>> outputs = ["आज बारिश हो रही है।", "आज weather अच्छा है।", "It is raining in town today."]
        >>> metric.update([{"output": output, "target_lang": "hi"} for output in outputs])
        >>> {name: round(value, 2) for name, value in metric.compute().items()}
        {'right_language': 0.67, 'line_pass_rate': 0.67, 'word_pass_rate': 0.5, 'n': 3}
    """

    answer = "output"
    given = ("target_lang",)
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, identifier: Identifier = "script", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if identifier not in ("script", "lingua"):
            raise UserError(f"LanguageFidelity: identifier '{identifier}' is not allowed; give script or lingua")
        if identifier == "lingua":
            lingua_detector()
        self.identifier: Identifier = identifier
        by = "" if identifier == "script" else f", by {identifier}"
        end = "" if identifier == "script" else f"_{identifier}"
        self.measures = tuple(
            Measure(name + end, title + by, unit="%", scale=100, digits=1, bounds=(0.0, 1.0))
            for name, title in (
                ("right_language", "right language"),
                ("line_pass_rate", "line-level pass rate"),
                ("word_pass_rate", "word-level pass rate"),
            )
        )

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return (n, 5): right, lines pass, judged; words pass, judged by word."""
        rows = [self._judge(record["output"], record["target_lang"]) for record in records]
        return np.array(rows, dtype=np.float64).reshape(-1, 5)

    def values(self, sums: Array) -> dict[str, Array]:
        right, lines, judged, words, by_word = np.moveaxis(sums, -1, 0)
        found = (ratio(right, judged), ratio(lines, judged), ratio(words, by_word))
        return {measure.name: value for measure, value in zip(self.measures, found, strict=True)}

    def _judge(self, output: str, lang: str) -> tuple[float, ...]:
        known = script_of(lang) in SCRIPTS if self.identifier == "script" else primary_of(lang) in lingua_languages()
        if not known:
            return (0, 0, 0, 0, 0)
        right = self._is_in(output, lang)
        lines = [line for line in output.splitlines() if _words(line) >= SHORTEST_LINE]
        passed = any(map(str.isalpha, output)) and all(self._is_in(line, lang) for line in lines)
        by_word = passed and script_of(lang) != "Latn"
        return (right, passed, 1, by_word and not has_latin_word(output), by_word)

    def _is_in(self, text: str, lang: str) -> bool:
        if self.identifier == "script":
            return is_in_script(text, script_of(lang))
        found = lingua_detector().detect_language_of(text)
        return found is not None and found.iso_code_639_1.name.lower() == primary_of(lang)


def script_of(lang: str) -> str:
    """Return the code of a language's script.

    Example:
        >>> script_of("sw"), script_of("zh_Hant")
        ('Latn', 'Hant')
    """
    return language(lang).script


def primary_of(lang: str) -> str:
    """Return the ISO 639-1 code of a language, or 639-3 where there is none.

    Example:
        >>> primary_of("zh_Hant"), primary_of("fra_Latn")
        ('zh', 'fr')
    """
    return language(lang).primary


def is_in_script(text: str, script: str) -> bool:
    """Return whether more than half of a text's letters are of a script.

    Example:
        >>> is_in_script("東京タワー", "Jpan"), is_in_script("Tokyo, 2024", "Jpan"), is_in_script("1 + 1", "Latn")
        (True, False, False)
    """
    found = Counter(map(_script_of, text))
    found.pop("", None)
    return 2 * sum(found[name] for name in SCRIPTS[script]) > found.total()


@cache
def _script_of(char: str) -> str:
    """The first word of a letter's name, which is its script; empty for what is of none, accents too."""
    if not char.isalpha() and unicodedata.category(char) not in ("Mc", "Mn"):
        return ""
    name = unicodedata.name(char, "?").split()[0].partition("-")[0]
    return "" if name == "COMBINING" else name


def has_latin_word(text: str) -> bool:
    """Return whether four Latin letters or more stand together.

    Example:
        >>> has_latin_word("आज weather अच्छा"), has_latin_word("GPU से")
        (True, False)
    """
    run = 0
    for char in text:
        run = run + 1 if char.isalpha() and unicodedata.name(char, "").startswith("LATIN") else 0
        if run >= SHORTEST_WORD:
            return True
    return False


def _words(line: str) -> int:
    """The words of a line; two characters for one where they are not spaced."""
    if any(is_in_script(line, script) for script in UNSPACED):
        return sum(map(str.isalpha, line)) // 2
    return len(line.split())


@cache
def lingua_detector() -> Any:
    """Return lingua's detector of all its languages, loaded once.

    Raises:
        UserError: If the package is missing.
    """
    try:
        from lingua import LanguageDetectorBuilder
    except ImportError as error:
        todo = 'run: pip install "mlprune[langid]", or give identifier: script'
        raise UserError(f"LanguageFidelity: lingua-language-detector is not installed; {todo}") from error
    return LanguageDetectorBuilder.from_all_languages().build()


@cache
def lingua_languages() -> frozenset[str]:
    """Return the ISO 639-1 codes of lingua's languages."""
    from lingua import Language

    return frozenset(entry.iso_code_639_1.name.lower() for entry in Language.all())

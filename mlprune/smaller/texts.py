"""Which texts choose the tokens that are kept: corpora, and what prompts put around their sentences."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlprune.data.corpora import Bundled, Corpus, FloresFolder, LocalFiles
from mlprune.data.rows import Row
from mlprune.data.templates import load_template
from mlprune.errors import UserError, did_you_mean, first_line
from mlprune.languages import is_language, language

PROMPTS = "prompts"  # what texts that belong to no language are called
TEMPLATES = sorted(path.stem for path in (Path(__file__).parents[1] / "data" / "templates").glob("*.yaml"))
SPLITS = ("dev", "devtest")  # of FLORES
FILLED = 4  # rows that every template is filled with


class Texts(Corpus):
    """Texts in memory, by language.

    Args:
        texts: Language to texts.

    Example:
        >>> Texts({"fr": ["Oui."]}).rows("fr")
        [{'id': '0', 'text': 'Oui.'}]
    """

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self.texts = {lang: list(listed) for lang, listed in texts.items()}

    @property
    def identity(self) -> tuple[str, ...]:
        return ("texts", hashlib.sha256(json.dumps(self.texts).encode()).hexdigest())

    def check(self, lang: str) -> None:
        if lang not in self.texts:
            raise UserError(f"there are no texts in '{lang}', only in {', '.join(self.texts)}")

    def rows(self, lang: str) -> list[Row]:
        self.check(lang)
        return [{"id": str(place), "text": text} for place, text in enumerate(self.texts[lang])]


def corpus_texts(given: str, lang: str) -> list[str]:
    """Return all text that a corpus has in a language.

    Args:
        given: ``bundled``, ``bundled:NAME``, ``flores:FOLDER`` (all its splits), or a file's path with ``{lang}`` in
            place of the code, as :class:`mlprune.data.corpora.LocalFiles` reads it: plain text with a text a line,
            jsonl, csv, tsv or parquet, of which every cell of text counts.
        lang: The language's code.

    Raises:
        UserError: If there is no such corpus, or it lacks the language.

    Example:
        >>> len(corpus_texts("bundled:parallel", "sw")) > 100
        True
    """
    return [text for corpus in _corpora(given) for text in _texts_in(corpus, lang)]


def _corpora(given: str) -> list[Corpus]:
    """What a word of the user's stands for; one object for all languages, so that a file of one is not taken twice."""
    kind, _, rest = given.partition(":")
    if given == "bundled":
        return [Bundled(name) for name in Bundled.NAMES]
    if kind == "bundled":
        return [Bundled(rest)]
    if kind == "flores":
        return [FloresFolder(rest, split) for split in SPLITS]
    if "/" not in given and "." not in given:
        known = ("bundled", *(f"bundled:{name}" for name in Bundled.NAMES), "flores:FOLDER", "a file with {lang}")
        raise UserError(f"--corpus '{given}' is not known; give {', '.join(known)}{did_you_mean(given, known)}")
    return [LocalFiles(given)]


def _texts_in(corpus: Corpus, lang: str) -> list[str]:
    """All text of a corpus in a language; of FLORES, which may lie there in part, one split must have it."""
    if isinstance(corpus, FloresFolder) and not _has(corpus, lang):
        others = [split for split in SPLITS if split != corpus.split]
        if any(_has(FloresFolder(str(corpus.path), split), lang) for split in others):
            return []
    return _cells(corpus.rows(lang))


def _has(corpus: Corpus, lang: str) -> bool:
    try:
        corpus.check(lang)
    except UserError:
        return False
    return True


def _cells(rows: Iterable[Row]) -> list[str]:
    """All text in rows, their ids aside."""
    return [
        text for row in rows for name, cell in row.items() if name != "id" for text in _strings(cell) if text.strip()
    ]


def _strings(cell: Any) -> list[str]:
    if isinstance(cell, str):
        return [cell]
    return [item for item in cell if isinstance(item, str)] if isinstance(cell, list | tuple) else []


def texts_for(corpora: Sequence[str], languages: Sequence[str]) -> dict[str, list[str]]:
    """Return language to the texts of all corpora.

    Raises:
        UserError: If a language is not known, a corpus lacks it, or one file would count as text of several.
    """
    for lang in languages:
        language(lang)
    found = [corpus for given in corpora for corpus in _corpora(given)]
    return {lang: [text for corpus in found for text in _texts_in(corpus, lang)] for lang in languages}


def file_text(file: str) -> str:
    """Return what a file of prompts holds, as one text.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        return Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts '{file}' cannot be read: {first_line(error)}") from error


def prompt_texts(texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return texts as prompts have them: in demonstrations, and in every packaged template of their language.

    The words of a template stand in no corpus, and a model that lost them would read it otherwise.

    Args:
        texts: Language to texts, of which a few are taken.

    Example:
        >>> found = prompt_texts({"fr": ["Il pleut."], "sw": ["Mvua inanyesha."]})
        >>> found[0], "Il pleut. It is negative" in found
        ('French: Il pleut.\\nSwahili: Mvua inanyesha.\\n', True)
    """
    samples = {lang: list(listed[:FILLED]) for lang, listed in texts.items() if is_language(lang) and listed}
    found = [
        "".join(f"{language(lang).name}: {sample[min(row, len(sample) - 1)]}\n" for lang, sample in samples.items())
        for row in range(FILLED)
    ]
    return found + [
        text for lang, sample in samples.items() for name in TEMPLATES for text in _filled(name, lang, sample)
    ]


def _filled(name: str, lang: str, samples: Sequence[str]) -> list[str]:
    """A template in a language, its slots filled with samples; nothing if it has none in that language."""
    template = load_template(name)
    found = []
    try:
        cells: dict[str, Any] = dict.fromkeys(template.text_columns(lang), samples[0])
        cells |= {column: samples[place % len(samples)] for place, column in enumerate(cells)}
        choices = [
            (entry["column"], cell) for entry in template.words.values() for cell in entry["values"].get(lang, ())
        ]
        for column, cell in choices or [("", "")]:
            found += [template.fill({**cells, column: cell}, lang, label)[0] for label in template.names(lang)]
    except UserError:  # it is not written in that language
        return found
    return found

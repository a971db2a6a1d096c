"""Demonstrations: calibration prompts with translation pairs, text in one language, or code."""

import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from mlprune.data.corpora import Bundled, Corpus, PythonFiles
from mlprune.data.usable import Needs, UsableRows
from mlprune.errors import UserError
from mlprune.languages import language
from mlprune.models.tokens import separator_text

Pairing = Literal["right", "shuffled", "wrong"]


@dataclass(frozen=True)
class Prompt:
    """One calibration prompt.

    Args:
        text: Its text.
        row_ids: Ids of the corpus rows in it.
        sides: The encoder's and the decoder's text for encoder-decoder models. Both read ``text`` if
            omitted.
    """

    text: str
    row_ids: tuple[str, ...]
    sides: tuple[str, str] | None = None


class DemonstrationGroups(ABC):
    """One entry of ``data.demonstrations``: one calibration group or several."""

    @abstractmethod
    def groups(self, name: str) -> "dict[str, Demonstrations]":
        """Return group name to demonstrations.

        Args:
            name: The entry's name.
        """


class Demonstrations(DemonstrationGroups):
    """Makes the prompts of one calibration group; subclass it for custom prompts.

    Args:
        corpus: Where sentences come from.
        num_prompts: Number of prompts; ``data.num_prompts`` if omitted.
        max_tokens: Longer prompts are cut, and the number of cut prompts is reported; ``data.max_tokens`` if omitted.
        seed: Seed of the choice of rows; ``data.seed`` if omitted.
        num_tokens: Tokens of all prompts together: those behind are left out, and the one at the end is cut, so that
            different texts can be compared at the same number of tokens; ``data.num_tokens`` if omitted.
    """

    language_names: Mapping[str, str] = {}  # code to name where it is not the usual one; set by the data module

    def __init__(
        self,
        corpus: Corpus,
        num_prompts: int | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        num_tokens: int | None = None,
    ) -> None:
        for key, value in (("num_prompts", num_prompts), ("max_tokens", max_tokens), ("num_tokens", num_tokens)):
            if value is not None and value < 1:
                raise UserError(f"{type(self).__name__}: {key} {value} is not allowed; give at least 1")
        self.corpus = corpus
        self.num_prompts = num_prompts
        self.max_tokens = max_tokens
        self.seed = seed
        self.num_tokens = num_tokens

    def groups(self, name: str) -> "dict[str, Demonstrations]":
        return {name: self}

    @abstractmethod
    def check(self) -> None:
        """Raise UserError if the corpus lacks a language, without reading the data."""

    def languages(self) -> tuple[str, ...]:
        """Codes of the languages of a shot, in order; none for other texts."""
        return ()

    def usable(self, languages: Sequence[str]) -> UsableRows:
        """Return the rows of the corpus that have text in all given languages; a warning names the others."""
        return UsableRows(self.corpus, languages, lambda lang, row: Needs(("text",)), who=type(self).__name__)

    @abstractmethod
    def prompts(
        self, tokenizer: PreTrainedTokenizerBase, num_prompts: int, seed: int, exclude: Collection[str] = ()
    ) -> list[Prompt]:
        """Return the prompts.

        Args:
            tokenizer: The model's tokenizer, for its end-of-text token.
            num_prompts: How many.
            seed: Seed of the choice of rows.
            exclude: Ids of rows used elsewhere.

        Raises:
            UserError: If the corpus has too few rows, saying how many are needed.
        """


class _ShotDemonstrations(Demonstrations):
    """Prompts of several shots, each from a corpus row that is used once.

    Args:
        shots: Corpus rows in a prompt.
        corpus: A corpus with the column ``text``, parallel where a shot has two languages; the bundled one if omitted.
        separator: ``eos`` for the tokenizer's end-of-text token, else the text that ends each sentence.
        options: Those of :class:`Demonstrations`.
    """

    def __init__(self, shots: int = 4, corpus: Corpus | None = None, separator: str = "eos", **options: Any) -> None:
        super().__init__(corpus or Bundled("parallel", split="dev"), **options)
        if shots < 1:
            raise UserError(f"{type(self).__name__}: shots {shots} is not allowed; give at least 1")
        self.shots = shots
        self.separator = separator
        for lang in self.languages():
            language(lang)

    @abstractmethod
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages of a shot, in order."""

    def check(self) -> None:
        for lang in self.languages():
            self.corpus.check(lang)

    def prompts(
        self, tokenizer: PreTrainedTokenizerBase, num_prompts: int, seed: int, exclude: Collection[str] = ()
    ) -> list[Prompt]:
        separator = separator_text(tokenizer, self.separator)
        languages = self.languages()
        usable = self.usable(languages)
        ids = usable.shared(languages)
        unusable = usable.unusable(languages[0]) | set(exclude)
        chosen = choose([row_id for row_id in ids if row_id not in unusable], num_prompts, seed, self.shots)
        texts = [[row["text"].strip() for row in usable.take(lang, chosen)] for lang in languages]
        texts[1:] = [self._paired(sentences) for sentences in texts[1:]]
        prompts = []
        for start in range(0, len(chosen), self.shots):
            row_ids = tuple(chosen[start : start + self.shots])
            parts = [
                f"{self._label(lang)}{sentences[i]}{separator}"
                for i in range(start, start + self.shots)
                for lang, sentences in zip(languages, texts, strict=True)
            ]
            sides = ("".join(parts[::2]), "".join(parts[1::2])) if len(languages) == 2 else None
            prompts.append(Prompt("".join(parts), row_ids, sides))
        return prompts

    def _paired(self, sentences: list[str]) -> list[str]:
        """The sentences that stand beside those of the first language, in order."""
        return sentences

    def _label(self, lang: str) -> str:
        """What stands before a sentence."""
        return f"{self.language_names.get(lang) or language(lang).name}: "


class TranslationDemonstrations(_ShotDemonstrations):
    """Few-shot translation prompts: ``French: <s1><eos>English: <t1><eos>French: <s2><eos>...``.

    In encoder-decoder models the encoder reads the French sentences and the decoder the English ones.

    Source: Kim et al. 2024, Section 3 (four shots from the FLORES dev split).

    Args:
        source_lang: Code of the language translated from.
        target_lang: Code of the language translated into.
        pairing: ``right``: each sentence with its translation. To see what translation matters, the same sentences
            made worse on purpose: ``shuffled``: each with the translation of the next one in its prompt; ``wrong``:
            with that of one in the next prompt.
        options: ``shots`` (sentence pairs in a prompt), ``corpus`` (a parallel one), ``separator``, and those of
            :class:`Demonstrations`.

    Raises:
        UserError: If a language is not known, both are the same, or a number is out of range.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> demonstrations = TranslationDemonstrations("fr", shots=2, pairing="shuffled")
        >>> (prompt,) = demonstrations.prompts(ByT5Tokenizer(), 1, seed=0)
        >>> prompt.text.count("French: "), prompt.text.count("English: ")
        (2, 2)
    """

    def __init__(self, source_lang: str, target_lang: str = "en", pairing: Pairing = "right", **options: Any) -> None:
        if source_lang == target_lang:
            raise UserError(f"TranslationDemonstrations: source_lang and target_lang are both '{source_lang}'")
        if pairing not in get_args(Pairing):
            allowed = ", ".join(get_args(Pairing))
            raise UserError(f"TranslationDemonstrations: pairing '{pairing}' is not allowed; give one of {allowed}")
        self.source_lang = source_lang
        self.target_lang = target_lang
        self.pairing = pairing
        super().__init__(**options)
        if pairing == "shuffled" and self.shots < 2:
            raise UserError("TranslationDemonstrations: pairing 'shuffled' needs shots of at least 2")

    def languages(self) -> tuple[str, ...]:
        return (self.source_lang, self.target_lang)

    def _paired(self, sentences: list[str]) -> list[str]:
        if self.pairing == "wrong":
            if len(sentences) == self.shots:
                raise UserError("TranslationDemonstrations: pairing 'wrong' needs num_prompts of at least 2")
            return sentences[self.shots :] + sentences[: self.shots]
        if self.pairing == "shuffled":
            prompts = [sentences[start : start + self.shots] for start in range(0, len(sentences), self.shots)]
            return [sentence for prompt in prompts for sentence in (*prompt[1:], prompt[0])]
        return sentences


class MonolingualDemonstrations(_ShotDemonstrations):
    """Prompts in one language: ``French: <s1><eos>French: <s2><eos>...``.

    With the same number of shots they are about half as long as translation prompts.

    Args:
        lang: Code of the language.
        label: Write the language's name before each sentence; without it a prompt is in one language only.
        options: ``shots`` (sentences in a prompt), ``corpus``, ``separator``, and those of :class:`Demonstrations`.
    """

    def __init__(self, lang: str, label: bool = True, **options: Any) -> None:
        self.lang = lang
        self.label = label
        super().__init__(**options)

    def languages(self) -> tuple[str, ...]:
        return (self.lang,)

    def _label(self, lang: str) -> str:
        return super()._label(lang) if self.label else ""


class CodeDemonstrations(Demonstrations):
    """Whole Python files as prompts, for scores that penalize features needed for code generation.

    Args:
        corpus: A corpus with the column ``text``; the standard library's source files on this machine if omitted.
        options: Those of :class:`Demonstrations`.
    """

    def __init__(self, corpus: Corpus | None = None, **options: Any) -> None:
        super().__init__(corpus or PythonFiles(), **options)

    def check(self) -> None:
        self.corpus.check("code")

    def prompts(
        self, tokenizer: PreTrainedTokenizerBase, num_prompts: int, seed: int, exclude: Collection[str] = ()
    ) -> list[Prompt]:
        usable = self.usable(["code"])
        unusable = usable.unusable("code") | set(exclude)
        chosen = choose([row_id for row_id in usable.ids("code") if row_id not in unusable], num_prompts, seed)
        return [Prompt(row["text"], (row["id"],)) for row in usable.take("code", chosen)]


class TooFewRows(UserError):
    """The corpus has too few unused rows; ``enough_for`` is the number of prompts that it does have rows for."""

    def __init__(self, message: str, enough_for: int) -> None:
        super().__init__(message)
        self.enough_for = enough_for


def choose(row_ids: list[str], num_prompts: int, seed: int, shots: int = 1) -> list[str]:
    """Choose the rows of prompts at random, without repetition.

    Raises:
        TooFewRows: If there are too few.

    Example:
        >>> sorted(choose(["a", "b", "c", "d"], 2, seed=0, shots=2))
        ['a', 'b', 'c', 'd']
    """
    count = num_prompts * shots
    if len(row_ids) < count:
        raise TooFewRows(
            f"num_prompts {num_prompts}: prompts of {shots} rows need {count} unused rows, the corpus has "
            f"{len(row_ids)}; give at most {len(row_ids) // shots}, or a larger corpus",
            len(row_ids) // shots,
        )
    return random.Random(seed).sample(row_ids, count)

"""Few-shot translation, scored by BLEU and chrF."""

import re
from dataclasses import dataclass
from typing import Any

from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.corpora import Bundled, Corpus
from mlprune.data.rows import Row
from mlprune.data.usable import Needs
from mlprune.errors import UserError
from mlprune.evaluation.tasks.base import naming
from mlprune.evaluation.tasks.generated import GeneratedTask
from mlprune.languages import language
from mlprune.metrics import Record, Translation
from mlprune.models.language_tokens import between, has_languages, language_code
from mlprune.models.tokens import separator_text


@dataclass(frozen=True)
class TranslationExample:
    """A sentence to translate and its reference.

    Example:
        >>> TranslationExample("0", "Il pleut.", "It rains.").reference
        'It rains.'
    """

    id: str
    source: str
    reference: str


class TranslationTask(GeneratedTask):
    """Translation into or from one language, with solved examples in the prompt.

    Without any (``shots: 0``) the prompt ends in the target language's name; a translation model, whose tokenizer has
    language codes, reads only the sentence.

    Args:
        languages: Codes of the languages translated from (or into, with ``source_lang``); the other language among them
            is skipped.
        name: Name in predictions files; ``translation`` or, with ``source_lang``, such as ``translation-from-en`` if
            omitted.
        target_lang: Code of the language translated into; English if omitted.
        corpus: Parallel sentences to translate; the bundled test split if omitted.
        fewshot: Parallel sentences for the prompt; the bundled dev split if omitted.
        column: Column that holds the sentence, in both corpora unless ``fewshot`` lacks it and has ``text``.
        shots: Solved examples in the prompt.
        max_chars: Only solved examples shorter than this, in both languages.
        separator: Text after each sentence (``eos`` for the tokenizer's end token). A translation ends at a new line,
            there, at the end token, or at another language label.
        bleu_tokenizer: A sacrebleu tokenizer name instead of the target language's default.
        source_lang: Code of the language translated from, into each of ``languages``, instead of ``target_lang``.
        options: Those of :class:`GeneratedTask`, :class:`PromptedTask` and :class:`Task`.

    Raises:
        UserError: If a number is out of range or a language is not known.

    Example:
        >>> task = TranslationTask(["fr", "en"], target_lang="en", limit=2)
        >>> task.languages, len(task.examples("fr"))
        (['fr'], 2)
        >>> TranslationTask(["fr", "sw"], source_lang="en").sides("sw")
        ('en', 'sw')
    """

    fewshot: Corpus
    usual_pivot = None  # the average is over all directions

    def __init__(
        self,
        languages: list[str],
        name: str | None = None,
        target_lang: str | None = None,
        corpus: Corpus | None = None,
        fewshot: Corpus | None = None,
        *,
        column: str = "text",
        shots: int = 4,
        max_chars: int | None = None,
        separator: str = "\n",
        bleu_tokenizer: str | None = None,
        source_lang: str | None = None,
        **options: Any,
    ) -> None:
        name = name or ("translation" if source_lang is None else f"translation-from-{source_lang}")
        if source_lang is not None and target_lang is not None:
            raise UserError(f"task '{name}': give source_lang or target_lang, not both; languages are the other side")
        one = source_lang or target_lang or "en"
        others = [lang for lang in languages if lang != one]
        if languages and not others:
            where = "into" if source_lang is None else "from"
            raise UserError(f"task '{name}': languages {languages} has none to translate {where} '{one}'")
        super().__init__(
            name,
            others,
            corpus or Bundled("parallel", split="test"),
            shots=shots,
            fewshot=fewshot or Bundled("parallel", split="dev"),
            separator=separator,
            **options,
        )
        self.one_side = language(one).code  # the language that all directions share
        self.from_one = source_lang is not None
        self.column = column
        self.max_chars = max_chars
        self.bleu_tokenizer = bleu_tokenizer
        self._solved: dict[str, list[tuple[str, str, str]]] = {}
        for lang in others:
            self.metric(lang)  # so that a missing tokenizer is reported before any model is loaded

    def sides(self, lang: str) -> tuple[str, str]:
        """Return the languages that are translated from and into, for one of the task's languages."""
        return (self.one_side, lang) if self.from_one else (lang, self.one_side)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().check_tokenizer(tokenizer)
        with naming(self, self.languages[0]):
            language_code(tokenizer, self.one_side)

    @property
    def row_languages(self) -> list[str]:
        return [*self.languages, self.one_side]

    def needs(self, corpus: Corpus, lang: str, row: Row) -> Needs:
        return Needs(texts=(self._column(row),))

    def _column(self, row: Row) -> str:
        return "text" if self.column not in row and "text" in row else self.column

    def _pairs(self, corpus: Corpus, lang: str, ids: list[str]) -> list[tuple[str, str, str]]:
        """Ids, sentences and their translations."""
        sides = [self.usable(corpus).take(code, ids) for code in self.sides(lang)]
        texts = [[on_one_line(row[self._column(row)]) for row in rows] for rows in sides]
        return list(zip(ids, *texts, strict=True))

    def examples(self, lang: str) -> list[TranslationExample]:
        same = self.fewshot.identity == self.corpus.identity and self.shots > 0
        shown = {row_id for code in self.languages for row_id, _, _ in self._solved_pairs(code)} if same else set()
        return [TranslationExample(*pair) for pair in self._pairs(self.corpus, lang, self.chosen(lang, exclude=shown))]

    def _solved_pairs(self, lang: str) -> list[tuple[str, str, str]]:
        """The last rows of the few-shot corpus that are short enough, to leave others for calibration."""
        if lang not in self._solved and self.shots:
            usable = self.usable(self.fewshot)
            unusable = usable.unusable(lang)
            ids = [row_id for row_id in usable.shared(self.sides(lang)) if row_id not in unusable]
            limit = self.max_chars or float("inf")
            found: list[tuple[str, str, str]] = []
            while ids and len(found) < self.shots:
                pairs = self._pairs(self.fewshot, lang, ids[-self.shots :])
                found = [pair for pair in pairs if max(map(len, pair[1:])) < limit] + found
                ids = ids[: -self.shots]
            if len(found) < self.shots:
                raise UserError(
                    f"task '{self.name}': {self.shots} few-shot rows needed in '{lang}', {len(found)} are short enough"
                )
            self._solved[lang] = found[-self.shots :]
        return self._solved.get(lang, [])

    def shots_for(self, lang: str) -> list[tuple[str, str]]:
        """Return the solved examples of a language: sentences and their translations."""
        return [(source, translation) for _, source, translation in self._solved_pairs(lang)]

    def prompts(self, tokenizer: PreTrainedTokenizerBase, lang: str, sources: list[str]) -> list[str]:
        """Return the full prompt of each sentence.

        Args:
            tokenizer: The model's tokenizer.
            lang: The task's language; see :meth:`sides`.
            sources: Sentences.
        """
        if has_languages(tokenizer) and not self.shots and not self.chat.template:
            return list(sources)  # a translation model gets the languages as codes
        label, target = map(self._label, self.sides(lang))
        solved = self.shots_for(lang)
        if self.chat.template:
            turns = [(f"{label} {source}\n{target}", translation) for source, translation in solved]
            questions = [f"{label} {source}\n{target}" for source in sources]
            return [self.chat.prompt(tokenizer, turns, question) for question in questions]
        end = separator_text(tokenizer, self.separator)
        before = "".join(f"{label} {source}{end}{target} {translation}{end}" for source, translation in solved)
        return [f"{before}{label} {source}{end}{target}" for source in sources]

    def _label(self, lang: str) -> str:
        """What stands before a sentence of a language."""
        return f"{self.language_names.get(lang) or language(lang).name}:"

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[TranslationExample]
    ) -> list[Record]:
        source_lang, target_lang = self.sides(lang)
        labels = [self._label(source_lang), self._label(target_lang)]
        with naming(self, lang, examples), between(tokenizer, source_lang, target_lang):
            prompts = self.prompts(tokenizer, lang, [example.source for example in examples])
            stop = ["\n", separator_text(tokenizer, self.separator), *labels]
            found = self.answers(model, tokenizer, prompts, stop)
        return [
            {
                "id": example.id,
                "source": example.source,
                "reference": example.reference,
                "output": continuation.text,
                "stopped": continuation.stopped,
                "source_lang": source_lang,
                "target_lang": target_lang,
                "bleu_tokenizer": self.bleu_tokenizer,
            }
            | ({"tokens_cut": continuation.tokens_cut} if continuation.tokens_cut else {})
            for example, continuation in zip(examples, found, strict=True)
        ]

    def length(self, example: TranslationExample) -> int:
        return len(example.source) + 4 * self.search.max_new_tokens

    def metric(self, lang: str) -> Metric:
        return Translation(self.sides(lang)[1], self.bleu_tokenizer)

    def used_rows(self) -> dict[tuple[str, ...], set[str]]:
        used: dict[tuple[str, ...], set[str]] = {}
        for lang in self.languages:
            used.setdefault(self.fewshot.identity, set()).update(row_id for row_id, _, _ in self._solved_pairs(lang))
            used.setdefault(self.corpus.identity, set()).update(example.id for example in self.examples(lang))
        return used


def on_one_line(text: str) -> str:
    """Return a sentence on one line, since a newline ends it in a prompt, without surrounding blanks.

    Example:
        >>> on_one_line(" Vraiment ?\\r\\nOui. ")
        'Vraiment ? Oui.'
    """
    return re.sub(r"[\r\n]+", " ", text.strip())

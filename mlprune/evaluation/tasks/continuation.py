"""Open continuation: in which language a model continues the first words of a sentence."""

import re
from dataclasses import dataclass
from typing import Any

from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.corpora import Bundled, Corpus
from mlprune.errors import UserError
from mlprune.evaluation.tasks.base import naming
from mlprune.evaluation.tasks.generated import GeneratedTask
from mlprune.metrics import LanguageFidelity, Record
from mlprune.metrics.fidelity import Identifier
from mlprune.models.language_tokens import between


@dataclass(frozen=True)
class BeginningExample:
    """How a sentence begins.

    Example:
        >>> BeginningExample("0", "Il pleut depuis").text
        'Il pleut depuis'
    """

    id: str
    text: str


class Continuation(GeneratedTask):
    """The first words of held-out sentences, continued: share of continuations in the sentences' own language.

    Pruned models slide into English before accuracy or BLEU shows it. Records have ``target_lang``, so that
    :class:`mlprune.metrics.LanguageFidelity` judges them, and translations alike.

    Args:
        languages: Codes of the languages.
        name: Name in results.
        corpus: Column ``text``; the bundled parallel test split if omitted.
        words: How many of a sentence's first words are given; where words are not spaced, twice as many characters.
        max_new_tokens: Longest continuation, in tokens.
        identifier: ``script``, or ``lingua``, which also tells languages of one script apart.
        options: Those of :class:`GeneratedTask` and :class:`Task`.

    Raises:
        UserError: If a number is out of range, or the identifier's package is missing.

    Example:
        >>> [example.text for example in Continuation(["fr", "zh"], words=4, limit=1).examples("zh")]
        ['一场罢工刚结束，']
    """

    headline = False

    def __init__(
        self,
        languages: list[str],
        name: str = "continuation",
        corpus: Corpus | None = None,
        *,
        words: int = 5,
        max_new_tokens: int = 40,
        identifier: Identifier = "script",
        **options: Any,
    ) -> None:
        super().__init__(
            name,
            languages,
            corpus or Bundled("parallel", split="test"),
            max_new_tokens=max_new_tokens,
            shots=0,
            fewshot=None,
            separator="",
            chat_template=False,
            chat_template_options=None,
            **options,
        )
        if words < 1:
            raise UserError(f"task '{name}': words {words} is not allowed; give at least 1")
        self.words = words
        self.identifier: Identifier = identifier
        self.metric(languages[0])  # a missing package is reported before any model is loaded

    def examples(self, lang: str) -> list[BeginningExample]:
        rows = self.usable(self.corpus).take(lang, self.chosen(lang))
        return [BeginningExample(row["id"], beginning(row["text"], self.words)) for row in rows]

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[BeginningExample]
    ) -> list[Record]:
        with naming(self, lang, examples), between(tokenizer, lang, lang):
            found = self.answers(model, tokenizer, [example.text for example in examples], stop=[])
        return [
            {
                "id": example.id,
                "source": example.text,
                "output": said.text,
                "stopped": said.stopped,
                "target_lang": lang,
            }
            | ({"tokens_cut": said.tokens_cut} if said.tokens_cut else {})
            for example, said in zip(examples, found, strict=True)
        ]

    def length(self, example: BeginningExample) -> int:
        return len(example.text) + 4 * self.search.max_new_tokens

    def metric(self, lang: str) -> Metric:
        return LanguageFidelity(self.identifier)

    def used_rows(self) -> dict[tuple[str, ...], set[str]]:
        return {self.corpus.identity: {example.id for lang in self.languages for example in self.examples(lang)}}


def beginning(text: str, words: int) -> str:
    """Return a text's first words, or twice as many characters where words are not spaced.

    Example:
        >>> beginning("It has rained since noon.", 3), beginning("要让面包保鲜更久，", 2)
        ('It has rained', '要让面包')
    """
    spaced = re.match(rf"\S+(\s+\S+){{{words - 1}}}(?=\s)", text)
    return spaced[0] if spaced else text[: 2 * words]

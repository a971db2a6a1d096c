"""Tasks with prompts: optional solved examples, as plain text or through a chat template."""

import random
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlprune.data.corpora import Corpus
from mlprune.data.rows import Row
from mlprune.errors import UserError
from mlprune.evaluation.chat import Chat
from mlprune.evaluation.tasks.base import Task, in_task, naming


class PromptedTask(Task):
    """A task whose prompts may contain solved examples and may be rendered by a chat template.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Where rows come from.
        shots: Solved examples before each question.
        fewshot: Where they come from; needed with ``shots``.
        separator: Text between solved examples.
        chat_template: Render prompts with the tokenizer's chat template: questions as user, answers as assistant.
        chat_template_options: Template variables besides the messages, such as ``{enable_thinking: false}``; ``date``
            is the current date for the template, 2025-01-01 if omitted.
        options: Those of :class:`Task`.

    Raises:
        UserError: If shots have no corpus, or an option is not allowed.
    """

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus,
        *,
        shots: int = 0,
        fewshot: Corpus | None = None,
        separator: str = "\n\n",
        chat_template: bool = False,
        chat_template_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, languages, corpus, **options)
        if shots < 0:
            raise UserError(f"task '{name}': shots {shots} is not allowed; give 0 or more")
        if shots and fewshot is None:
            raise UserError(f"task '{name}': shots {shots} needs fewshot, the corpus of the solved examples")
        self.shots = shots
        self.fewshot = fewshot
        self.separator = separator
        with in_task(name):
            self.chat = Chat(chat_template, chat_template_options or {})

    def check(self) -> None:
        super().check()
        if self.fewshot is not None and self.shots:
            for lang in self.row_languages:
                self.fewshot.check(lang)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().check_tokenizer(tokenizer)
        for lang in self.languages if self.chat.template else []:
            with naming(self, lang):
                self.chat.prompt(tokenizer, self.shots_for(lang), "?")

    def solved_rows(self, lang: str) -> list[Row]:
        """Return the rows of a language's solved examples, drawn by the seed, in the order of their corpus.

        Raises:
            UserError: If there are too few.
        """
        if self.fewshot is None or not self.shots:
            return []
        usable = self.usable(self.fewshot)
        unusable = usable.unusable(lang)
        ids = [row_id for row_id in usable.ids(lang) if row_id not in unusable]
        if len(ids) < self.shots:
            raise UserError(f"task '{self.name}': {self.shots} shots needed in '{lang}', the corpus has {len(ids)}")
        places = sorted(random.Random(f"{self.selection.seed}:shots").sample(range(len(ids)), self.shots))
        return usable.take(lang, [ids[i] for i in places])

    def used_rows(self) -> dict[tuple[str, ...], set[str]]:
        """Return the rows of solved examples, which calibration must not use."""
        if self.fewshot is None or not self.shots:
            return {}
        return {self.fewshot.identity: {row["id"] for lang in self.languages for row in self.solved_rows(lang)}}

"""Tasks that ask questions: after solved examples if wanted, as plain text or through a chat template."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from mlprune.data.corpora import Corpus
from mlprune.errors import UserError
from mlprune.evaluation.chat import Chat
from mlprune.evaluation.tasks.base import Task, in_task, naming


class PromptedTask(Task):
    """A task whose prompts may hold solved examples and be written by the tokenizer's chat template.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Where rows come from.
        shots: Solved examples before each question.
        fewshot: Where they come from; needed with ``shots``.
        separator: Text between solved examples.
        chat_template: Ask through the tokenizer's chat template: questions as user, answers as assistant.
        chat_template_options: What the chat template reads besides, such as ``{enable_thinking: false}``; ``date`` is
            what it takes for today, 2025-01-01 if omitted.
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

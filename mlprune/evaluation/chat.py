"""Chat prompts: the user asks and the assistant answers, after solved examples as earlier turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.evaluation.chat_template import DATE, day_of
from mlprune.evaluation.encoding import chat_prompt

RESERVED = ("tools", "documents", "tokenize", "add_generation_prompt", "continue_final_message", "chat_template")


@dataclass(frozen=True)
class Chat:
    """Whether prompts are rendered by the tokenizer's chat template, and with which variables.

    Args:
        template: Whether they are.
        options: Template variables besides the messages, such as ``{"enable_thinking": False}``; ``date`` (ISO) is the
            current date for the template, 2025-01-01 if omitted.

    Raises:
        UserError: If there are options without a template, or one is not allowed.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> tokenizer = ByT5Tokenizer()
        >>> tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}; {% endfor %}assistant:"
        >>> Chat(template=True).prompt(tokenizer, [("2 + 2?", "4")], "3 + 3?")
        'user: 2 + 2?; assistant: 4; user: 3 + 3?; assistant:'
    """

    template: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.options and not self.template:
            raise UserError(f"chat_template_options {self.options} are for a chat template; set chat_template: true")
        for key in RESERVED:
            if key in self.options:
                raise UserError(f"chat_template_options.{key} is not allowed; the task determines the prompt")
        day_of(self.options.get("date", DATE))

    def prompt(self, tokenizer: PreTrainedTokenizerBase, solved: Sequence[tuple[str, str]], question: str) -> str:
        """Return the prompt text that the assistant's answer follows.

        Args:
            tokenizer: A tokenizer with a chat template.
            solved: Questions and answers of earlier turns.
            question: The question.

        Raises:
            UserError: If the tokenizer has no chat template, or it fails.
        """
        return chat_prompt(tokenizer, solved, question, self.options)

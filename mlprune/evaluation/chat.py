"""Questions as chats: the user asks, the assistant answers, after solved examples that went the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.evaluation.chat_template import DATE, day_of, render_chat

RESERVED = ("tools", "documents", "tokenize", "add_generation_prompt", "continue_final_message", "chat_template")


@dataclass(frozen=True)
class Chat:
    """Whether a task asks through the tokenizer's chat template, and what the template reads besides.

    Args:
        template: Whether it does.
        options: Variables of the template besides the messages, such as ``{"enable_thinking": False}``; ``date`` (ISO)
            is what it takes for today, 2025-01-01 if omitted.

    Raises:
        UserError: If nothing reads the options, or one is not allowed.

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
                raise UserError(f"chat_template_options.{key} is not allowed; a prompt is what the task asks")
        day_of(self.options.get("date", DATE))

    def prompt(self, tokenizer: PreTrainedTokenizerBase, solved: Sequence[tuple[str, str]], question: str) -> str:
        """Return the text after which the assistant answers.

        Args:
            tokenizer: A tokenizer with a chat template.
            solved: Questions and answers that come before.
            question: The question.

        Raises:
            UserError: If the tokenizer has no chat template, or it fails.
        """
        pairs = [*solved, (question, "")]
        turns = [(role, text.strip()) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
        return render_chat(tokenizer, [{"role": role, "content": text} for role, text in turns[:-1]], self.options)

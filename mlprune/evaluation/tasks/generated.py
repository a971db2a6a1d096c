"""Tasks whose answers are generated."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.corpora import Corpus
from mlprune.evaluation.generation import Continuation, generate
from mlprune.evaluation.lengths import TooLong
from mlprune.evaluation.options import Search
from mlprune.evaluation.tasks.base import in_task
from mlprune.evaluation.tasks.prompted import PromptedTask


class GeneratedTask(PromptedTask):
    """A task whose answers are generated: plain greedy or beam search after a prompt.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Where rows come from.
        max_new_tokens: Longest answer, in tokens.
        num_beams: 1 for greedy search.
        too_long: What to do with a prompt that leaves no room for an answer: ``error``, or ``truncate`` to drop tokens
            at its beginning, which is counted in the results.
        batch_size: At most this many prompts in a batch; a token budget alone decides if omitted.
        options: Those of :class:`PromptedTask` and :class:`Task`.

    Raises:
        UserError: If an option is not allowed.
    """

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus,
        *,
        max_new_tokens: int = 64,
        num_beams: int = 1,
        too_long: TooLong = "error",
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, languages, corpus, **options)
        with in_task(name):
            self.search = Search(max_new_tokens, num_beams, too_long, batch_size)

    def answers(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], stop: Sequence[str]
    ) -> list[Continuation]:
        """Generate answers to prompts.

        Args:
            model: The model.
            tokenizer: Its tokenizer.
            prompts: Full prompts; those of a chat template already contain special tokens.
            stop: Texts that end an answer.
        """
        special_tokens = not self.chat.template
        return generate(model, tokenizer, prompts, stop=stop, special_tokens=special_tokens, **asdict(self.search))

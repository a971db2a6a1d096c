"""Questions whose answers the model writes."""

from abc import abstractmethod
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.rows import Row
from mlprune.evaluation.tasks.base import naming
from mlprune.evaluation.tasks.generated import GeneratedTask
from mlprune.metrics import Record
from mlprune.models.language_tokens import between


@dataclass(frozen=True)
class QuestionExample:
    """A question and its right answers.

    Example:
        >>> QuestionExample("0", "Question: 1 + 1?\\nAnswer:", ("2", "two")).references[0]
        '2'
    """

    id: str
    question: str
    references: tuple[str, ...]
    group: str | None = None


class AnswerTask(GeneratedTask):
    """What tasks with generated answers share: solved examples, prompts and records.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Where rows come from.
        options: Those of :class:`GeneratedTask`, :class:`PromptedTask` and :class:`Task`.
    """

    @abstractmethod
    def example(self, row: Row, lang: str) -> QuestionExample:
        """Return the question that a row asks; it ends where the answer begins."""

    def solved(self, row: Row, lang: str) -> tuple[str, str]:
        """Return question and answer as a solved example shows them."""
        example = self.example(row, lang)
        return example.question, example.references[0]

    @abstractmethod
    def stop(self, lang: str) -> list[str]:
        """Return the texts that end an answer."""

    def examples(self, lang: str) -> list[QuestionExample]:
        same = self.fewshot is not None and self.fewshot.identity == self.corpus.identity
        used = {row["id"] for row in self.solved_rows(lang)} if same else set()
        rows = self.usable(self.corpus).take(lang, self.chosen(lang, exclude=used))
        with naming(self, lang):
            return [self.example(row, lang) for row in rows]

    def shots_for(self, lang: str) -> list[tuple[str, str]]:
        with naming(self, lang):
            return [self.solved(row, lang) for row in self.solved_rows(lang)]

    def prompts(self, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[QuestionExample]) -> list[str]:
        """Return the full prompt of each question."""
        turns = self.shots_for(lang)
        if self.chat.template:
            return [self.chat.prompt(tokenizer, turns, example.question) for example in examples]
        before = "".join(f"{question} {answer}{self.separator}" for question, answer in turns)
        return [before + example.question for example in examples]

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[QuestionExample]
    ) -> list[Record]:
        with naming(self, lang, examples), between(tokenizer, lang, lang):
            found = self.answers(model, tokenizer, self.prompts(tokenizer, lang, examples), self.stop(lang))
        records = []
        for example, continuation in zip(examples, found, strict=True):
            record: Record = {"id": example.id, "source": example.question, "references": list(example.references)}
            record |= {"output": continuation.text, "stopped": continuation.stopped} | self.judged(
                example, continuation.text
            )
            record |= {"group": example.group} if example.group is not None else {}
            record |= {"tokens_cut": continuation.tokens_cut} if continuation.tokens_cut else {}
            records.append(record if self.aligned else record | {"aligned": False})
        return records

    def judged(self, example: QuestionExample, output: str) -> Record:
        """Return what a record has besides, that the metric reads."""
        return {}

    def length(self, example: QuestionExample) -> int:
        return len(example.question) + 4 * self.search.max_new_tokens

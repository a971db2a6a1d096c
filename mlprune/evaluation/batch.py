"""What is evaluated at once: examples of one task and language, and the texts in them."""

from typing import Any

from mlprune.evaluation.tasks import Task


class EvaluationBatch:
    """Examples of one task and language, with their positions in the corpus.

    A plain object, which Lightning hands on as it is; into tuples and dataclasses it would look for tensors to cast.
    ``records`` are the examples' records once there are any: predicted, or by an earlier start of the run.
    """

    def __init__(self, task: Task, lang: str, positions: list[int], examples: list[Any]) -> None:
        self.task = task
        self.lang = lang
        self.positions = positions
        self.examples = examples
        self.records: list[dict[str, Any]] | None = None

    @property
    def num_chars(self) -> int:
        """Characters of its examples, were all as long as the longest."""
        return len(self.examples) * max(map(self.task.length, self.examples))


def all_text(example: Any) -> str:
    """Return all text in an example of any task."""
    return "\n".join(strings_of(example))


def strings_of(example: Any) -> list[str]:
    """Return the texts in an example of any task, one by one."""
    values = example.values() if isinstance(example, dict) else vars(example).values()
    parts = [part for value in values for part in (value if isinstance(value, list | tuple) else [value])]
    return [part for part in parts if isinstance(part, str)]

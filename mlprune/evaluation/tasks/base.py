"""What every evaluation task is: examples in several languages, predictions, and a metric over them."""

import itertools
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.corpora import Corpus
from mlprune.errors import ExampleError, UserError
from mlprune.languages import language
from mlprune.models.language_tokens import language_code

Record = dict[str, Any]


class Task(ABC):
    """One evaluation task in several languages; subclass it for a task of your own.

    Args:
        name: Name in results and file names: letters, digits, ``_`` and ``-``.
        languages: Codes of the languages.
        corpus: Where rows come from.
        limit: At most so many examples a language; all if omitted.
        seed: Seed of their choice.

    Raises:
        UserError: If the name or a language is not allowed.

    Example:
        >>> from mlprune.evaluation.tasks import PerplexityTask
        >>> task = PerplexityTask(["fr"], limit=2)
        >>> len(task.examples("fr"))
        2
    """

    aligned = True  # whether rows of two languages with the same id are translations of each other
    kind: str  # the section of results.json: "candidates", "translation" or "perplexity"

    def __init__(
        self, name: str, languages: list[str], corpus: Corpus, limit: int | None = None, seed: int = 0
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise UserError(f"task name '{name}' is not allowed; use letters, digits, _ and -")
        if limit is not None and limit < 1:
            raise UserError(f"task '{name}': limit {limit} is not allowed; give at least 1")
        if not languages or len(set(languages)) != len(languages):
            raise UserError(f"task '{name}': languages {languages} are not allowed; give each once, at least one")
        for lang in languages:
            language(lang)
        self.name = name
        self.languages = languages
        self.corpus = corpus
        self.limit = limit
        self.seed = seed

    def check(self) -> None:
        """Raise UserError if the corpus lacks a language, without reading the data."""
        for lang in self.languages:
            self.corpus.check(lang)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise UserError if the tokenizer cannot ask what the task asks, before any weights are loaded."""
        for lang in self.languages:
            with naming(self, lang):
                language_code(tokenizer, lang)

    @abstractmethod
    def examples(self, lang: str) -> list[Any]:
        """Return the examples of a language, each with an ``id`` (str) that is the same in every language."""

    @abstractmethod
    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[Any]
    ) -> list[Record]:
        """Return one record an example, in order; a record is a line of the predictions file."""

    @abstractmethod
    def length(self, example: Any) -> int:
        """Return the example's size in characters, by which batches are formed."""

    @abstractmethod
    def metric(self, lang: str) -> Metric:
        """Return a fresh metric whose ``compute`` gives what results.json holds for the language."""

    @abstractmethod
    def update(self, metric: Metric, records: list[Record]) -> None:
        """Add records to a metric."""

    def used_rows(self) -> dict[tuple[str, ...], set[str]]:
        """Return the rows calibration must not use: corpus identity to row ids."""
        return {}


def sample_groups(rows: list[Any], limit: int | None, group_size: int, seed: int) -> list[Any]:
    """Return at most ``limit`` rows as whole groups, spread evenly over the list.

    Args:
        rows: All rows; ``group_size`` consecutive ones belong together.
        limit: How many at most.
        group_size: Rows in a group (three for XNLI, where a premise has three hypotheses).
        seed: Where in each stretch a group is taken.

    Example:
        >>> sample_groups(list(range(12)), 6, 3, seed=0)
        [3, 4, 5, 9, 10, 11]
    """
    if limit is None or limit >= len(rows):
        return rows
    groups = [rows[i : i + group_size] for i in range(0, len(rows), group_size)]
    wanted = max(limit // group_size, 1)
    generator = random.Random(seed)
    edges = [round(i * len(groups) / wanted) for i in range(wanted + 1)]
    chosen = [generator.randrange(start, end) for start, end in itertools.pairwise(edges)]
    return [row for i in chosen for row in groups[i]][:limit]


@contextmanager
def naming(task: Task, lang: str, examples: Sequence[Any] = ()) -> Iterator[None]:
    """While open, errors say which task, language and row they are of."""
    where = f"task '{task.name}', language '{lang}'"
    try:
        yield
    except ExampleError as error:
        raise UserError(f"{where}, row {examples[error.example].id}: {error.reason}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def refuse_too_long(
    task: Task, lang: str, examples: Sequence[Any], cut: Sequence[int], limit: int | None, advice: str
) -> None:
    """Raise UserError naming the first example that has tokens over the model's limit."""
    for example, over in zip(examples, cut, strict=True):
        if over:
            raise UserError(
                f"task '{task.name}', language '{lang}', row {example.id}: {over} tokens too long for the model, "
                f"which takes {limit}; {advice}"
            )

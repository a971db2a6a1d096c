"""The base of every evaluation task: examples in several languages, predictions, and metrics over them."""

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.corpora import Corpus
from mlprune.data.rows import Row
from mlprune.data.usable import Needs, UsableRows
from mlprune.errors import ExampleError, UserError, did_you_mean
from mlprune.evaluation.tasks.selection import NamedRows, Selection
from mlprune.languages import is_language, language
from mlprune.metrics import PairMetric, Record, measures_of
from mlprune.metrics.description import describe_metric
from mlprune.models.language_tokens import language_code


class Task(ABC):
    """One evaluation task in several languages; subclass it for a task of your own.

    Each class declares its options and passes the others on to its base as ``**options``.

    Args:
        name: Name in results and file names: at most 100 letters, digits, ``_`` and ``-``.
        languages: Codes of the languages.
        corpus: Where rows come from.
        limit: At most this many examples per language; all if omitted.
        seed: Seed for choosing them.
        rows: Only these rows of the corpus: positions counted from 0, as ``0-199`` or ``0-99,150-199``; a list of ids;
            or a random share of them, as ``{share: 0.5, seed: 0}``, or all that this share leaves, with
            ``complement: true``. ``limit`` applies to these.
        metrics: Additional metrics of its records.
        pivot: The language that averages leave out, and that RankC compares the others with; English if omitted.

    Raises:
        UserError: If the name, a language, the pivot or a row is not allowed.

    Example:
        >>> from mlprune.evaluation.tasks import PerplexityTask
        >>> task = PerplexityTask(["fr"], limit=2)
        >>> len(task.examples("fr"))
        2
    """

    aligned = True  # whether rows of two languages with the same id are translations of each other
    headline = True  # whether the headline of a comparison mentions it
    usual_pivot: str | None = "en"  # the pivot where none is given and the task has it; None: averages have all
    own_words = False  # whether its words are the user's own, so that its languages need not be known
    language_names: Mapping[str, str] = {}  # code to name where it is not the usual one; set by the data module

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus,
        *,
        limit: int | None = None,
        seed: int = 0,
        rows: NamedRows | None = None,
        metrics: list[Metric] | None = None,
        pivot: str | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
            raise UserError(f"task name '{name}' is not allowed; use at most 100 letters, digits, _ and -")
        if not languages or len(set(languages)) != len(languages):
            raise UserError(f"task '{name}': languages {languages} are not allowed; give each once, at least one")
        for lang in languages if not self.own_words else []:
            language(lang)
        self.name = name
        self.languages = languages
        self.pivot = self._pivot(pivot)
        self.corpus = corpus
        with in_task(name):
            self.selection = Selection(limit, seed, rows)
        self.further_metrics = metrics or []
        self._usable: dict[int, UsableRows] = {}

    def _pivot(self, given: str | None) -> str | None:
        """The language that averages leave out, by whatever code the task has it; None if they have all."""
        if given is not None and given not in self.languages:
            has = f"it has {', '.join(self.languages)}{did_you_mean(given, self.languages)}"
            raise UserError(f"task '{self.name}': pivot '{given}' is not among its languages; {has}")
        known = (lang for lang in self.languages if is_language(lang))
        return given or next((lang for lang in known if language(lang).primary == self.usual_pivot), None)

    def limit_to(self, limit: int) -> None:
        """Evaluate at most this many examples per language."""
        self.selection = replace(self.selection, limit=min(limit, self.selection.limit or limit))

    def check(self) -> None:
        """Raise UserError if the corpus lacks a language, without reading the data."""
        for lang in self.languages:
            self.corpus.check(lang)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise UserError if the tokenizer does not suit the task, before any weights are loaded."""
        for lang in self.languages:
            with naming(self, lang):
                language_code(tokenizer, lang)

    @property
    def row_languages(self) -> list[str]:
        """Languages whose rows are read: first those of the task, then others that prompts need."""
        return self.languages

    def needs(self, corpus: Corpus, lang: str, row: Row) -> Needs:
        """Return what rows must have to be used; rows with a blank there are left out, in every language if aligned.

        Args:
            corpus: Where they come from: the task's corpus or that of solved examples.
            lang: Their language.
            row: The first row.
        """
        return Needs(texts=("text",))

    def usable(self, corpus: Corpus) -> UsableRows:
        """Return the usable rows of a corpus, which is read once.

        Raises:
            UserError: If a row is not valid for the task, naming it.
        """
        if id(corpus) not in self._usable:
            self._usable[id(corpus)] = UsableRows(
                corpus,
                self.row_languages,
                lambda lang, row: self.needs(corpus, lang, row),
                self.aligned,
                f"task '{self.name}'",
            )
        return self._usable[id(corpus)]

    def chosen(self, lang: str, group_size: int = 1, exclude: Collection[str] = ()) -> list[str]:
        """Return the ids of the rows to evaluate: the same in every language if the task is aligned.

        Args:
            lang: The language.
            group_size: How many consecutive rows are chosen together.
            exclude: Ids that must not be used.

        Raises:
            UserError: If none is left.
        """
        usable, selection = self.usable(self.corpus), self.selection
        sources = [other for other in self.row_languages if other == lang or other not in self.languages]
        ids = usable.shared(sources)
        if not ids:
            raise UserError(f"task '{self.name}': no row of '{lang}' has the id of one in '{sources[-1]}'")
        if selection.limit is not None and self.aligned:
            ids = usable.shared(self.row_languages) or ids
        reference = self._reference(usable, lang) if selection.rows is not None else ids
        with in_task(self.name):
            chosen = selection.choose(ids, reference, group_size, usable.unusable(lang) | set(exclude))
        if not chosen:
            raise UserError(f"task '{self.name}': no row of '{lang}' is left to evaluate")
        return chosen

    def _reference(self, usable: UsableRows, lang: str) -> list[str]:
        """Ids of all rows, which ``rows`` refers to: over all languages, so that it means the same rows in each."""
        languages = self.row_languages if self.aligned else [lang]
        return list(dict.fromkeys(row_id for other in languages for row_id in usable.ids(other)))

    @property
    def left_out(self) -> dict[str, int]:
        """Number of unusable rows of the corpus, by language."""
        usable = self._usable.get(id(self.corpus))
        counts = usable.left_out if usable else {}
        return {lang: counts[lang] for lang in self.languages if lang in counts}

    def where(self, lang: str, row_id: str, corpus: Corpus | None = None) -> str:
        """Describe the row with an id, for messages."""
        return f"task '{self.name}', language '{lang}', {(corpus or self.corpus).where(lang, row_id)}"

    @abstractmethod
    def examples(self, lang: str) -> list[Any]:
        """Return the examples of a language, each with an ``id`` (str) that is the same in every language."""

    @abstractmethod
    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[Any]
    ) -> list[Record]:
        """Return one record per example, in order; a record is a line of the predictions file."""

    @abstractmethod
    def length(self, example: Any) -> int:
        """Return the example's size in characters, used to form batches."""

    @abstractmethod
    def metric(self, lang: str) -> Metric:
        """Return a new metric: its ``update`` takes a list of records, its ``compute`` returns one or several numbers.

        An :class:`mlprune.metrics.AdditiveMetric` is fastest; any torchmetrics class works. A metric keeps its
        arguments as attributes of the same names, so that it can be recreated from results.json.
        """

    def metrics(self, lang: str) -> list[Metric]:
        """Return all metrics of a language's records, the task's metric first."""
        return [self.metric(lang), *copy.deepcopy(self.further_metrics)]

    def check_metrics(self) -> None:
        """Raise UserError if two metrics have measures of the same name, or one cannot be described in results.json."""
        metrics = [*self.metrics(self.languages[0]), *self.pair_metrics()]
        names = [measure.name for metric in metrics for measure in measures_of(metric)]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"task '{self.name}': two metrics measure '{name}'; remove one")
        for metric in metrics:
            describe_metric(metric)

    def pair_metrics(self) -> list[PairMetric]:
        """Return metrics over pairs of records of the same example in two languages; none by default."""
        return []

    def pairs(self) -> list[tuple[str, str]]:
        """Return the language pairs for these metrics."""
        return []

    def shots_for(self, lang: str) -> list[tuple[str, str]]:
        """Return the solved examples in a language's prompts as questions and answers; none by default."""
        return []

    def used_rows(self) -> dict[tuple[str, ...], set[str]]:
        """Return rows that calibration must not use: corpus identity to row ids."""
        return {}


@contextmanager
def in_task(name: str) -> Iterator[None]:
    """Inside this context, errors name the task."""
    try:
        yield
    except UserError as error:
        raise UserError(f"task '{name}': {error}") from error


@contextmanager
def naming(task: Task, lang: str, examples: Sequence[Any] = ()) -> Iterator[None]:
    """Inside this context, errors name the task, language and row."""
    try:
        yield
    except ExampleError as error:
        raise UserError(f"{task.where(lang, examples[error.example].id)}: {error.reason}") from error
    except UserError as error:
        raise UserError(f"task '{task.name}', language '{lang}': {error}") from error


def refuse_too_long(
    task: Task, lang: str, examples: Sequence[Any], cut: Sequence[int], limit: int | None, advice: str
) -> None:
    """Raise UserError naming the first example that is too long for the model."""
    for example, over in zip(examples, cut, strict=True):
        if over:
            raise UserError(
                f"{task.where(lang, example.id)}: {over} tokens too long for the model, which takes {limit}; {advice}"
            )

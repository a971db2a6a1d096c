"""LRP2: text of another language is moved toward English in the lower layers, and back in the upper ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import override

from mlprune.batching import deal
from mlprune.data.corpora import Bundled, Corpus
from mlprune.data.usable import Needs, UsableRows
from mlprune.distributed import gather_objects, rank, world_size
from mlprune.errors import UserError
from mlprune.evaluation.encoding import TextEncoder
from mlprune.evaluation.marks import Marks
from mlprune.evaluation.tasks import Task
from mlprune.evaluation.tasks.scored import ScoredTask
from mlprune.interventions.base import Intervention
from mlprune.interventions.language_vectors import language_vectors
from mlprune.interventions.pair_search import Found, Pair, search_pairs
from mlprune.interventions.steering import Shifts, pair_shifts, steered_blocks, steering
from mlprune.languages import language
from mlprune.log import log
from mlprune.models.blocks import Block

NUM_SENTENCES = 100  # as in the published code


class LRP2(Intervention):
    """Adds ``v_pivot - v_lang`` at one layer and ``v_lang - v_pivot`` at a later one, to the tokens of a task's text.

    ``v_lang`` is the mean hidden state of sentences in a language (:func:`mlprune.interventions.language_vectors`), of
    the model that is evaluated, pruned or not. Layer k is what block k receives; the layer after the last block is what
    the output head receives. Words of the template, solved examples and text in the pivot's language stay as they are.

    Source: the baseline in the published code of Kim et al. 2024 (``src/evaluate_lrp2.py``, ``src/lrp2_search.py``).
    Cost: a forward pass of the sentences in each language; evaluation costs nothing more. A search over the pairs of L
    layers costs about ``L ** 2 / 6 + L / 2`` forward passes of the validation rows. The published code ignores the
    first layer if it is 0, adds to BLOOM's last layer before the final norm a vector measured behind it, and does not
    correct positions for padding; here the first layer may be 0, vectors are added where they were measured, and
    nothing is padded.

    Args:
        layers: The two layers, for all tasks and languages.
        validation: Instead, tasks with the names of those evaluated, and other rows: for each task and language the
            pair with the best main figure there is taken; of equal ones the first.
        pivot: Language that the model works best in.
        corpus: Sentences of all languages (column ``text``); the bundled parallel dev split if omitted.
        num_sentences: How many, from the corpus' beginning; 100 if omitted, or as many as there are.

    Raises:
        UserError: If not exactly one of layers and validation is given, or a number is out of range.

    Example:
        >>> LRP2(layers=(3, 12)).pivot
        'en'
        >>> LRP2(layers=(12, 3))
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: LRP2: layers 12, 3 are not allowed; give two from 0 on, the earlier one first
    """

    def __init__(
        self,
        layers: tuple[int, int] | None = None,
        validation: list[Task] | None = None,
        pivot: str = "en",
        corpus: Corpus | None = None,
        num_sentences: int | None = None,
    ) -> None:
        if (layers is None) == (not validation):
            raise UserError("LRP2: give either layers or validation, tasks on whose rows layers are searched")
        if layers is not None and not 0 <= layers[0] < layers[1]:
            shown = ", ".join(map(str, layers))
            raise UserError(f"LRP2: layers {shown} are not allowed; give two from 0 on, the earlier one first")
        names = [task.name for task in validation or []]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"LRP2: validation has two tasks named '{twice}'; give one for each task")
        if num_sentences is not None and num_sentences < 1:
            raise UserError(f"LRP2: num_sentences {num_sentences} is not allowed; give at least 1")
        language(pivot)
        self.layers = layers
        self.validation = {task.name: _scored(task, "validation task") for task in validation or []}
        self.pivot = pivot
        self.corpus = corpus or Bundled("parallel", split="dev")
        self.num_sentences = num_sentences
        self.sentences: dict[str, list[str]] = {}  # language to the sentences of its vector
        self._wanted: list[tuple[str, str]] = []  # tasks and languages other than the pivot
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._found: dict[tuple[str, str], Found] = {}

    # -- before the model is loaded -------------------------------------------------------------------------------

    @override
    def covers(self, task: Task) -> bool:
        return isinstance(task, ScoredTask) and not task.chat.template

    @override
    def prepare(self, tasks: Sequence[Task], tokenizer: PreTrainedTokenizerBase) -> None:
        scored = [_scored(task, "task") for task in tasks]
        self._wanted = [(task.name, lang) for task in scored for lang in task.languages if lang != self.pivot]
        self._tokenizer = tokenizer
        for task in scored if self.layers is None else []:
            self._check_validation(task, tokenizer)
        languages = list(dict.fromkeys([self.pivot, *(lang for _, lang in self._wanted)]))
        for lang in languages:
            self.corpus.check(lang)
        usable = UsableRows(self.corpus, languages, lambda lang, row: Needs(("text",)), who="LRP2")
        ids = [row_id for row_id in usable.shared(languages) if row_id not in usable.unusable(self.pivot)]
        count = self.num_sentences or min(NUM_SENTENCES, len(ids))
        if not 0 < count <= len(ids):
            raise UserError(f"LRP2: num_sentences {count}: the corpus has {len(ids)} in all of {', '.join(languages)}")
        self.sentences = {lang: [row["text"] for row in usable.take(lang, ids[:count])] for lang in languages}

    def _check_validation(self, task: ScoredTask, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a task without validation rows, and rows that are tested, too."""
        given = self.validation.get(task.name)
        for lang in (lang for lang in task.languages if lang != self.pivot):
            if given is None or lang not in given.languages:
                raise UserError(f"LRP2: validation has no rows for task '{task.name}' in '{lang}'")
            given.check()
            given.check_tokenizer(tokenizer)
            rows = {example.id for example in given.examples(lang)}
            both = rows & {example.id for example in task.examples(lang)}
            if both and given.corpus.identity == task.corpus.identity:
                raise UserError(
                    f"LRP2: validation of task '{task.name}' in '{lang}' has {len(both)} rows that are tested, too; "
                    "give other rows"
                )

    # -- during an evaluation -------------------------------------------------------------------------------------

    @override
    def check(self, model: nn.Module) -> None:
        self._blocks(model)

    def _blocks(self, model: nn.Module) -> list[Block]:
        assert isinstance(model, PreTrainedModel)
        blocks = steered_blocks(model, "LRP2")
        if self.layers is not None and self.layers[1] > len(blocks):
            raise UserError(f"LRP2: layer {self.layers[1]} is not there; give at most {len(blocks)}")
        return blocks

    @override
    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        assert isinstance(model, PreTrainedModel)
        if self._tokenizer is None:
            raise UserError("LRP2: call prepare(tasks, tokenizer) before it is applied")
        blocks = self._blocks(model)
        vectors = self._vectors(model, blocks, self._tokenizer)
        pairs = self._pairs(model, blocks, vectors, self._tokenizer)
        shifts = {
            (task, lang): pair_shifts(vectors[self.pivot], vectors[lang], pair) for (task, lang), pair in pairs.items()
        }

        def shifts_for(marks: Marks) -> Shifts:
            return shifts.get((marks.task, marks.lang), {})

        with steering(model, blocks, shifts_for):
            yield

    def _vectors(
        self, model: PreTrainedModel, blocks: list[Block], tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, list[Tensor]]:
        """Language to vectors; each language is measured by one process."""
        encoder = TextEncoder(tokenizer)
        measured = {
            lang: language_vectors(model, [encoder(text) for text in self.sentences[lang]], blocks)
            for lang in deal(list(self.sentences), rank(), world_size())
        }
        log.info("LRP2: vectors of %d languages, %d sentences each", len(self.sentences), self._count)
        return {lang: vectors for part in gather_objects(measured) for lang, vectors in part.items()}

    @property
    def _count(self) -> int:
        return len(self.sentences[self.pivot])

    def _pairs(
        self,
        model: PreTrainedModel,
        blocks: list[Block],
        vectors: dict[str, list[Tensor]],
        tokenizer: PreTrainedTokenizerBase,
    ) -> dict[tuple[str, str], Pair]:
        """The pair of layers of each task and language, searched unless it is given."""
        if self.layers is not None:
            return dict.fromkeys(self._wanted, self.layers)
        self._found = {}
        for task, lang in self._wanted:
            toward = [pivot - vector for pivot, vector in zip(vectors[self.pivot], vectors[lang], strict=True)]
            found = search_pairs(model, tokenizer, blocks, self.validation[task], lang, toward)
            self._found[task, lang] = found
            log.info(
                "LRP2, task '%s', language '%s': layers %d and %d of %d pairs: %s %.3f on %d validation rows (%.3f "
                "without), %.1f s, %.1f forward passes of them",
                *(task, lang, *found.best, len(found.values), found.metric, found.values[found.best], found.n),
                *(found.plain, found.seconds, found.forwards),
            )
        return {place: found.best for place, found in self._found.items()}

    @override
    def results(self) -> dict[str, Any]:
        """Return the layers of each task and language, and what every pair came to on the validation rows."""
        sections: dict[str, Any] = {}
        for task, lang in self._wanted:
            section: dict[str, Any] = {"layers": list(self.layers or ())}
            if (found := self._found.get((task, lang))) is not None:
                section |= {"layers": list(found.best), "metric": found.metric, "n": found.n, "plain": found.plain}
                section["pairs"] = [[*pair, value] for pair, value in found.values.items()]
            sections.setdefault(task, {})[lang] = section
        return sections


def _scored(task: Task, what: str) -> ScoredTask:
    """Return a task of which LRP2 knows what its text is."""
    if not isinstance(task, ScoredTask):
        raise UserError(f"LRP2: {what} '{task.name}' has no candidates to score; leave it out")
    if task.chat.template:
        raise UserError(f"LRP2: {what} '{task.name}' has chat_template, in which text is not found; leave it out")
    return task

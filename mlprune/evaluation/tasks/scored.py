"""Tasks with candidate answers: each gives a text, and the model chooses the likeliest."""

import itertools
import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.cells import cell_of, is_blank
from mlprune.data.corpora import Corpus
from mlprune.data.rows import Row
from mlprune.evaluation.lengths import TooLong, max_length, tokens_over
from mlprune.evaluation.marks import marking, marks_of
from mlprune.evaluation.model_kinds import CandidateTexts, Request, model_kind
from mlprune.evaluation.options import Normalization, Scoring
from mlprune.evaluation.scoring import score_request
from mlprune.evaluation.tasks.base import in_task, naming, refuse_too_long
from mlprune.evaluation.tasks.candidate_example import CandidateExample
from mlprune.evaluation.tasks.prompted import PromptedTask
from mlprune.log import log
from mlprune.metrics import Accuracy, AccuracyIn, ExpectedRankC, PairMetric, RankC, Record, label_metrics
from mlprune.models.language_tokens import between


class ScoredTask(PromptedTask):
    """The base of all tasks with candidates: solved examples, scoring, records and accuracy.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Where rows come from.
        normalization: See :func:`mlprune.evaluation.score_candidates`.
        ranking_only: See there.
        too_long: See there.
        batch_size: See there.
        rankc_matrix: Report RankC of every pair of languages, not only of the pivot with each.
        aligned: Whether rows of two languages with the same id are translations of each other.
        by: Column of categories, such as ``subject``: accuracy is also reported for each.
        options: Those of :class:`PromptedTask` and :class:`Task`.

    Example:
        >>> from mlprune.data.corpora import Bundled
        >>> from mlprune.evaluation.tasks import CandidateTask
        >>> task = CandidateTask("nli", ["fr"], Bundled("nli"), "xnli")
        >>> metric = task.metric("fr")
        >>> metric.update([{"label": "neutral", "prediction": "neutral"}])
        >>> metric.compute()["accuracy"]
        1.0
    """

    start_token = False  # whether texts are scored from their first token on: see encode_candidates
    group_size = 1  # how many consecutive rows belong together

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus,
        *,
        normalization: Normalization = "token",
        ranking_only: bool = False,
        too_long: TooLong = "error",
        batch_size: int | None = None,
        rankc_matrix: bool = False,
        aligned: bool = True,
        by: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, languages, corpus, **options)
        with in_task(name):
            self.scoring = Scoring(normalization, ranking_only, too_long, batch_size)
        self.rankc_matrix = rankc_matrix
        self.aligned = aligned
        self.by = by
        self._categories: list[str] | None = None
        self._solved: dict[str, list[CandidateExample]] = {}
        self._warned: set[str] = set()  # languages with a warning about joined rows

    # -- examples -------------------------------------------------------------------------------------------------

    @abstractmethod
    def example(self, row: Row, lang: str, corpus: Corpus) -> CandidateExample:
        """Build the example from a row.

        Args:
            row: The row.
            lang: Its language.
            corpus: Where it comes from, for messages: the task's corpus or that of solved examples.
        """

    def groups(self, lang: str, rows: list[Row]) -> dict[str, str]:
        """Return row id to group, for rows that are not independent."""
        return {}

    def examples(self, lang: str) -> list[CandidateExample]:
        solved = self._solved_examples(lang)
        same = self.fewshot is not None and self.fewshot.identity == self.corpus.identity
        used = {example.id for example in solved} if same else set()
        rows = self.usable(self.corpus).take(lang, self.chosen(lang, self.group_size, used))
        groups = self.groups(lang, rows)
        examples = [
            replace(
                self.example(row, lang, self.corpus), group=groups.get(row["id"]), category=self._category(row, lang)
            )
            for row in rows
        ]
        if self.chat.template or not solved:
            return examples
        before = "".join(example.candidates[example.label] + self.separator for example in solved)
        return [example.after(before) for example in examples]

    def _category(self, row: Row, lang: str) -> str | None:
        if self.by is None:
            return None
        with naming(self, lang):
            cell = cell_of(row, self.by)
        return None if is_blank(cell) else str(cell)

    def categories(self) -> list[str]:
        """Return the categories of the rows that can be evaluated, in all languages, sorted."""
        if self._categories is None:
            usable = self.usable(self.corpus) if self.by else None
            rows = ((lang, row) for lang in self.languages if usable for row in usable.rows[lang])
            found = {self._category(row, lang) for lang, row in rows}
            self._categories = sorted(category for category in found if category is not None)
        return self._categories

    def _solved_examples(self, lang: str) -> list[CandidateExample]:
        if lang not in self._solved and self.fewshot is not None:
            self._solved[lang] = [self.example(row, lang, self.fewshot) for row in self.solved_rows(lang)]
        return self._solved.get(lang, [])

    def shots_for(self, lang: str) -> list[tuple[str, str]]:
        return [(example.question, example.answers[example.label]) for example in self._solved_examples(lang)]

    def length(self, example: CandidateExample) -> int:
        return max(map(len, example.candidates))

    # -- predictions ----------------------------------------------------------------------------------------------

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[CandidateExample]
    ) -> list[Record]:
        request = self.request(model, tokenizer, lang, examples)
        cut = tokens_over(model, request.ids, request.contexts)
        if self.scoring.too_long == "error":
            advice = "shorten the text or set too_long: truncate"
            refuse_too_long(self, lang, examples, cut, max_length(model), advice)
        with naming(self, lang, examples), marking(model, task=self.name, lang=lang):
            scores = score_request(model, request, self.scoring)
        self._warn_joined(lang, examples, request.joined)
        counts = [{"tokens_cut": over, "joined": joined} for over, joined in zip(cut, request.joined, strict=True)]
        return [
            record | {name: count for name, count in counted.items() if count}
            for record, counted in zip(self.records(examples, scores), counts, strict=True)
        ]

    def request(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[CandidateExample]
    ) -> Request:
        """Tokenize examples; tokens of the rows' own text are marked where an intervention asks for it.

        Args:
            model: The model.
            tokenizer: Its tokenizer.
            lang: Language of the examples.
            examples: The examples.
        """
        with naming(self, lang, examples), between(tokenizer, lang, lang):
            texts = self._texts(tokenizer, lang, examples)
            if marks_of(model) is not None and not self.chat.template:
                written = [example.own_text() for example in examples]
                texts = [text._replace(ranges=ranges) for text, ranges in zip(texts, written, strict=True)]
            return model_kind(model).request(model, tokenizer, texts, self.start_token, not self.chat.template)

    def records(self, examples: list[CandidateExample], scores: Tensor) -> list[Record]:
        """Return the record of each example.

        Args:
            examples: n examples.
            scores: (n, k), higher is likelier; NaN beyond an example's candidates.
        """
        rows = scores.double().tolist()
        return [self._record(example, row) for example, row in zip(examples, rows, strict=True)]

    def _texts(
        self, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[CandidateExample]
    ) -> list[CandidateTexts]:
        """The texts to score: in a chat, the question is the whole prompt before the answer."""
        if not self.chat.template:
            given = [e.given or [""] * len(e.candidates) for e in examples]
            full = [list(zip(e.candidates, starts, strict=True)) for e, starts in zip(examples, given, strict=True)]
            return [CandidateTexts(e.question or None, e.answers, f) for e, f in zip(examples, full, strict=True)]
        solved = self.shots_for(lang)
        texts = []
        for example in examples:
            prompt = self.chat.prompt(tokenizer, solved, example.question)
            answers = [answer.lstrip() for answer in example.answers]
            texts.append(CandidateTexts(prompt, answers, [(prompt + answer, prompt) for answer in answers]))
        return texts

    def _warn_joined(self, lang: str, examples: list[CandidateExample], joined: Sequence[bool]) -> None:
        """Warn once per language; the results have the number of such rows."""
        if any(joined) and lang not in self._warned:
            self._warned.add(lang)
            log.warning(
                "%s: a token spans question and answer, so answers are encoded alone; "
                'such rows are counted as "joined" in the results',
                self.where(lang, examples[list(joined).index(True)].id),
            )

    def _record(self, example: CandidateExample, row: list[float]) -> Record:
        scores = row[: len(example.candidates)]
        best = pick(scores, f"{self.selection.seed}:{example.id}")
        label, prediction = example.names[example.label], example.names[best]
        record = {"id": example.id, "label": label, "right": example.label, "scores": scores, "prediction": prediction}
        record["text"] = example.candidates[example.label]  # so that people can read the example
        if example.group is not None:
            record["group"] = example.group
        if example.category is not None:
            record["category"] = example.category
        return record if self.aligned else record | {"aligned": False}

    # -- metrics --------------------------------------------------------------------------------------------------

    def metric(self, lang: str) -> Metric:
        return Accuracy()

    def labels(self, lang: str) -> tuple[str, ...]:
        """Return the labels that all examples of a language choose among; empty where candidates are their own."""
        return ()

    def metrics(self, lang: str) -> list[Metric]:
        labels = self.labels(lang)
        beside = label_metrics(labels) if labels else []
        return [*super().metrics(lang), *map(AccuracyIn, self.categories()), *beside]

    def pair_metrics(self) -> list[PairMetric]:
        return [RankC(), ExpectedRankC()]

    def pairs(self) -> list[tuple[str, str]]:
        """Return the pivot (or the first language) with every other, or all pairs; none if rows are not aligned."""
        if not self.aligned:
            return []
        if self.rankc_matrix:
            return list(itertools.combinations(self.languages, 2))
        pivot = self.pivot or self.languages[0]
        return [(pivot, lang) for lang in self.languages if lang != pivot]


def pick(scores: Sequence[float], seed: str) -> int:
    """Return the position of the highest score; ties are broken at random, so that no position is favored.

    Example:
        >>> pick([0.5, 2.0, 1.0], seed="0:row")
        1
        >>> sorted({pick([1.0, 1.0], seed=str(i)) for i in range(20)})
        [0, 1]
    """
    best = [i for i, score in enumerate(scores) if score == max(scores)]
    return best[0] if len(best) == 1 else random.Random(seed).choice(best)

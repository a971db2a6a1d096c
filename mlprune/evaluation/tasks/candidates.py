"""Zero-shot tasks: every candidate answer is filled into a text, and the likeliest text wins."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.cells import is_blank, label_of
from mlprune.data.corpora import Corpus
from mlprune.data.rows import Row
from mlprune.data.templates import Template, load_template, of_language, slots
from mlprune.data.usable import Needs
from mlprune.errors import UserError
from mlprune.evaluation.chat import check_chat_options
from mlprune.evaluation.encoder_decoder import encode_answers
from mlprune.evaluation.encoding import chat_prompt, encode_candidates
from mlprune.evaluation.lengths import TooLong, max_length, tokens_over
from mlprune.evaluation.scoring import NORMALIZATIONS, Normalization, score_candidate_ids
from mlprune.evaluation.tasks.base import Task, naming, refuse_too_long
from mlprune.log import log
from mlprune.metrics import Accuracy, ExpectedRankC, PairMetric, RankC, Record
from mlprune.models.language_tokens import between


@dataclass(frozen=True)
class CandidateExample:
    """An example: its candidates, and the name of the right one.

    Args:
        id: The row's id, the same in every language.
        candidates: Full texts.
        names: What each candidate stands for: labels, or answers.
        label: Position of the right one.
        question: What precedes the answer; empty where the template has none, or one for each candidate.
        answers: What follows the question in each candidate.
        given: Leading part of each candidate that is not scored.
        group: What examples of a language share that are not independent, such as hypotheses of one premise.

    Example:
        >>> CandidateExample("0", ("It is bad", "It is good"), ("negative", "positive"), label=1).names[1]
        'positive'
    """

    id: str
    candidates: tuple[str, ...]
    names: tuple[str, ...]
    label: int
    question: str = ""
    answers: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    group: str | None = None


class ScoredTask(Task):
    """What all candidate tasks share: scoring, records and accuracy.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Where rows come from.
        limit: At most so many examples a language.
        seed: Seed of their choice.
        normalization: See :func:`mlprune.evaluation.score_candidates`.
        ranking_only: See there.
        too_long: See there.
        start_token: Score texts from their first token on, after the tokenizer's beginning (or end) token alone.
        rankc_matrix: Report RankC of every pair of languages, not only of English with each.
        metrics: Further metrics of its records, besides its own.

    Example:
        >>> from mlprune.data.corpora import Bundled
        >>> task = CandidateTask("nli", ["fr"], Bundled("nli"), "xnli")
        >>> metric = task.metric("fr")
        >>> metric.update([{"label": "neutral", "prediction": "neutral"}])
        >>> metric.compute()["accuracy"]
        1.0
    """

    chat_template = False
    chat_template_options: Mapping[str, Any] = {}

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus,
        limit: int | None = None,
        seed: int = 0,
        normalization: Normalization = "token",
        ranking_only: bool = False,
        too_long: TooLong = "error",
        start_token: bool = False,
        rankc_matrix: bool = False,
        metrics: list[Metric] | None = None,
    ) -> None:
        super().__init__(name, languages, corpus, limit, seed, metrics)
        for key, value, allowed in (
            ("normalization", normalization, NORMALIZATIONS),
            ("too_long", too_long, ("error", "truncate")),
        ):
            if value not in allowed:
                raise UserError(f"task '{name}': {key} '{value}' is not allowed; give one of {', '.join(allowed)}")
        self.normalization: Normalization = normalization
        self.ranking_only = ranking_only
        self.too_long: TooLong = too_long
        self.start_token = start_token
        self.rankc_matrix = rankc_matrix
        self._told: set[str] = set()  # languages whose joined rows were reported

    def shots_for(self, lang: str) -> list[tuple[str, str]]:
        """Return questions and answers of solved examples; none by default."""
        return []

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().check_tokenizer(tokenizer)
        for lang in self.languages if self.chat_template else []:
            with naming(self, lang):
                chat_prompt(tokenizer, self.shots_for(lang), "?", self.chat_template_options)

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[CandidateExample]
    ) -> list[Record]:
        with naming(self, lang, examples):
            asked = self._encode(model, tokenizer, lang, examples)
        cut = tokens_over(model, asked.ids, asked.contexts)
        if self.too_long == "error":
            advice = "shorten the text or set too_long: truncate"
            refuse_too_long(self, lang, examples, cut, max_length(model), advice)
        with naming(self, lang, examples):
            scores = score_candidate_ids(
                model,
                asked.ids,
                asked.contexts,
                self.normalization,
                ranking_only=self.ranking_only,
                too_long=self.too_long,
                given=asked.given,
                decoder_start=asked.decoder_start,
            )
        self._tell_joined(lang, examples, asked.joined)
        counts = [{"tokens_cut": over, "joined": joined} for over, joined in zip(cut, asked.joined, strict=True)]
        return [
            self._record(example, row) | {name: count for name, count in own.items() if count}
            for example, row, own in zip(examples, scores.double().tolist(), counts, strict=True)
        ]

    def _encode(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[CandidateExample]
    ) -> "_Asked":
        if model.config.is_encoder_decoder:
            if not all(example.question for example in examples):
                raise UserError(f"its template has no question for {type(model).__name__}'s encoder")
            with between(tokenizer, lang, lang):
                contexts = [tokenizer(example.question, verbose=False)["input_ids"] for example in examples]
                ids, given, start = encode_answers(model, tokenizer, [example.answers for example in examples])
            return _Asked(ids, given, [False] * len(examples), contexts, start)
        if self.chat_template:
            shots, options = self.shots_for(lang), self.chat_template_options
            prompts = [chat_prompt(tokenizer, shots, example.question, options) for example in examples]
            texts = [[(p + a.lstrip(), p) for a in e.answers] for p, e in zip(prompts, examples, strict=True)]
        else:
            texts = [list(zip(e.candidates, e.given or [""] * len(e.candidates), strict=True)) for e in examples]
        return _Asked(*encode_candidates(tokenizer, texts, self.start_token, special_tokens=not self.chat_template))

    def _tell_joined(self, lang: str, examples: list[CandidateExample], joined: list[bool]) -> None:
        """Warn once a language; how many there are stands in the results."""
        if any(joined) and lang not in self._told:
            self._told.add(lang)
            log.warning(
                "%s: a token spans question and answer, so answers are encoded alone; "
                'such rows are counted as "joined" in the results',
                self.where(lang, examples[joined.index(True)].id),
            )

    def _record(self, example: CandidateExample, row: list[float]) -> Record:
        scores = row[: len(example.candidates)]
        best = pick(scores, f"{self.seed}:{example.id}")
        label, prediction = example.names[example.label], example.names[best]
        record = {"id": example.id, "label": label, "scores": scores, "prediction": prediction}
        record["text"] = example.candidates[example.label]  # so that people can read what was asked
        if example.group is not None:
            record["group"] = example.group
        return record if self.aligned else record | {"aligned": False}

    def length(self, example: CandidateExample) -> int:
        return max(map(len, example.candidates))

    def metric(self, lang: str) -> Metric:
        return Accuracy()

    def pair_metrics(self) -> list[PairMetric]:
        return [RankC(), ExpectedRankC()]

    def pairs(self) -> list[tuple[str, str]]:
        """Return English (or the first language) with every other, or all pairs; none where rows are not aligned."""
        if not self.aligned:
            return []
        if self.rankc_matrix:
            return list(itertools.combinations(self.languages, 2))
        pivot = self.pivot or self.languages[0]
        return [(pivot, lang) for lang in self.languages if lang != pivot]


@dataclass(frozen=True)
class _Asked:
    """Examples as token ids; see :func:`mlprune.evaluation.score_candidate_ids`."""

    ids: list[list[list[int]]]
    given: list[list[int]]
    joined: list[bool]
    contexts: list[list[int]] | None = None
    decoder_start: int | None = None


def pick(scores: Sequence[float], seed: str) -> int:
    """Return the position of the highest score; equal ones are drawn between, so that no position is favoured.

    Example:
        >>> pick([0.5, 2.0, 1.0], seed="0:row")
        1
        >>> sorted({pick([1.0, 1.0], seed=str(i)) for i in range(20)})
        [0, 1]
    """
    best = [i for i, score in enumerate(scores) if score == max(scores)]
    return best[0] if len(best) == 1 else random.Random(seed).choice(best)


class CandidateTask(ScoredTask):
    """A classification or multiple-choice task by template, such as XNLI, MARC-2 or one of your own.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Where rows come from.
        template: Name of a template that comes with the package (``xnli``, ``xnli-native``, ``xnli-translated``,
            ``marc``, ``paws-x``, ``xcopa``, ``xstorycloze``, ``xwinograd``), or a text with ``{column}`` slots and
            ``{label}`` (or ``{candidate}``), or such a text for each language.
        verbalizer: Label to word, in label order; needed with a text of your own, else the template's.
        candidates: Columns with the row's own answers, instead of a verbalizer.
        label_column: Column with the right label; as above.
        labels: Cell of the label column to label (or candidate column), where they differ.
        question: What precedes the answer, for encoder-decoder models and chats; the template's if omitted.
        answer: What follows it; the template's if omitted.
        group_size: So many consecutive rows are sampled together; the template's if omitted.
        limit: At most so many examples a language, as whole groups.
        seed: Seed of their choice.
        normalization: See :func:`mlprune.evaluation.score_candidates`; the template's own if omitted.
        ranking_only: See there.
        too_long: See there.
        shots: Solved examples before each question.
        fewshot: Where they come from; needed with ``shots``.
        separator: Text between solved examples.
        chat_template: Ask through the tokenizer's chat template: questions as user, answers as assistant.
        chat_template_options: What the chat template reads besides, such as ``{enable_thinking: false}``; ``date`` is
            what it takes for today, 2025-01-01 if omitted.
        rankc_matrix: Report RankC of every pair of languages, not only of English with each.
        metrics: Further metrics of its records, besides its own.
        aligned: Whether rows of two languages with the same id are translations of each other.

    Raises:
        UserError: If template, verbalizer and label column do not fit together.

    Example:
        >>> from mlprune.data.corpora import Bundled
        >>> task = CandidateTask(
        ...     "reviews",
        ...     ["fr"],
        ...     Bundled("reviews"),
        ...     template="{text} C'est {label}",
        ...     verbalizer={"bad": "mauvais", "good": "bon"},
        ...     label_column="stars",
        ...     labels={"1": "bad", "2": "bad", "4": "good", "5": "good"},
        ... )
        >>> [text.split()[-1] for text in task.examples("fr")[0].candidates]
        ['mauvais', 'bon']
    """

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus,
        template: str | dict[str, str],
        verbalizer: dict[str, Any] | None = None,
        candidates: list[str] | None = None,
        label_column: str | None = None,
        labels: dict[str, str] | None = None,
        question: str | dict[str, str] | None = None,
        answer: str | dict[str, str] | None = None,
        group_size: int | None = None,
        limit: int | None = None,
        seed: int = 0,
        normalization: Normalization | None = None,
        ranking_only: bool = False,
        too_long: TooLong = "error",
        shots: int = 0,
        fewshot: Corpus | None = None,
        separator: str = "\n\n",
        chat_template: bool = False,
        rankc_matrix: bool = False,
        chat_template_options: dict[str, Any] | None = None,
        aligned: bool = True,
        metrics: list[Metric] | None = None,
    ) -> None:
        own = isinstance(template, dict) or "{" in template
        if own and not ((verbalizer or candidates) and label_column):
            raise UserError(f"task '{name}': a template of your own needs verbalizer (or candidates) and label_column")
        base = Template(template=template) if own else load_template(str(template))
        changes: dict[str, Any] = {
            "verbalizer": verbalizer,
            "candidates": candidates,
            "label_column": label_column,
            "labels": {str(cell): label for cell, label in (labels or {}).items()},
            "question": question,
            "answer": answer,
            "group_size": group_size,
        }
        if group_size is not None and group_size < 1:
            raise UserError(f"task '{name}': group_size {group_size} is not allowed; give at least 1")
        self.template = replace(base, **{key: value for key, value in changes.items() if value})
        chosen = normalization or self.template.normalization
        start_token = self.template.start_token
        super().__init__(
            name, languages, corpus, limit, seed, chosen, ranking_only, too_long, start_token, rankc_matrix, metrics
        )
        self.aligned = aligned
        if shots < 0 or (shots and fewshot is None):
            raise UserError(
                f"task '{name}': shots {shots} is not allowed without a fewshot corpus; give 0 or more, and one"
            )
        if chat_template and not (self.template.question and self.template.answer):
            raise UserError(f"task '{name}': chat_template needs question and answer, which its template does not have")
        if chat_template and "{candidate}" in str(self.template.question):
            raise UserError(f"task '{name}': chat_template needs a question without {{candidate}}, which is the answer")
        for lang in languages:
            self._check_template(lang)
        self.shots = shots
        self.fewshot = fewshot
        self.separator = separator
        self.chat_template = chat_template
        self.chat_template_options = check_chat_options(f"task '{name}'", chat_template, chat_template_options)
        self._solved: dict[str, list[tuple[str, CandidateExample]]] = {}

    def _check_template(self, lang: str) -> None:
        template = self.template
        slot = "candidate" if template.candidates else "label"
        parts = (template.question, template.answer, template.template)
        try:
            question, answer, text = (slots(of_language(part, lang, "template")) for part in parts)
            names = template.names(lang)
        except UserError as error:
            raise UserError(f"task '{self.name}': {error}") from error
        if slot not in (text or question | answer):
            raise UserError(f"task '{self.name}': its template has no {{{slot}}}")
        for name in [*names, *template.labels.values()]:
            if not isinstance(name, str):
                raise UserError(f"task '{self.name}': label {name} is no text; quote it, as YAML reads no as false")
        if len(names) < 2:
            raise UserError(f"task '{self.name}': {', '.join(names)} alone would always be right; give two or more")
        words = [] if template.candidates else [str(word) for word in template.words_for(lang).values()]
        if len(set(words)) < len(words):
            raise UserError(f"task '{self.name}': labels share a word in '{lang}': {', '.join(words)}")
        strange = [label for label in template.labels.values() if label not in names]
        if strange:
            raise UserError(f"task '{self.name}': labels name '{strange[0]}', which is none of {', '.join(names)}")

    def columns(self, row: Row, lang: str) -> Row:
        """Return the row as the template wants it; overridden where a data set needs cleaning."""
        return row

    def text_columns(self, lang: str) -> tuple[str, ...]:
        """Return the corpus' columns whose text is asked."""
        return self.template.text_columns(lang)

    def fault(self, row: Row) -> str | None:
        """Return why a row cannot be asked, beyond blanks; overridden where a data set has ways of its own."""
        return None

    def label(self, row: Row, corpus: Corpus) -> str:
        """Return the cell of the label column as text."""
        return label_of(row, self.template.label_column)

    def needs(self, corpus: Corpus, lang: str, row: Row) -> Needs:
        template = self.template
        labels = (template.label_column, *(entry["column"] for entry in template.words.values()))

        def dropped(row: Row) -> bool:
            blank = is_blank(row.get(template.label_column))
            return not blank and self.label(row, corpus) in template.dropped

        texts = self.text_columns(lang)
        return Needs(texts, labels, self.fault, dropped) if template.dropped else Needs(texts, labels, self.fault)

    def examples(self, lang: str) -> list[CandidateExample]:
        solved = self._solved_examples(lang)
        same = self.fewshot is not None and self.fewshot.identity == self.corpus.identity
        used = {row_id for row_id, _ in solved} if same else set()
        chosen = self.chosen(lang, self.template.group_size, used)
        rows = self.usable(self.corpus).take(lang, chosen)
        groups = self._groups(lang, rows)
        examples = [replace(self._example(row, lang, self.corpus), group=groups.get(row["id"])) for row in rows]
        if self.chat_template or not solved:
            return examples
        before = "".join(example.candidates[example.label] + self.separator for _, example in solved)
        return [_after(before, example) for example in examples]

    def _groups(self, lang: str, rows: list[Row]) -> dict[str, str]:
        """Row id to group: rows with one cell in the template's column, else rows that are sampled together."""
        template = self.template
        if template.group_column and all(template.group_column in row for row in rows):
            first: dict[str, str] = {}
            return {row["id"]: first.setdefault(str(row[template.group_column]), row["id"]) for row in rows}
        size = template.group_size
        ids = self.usable(self.corpus).ids(self.languages[0] if self.aligned else lang) if size > 1 else []
        return {row_id: ids[place - place % size] for place, row_id in enumerate(ids)}

    def _solved_examples(self, lang: str) -> list[tuple[str, CandidateExample]]:
        if self.fewshot is None or not self.shots:
            return []
        if lang not in self._solved:
            usable = self.usable(self.fewshot)
            unusable = usable.unusable(lang)
            ids = [row_id for row_id in usable.ids(lang) if row_id not in unusable]
            if len(ids) < self.shots:
                raise UserError(f"task '{self.name}': {self.shots} shots needed in '{lang}', the corpus has {len(ids)}")
            places = sorted(random.Random(f"{self.seed}:shots").sample(range(len(ids)), self.shots))
            rows = usable.take(lang, [ids[i] for i in places])
            self._solved[lang] = [(row["id"], self._example(row, lang, self.fewshot)) for row in rows]
        return self._solved[lang]

    def shots_for(self, lang: str) -> list[tuple[str, str]]:
        return [(example.question, example.answers[example.label]) for _, example in self._solved_examples(lang)]

    def _example(self, row: Row, lang: str, corpus: Corpus) -> CandidateExample:
        template = self.template
        names = template.names(lang)
        try:
            cell = self.label(row, corpus)
            right = template.labels.get(cell, cell)
            if right not in names:
                allowed = ", ".join(template.labels or names)
                raise UserError(f"{template.label_column} '{cell}' is not a label; allowed are {allowed}")
            cells = self.columns(row, lang)
            filled = [template.fill(cells, lang, name) for name in names]
        except UserError as error:
            raise UserError(f"{self.where(lang, row['id'], corpus)}: {error}") from error
        return CandidateExample(
            id=row["id"],
            candidates=tuple(text for text, _, _ in filled),
            names=names,
            label=names.index(right),
            question=filled[0][1] if len({question for _, question, _ in filled}) == 1 else "",
            answers=tuple(answer for _, _, answer in filled),
            given=tuple(question for _, question, _ in filled) if template.answer_only else (),
        )

    def used_rows(self) -> dict[tuple[str, ...], set[str]]:
        """Return the rows of solved examples, which calibration must not use."""
        if self.fewshot is None or not self.shots:
            return {}
        return {self.fewshot.identity: {row_id for lang in self.languages for row_id, _ in self._solved_examples(lang)}}


def _after(before: str, example: CandidateExample) -> CandidateExample:
    """Put solved examples before an example; they are given, whatever else is."""
    given = tuple(before + text for text in example.given) if example.given else (before,) * len(example.candidates)
    texts = tuple(before + text for text in example.candidates)
    question = before + example.question if example.question else ""
    return replace(example, candidates=texts, given=given, question=question)

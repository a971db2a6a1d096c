"""Zero-shot tasks: every candidate answer is filled into a text, and the likeliest text wins."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.corpora import Bundled, Corpus, Row
from mlprune.data.templates import Template, load_template
from mlprune.errors import UserError
from mlprune.evaluation.scoring import NORMALIZATIONS, Normalization, score_candidates
from mlprune.evaluation.tasks.base import Record, Task, sample_groups
from mlprune.metrics import Accuracy


@dataclass(frozen=True)
class CandidateExample:
    """An example: its candidates as full texts, their names, and the position of the right one."""

    id: str
    candidates: tuple[str, ...]
    names: tuple[str, ...]
    label: int


class _Candidates(Task):
    """What template tasks and cloze facts share: scoring, records and accuracy."""

    kind = "candidates"

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus,
        limit: int | None,
        seed: int,
        normalization: Normalization,
        ranking_only: bool,
    ) -> None:
        super().__init__(name, languages, corpus, limit, seed)
        if normalization not in NORMALIZATIONS:
            raise UserError(f"task '{name}': normalization '{normalization}'; give one of {', '.join(NORMALIZATIONS)}")
        self.normalization: Normalization = normalization
        self.ranking_only = ranking_only

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[CandidateExample]
    ) -> list[Record]:
        texts = [example.candidates for example in examples]
        scores = score_candidates(
            model, tokenizer, texts, normalization=self.normalization, ranking_only=self.ranking_only
        )
        records = []
        for example, row in zip(examples, scores.double().tolist(), strict=True):
            values = row[: len(example.candidates)]
            best = max(range(len(values)), key=values.__getitem__)
            names = example.names
            records.append(
                {"id": example.id, "label": names[example.label], "scores": values, "prediction": names[best]}
            )
        return records

    def length(self, example: CandidateExample) -> int:
        return max(map(len, example.candidates))

    def metric(self, lang: str) -> Metric:
        return Accuracy()

    def update(self, metric: Metric, records: list[Record]) -> None:
        right = torch.tensor([record["prediction"] == record["label"] for record in records], dtype=torch.int64)
        metric.update(right, torch.ones_like(right))


class CandidateTask(_Candidates):
    """A classification task by template and verbalizer, such as XNLI and MARC-2.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Where rows come from.
        template: Name of a template that comes with the package (``xnli``, ``marc``), or a text with ``{column}`` slots
            and ``{label}``.
        verbalizer: Label to word, in label order; needed with a text of your own, else the template's.
        label_column: Column with the right label; as above.
        labels: Cell of the label column to label, where they differ.
        limit: At most so many examples a language.
        seed: Seed of their choice.
        normalization: See :func:`mlprune.evaluation.score_candidates`.
        ranking_only: See there.

    Raises:
        UserError: If template, verbalizer and label column do not fit together.
    """

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus,
        template: str,
        verbalizer: dict[str, str] | None = None,
        label_column: str | None = None,
        labels: dict[str, str] | None = None,
        limit: int | None = None,
        seed: int = 0,
        normalization: Normalization = "token",
        ranking_only: bool = False,
    ) -> None:
        super().__init__(name, languages, corpus, limit, seed, normalization, ranking_only)
        if "{" in template:
            if not verbalizer or not label_column:
                raise UserError(f"task '{name}': a template of your own needs verbalizer and label_column")
            base = Template(template, label_column, verbalizer, {label: label for label in verbalizer})
        else:
            base = load_template(template)
        changes = {"verbalizer": verbalizer, "label_column": label_column, "labels": labels}
        self.template = Template(**(vars(base) | {key: value for key, value in changes.items() if value}))
        if "{label}" not in self.template.template:
            raise UserError(f"task '{name}': template '{self.template.template}' has no {{label}}")

    def examples(self, lang: str) -> list[CandidateExample]:
        template = self.template
        names = tuple(template.verbalizer)
        kept = [row for row in self.corpus.rows(lang) if str(row.get(template.label_column)) not in template.dropped]
        return [
            self._example(row, lang, names) for row in sample_groups(kept, self.limit, template.group_size, self.seed)
        ]

    def _example(self, row: Row, lang: str, names: tuple[str, ...]) -> CandidateExample:
        template = self.template
        cell = str(row.get(template.label_column))
        if template.labels.get(cell) not in names:
            raise UserError(
                f"task '{self.name}', language '{lang}', row {row['id']}: {template.label_column} '{cell}' is not a label; "
                f"allowed are {', '.join(template.labels)}"
            )
        cut = template.cut(row, lang)
        try:
            texts = tuple(template.template.format(**cut | {"label": template.verbalizer[name]}) for name in names)
        except KeyError as error:
            have = ", ".join(row)
            raise UserError(f"task '{self.name}': the template asks for {error}, the corpus has {have}") from error
        return CandidateExample(row["id"], texts, names, names.index(template.labels[cell]))


class ClozeTask(_Candidates):
    """Factual probes: a prompt with ``<mask>`` and several candidates, as in BMLAMA.

    Candidates are shuffled by seed and row, alike in all languages, since published files put the right answer last.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Columns ``prompt``, ``answer`` and ``candidates`` (a list, or one text separated by ``, ``).
        limit: At most so many examples a language.
        seed: Seed of their choice and of the shuffling.
        normalization: See :func:`mlprune.evaluation.score_candidates`.
    """

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus | None = None,
        limit: int | None = None,
        seed: int = 0,
        normalization: Normalization = "token",
    ) -> None:
        super().__init__(name, languages, corpus or Bundled("facts"), limit, seed, normalization, ranking_only=False)

    def examples(self, lang: str) -> list[CandidateExample]:
        return [self._example(row, lang) for row in sample_groups(self.corpus.rows(lang), self.limit, 1, self.seed)]

    def _example(self, row: dict[str, Any], lang: str) -> CandidateExample:
        where = f"task '{self.name}', language '{lang}', row {row['id']}"
        names = row["candidates"] if isinstance(row["candidates"], list) else str(row["candidates"]).split(", ")
        if row["prompt"].count("<mask>") != 1 or row["answer"] not in names:
            raise UserError(f"{where}: a prompt needs one <mask> and its answer among the candidates")
        order = list(range(len(names)))
        random.Random(f"{self.seed}:{row['id']}").shuffle(order)
        shuffled = tuple(names[i] for i in order)
        texts = tuple(row["prompt"].replace("<mask>", name) for name in shuffled)
        return CandidateExample(row["id"], texts, shuffled, shuffled.index(row["answer"]))

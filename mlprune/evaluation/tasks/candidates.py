"""Classification and multiple choice by template: tasks that can be written in YAML."""

from dataclasses import replace
from typing import Any

from mlprune.data.cells import is_blank, label_of
from mlprune.data.corpora import Corpus
from mlprune.data.rows import Row
from mlprune.data.templates import Template, load_template
from mlprune.data.usable import Needs
from mlprune.errors import UserError
from mlprune.evaluation.options import Normalization
from mlprune.evaluation.tasks.base import in_task
from mlprune.evaluation.tasks.candidate_example import CandidateExample
from mlprune.evaluation.tasks.scored import ScoredTask


class CandidateTask(ScoredTask):
    """A classification or multiple-choice task by template, such as XNLI, MARC-2 or a custom one.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Where rows come from.
        template: Name of a template that comes with the package (``xnli``, ``xnli-native``, ``xnli-translated``,
            ``marc``, ``paws-x``, ``xcopa``, ``xstorycloze``, ``xwinograd``, ``belebele``, ``global-mmlu-lite``,
            ``include``, ``sib200``), or a text with ``{column}`` slots and
            ``{label}`` (or ``{candidate}``), or such a text for each language.
        verbalizer: Label to word, in label order; needed with a custom text, else the template's.
        candidates: Columns with the candidates of each row, instead of a verbalizer.
        label_column: Column with the right label; as above.
        labels: Cell of the label column to label (or candidate column), where they differ.
        question: What precedes the answer, for encoder-decoder models and chats; the template's if omitted.
        answer: What follows it; the template's if omitted.
        group_size: How many consecutive rows are sampled together; the template's if omitted.
        normalization: See :func:`mlprune.evaluation.score_candidates`; the template's if omitted.
        options: Those of :class:`ScoredTask`, :class:`PromptedTask` and :class:`Task`.

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
        *,
        verbalizer: dict[str, Any] | None = None,
        candidates: list[str] | None = None,
        label_column: str | None = None,
        labels: dict[str, str] | None = None,
        question: str | dict[str, str] | None = None,
        answer: str | dict[str, str] | None = None,
        group_size: int | None = None,
        normalization: Normalization | None = None,
        **options: Any,
    ) -> None:
        is_custom = isinstance(template, dict) or "{" in template
        if is_custom and not ((verbalizer or candidates) and label_column):
            raise UserError(f"task '{name}': a custom template needs verbalizer (or candidates) and label_column")
        base = Template(template=template) if is_custom else load_template(str(template))
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
        self.own_words = is_custom
        self.template = replace(base, **{key: value for key, value in changes.items() if value})
        self.start_token = self.template.start_token
        self.group_size = self.template.group_size
        super().__init__(name, languages, corpus, normalization=normalization or self.template.normalization, **options)
        if self.chat.template and not (self.template.question and self.template.answer):
            raise UserError(f"task '{name}': chat_template needs question and answer, which its template does not have")
        if self.chat.template and "{candidate}" in str(self.template.question):
            raise UserError(f"task '{name}': chat_template needs a question without {{candidate}}, which is the answer")
        with in_task(name):
            for lang in languages:
                self.template.check(lang)

    def columns(self, row: Row, lang: str) -> Row:
        """Return the row as the template expects it; overridden where a data set needs cleaning."""
        return row

    def labels(self, lang: str) -> tuple[str, ...]:
        """Return the verbalizer's labels; none where the candidates are columns."""
        return () if self.template.candidates else self.template.names(lang)

    def text_columns(self, lang: str) -> tuple[str, ...]:
        """Return the corpus columns whose text the prompt uses."""
        return self.template.text_columns(lang)

    def fault(self, row: Row) -> str | None:
        """Return why a row is invalid, other than blanks; overridden for conventions of a data set."""
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

    def groups(self, lang: str, rows: list[Row]) -> dict[str, str]:
        """Return row id to group: rows with one cell in the template's column, else rows that are sampled together."""
        template = self.template
        if template.group_column and all(template.group_column in row for row in rows):
            first: dict[str, str] = {}
            return {row["id"]: first.setdefault(str(row[template.group_column]), row["id"]) for row in rows}
        size = template.group_size
        ids = self.usable(self.corpus).ids(self.languages[0] if self.aligned else lang) if size > 1 else []
        return {row_id: ids[place - place % size] for place, row_id in enumerate(ids)}

    def example(self, row: Row, lang: str, corpus: Corpus) -> CandidateExample:
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
            ranges = tuple(tuple(template.ranges(cells, lang, name)) for name in names)
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
            ranges=ranges,
        )

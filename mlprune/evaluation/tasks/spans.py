"""Questions whose answer is a span of a passage, which the model writes."""

from typing import Any

from torchmetrics import Metric

from mlprune.data.cells import is_blank
from mlprune.data.corpora import Corpus, HubDataset
from mlprune.data.official import OfLanguage, SquadFiles
from mlprune.data.rows import Row
from mlprune.data.templates import of_language
from mlprune.data.usable import Needs
from mlprune.errors import UserError
from mlprune.evaluation.tasks.answers import AnswerTask, QuestionExample
from mlprune.evaluation.tasks.base import naming
from mlprune.metrics import SpanMatch

SPAN_WORDS = {  # passage, question, answer
    "ar": ("سيا", "سؤال", "إجابة"),
    "bn": ("প্রসঙ্গ", "প্রশ্ন", "উত্তর"),
    "de": ("Kontext", "Frage", "Antwort"),
    "el": ("Συμφραζόμενα", "Ερώτηση", "Απάντηση"),
    "en": ("Context", "Question", "Answer"),
    "es": ("Contexto", "Pregunta", "Respuesta"),
    "fi": ("Konteksti", "Kysymys", "Vastaus"),
    "hi": ("प्रसंग", "सवाल", "उत्तर"),
    "id": ("Konteks", "Pertanyaan", "Jawaban"),
    "ko": ("맥락", "질문", "답변"),
    "ro": ("Context", "Întrebare", "Răspuns"),
    "ru": ("Контекст", "Вопрос", "Ответ"),
    "sw": ("Muktadha", "Swali", "Jibu"),
    "te": ("సందర్భం", "ప్రశ్న", "సమాధానం"),
    "th": ("บริบท", "คำถาม", "คำตอบ"),
    "tr": ("Bağlam", "Soru", "Cevap"),
    "vi": ("Bối cảnh", "Câu hỏi", "Trả lời"),
    "zh": ("语境", "问题", "回答"),
}  # as lm-evaluation-harness has them, tasks/xquad version 1.0 and tasks/tydiqa version 1.0 (MIT)


class Xquad(AnswerTask):
    """Spans of Wikipedia passages, generated, in 12 languages: ``google/xquad``, or ``xquad.<lang>.json`` files.

    The same 1,190 questions in every language; F1 over words and exact match as SQuAD's script counts them, which in
    Chinese and Thai takes a whole answer for one word. Prompts are those of lm-evaluation-harness, answers end at a new
    line; the first right answer counts.

    Source: Artetxe et al. 2020, "On the Cross-lingual Transferability of Monolingual Representations".

    Args:
        languages: Codes of the languages.
        path: Folder of the official files; the hub's copy if omitted.
        corpus: A corpus of your own with columns ``context``, ``question`` and ``answers``, instead.
        name: Name in results.
        options: Those of :class:`GeneratedTask`, :class:`PromptedTask` and :class:`Task`.

    Example:
        >>> Xquad(["es"]).corpus.config
        'xquad.{lang}'
    """

    task = "xquad"
    words = SPAN_WORDS

    def __init__(
        self,
        languages: list[str],
        path: str | None = None,
        corpus: Corpus | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        if path is not None and corpus is not None:
            raise UserError(f"task '{name or self.task}': give path or corpus, not both")
        super().__init__(name or self.task, languages, corpus or self.rows(path), **options)
        with naming(self, languages[0]):
            for lang in languages:
                of_language(self.words, lang, "prompt")

    def rows(self, path: str | None) -> Corpus:
        """Return the official files in a folder, or the hub's copy."""
        if path is not None:
            return SquadFiles(f"{path}/xquad.{{lang}}.json")
        return HubDataset("google/xquad", config="xquad.{lang}", split="validation", id_column="id")

    def needs(self, corpus: Corpus, lang: str, row: Row) -> Needs:
        return Needs(texts=("context", "question"), fault=lambda row: None if spans_of(row) else "it has no answer")

    def example(self, row: Row, lang: str) -> QuestionExample:
        passage, question, answer = self.words[lang]
        prompt = f"{passage}: {row['context']}\n\n{question}: {row['question']}\n\n{answer}:"
        return QuestionExample(row["id"], prompt, self.right(spans_of(row)), group=row["context"])

    def right(self, spans: list[str]) -> tuple[str, ...]:
        """Return the answers that count, of those in a row."""
        return tuple(spans[:1])

    def stop(self, lang: str) -> list[str]:
        return ["\n"]

    def metric(self, lang: str) -> Metric:
        return SpanMatch()


class TydiQa(Xquad):
    """Spans of Wikipedia passages for questions written in the language itself: gold passages in nine languages.

    ``google-research-datasets/tydiqa``, configuration ``secondary_task``, or ``tydiqa-goldp-v1.1-dev.json``: one file
    holds all languages. Questions are not translations of each other; the best-fitting right answer counts.

    Source: Clark et al. 2020, "TyDi QA: A Benchmark for Information-Seeking Question Answering in Typologically Diverse
    Languages".

    Example:
        >>> TydiQa(["sw", "te"], limit=100).name
        'tydiqa'
    """

    task = "tydiqa"
    aligned = False
    words = SPAN_WORDS | {"ar": ("السياق", "السؤال", "الإجابة")}

    def rows(self, path: str | None) -> Corpus:
        if path is not None:
            return OfLanguage(SquadFiles(f"{path}/tydiqa-goldp-v1.1-dev.json"))
        hub = "google-research-datasets/tydiqa"
        return OfLanguage(HubDataset(hub, config="secondary_task", split="validation", id_column="id"))

    def right(self, spans: list[str]) -> tuple[str, ...]:
        return tuple(spans)

    def metric(self, lang: str) -> Metric:
        return SpanMatch(lang)


def spans_of(row: Row) -> list[str]:
    """Return a row's right answers, which stand in a list or under ``text``.

    Example:
        >>> spans_of({"answers": {"text": ["in May"], "answer_start": [7]}}), spans_of({"answers": ["in May"]})
        (['in May'], ['in May'])
    """
    answers = row.get("answers") or []
    found = answers.get("text", []) if isinstance(answers, dict) else answers
    return [span for span in found if not is_blank(span)]

"""Word problems whose answer is a number, at the end of what the model writes."""

import re
from typing import Any

from torchmetrics import Metric

from mlprune.data.cells import text_of
from mlprune.data.corpora import Corpus, HubDataset, LocalFiles
from mlprune.data.rows import Row
from mlprune.data.templates import of_language
from mlprune.data.usable import Needs
from mlprune.errors import UserError
from mlprune.evaluation.tasks.answers import AnswerTask, QuestionExample
from mlprune.evaluation.tasks.base import naming
from mlprune.metrics import Accuracy, Record

MGSM_WORDS = {  # question, answer
    "bn": ("প্রশ্ন:", "ধাপে ধাপে উত্তর:"),
    "de": ("Frage:", "Schritt-für-Schritt-Antwort:"),
    "en": ("Question:", "Step-by-Step Answer:"),
    "es": ("Pregunta:", "Respuesta paso a paso:"),
    "fr": ("Question :", "Réponse étape par étape :"),
    "ja": ("問題：", "ステップごとの答え:"),
    "ru": ("Задача:", "Пошаговоерешение:"),
    "sw": ("Swali:", "Jibu la Hatua kwa Hatua:"),
    "te": ("ప్రశ్న:", "దశలవారీగా సమాధానం:"),
    "th": ("โจทย์:", "คำตอบทีละขั้นตอน:"),
    "zh": ("问题：", "逐步解答:"),
}  # as the data set and lm-evaluation-harness have them, tasks/mgsm/native_cot version 4.0 (MIT)
NUMBER = re.compile(r"-?\d(?:[.,]?\d)*")


class Mgsm(AnswerTask):
    """Grade-school arithmetic, worked out in the language itself, in 11 languages: ``juletxara/mgsm``.

    The same 250 questions in every language, after eight solved ones of the data set's ``train`` split. The last number
    of what the model writes is its answer, however digits are grouped. Official files, ``mgsm_<lang>.tsv``, hold no
    solved ones: give ``fewshot``, or ``shots: 0``.

    Source: Shi et al. 2023, "Language Models are Multilingual Chain-of-Thought Reasoners".

    Args:
        languages: Codes of the languages.
        path: Folder of the official files; the hub's copy if omitted.
        corpus: A corpus of your own with columns ``question`` and ``answer_number``, instead.
        name: Name in results.
        shots: Solved examples before each question.
        fewshot: Where they come from, with columns ``question`` and ``answer``; the hub's ``train`` split if omitted.
        max_new_tokens: Longest answer, in tokens.
        options: Those of :class:`GeneratedTask`, :class:`PromptedTask` and :class:`Task`.

    Example:
        >>> Mgsm(["sw", "zh"]).fewshot.split
        'train'
    """

    def __init__(
        self,
        languages: list[str],
        path: str | None = None,
        corpus: Corpus | None = None,
        name: str = "mgsm",
        *,
        shots: int = 8,
        fewshot: Corpus | None = None,
        max_new_tokens: int = 256,
        **options: Any,
    ) -> None:
        if path is not None and corpus is not None:
            raise UserError(f"task '{name}': give path or corpus, not both")
        columns = {"question": "0", "answer_number": "1"}
        local = None if path is None else LocalFiles(f"{path}/mgsm_{{lang}}.tsv", columns, header=False)
        super().__init__(
            name,
            languages,
            corpus or local or HubDataset("juletxara/mgsm", config="{lang}"),
            shots=shots,
            fewshot=fewshot or HubDataset("juletxara/mgsm", config="{lang}", split="train"),
            max_new_tokens=max_new_tokens,
            **options,
        )
        with naming(self, languages[0]):
            for lang in languages:
                of_language(MGSM_WORDS, lang, "prompt")

    def needs(self, corpus: Corpus, lang: str, row: Row) -> Needs:
        solved = corpus is not self.corpus
        return Needs(("question", "answer") if solved else ("question",), () if solved else ("answer_number",))

    def example(self, row: Row, lang: str) -> QuestionExample:
        label, answer = MGSM_WORDS[lang]
        reference = number_in(str(row["answer_number"]))
        return QuestionExample(row["id"], f"{label} {row['question']}\n{answer}", (reference,))

    def solved(self, row: Row, lang: str) -> tuple[str, str]:
        """Return question and answer; those of the data set already begin with the prompt's labels."""
        label, answer = MGSM_WORDS[lang]
        question = text_of(row, "question").removeprefix(label).strip()
        return f"{label} {question}\n{answer}", text_of(row, "answer").removeprefix(answer).strip()

    def stop(self, lang: str) -> list[str]:
        return ["\n\n", MGSM_WORDS[lang][0]]

    def judged(self, example: QuestionExample, output: str) -> Record:
        return {"label": example.references[0], "prediction": number_in(output)}

    def metric(self, lang: str) -> Metric:
        return Accuracy()


def number_in(text: str) -> str:
    """Return the last number of a text, without what groups its digits and without a fraction of zero; empty if none.

    Example:
        >>> [number_in(text) for text in ("3 + 4 = 7. So it is $1,234.00.", "das sind 1.234", "উত্তর ১৮", "?")]
        ['1234', '1234', '18', '']
    """
    found = NUMBER.findall(text)
    if not found:
        return ""
    number = "".join(char if char in "-.," else str(int(char)) for char in found[-1])
    if re.fullmatch(r"-?\d{1,3}([.,]\d{3})+", number):
        return re.sub("[.,]", "", number)
    whole, point, fraction = number.replace(",", ".").rpartition(".")
    whole = whole.replace(".", "")
    if not point:
        return number
    return whole if not fraction.strip("0") else f"{whole}.{fraction.rstrip('0')}"

"""A task and a metric of a user's own: answers are generated, and scored by the words they share with the right one."""

import copy
from dataclasses import dataclass
from typing import Any

from torchmetrics.text import SQuAD

from mlprune.data.corpora import LocalFiles
from mlprune.evaluation import generate
from mlprune.evaluation.tasks import Task
from mlprune.metrics import Measure


class SpanF1(SQuAD):
    """F1 over the words of an answer and the right one."""

    measures = (Measure("span_f1", "span F1", digits=1, bounds=(0.0, 100.0)),)
    answer = "output"  # under this key a record has what the model said
    given = ("gold",)  # and this comes with the data

    def update(self, records: list[dict[str, Any]]) -> None:
        said = [{"prediction_text": record["output"], "id": record["id"]} for record in records]
        right = [{"answers": {"answer_start": [0], "text": [record["gold"]]}, "id": record["id"]} for record in records]
        super().update(said, right)

    def compute(self) -> dict[str, Any]:
        return {"span_f1": super().compute()["f1"]}


@dataclass(frozen=True)
class Question:
    """A question and its answer."""

    id: str
    text: str
    gold: str


class Questions(Task):
    """Questions whose answers are generated; ``columns``: id, question, gold."""

    def __init__(self, path: str, languages: list[str], metric: SpanF1) -> None:
        super().__init__("questions", languages, LocalFiles(path))
        self.scored_by = metric

    def examples(self, lang: str) -> list[Question]:
        return [Question(row["id"], row["question"], row["gold"]) for row in self.corpus.rows(lang)]

    def predict(self, model: Any, tokenizer: Any, lang: str, examples: list[Question]) -> list[dict[str, Any]]:
        found = generate(model, tokenizer, [example.text for example in examples], max_new_tokens=6)
        return [
            {"id": example.id, "source": example.text, "gold": example.gold, "output": " ".join(said.text)}
            for example, said in zip(examples, found, strict=True)
        ]

    def length(self, example: Question) -> int:
        return len(example.text)

    def metric(self, lang: str) -> SpanF1:
        return copy.deepcopy(self.scored_by)

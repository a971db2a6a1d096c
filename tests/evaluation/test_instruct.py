"""Instruction-tuned models, on SmolLM2 135M Instruct itself."""

import pytest

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation.tasks import CandidateTask, TranslationTask
from mlprune.models.loading import ModelSource


@pytest.fixture(scope="module")
def instruct():
    try:
        source = ModelSource("demo-instruct", "float32")
    except UserError as error:
        pytest.skip(str(error))
    return source.load_model(), source.load_tokenizer()


@pytest.mark.slow
def test_reviews_as_a_chat(instruct) -> None:
    model, tokenizer = instruct
    corpus = Bundled("reviews")
    task = CandidateTask("reviews", ["en"], corpus, "marc", shots=4, fewshot=corpus, chat_template=True)
    records = task.predict(model, tokenizer, "en", task.examples("en"))
    assert sum(record["prediction"] == record["label"] for record in records) / len(records) > 0.6


@pytest.mark.slow
def test_translation_as_a_chat(instruct) -> None:
    model, tokenizer = instruct
    task = TranslationTask(["fr"], limit=4, chat_template=True)
    records = task.predict(model, tokenizer, "fr", task.examples("fr"))
    assert all(record["output"] and not record["output"].startswith("<|") for record in records)
    assert {record["stopped"] for record in records} <= {"end", "\n"}

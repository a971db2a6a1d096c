"""Instruction-tuned models, on SmolLM2 135M Instruct itself."""

import pytest
from plain_scores import plain_log_probs

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation.tasks import CandidateTask, TranslationTask
from mlprune.models.loading import ModelSource

ROLES = ("user", "assistant")


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
    task = CandidateTask("reviews", ["en"], corpus, "marc", shots=2, fewshot=corpus, chat_template=True, limit=4)
    examples = task.examples("en")
    for example, record in zip(examples, task.predict(model, tokenizer, "en", examples), strict=True):
        solved = [{"role": role, "content": text} for shot in task.shots_for("en") for role, text in zip(ROLES, shot)]
        messages = [*solved, {"role": "user", "content": example.question}]
        given = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        for answer, score in zip(("negative", "positive"), record["scores"], strict=True):
            said = tokenizer(answer, add_special_tokens=False)["input_ids"]
            values = plain_log_probs(model, given + said)[-len(said) :]
            assert score == pytest.approx(sum(values) / len(values), abs=1e-3)


@pytest.mark.slow
def test_translation_as_a_chat(instruct) -> None:
    model, tokenizer = instruct
    task = TranslationTask(["fr"], limit=4, chat_template=True)
    records = task.predict(model, tokenizer, "fr", task.examples("fr"))
    assert all(record["output"] and not record["output"].startswith("<|") for record in records)
    assert {record["stopped"] for record in records} <= {"end", "\n"}

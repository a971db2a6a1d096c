"""Answers within the noise of a model's dtype are those of the same weights in float32; others stay as they are."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from mlprune.data.corpora import Bundled
from mlprune.evaluation import recheck
from mlprune.evaluation.recheck import margin_of, recheck_all
from mlprune.evaluation.tasks import CandidateTask, ClozeTask, PerplexityTask, Task
from mlprune.models.widening import narrow_tensors, widened

TASKS: list[Task] = [
    ClozeTask("facts", ["en", "fr"], limit=24),  # whose margins are small
    CandidateTask("nli", ["fr"], Bundled("nli"), "xnli", limit=3),
    PerplexityTask(["fr"], limit=1),
]
Records = dict[tuple[str, str], list[dict[str, Any]]]


def model_in(dtype: torch.dtype, family: str = "llama") -> torch.nn.Module:
    return tiny_model(family, max_position_embeddings=2048).to(dtype).eval()


def predicted(model: torch.nn.Module) -> Records:
    tokenizer = tiny_tokenizer()
    return {
        (task.name, lang): task.predict(model, tokenizer, lang, task.examples(lang))
        for task in TASKS
        for lang in task.languages
    }


def rechecked(model: torch.nn.Module, records: Records) -> dict[str, Any]:
    tasks = {task.name: task for task in TASKS}
    examples = {task.name: {lang: task.examples(lang) for lang in task.languages} for task in TASKS}
    return recheck_all(model, tiny_tokenizer(), tasks, examples, records, 2000)


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16], ids=str)
def both(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, Records, Records]:
    """A narrow model, its records, and those of the same weights in float32."""
    model = model_in(request.param)
    wide = model_in(request.param).float()
    return model, predicted(model), predicted(wide)


def test_every_answer_within_the_noise_is_float32s_and_no_other_record_changes(both) -> None:
    model, before, wide = both
    kept = [(tensor, tensor.clone()) for tensor in narrow_tensors(model)]
    after = {key: list(rows) for key, rows in before.items()}
    told = rechecked(model, after)
    assert all(tensor.dtype == own.dtype and torch.equal(tensor, own) for tensor, own in kept)
    assert told.keys() == {"facts", "nli"}
    for (task, lang), rows in after.items():
        noise = told.get(task, {}).get(lang, {}).get("noise", -1.0)
        marked = 0
        for row, first, exact in zip(rows, before[task, lang], wide[task, lang], strict=True):
            margin = margin_of(first)
            if margin is not None and margin <= noise:
                marked += 1
                assert row.pop("rechecked") is True
                assert row["scores"] == pytest.approx(exact["scores"], abs=1e-5)
            else:
                assert row is first
            if margin is not None:
                assert row["prediction"] == exact["prediction"]
        assert marked == told.get(task, {}).get(lang, {}).get("rows", 0)
    flipped = sum(
        one["prediction"] != other["prediction"]
        for key in wide
        for one, other in zip(before[key], wide[key], strict=True)
        if "prediction" in one
    )
    assert sum(own["flipped"] for found in told.values() for own in found.values()) == flipped
    if kept[0][0].dtype == torch.bfloat16:
        assert sum(own["rows"] for own in told["facts"].values()) > 1


def test_processes_share_the_rows_and_find_the_same(both, monkeypatch: pytest.MonkeyPatch) -> None:
    model, before, _ = both
    alone = {key: list(rows) for key, rows in before.items()}
    told = rechecked(model, alone)
    barrier, sent, place = threading.Barrier(2, timeout=60), [None, None], threading.local()

    def gather(value: Any) -> list[Any]:
        sent[place.rank] = value
        barrier.wait()
        both_sent = list(sent)
        barrier.wait()
        return both_sent

    def work(rank: int) -> tuple[dict[str, Any], Records]:
        place.rank = rank
        own = {key: list(rows) for key, rows in before.items()}
        return rechecked(copy.deepcopy(model), own), own

    monkeypatch.setattr(recheck, "gather_objects", gather)
    monkeypatch.setattr(recheck, "world_size", lambda: 2)
    monkeypatch.setattr(recheck, "rank", lambda: place.rank)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, (0, 1)))
    assert found == [(told, alone)] * 2


def test_float32_is_not_checked_again() -> None:
    model = model_in(torch.float32)
    records = predicted(model)
    assert rechecked(model, records) == {}
    assert not any("rechecked" in row for rows in records.values() for row in rows)


@pytest.mark.parametrize("why", ["memory", "kernels"])
def test_what_cannot_be_computed_in_float32_stands_as_it_is(
    both, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, before, _ = both
    after = {key: list(rows) for key, rows in before.items()}
    if why == "memory":
        monkeypatch.setattr(recheck, "room_for", lambda model: False)
    else:

        def refuse(*args: Any) -> None:
            raise RuntimeError("FlashAttention only supports fp16 and bf16")

        monkeypatch.setattr(CandidateTask, "predict", refuse)
    told = rechecked(model, after)
    assert "nli" not in told
    assert after["nli", "fr"] == before["nli", "fr"]
    assert "are not scored again: " in caplog.text


def test_tied_weights_stay_tied() -> None:
    model = tiny_model("llama", tie_word_embeddings=True).bfloat16()
    with widened(model):
        assert model.lm_head.weight is model.get_input_embeddings().weight
        assert model.lm_head.weight.dtype == torch.float32
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.lm_head.weight.dtype == torch.bfloat16

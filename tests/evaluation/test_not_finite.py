"""A model whose numbers overflow ends the run with one line, in every task; no figure is ever NaN."""

from pathlib import Path

import pytest
from tiny import tiny_model, tiny_tokenizer
from tiny_runs import write_config

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation.tasks import CandidateTask, ClozeTask, PerplexityTask, Task, TranslationTask

TASKS = {
    "candidates": lambda: CandidateTask("nli", ["fr"], Bundled("nli"), "xnli", limit=3),
    "cloze": lambda: ClozeTask("facts", ["fr"], limit=3),
    "perplexity": lambda: PerplexityTask(["fr"], limit=3),
    "translation": lambda: TranslationTask(["fr"], limit=3, shots=1, max_new_tokens=4),
    "beam search": lambda: TranslationTask(["fr"], limit=3, shots=1, max_new_tokens=4, num_beams=2),
}


@pytest.mark.parametrize("name", list(TASKS))
def test_a_token_without_a_number_is_an_error_that_names_task_and_language(name: str) -> None:
    model, tokenizer = tiny_model("llama", max_position_embeddings=4096), tiny_tokenizer()
    model.model.embed_tokens.weight.data[tokenizer("e").input_ids[0]] = float("nan")
    task: Task = TASKS[name]()
    with pytest.raises(UserError, match=rf"^task '{task.name}'.*not finite") as error:
        task.predict(model, tokenizer, "fr", task.examples("fr"))
    assert "\n" not in str(error.value)


def test_a_run_that_overflows_writes_no_results(mlprune, tmp_path: Path) -> None:
    model = tiny_model("llama", max_position_embeddings=4096)
    model.model.layers[0].mlp.down_proj.weight.data *= 1e6
    model.half().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    tasks = [
        {"class_path": "mlprune.evaluation.tasks.PerplexityTask", "init_args": {"languages": ["en", "fr"], "limit": 3}}
    ]
    config = write_config(
        tmp_path, tmp_path / "model", model={"dtype": "float16"}, data={"tasks": tasks}, trainer={"logger": False}
    )
    status, _, err = mlprune("test", "--config", config)
    assert status != 0
    assert "task 'perplexity', language 'en'" in err
    assert "not finite" in err
    assert not list(tmp_path.rglob("results.json"))

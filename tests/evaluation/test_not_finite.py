"""A model whose numbers overflow ends the run with one line, in every task; no figure is ever NaN."""

import copy
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from tiny_runs import ROOT, write_config
from transformers import PreTrainedModel

from mlprune.analysis.ablation import ablated
from mlprune.analysis.magnitudes import Magnitudes
from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation.tasks import CandidateTask, ClozeTask, PerplexityTask, Task, TranslationTask
from mlprune.files import write_json
from mlprune.metrics import BitsPerChar

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
    for layer, factor in ((model.model.layers[0].mlp.up_proj, 1e3), (model.model.layers[0].mlp.down_proj, 1e4)):
        layer.weight.data *= factor  # finite in float16, unlike what they give
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


def damaged() -> PreTrainedModel:
    """A model whose second block gives an infinity in one dimension."""
    model = copy.deepcopy(tiny_model("llama"))
    model.model.layers[1].mlp.down_proj.weight.data[3, 0] = float("inf")
    return model


@pytest.mark.parametrize("keep_only", [False, True])
def test_an_ablation_does_not_hide_it(keep_only: bool) -> None:
    features = {2: [7] if keep_only else [3]}
    model = damaged()
    with pytest.raises(UserError, match=r"layer 2: .* hold NaN or Inf"), ablated(model, features, keep_only):
        model(input_ids=torch.tensor([[5, 6, 7]]))


def test_magnitudes_are_refused() -> None:
    magnitudes = Magnitudes(damaged())
    magnitudes.add({"input_ids": torch.tensor([[5, 6, 7]]), "group": "mt"})
    with pytest.raises(UserError, match="hold NaN or Inf in group 'mt'"):
        magnitudes.hidden()


def test_bits_per_char_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        BitsPerChar().update([{"log_prob": value, "chars": 3} for value in (-1.0, float("-inf"))])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_json_never_holds_it(tmp_path: Path, number: float) -> None:
    with pytest.raises(UserError, match=r"results.json': tasks.nli.fr.scores.1 is not finite"):
        write_json(tmp_path / "results.json", {"tasks": {"nli": {"fr": {"scores": [0.5, number]}}}})
    assert not list(tmp_path.iterdir())


def test_no_other_writer_of_json() -> None:
    """Numbers reach files through one function, which refuses what JSON has no word for; these write none."""
    written = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "mlprune").rglob("*.py")
        if "json.dump" in file.read_text("utf-8")
    }
    shapes_only = {"mlprune/pruning/masks.py", "mlprune/pruning/streaming.py", "mlprune/models/shards.py"}
    shapes_only |= {"mlprune/smaller/archive.py"}
    hashed = {"mlprune/runs/facts.py", "mlprune/smaller/texts.py"}
    texts_only = {"mlprune/report/take.py", "mlprune/data/tmx.py"}
    read_before = {"mlprune/cli/push.py", "mlprune/smaller/pieces.py"}  # from JSON
    assert written <= {"mlprune/files.py"} | shapes_only | hashed | texts_only | read_before

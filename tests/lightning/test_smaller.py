"""``fit`` makes the model smaller first, then prunes and compares; killed and resumed, on one process or two."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model
from tiny_runs import RUN, assert_same_run, fit, write_config
from tokenizer_kinds import CAUSAL
from transformers import AutoModelForCausalLM, AutoTokenizer

STEP = {
    "class_path": "mlprune.smaller.TrimVocabulary",
    "init_args": {"languages": ["fr"], "others": ["sw"], "limit": 3},
}
FEWER = {"class_path": "mlprune.smaller.RemoveBlocks", "init_args": {"count": 1, "limit": 2}}
NARROW = {
    "class_path": "mlprune.smaller.Narrow",
    "init_args": {"units": 0.25, "heads": 2, "languages": ["sw"], "limit": 2},
}
TASKS = [
    {"class_path": "mlprune.evaluation.tasks.PerplexityTask", "init_args": {"languages": ["en", "fr"], "limit": 3}},
    {
        "class_path": "mlprune.evaluation.tasks.TranslationTask",
        "init_args": {"languages": ["fr"], "limit": 2, "shots": 1, "max_chars": 60, "max_new_tokens": 4},
    },
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    tokenizer = CAUSAL["Llama 3"].make()
    special = {"bos_token_id": 1, "eos_token_id": 2}
    tiny_model("llama", vocab_size=len(tokenizer), max_position_embeddings=2048, **special).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config_of(folder: Path, model: Path, **sections: Any) -> Path:
    return write_config(folder, model, model={"smaller": [STEP, FEWER, NARROW]}, data={"tasks": TASKS}, **sections)


def test_interrupted_resumed_and_on_two_processes(mlprune, tmp_path: Path, model: Path) -> None:
    marker = {"stage": "test", "batch": 1, "marker": str(tmp_path / "marker"), "how": "SIGINT"}
    kill = {"class_path": "kill_once.KillOnce", "init_args": marker}
    trainer = {"accelerator": "cpu", "devices": 1, "callbacks": [kill]}
    with pytest.raises(SystemExit):
        mlprune("fit", "--config", config_of(tmp_path, model, trainer=trainer))
    run = tmp_path / RUN
    steps = ("1-trimmed", "2-fewer-blocks", "3-narrowed")
    files = [run / "smaller" / step / "model.safetensors" for step in steps]
    written = [file.stat().st_mtime_ns for file in files]
    status, _, err = mlprune("fit", "--resume", run)
    assert status == 0, err
    assert "the model was made smaller before" in err
    assert [file.stat().st_mtime_ns for file in files] == written
    assert_same_run(run, fit(tmp_path / "two", config_of(tmp_path, model), 2))

    tokenizer, trimmed = AutoTokenizer.from_pretrained(run / "pruned"), run / "smaller/1-trimmed"
    assert len(tokenizer) < len(AutoTokenizer.from_pretrained(model))
    pruned = AutoModelForCausalLM.from_pretrained(run / "pruned")
    assert pruned.get_input_embeddings().num_embeddings == len(json.loads((trimmed / "kept_ids.json").read_text()))
    facts = json.loads((run / "smaller/2-fewer-blocks/blocks.json").read_text())
    least = min(facts["influence"]["mt"], key=facts["influence"]["mt"].get)
    assert (facts["removed"], pruned.config.num_hidden_layers) == ([least], 2)
    assert {row["task"] for row in facts["differences"]} == {"perplexity", "minimal-pairs"}
    assert f"| {least} (left out) |" in (run / "smaller/2-fewer-blocks/blocks.md").read_text()
    widths = (pruned.config.intermediate_size, pruned.config.num_attention_heads, pruned.config.num_key_value_heads)
    assert widths == (48, 2, 2)
    kept = [
        json.loads((home / "smaller/3-narrowed/narrow.json").read_text())["kept"]
        for home in (run, tmp_path / "two" / RUN)
    ]
    assert kept[0] == kept[1]
    assert "| Swahili |" in (run / "smaller/3-narrowed/narrow.md").read_text()
    recipe = json.loads((run / "pruned/mlprune.json").read_text())
    assert recipe["base_model"] == str(model)
    assert recipe["smaller"][0]["class"] == "TrimVocabulary"
    assert recipe["smaller"][0]["languages"] == ["fr"]
    assert json.loads((run / "results.dense.json").read_text())["model"] == str(model)
    assert "renormalized" in (trimmed / "trim.md").read_text()


def test_only_fit_takes_steps(mlprune, tmp_path: Path, model: Path) -> None:
    config = config_of(tmp_path, model)
    for command in ("test", "validate"):
        status, _, err = mlprune(command, "--config", config)
        assert status == 2
        assert f"model.smaller goes with fit; for {command} give the folder of the smaller model" in err
    status, _, err = mlprune("fit", "--config", config, "--dense", tmp_path)
    assert (status, "--dense does not go with model.smaller" in err) == (2, True)
    assert not (tmp_path / RUN).exists()


def test_a_model_that_cannot_be_trimmed_is_refused_first(mlprune, tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer

    tiny_model("llama", vocab_size=400).save_pretrained(tmp_path / "bytes")
    ByT5Tokenizer().save_pretrained(tmp_path / "bytes")
    status, _, err = mlprune("fit", "--config", config_of(tmp_path, tmp_path / "bytes"))
    assert status == 2
    assert "ByT5Tokenizer has no vocabulary that can be trimmed" in err
    assert not (tmp_path / RUN).exists()


LITTLE = [{"class_path": "mlprune.evaluation.tasks.PerplexityTask", "init_args": {"languages": ["fr"], "limit": 2}}]
DENSE = {"pattern": {"class_path": "mlprune.pruning.Unstructured", "init_args": {"sparsity": 0.0}}}


def test_a_narrower_model_is_trained_with_no_masks_to_hold(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    step = {"class_path": "mlprune.smaller.Narrow", "init_args": {"units": 0.5, "limit": 0}}
    trainer = {"accelerator": "cpu", "devices": 1, "max_epochs": 1}
    sections: dict[str, Any] = {"model": {"smaller": [step]}, "data": {"tasks": LITTLE}, "trainer": trainer}
    status, out, err = mlprune("fit", "--config", write_config(tmp_path, tiny_folder, pruning=DENSE, **sections))
    assert status == 0, err
    narrowed = AutoModelForCausalLM.from_pretrained(tmp_path / RUN / "smaller/1-narrowed").state_dict()
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / RUN / "pruned").state_dict()
    assert {name: value.shape for name, value in trained.items()} == {name: v.shape for name, v in narrowed.items()}
    moved = [name for name, value in trained.items() if not value.equal(narrowed[name])]
    assert any("down_proj" in name for name in moved)
    assert " trained " in out


def test_recipes_of_a_study_take_steps_of_their_own(mlprune, tmp_path: Path, model: Path) -> None:
    """What keeps the vocabulary is judged against the run's model, what changes it against itself."""
    half = {"class_path": "mlprune.smaller.Narrow", "init_args": {"units": 0.5, "limit": 0}}
    trim = {**STEP, "init_args": {**STEP["init_args"], "limit": 0}}
    recipes = {"narrow": {"model.smaller": [half]}, "trim": {"model.smaller": [trim]}}
    sections: dict[str, Any] = {"data": {"tasks": LITTLE}, "pruning": DENSE, "study": {"recipes": recipes}}
    config = write_config(tmp_path, model, **sections)
    status, _, err = mlprune("fit", "--config", config)
    assert status == 0, err
    run = tmp_path / RUN
    assert AutoModelForCausalLM.from_pretrained(run / "smaller/narrow-seed-0/1-narrowed").config.intermediate_size == 32
    study = json.loads((run / "study.json").read_text())
    rows = list(csv.DictReader((run / "study.csv").read_text().splitlines()))
    dense = json.loads((run / "results.dense.json").read_text())["perplexity"]["fr"]["bits_per_char"]
    before = {row["recipe"]: float(row["before"]) for row in rows if row["metric"] == "bits_per_char"}
    assert before["narrow"] == pytest.approx(dense)
    assert before["trim"] != pytest.approx(dense)
    assert [entry["name"] for entry in study["recipes"]] == ["narrow", "trim"]
    recipes["narrow"] = {"model.smaller": [{**half, "init_args": {"heads": 1}}]}
    status, _, err = mlprune("fit", "--config", write_config(tmp_path, model, **sections))
    assert status == 2
    assert "study, recipe 'narrow': Narrow: heads 1 of 4 is not allowed" in err

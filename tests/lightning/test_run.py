"""The three subcommands, from YAML and from flags, and what they leave behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny import save_tiny, tiny_model, tiny_tokenizer
from tiny_runs import write_config
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlprune.data.demonstrations import TranslationDemonstrations
from mlprune.models.blocks import find_blocks
from mlprune.pruning import load_masks, prune_model

RUN = Path("lightning_logs/version_0")


def zeros(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {path: layer.matrix() == 0 for block in find_blocks(model) for path, layer in block.layers.items()}


def test_help_says_what_the_subcommands_do_here(mlprune, capsys) -> None:
    for args, words in (
        (["--help"], ["Calibrate and prune", "Evaluate a model"]),
        (["validate", "--help"], ["Calibrate and prune", "--resume RUN", "--pruning.sweep", "{pruned,dense,layer}"]),
    ):
        with pytest.raises(SystemExit, match="0"):
            mlprune(*args)
        told = " ".join(capsys.readouterr().out.split())
        assert all(word in told for word in words), told


def test_fit_runs_the_whole_experiment(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    status, out, err = mlprune("fit", "--config", write_config(tmp_path, tiny_folder))
    assert (status, "Traceback" in err) == (0, False), err
    results = {stage: json.loads((RUN / f"results{stage}.json").read_text()) for stage in (".dense", "")}
    assert results[".dense"]["stage"] == "dense"
    assert results[".dense"]["sparsity"] == 0
    assert results[""]["stage"] == "pruned"
    assert results[""]["sparsity"] == pytest.approx(0.28, abs=0.02)  # floor(32 * 0.3) of 32, floor(64 * 0.3) of 64
    assert results[""]["schema_version"] == 2
    assert set(results[""]["tasks"]["nli"]["fr"]) >= {"accuracy", "n", "ci95"}
    assert results[""]["tasks"]["nli"]["fr"]["n"] == 9
    assert set(results[""]["rankc"]["nli"]) >= {"en-fr", "en-sw"}
    assert set(results[""]["translation"]["fr-en"]) >= {"bleu", "chrf", "signatures", "n"}
    assert results[""]["perplexity"]["fr"]["n"] == 3
    comparison = json.loads((RUN / "comparison.json").read_text())
    assert set(comparison["tasks"]["nli"]["fr"]) >= {"dense", "pruned", "delta", "p", "n"}
    markdown = (RUN / "comparison.md").read_text()
    assert all(sentence in markdown for sentence in comparison["sentences"])
    assert comparison["headline"][:40] in " ".join(out.split())
    for folder in ("predictions", "predictions.dense"):
        lines = [json.loads(line) for line in (RUN / folder / "nli.fr.jsonl").read_text().splitlines()]
        assert len(lines) == 9
        assert set(lines[0]) >= {"id", "label", "scores", "prediction"}
    assert yaml.safe_load((RUN / "config.yaml").read_text())["data"]["num_prompts"] == 5
    commands = "    python "  # which stay whole
    assert max(len(line) for line in out.splitlines() if not line.startswith(commands)) <= 100


def test_the_checkpoint_is_an_ordinary_one(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    assert mlprune("validate", "--config", write_config(tmp_path, tiny_folder))[0] == 0
    masks = load_masks(RUN / "masks.safetensors")
    model = AutoModelForCausalLM.from_pretrained(RUN / "pruned")
    AutoTokenizer.from_pretrained(RUN / "pruned")
    dense = AutoModelForCausalLM.from_pretrained(tiny_folder)
    before, after = zeros(dense), zeros(model)
    assert set(masks) == set(after)
    for path, mask in masks.items():
        assert torch.equal(after[path], ~mask | before[path])
        assert (~mask).sum(1).unique().tolist() == [int(mask.shape[1] * 0.3)]
    recipe = json.loads((RUN / "pruned" / "mlprune.json").read_text())
    assert recipe["importance"].startswith("Wanda(")
    assert recipe["calibration"]["mt"]["prompts"] == 5
    assert (RUN / "pruned" / "README.md").read_text().startswith("---\nlibrary_name: transformers\n")
    code = "import sys; from transformers import AutoModelForCausalLM as A; A.from_pretrained(sys.argv[1]); "
    code += "assert not any(name.startswith(('mlprune', 'lightning')) for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str((RUN / "pruned").resolve())], check=True, cwd="/")


def test_each_subcommand_works_alone_and_agrees_with_fit(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    assert (
        mlprune("fit", "--config", config, "--trainer.logger", "false", "--trainer.default_root_dir", "whole")[0] == 0
    )
    assert mlprune("validate", "--config", config, "--trainer.default_root_dir", "a")[0] == 0
    assert not Path("a", RUN, "results.json").exists()
    pruned = Path("a", RUN, "pruned")
    status, out, _ = mlprune("test", "--config", config, "--model.name", pruned, "--trainer.default_root_dir", "b")
    assert status == 0
    assert "pruned" in out
    whole, own = (
        json.loads(Path(p).read_text()) for p in ("whole/mlprune_run/results.json", Path("b", RUN, "results.json"))
    )
    sections = ("stage", "sparsity", "tasks", "average", "rankc", "translation", "perplexity")
    assert {name: whole[name] for name in sections} == {name: own[name] for name in sections}
    assert mlprune("test", "--config", config, "--trainer.default_root_dir", "c")[0] == 0
    dense = json.loads(Path("c", RUN, "results.json").read_text())
    assert (dense["stage"], dense["sparsity"]) == ("dense", 0)


def test_flags_alone_are_enough(mlprune, tiny_folder: Path) -> None:
    flags = [
        "--model.name",
        tiny_folder,
        "--trainer.accelerator",
        "cpu",
        "--data.num_prompts",
        3,
        "--data.max_tokens",
        60,
    ]
    flags += ["--pruning.pattern", "NofM", "--pruning.pattern.kept", 2, "--pruning.pattern.of", 4]
    assert mlprune("validate", *flags)[0] == 0
    for mask in load_masks(RUN / "masks.safetensors").values():
        assert (mask.view(mask.shape[0], -1, 4).sum(-1) == 2).all()


def test_an_encoder_reads_the_sources_and_its_decoder_the_targets(mlprune, tmp_path: Path) -> None:
    config = write_config(tmp_path, save_tiny(tmp_path / "model", "mt5"))
    status, _, err = mlprune("validate", "--config", config)
    assert status == 0, err
    tokenizer = tiny_tokenizer()
    demonstrations = TranslationDemonstrations("fr", shots=2).prompts(tokenizer, 5, seed=0)
    sides = [[tokenizer(text)["input_ids"][:100] for text in prompt.sides] for prompt in demonstrations]
    batches = [
        {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([[0, *target[:-1]]])}  # 0: its start
        for source, target in sides
    ]
    expected = prune_model(tiny_model("mt5"), batches, max_batch_tokens=200)
    masks = load_masks(RUN / "masks.safetensors")
    assert masks.keys() == expected.keys()
    assert all(torch.equal(mask, expected[path]) for path, mask in masks.items())


def test_an_importance_of_the_users_own(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch) -> None:
    (tmp_path / "my_scores.py").write_text(
        "from mlprune.pruning import Importance\n\n\n"
        "class Loudest(Importance):\n"
        '    """|W| times the mean square of its input."""\n\n'
        "    def score(self, weight, statistics, path):\n"
        "        return weight.abs() * statistics.pooled()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = write_config(tmp_path, tiny_folder, pruning={"importance": {"class_path": "my_scores.Loudest"}})
    status, _, err = mlprune("validate", "--config", config)
    assert status == 0, err
    own = load_masks(RUN / "masks.safetensors")
    assert mlprune("validate", "--config", write_config(tmp_path, tiny_folder))[0] == 0
    wanda = load_masks(Path("lightning_logs/version_1/masks.safetensors"))
    assert any(not torch.equal(own[path], wanda[path]) for path in own)


def test_the_same_seed_gives_the_same_masks_and_another_seed_others(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        mlprune("validate", "--config", config, "--seed_everything", seed, "--trainer.default_root_dir", folder)
    a, b, c = (load_masks(Path(folder, RUN, "masks.safetensors")) for folder in "abc")
    assert all(torch.equal(a[path], b[path]) for path in a)
    assert not all(torch.equal(a[path], c[path]) for path in a)


def test_fast_dev_run_is_small_but_whole(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    assert mlprune("fit", "--config", write_config(tmp_path, tiny_folder), "--trainer.fast_dev_run", "true")[0] == 0
    results = json.loads(Path("mlprune_run/results.json").read_text())
    assert results["tasks"]["reviews"]["fr"]["n"] == 2
    masks = load_masks(Path("mlprune_run/masks.safetensors"))
    assert len({path.split(".")[2] for path in masks}) == 3  # every block


def test_half_a_schedule_is_refused(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    status, _, err = mlprune("validate", "--config", config, "--trainer.limit_val_batches", "2")
    assert (status, err.count("\n")) == (2, 1)
    assert "data.num_prompts" in err


@pytest.mark.parametrize("save_model", [True, False])
def test_save_model_false_leaves_the_checkpoint_out(
    mlprune, tmp_path: Path, tiny_folder: Path, save_model: bool
) -> None:
    config = write_config(tmp_path, tiny_folder, pruning={"save_model": save_model})
    assert mlprune("validate", "--config", config)[0] == 0
    assert (RUN / "pruned").is_dir() == save_model
    assert (RUN / "masks.safetensors").is_file()

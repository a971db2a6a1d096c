"""``validate`` with streaming gives the files of ``validate`` in memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import VOCABULARY, save_tiny, tiny_tokenizer
from tiny_runs import write_config
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, JetMoeConfig, JetMoeForCausalLM

ROOT = Path(__file__).parents[2]
RUN = Path("lightning_logs/version_0")


def same(a: Path, b: Path) -> None:
    from mlprune.pruning import load_masks

    masks = [load_masks(run / "masks.safetensors") for run in (a, b)]
    assert masks[0].keys() == masks[1].keys()
    assert all(torch.equal(masks[0][path], masks[1][path]) for path in masks[0])
    seq2seq = json.loads((a / "pruned/config.json").read_text()).get("is_encoder_decoder")
    auto = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    first, second = (auto.from_pretrained(run / "pruned").state_dict() for run in (a, b))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (a / "pruned/mlprune.json").read_text() == (b / "pruned/mlprune.json").read_text()


@pytest.mark.parametrize("propagate", ["pruned", "dense", "layer"])
@pytest.mark.parametrize("hidden_on_disk", [False, True])
def test_streaming(mlprune, tmp_path: Path, tiny_folder: Path, propagate: str, hidden_on_disk: bool) -> None:
    for name, options in (("whole", {}), ("streamed", {"streaming": True, "hidden_on_disk": hidden_on_disk})):
        config = write_config(tmp_path, tiny_folder, pruning={"propagate": propagate} | options)
        status, _, err = mlprune("validate", "--config", config, "--trainer.default_root_dir", name)
        assert status == 0, err
    same(Path("whole", RUN), Path("streamed", RUN))
    assert sorted(file.name for file in Path("streamed", RUN).iterdir() if file.name.startswith(".")) == []


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "mt5"])
def test_other_families(mlprune, tmp_path: Path, family: str) -> None:
    """Transposed weights, stacked experts, and an encoder."""
    config = write_config(tmp_path, save_tiny(tmp_path / "model", family))
    for name, flags in (("whole", ()), ("streamed", ("--pruning.streaming", "true"))):
        status, _, err = mlprune("validate", "--config", config, "--trainer.default_root_dir", name, *flags)
        assert status == 0, err
    same(Path("whole", RUN), Path("streamed", RUN))


@pytest.mark.parametrize("propagate", ["pruned", "dense"])
def test_a_streamed_run_goes_on(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch, propagate: str) -> None:
    from mlprune.pruning import Pruner

    whole = write_config(tmp_path, tiny_folder, pruning={"propagate": propagate})
    assert mlprune("validate", "--config", whole, "--trainer.default_root_dir", "whole")[0] == 0
    config = write_config(tmp_path, tiny_folder, pruning={"propagate": propagate, "streaming": True})
    prune_layer = Pruner.prune_layer

    def interrupted(self, layer, statistics):
        if ".2." in layer.path:
            raise KeyboardInterrupt
        return prune_layer(self, layer, statistics)

    monkeypatch.setattr(Pruner, "prune_layer", interrupted)
    with pytest.raises(SystemExit):
        mlprune("validate", "--config", config, "--trainer.default_root_dir", "broken")
    assert not Path("broken", RUN, "pruned").exists()
    monkeypatch.setattr(Pruner, "prune_layer", prune_layer)
    status, _, err = mlprune("validate", "--resume", Path("broken", RUN))
    assert status == 0, err
    same(Path("whole", RUN), Path("broken", RUN))


@pytest.mark.parametrize("moment", ["before its card", "after its name"])
def test_a_streamed_checkpoint_is_named_when_it_is_complete(
    mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch, moment: str
) -> None:
    whole = write_config(tmp_path, tiny_folder)
    assert mlprune("validate", "--config", whole, "--trainer.default_root_dir", "whole")[0] == 0
    config = write_config(tmp_path, tiny_folder, pruning={"streaming": True})
    place = "callbacks.pruned_model.write_card" if moment == "before its card" else "callbacks.report.write_report"

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"mlprune.{place}", interrupted)
        with pytest.raises(SystemExit):
            mlprune("validate", "--config", config, "--trainer.default_root_dir", "broken")
    pruned = Path("broken", RUN, "pruned")
    assert pruned.exists() == (moment == "after its name")
    assert not pruned.exists() or {"README.md", "mlprune.json"} <= {file.name for file in pruned.iterdir()}
    status, _, err = mlprune("validate", "--resume", Path("broken", RUN))
    assert status == 0, err
    same(Path("whole", RUN), Path("broken", RUN))
    assert sorted(file.name for file in pruned.parent.iterdir() if file.name.startswith(".")) == []


def test_two_processes(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder, pruning={"streaming": True})
    assert mlprune("validate", "--config", config, "--trainer.default_root_dir", "one")[0] == 0
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "main.py"), "validate", "--config", str(config)]
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.default_root_dir", "two"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    same(Path("one", RUN), Path("two", RUN))


def test_fit_refuses_streaming_and_test_has_no_use_for_it(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder, pruning={"streaming": True})
    status, _, err = mlprune("fit", "--config", config)
    assert (status, "goes with validate" in err) == (2, True), err
    assert mlprune("test", "--config", config, "--data.limit", 1)[0] == 0


def test_the_share_seen_is_told_whether_streaming_or_not(mlprune, tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_key_value_heads": 2, "kv_channels": 8}
    experts = {"intermediate_size": 64, "num_local_experts": 4, "num_experts_per_tok": 2}
    tokens = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    folder = tmp_path / "model"
    JetMoeForCausalLM(JetMoeConfig(**sizes, **experts, **tokens)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    for name, options in (("whole", {}), ("streamed", {"streaming": True})):
        config = write_config(tmp_path, folder, pruning=options | {"exclude": ["kv_proj"]})
        status, _, err = mlprune("validate", "--config", config, "--trainer.default_root_dir", name)
        assert status == 0, err
        assert "of 8 layers (96.6% of the blocks' matrices)" in err
        assert json.loads((Path(name) / RUN / "pruned/mlprune.json").read_text())["scored_share"] == pytest.approx(
            0.966, abs=1e-3
        )
    same(Path("whole", RUN), Path("streamed", RUN))

"""Recovery training: the pruned weights stay zero, whatever trains the others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch import Callback
from tiny import save_tiny
from tiny_runs import write_config
from transformers import AutoModelForCausalLM

from mlprune.models.blocks import find_blocks
from mlprune.pruning import load_masks

ROOT = Path(__file__).parents[2]
RUN = Path("lightning_logs/version_0")
DECAY = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "weight_decay": 0.1}}
MOMENTUM = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}}


class Watch(Callback):
    """Counts optimizer steps after which a pruned weight was not zero, and those after which others had moved."""

    steps: int
    broken: int

    def on_fit_start(self, trainer, pl_module) -> None:
        Watch.steps = Watch.broken = 0

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        Watch.steps += 1
        Watch.broken += not held(pl_module.model, pl_module.masks)


def held(model, masks) -> bool:
    layers = {path: layer for block in find_blocks(model) for path, layer in block.layers.items()}
    return all(not layers[path].matrix()[~mask].any() for path, mask in masks.items())


def trained(mlprune, tmp_path: Path, tiny: Path, /, trainer: dict | None = None, **sections) -> tuple[Path, str]:
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "callbacks": [{"class_path": "test_recovery.Watch"}],
    }
    config = write_config(tmp_path, tiny, trainer=settings | (trainer or {}), **sections)
    status, _, err = mlprune("fit", "--config", config)
    assert status == 0, err
    return RUN, err


@pytest.fixture(autouse=True)
def _own_module(monkeypatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setitem(sys.modules, "test_recovery", sys.modules[__name__])


@pytest.mark.parametrize(
    ("optimizer", "trainer"),
    [
        (DECAY, {}),
        (MOMENTUM, {}),
        (DECAY, {"precision": "bf16-mixed"}),
        (DECAY, {"precision": "bf16-true"}),
        (DECAY, {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}),
    ],
    ids=["adamw", "sgd momentum", "mixed", "bf16", "accumulated"],
)
def test_masks_are_held(mlprune, tmp_path: Path, tiny_folder: Path, optimizer: dict, trainer: dict) -> None:
    run, _ = trained(mlprune, tmp_path, tiny_folder, trainer, model={"optimizer": optimizer, "name": str(tiny_folder)})
    assert Watch.steps >= 4
    assert Watch.broken == 0
    masks = load_masks(run / "masks.safetensors")
    before, after = (AutoModelForCausalLM.from_pretrained(path, dtype="auto") for path in (tiny_folder, run / "pruned"))
    assert held(after, masks)
    moved = before.model.layers[0].mlp.up_proj.weight != after.model.layers[0].mlp.up_proj.weight
    kept = masks["model.layers.0.mlp.up_proj"]
    assert moved[kept].float().mean() > 0.5  # it did train


def test_training_helps_on_what_it_trains_on(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    sections = {
        "model": {"name": str(tiny_folder), "optimizer": DECAY},
        "pruning": {"pattern": {"class_path": "mlprune.pruning.Unstructured", "init_args": {"sparsity": 0.6}}},
    }
    run, _ = trained(mlprune, tmp_path, tiny_folder, {"max_epochs": 8}, **sections)
    after = json.loads((run / "results.json").read_text())
    before = json.loads((run / "results.dense.json").read_text())
    for lang in ("en", "fr"):
        assert after["perplexity"][lang]["bits_per_char"] < before["perplexity"][lang]["bits_per_char"]
    assert after["sparsity"] == pytest.approx(0.59, abs=0.01)


def test_adapters_are_merged_and_the_mask_applied_again(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    sections = {"model": {"name": str(tiny_folder), "lora": {"r": 2}, "optimizer": DECAY}}
    settings = {"callbacks": []}
    run, _ = trained(mlprune, tmp_path, tiny_folder, settings, **sections)
    model = AutoModelForCausalLM.from_pretrained(run / "pruned")
    masks = load_masks(run / "masks.safetensors")
    assert held(model, masks)
    assert "lora" not in " ".join(model.state_dict())
    before = AutoModelForCausalLM.from_pretrained(tiny_folder)
    moved = before.model.layers[0].mlp.up_proj.weight != model.model.layers[0].mlp.up_proj.weight
    assert moved[masks["model.layers.0.mlp.up_proj"]].float().mean() > 0.5


def test_sparsity_rises_to_its_target(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    gradual = {"class_path": "mlprune.callbacks.GradualPruning", "init_args": {"initial": 0.1, "ramp": 0.75}}
    watch = {"class_path": "test_recovery.Watch"}
    pruning = {"pattern": {"class_path": "mlprune.pruning.Unstructured", "init_args": {"sparsity": 0.5}}}
    run, err = trained(
        mlprune, tmp_path, tiny_folder, {"max_epochs": 4, "callbacks": [gradual, watch]}, pruning=pruning
    )
    assert Watch.broken == 0
    assert json.loads((run / "results.json").read_text())["sparsity"] == pytest.approx(0.5, abs=0.001)
    reached = [
        float(line.split("sparsity ")[1].split()[0])
        for line in err.splitlines()
        if "epoch" in line and "sparsity" in line
    ]
    assert reached == pytest.approx([0.381, 0.485, 0.5], abs=0.001)  # cubic over three of the four epochs


def test_a_resumed_training_holds_the_masks(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    """Killed in its last epoch, the run goes on from its Lightning checkpoint."""
    trainer = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3,
        "enable_checkpointing": True,
        "callbacks": [
            {"class_path": "kill_once.KillOnce", "init_args": {"stage": "train", "batch": 6, "marker": "killed"}}
        ],
    }
    config = write_config(tmp_path, tiny_folder, trainer=trainer)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "main.py"), "fit"]
    killed = subprocess.run([*command, "--config", str(config)], cwd=tmp_path, env=environment, capture_output=True)
    assert killed.returncode == -9
    assert list((tmp_path / RUN / "checkpoints").glob("*.ckpt"))
    again = subprocess.run(
        [*command, "--resume", str(RUN)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert held(AutoModelForCausalLM.from_pretrained(RUN / "pruned"), load_masks(RUN / "masks.safetensors"))


def test_two_processes_hold_the_masks(tmp_path: Path, tiny_folder: Path) -> None:
    trainer = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_epochs": 1}
    config = write_config(tmp_path, tiny_folder, trainer=trainer)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "main.py"), "fit", "--config", str(config)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    masks = load_masks(tmp_path / RUN / "masks.safetensors")
    assert held(AutoModelForCausalLM.from_pretrained(tmp_path / RUN / "pruned"), masks)


def test_encoder_decoder_models_are_refused_before_the_dense_evaluation(mlprune, tmp_path: Path) -> None:
    config = write_config(tmp_path, save_tiny(tmp_path / "model", "mt5"))
    status, _, err = mlprune("fit", "--config", config, "--trainer.max_epochs", 1)
    assert (status, "max_epochs 1: recovery training is of models that continue text" in err) == (2, True), err
    assert "evaluating" not in err

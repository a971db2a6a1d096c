"""Recovery training: the pruned weights stay zero, whatever trains the others."""

import json
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import save_tiny
from tiny_runs import RUN, start, tiny_config, write_config
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from mlprune.models.blocks import find_blocks
from mlprune.pruning import load_masks

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


class Demand(Callback):
    """Fails the run if a pruned weight is not zero after a step, or if a process holds weights that it should not."""

    def __init__(self, split: bool) -> None:
        self.split = split

    def on_test_start(self, trainer, pl_module) -> None:
        blocks = [block.module for block in find_blocks(pl_module.model)]
        assert all(parameter.is_meta == self.split for block in blocks for parameter in block.parameters())

    on_validation_start = on_test_start

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        assert held(pl_module.model, pl_module.masks)
        assert all(isinstance(parameter, DTensor) == self.split for parameter in pl_module.parameters())


def held(model, masks) -> bool:
    layers = {path: layer for block in find_blocks(model) for path, layer in block.layers.items()}
    return all(not whole(layers[path].matrix())[~mask].any() for path, mask in masks.items())


def whole(weight: Tensor) -> Tensor:
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


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
        (DECAY, {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}),
    ],
    ids=["adamw", "sgd momentum", "mixed", "accumulated"],
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


def test_a_trained_model_is_called_so_and_its_loss_is_logged(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    tasks = tiny_config(tiny_folder)["data"]["tasks"][:1]
    run, _ = trained(mlprune, tmp_path, tiny_folder, {"max_epochs": 1}, data={"tasks": tasks})
    comparison = json.loads((run / "comparison.json").read_text())
    assert comparison["systems"] == ["dense", "trained"]
    assert " pruning and recovery training" in comparison["headline"]
    text = (run / "comparison.md").read_text()
    assert text.startswith("# Dense against trained\n")
    assert "| language | dense | trained | difference |" in text
    page = (run / "report.html").read_text()
    assert "<h1>Dense against trained</h1>" in page
    assert "and the others trained, does it answer better" in page
    for part in ("<h3>pruned against dense</h3>", "<h3>trained against pruned</h3>"):
        assert part in page
    kept = [json.loads((run / f"results{kind}.json").read_text()) for kind in (".dense", ".pruned", "")]
    assert [own["system"] for own in kept] == ["dense", "pruned", "trained"]
    assert sorted(path.name for path in (run / "predictions.pruned").iterdir()) == sorted(
        path.name for path in (run / "predictions").iterdir()
    )
    (start,) = json.loads((run / "run.json").read_text())["starts"]
    assert [phase["name"] for phase in start["phases"]][2:4] == [
        "evaluating the pruned model",
        "recovery training with the masks held",
    ]
    assert start["training"]["learning_rate"] == 1e-5
    assert not json.loads((run / "results.json").read_text()).get("warnings")
    assert "then trained with the zeros held" in (run / "pruned/README.md").read_text()
    losses = EventAccumulator(str(run)).Reload().Scalars("fit/loss")
    assert len(losses) == Watch.steps
    status, out, err = mlprune("test", "--config", tmp_path / "run.yaml", "--model.name", run / "pruned")
    assert status == 0, err
    assert f"{run / 'pruned'}, trained" in out
    results = json.loads((RUN.with_name("version_1") / "results.json").read_text())
    assert (results["stage"], results["system"], results["figures"][0]["system"]) == ("pruned", "trained", "trained")


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


def test_a_resumed_training_holds_the_masks(tmp_path: Path, tiny_folder: Path) -> None:
    """Killed in its last epoch, the run resumes from its Lightning checkpoint."""
    kill = {"class_path": "kill_once.KillOnce", "init_args": {"stage": "train", "batch": 6, "marker": "killed"}}
    demand = {"class_path": "test_recovery.Demand", "init_args": {"split": False}}
    trainer = {"accelerator": "cpu", "devices": 1, "max_epochs": 3, "enable_checkpointing": True}
    config = write_config(tmp_path, tiny_folder, trainer=trainer | {"callbacks": [kill, demand]})
    assert start(tmp_path, "fit", "--config", config).returncode == -9
    assert list((tmp_path / RUN / "checkpoints").glob("*.ckpt"))
    again = start(tmp_path, "fit", "--resume", RUN)
    assert again.returncode == 0, again.stderr
    run = tmp_path / RUN
    assert held(AutoModelForCausalLM.from_pretrained(run / "pruned"), load_masks(run / "masks.safetensors"))


def test_adapters_go_on_from_a_lightning_checkpoint(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    model = {"name": str(tiny_folder), "lora": {"r": 2}, "optimizer": DECAY}
    settings = {"callbacks": [], "enable_checkpointing": True, "max_epochs": 1}
    trained(mlprune, tmp_path, tiny_folder, settings, model=model, data={"limit": 1})
    (checkpoint,) = (RUN / "checkpoints").glob("*.ckpt")
    for epochs in (1, 2):  # the checkpoint is of the last epoch, or training continues
        flags = ["--ckpt_path", checkpoint, "--trainer.max_epochs", epochs]
        status, _, err = mlprune("fit", "--config", tmp_path / "run.yaml", *flags)
        assert status == 0, err
    runs = [RUN.with_name(f"version_{k}") for k in range(3)]
    models = [AutoModelForCausalLM.from_pretrained(run / "pruned") for run in runs]
    assert all(held(model, load_masks(run / "masks.safetensors")) for model, run in zip(models, runs, strict=True))
    weights = [model.model.layers[0].mlp.up_proj.weight for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_pruned_checkpoint_is_trained_with_its_zeros_held(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder, model={"name": str(tiny_folder), "optimizer": DECAY})
    assert mlprune("validate", "--config", config)[0] == 0
    flags = ["--config", config, "--model.name", RUN / "pruned"]
    status, _, err = mlprune("fit", *flags)
    assert status == 2
    assert "is pruned already; give the dense model, or trainer.max_epochs above 0" in err
    watch = ["--trainer.callbacks+=test_recovery.Watch", "--trainer.max_epochs", 1]
    status, out, err = mlprune("fit", *flags, *watch)
    assert status == 0, err
    assert "(1/2) recovery training" in err
    assert "accuracy" in out
    assert Watch.steps >= 2
    assert Watch.broken == 0
    runs = [RUN, RUN.with_name("version_1")]
    before, after = (AutoModelForCausalLM.from_pretrained(run / "pruned") for run in runs)
    masks, again = (load_masks(run / "masks.safetensors") for run in runs)
    assert all(torch.equal(masks[path], again[path]) for path in masks | again)
    kept = masks["model.layers.0.mlp.up_proj"]
    moved = before.model.layers[0].mlp.up_proj.weight != after.model.layers[0].mlp.up_proj.weight
    assert moved[kept].float().mean() > 0.5
    recipes = [json.loads((run / "pruned/mlprune.json").read_text()) for run in runs]
    assert recipes[0] | {"trained": True} == recipes[1]
    card = (runs[1] / "pruned/README.md").read_text()
    assert "\nbase_model:" not in card  # which is a folder here
    assert str(tiny_folder) not in card
    assert json.loads((runs[1] / "results.json").read_text())["stage"] == "pruned"
    assert not (runs[1] / "results.dense.json").exists()
    assert (runs[1] / "report.html").exists()


def test_two_processes_find_the_same_on_whole_and_on_split_weights(tmp_path: Path, tiny_folder: Path) -> None:
    """No process holds a whole model that is split; figures and masks are the same, trained weights up to rounding."""
    split = {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1},
    }
    models, found = [], []
    for strategy in ("ddp", split):
        demand = {"class_path": "test_recovery.Demand", "init_args": {"split": strategy is split}}
        trainer = {"accelerator": "cpu", "devices": 2, "strategy": strategy, "max_epochs": 1, "callbacks": [demand]}
        folder = tmp_path / ("ddp" if strategy == "ddp" else "split")
        folder.mkdir()
        config = write_config(
            folder, tiny_folder, trainer=trainer, model={"name": str(tiny_folder), "optimizer": DECAY}
        )
        run = start(folder, "fit", "--config", config)
        assert run.returncode == 0, run.stderr
        models.append(AutoModelForCausalLM.from_pretrained(folder / RUN / "pruned"))
        assert held(models[-1], load_masks(folder / RUN / "masks.safetensors"))
        files = ("masks.safetensors", "statistics.safetensors", "results.dense.json", "results.pruned.json")
        found.append([(folder / RUN / name).read_bytes() for name in files])
    assert found[0] == found[1]
    for (name, one), other in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


def test_encoder_decoder_models_are_refused_before_the_dense_evaluation(mlprune, tmp_path: Path) -> None:
    config = write_config(tmp_path, save_tiny(tmp_path / "model", "mt5"))
    status, _, err = mlprune("fit", "--config", config, "--trainer.max_epochs", 1)
    assert (status, "max_epochs 1: recovery training is of models that continue text" in err) == (2, True), err
    assert "evaluating" not in err

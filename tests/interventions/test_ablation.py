"""Switching features off: what a forward then gives, and a run from YAML."""

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_batches, tiny_model
from tiny_runs import write_config

from mlprune.analysis.ablation import ablated, select_features
from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks


def forward(model: torch.nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits, and what every block receives."""
    seen: list[torch.Tensor] = []

    def look(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        seen.append(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])

    handles = [block.module.register_forward_pre_hook(look, with_kwargs=True) for block in find_blocks(model)]
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    for handle in handles:
        handle.remove()
    return logits, seen


@pytest.mark.parametrize("family", ["llama", "bloom", "gpt2", "xglm"])
def test_features_are_zero_where_asked_and_the_model_is_left_alone(family: str) -> None:
    model, ids = tiny_model(family), tiny_batches(family, [7])[0]["input_ids"]
    logits, before = forward(model, ids)
    with ablated(model, {0: [3], 2: [0, 5], 3: [1]}):
        changed, within = forward(model, ids)
    with ablated(model, {1: [4]}, keep_only=True):
        only = forward(model, ids)[1][1]
    assert (within[0][..., 3] == 0).all()
    assert (within[2][..., [0, 5]] == 0).all()
    assert (before[2][..., [0, 5]] != 0).all()
    assert not torch.allclose(changed, logits)
    assert not torch.allclose(within[1], before[1])  # layer 0 was changed before it
    assert (only[..., 4] != 0).all()
    assert (only[..., [i for i in range(only.shape[-1]) if i != 4]] == 0).all()
    assert torch.equal(forward(model, ids)[0], logits)


def test_what_is_not_there_is_named() -> None:
    model, batch = tiny_model("llama"), tiny_batches("llama", [4])[0]
    with pytest.raises(UserError, match="layer 9 is not there"), ablated(model, {9: [0]}):
        pass
    with pytest.raises(UserError, match="no dimension 32"), ablated(model, {1: [32]}):
        model(input_ids=batch["input_ids"])
    assert not any(module._forward_hooks for module in model.modules())


def analysis(folder: Path) -> Path:
    (folder / "overlap.json").write_text(json.dumps({"only_translation": [[1], [], [2, 3]]}))
    rows = [f"fr,{layer},{d},{10 - d}\nfr-en,{layer},{d},1" for layer in range(3) for d in range(6)]
    (folder / "features.csv").write_text("group,layer,dimension,magnitude\n" + "\n".join(rows) + "\n")
    return folder


def test_selections_are_of_one_size(tmp_path: Path) -> None:
    run = analysis(tmp_path)
    assert select_features(run, "translation") == {0: [1], 2: [2, 3]}
    assert select_features(run, "large") == {0: [0], 2: [0, 1]}
    drawn = select_features(run, "random", seed=1)
    assert {layer: len(dimensions) for layer, dimensions in drawn.items()} == {0: 1, 2: 2}
    assert drawn == select_features(run, "random", seed=1)
    assert not set(drawn[2]) & {2, 3}
    (run / "features.csv").unlink()
    with pytest.raises(UserError, match=r"features\.csv"):
        select_features(run, "large")


def test_a_run_from_yaml(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    accuracies = {}
    for name, features in {"none": {}, "all": {2: list(range(32))}}.items():
        callback = {"class_path": "mlprune.callbacks.FeatureAblation", "init_args": {"features": features}}
        trainer = {
            "accelerator": "cpu",
            "devices": 1,
            "callbacks": [callback],
            "logger": False,
            "default_root_dir": name,
        }
        status, _, err = mlprune("test", "--config", write_config(tmp_path, tiny_folder, trainer=trainer))
        assert status == 0, err
        lines = (Path(name) / "mlprune_run/predictions/reviews.fr.jsonl").read_text().splitlines()
        accuracies[name] = [json.loads(line)["scores"] for line in lines]
    assert accuracies["none"] != accuracies["all"]

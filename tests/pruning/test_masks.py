"""Masks: the file format to the bit, and applying them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import tiny_batches, tiny_model

from mlprune.errors import UserError
from mlprune.pruning import apply_masks, load_masks, prune_model, save_masks


def test_file_is_little_endian_bits_with_shapes_in_the_header(tmp_path: Path) -> None:
    mask = torch.tensor([[True, False, False], [True, True, False], [False, False, True]])
    save_masks({"a.b": mask}, tmp_path / "masks.safetensors")
    with safe_open(tmp_path / "masks.safetensors", framework="np") as file:
        assert file.get_tensor("a.b").tolist() == [0b00011001, 0b1]
        assert file.get_tensor("a.b").dtype == np.uint8
        assert json.loads(file.metadata()["shapes"]) == {"a.b": [3, 3]}
    assert [file.name for file in tmp_path.iterdir()] == ["masks.safetensors"]
    assert torch.equal(load_masks(tmp_path / "masks.safetensors")["a.b"], mask)


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "mt5"])
def test_saved_masks_make_the_same_model(family: str, tmp_path: Path) -> None:
    pruned, dense = tiny_model(family), tiny_model(family)
    masks = prune_model(pruned, tiny_batches(family, [8, 6]))
    save_masks(masks, tmp_path / "masks.safetensors")
    apply_masks(dense, load_masks(tmp_path / "masks.safetensors"))
    assert all(torch.equal(weight, pruned.state_dict()[name]) for name, weight in dense.state_dict().items())


def test_conv1d_masks_have_outputs_first() -> None:
    model = tiny_model("gpt2")
    masks = prune_model(model, tiny_batches("gpt2", [8]))
    assert masks["transformer.h.0.attn.c_attn"].shape == (96, 32)
    assert model.transformer.h[0].attn.c_attn.weight.shape == (32, 96)


def test_unfit_masks_change_nothing(tmp_path: Path) -> None:
    model = tiny_model("llama")
    path = "model.layers.0.mlp.up_proj"
    good = torch.zeros(64, 32, dtype=torch.bool)
    with pytest.raises(UserError, match="the model has no prunable layer 'lm_head'"):
        apply_masks(model, {path: good, "lm_head": good})
    with pytest.raises(UserError, match=r"mask of .*gate_proj has shape \(2, 2\); the layer needs \(64, 32\)"):
        apply_masks(model, {path: good, "model.layers.0.mlp.gate_proj": good[:2, :2]})
    assert (model.get_submodule(path).weight != 0).any()
    with pytest.raises(UserError, match="does not exist"):
        load_masks(tmp_path / "nowhere")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is not a mask file: its header has no 'shapes'"):
        load_masks(tmp_path / "other.safetensors")

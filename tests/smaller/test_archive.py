"""Archives of sparse weights: every bit comes back, and the size is what bits and values take."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_tiny
from transformers import AutoModelForCausalLM

import mlprune
from mlprune.cli import main
from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource
from mlprune.smaller.archive import compress, pack, restore, unpack


def pruned(folder: Path, sparsity: float, dtype: torch.dtype = torch.bfloat16, of: int = 0, **shards: str) -> Path:
    """A tiny model with the smallest weights of each layer at zero, or two of every ``of`` consecutive ones."""
    save_tiny(folder, "llama", dtype)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for block in find_blocks(model):
        for layer in block.layers.values():
            size = layer.matrix().abs()
            if of:
                rows = size.view(-1, of)
                layer.zero(
                    torch.zeros_like(rows, dtype=torch.bool).scatter(1, rows.topk(of // 2).indices, True).view_as(size)
                )
            else:
                layer.zero(size > size.float().quantile(sparsity))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, **shards)
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(
        first.flatten().view(torch.uint8), second.flatten().view(torch.uint8)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_every_bit_comes_back(dtype: torch.dtype) -> None:
    values = torch.randn(7, 13, generator=torch.Generator().manual_seed(0)).to(dtype)
    values.view(-1)[::3] = 0.0
    values[0, :3] = torch.tensor([-0.0, float("nan"), 448.0]).to(dtype)
    assert same_bits(unpack(*pack(values), (7, 13)), values)


@pytest.mark.parametrize(("sparsity", "of"), [(0.3, 0), (0.5, 0), (0.7, 0), (0.5, 4)])
def test_size_is_that_of_bits_and_values(tmp_path: Path, sparsity: float, of: int) -> None:
    source = pruned(tmp_path / "model", sparsity, of=of)
    sizes = compress(source, tmp_path / "archive")
    archive = tensors(tmp_path / "archive")
    packed = {name.removesuffix(".mask") for name in archive if name.endswith(".mask")}
    dense = tensors(source)
    layers = {name for name in dense if "_proj" in name}
    assert packed == layers
    ideal = sum(2 * int((dense[name] != 0).sum()) + dense[name].numel() / 8 for name in layers)
    stored = sum(archive[f"{name}.{part}"].nbytes for name in layers for part in ("mask", "values"))
    assert stored == pytest.approx(ideal, rel=0.02)
    assert sizes.num_nonzero == sum(int((dense[name] != 0).sum()) for name in layers)
    assert sizes.num_compressed == sum(tensor.nbytes for tensor in archive.values()) < sizes.num_bytes


def test_a_run_is_compressed_and_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = pruned(tmp_path / "run" / "pruned", 0.5, max_shard_size="20KB")
    assert main(["compress", str(tmp_path / "run")]) == 0
    assert "50." in capsys.readouterr().out
    archive = tmp_path / "run" / "compressed"
    loaded, expected = mlprune.load_compressed(archive), ModelSource(str(source)).load_model()
    assert loaded.state_dict().keys() == expected.state_dict().keys()
    assert all(same_bits(tensor, expected.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert main(["compress", str(archive), "--restore"]) == 0
    restored = tmp_path / "run" / "restored"
    assert sorted(path.name for path in restored.iterdir()) == sorted(path.name for path in source.iterdir())
    assert {name: tensor.shape for name, tensor in tensors(restored).items()} == {
        name: tensor.shape for name, tensor in tensors(source).items()
    }
    assert all(same_bits(tensor, tensors(source)[name]) for name, tensor in tensors(restored).items())
    AutoModelForCausalLM.from_pretrained(restored)


def test_nothing_is_gained_from_a_dense_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save_tiny(tmp_path / "model")
    assert main(["compress", str(source), "--output", str(tmp_path / "said")]) == 0
    assert "no matrix has enough zeros" in capsys.readouterr().out
    sizes = compress(source, tmp_path / "archive")
    assert sizes.num_compressed == sizes.num_bytes
    restore(tmp_path / "archive", tmp_path / "back")
    assert all(same_bits(tensor, tensors(source)[name]) for name, tensor in tensors(tmp_path / "back").items())


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tiny(tmp_path / "model")
    compress(pruned(tmp_path / "sparse", 0.5), tmp_path / "archive")
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    for args, told in (
        (["no/run"], "'no/run' is not a folder"),
        ([str(tmp_path / "empty")], "has no config.json"),
        ([str(model), "--output", str(model)], "exists already"),
        ([str(model), "--restore"], "holds no *.bitmask.safetensors"),
        ([str(tmp_path / "archive")], "an archive; load it with mlprune.load_compressed"),
    ):
        assert main(["compress", *args]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    file = tmp_path / "archive" / "model.bitmask.safetensors"
    size = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + size])
    metadata = header["__metadata__"]
    for broken in (
        {},
        metadata | {"shapes": "[1]"},
        metadata | {"shapes": '{"model.layers.0.mlp.up_proj.weight": [9]}'},
    ):
        text = json.dumps(header | {"__metadata__": broken}).encode()
        (tmp_path / "bad").mkdir(exist_ok=True)
        whole = len(text).to_bytes(8, "little") + text + file.read_bytes()[8 + size :]
        (tmp_path / "bad" / file.name).write_bytes(whole)
        with pytest.raises(UserError, match="is no archive that `mlprune compress` wrote, or it is damaged"):
            mlprune.load_compressed(tmp_path / "bad")
    assert not (tmp_path / "restored").exists()


def test_an_archive_is_not_taken_for_a_model(tmp_path: Path) -> None:
    compress(pruned(tmp_path / "sparse", 0.5), tmp_path / "archive")
    with pytest.raises(OSError, match=r"model\.safetensors"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "archive")
    with pytest.raises(UserError, match=r"mlprune compress --restore"):
        ModelSource(str(tmp_path / "archive"))

"""A streamed checkpoint has the masks and weights of the model pruned in memory, bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import BLOCKS, EXPERTS, FAMILIES, MIXTURES, ROPE, tiny_batches, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, DeepseekV3Config, PreTrainedModel

from mlprune.errors import UserError
from mlprune.models.shards import ShardReader
from mlprune.models.streamed import StreamedModel
from mlprune.pruning import (
    ADMM,
    ALPS,
    OWL,
    DSnoT,
    Importance,
    Pruner,
    RegionalGradient,
    SparseGPT,
    Unstructured,
    Wanda,
    load_masks,
    prune_model,
    prune_streaming,
)

LENGTHS = [9, 4, 7]


def saved(folder: Path, family: str, dtype: torch.dtype = torch.float32, shard: str = "40KB") -> Path:
    model = tiny_model(family)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


CASES = [(family, propagate) for family in FAMILIES for propagate in ("pruned", "dense", "layer")]
CASES = [(family, propagate) for family, propagate in CASES if propagate != "layer" or family not in MIXTURES]


@pytest.mark.parametrize(("family", "propagate"), CASES)
def test_equals_memory(family: str, propagate: str, tmp_path: Path) -> None:
    source, target = saved(tmp_path / "dense", family, torch.bfloat16), tmp_path / "pruned"
    auto = AutoModelForSeq2SeqLM if family in ("mt5", "m2m100") else AutoModelForCausalLM
    model = auto.from_pretrained(source).eval()
    masks = prune_model(model, tiny_batches(family, LENGTHS), propagate=propagate)
    sparsities = prune_streaming(
        source, target, tiny_batches(family, LENGTHS), propagate=propagate, masks_path=tmp_path / "masks.safetensors"
    )
    streamed = load_masks(tmp_path / "masks.safetensors")
    assert streamed.keys() == masks.keys() == sparsities.keys()
    assert all(torch.equal(streamed[path], mask) for path, mask in masks.items())
    again = auto.from_pretrained(target).eval()
    assert again.dtype == torch.bfloat16
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert sorted(file.name for file in source.iterdir()) == sorted(file.name for file in target.iterdir())
    assert {file.name: len(load_file(file)) for file in source.glob("*.safetensors")} == {
        file.name: len(load_file(file)) for file in target.glob("*.safetensors")
    }


def deepseek() -> PreTrainedModel:
    """A mixture whose router's learned corrections are a buffer, and stay in float32."""
    ranks = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
    groups = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
    experts = EXPERTS | groups | {"n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 16}
    config = DeepseekV3Config(vocab_size=258, num_key_value_heads=4, **ROPE, **ranks, **experts)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for block in model.model.layers[1:]:
            torch.nn.init.normal_(block.mlp.gate.e_score_correction_bias)
    return model


@pytest.mark.parametrize(
    ("family", "dtype"), [("deepseek", torch.float32), ("deepseek", torch.bfloat16), ("mt5", torch.float16)]
)
def test_buffers_and_what_stays_in_float32(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = deepseek() if family == "deepseek" else tiny_model(family)
    auto = AutoModelForSeq2SeqLM if family == "mt5" else AutoModelForCausalLM
    model.to(dtype).save_pretrained(tmp_path / "dense", max_shard_size="40KB")
    model = auto.from_pretrained(tmp_path / "dense").eval()
    batches = tiny_batches(family, LENGTHS)
    masks = prune_model(model, batches)
    prune_streaming(tmp_path / "dense", tmp_path / "pruned", batches, masks_path=tmp_path / "masks.safetensors")
    streamed = load_masks(tmp_path / "masks.safetensors")
    assert all(torch.equal(streamed[path], mask) for path, mask in masks.items())
    again = auto.from_pretrained(tmp_path / "pruned").state_dict()
    for name, tensor in model.state_dict().items():
        assert again[name].dtype == tensor.dtype, name
        assert torch.equal(again[name], tensor), name


@pytest.mark.parametrize(
    "importance",
    [SparseGPT(), ALPS(), ADMM(), DSnoT(), RegionalGradient()],
    ids=["sparsegpt", "alps", "admm", "dsnot", "regional"],
)
def test_single_file_other_dtype_other_method_hidden_states_on_disk(importance: Importance, tmp_path: Path) -> None:
    source = saved(tmp_path / "dense", "gpt2", torch.float32, shard="1GB")
    model = tiny_model("gpt2").to(torch.bfloat16)
    masks = prune_model(model, tiny_batches("gpt2", LENGTHS), importance, Unstructured(0.5))
    prune_streaming(
        source,
        tmp_path / "pruned",
        tiny_batches("gpt2", LENGTHS),
        Pruner(importance, Unstructured(0.5)),
        dtype="bfloat16",
        hidden_folder=tmp_path / "hidden",
    )
    written = tensors(tmp_path / "pruned")
    assert all(tensor.dtype == torch.bfloat16 for tensor in written.values())
    for name, weight in model.state_dict().items():
        if name in written:
            assert torch.equal(weight, written[name]), name
    assert masks
    assert not list((tmp_path / "hidden").iterdir())


def test_at_most_two_blocks_and_no_head_are_resident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "dense"
    tiny_model("opt", tie_word_embeddings=False).save_pretrained(source)
    most = 0
    original = StreamedModel.write

    def resident(model: torch.nn.Module, below: str) -> list[str]:
        return [name for name, p in model.named_parameters() if name.startswith(below) and p.device.type != "meta"]

    def look(self: StreamedModel, block: int) -> None:
        nonlocal most
        most = max(most, len({name.split(".")[3] for name in resident(self.model, "model.decoder.layers.")}))
        assert not resident(self.model, "lm_head")
        original(self, block)

    monkeypatch.setattr(StreamedModel, "write", look)
    prune_streaming(source, tmp_path / "pruned", tiny_batches("opt", LENGTHS))
    assert most == 2 < BLOCKS


def test_every_byte_is_read_and_written_once(tmp_path: Path) -> None:
    """But the embeddings are read twice: to be run, and to be copied."""
    streamed = StreamedModel(saved(tmp_path / "dense", "llama"), tmp_path / "pruned")
    for block in range(BLOCKS):
        streamed.enter(block)
        streamed.write(block)
    streamed.finish()
    stored = tensors(tmp_path / "dense")
    size = sum(tensor.nbytes for tensor in stored.values())
    assert streamed.writer.bytes_written == size
    assert streamed.reader.bytes_read == size + stored["model.embed_tokens.weight"].nbytes


def test_a_prefix_less_checkpoint_is_read(tmp_path: Path) -> None:
    source = tmp_path / "dense"
    tiny_model("gpt2").transformer.save_pretrained(source)
    prune_streaming(source, tmp_path / "pruned", tiny_batches("gpt2", LENGTHS))
    model = tiny_model("gpt2")
    prune_model(model, tiny_batches("gpt2", LENGTHS))
    written = tensors(tmp_path / "pruned")
    assert torch.equal(written["h.2.mlp.c_fc.weight"], model.transformer.h[2].mlp.c_fc.weight)


def test_failures_leave_nothing(tmp_path: Path) -> None:
    source, target = saved(tmp_path / "dense", "llama"), tmp_path / "pruned"
    batches = tiny_batches("llama", LENGTHS)
    with pytest.raises(UserError, match="OWL looks at all blocks first"):
        prune_streaming(source, target, batches, Pruner(Wanda(), Unstructured(0.3), OWL()))
    with pytest.raises(UserError, match="exclude: 'nowhere' matches no layer"):
        prune_streaming(source, target, batches, Pruner(exclude=["nowhere"]))
    file = next(iter(sorted(source.glob("*.safetensors"))))
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size - 10)
    with pytest.raises(UserError, match="ends before its last tensor"):
        prune_streaming(source, target, batches)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense"]


def test_refusals(tmp_path: Path) -> None:
    batches = tiny_batches("llama", LENGTHS)
    strange = saved(tmp_path / "strange", "llama", shard="1GB")
    save_file({f"x.{name}": weight for name, weight in tensors(strange).items()}, strange / "model.safetensors")
    with pytest.raises(UserError, match=r"lacks 30 of 30 weights.*model\.embed_tokens\.weight"):
        prune_streaming(strange, tmp_path / "pruned", batches)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        ShardReader(tmp_path / "empty")
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists already"):
        prune_streaming(saved(tmp_path / "dense", "llama"), tmp_path / "there", batches)


def test_index_tells_the_size(tmp_path: Path) -> None:
    source = saved(tmp_path / "dense", "llama")
    prune_streaming(source, tmp_path / "pruned", tiny_batches("llama", LENGTHS), dtype="bfloat16")
    index = json.loads((tmp_path / "pruned" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors(tmp_path / "pruned").values())


def test_unknown_dtype_in_a_shard_is_named(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="dtype C64 of x cannot be read"):
        ShardReader(tmp_path)

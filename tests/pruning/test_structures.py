"""Models built in other ways than the families: masks as by whole-model forward passes, or one clear line."""

from typing import Any

import pytest
import torch
from slow_reference import STACKS, slow_wanda
from tiny import GROUPED, tiny_batches, tiny_config, tiny_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BambaConfig,
    FSMTConfig,
    Gemma3Config,
    Gemma4TextConfig,
    HunYuanMoEV1Config,
    NllbMoeConfig,
    PreTrainedConfig,
    PreTrainedModel,
    T5Gemma2Config,
    Zamba2Config,
)

from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.pruning import Unstructured, Wanda, prune_model

SIZES = GROUPED | {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
MAMBA = {"mamba_d_state": 8, "layers_block_type": ["mamba", "hybrid", "mamba"], "num_key_value_heads": 4}
ZAMBA = SIZES | MAMBA | {"n_mamba_heads": 8, "mamba_headdim": 8, "mamba_ngroups": 1}

TEXT = SIZES | {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8}

STRUCTURES: dict[str, tuple[str, PreTrainedConfig]] = {
    # a vision tower within an encoder
    "vision_in_encoder": (
        "model.encoder.text_model.layers model.decoder.layers",
        T5Gemma2Config(
            encoder={
                "text_config": TEXT,
                "vision_config": VISION | {"image_size": 56, "patch_size": 14},
                "mm_tokens_per_image": 4,
            },
            decoder=TEXT,
            eoi_token_index=62,
            image_token_index=63,
        ),
    ),
    # later blocks use keys and values of earlier ones
    "shared_keys": (
        "model.layers",
        Gemma4TextConfig(
            **SIZES | {"num_hidden_layers": 4},
            **{"head_dim": 8, "global_head_dim": 8, "sliding_window": 4, "num_kv_shared_layers": 2},
            **{"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64},
            layer_types=["sliding_attention", "full_attention"] * 2,
        ),
    ),
    # tokens before texts
    "tokens_first": (
        "model.encoder.layers model.decoder.layers",
        FSMTConfig(
            langs=["en", "de"],
            **{"src_vocab_size": 64, "tgt_vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2},
            **{
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 48,
                "decoder_ffn_dim": 48,
            },
        ),
    ),
    # a vision tower, which text never passes, stands before the language model
    "vision": (
        "model.language_model.layers",
        Gemma3Config(
            text_config=SIZES | {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8},
            vision_config=VISION | {"image_size": 56, "patch_size": 14},
            mm_tokens_per_image=4,
            image_token_index=63,
        ),
    ),
    # blocks return (hidden states, None), and the model unpacks two
    "tuples": (
        "model.layers",
        BambaConfig(
            **SIZES, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_chunk_size=16
        ),
    ),
    # blocks of two classes, one of which holds a list of layers
    "two_classes": ("model.layers", Zamba2Config(**ZAMBA, hybrid_layer_ids=[1])),
}


def build(config: PreTrainedConfig) -> PreTrainedModel:
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return auto.from_config(config).eval()


def prompts(lengths: list[int], family: str = "llama") -> list[dict[str, Any]]:
    ids = ("input_ids", "decoder_input_ids")
    batches = tiny_batches(family, lengths)
    return [batch | {name: batch[name] % 60 + 2 for name in ids if name in batch} for batch in batches]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_equals_slow_reference(structure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, config = STRUCTURES[structure]
    monkeypatch.setitem(STACKS, structure, stack.split())
    model, slow = build(config), build(config)
    texts = prompts([9, 4, 7], "mt5" if config.is_encoder_decoder else "llama")
    expected, _ = slow_wanda(structure, slow, texts, 0.4)
    masks = prune_model(model, texts, Wanda(), Unstructured(0.4), max_batch_tokens=1)
    assert masks.keys() == expected.keys()
    assert all(torch.equal(mask, expected[path]) for path, mask in masks.items())
    for name, weight in slow.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_blocks_that_share_weights_are_refused() -> None:
    model = build(Zamba2Config(**ZAMBA | {"layers_block_type": ["hybrid", "mamba", "hybrid"]}, hybrid_layer_ids=[0, 2]))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(UserError, match=r"layers\.0\.shared_.* and model\.layers\.2.*; models whose blocks share"):
        prune_model(model, prompts([5]))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_routers_below_a_gate_are_not_pruned() -> None:
    config = HunYuanMoEV1Config(**SIZES | {"num_hidden_layers": 1}, head_dim=8, num_experts=4, moe_topk=2)
    (block,) = find_blocks(build(config))
    assert "model.layers.0.mlp.gate.wg" not in block.layers
    assert "model.layers.0.mlp.experts.down_proj" in block.layers


def test_experts_that_are_modules_get_batches_without_padding() -> None:
    """They see chosen tokens only, so padding could not be told from tokens."""
    settings = {name: value for name, value in tiny_config("m2m100").to_dict().items() if name != "model_type"}
    config = NllbMoeConfig(**settings | {"num_experts": 2, "encoder_sparse_step": 2, "decoder_sparse_step": 2})
    batches = tiny_batches("m2m100", [9, 4, 7])
    masks = prune_model(build(config), batches)
    alone = prune_model(build(config), batches, max_batch_tokens=1)
    assert any(".experts." in path and not mask.all() for path, mask in masks.items())
    assert all(torch.equal(mask, alone[path]) for path, mask in masks.items())
    with pytest.raises(UserError, match=r"propagate 'layer' cannot wait .* at experts .*; use 'pruned' or 'dense'"):
        prune_model(build(config), batches, propagate="layer")


def test_a_list_of_bare_layers_is_no_list_of_blocks() -> None:
    blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4)), nn.ModuleDict({"fc": nn.Linear(4, 4)})])
    model = nn.ModuleDict({"projections": nn.ModuleList([nn.Linear(4, 4)]), "layers": blocks})
    assert [block.path for block in find_blocks(model)] == ["layers.0", "layers.1"]


def test_experts_are_refused_where_tensors_have_no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA's have none; reading one there ends the process."""
    monkeypatch.setattr("mlprune.models.experts.WITHOUT_ADDRESSES", {"cpu"})
    with pytest.raises(UserError, match="none of on cpu; prune this model on another device"):
        prune_model(tiny_model("mixtral"), tiny_batches("mixtral", [5]))
    prune_model(tiny_model("llama"), tiny_batches("llama", [5]))

"""Models without some of their blocks: plain transformers gives the logits of the original with these skipped."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import (
    BLOCKS,
    DECODERS,
    ENCODER_DECODER,
    FAMILIES,
    POSITIONS,
    VOCABULARY,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
)
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource
from mlprune.smaller import RemoveBlocks, remove_blocks
from mlprune.smaller.blocks import skipping

IDS = torch.arange(20, 32)[None]
TIED = {"llama": {"tie_word_embeddings": True}, "gemma3": {"tie_word_embeddings": True}}


def save(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def inputs(model: Any) -> dict[str, Any]:
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    return {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), **more}


def load(folder: Path, family: str) -> Any:
    auto = AutoModelForSeq2SeqLM if family in ENCODER_DECODER else AutoModelForCausalLM
    model, report = auto.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    return model


def greedy_without_cache(model: Any, ids: torch.Tensor, count: int) -> torch.Tensor:
    for _ in range(count):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    return ids


@torch.no_grad()
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("mistral", "phi", "gptj", "mixtral")])
def test_logits_are_those_of_the_original_with_blocks_skipped(family: str, tmp_path: Path) -> None:
    original = tiny_model(family, **TIED.get(family, {}))
    paths = [block.path for block in find_blocks(original)]
    removed = [paths[1], paths[-1]] if family in ENCODER_DECODER else [paths[1]]
    done = remove_blocks(str(save(tmp_path / "before", original)), tmp_path / "after", removed)
    model = load(tmp_path / "after", family)
    assert (done.removed, done.num_blocks) == (removed, len(paths))
    assert len(find_blocks(model)) == len(paths) - len(removed)
    with skipping(original, removed):
        expected = original(**inputs(original)).logits
        assert not torch.equal(expected, tiny_model(family, **TIED.get(family, {}))(**inputs(original)).logits)
        if family in DECODERS:
            continued = greedy_without_cache(original, IDS, 6)
    assert torch.equal(model(**inputs(model)).logits, expected)
    if family in DECODERS:  # caches, and Gemma's two kinds of attention, over a window of 4
        options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "suppress_tokens": None}
        found = model.generate(IDS, attention_mask=torch.ones_like(IDS), use_cache=True, eos_token_id=None, **options)
        assert torch.equal(found, continued)


@pytest.mark.parametrize("removed", [[0], [1], [2], [0, 1], [1, 2]])
def test_kinds_of_attention_stay_with_their_blocks(removed: list[int], tmp_path: Path) -> None:
    before = save(tmp_path / "before", tiny_model("gemma3"))
    types = json.loads((before / "config.json").read_text())["layer_types"]
    remove_blocks(str(before), tmp_path / "after", [f"model.layers.{place}" for place in removed])
    config = json.loads((tmp_path / "after/config.json").read_text())
    assert config["layer_types"] == [kind for place, kind in enumerate(types) if place not in removed]
    assert config["num_hidden_layers"] == BLOCKS - len(removed)
    assert not [key for key in config if "pattern" in key]  # a period that is no longer true
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "after")
    assert [block.self_attn.layer_idx for block in model.model.layers] == list(range(BLOCKS - len(removed)))


SIZES = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 8}
TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
MIXED = {
    "positions of dense blocks": ("Qwen3MoeConfig", {"mlp_only_layers": [0, 2], "num_experts": 4,
                                                     "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                                                     "decoder_sparse_step": 1}),
    "how many are dense first": ("DeepseekV3Config", {"first_k_dense_replace": 2, "n_routed_experts": 4, "n_group": 1,
                                                      "topk_group": 1, "num_experts_per_tok": 2, "q_lora_rank": 8,
                                                      "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
                                                      "v_head_dim": 8, "moe_intermediate_size": 16, "head_dim": 4}),
    "attention by position": ("GPTNeoConfig", {"num_layers": 5, "num_heads": 4, "window_size": 4, "hidden_size": 32,
                                               "attention_types": [[["global", "local"], 2], [["local"], 1]]}),
    "no positions in some": ("SmolLM3Config", {"no_rope_layers": [1, 1, 0, 1, 0]}),
    "window from some on": ("Qwen2Config", {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 4}),
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("kind", MIXED)
def test_blocks_of_several_kinds_stay_what_they_are(kind: str, tmp_path: Path) -> None:
    name, settings = MIXED[kind]
    own = settings if name == "GPTNeoConfig" else SIZES | {"num_hidden_layers": 5} | settings
    config = getattr(transformers, name)(**TOKENS, max_position_embeddings=POSITIONS, **own)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = AutoModelForCausalLM.from_config(config).eval()
    paths = [block.path for block in find_blocks(original)]
    removed = [paths[0], paths[3]]
    remove_blocks(str(save(tmp_path / "before", original)), tmp_path / "after", removed)
    with skipping(original, removed):
        expected = original(IDS).logits
    assert torch.allclose(load(tmp_path / "after", "")(IDS).logits, expected, rtol=1e-5, atol=1e-6)


def refused(tmp_path: Path, config: Any, removed: list[str]) -> str:
    save(tmp_path / "before", AutoModelForCausalLM.from_config(config))
    with pytest.raises(UserError) as caught:
        remove_blocks(str(tmp_path / "before"), tmp_path / "after", removed)
    assert [path.name for path in tmp_path.iterdir()] == ["before"]
    return str(caught.value)


def test_what_a_configuration_cannot_say_is_refused_by_name(tmp_path: Path) -> None:
    config = transformers.RecurrentGemmaConfig(**TOKENS, **(SIZES | {"num_hidden_layers": 6}), lru_width=32)
    message = refused(tmp_path, config, ["model.layers.1"])
    assert message.startswith("RecurrentGemmaForCausalLM: its configuration cannot describe it without these blocks: ")
    assert "what was 'model.layers.2' would have class of temporal_block" in message


def test_a_setting_that_depends_on_the_position_is_refused(tmp_path: Path) -> None:
    config = tiny_config("gpt2", scale_attn_by_inverse_layer_idx=True)
    assert "'transformer.h.1' would have attn.scaling" in refused(tmp_path, config, ["transformer.h.0"])


def test_a_block_that_computes_with_its_position_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = GPT2Attention.forward

    def forward(self: GPT2Attention, *args: Any, **kwargs: Any) -> Any:
        output, *rest = plain(self, *args, **kwargs)
        return output * self.layer_idx, *rest

    monkeypatch.setattr(GPT2Attention, "forward", forward)
    assert "depend on their positions" in refused(tmp_path, tiny_config("gpt2"), ["transformer.h.0"])


def test_the_block_that_others_read_from_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "before", tiny_model("mt5"))
    with pytest.raises(UserError, match=r"MT5.*'encoder.block.1' would have class of .*relative_attention_bias"):
        remove_blocks(str(tmp_path / "before"), tmp_path / "after", ["encoder.block.0"])


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        (["model.layers.3"], "'model.layers.3' is no block; they are model.layers.0 to model.layers.2"),
        ([f"model.layers.{k}" for k in range(3)], "no block of 'model.layers' would stay; leave out fewer than 3"),
    ],
)
def test_blocks_that_are_none(removed: list[str], message: str, tmp_path: Path) -> None:
    assert refused(tmp_path, tiny_config("llama"), removed) == message


def test_shards_keep_their_files_and_tensors(tmp_path: Path) -> None:
    model = tiny_model("llama", torch.bfloat16)
    save(tmp_path / "before", model)
    (tmp_path / "before/model.safetensors").unlink()
    model.save_pretrained(tmp_path / "before", max_shard_size="20KB")
    remove_blocks(str(tmp_path / "before"), tmp_path / "after", ["model.layers.0"])
    found = load(tmp_path / "after", "llama")
    assert found.dtype == torch.bfloat16
    assert len(list((tmp_path / "after").glob("*.safetensors"))) > 2
    assert torch.equal(found.model.layers[1].mlp.up_proj.weight, model.model.layers[2].mlp.up_proj.weight)


def test_card_and_facts_name_the_base(tmp_path: Path) -> None:
    save(tmp_path / "Base", tiny_model("llama"))
    remove_blocks(str(tmp_path / "Base"), tmp_path / "one", ["model.layers.0"])
    remove_blocks(str(tmp_path / "one"), tmp_path / "two", ["model.layers.1"])
    assert "# Base, with 1 of 2 blocks" in (tmp_path / "two/README.md").read_text()
    facts = json.loads((tmp_path / "two/blocks.json").read_text())
    assert facts["base_model"] == str(tmp_path / "Base")
    assert facts["blocks"] == {"before": 2, "after": 1}
    assert AutoTokenizer.from_pretrained(tmp_path / "two")("a")["input_ids"]
    assert ModelSource(str(tmp_path / "two")).card()["base_model"] == "Base"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"count": 1, "groups": ["fr", "fs"]}, "groups: 'fs' is no group of data.demonstrations; groups are fr, sw"),
        ({"count": 3}, "count 3 is not allowed; the model has 3 blocks"),
    ],
)
def test_a_step_is_refused_before_weights_are_read(step: dict, message: str, tmp_path: Path) -> None:
    source = ModelSource(str(save(tmp_path / "model", tiny_model("llama"))))
    with pytest.raises(UserError) as caught:
        RemoveBlocks(**step).check(source, ["fr", "sw"])
    assert message in str(caught.value)

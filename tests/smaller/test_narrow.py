"""Models with fewer heads and units: what plain transformers loads is what the whole model is without them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import ENCODER_DECODER, save_tiny, tiny_batches, tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

from mlprune.errors import UserError
from mlprune.models.loading import ModelSource
from mlprune.pruning import ADMM, FLAP, ContrastiveWanda, Importance, Magnitude, Random, Wanda
from mlprune.smaller import Narrow, Narrowed, narrow

UNITS = {  # family: the layer that reads units, a field of the configuration
    "xglm": ("fc2", "ffn_dim"),
    "gpt2": ("mlp.c_proj", "n_inner"),
    "llama": ("mlp.down_proj", "intermediate_size"),
    "gemma3": ("mlp.down_proj", "intermediate_size"),
    "qwen3": ("mlp.down_proj", "intermediate_size"),
    "opt": ("fc2", "ffn_dim"),
    "gpt_neox": ("mlp.dense_4h_to_h", "intermediate_size"),
    "falcon": ("mlp.dense_4h_to_h", "ffn_hidden_size"),
    "phi": ("mlp.fc2", "intermediate_size"),
    "gptj": ("mlp.fc_out", "n_inner"),
    "mt5": ("wo", "d_ff"),
    "m2m100": ("fc2", "decoder_ffn_dim"),
}
HEADS = [  # family, the layer that reads heads, whether key-value heads go too
    ("llama", "self_attn.o_proj", False),
    ("llama", "self_attn.o_proj", True),
    ("mistral", "self_attn.o_proj", True),
    ("gemma3", "self_attn.o_proj", False),
    ("qwen3", "self_attn.o_proj", True),
    ("phi", "self_attn.dense", False),
    ("mixtral", "self_attn.o_proj", False),
    ("qwen3_moe", "self_attn.o_proj", True),
]
OTHERS = {  # further architectures, with fused or shared parts
    "Phi3": {"num_key_value_heads": 2, "pad_token_id": 0},
    "Qwen2": {"num_key_value_heads": 2},
    "Gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    "Cohere": {"num_key_value_heads": 2},
    "Glm4": {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0},
}
FOLDERS: dict[str, Path] = {}


@pytest.fixture(scope="module", autouse=True)
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("whole")
    FOLDERS.update({family: home / family for family in {*UNITS, *(row[0] for row in HEADS), "bloom"}})
    yield
    FOLDERS.clear()


def whole(family: str) -> Path:
    return FOLDERS[family] if FOLDERS[family].exists() else save_tiny(FOLDERS[family], family)


def load(folder: Path, family: str = "llama") -> PreTrainedModel:
    auto = AutoModelForSeq2SeqLM if family in ENCODER_DECODER else AutoModelForCausalLM
    return auto.from_pretrained(folder).eval()


def narrowed(family: str, target: Path, **settings: Any) -> Narrowed:
    return narrow(str(whole(family)), target, tiny_batches(family, [9, 14, 7]), **settings)


@contextmanager
def zeroed(model: PreTrainedModel, reader: str, kept: dict[str, dict[str, list[int]]], size: int) -> Iterator[None]:
    """The columns of readers that are not kept are zero for a while."""
    before: dict[str, Tensor] = {}
    for path, items in kept.items():
        assert path.endswith(reader)
        module = model.get_submodule(path)
        matrix = module.weight.data if isinstance(module, torch.nn.Linear) else module.weight.data.T
        before[path] = matrix.clone()
        left = items.get("unit", items.get("query", []))
        columns = {place for item in left for place in range(item * size, (item + 1) * size)}
        matrix[:, [place for place in range(matrix.shape[1]) if place not in columns]] = 0
    yield
    for path, matrix in before.items():
        module = model.get_submodule(path)
        (module.weight.data if isinstance(module, torch.nn.Linear) else module.weight.data.T).copy_(matrix)


@torch.no_grad()
def assert_same(found: PreTrainedModel, expected: PreTrainedModel, family: str) -> None:
    for batch in tiny_batches(family, [11, 23], seed=5):
        inputs = {name: value for name, value in batch.items() if name != "group"}
        logits = expected(**inputs).logits
        torch.testing.assert_close(
            found(**inputs).logits, logits, rtol=0, atol=1e-5 * max(1, float(logits.abs().max()))
        )


@pytest.mark.parametrize("family", UNITS)
def test_fewer_units(family: str, tmp_path: Path) -> None:
    found = narrowed(family, tmp_path / "narrow", units=0.3, compensate=False)
    model, (reader, field) = load(tmp_path / "narrow", family), UNITS[family]
    before, after = found.widths[field]
    assert after == before - int(before * 0.3) == getattr(model.config, field)
    assert found.num_parameters[1] < found.num_parameters[0]
    original = load(whole(family), family)
    with zeroed(original, reader, found.kept, 1):
        assert_same(model, original, family)
    assert AutoTokenizer.from_pretrained(tmp_path / "narrow").get_vocab() == tiny_tokenizer().get_vocab()


@pytest.mark.parametrize(("family", "reader", "whole_groups"), HEADS)
def test_fewer_heads(family: str, reader: str, whole_groups: bool, tmp_path: Path) -> None:
    found = narrowed(family, tmp_path / "narrow", heads=2, whole_groups=whole_groups, compensate=False)
    model, original = load(tmp_path / "narrow", family), load(whole(family), family)
    groups = original.config.num_key_value_heads
    left = 1 if whole_groups else 2
    assert model.config.num_attention_heads == 2
    assert model.config.num_key_value_heads == left
    for items in found.kept.values():
        size = 4 // groups
        counts = [sum(query // size == group for query in items["query"]) for group in items["key_value"]]
        assert counts == [2 // left] * left
    with zeroed(original, reader, found.kept, 8):
        assert_same(model, original, family)


@pytest.mark.parametrize("name", OTHERS)
def test_further_architectures(name: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(vocab_size=258, **sizes, **OTHERS[name])
    original = AutoModelForCausalLM.from_config(config).eval()
    original.save_pretrained(tmp_path / "whole")
    tiny_tokenizer().save_pretrained(tmp_path / "whole")
    found = narrow(str(tmp_path / "whole"), tmp_path / "narrow", tiny_batches("llama", [9]), units=0.25, heads=2)
    model = load(tmp_path / "narrow")
    assert (model.config.intermediate_size, model.config.num_attention_heads) == (48, 2)
    units = {path: items for path, items in found.kept.items() if "unit" in items}
    heads = {path: items for path, items in found.kept.items() if "query" in items}
    with zeroed(original, "", units, 1), zeroed(original, "", heads, 8):
        assert_same(model, original, "llama")


def test_untied_heads_and_shards(tmp_path: Path) -> None:
    model = tiny_model("llama", tie_word_embeddings=False)
    model.save_pretrained(tmp_path / "whole", max_shard_size="60KB")
    tiny_tokenizer().save_pretrained(tmp_path / "whole")
    found = narrow(str(tmp_path / "whole"), tmp_path / "narrow", tiny_batches("llama", [9]), units=0.5)
    assert len(list((tmp_path / "narrow").glob("*.safetensors"))) > 1
    with zeroed(model, "down_proj", found.kept, 1):
        assert_same(load(tmp_path / "narrow"), model, "llama")


@torch.no_grad()
def outputs_at(model: PreTrainedModel, path: str, family: str) -> tuple[Tensor, Tensor]:
    """What a layer reads and gives over the calibration prompts."""
    seen: list[tuple[Tensor, Tensor]] = []
    module = model.get_submodule(path)
    handle = module.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    for batch in tiny_batches(family, [9, 14, 7]):
        model(batch["input_ids"])
    handle.remove()
    return torch.cat([x.flatten(0, 1) for x, _ in seen]), torch.cat([y.flatten(0, 1) for _, y in seen])


@pytest.mark.parametrize(
    ("family", "path"), [("opt", "model.decoder.layers.0.fc2"), ("llama", "model.layers.0.mlp.down_proj")]
)
def test_biases_take_over_the_mean_of_what_goes(family: str, path: str, tmp_path: Path) -> None:
    """In the first block, which sees the same with and without: the mean output stays what it was."""
    found = narrowed(family, tmp_path / "narrow", units=0.5, add_biases=True)
    assert len(found.compensated) == 3
    model = load(tmp_path / "narrow")
    _, expected = outputs_at(load(whole(family)), path, family)
    _, given = outputs_at(model, path, family)
    torch.testing.assert_close(given.mean(0), expected.mean(0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(given, expected, atol=1e-3)
    if family == "llama":
        assert model.config.mlp_bias is True
        assert not model.get_submodule("model.layers.0.mlp.up_proj").bias.any()
        assert narrowed(family, tmp_path / "without", units=0.5).compensated == []


def test_no_bias_is_added_where_the_configuration_has_no_switch(tmp_path: Path) -> None:
    assert narrowed("mistral", tmp_path / "narrow", units=0.5, add_biases=True).compensated == []


@pytest.mark.parametrize(
    "importance", [FLAP(), Wanda(), Magnitude(), Random(), Wanda(pool="worst"), ContrastiveWanda("fr", "en")]
)
def test_the_highest_scores_stay(importance: Importance, tmp_path: Path) -> None:
    """Units are planted: of those that read something, half are ten times as loud, in French alone."""
    model = tiny_model("opt")
    loud = torch.arange(0, 64, 2)
    for block in model.model.decoder.layers:
        block.fc1.weight.data[loud] *= 10
        block.fc2.weight.data[:, loud] *= 10
    model.save_pretrained(tmp_path / "whole")
    tiny_tokenizer().save_pretrained(tmp_path / "whole")
    batches = [*tiny_batches("opt", [9, 8], 1, "fr"), *tiny_batches("opt", [7, 9], 2, "en")]
    found = narrow(str(tmp_path / "whole"), tmp_path / "narrow", batches, units=0.5, importance=importance)
    share = [len(set(items["unit"]) & set(loud.tolist())) / 32 for items in found.kept.values()]
    if isinstance(importance, Random):
        assert max(share) < 0.9
    else:
        assert min(share) > 0.9


def test_groups_decide(tmp_path: Path) -> None:
    french, english = tiny_batches("llama", [9, 8], 1, "fr"), tiny_batches("llama", [7, 9], 2, "en")
    folder = str(whole("llama"))
    found = narrow(folder, tmp_path / "a", [*french, *english], units=0.5, importance=FLAP(group="fr"))
    assert found.kept == narrow(folder, tmp_path / "b", french, units=0.5).kept
    assert found.kept != narrow(folder, tmp_path / "c", [*french, *english], units=0.5).kept


def test_padding_and_batching_do_not_matter(tmp_path: Path) -> None:
    rows = tiny_batches("llama", [9, 5])
    ids = torch.zeros(2, 9, dtype=torch.int64)
    ids[0], ids[1, 4:] = rows[0]["input_ids"], rows[1]["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    together = narrow(str(whole("llama")), tmp_path / "a", [{"input_ids": ids, "attention_mask": mask}], units=0.3)
    assert together.kept == narrow(str(whole("llama")), tmp_path / "b", rows, units=0.3).kept


def test_files_beside_the_weights(tmp_path: Path) -> None:
    found = narrowed("llama", tmp_path / "narrow", units=0.3, multiple_of=16)
    assert found.widths == {"intermediate_size": (64, 48)}
    facts = json.loads((tmp_path / "narrow/narrow.json").read_text())
    assert facts["base_model"] == str(whole("llama"))
    assert facts["widths"] == {"intermediate_size": {"before": 64, "after": 48}}
    assert facts["importance"] == "FLAP"
    assert "intermediate_size 48 of 64" in (tmp_path / "narrow/README.md").read_text()
    again = narrow(str(tmp_path / "narrow"), tmp_path / "again", tiny_batches("llama", [9]), heads=2)
    assert again.widths["num_attention_heads"] == (4, 2)
    assert json.loads((tmp_path / "again/narrow.json").read_text())["base_model"] == str(whole("llama"))


REFUSED = {
    "units 1.0 is not allowed": ("llama", {"units": 1.0}),
    "leave nothing out": ("llama", {}),
    "leaves 64 of 64": ("llama", {"units": 0.01}),
    "heads 1 of 4 is not allowed: each of 2 key-value heads loses as many; give one of 2, or whole_groups": (
        "llama",
        {"heads": 1},
    ),
    "heads 3 of 4 is not allowed: a key-value head has 2 query heads; give one of 2": (
        "llama",
        {"heads": 3, "whole_groups": True},
    ),
    "with num_attention_heads 3, num_key_value_heads 3: The hidden size (32) is not a multiple": None,
    "BloomForCausalLM: its configuration names no width of feed-forward layers": ("bloom", {"units": 0.3}),
    "BloomForCausalLM: in its configuration the size of a head follows": ("bloom", {"heads": 1}),
    "XGLMForCausalLM: in its configuration the size of a head follows": ("xglm", {"heads": 1}),
    "FalconForCausalLM: in its configuration the size of a head follows": ("falcon", {"heads": 1}),
    "M2M100ForConditionalGeneration: in its configuration the size of a head follows": ("m2m100", {"heads": 1}),
    "mlp.experts.gate_up_proj' is of experts": ("mixtral", {"units": 0.3}),
    "MT5ForConditionalGeneration uses its heads or units in a way that is not known": ("mt5", {"heads": 1}),
    "ADMM gives heads and units no scores": ("llama", {"units": 0.3, "importance": ADMM()}),
    "ContrastiveWanda needs the group 'mt'": ("llama", {"units": 0.3, "importance": ContrastiveWanda()}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message: str, tmp_path: Path) -> None:
    if REFUSED[message] is None:
        tiny_model("llama", num_key_value_heads=4).save_pretrained(tmp_path / "ungrouped")
        folder, settings = tmp_path / "ungrouped", {"heads": 1}
        family = "llama"
    else:
        family, settings = REFUSED[message]
        folder = whole(family)
    with pytest.raises(UserError) as caught:
        narrow(str(folder), tmp_path / "narrow", tiny_batches(family, [9]), **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "narrow").exists()


def test_a_pruned_model_is_refused(tmp_path: Path) -> None:
    """What mlprune.json says of its layers would be wrong of a narrower one."""
    folder = save_tiny(tmp_path / "pruned")
    (folder / "mlprune.json").write_text(json.dumps({"base_model": "base", "sparsity": 0.5, "layers": {}}))
    step = Narrow(units=0.5, importance=Magnitude(), limit=0)
    for attempt in (
        lambda: narrow(str(folder), tmp_path / "narrow", units=0.5, importance=Magnitude()),
        lambda: step.check(ModelSource(str(folder))),
    ):
        with pytest.raises(UserError, match="is pruned already; leave out heads and units first, then prune"):
            attempt()
    assert not (tmp_path / "narrow").exists()


def test_there_must_be_prompts_where_they_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scored on calibration batches; none were given"):
        narrow(str(whole("llama")), tmp_path / "narrow", units=0.3)
    assert narrow(str(whole("llama")), tmp_path / "magnitude", units=0.3, importance=Magnitude()).kept

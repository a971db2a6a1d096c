"""What loads is what was saved: no weight is drawn at random, in memory or streamed."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from altered import Tensors, altered, having, prefixed, without
from safetensors.torch import save_file
from tiny import save_tiny, tiny_batches, tiny_model, tiny_tokenizer

from mlprune.errors import UserError
from mlprune.models.loading import ModelSource
from mlprune.models.streamed import StreamedModel
from mlprune.pruning import prune_streaming

FORWARD = {"input_ids": torch.tensor([[5, 6, 7, 8]])}


def load(folder: Path) -> Tensors:
    return ModelSource(str(folder)).load_model().state_dict()


def stream(folder: Path) -> None:
    prune_streaming(folder, folder.with_name("pruned"), tiny_batches("llama", [5]))


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if (record.name, record.levelname) == ("mlprune", "WARNING")]


# what is done to a checkpoint, settings of its config.json, and words of the line it is refused with
LACKING: dict[str, tuple[Callable[[Tensors], Tensors], dict[str, Any], str]] = {
    "an MLP is missing": (without(".layers.1.mlp"), {}, r"lacks.*model\.layers\.1\.mlp"),
    "the head is missing": (without("lm_head"), {}, r"lacks.*lm_head\.weight"),
    "the embedding is missing": (without("embed_tokens"), {}, r"lacks.*embed_tokens\.weight"),
    "the final norm is missing": (without("model.norm"), {}, r"lacks.*model\.norm\.weight"),
    "a layer more in config.json": (dict, {"num_hidden_layers": 4}, r"lacks.*model\.layers\.3"),
    "a layer fewer in config.json": (dict, {"num_hidden_layers": 2}, r"model\.layers\.2.*has no place"),
    "a classifier": (
        lambda tensors: having(score__weight=torch.zeros(2, 32))(without("lm_head")(tensors)),
        {"architectures": ["LlamaForSequenceClassification"]},
        r"lacks.*lm_head\.weight",
    ),
    "another name for everything": (prefixed("x."), {}, r"lacks.*model\.embed_tokens\.weight"),
    "another width": (dict, {"intermediate_size": 48}, r"shape.*model\.layers\.0\.mlp"),
    "another vocabulary": (dict, {"vocab_size": 300}, r"shape.*embed_tokens\.weight \(258, 32\) for \(300, 32\)"),
    "another number of key heads": (
        dict,
        {"num_key_value_heads": 4},
        r"shape.*k_proj\.weight \(16, 32\) for \(32, 32\)",
    ),
    "a bias the model does not have": (
        having(model__layers__0__mlp__up_proj__bias=torch.ones(64)),
        {},
        r"up_proj\.bias.*has no place",
    ),
    "a norm the model does not have": (
        having(model__layers__0__self_attn__q_norm__weight=torch.ones(8)),
        {},
        r"q_norm\.weight.*has no place",
    ),
    "something unknown": (having(model__surprise__weight=torch.ones(8)), {}, r"surprise\.weight.*has no place"),
}
for dtype in (torch.int8, torch.uint8, torch.int32, torch.bool):
    weight = {"model.layers.1.mlp.up_proj.weight": torch.ones(64, 32, dtype=dtype)}
    LACKING[f"weights of {dtype}"] = (
        lambda tensors, weight=weight: tensors | weight,
        {},
        r"unscaled integers.*up_proj\.weight \(u?(int|bool)",
    )
READERS = {"memory": load, "streaming": stream}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("case", LACKING)
def test_weights_that_do_not_fit_are_refused(case: str, reader: Callable[[Path], Any], tmp_path: Path) -> None:
    change, settings, words = LACKING[case]
    folder = altered(tmp_path / "dense", change, **settings)
    with pytest.raises(UserError, match=words) as error:
        reader(folder)
    assert "\n" not in str(error.value)
    assert "streaming: false" not in str(error.value)
    assert not (tmp_path / "pruned").exists()


def test_both_readers_refuse_in_the_same_words(tmp_path: Path) -> None:
    folder = altered(tmp_path / "dense", without(".layers.1.mlp"), intermediate_size=48)
    lines = []
    for reader in READERS.values():
        with pytest.raises(UserError) as error:
            reader(folder)
        lines.append(str(error.value).replace("model.name ", ""))
    assert lines[0] == lines[1]


SCALES = having(**{f"model__layers__{i}__mlp__up_proj__weight_scale": torch.ones(1) for i in range(3)})
QUANTIZED: dict[str, tuple[dict[str, Any], str]] = {
    "no reader for it": ({"quant_method": "modelopt", "quant_algo": "FP8"}, r"config\.json.*quantized by 'modelopt'"),
    "a name that is not one": ({"quant_method": "fp-8"}, r"config\.json.*quantized by 'fp-8'"),
    "bitsandbytes of no width": ({"quant_method": "bitsandbytes"}, r"config\.json.*quantized by 'bitsandbytes'"),
    "scales of another format": ({"quant_method": "fp8", "weight_block_size": [32, 32]}, r"weight_scale|quantized"),
    "no method": ({"bits": 4}, r"quant_method|quantized"),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("case", QUANTIZED)
def test_scales_of_quantized_weights_are_not_dropped(case: str, reader: Callable[[Path], Any], tmp_path: Path) -> None:
    settings, words = QUANTIZED[case]

    def quantized(tensors: Tensors) -> Tensors:
        narrow = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items() if "up_proj" in name}
        return SCALES(tensors | narrow)

    with pytest.raises(UserError, match=words) as error:
        reader(altered(tmp_path / "dense", quantized, quantization_config=settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", ["one", [1], None, {}])
def test_an_odd_number_of_prediction_layers(number: object, tmp_path: Path) -> None:
    extra = having(model__layers__3__eh_proj__weight=torch.ones(32, 64))
    with pytest.raises(UserError, match=r"eh_proj\.weight.*has no place"):
        load(altered(tmp_path / "dense", extra, num_nextn_predict_layers=number))


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_no_more_are_missing_than_there_are(family: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lacks") as error:
        load(altered(tmp_path / "dense", prefixed("x."), family))
    missing, total = re.search(r"lacks (\d+) of (\d+) weights", str(error.value)).groups()
    assert missing == total


def test_many_missing_weights_are_counted(tmp_path: Path) -> None:
    folder = altered(tmp_path / "dense", without(".layers."))
    with pytest.raises(UserError, match=r"lacks 27 of 30 weights") as error:
        load(folder)
    assert len(str(error.value)) < 500


WRAPPERS = ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod.", "_orig_mod.module.", "_forward_module."]


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_prefixes_of_wrappers_are_taken_off_and_said(prefix: str, tmp_path: Path, caplog) -> None:
    folder = altered(tmp_path / "dense", prefixed(prefix))
    with caplog.at_level(logging.INFO, "mlprune"):
        loaded = load(folder)
    assert [record.message for record in caplog.records if prefix in record.message] != []
    original = tiny_model("llama").state_dict()
    assert loaded.keys() == original.keys()
    assert all(torch.equal(loaded[name], original[name]) for name in original)


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_a_pruned_checkpoint_has_no_prefix(prefix: str, tmp_path: Path) -> None:
    folder = altered(tmp_path / "dense", prefixed(prefix))
    stream(folder)
    ModelSource(str(folder)).load_model().save_pretrained(tmp_path / "memory")
    streamed, memory = load(tmp_path / "pruned"), load(tmp_path / "memory")
    assert streamed.keys() == memory.keys()
    assert torch.equal(streamed["lm_head.weight"], memory["lm_head.weight"])


def test_a_wrapper_inside_is_taken_off(tmp_path: Path) -> None:
    """torch.compile on single blocks."""
    change = lambda tensors: {name.replace(".mlp.", "._orig_mod.mlp."): tensor for name, tensor in tensors.items()}  # noqa: E731
    loaded, original = load(altered(tmp_path / "dense", change)), tiny_model("llama").state_dict()
    assert all(torch.equal(loaded[name], original[name]) for name in original)


def test_two_weights_of_one_name_are_refused(tmp_path: Path) -> None:
    extra = {"module.lm_head.weight": torch.zeros(258, 32)}
    with pytest.raises(UserError, match=r"module\.lm_head\.weight"):
        load(altered(tmp_path / "dense", lambda tensors: tensors | extra))


# -- parts that a run does not use ------------------------------------------------------------------------------------

UNUSED = {
    "a vision tower": having(vision_tower__layers__0__mlp__weight=torch.ones(4, 4)),
    "a projector": having(multi_modal_projector__linear_1__weight=torch.ones(4, 4)),
    "a vision model in the base": having(model__visual__blocks__0__attn__weight=torch.ones(4, 4)),
    "an audio tower": having(audio_tower__conv1__weight=torch.ones(4, 4)),
    "multi-token prediction": having(mtp__layers__0__mlp__up_proj__weight=torch.ones(4, 4)),
    "a second head": having(score__weight=torch.zeros(2, 32)),
    "a value head": having(v_head__summary__weight=torch.zeros(1, 32), v_head__summary__bias=torch.zeros(1)),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("part", UNUSED)
def test_parts_that_are_not_used_are_one_warning(
    part: str, reader: Callable[[Path], Any], tmp_path: Path, caplog
) -> None:
    folder = altered(tmp_path / "dense", UNUSED[part])
    reader(folder)
    assert len(warned(caplog)) == 1
    assert "not used" in warned(caplog)[0]


def test_prediction_layers_numbered_after_the_last_are_not_used(tmp_path: Path, caplog) -> None:
    extra = {"model.layers.3.eh_proj.weight": torch.ones(32, 64), "model.layers.3.enorm.weight": torch.ones(32)}
    folder = altered(tmp_path / "dense", lambda tensors: tensors | extra, num_nextn_predict_layers=1)
    load(folder)
    assert len(warned(caplog)) == 1
    assert "not used" in warned(caplog)[0]


# -- what must keep loading -------------------------------------------------------------------------------------------


def bare(family: str) -> Callable[[Tensors], Tensors]:
    prefix = tiny_model(family).base_model_prefix + "."
    return lambda tensors: {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("family", ["gpt2", "bloom"])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_names_without_the_base_prefix(family: str, reader: Callable[[Path], Any], tmp_path: Path) -> None:
    folder = altered(tmp_path / "dense", bare(family), family)
    reader(folder)
    loaded, original = load(folder), tiny_model(family).state_dict()
    assert all(torch.equal(loaded[name], original[name]) for name in original)


@pytest.mark.parametrize("family", ["gpt2", "bloom", "gemma3", "xglm", "mt5", "m2m100"])
def test_tied_weights_stored_once(family: str, tmp_path: Path) -> None:
    save_tiny(tmp_path / "dense", family)
    loaded, original = load(tmp_path / "dense"), tiny_model(family).state_dict()
    assert all(torch.equal(loaded[name], original[name]) for name in original)


def test_a_tied_embedding_stored_as_the_head_only(tmp_path: Path) -> None:
    rename = lambda tensors: {("lm_head.weight" if "wte" in name else name): t for name, t in tensors.items()}  # noqa: E731
    folder = altered(tmp_path / "dense", rename, "gpt2")
    original = tiny_model("gpt2").state_dict()
    assert torch.equal(load(folder)["transformer.wte.weight"], original["transformer.wte.weight"])
    prune_streaming(folder, tmp_path / "pruned", tiny_batches("gpt2", [5]))
    assert torch.equal(load(tmp_path / "pruned")["transformer.wte.weight"], original["transformer.wte.weight"])


def test_buffers_of_older_versions(tmp_path: Path, caplog) -> None:
    rotary = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(3)}
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 8, 8) for i in range(3)}
    masks |= {f"transformer.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(3)}
    load(altered(tmp_path / "llama", lambda tensors: tensors | rotary))
    load(altered(tmp_path / "gpt2", lambda tensors: tensors | masks, "gpt2"))
    assert warned(caplog) == []


def test_a_text_model_inside_a_multimodal_checkpoint(tmp_path: Path) -> None:
    """The hub's Gemma 3 and Qwen 2.5 VL files hold a vision tower, and the text model under names of its own."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    text = transformers.Gemma3TextConfig(
        vocab_size=258, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_hidden_layers=2,
        intermediate_size=64, layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path / "dense")
    tiny_tokenizer().save_pretrained(tmp_path / "dense")
    loaded = ModelSource(str(tmp_path / "dense")).load_model()
    assert torch.equal(loaded(**FORWARD).logits, model(**FORWARD).logits)
    stream(tmp_path / "dense")


def test_a_text_model_taken_out_of_a_multimodal_checkpoint(tmp_path: Path, caplog) -> None:
    """transformers has a class for the text alone, which looks for its weights among the others."""
    sizes = {"num_key_value_heads": 2, "head_dim": 8, "linear_num_value_heads": 4, "linear_num_key_heads": 2}
    sizes |= {
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    }
    text = {"vocab_size": 258, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2} | sizes
    vision = {"hidden_size": 16, "intermediate_size": 16, "depth": 1, "num_heads": 2, "out_hidden_size": 32}
    config = transformers.Qwen3_5Config(text_config=text | {"intermediate_size": 64}, vision_config=vision)
    model = transformers.Qwen3_5ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path / "dense")
    loaded = ModelSource(str(tmp_path / "dense")).load_model()
    assert type(loaded) is transformers.Qwen3_5ForCausalLM
    assert torch.equal(loaded(**FORWARD).logits, model(**FORWARD).logits)
    assert len(warned(caplog)) == 1
    assert "model.visual" in warned(caplog)[0]


REMOTE = """
from transformers import LlamaConfig, LlamaForCausalLM

class Config(LlamaConfig):
    model_type = "mine"

class Model(LlamaForCausalLM):
    config_class = Config
"""


def test_a_model_with_code_of_its_own_that_is_trusted(tmp_path: Path) -> None:
    classes = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    folder = altered(tmp_path / "dense", model_type="mine", auto_map=classes)
    (folder / "mine.py").write_text(REMOTE)
    source = ModelSource(str(folder), trust_remote_code=True)
    assert torch.equal(source.load_model()(**FORWARD).logits, tiny_model("llama")(**FORWARD).logits)
    assert type(StreamedModel(source.checkpoint).model).__name__ == "Model"
    altered(tmp_path / "lacking", without("lm_head"), model_type="mine", auto_map=classes)
    (tmp_path / "lacking/mine.py").write_text(REMOTE)
    with pytest.raises(UserError, match=r"lacks 1 of 30 weights of the model: lm_head\.weight"):
        ModelSource(str(tmp_path / "lacking"), trust_remote_code=True).load_model()


def test_a_repository_of_the_hub_is_checked_like_a_folder(tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--llama"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    folder = altered(repository / "snapshots" / ("0" * 40))
    original = tiny_model("llama").state_dict()
    source = ModelSource("someone/llama")
    assert source.load_tokenizer()("Un.")["input_ids"] == tiny_tokenizer()("Un.")["input_ids"]
    assert torch.equal(source.load_model().state_dict()["lm_head.weight"], original["lm_head.weight"])
    altered(folder, without("lm_head"))
    with pytest.raises(UserError, match=r"lacks.*lm_head\.weight"):
        ModelSource("someone/llama").load_model()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="'someone/llama' has pickled weights only"):
        ModelSource("someone/llama").load_model()


def test_a_run_warns_once(mlprune, tmp_path: Path, caplog) -> None:
    from tiny_runs import write_config

    config = write_config(tmp_path, altered(tmp_path / "dense", UNUSED["a vision tower"]))
    status, _, err = mlprune("validate", "--config", config)
    assert status == 0, err
    assert len([message for message in warned(caplog) if "not used" in message]) == 1


def test_a_tied_head_that_differs_in_the_file_is_what_was_saved(tmp_path: Path) -> None:
    head = torch.randn(258, 32, generator=torch.Generator().manual_seed(1))
    folder = altered(tmp_path / "dense", lambda tensors: tensors | {"lm_head.weight": head}, "gpt2")
    assert torch.equal(load(folder)["lm_head.weight"], head)
    prune_streaming(folder, tmp_path / "pruned", tiny_batches("gpt2", [5]))
    after = load(tmp_path / "pruned")
    assert torch.equal(after["lm_head.weight"], head)
    assert torch.equal(after["transformer.wte.weight"], tiny_model("gpt2").state_dict()["transformer.wte.weight"])


def test_the_command_line_refuses_in_one_line(mlprune, tmp_path: Path) -> None:
    from tiny_runs import write_config

    config = write_config(tmp_path, altered(tmp_path / "dense", without("lm_head")))
    for flags in (("validate",), ("validate", "--pruning.streaming", "true"), ("test",)):
        status, _, err = mlprune(flags[0], "--config", config, *flags[1:])
        assert status == 2
        assert err.startswith("error: ")
        assert "lm_head.weight" in err
        assert not list(tmp_path.glob("lightning_logs/*/pruned"))


def test_weights_are_not_read_before_they_are_known_to_fit(tmp_path: Path, monkeypatch) -> None:
    """A refusal costs no memory: only headers are read."""
    folder = altered(tmp_path / "dense", without("lm_head"))
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda self: None)
    opened: list[str] = []
    import transformers.modeling_utils as modeling

    monkeypatch.setattr(modeling, "safe_open", lambda *args, **options: opened.append(str(args[0])))
    with pytest.raises(UserError, match="lm_head"):
        load(folder)
    assert opened == []


def test_shards_are_checked_like_one_file(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "dense", max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(tmp_path / "dense")
    load(tmp_path / "dense")
    shard = sorted((tmp_path / "dense").glob("model-*.safetensors"))[0]
    save_file({"x": torch.ones(1)}, shard, {"format": "pt"})
    for reader in READERS.values():
        with pytest.raises(UserError, match=r"model-00001-of.*(lacks|has no tensor)|lacks.*"):
            reader(tmp_path / "dense")

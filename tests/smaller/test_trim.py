"""Trimmed models of every family: the logits of kept tokens are those of the original, and nothing else is lost."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from every_family import small_model
from tiny import ENCODER_DECODER, save_tiny, tiny_model
from tokenizer_kinds import CAUSAL, TRANSLATING
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.models.language_tokens import language_ids
from mlprune.models.loading import ModelSource
from mlprune.smaller import Trimmed, remove_blocks, trim_vocabulary

TEXTS = {lang: [row["text"] for row in Bundled("parallel").rows(lang)[:10]] for lang in ("fr", "sw")}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {  # tied and untied heads, biases, positions counted from the pad
    "llama": ("Llama 3", {}),
    "llama tied": ("Llama 2", {"tie_word_embeddings": True}),
    "gemma3": ("Gemma", {"tie_word_embeddings": True}),
    "gpt2": ("GPT-2", {}),
    "gptj": ("GPT-2", {}),
    "phi": ("GPT-2", {}),
    "bloom": ("BLOOM", {}),
    "xglm": ("XGLM", {}),
    "qwen3_moe": ("Qwen", {}),
    "mt5": ("T5", {}),
    "m2m100": ("M2M-100, slow", {}),
}


def save(folder: Path, name: str, **changes: Any) -> Path:
    kind, settings = FAMILIES[name]
    tokenizer = {**CAUSAL, **TRANSLATING}[kind].make()
    rows = 5 + max({*tokenizer.get_vocab().values(), *language_ids(tokenizer)})  # with rows of no token, as many have
    special = {key: getattr(tokenizer, key) for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
    model = tiny_model(name.split()[0], vocab_size=rows, **(special | settings | changes))
    model.generation_config = GenerationConfig(
        **special, bad_words_ids=[[7, 9]], suppress_tokens=[8], decoder_start_token_id=special["pad_token_id"]
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trim(folder: Path, target: Path) -> Trimmed:
    return trim_vocabulary(str(folder), target, TEXTS)


@torch.no_grad()
def logits(folder: Path, ids: list[int]) -> torch.Tensor:
    """Logits by plain transformers, (T, V)."""
    given = torch.tensor([ids])
    if any(family in str(folder.parent) for family in ENCODER_DECODER):
        return AutoModelForSeq2SeqLM.from_pretrained(folder)(input_ids=given, decoder_input_ids=given).logits[0]
    return AutoModelForCausalLM.from_pretrained(folder)(given).logits[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_of_kept_tokens_are_the_originals(name: str, tmp_path: Path) -> None:
    root = tmp_path / name.split()[0]
    before, after = save(root / "before", name), root / "after"
    trimmed = trim(before, after)
    new = {old: place for place, old in enumerate(trimmed.kept)}
    assert len(new) < trimmed.num_tokens
    for text in (TEXTS["fr"][0], TEXTS["sw"][-1]):
        ids, own = (AutoTokenizer.from_pretrained(folder)(text)["input_ids"] for folder in (before, after))
        assert own == [new[i] for i in ids]
        expected = logits(before, ids)[:, trimmed.kept]
        assert torch.allclose(logits(after, own), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
    assert trimmed.num_parameters[1] < trimmed.num_parameters[0]
    assert sum(file.stat().st_size for file in after.glob("*.safetensors")) < trimmed.num_bytes[1] + 100_000


def test_every_id_is_the_same_token(tmp_path: Path) -> None:
    before, after = save(tmp_path / "before", "gpt2"), tmp_path / "after"
    new = {old: place for place, old in enumerate(trim(before, after).kept)}
    for file in ("config.json", "generation_config.json"):
        old, own = (json.loads((folder / file).read_text()) for folder in (before, after))
        for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
            assert own[key] == new[old[key]]
    assert own["bad_words_ids"] == [[new[7], new[9]]]
    assert own["suppress_tokens"] == [new[8]]


def test_settings_that_contradict_each_other_are_kept(tmp_path: Path) -> None:
    """Published models have them; transformers reads them with a warning, and does not write them."""
    before = save(tmp_path / "before", "gpt2")
    given = {"do_sample": False, "temperature": 0.6, "eos_token_id": [2, 9], "sequence_bias": [[[9, 3], -1.5]]}
    (before / "generation_config.json").write_text(json.dumps(given))
    new = {old: place for place, old in enumerate(trim(before, tmp_path / "after").kept)}
    expected = given | {"eos_token_id": [new[2], new[9]], "sequence_bias": [[[new[9], new[3]], -1.5]]}
    assert json.loads((tmp_path / "after" / "generation_config.json").read_text()) == expected


HIGH: dict[str, dict[str, int]] = {  # by class: what its configuration has besides, as places from the end
    "LlamaForCausalLM": {"pad_token_id": 1},
    "CodeGenForCausalLM": {},  # has no padding
    "MarianMTModel": {"pad_token_id": 1, "decoder_start_token_id": 1, "forced_eos_token_id": 2},
    "MBartForConditionalGeneration": {"pad_token_id": 1},
    "XLMWithLMHeadModel": {"pad_index": 1, "bos_index": 3, "eos_index": 2, "mask_index": 3, "unk_index": 1},
}


@torch.no_grad()
@pytest.mark.parametrize("name", HIGH)
def test_special_tokens_behind_the_vocabulary(name: str, tmp_path: Path) -> None:
    """Only these are kept of the last tokens, and each has its new id wherever it stands."""
    tokenizer = CAUSAL["Qwen"].make()
    tokenizer.add_special_tokens({"bos_token": "<first>", "eos_token": "<last>", "pad_token": "<none>"})
    size = len(tokenizer)
    named = {key: size - place for key, place in {"bos_token_id": 3, "eos_token_id": 2, **HIGH[name]}.items()}
    sizes = {"vocab_size": size, **({"decoder_vocab_size": size} if name == "MarianMTModel" else {})}
    small_model(name, **sizes, **named).save_pretrained(tmp_path / "before")
    tokenizer.save_pretrained(tmp_path / "before")
    trimmed = trim(tmp_path / "before", tmp_path / "after")
    assert len(trimmed.kept) < size - 20
    configs = [json.loads((tmp_path / home / "config.json").read_text()) for home in ("before", "after")]
    found = {key: (configs[0][key], trimmed.kept[configs[1][key]]) for key in named if key in configs[0]}
    assert found
    assert all(before == after for before, after in found.values())
    ids = trimmed.kept[-12:]
    whole, part = (getattr(transformers, name).from_pretrained(tmp_path / home) for home in ("before", "after"))
    logits = []
    for model, given in ((whole, ids), (part, range(len(trimmed.kept) - 12, len(trimmed.kept)))):
        more = {"decoder_input_ids": torch.tensor([list(given)])} if model.config.is_encoder_decoder else {}
        logits.append(model(input_ids=torch.tensor([list(given)]), **more).logits)
    assert torch.allclose(logits[0][..., trimmed.kept], logits[1], rtol=1e-6, atol=1e-6)


UNKNOWN = {  # what depends on the number of tokens besides the tables
    "CpmAntForCausalLM": "'cpmant.input_embedding.weight'",
    "FSMTForConditionalGeneration": "'model.decoder.output_projection.weight'",
    "ReformerModelWithLMHead": "'lm_head.bias'",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_parts_that_depend_on_the_number_of_tokens_are_refused(name: str, tmp_path: Path) -> None:
    small_model(name).save_pretrained(tmp_path / "before")
    CAUSAL["GPT-2"].make().save_pretrained(tmp_path / "before")
    with pytest.raises(UserError) as caught:
        trim(tmp_path / "before", tmp_path / "after")
    assert str(caught.value).startswith(f"{name}: how {UNKNOWN[name]} (")
    assert not (tmp_path / "after").exists()


def test_ids_of_defaults_are_written(tmp_path: Path) -> None:
    """What config.json leaves out, since its class implies it, is renumbered too."""
    before = save(tmp_path / "before", "llama")
    content = json.loads((before / "config.json").read_text())
    for key in ("bos_token_id", "eos_token_id"):
        del content[key]  # Llama's own are 1 and 2
    (before / "config.json").write_text(json.dumps(content))
    trimmed = trim(before, tmp_path / "after")
    config = json.loads((tmp_path / "after" / "config.json").read_text())
    assert [trimmed.kept[config[key]] for key in ("bos_token_id", "eos_token_id")] == [1, 2]


def test_shards_are_cut_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = save(tmp_path / "before", "llama")
    model = AutoModelForCausalLM.from_pretrained(before)
    (before / "model.safetensors").unlink()
    model.save_pretrained(before, max_shard_size="40KB")
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)  # the model is never loaded
    trim(before, tmp_path / "after")
    monkeypatch.undo()
    files = [sorted(file.name for file in folder.glob("*.safetensors")) for folder in (before, tmp_path / "after")]
    assert files[0] == files[1]
    assert len(files[0]) > 3
    before_index, index = (
        json.loads((folder / "model.safetensors.index.json").read_text()) for folder in (before, tmp_path / "after")
    )
    assert index["weight_map"] == before_index["weight_map"]
    assert index["metadata"]["total_size"] < before_index["metadata"]["total_size"]
    assert "total_parameters" in before_index["metadata"]  # which would be wrong of the smaller model
    assert "total_parameters" not in index["metadata"]
    cut, whole = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tmp_path / "after", before))
    assert torch.equal(cut.model.layers[2].mlp.up_proj.weight, whole.model.layers[2].mlp.up_proj.weight)


def test_pads_that_positions_are_counted_from_stay(tmp_path: Path) -> None:
    before = save(tmp_path / "m2m100" / "before", "m2m100", pad_token_id=9)
    trimmed = trim(before, tmp_path / "m2m100" / "after")
    assert trimmed.kept[:10] == list(range(10))


def test_what_a_chat_and_code_need_is_copied(tmp_path: Path) -> None:
    before = save(tmp_path / "before", "llama")
    (before / "NOTICE").write_text("terms\n")
    (before / "README.md").write_text("---\nlicense: gemma\n---\n")
    (before / "chat_template.jinja").write_text("and the {{ messages[-1]['content'] }}")
    tokenizer = AutoTokenizer.from_pretrained(before)
    words = set(tokenizer("and the Yes?", add_special_tokens=False)["input_ids"])
    assert words - {index for own in TEXTS.values() for text in own for index in tokenizer(text)["input_ids"]}
    assert words <= set(trim(before, tmp_path / "after").kept)
    after = tmp_path / "after"
    assert (after / "NOTICE").read_text() == "terms\n"
    assert "license: gemma" in (after / "README.md").read_text()
    assert (after / "chat_template.jinja").read_text() == (before / "chat_template.jinja").read_text()
    assert json.loads((after / "trim.json").read_text())["tokens"]["after"] == len(
        ModelSource(str(after)).load_tokenizer()
    )


def test_all_templates_of_a_chat_count(tmp_path: Path) -> None:
    before = save(tmp_path / "before", "llama")
    (before / "chat_template.jinja").write_text("{% if tools %}Tools: {% endif %}{{ messages[-1]['content'] }}")
    (before / "additional_chat_templates").mkdir()
    (before / "additional_chat_templates" / "rag.jinja").write_text("Sources: {{ messages[-1]['content'] }}")
    texts = trim(before, tmp_path / "after").usage["chat template"]
    assert texts.num_texts == 3 * 2  # two last turns: without tools, with tools, by the other template
    before_after = [AutoTokenizer.from_pretrained(tmp_path / home).chat_template for home in ("before", "after")]
    assert before_after[0] == before_after[1]
    remove_blocks(str(tmp_path / "after"), tmp_path / "shallower", ["model.layers.0"])
    assert AutoTokenizer.from_pretrained(tmp_path / "shallower").chat_template == before_after[0]


def test_refusals(tmp_path: Path) -> None:
    before = save(tmp_path / "before", "gpt2")
    for texts, told in (({"fr": []}, "there is no text"), ({"fr": [""]}, "there is no text")):
        with pytest.raises(UserError, match=told):
            trim_vocabulary(str(before), tmp_path / "after", texts)
    config = json.loads((before / "config.json").read_text())
    (before / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(UserError, match=r"holds quantized weights|quantiz"):
        trim_vocabulary(str(before), tmp_path / "after", TEXTS)
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


def test_nothing_to_trim_is_said(tmp_path: Path) -> None:
    before = save_tiny(tmp_path / "before")  # a tokenizer of bytes
    with pytest.raises(UserError, match="the texts need all 258 tokens; there is nothing to trim"):
        trim_vocabulary(str(before), tmp_path / "after", TEXTS)

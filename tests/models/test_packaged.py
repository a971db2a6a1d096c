"""Converting a packaged model: what is checked before, what is left where it fails, and how that is said."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from mlprune.errors import UserError
from mlprune.files import writing
from mlprune.models import packaged
from mlprune.models.packaged import packaged_folder

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the user's choice, and a packaged file of a few bytes."""
    (tmp_path / "part").write_bytes(b"GGUF")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packaged, "check_packaged", lambda name: None)
    monkeypatch.setattr(packaged, "_parts", lambda entry: [tmp_path / "part"])
    return tmp_path / "mlprune"


def test_a_disk_that_is_too_small_is_refused_before_any_work(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**31, 2**30, 2**29))
    monkeypatch.setattr(packaged, "_convert", lambda *args: pytest.fail("it was converted"))
    with pytest.raises(UserError, match=r"mlprune': 0.5 GiB free, 1.0 GiB needed to convert .*; .*XDG_CACHE_HOME"):
        packaged_folder("demo")


def test_a_disk_that_fills_names_folder_and_variable(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(entry: object, target: Path) -> None:
        with writing(target):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(packaged, "_assemble", full)
    with pytest.raises(UserError, match=r"mlprune/.* cannot be written: No space left on device; .*XDG_CACHE_HOME"):
        packaged_folder("demo")
    assert {path.suffix for path in cache.iterdir()} == {".lock"}


def test_leftovers_of_a_killed_conversion_are_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / ".converting-abc").mkdir(parents=True)
    (cache / ".converting-abc" / "model.safetensors").touch()
    left = cache / f".demo-{packaged.PACKAGED['demo'].sha256[:12]}.gguf.partial"
    left.mkdir()
    with pytest.raises(UserError, match="damaged"):  # a few bytes are not the model
        packaged_folder("demo")
    assert {path.suffix for path in cache.iterdir()} == {".lock"}


def test_transformers_parses_a_file_once_while_it_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf")
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_token_list(["a", "b", "c"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parses = []
    parse = gguf.GGUFReader._build_fields
    monkeypatch.setattr(gguf.GGUFReader, "_build_fields", lambda *args: parses.append(1) or parse(*args))
    with packaged._parsed_once():
        found = [load_gguf_checkpoint(tmp_path / "model.gguf") for _ in range(3)]
    assert found[0] == found[1] == found[2]
    assert found[0]["config"]["vocab_size"] == 3
    assert len(parses) == 1
    load_gguf_checkpoint(tmp_path / "model.gguf")
    assert len(parses) == 2  # as before

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

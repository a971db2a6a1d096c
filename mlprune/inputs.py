"""What an evaluation depends on, hashed part by part, so that its results can stand in for another's."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlprune.datamodule import PruningDataModule
from mlprune.module import PruningModule
from mlprune.runs.facts import digest

INPUTS = "inputs"  # their key in results.json
WHOLE_BYTES, SAMPLES, SAMPLE_BYTES = 2**26, 256, 2**16
TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "*.model", "chat_template*")


def evaluation_inputs(module: PruningModule, data: PruningDataModule) -> dict[str, str]:
    """Return the hashes of everything that a dense evaluation depends on.

    Args:
        module: The model, which need not be loaded.
        data: The tasks, whose examples have been read.

    Returns:
        Part, such as ``model weights`` or ``task nli, examples fr``, to hash.
    """
    source = module.source
    folder = source.folder()
    settings = {
        "dtype": source.dtype,
        "attn_implementation": source.attn_implementation,
        "tokenizer_options": source.tokenizer_options,
        "interventions": plain(module.interventions),
    }
    parts = {
        "model settings": digest(settings),
        "model config.json": file_digest([folder / "config.json"]),
        "model weights": file_digest(sorted(folder.glob("*.safetensors"))),
        "model tokenizer": file_digest(sorted({file for name in TOKENIZER_FILES for file in folder.glob(name)})),
    }
    for task in data.tasks:
        parts[f"task {task.name}, settings"] = digest(plain(task))
        for lang, examples in data.examples(task).items():
            parts[f"task {task.name}, examples {lang}"] = digest(plain(examples))
    return parts


def file_digest(files: Iterable[Path]) -> str:
    """Return a short SHA-256 of files: their sizes and their content; of a large one, pieces spread evenly over it."""
    found = hashlib.sha256()
    for path in files:
        if not path.is_file():
            continue
        size = path.stat().st_size
        found.update(f"{path.name}:{size}\n".encode())
        with path.open("rb") as file:
            if size <= WHOLE_BYTES:
                found.update(file.read())
                continue
            for k in range(SAMPLES):
                file.seek(k * (size - SAMPLE_BYTES) // (SAMPLES - 1))
                found.update(file.read(SAMPLE_BYTES))
    return found.hexdigest()[:16]


def plain(value: Any) -> Any:
    """Return a value as JSON-able content: objects as the name of their class with their public settings.

    Example:
        >>> from mlprune.interventions import FeatureAblation
        >>> plain([FeatureAblation({1: [0]})])
        [{'class': 'FeatureAblation', 'features': {'1': [0]}, 'keep_only': False}]
    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item) for item in value]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    if isinstance(value, Path) or not hasattr(value, "__dict__"):
        return str(value)
    settings = {name: plain(item) for name, item in vars(value).items() if not name.startswith("_")}
    return {"class": type(value).__name__, **settings}

"""Copies of tiny model folders in which something was changed, as downloads and conversions change it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from tiny import save_tiny
from torch import Tensor

Tensors = dict[str, Tensor]


def altered(folder: Path, change: Callable[[Tensors], Tensors] = dict, family: str = "llama", **settings: Any) -> Path:
    """Write a tiny model, change its tensors and its config.json, and return the folder.

    Args:
        folder: Where it goes.
        change: Takes the tensors by name and returns those to be stored.
        family: A key of ``tiny.FAMILIES``.
        settings: Written into config.json; None removes a key.
    """
    save_tiny(folder, family)
    tensors = change(load_file(folder / "model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", METADATA)
    edit_json(folder / "config.json", **settings)
    return folder


METADATA = {"format": "pt"}


def edit_json(file: Path, **settings: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads(file.read_text(encoding="utf-8")) | settings
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    """Put a prefix before every name."""
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def without(part: str) -> Callable[[Tensors], Tensors]:
    """Leave out the tensors whose names contain a text."""
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def having(**more: Tensor) -> Callable[[Tensors], Tensors]:
    """Add tensors; ``__`` in a keyword stands for a dot."""
    return lambda tensors: tensors | {name.replace("__", "."): tensor for name, tensor in more.items()}

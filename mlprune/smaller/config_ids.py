"""Ids of tokens in a model's configuration and in its settings of generation."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from transformers import PreTrainedConfig

KEY = re.compile(
    r"(.*_)?tokens?_(id|ids|index|idx)|(begin_)?suppress_tokens|bad_words_ids|force_words_ids|(.*_)?to(_code)?_id"
    r"|(bos|eos|pad|unk|mask|sep|cls)_(id|index)"
)
PAIRS = ("forced_decoder_ids", "sequence_bias")  # (position, id), and (ids, bias)
SIZE = re.compile(r"(.*_)?vocab_size(_.*)?")

Change = Callable[[int], int]


def ids_in(content: Mapping[str, Any]) -> set[int]:
    """Return every id in a configuration.

    Args:
        content: The configuration, nested as it is.

    Example:
        >>> sorted(ids_in({"eos_token_id": [1, 2], "pad_token_id": None, "text_config": {"image_token_index": 7}}))
        [1, 2, 7]
    """
    found: set[int] = set()

    def look(index: int) -> int:
        found.add(index)
        return index

    _changed(content, look)
    return {index for index in found if index >= 0}  # -1 says that there is none


def with_ids(content: Mapping[str, Any], change: Change, sizes: Mapping[int, int]) -> dict[str, Any]:
    """Return a configuration with other ids.

    Args:
        content: The configuration.
        change: From an id to its new one.
        sizes: Size of a vocabulary to its new one.

    Example:
        >>> with_ids({"eos_token_id": 5, "vocab_size": 9, "layers": 5}, lambda index: index - 3, {9: 4})
        {'eos_token_id': 2, 'vocab_size': 4, 'layers': 5}
    """
    return {name: _sized(name, value, sizes) for name, value in _changed(content, change).items()}


def _sized(name: str, value: Any, sizes: Mapping[int, int]) -> Any:
    if isinstance(value, Mapping):
        return {inner: _sized(str(inner), item, sizes) for inner, item in value.items()}
    return sizes.get(value, value) if SIZE.fullmatch(name) and type(value) is int else value


def _changed(content: Mapping[str, Any], change: Change) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in content.items():
        if name in PAIRS and isinstance(value, list):
            place = PAIRS.index(name)  # of the other number in each pair
            found[name] = [
                [item if i == place else _all(item, change) for i, item in enumerate(pair)]
                for pair in value
                if isinstance(pair, list | tuple)
            ]
        elif KEY.fullmatch(str(name)):
            found[name] = _all(value, change)
        else:
            found[name] = _changed(value, change) if isinstance(value, Mapping) else value
    return found


def _all(value: Any, change: Change) -> Any:
    """Change every number in a value, however it is nested."""
    if isinstance(value, Mapping):
        return {name: _all(item, change) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_all(item, change) for item in value]
    return change(value) if type(value) is int and value >= 0 else value


def renumber_config(config: PreTrainedConfig, change: Change, sizes: Mapping[int, int]) -> PreTrainedConfig:
    """Return a model's configuration with other ids and sizes, those that its class implies included."""
    changed: PreTrainedConfig = type(config).from_dict(with_ids(config.to_dict(), change, sizes))
    return changed


def with_other_size(config: PreTrainedConfig, before: int, after: int) -> PreTrainedConfig:
    """Return a configuration with another size of its vocabulary and the same ids."""
    return renumber_config(config, lambda index: index, {before: after})

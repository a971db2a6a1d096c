"""Widths of a model that its configuration names, feed-forward units and attention heads, and what of it follows them.

Nothing is written per architecture: the model is built a second time, without weights, from a configuration with
another width, and the dimensions that differ are those of units or heads.

Terms: a query head reads one key-value head, which several query heads may share; the reader of a width is the layer
whose inputs are the units (``down_proj``) or the heads (``o_proj``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.models.changed import changed_skeleton
from mlprune.models.checkpoint import Checkpoint
from mlprune.models.layers import Layer

Kind = Literal["unit", "query", "key_value"]
UNITS = ("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size", "encoder_ffn_dim", "decoder_ffn_dim")
HEADS, KEY_VALUE, HEAD_SIZE = "num_attention_heads", "num_key_value_heads", "head_dim"


@dataclass(frozen=True)
class Follower:
    """A dimension of a parameter that follows a width: one or more strips after one another.

    Args:
        name: The parameter.
        dim: Its dimension.
        strips: Of each strip the kind of its items and the entries of each.
    """

    name: str
    dim: int
    strips: tuple[tuple[Kind, int], ...]

    def index(self, counts: Mapping[Kind, int], kept: Mapping[Kind, Tensor]) -> Tensor:
        """Return the places along the dimension that stay.

        Args:
            counts: Kind to the number of its items.
            kept: Kind to the items that stay, ascending.

        Example:
            >>> fused = Follower("gate_up.weight", 0, (("unit", 1), ("unit", 1)))
            >>> fused.index({"unit": 3}, {"unit": torch.tensor([0, 2])})
            tensor([0, 2, 3, 5])
        """
        parts, start = [], 0
        for kind, size in self.strips:
            parts.append((start + kept[kind][:, None] * size + torch.arange(size)).flatten())
            start += counts[kind] * size
        return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class Site:
    """One place of a width: the units of a feed-forward layer, or the heads of an attention.

    Args:
        reader: The layer whose inputs they are.
        size: Its inputs for each.
        followers: All dimensions that go with them.
    """

    reader: Layer
    size: int
    followers: tuple[Follower, ...]


@dataclass(frozen=True, eq=False)
class Width:
    """One width of a model.

    Args:
        fields: Field of the configuration to the kind that it counts.
        counts: Kind to its number.
        sites: Where it is.
        settings: Further fields that have to be written with it.
    """

    fields: Mapping[str, Kind]
    counts: Mapping[Kind, int]
    sites: Sequence[Site]
    settings: Mapping[str, Any]

    def changes(self, counts: Mapping[Kind, int]) -> dict[str, Any]:
        """Return the fields of a configuration with other numbers."""
        return {**self.settings, **{field: counts[kind] for field, kind in self.fields.items()}}


def find_units(checkpoint: Checkpoint) -> list[Width]:
    """Return the widths of a model's feed-forward layers.

    Args:
        checkpoint: The checkpoint, of which only names and shapes are looked at.

    Raises:
        UserError: If the configuration names none, or units are those of experts.
    """
    found = []
    for field in UNITS:
        given = getattr(checkpoint.config.get_text_config(), field, "")
        if isinstance(given, int | None):
            found += _units(checkpoint, field, given)
    if not found:
        raise UserError(
            f"{_name(checkpoint)}: its configuration names no width of feed-forward layers (such as "
            f"{', '.join(UNITS[:3])}), so a model with fewer units could not be loaded"
        )
    return found


def _units(checkpoint: Checkpoint, field: str, before: int | None) -> list[Width]:
    """The width that a field counts; none where it changes no layer."""
    after = 2 * (before or 4 * int(checkpoint.config.get_text_config().hidden_size))  # the usual default
    grown = _grown(checkpoint, {field: after})
    if not grown:
        return []
    followers = [
        Follower(name, dim, (("unit", 1),) * _items(checkpoint, name, old, new, after // 2))
        for (name, dim), (old, new) in grown.items()
    ]
    return [Width({field: "unit"}, {"unit": after // 2}, _sites(checkpoint, followers, after // 2), {})]


def find_heads(checkpoint: Checkpoint) -> Width:
    """Return the width of a model's attention.

    Args:
        checkpoint: The checkpoint, of which only names and shapes are looked at.

    Raises:
        UserError: If the configuration cannot name fewer heads of the same size.
    """
    text = checkpoint.config.get_text_config()
    queries, key_values = getattr(text, HEADS, None), getattr(text, KEY_VALUE, None)
    if not isinstance(queries, int) or not isinstance(key_values, int | None):
        raise UserError(f"{_name(checkpoint)}: its configuration has no {HEADS}; its heads stay")
    size = getattr(text, HEAD_SIZE, None) or text.hidden_size // queries
    fields: dict[str, Kind] = {HEADS: "query"}
    counts: dict[Kind, int] = {"query": queries}
    if key_values is not None:
        fields[KEY_VALUE], counts["key_value"] = "key_value", key_values
    settings = {HEAD_SIZE: size} if getattr(text, HEAD_SIZE, None) is None else {}
    grown = _grown(checkpoint, {HEADS: 2 * queries, **settings})
    if not grown or any(new < old for old, new in grown.values()):
        raise UserError(
            f"{_name(checkpoint)}: in its configuration the size of a head follows from their number, so a model with "
            "fewer heads of this size could not be loaded; its heads stay"
        )
    followers = [
        Follower(name, dim, _strips(checkpoint, name, old, counts, (new - old) // queries, size))
        for (name, dim), (old, new) in grown.items()
    ]
    if key_values is not None:
        both = _grown(checkpoint, {HEADS: 2 * queries, KEY_VALUE: 2 * key_values, **settings})
        followers += [
            Follower(name, dim, (("key_value", _items(checkpoint, name, old, new, key_values)),))
            for (name, dim), (old, new) in both.items()
            if (name, dim) not in grown
        ]
    return Width(fields, counts, _sites(checkpoint, followers, queries), settings)


def _items(checkpoint: Checkpoint, name: str, old: int, new: int, number: int) -> int:
    """Entries of each of a number of items that a dimension is made of; twice as many items are twice as long."""
    if old % number or new != 2 * old:
        raise UserError(f"{_name(checkpoint)}: how '{name}' is made of units or heads is not known; its widths stay")
    return old // number


def _strips(
    checkpoint: Checkpoint, name: str, length: int, counts: Mapping[Kind, int], per_query: int, size: int
) -> tuple[tuple[Kind, int], ...]:
    """How a dimension is made of heads: of query heads alone, or of these, then keys, then values."""
    rest = length - per_query * counts["query"]
    if not rest:
        return (("query", per_query),)
    entries = size * counts.get("key_value", 0)
    if not entries or rest % entries:
        raise UserError(f"{_name(checkpoint)}: how '{name}' is made of heads is not known; its heads stay")
    return (("query", per_query), *((("key_value", size),) * (rest // entries)))


def _name(checkpoint: Checkpoint) -> str:
    return type(checkpoint.skeleton).__name__


def _grown(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> dict[tuple[str, int], tuple[int, int]]:
    """The dimensions that other values change: name and dimension to length before and after."""
    other = changed_skeleton(checkpoint, changes)
    if other is None:
        return {}
    before, after = checkpoint.skeleton.state_dict(), other.state_dict()
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for name in before:
        if name not in after or before[name].dim() != after[name].dim():
            raise UserError(f"{_name(checkpoint)}: '{name}' depends on {', '.join(changes)} in a way that is not known")
        lengths = zip(before[name].shape, after[name].shape, strict=True)
        found |= {(name, dim): pair for dim, pair in enumerate(lengths) if pair[0] != pair[1]}
    return found


def _sites(checkpoint: Checkpoint, followers: Sequence[Follower], number: int) -> list[Site]:
    """Bring followers to the readers that they stand beside."""
    name = _name(checkpoint)
    layers = {path: layer for block in find_blocks(checkpoint.skeleton) for path, layer in block.layers.items()}
    readers: dict[str, tuple[Layer, list[Follower]]] = {}
    for follower in followers:
        path = follower.name.removesuffix(".weight")
        layer = layers.get(path) or layers.get(follower.name)
        if layer is not None and layer.is_routed:
            raise UserError(f"{name}: '{path}' is of experts, whose widths stay; ExpertPruning removes whole experts")
        if layer is not None and follower.dim == (0 if layer.transposed else 1):
            home = path.rpartition(".")[0]
            if home in readers:
                raise UserError(f"{name}: '{home}' has two layers that read one width; its widths stay")
            readers[home] = (layer, [])
    for follower in followers:
        homes = [home for home in readers if follower.name.startswith(f"{home}.")]
        if not homes:
            raise UserError(f"{name}: '{follower.name}' belongs to no layer that reads the width; its widths stay")
        readers[max(homes, key=len)][1].append(follower)
    return [Site(layer, layer.matrix().shape[1] // number, tuple(beside)) for layer, beside in readers.values()]

"""Linear layers by kind: what a layer is within its block, so that a figure shows one kind over depth."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mlprune.models.paths import LayerPath


def layers_by_kind(inputs: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return kinds of layers to the paths of their layers, in order; kinds that read the same inputs are one.

    Args:
        inputs: Layer path to the magnitudes of the layer's input, (in_features,).

    Example:
        >>> x, y = torch.ones(2), torch.zeros(2)
        >>> layers_by_kind({"h.0.attn.q": x, "h.0.attn.k": x, "h.0.mlp": y, "h.1.attn.q": y, "h.1.attn.k": y})
        {'attn.q, k': ['h.0.attn.q', 'h.1.attn.q'], 'mlp': ['h.0.mlp']}
    """
    paths: dict[tuple[str, str], list[str]] = {}
    for path in inputs:
        place = LayerPath.of(path)
        paths.setdefault((place.stack, place.layer), []).append(path)
    together: list[list[tuple[str, str]]] = []
    for key, kind_paths in paths.items():
        for group in together:
            if key[0] == group[0][0] and _same([inputs[p] for p in paths[group[0]]], [inputs[p] for p in kind_paths]):
                group.append(key)
                break
        else:
            together.append([key])
    several = len({stack for stack, _ in paths}) > 1
    return {
        (f"{group[0][0]}: " if several else "") + _joined([kind for _, kind in group]): paths[group[0]]
        for group in together
    }


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def _joined(kinds: list[str]) -> str:
    parent = kinds[0].rpartition(".")[0]
    return ", ".join([kinds[0], *(kind.removeprefix(f"{parent}.") for kind in kinds[1:])])

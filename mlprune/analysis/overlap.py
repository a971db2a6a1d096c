"""Which features groups share: the largest of one group among the largest, or the smallest, of another."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlprune.analysis.magnitudes import Means


def largest(magnitudes: Tensor, percent: float) -> list[int]:
    """Return the dimensions of the largest ``percent`` %, largest first; ties go to the lower dimension.

    Args:
        magnitudes: (D,).
        percent: More than 0, at most 100; at least one dimension is returned.

    Example:
        >>> largest(torch.tensor([1.0, 3.0, 2.0, 3.0]), 50)
        [1, 3]
    """
    return torch.sort(magnitudes, descending=True, stable=True).indices[: _count(magnitudes, percent)].tolist()


def smallest(magnitudes: Tensor, percent: float) -> list[int]:
    """Return the dimensions of the smallest ``percent`` %, smallest first; ties go to the lower dimension.

    Example:
        >>> smallest(torch.tensor([1.0, 3.0, 2.0, 3.0]), 25)
        [0]
    """
    return torch.sort(magnitudes, stable=True).indices[: _count(magnitudes, percent)].tolist()


def _count(magnitudes: Tensor, percent: float) -> int:
    return max(1, round(len(magnitudes) * percent / 100))


def overlap_table(means: Means, percent: float, kinds: Mapping[str, str]) -> dict[str, Any]:
    """Compare the groups at every layer.

    Args:
        means: Group to layer to magnitudes.
        percent: p of top-p% and bottom-p%.
        kinds: Group to kind of demonstration, such as ``translation``.

    Returns:
        ``percent``, ``groups``, ``kinds``, ``layers``;
        ``overlap``: [layer][i][j], share of group i's top-p% that are among group j's bottom-p%;
        ``shared``: [layer][i][j], share of group i's top-p% that are among group j's top-p%;
        ``curves``: pair of kinds to the mean of ``shared`` over its pairs of groups, by layer;
        ``only_translation``: [layer], dimensions among the top-p% of the translation groups' mean and of no other
        group, largest first.

    Example:
        >>> means = {"mt": {"0": torch.tensor([1.0, 2.0])}, "fr": {"0": torch.tensor([2.0, 1.0])}}
        >>> table = overlap_table(means, 50, {"mt": "translation", "fr": "monolingual"})
        >>> table["overlap"], table["only_translation"]
        ([[[0.0, 1.0], [1.0, 0.0]]], [[1]])
    """
    groups = list(means)
    layers = list(means[groups[0]])
    tops = [[set(largest(means[group][layer], percent)) for group in groups] for layer in layers]
    bottoms = [[set(smallest(means[group][layer], percent)) for group in groups] for layer in layers]
    shared = [_shares(top, top) for top in tops]
    return {
        "percent": percent,
        "groups": groups,
        "kinds": [kinds[group] for group in groups],
        "layers": layers,
        "overlap": [_shares(top, bottom) for top, bottom in zip(tops, bottoms, strict=True)],
        "shared": shared,
        "curves": _curves(shared, [kinds[group] for group in groups]),
        "only_translation": [_only_translation(means, layer, percent, kinds) for layer in layers],
    }


def part_of(table: Mapping[str, Any], layers: Mapping[str, str]) -> dict[str, Any]:
    """Return some layers of a table.

    Args:
        table: What :func:`overlap_table` or :func:`mlprune.analysis.similarity.similarity_table` returned.
        layers: Layer to the name it gets.
    """
    places = [table["layers"].index(layer) for layer in layers]
    names = [name for name in ("overlap", "shared", "only_translation", "cosine") if name in table]
    by_layer = {name: [table[name][i] for i in places] for name in names}
    curves = {name: [values[i] for i in places] for name, values in table.get("curves", {}).items()}
    return {**table, **by_layer, "layers": list(layers.values()), "curves": curves}


def _shares(rows: Sequence[set[int]], columns: Sequence[set[int]]) -> list[list[float]]:
    return [[len(row & column) / len(row) for column in columns] for row in rows]


def _curves(shared: list[list[list[float]]], kinds: list[str]) -> dict[str, list[float]]:
    curves = {}
    for one, other in itertools.combinations_with_replacement(dict.fromkeys(kinds), 2):
        pairs = [
            (i, j)
            for i, j in itertools.combinations(range(len(kinds)), 2)
            if sorted((kinds[i], kinds[j])) == sorted((one, other))
        ]
        if pairs:
            curves[f"{one} and {other}"] = [sum(layer[i][j] for i, j in pairs) / len(pairs) for layer in shared]
    return curves


def _only_translation(means: Means, layer: str, percent: float, kinds: Mapping[str, str]) -> list[int]:
    translation = [means[group][layer] for group in means if kinds[group] == "translation"]
    others = [means[group][layer] for group in means if kinds[group] != "translation"]
    if not translation or not others:
        return []
    elsewhere = set().union(*(largest(magnitudes, percent) for magnitudes in others))
    return [dim for dim in largest(torch.stack(translation).mean(0), percent) if dim not in elsewhere]

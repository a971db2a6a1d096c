"""How alike the activations of groups, such as languages, are: cosines of their energies, at any layer.

Shapes: G groups, D features of a layer.
"""

import csv
import io
import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlprune.analysis.magnitudes import Means
from mlprune.pruning.statistics import LayerStatistics


def cosines(energies: Mapping[str, Tensor]) -> Tensor:
    """Return the cosine of every two groups' energies, float64 (G, G); whatever scale a group's have does not matter.

    Of the first block's input it is the similarity of languages in Zeng et al. 2024 (arXiv 2404.04748). The published
    code computes it in float32, where a language's cosine with itself may exceed 1. A group that is silent has 0.

    Args:
        energies: Group to mean squares or sums of squares (D,).

    Example:
        >>> cosines({"en": torch.tensor([1.0, 0.0]), "fr": torch.tensor([3.0, 4.0])})
        tensor([[1.0000, 0.6000],
                [0.6000, 1.0000]], dtype=torch.float64)
    """
    rows = torch.stack([energy.double().flatten() for energy in energies.values()])
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows = rows / lengths.clamp(min=torch.finfo(torch.float64).tiny)
    alike: Tensor = rows @ rows.T
    return alike.clamp(max=1.0)


def similarity_table(energies: Means) -> dict[str, Any]:
    """Compare the groups at every layer.

    Args:
        energies: Group to layer to energies (D,).

    Returns:
        ``groups``, ``layers``, and ``cosine``: [layer][i][j].

    Example:
        >>> same = {"0": torch.tensor([3.0, 4.0])}
        >>> similarity_table({"en": same, "fr": same})["cosine"]
        [[[1.0, 1.0], [1.0, 1.0]]]
    """
    groups = list(energies)
    layers = list(energies[groups[0]])
    tables = [cosines({group: energies[group][layer] for group in groups}).tolist() for layer in layers]
    return {"groups": groups, "layers": layers, "cosine": tables}


def energies_by_group(statistics: Mapping[str, LayerStatistics]) -> Means:
    """Return group to layer path to the energies of the layer's input, of statistics that calibration kept.

    Args:
        statistics: From :func:`mlprune.pruning.load_statistics` or :func:`mlprune.pruning.collect_statistics`.

    Example:
        >>> seen = LayerStatistics({"en": torch.ones(2)}, {"en": torch.tensor(3)})
        >>> energies_by_group({"fc": seen})
        {'en': {'fc': tensor([1., 1.])}}
    """
    energies = {path: layer.energies().means for path, layer in statistics.items()}
    groups = dict.fromkeys(group for means in energies.values() for group in means)
    return {group: {path: means[group] for path, means in energies.items()} for group in groups}


def similarity_csv(*tables: Mapping[str, Any]) -> str:
    """Return tables as lines ``layer,group,other,cosine``, each pair once.

    Example:
        >>> table = similarity_table({"en": {"0": torch.tensor([1.0])}, "fr": {"0": torch.tensor([2.0])}})
        >>> print(similarity_csv(table), end="")
        layer,group,other,cosine
        0,en,fr,1
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("layer", "group", "other", "cosine"))
    for table in tables:
        for layer, values in zip(table["layers"], table["cosine"], strict=True):
            for (i, one), (j, other) in itertools.combinations(enumerate(table["groups"]), 2):
                writer.writerow((layer, one, other, f"{values[i][j]:.9g}"))
    return out.getvalue()

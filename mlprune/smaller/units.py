"""Which heads and feed-forward units stay, by their scores on demonstrations."""

import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.distributed import broadcast_tensor
from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.models.layers import Layer
from mlprune.models.widths import Kind, Site, Width
from mlprune.pruning import LayerStatistics, Pool, Pruner, calibrating, collect_statistics
from mlprune.pruning.moments import TOKEN_MOMENTS
from mlprune.pruning.statistics import check_finite
from mlprune.smaller.plan import Narrowing
from mlprune.smaller.sameness import probe_logits, without

Kept = dict[Kind, Tensor]  # the items of each kind that stay, ascending


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Args:
        kept: Path of each reader to what stays of its units or heads.
        biases: Path of a reader to the mean output of what goes, (out_features,), for its bias.
        expected: Logits of a few tokens by the whole model without what goes, with these biases.
    """

    kept: dict[str, Kept]
    biases: dict[str, Tensor]
    expected: Tensor


@torch.no_grad()
def choose(
    model: PreTrainedModel, batches: Sequence[Mapping[str, Any]], narrowing: Narrowing, groups: Sequence[str]
) -> Choice:
    """Score heads and units on calibration batches, all on the dense model, and choose those that stay.

    A collective: every process calls it with its share of the batches.

    Args:
        model: The model.
        batches: Calibration batches, already formed.
        narrowing: What is to become of it.
        groups: Names of all groups.

    Raises:
        UserError: If calibration does not run through a layer, or shows it NaN or infinities.
    """
    importance = narrowing.importance
    sites = {site.reader.path: (planned, site) for planned in narrowing.planned for site in planned.width.sites}
    layers = {path: layer for block in find_blocks(model) for path, layer in block.layers.items() if path in sites}
    statistics = _statistics(model, batches, list(sites), narrowing, groups)
    kept: dict[str, Kept] = {}
    inputs: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for path, (planned, site) in sites.items():
        seen, layer = statistics.get(path), layers[path]
        seen = seen and seen.to(layer.stored.device)
        if narrowing.needs is not None and seen is None:
            raise UserError(f"{path}: calibration never ran through it; its widths stay")
        part = None if importance.needs is None or seen is None else seen.part(importance.needs)
        scores = importance.score(layer.matrix(), part, path)
        kept[path] = chosen(importance.grouped(scores, site.size), planned.width.counts, planned.after)
        inputs[path] = gone(site, planned.width, kept[path])
        if path in narrowing.compensated:
            assert seen is not None
            biases[path] = broadcast_tensor(lost_output(layer, importance.seen(seen), inputs[path])).cpu()
    with calibrating(model), without(layers, inputs, biases):
        expected = probe_logits(model)
    return Choice({path: _on_cpu(items) for path, items in kept.items()}, biases, expected)


def _on_cpu(kept: Kept) -> Kept:
    return {kind: index.cpu() for kind, index in kept.items()}


def _statistics(
    model: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    paths: Sequence[str],
    narrowing: Narrowing,
    groups: Sequence[str],
) -> dict[str, LayerStatistics]:
    """What calibration saw at some layers."""
    if narrowing.needs is None:
        return {}
    measuring = copy(narrowing.importance)
    measuring.needs = narrowing.needs
    pruner = Pruner(measuring, include=[f"^{re.escape(path)}$" for path in paths])
    found = collect_statistics(model, batches, pruner, groups=list(groups))
    for path, seen in found.items():
        for group, mean in seen.means.items():
            check_finite(path, group, mean)
    return found


def chosen(scores: Tensor, counts: Mapping[Kind, int], after: Mapping[Kind, int]) -> Kept:
    """Return the items of the highest scores; of equal ones the first.

    Args:
        scores: Of each unit or query head.
        counts: How many items there are of each kind.
        after: How many stay.

    Example:
        >>> chosen(torch.tensor([3.0, 1.0, 2.0]), {"unit": 3}, {"unit": 2})
        {'unit': tensor([0, 2])}
        >>> scores, heads = torch.tensor([3.0, 1.0, 2.0, 2.5]), {"query": 4, "key_value": 2}
        >>> chosen(scores, heads, {"query": 2, "key_value": 2})  # one query head of each key-value head
        {'query': tensor([0, 3]), 'key_value': tensor([0, 1])}
        >>> chosen(scores, heads, {"query": 2, "key_value": 1})  # a whole key-value head
        {'query': tensor([2, 3]), 'key_value': tensor([1])}
    """
    if "key_value" not in counts:
        kind = next(iter(counts))
        return {kind: _highest(scores[None], after[kind])[0]}
    groups, kept_groups = counts["key_value"], after["key_value"]
    size = counts["query"] // groups
    grouped = scores.reshape(groups, size)
    key_values = _highest(grouped.sum(1)[None], kept_groups)[0]
    places = _highest(grouped[key_values], after["query"] // kept_groups)
    return {"query": (places + key_values[:, None] * size).flatten(), "key_value": key_values}


def _highest(scores: Tensor, number: int) -> Tensor:
    """Places of the highest of each row, ascending; decided once for all processes."""
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :number]
    return broadcast_tensor(order.sort(dim=1).values)


def gone(site: Site, width: Width, kept: Kept) -> Tensor:
    """Return the inputs of a reader whose units or heads go."""
    kind: Kind = "unit" if "unit" in width.counts else "query"
    index = kept[kind]
    stays = torch.zeros(width.counts[kind], dtype=torch.bool, device=index.device)
    stays[index] = True
    return (~stays).repeat_interleave(site.size).nonzero().flatten()


def lost_output(layer: Layer, seen: LayerStatistics, inputs: Tensor) -> Tensor:
    """The mean output of some inputs: their means times their weights."""
    pool: Pool = "mean" if seen.pool == "mean" else "tokens"
    means = seen.part(TOKEN_MOMENTS).pooled_by(pool).pooled()[1]
    return layer.matrix()[:, inputs].to(means.dtype) @ means[inputs]

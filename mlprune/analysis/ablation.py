"""Switch features of the hidden states off at inference: which ones does a task need?

Layer 0 is what the first block receives, layer k what block k - 1 gives.
"""

import csv
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mlprune.errors import NOT_FINITE, UserError
from mlprune.models.blocks import find_blocks
from mlprune.models.hooks import Change, on_input

Features = dict[int, list[int]]
Select = Literal["translation", "large", "random"]


@contextmanager
def ablated(model: nn.Module, features: Mapping[int, Sequence[int]], keep_only: bool = False) -> Iterator[None]:
    """While open, features of the hidden states are zero.

    Args:
        model: A transformers model.
        features: Layer to dimensions.
        keep_only: Zero all other dimensions of these layers instead.

    Raises:
        UserError: If the model has no such layer or dimension, or what is to be zeroed is not finite.

    Example:
        >>> model = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(2, 2))]))
        >>> with ablated(model, {1: [0]}):
        ...     bool((model[0][0](torch.ones(1, 2))[:, 0] == 0).all())
        True
    """
    blocks = find_blocks(model)
    handles = []
    try:
        for layer, dimensions in features.items():
            if not 0 <= layer <= len(blocks):
                raise UserError(f"features: layer {layer} is not there; give 0 (before the blocks) to {len(blocks)}")
            silence = _silencer(layer, list(dimensions), keep_only)
            if layer == 0:
                handles.append(blocks[0].module.register_forward_pre_hook(on_input(silence), with_kwargs=True))
            else:
                handles.append(blocks[layer - 1].module.register_forward_hook(_after(silence)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _silencer(layer: int, dimensions: list[int], keep_only: bool) -> Change:
    def silence(hidden: Tensor) -> Tensor:
        size = hidden.shape[-1]
        unknown = [dimension for dimension in dimensions if not 0 <= dimension < size]
        if unknown:
            raise UserError(f"features: layer {layer} has no dimension {unknown[0]}; give 0 to {size - 1}")
        off = torch.zeros(size, dtype=torch.bool, device=hidden.device)
        off[dimensions] = True
        off = ~off if keep_only else off
        if not hidden.isfinite().all() and not hidden[..., off].isfinite().all():  # zeroing would hide it
            raise UserError(f"layer {layer}: features to be switched off hold NaN or Inf; {NOT_FINITE}")
        return hidden.masked_fill(off, 0)

    return silence


def _after(silence: Change) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return (silence(output[0]), *output[1:]) if isinstance(output, tuple) else silence(output)

    return hook


def select_features(run: str | Path, select: Select, seed: int = 0) -> Features:
    """Choose features by what an analysis found: as many in each layer, whatever is selected.

    Args:
        run: Folder with ``overlap.json`` and ``features.csv`` of a feature analysis.
        select: ``translation``: large under translation only; ``large``: the largest of the others, by the mean over
            groups; ``random``: any of the others.
        seed: Seed of the random ones.

    Returns:
        Layer to dimensions.

    Raises:
        UserError: If the folder holds no analysis, or the selection is not known.
    """
    if select not in get_args(Select):
        raise UserError(f"select '{select}' is not allowed; give one of {', '.join(get_args(Select))}")
    run = Path(run)
    for name in ("overlap.json", "features.csv"):
        if not (run / name).is_file():
            raise UserError(f"'{run / name}' is missing; give a run folder of a feature analysis")
    only = json.loads((run / "overlap.json").read_text(encoding="utf-8")).get("only_translation") or []
    if not any(only):
        raise UserError(f"'{run}': no feature is large under translation only; analyse with other groups or percent")
    means = _means(run / "features.csv")
    generator = random.Random(seed)
    chosen: Features = {}
    for layer, dimensions in enumerate(only):
        others = sorted(set(means[layer]) - set(dimensions))
        if select == "translation":
            chosen[layer] = sorted(dimensions)
        elif select == "large":
            chosen[layer] = sorted(sorted(others, key=lambda d: -means[layer][d])[: len(dimensions)])
        else:
            chosen[layer] = sorted(generator.sample(others, min(len(dimensions), len(others))))
    return {layer: dimensions for layer, dimensions in chosen.items() if dimensions}


def _means(path: Path) -> dict[int, dict[int, float]]:
    """Layer to dimension to magnitude, added up over groups; inputs of linear layers are left out."""
    sums: dict[int, dict[int, float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["layer"].isdigit():
                layer = sums.setdefault(int(row["layer"]), {})
                layer[int(row["dimension"])] = layer.get(int(row["dimension"]), 0.0) + float(row["magnitude"])
    return sums

"""LAPE: units of feed-forward layers that are active in few languages only.

Shapes: U units of all blocks, L languages; counts and probabilities (U, L).
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlprune.analysis.units import UnitLayer, find_units
from mlprune.distributed import gather_objects
from mlprune.errors import UserError
from mlprune.models.blocks import model_device
from mlprune.models.encoder import mask_names
from mlprune.pruning.capture import forward_inputs

Chosen = dict[str, dict[int, list[int]]]  # language to position of a block to units


class ActivationCounts:
    """Counts, by group, on how many tokens each unit's activation is above zero.

    Args:
        model: A transformers model, in evaluation mode.

    Raises:
        UserError: If it has blocks without feed-forward units.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> counts = ActivationCounts(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval())
        >>> counts.add({"input_ids": torch.tensor([[1, 2, 3]]), "group": "fr"})
        >>> tuple(counts.over_zero(["fr"]).shape), counts.tokens(["fr"]).unique()
        ((16, 1), tensor([3]))
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers: list[UnitLayer] = find_units(model)
        self._masks = mask_names(model, [layer.stack for layer in self.layers])
        self._counts: dict[str, list[Tensor]] = {}  # a block: its units' counts, and last the tokens

    @torch.no_grad()
    def add(self, batch: Mapping[str, Any]) -> None:
        """Run a batch through the model, without its head, and count.

        Args:
            batch: As for :func:`mlprune.pruning.prune_model`; its ``group`` is the language.
        """
        group = str(batch.get("group", "default"))
        device = model_device(self.model)
        inputs = forward_inputs(batch, device, count_padding=False)
        counts = self._counts.setdefault(
            group, [torch.zeros(layer.width + 1, dtype=torch.int64, device=device) for layer in self.layers]
        )

        def counting(position: int) -> Any:
            def look(module: nn.Module, args: Any, output: Tensor) -> None:
                flat = output.reshape(-1, output.shape[-1])
                mask = inputs.get(self._masks[position])
                real = flat.new_ones(len(flat), 1).bool() if mask is None else mask.reshape(-1, 1).bool()
                counts[position] += (torch.cat([flat > 0, torch.ones_like(real)], dim=1) & real).sum(0)

            return look

        base = self.model.base_model
        assert isinstance(base, nn.Module)
        handles = [layer.module.register_forward_hook(counting(i)) for i, layer in enumerate(self.layers)]
        try:
            base(**inputs, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()

    def reduce(self) -> None:
        """Add up over processes; a collective under torch.distributed, to be called once."""
        counts: dict[str, list[Tensor]] = {}
        here = {group: [value.cpu() for value in found] for group, found in self._counts.items()}
        for part in gather_objects(here):
            for group, found in part.items():
                before = counts.get(group, [torch.zeros_like(value) for value in found])
                counts[group] = [a + b for a, b in zip(before, found, strict=True)]
        self._counts = counts

    def over_zero(self, groups: Sequence[str]) -> Tensor:
        """Return the counts, int64 (U, L), block after block."""
        return torch.stack(
            [torch.cat([counts[:-1] for counts in self._counts[group]]) for group in groups], dim=1
        ).cpu()

    def tokens(self, groups: Sequence[str]) -> Tensor:
        """Return the tokens that each unit saw, int64 (U, L)."""
        per_block = [[counts[-1:].expand(len(counts) - 1) for counts in self._counts[group]] for group in groups]
        return torch.stack([torch.cat(parts) for parts in per_block], dim=1).cpu()

    def probabilities(self, groups: Sequence[str]) -> Tensor:
        """Return the activation probabilities, float64 (U, L), block after block.

        Raises:
            UserError: If a group has no tokens.
        """
        for group in groups:
            if group not in self._counts:
                raise UserError(f"group '{group}' has no tokens to count activations on")
        return self.over_zero(groups).double() / self.tokens(groups)


def language_entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy, in nats, of each unit's activation probabilities over languages, (U,).

    Example:
        >>> language_entropy(torch.tensor([[0.2, 0.2], [0.3, 0.0], [0.0, 0.0]]))
        tensor([0.6931, 0.0000, 0.0000])
    """
    share = probabilities / probabilities.sum(1, keepdim=True)
    entropy: Tensor = torch.special.entr(share.nan_to_num(0.0)).sum(1)
    return entropy


def select_units(
    probabilities: Tensor,
    languages: Sequence[str],
    widths: Sequence[int],
    top_rate: float = 0.01,
    filter_rate: float = 0.95,
    bar_rate: float = 0.95,
) -> Chosen:
    """Choose the units of lowest entropy, and give each to the languages in which it is active often.

    Source: Tang et al. 2024, "Language-Specific Neurons: The Key to Multilingual Capabilities in Large Language Models"
    (arXiv 2402.16438), as in its published code, ``identify.py``. That code loses the last languages from its list if
    they have no unit; here every language is there. Cost: a sort of the units.

    Args:
        probabilities: (U, L), block after block.
        languages: Their names.
        widths: Number of units of each block.
        top_rate: The share of all units that is chosen.
        filter_rate: Units whose probability is above this quantile of all probabilities in no language are left out.
        bar_rate: A chosen unit belongs to the languages in which it is above this quantile.

    Returns:
        Language to position of a block to units.

    Raises:
        UserError: If a rate is out of range, or there are fewer than two languages.

    Example:
        >>> active = torch.tensor([[0.9, 0.0], [0.5, 0.6], [0.1, 0.1], [0.0, 0.8]])
        >>> select_units(active, ["fr", "sw"], [2, 2], top_rate=0.5, filter_rate=0.5, bar_rate=0.5)
        {'fr': {0: [0]}, 'sw': {1: [1]}}
    """
    for name, rate in (("top_rate", top_rate), ("filter_rate", filter_rate), ("bar_rate", bar_rate)):
        if not 0 < rate <= 1:
            raise UserError(f"{name} {rate} is not allowed; give more than 0, at most 1")
    if len(languages) < 2:
        raise UserError(f"language units need at least two languages to tell apart, not {', '.join(languages)}")
    entropy = language_entropy(probabilities)
    entropy[~(probabilities > _quantile(probabilities, filter_rate)).any(1)] = float("inf")
    ranked = entropy.sort(stable=True)
    chosen = ranked.indices[: round(top_rate * len(entropy))]
    chosen = chosen[entropy[chosen].isfinite()].sort().values
    belongs = probabilities[chosen] > _quantile(probabilities, bar_rate)
    found: Chosen = {lang: {} for lang in languages}
    starts = [sum(widths[:block]) for block in range(len(widths))]
    for unit, member in zip(chosen.tolist(), belongs.tolist(), strict=True):
        block = max(k for k, start in enumerate(starts) if start <= unit)
        for lang, is_own in zip(languages, member, strict=True):
            if is_own:
                found[lang].setdefault(block, []).append(unit - starts[block])
    return found


def _quantile(values: Tensor, rate: float) -> Tensor:
    """The k-th smallest of all values, ``k = round(rate * number)``."""
    flat = values.flatten()
    return flat.kthvalue(max(round(rate * len(flat)), 1)).values


def random_units(chosen: Chosen, lang: str, widths: Sequence[int], seed: int = 0) -> dict[int, list[int]]:
    """Return as many units of each block as a language has, at random from those that no language has.

    Args:
        chosen: From :func:`select_units`.
        lang: The language.
        widths: Number of units of each block.
        seed: Seed; each language has its own stream.

    Example:
        >>> random_units({"fr": {0: [1]}, "sw": {0: [0]}}, "fr", [3])
        {0: [2]}
    """
    generator = random.Random(f"{seed}:{lang}")
    taken = {(block, unit) for blocks in chosen.values() for block, units in blocks.items() for unit in units}
    found = {}
    for block, units in chosen[lang].items():
        others = [unit for unit in range(widths[block]) if (block, unit) not in taken]
        found[block] = sorted(generator.sample(others, min(len(units), len(others))))
    return found

"""Block influence: how much each block changes what passes through it, by group of prompts such as a language.

Shapes: B prompts, T tokens, D features of the hidden states.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlprune.distributed import gather_objects
from mlprune.errors import UserError
from mlprune.exact import accumulator_dtype
from mlprune.models.blocks import find_blocks, look_at, model_device
from mlprune.models.encoder import mask_names
from mlprune.pruning.calibration import calibrating
from mlprune.pruning.capture import forward_inputs

Influences = dict[str, dict[str, float]]  # group, path of a block: its mean over tokens


def token_influence(before: Tensor, after: Tensor) -> Tensor:
    """Return 1 - cosine of each token's hidden states before and after a block, (..., D) to (...).

    It is 0 where a block only scales them, at most 2. Source: Men et al. 2024, "ShortGPT: Layers in Large Language
    Models are More Redundant Than You Expect" (arXiv 2403.03853), Equation 1; where one of the two is zero, the cosine
    is 0.5, as in the published code.

    Example:
        >>> token_influence(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [3.0, 4.0]]))
        tensor([0.0000, 0.4000], dtype=torch.float64)
    """
    before, after = (states.to(accumulator_dtype(states.device)) for states in (before, after))
    lengths = torch.linalg.vector_norm(before, dim=-1) * torch.linalg.vector_norm(after, dim=-1)
    cosine = (before * after).sum(-1) / lengths
    return 1 - torch.where(lengths == 0, 0.5, cosine).clamp(max=1.0)


class InfluenceSums:
    """Adds up, by group and block, how much a block changes its tokens; padding never counts.

    Cost: a forward pass of the prompts without the output head.

    Args:
        model: A transformers model, in evaluation mode.

    Raises:
        UserError: If its blocks cannot be told from one another, or lay out hidden states in an order of their own.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> influence = InfluenceSums(GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=1, n_embd=4, vocab_size=8)).eval())
        >>> influence.add({"input_ids": torch.tensor([[1, 2, 3]]), "group": "fr"})
        >>> list(influence.means()["fr"])
        ['transformer.h.0', 'transformer.h.1']
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.blocks = find_blocks(model)
        if not look_at(model, self.blocks).in_order:
            raise UserError(
                f"{type(model).__name__}: its blocks do not see each token once, in the order of the text; their "
                "influence on tokens cannot be measured"
            )
        names = mask_names(model, [block.stack for block in self.blocks])
        self._masks = {block.path: name for block, name in zip(self.blocks, names, strict=True)}
        # group, path: sum over tokens and their number, a row (2,) a batch, (batches, 2); on the device until read
        self._seen: dict[str, dict[str, list[Tensor]]] = {}

    @torch.no_grad()
    def add(self, batch: Mapping[str, Any]) -> None:
        """Run a batch through the model, without its head, and add its tokens.

        Args:
            batch: As for :func:`mlprune.pruning.prune_model`; its ``group`` is a column of the table.
        """
        inputs = forward_inputs(batch, model_device(self.model), count_padding=False)
        base = self.model.base_model
        assert isinstance(base, nn.Module)
        with self._watching(str(batch.get("group", "default")), inputs):
            base(**inputs, use_cache=False)

    @contextmanager
    def _watching(self, group: str, inputs: Mapping[str, Tensor]) -> Iterator[None]:
        seen = self._seen.setdefault(group, {})
        before: dict[str, Tensor] = {}

        def enter(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            before[path] = hidden.clone()  # some blocks add to it in place

        def leave(path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            found = token_influence(before.pop(path), output if isinstance(output, Tensor) else output[0])
            mask = inputs.get(self._masks[path])
            real = torch.ones_like(found) if mask is None else _laid_out(mask.bool(), found.shape).to(found.dtype)
            row = torch.stack([torch.where(real > 0, found, 0).sum(), real.sum()])
            seen.setdefault(path, []).append(row[None])

        handles = []
        for block in self.blocks:
            handles.append(block.module.register_forward_pre_hook(partial(enter, block.path), with_kwargs=True))
            handles.append(block.module.register_forward_hook(partial(leave, block.path)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def reduce(self) -> None:
        """Add up over processes; a collective under torch.distributed, to be called once."""
        here = {
            group: {path: torch.cat(rows).cpu() for path, rows in seen.items()} for group, seen in self._seen.items()
        }
        self._seen = {}
        for part in gather_objects(here):
            for group, by_block in part.items():
                for path, rows in by_block.items():
                    self._seen.setdefault(group, {}).setdefault(path, []).append(rows)

    def means(self) -> Influences:
        """Return group to path of a block to the mean over tokens: the same bits in whatever order batches came.

        Raises:
            UserError: If one is not a number, as hidden states are not.
        """
        return {
            group: {path: self._mean(group, path) for path in (block.path for block in self.blocks) if path in seen}
            for group, seen in self._seen.items()
        }

    def _mean(self, group: str, path: str) -> float:
        rows: list[tuple[float, float]] = torch.cat(self._seen[group][path]).tolist()
        total = math.fsum(value for value, _ in rows) / max(1.0, sum(tokens for _, tokens in rows))
        if not math.isfinite(total):
            raise UserError(
                f"{path}: hidden states hold NaN or Inf in group '{group}'; check the weights, or use a wider "
                "model.dtype"
            )
        return total


def _laid_out(mask: Tensor, shape: torch.Size) -> Tensor:
    """A mask (B, T) as a block's tokens are laid out: (..., B, T), or (B T)."""
    return mask.expand(shape) if shape[-2:] == mask.shape else mask.reshape(shape)


def block_influence(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> Influences:
    """Measure how much each block changes what passes through it.

    A collective: with several processes each calls it with its share of the batches, and gets what all measured.

    Args:
        model: A transformers model.
        batches: As for :func:`mlprune.pruning.prune_model`.

    Returns:
        Group to path of a block to the mean of :func:`token_influence` over the group's tokens.

    Raises:
        UserError: As :class:`InfluenceSums`.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> list(block_influence(model, [{"input_ids": torch.tensor([[1, 2, 3]]), "group": "fr"}]))
        ['fr']
    """
    with calibrating(model):
        influence = InfluenceSums(model)
        for batch in batches:
            influence.add(batch)
    influence.reduce()
    return influence.means()


def least_influential(influences: Influences) -> list[str]:
    """Return the paths of blocks from the least influential to the most, by the mean over groups.

    Example:
        >>> least_influential({"fr": {"h.0": 0.5, "h.1": 0.1}, "sw": {"h.0": 0.2, "h.1": 0.4}})
        ['h.1', 'h.0']
    """
    paths = next(iter(influences.values()), {})
    return sorted(paths, key=lambda path: math.fsum(values[path] for values in influences.values()))


def influence_csv(influences: Influences) -> str:
    """Return influences as a line a block, with a column a group.

    Example:
        >>> print(influence_csv({"fr": {"h.0": 0.5}, "sw": {"h.0": 0.25}}), end="")
        block,path,fr,sw
        0,h.0,0.5,0.25
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("block", "path", *influences))
    for place, path in enumerate(next(iter(influences.values()), {})):
        writer.writerow((place, path, *(f"{values[path]:.9g}" for values in influences.values())))
    return out.getvalue()

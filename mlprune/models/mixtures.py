"""Mixtures of experts: their experts and routers, found by structure, and a model made of some of its experts.

Shapes: E experts, k of them for each token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlprune.errors import UserError, is_out_of_memory
from mlprune.models.blocks import Block, find_blocks
from mlprune.models.encoder import has_encoder
from mlprune.models.layers import routers_below
from mlprune.models.probe import probe_inputs

COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")  # in configurations
GROUPS = "n_group"  # of experts, of which a token's router takes some


@dataclass(frozen=True, eq=False)
class Mixture:
    """One layer of experts and what routes tokens to them.

    Args:
        block: Position of its block.
        path: Path of the module that holds both.
        experts: The experts, called with tokens, the experts of each (n, k), and their weights (n, k).
        routers: What holds a row, or a number, for each expert.
        num_experts: E.
    """

    block: int
    path: str
    experts: nn.Module
    routers: tuple[nn.Module, ...]
    num_experts: int


def find_mixtures(model: nn.Module, blocks: Sequence[Block] | None = None) -> list[Mixture]:
    """Return the mixtures of a model, at most one a block.

    Args:
        model: A transformers model.
        blocks: Its blocks, if they are known.

    Raises:
        UserError: If it has none, or experts that are not stacked in one module beside their router.

    Example:
        >>> from transformers import MixtralConfig, MixtralForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
        >>> model = MixtralForCausalLM(MixtralConfig(vocab_size=8, num_hidden_layers=1, num_local_experts=3, **sizes))
        >>> [(mixture.path, mixture.num_experts) for mixture in find_mixtures(model)]
        [('model.layers.0.mlp', 3)]
    """
    name, found = type(model).__name__, []
    for position, block in enumerate(find_blocks(model) if blocks is None else blocks):
        owners = {layer.module: layer for layer in block.layers.values() if layer.is_experts}
        listed = [path for path, layer in block.layers.items() if layer.is_routed and not layer.is_experts]
        if len(owners) > 1 or (listed and not owners):
            raise UserError(f"{name}: the experts of '{block.path}' are not stacked in one module; they stay whole")
        for experts, layer in owners.items():
            path = layer.path.removesuffix(f".{layer.parameter}").rpartition(".")[0]
            routers = _routers(block, path, experts)
            if not routers:
                raise UserError(f"{name}: no router stands beside the experts of '{path}'; they stay whole")
            found.append(Mixture(position, path, experts, routers, len(layer.stored)))
    if not found:
        raise UserError(f"{name} has no mixture of experts")
    if has_encoder(model):
        raise UserError(f"{name}: experts of models with an encoder are not pruned")
    counts = {mixture.num_experts for mixture in found}
    if len(counts) > 1:
        raise UserError(f"{name}: its layers have different numbers of experts ({', '.join(map(str, sorted(counts)))})")
    return found


def _routers(block: Block, path: str, experts: nn.Module) -> tuple[nn.Module, ...]:
    """The modules beside experts with a matrix of one row for each."""
    modules = dict(block.module.named_modules())
    mixture, inside = path.removeprefix(block.path).removeprefix("."), set(experts.modules())
    count = len(next(experts.parameters()))
    named = [modules[name] for name in sorted(routers_below(block.module)) if name.startswith(mixture)]
    return tuple(
        module
        for module in named
        if module not in inside
        and any(len(parameter) == count and parameter.dim() == 2 for parameter in module.parameters(recurse=False))
    )


def group_size(model: Any, num_experts: int) -> int:
    """Return how many experts form a group of the router; all of them where it has no groups."""
    groups = getattr(model.config.get_text_config(), GROUPS, None) or 1
    return num_experts // groups


def experts_of_token(model: Any) -> int:
    """Return how many experts each token is routed to.

    Raises:
        UserError: If the configuration does not say.
    """
    config = model.config.get_text_config()
    for name in ("num_experts_per_tok", "moe_topk", "moe_top_k", "top_k_experts"):
        if isinstance(found := getattr(config, name, None), int):
            return found
    raise UserError(f"{type(model).__name__}: its configuration does not say how many experts a token has")


def keep_in_layer(model: nn.Module, mixture: Mixture, kept: Sequence[int]) -> None:
    """Remove the other experts of one layer, in place; the configuration stays."""
    index = torch.tensor(kept, dtype=torch.int64)
    holder = model.get_submodule(mixture.path)
    inside = dict.fromkeys(module for router in mixture.routers for module in router.modules())
    for module in (mixture.experts, *inside, *_around(holder, mixture)):
        _slice(module, mixture.num_experts, index)


def _around(holder: nn.Module, mixture: Mixture) -> Iterator[nn.Module]:
    """The mixture itself, and what stands between it and a router within (a correction, say)."""
    yield holder
    for module in holder.modules():
        if module is not holder and set(module.children()) & set(mixture.routers):
            yield module


def _slice(module: nn.Module, count: int, kept: Tensor) -> None:
    for name, value in list(module.named_parameters(recurse=False)):
        if (new := _rows(value.detach(), count, kept)) is not None:
            setattr(module, name, nn.Parameter(new, requires_grad=value.requires_grad))
    for name, buffer in list(module.named_buffers(recurse=False)):
        if (new := _rows(buffer, count, kept)) is not None:
            setattr(module, name, new)
    for name, number in vars(module).items():
        if type(number) is int and number == count and ("expert" in name or name == "out_features"):
            vars(module)[name] = len(kept)


def _rows(value: Tensor, count: int, kept: Tensor) -> Tensor | None:
    """The part of a tensor, (E, ...) or (1, E), that is of some experts; None of other tensors."""
    if value.dim() and len(value) == count:
        return value[kept.to(value.device)].clone()
    if value.dim() == 2 and value.shape == (1, count):
        return value[:, kept.to(value.device)].clone()
    return None


def check_runs(model: Any) -> None:
    """Run a few tokens through a model that lost experts.

    Raises:
        UserError: If it cannot run with fewer.
    """
    try:
        with torch.no_grad():
            model(**probe_inputs(model))
    except (RuntimeError, IndexError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{type(model).__name__} does not run with fewer experts ({reason}); it cannot be pruned"
        ) from error


def set_count(model: Any, before: int, after: int) -> None:
    """Write the new number of experts into a model's configuration, under whatever name it has it.

    Raises:
        UserError: If no known name has the old number.
    """
    config = model.config.get_text_config()
    names = [name for name in COUNTS if getattr(config, name, None) == before]
    if not names:
        raise UserError(f"{type(model).__name__}: its configuration has the number of experts under no known name")
    for name in names:
        setattr(config, name, after)

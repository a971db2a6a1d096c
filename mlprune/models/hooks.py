"""Hooks that read or change the hidden states between a model's blocks, whatever its architecture."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from mlprune.models.blocks import Block

Change = Callable[[Tensor], Tensor]


def on_input(change: Change) -> Callable[..., tuple[Any, Any]]:
    """Return a forward pre-hook, to be registered ``with_kwargs``, that changes the hidden states a module receives.

    Args:
        change: Returns what the module is to receive instead; the same tensor where nothing is to change.

    Example:
        >>> import torch
        >>> module = nn.Identity()
        >>> handle = module.register_forward_pre_hook(on_input(lambda hidden: hidden + 1), with_kwargs=True)
        >>> module(torch.zeros(1))
        tensor([1.])
    """

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if "hidden_states" in kwargs:
            return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}
        return (change(args[0]), *args[1:]), kwargs

    return hook


@contextmanager
def at_layers(
    blocks: list[Block],
    head: nn.Module,
    change: Callable[[int, Tensor], Tensor],
    layers: Collection[int] | None = None,
) -> Iterator[None]:
    """While open, hidden states pass through a function on their way.

    Layer k is what block k receives, and the layer after the last block what the output head receives, behind the final
    norm: the places of ``hidden_states`` in transformers.

    Args:
        blocks: A model's blocks.
        head: Its output head.
        change: Gets the layer and its hidden states, and returns what goes on.
        layers: The layers where it is called; all if omitted.

    Example:
        >>> import torch
        >>> from mlprune.models.blocks import find_blocks
        >>> model = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(2, 2))]), nn.Linear(2, 2))
        >>> with at_layers(find_blocks(model), model[1], lambda layer, hidden: hidden * 0, layers=[0]):
        ...     bool((model[0][0](torch.ones(1, 2)) == model[0][0][0].bias).all())
        True
    """
    places = [*(block.module for block in blocks), head]
    with ExitStack() as handles:
        for layer, place in enumerate(places):
            if layers is None or layer in layers:
                at_layer = _of_layer(change, layer)
                handles.callback(place.register_forward_pre_hook(on_input(at_layer), with_kwargs=True).remove)
        yield


def _of_layer(change: Callable[[int, Tensor], Tensor], layer: int) -> Change:
    return lambda hidden: change(layer, hidden)

"""What the published pruning codes do, restated faithfully: to be timed, and to compare masks with.

One prompt at a time, every prompt padded to the same length and run without a mask, each block run twice (once for the
statistics, once for the outputs of the pruned block), and a full sort of every row. Follows the structure of Sun et al.
2024 (``prune_wanda``), which the code of Kim et al. 2024 keeps.
"""

import torch
from torch import Tensor, nn


@torch.no_grad()
def published_wanda(
    model: nn.Module, blocks: list[nn.Module], prefix: str, ids: list[Tensor], sparsity: float
) -> dict[str, Tensor]:
    """Prune a model as the published codes do and return the masks (True = kept).

    Args:
        model: The model.
        blocks: Its decoder blocks.
        prefix: Path of the list of blocks.
        ids: One (1, T) tensor of token ids a prompt.
        sparsity: Share of each row that goes.
    """
    states, arguments = _first_inputs(model, blocks[0], ids)
    outputs: list[Tensor] = [torch.empty(0)] * len(states)
    masks = {}
    for k, block in enumerate(blocks):
        layers = {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}
        scalers = {name: layer.weight.new_zeros(layer.in_features).float() for name, layer in layers.items()}
        samples = dict.fromkeys(layers, 0)

        def add_batch(name: str, x: Tensor, scalers: dict[str, Tensor] = scalers, samples: dict = samples) -> None:
            x = x.reshape(-1, x.shape[-1]).t()
            scalers[name] *= samples[name] / (samples[name] + 1)
            samples[name] += 1
            scalers[name] += torch.norm(x.float(), p=2, dim=1) ** 2 / samples[name]

        handles = [
            layer.register_forward_hook(lambda module, args, output, name=name: add_batch(name, args[0].data))
            for name, layer in layers.items()
        ]
        for j, state in enumerate(states):
            outputs[j] = _run(block, state, arguments[j])
        for handle in handles:
            handle.remove()
        for name, layer in layers.items():
            score = torch.abs(layer.weight.data) * torch.sqrt(scalers[name].reshape(1, -1))
            gone = torch.zeros_like(score) == 1
            order = torch.sort(score, dim=-1, stable=True)[1]
            gone.scatter_(1, order[:, : int(score.shape[1] * sparsity)], True)
            layer.weight.data[gone] = 0
            masks[f"{prefix}.{k}.{name}"] = ~gone
        for j, state in enumerate(states):
            outputs[j] = _run(block, state, arguments[j])
        states, outputs = outputs, states
    return masks


def _run(block: nn.Module, hidden: Tensor, arguments: tuple[tuple, dict]) -> Tensor:
    output = block(hidden, *arguments[0], **arguments[1])
    return output[0] if isinstance(output, tuple) else output


def _first_inputs(model: nn.Module, first: nn.Module, ids: list[Tensor]) -> tuple[list[Tensor], list[tuple]]:
    """The inputs and arguments of the first block for every prompt."""
    states: list[Tensor] = []
    arguments: list[tuple] = []

    class Caught(Exception):
        pass

    def catch(module: nn.Module, args: tuple, kwargs: dict) -> None:
        kwargs = {name: value for name, value in kwargs.items() if "past" not in name}
        states.append(kwargs.pop("hidden_states") if "hidden_states" in kwargs else args[0])
        arguments.append((args[1:], kwargs))
        raise Caught

    handle = first.register_forward_pre_hook(catch, with_kwargs=True)
    for prompt in ids:
        try:
            model(prompt, use_cache=False)
        except Caught:
            continue
    handle.remove()
    return states, arguments

"""Wanda as one would write it in an afternoon: whole-model forward passes, one prompt at a time, full sorts.

It shares no code with the package: blocks are named by hand, inputs are seen by plain hooks, and experts are computed
again from the tokens their router chose.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

STACKS = {
    "xglm": ["model.layers"],
    "gpt2": ["transformer.h"],
    "bloom": ["transformer.h"],
    "llama": ["model.layers"],
    "mistral": ["model.layers"],
    "gemma3": ["model.layers"],
    "qwen3": ["model.layers"],
    "opt": ["model.decoder.layers"],
    "gpt_neox": ["gpt_neox.layers"],
    "falcon": ["transformer.h"],
    "phi": ["model.layers"],
    "gptj": ["transformer.h"],
    "mpt": ["transformer.blocks"],
    "mt5": ["encoder.block", "decoder.block"],
    "m2m100": ["model.encoder.layers", "model.decoder.layers"],
    "mixtral": ["model.layers"],
    "qwen3_moe": ["model.layers"],
}


def slow_wanda(
    family: str, model: nn.Module, prompts: list[dict[str, Any]], sparsity: float, propagate: str = "pruned"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Prune a model block by block and return masks and scores by layer path.

    Args:
        family: A key of ``STACKS``.
        model: The model; its weights are zeroed as blocks are pruned.
        prompts: Batches of one prompt without padding.
        sparsity: Share of each row that goes.
        propagate: ``pruned``: later blocks see the pruned ones before them; ``dense``: zero only at the end;
            ``layer``: every layer is given forward passes of its own, after all before it were pruned.
    """
    model.config._experts_implementation = "eager"  # one expert after the other: the plainest of the implementations
    masks: dict[str, Tensor] = {}
    scores: dict[str, Tensor] = {}
    for stack in STACKS[family]:
        for k in range(len(model.get_submodule(stack))):
            energies = block_energies(model, f"{stack}.{k}", prompts)
            for path, energy in energies.items():  # in the order of computation
                if propagate == "layer":
                    energy = block_energies(model, f"{stack}.{k}", prompts)[path]
                score = oriented(model, path).float().abs() * energy.float().sqrt().unsqueeze(-2)
                scores[path] = score
                masks[path] = sorted_mask(score, sparsity)
                if energy.dim() == 2:
                    unseen = energy.sum(-1) == 0
                    masks[path][unseen] = True
                if propagate != "dense":
                    oriented(model, path)[~masks[path]] = 0
    for path, mask in masks.items():
        oriented(model, path)[~mask] = 0
    return masks, scores


def oriented(model: nn.Module, path: str) -> Tensor:
    """The weight of a layer as (..., out_features, in_features), a view."""
    if path.endswith(("gate_up_proj", "down_proj")) and ".experts." in path:
        owner, _, name = path.rpartition(".")
        return getattr(model.get_submodule(owner), name).data
    module = model.get_submodule(path)
    return module.weight.data.T if isinstance(module, Conv1D) else module.weight.data


def sorted_mask(score: Tensor, sparsity: float) -> Tensor:
    count = math.floor(score.shape[-1] * sparsity)
    order = score.sort(dim=-1, stable=True).indices[..., :count]
    return torch.ones_like(score, dtype=torch.bool).scatter_(-1, order, False)


@torch.no_grad()
def block_energies(model: nn.Module, block: str, prompts: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Mean square of every layer's input features over all tokens of all prompts."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, Any] = {}

    def add(path: str, x: Tensor) -> None:
        flat = x.reshape(-1, x.shape[-1]).double()
        sums[path] = sums.get(path, 0) + flat.square().sum(0)
        counts[path] = counts.get(path, 0) + len(flat)

    def expert_hook(path: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        hidden, chosen = args[0], args[1]
        for expert in range(module.num_experts):
            x = hidden[(chosen == expert).any(-1)]
            for name in ("gate_up_proj", "down_proj"):
                rows = sums.setdefault(f"{path}.{name}", torch.zeros(module.num_experts, 0).double())
                width = getattr(module, name).shape[-1]
                if not rows.numel():
                    rows = torch.zeros(module.num_experts, width).double()
                seen = counts.setdefault(f"{path}.{name}", torch.zeros(module.num_experts, 1).double())
                inputs = x if name == "gate_up_proj" else inner(module, expert, x)
                rows[expert] += inputs.double().square().sum(0)
                seen[expert] += len(x)
                sums[f"{path}.{name}"] = rows

    handles = []
    for name, module in model.get_submodule(block).named_modules():
        path = f"{block}.{name}"
        if isinstance(module, nn.Linear | Conv1D):
            handles.append(module.register_forward_pre_hook(lambda m, args, path=path: add(path, args[0])))
        elif name.endswith("experts"):
            handles.append(module.register_forward_pre_hook(lambda m, args, path=path: expert_hook(path, m, args)))
    for prompt in prompts:
        model(**{name: value for name, value in prompt.items() if name != "group"}, use_cache=False)
    for handle in handles:
        handle.remove()
    return {path: total / torch.as_tensor(counts[path]).clamp(min=1) for path, total in sums.items()}


def inner(module: nn.Module, expert: int, x: Tensor) -> Tensor:
    """What an expert's second projection is given."""
    gate, up = (x @ module.gate_up_proj[expert].T).chunk(2, dim=-1)
    return module.act_fn(gate) * up

"""Magnitudes of features: how large each dimension of the hidden states, and of every linear layer's input, gets.

Shapes: B prompts, T tokens, D dimensions.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mlprune.distributed import gather_objects
from mlprune.exact import accumulator_dtype
from mlprune.models.blocks import find_blocks, model_device
from mlprune.pruning.capture import forward_inputs
from mlprune.pruning.statistics import check_finite

Means = dict[str, dict[str, Tensor]]  # group, layer: (D,)


def prompt_norms(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return each dimension's l2 norm over a prompt's tokens, (B, D).

    Source: Kim et al. 2024, Figures 1 to 3.

    Args:
        x: (B, T, D).
        mask: bool (B, T), True where a token counts; all if omitted.

    Example:
        >>> prompt_norms(torch.tensor([[[3.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[5.]])
    """
    squares = x.detach().float().square()
    if mask is not None:
        squares = squares * mask.unsqueeze(-1)
    return squares.sum(1).sqrt()


class Magnitudes:
    """Adds prompts up by group and layer; the magnitude is the mean of :func:`prompt_norms` over a group's prompts.

    Layers of hidden states are named by their position in transformers' ``hidden_states``: ``0`` after the embedding,
    ``k`` after block k - 1 (the last one after the final norm); an encoder's ``encoder 0`` and so on. Inputs of linear
    layers are named by the layer's path.

    Args:
        model: A transformers model.
        linear_inputs: Watch the inputs of linear layers too (stacked experts have none of their own).

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
        >>> magnitudes = Magnitudes(LlamaForCausalLM(LlamaConfig(vocab_size=9, **sizes)))
        >>> magnitudes.add({"input_ids": torch.tensor([[1, 2, 3]]), "group": "mt"})
        >>> list(magnitudes.hidden()["mt"])
        ['0', '1', '2']
    """

    def __init__(self, model: nn.Module, linear_inputs: bool = True) -> None:
        self.model = model
        self.layers: dict[str, nn.Module] = {}
        if linear_inputs:
            layers = [layer for block in find_blocks(model) for layer in block.layers.values()]
            self.layers = {layer.path: layer.module for layer in layers if not layer.is_experts}
        self._hidden: dict[str, dict[str, Tensor]] = {}
        self._inputs: dict[str, dict[str, Tensor]] = {}
        self._prompts: dict[str, int] = {}

    @torch.no_grad()
    def add(self, batch: Mapping[str, Any]) -> None:
        """Run a batch through the model, without its head, and add its prompts.

        Args:
            batch: ``input_ids`` (B, T), and if padded ``attention_mask``; ``group`` (``default`` if omitted).
        """
        group = str(batch.get("group", "default"))
        inputs = forward_inputs(batch, model_device(self.model), count_padding=False)
        masks = {name: mask.bool() for name, mask in inputs.items() if name.endswith("attention_mask")}
        attention_mask, other = masks.get("attention_mask"), masks.get("decoder_attention_mask")
        base = self.model.base_model
        assert isinstance(base, nn.Module)
        with self._watching(group, [mask for mask in (attention_mask, other) if mask is not None]):
            output = base(**inputs, use_cache=False, output_hidden_states=True)
        self._prompts[group] = self._prompts.get(group, 0) + inputs["input_ids"].shape[0]
        sums = self._hidden.setdefault(group, {})
        stacks = [("", getattr(output, "hidden_states", None), attention_mask)]
        stacks += [("encoder ", getattr(output, "encoder_hidden_states", None), attention_mask)]
        stacks += [("decoder ", getattr(output, "decoder_hidden_states", None), other)]
        for prefix, states, mask in stacks:
            for position, hidden in enumerate(states or ()):
                _add(sums, f"{prefix}{position}", hidden, mask)

    @contextmanager
    def _watching(self, group: str, masks: list[Tensor]) -> Iterator[None]:
        sums = self._inputs.setdefault(group, {})

        def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                x = args[0]
                mask = next((m for m in masks if x.shape[:-1] in (m.shape, (m.numel(),))), None)
                if mask is not None or x.dim() == 3:
                    _add(sums, path, x if mask is None else x.reshape(*mask.shape, -1), mask)

            return look

        handles = [module.register_forward_pre_hook(hook(path)) for path, module in self.layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def reduce(self) -> None:
        """Add up over processes; a collective under torch.distributed, to be called once."""
        parts = gather_objects((_on_cpu(self._hidden), _on_cpu(self._inputs), self._prompts))
        self._hidden = _summed([hidden for hidden, _, _ in parts])
        self._inputs = _summed([inputs for _, inputs, _ in parts])
        self._prompts = {}
        for _, _, prompts in parts:
            for group, count in prompts.items():
                self._prompts[group] = self._prompts.get(group, 0) + count

    @property
    def groups(self) -> list[str]:
        """Names of the groups, in the order of their first prompts."""
        return list(self._prompts)

    def hidden(self) -> Means:
        """Return group to layer to magnitudes (D,) of hidden states, float64."""
        return self._means(self._hidden, 0)

    def inputs(self) -> Means:
        """Return group to layer path to magnitudes (in_features,) of the inputs of linear layers, float64."""
        return self._means(self._inputs, 0)

    def hidden_energies(self) -> Means:
        """Return group to layer to energies (D,) of hidden states: the sum of squares over a prompt's tokens, float64.

        It is the mean over prompts.
        """
        return self._means(self._hidden, 1)

    def input_energies(self) -> Means:
        """Return the same of the inputs of linear layers, by the layer's path."""
        return self._means(self._inputs, 1)

    def _means(self, sums: dict[str, dict[str, Tensor]], power: int) -> Means:
        for group, layers in sums.items():
            for layer, value in layers.items():
                check_finite(f"layer {layer}", group, value)
        return {
            group: {layer: value[power].cpu().double() / self._prompts[group] for layer, value in layers.items()}
            for group, layers in sums.items()
        }


def _add(sums: dict[str, Tensor], layer: str, x: Tensor, mask: Tensor | None) -> None:
    norms = prompt_norms(x, mask).to(accumulator_dtype(x.device))
    total = torch.stack([norms.sum(0), norms.square().sum(0)])
    sums[layer] = sums[layer] + total if layer in sums else total


def _on_cpu(sums: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    return {group: {layer: value.cpu() for layer, value in layers.items()} for group, layers in sums.items()}


def _summed(parts: list[dict[str, dict[str, Tensor]]]) -> dict[str, dict[str, Tensor]]:
    total: dict[str, dict[str, Tensor]] = {}
    for part in parts:
        for group, layers in part.items():
            summed = total.setdefault(group, {})
            for layer, value in layers.items():
                summed[layer] = summed[layer] + value if layer in summed else value
    return total

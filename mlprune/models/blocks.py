"""Blocks of a model and the prunable layers in them, found by structure, so that no architecture needs code of its own.

A block is an element of the outermost ``nn.ModuleList`` whose elements all hold prunable layers and are none
themselves. A layer is a Linear, a transformers ``Conv1D`` or a 3-D parameter that stacks the weights of experts.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.pytorch_utils import Conv1D

from mlprune.errors import UserError

EXPERT_PARAMETERS = ("gate_up_proj", "up_proj", "gate_proj", "down_proj")


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight that can be pruned.

    Args:
        path: Its key: the module's path, or ``<module path>.<parameter>`` for stacked experts.
        module: The module that owns the weight.
        parameter: Name of the parameter in the module.
        transposed: Whether the weight is stored as (..., in_features, out_features).
    """

    path: str
    module: nn.Module
    parameter: str = "weight"
    transposed: bool = False

    @property
    def stored(self) -> nn.Parameter:
        """The parameter as the model keeps it."""
        return getattr(self.module, self.parameter)

    @property
    def is_experts(self) -> bool:
        """Whether this is a stack of expert weights, (experts, out_features, in_features)."""
        return self.stored.dim() == 3

    @property
    def is_routed(self) -> bool:
        """Whether it sees only tokens that a router chose: stacked experts, or a layer of one of several experts."""
        return self.is_experts or ".experts." in self.path

    def matrix(self) -> Tensor:
        """Return the weight as a view (out_features, in_features), or (experts, out_features, in_features)."""
        weight = self.stored.data
        return weight.transpose(-1, -2) if self.transposed else weight

    def zero(self, mask: Tensor) -> None:
        """Set the weights to zero where the mask is False.

        Args:
            mask: bool, shape of :meth:`matrix`, True = kept.

        Raises:
            UserError: If the mask has another shape.
        """
        matrix = self.matrix()
        if mask.shape != matrix.shape:
            raise UserError(f"mask of {self.path} has shape {tuple(mask.shape)}; the layer needs {tuple(matrix.shape)}")
        mask = mask.to(matrix.device)
        if isinstance(matrix, DTensor):  # a process that holds a part of the weight needs that part of the mask
            mask = distribute_tensor(mask, matrix.device_mesh, matrix.placements, src_data_rank=None)
        matrix.masked_fill_(~mask, 0)


@dataclass(frozen=True, eq=False)
class Block:
    """One decoder (or encoder) block and its prunable layers, keyed by path."""

    path: str
    module: nn.Module
    layers: dict[str, Layer]

    @property
    def stack(self) -> str:
        """Path of the list the block stands in; an encoder and a decoder are two stacks."""
        return self.path.rpartition(".")[0]


def find_layers(module: nn.Module, prefix: str) -> dict[str, Layer]:
    """Find the prunable layers below a module.

    Args:
        module: Where to look.
        prefix: The module's own path in the model.

    Example:
        >>> sorted(find_layers(nn.ModuleDict({"fc": nn.Linear(2, 3)}), "block"))
        ['block.fc']
    """
    layers: dict[str, Layer] = {}
    for name, child in module.named_modules():
        path = f"{prefix}.{name}" if name else prefix
        if isinstance(child, nn.Linear):
            layers[path] = Layer(path, child)
        elif isinstance(child, Conv1D):
            layers[path] = Layer(path, child, transposed=True)
        else:
            for parameter, value in child.named_parameters(recurse=False):
                if parameter in EXPERT_PARAMETERS and value.dim() == 3:
                    key = f"{path}.{parameter}"
                    layers[key] = Layer(key, child, parameter, transposed=_experts_transposed(child))
    return {path: layer for path, layer in layers.items() if not _is_router(path)}


def _experts_transposed(module: nn.Module) -> bool:
    """Some architectures stack experts as (experts, in, out) and say so in an attribute transformers sets."""
    return bool(getattr(module, "is_transposed", False))


def _is_router(path: str) -> bool:
    """Tell whether a layer only chooses experts: pruning it would reroute tokens, not thin out computation."""
    name = path.rsplit(".", 1)[-1]
    return name in ("router", "gate", "shared_expert_gate") or ".router." in path or ".gate." in path


def find_blocks(model: nn.Module) -> list[Block]:
    """Find a model's blocks in the order of computation (encoder blocks before decoder blocks).

    Of a model that also sees or hears, only the language model's blocks are found: calibration is on text.

    Args:
        model: A transformers model.

    Raises:
        UserError: If nothing prunable is found, naming what was looked for, or if blocks share weights.

    Example:
        >>> model = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(4, 4)) for _ in range(2)]))
        >>> [block.path for block in find_blocks(model)]
        ['0.0', '0.1']
    """
    stacks: list[str] = []
    blocks: list[Block] = []
    text = set(_language_model(model).modules())
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{stack}.") for stack in stacks)
        if inside or not isinstance(module, nn.ModuleList) or module not in text or not len(module):
            continue
        found = [Block(f"{path}.{i}", child, find_layers(child, f"{path}.{i}")) for i, child in enumerate(module)]
        if all(block.layers and block.path not in block.layers for block in found):
            stacks.append(path)
            blocks.extend(found)
    if not blocks:
        raise UserError(
            f"{type(model).__name__}: nothing to prune; looked for an nn.ModuleList of blocks that hold "
            "nn.Linear, Conv1D or stacked expert weights"
        )
    _check_shared(blocks)
    return blocks


def _language_model(model: Any) -> nn.Module:
    config = getattr(model, "config", None)
    if config is None or config.is_encoder_decoder or config.get_text_config() is config:
        return model
    return model.get_decoder()


def _check_shared(blocks: list[Block]) -> None:
    """A weight that several blocks use would be pruned several times, each time for one of them."""
    owners: dict[nn.Parameter, str] = {}
    for path, layer in ((path, layer) for block in blocks for path, layer in block.layers.items()):
        if layer.stored in owners:
            first = owners[layer.stored]
            raise UserError(f"{first} and {path} are one weight; models whose blocks share weights cannot be pruned")
        owners[layer.stored] = path


def model_device(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter.

    Example:
        >>> model_device(nn.Linear(1, 1))
        device(type='cpu')
    """
    return next(model.parameters()).device

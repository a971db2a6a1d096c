"""The prunable layers of a block: Linear layers, transformers' ``Conv1D``, and stacked experts; never a router."""

import re
from dataclasses import dataclass

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.pytorch_utils import Conv1D

from mlprune.errors import UserError
from mlprune.models.experts import stored_inputs_first

EXPERT = re.compile(r"(?<!shared)(?<!shared_)experts?(?![a-z])")  # of a module that sees chosen tokens only


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight that can be pruned.

    Args:
        path: Its key: the module's path, or ``<module path>.<parameter>`` for stacked experts.
        module: The module that owns the weight.
        parameter: Name of the parameter in the module.
        transposed: Whether the weight is stored as (..., in_features, out_features); None if no forward has shown it
            yet, and then it is taken to be (..., out_features, in_features).
    """

    path: str
    module: nn.Module
    parameter: str = "weight"
    transposed: bool | None = False

    @property
    def stored(self) -> nn.Parameter:
        """The parameter as the model keeps it."""
        parameter: nn.Parameter = getattr(self.module, self.parameter)
        return parameter

    @property
    def is_experts(self) -> bool:
        """Whether this is a stack of expert weights, (experts, out_features, in_features)."""
        return self.stored.dim() == 3

    @property
    def is_routed(self) -> bool:
        """Whether it sees only tokens that a router chose: stacked experts, or a layer of one of several experts."""
        return self.is_experts or EXPERT.search(self.path) is not None

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
        matrix.masked_fill_(~self.placed(mask), 0)

    def placed(self, mask: Tensor) -> Tensor:
        """Return a mask as the matrix lies: on its device, and of a weight that is split only this process' part."""
        matrix = self.matrix()
        if isinstance(matrix, DTensor) and not isinstance(mask, DTensor):
            mask = mask.to(matrix.device)
            return distribute_tensor(mask, matrix.device_mesh, matrix.placements, src_data_rank=None)
        return mask.to(matrix.device)


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
        if isinstance(child, nn.Linear | Conv1D):
            layers[path] = Layer(path, child, transposed=isinstance(child, Conv1D))
        else:
            layers |= {layer.path: layer for layer in _stacks(child, path)}
    for name in routers_below(module):
        layers.pop(f"{prefix}.{name}", None)
    return layers


def _stacks(module: nn.Module, path: str) -> list[Layer]:
    """The parameters of a module that stack the matrices of experts, as far as that is known."""
    found = []
    for name, value in module.named_parameters(recurse=False):
        if value.dim() != 3 or min(value.shape) < 2 or is_kernel_or_table(module):
            continue
        try:
            inputs_first = stored_inputs_first(module, name)
        except KeyError:
            found.append(Layer(f"{path}.{name}", module, name, transposed=None))
            continue
        if inputs_first is not None:
            found.append(Layer(f"{path}.{name}", module, name, transposed=inputs_first))
    return found


def is_kernel_or_table(module: nn.Module) -> bool:
    """Tell whether a module's weights look up rows or slide over positions, and are not matrices.

    Example:
        >>> is_kernel_or_table(nn.Embedding(2, 3)), is_kernel_or_table(nn.Linear(2, 3))
        (True, False)
    """
    return isinstance(module, nn.Embedding | nn.modules.conv._ConvNd)


def routers_below(block: nn.Module) -> set[str]:
    """Return the names of the modules that choose experts: to prune them would reroute tokens, no more.

    A router is named so, or is a gate narrower than its input, or stands beside experts and has one output for each.

    Example:
        >>> sorted(routers_below(nn.ModuleDict({"gate": nn.Linear(8, 4), "up": nn.Linear(8, 16)})))
        ['gate']
    """
    found = set()
    for name, module in block.named_modules():
        parts = name.split(".")
        if (widths := _widths(module)) is None:
            continue
        outputs, inputs = widths
        if (
            any("router" in part for part in parts)
            or "shared_expert_gate" in parts
            or ("gate" in parts and outputs < inputs)
        ):
            found.add(name)
    for name, mixture in block.named_modules():
        depth = 1 if mixture is block else 2
        counts = _expert_counts(mixture)
        for below, module in mixture.named_modules() if counts else ():
            widths = None if below.count(".") >= depth or EXPERT.search(below) else _widths(module)
            if below and widths is not None and widths[0] in counts:
                found.add(f"{name}.{below}" if name else below)
    return found


def _widths(module: nn.Module) -> tuple[int, int] | None:
    """The numbers of outputs and inputs of a module with a matrix; None of other modules."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or is_kernel_or_table(module):
        return None
    first, second = weight.shape
    return (second, first) if isinstance(module, Conv1D) else (first, second)


def _expert_counts(module: nn.Module) -> set[int]:
    """How many experts a module and its children hold, as stacks or as lists."""
    counts = set()
    for name, child in [("", module), *module.named_children()]:
        counts |= {len(stack.stored) for stack in _stacks(child, name)}
        if isinstance(child, nn.ModuleList | nn.ModuleDict) and EXPERT.search(name):
            counts.add(len(child))
    return counts

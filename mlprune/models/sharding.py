"""Weights split over processes while a model trains: PyTorch's ``fully_shard``, a unit a block."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from mlprune.models.blocks import find_blocks


def shard(model: PreTrainedModel, mesh: DeviceMesh) -> Callable[[], PreTrainedModel]:
    """Split a model's parameters over the processes of a mesh, in place; each holds a part of every one.

    Blocks are moved to the mesh's devices one at a time, so that no device ever holds the whole model. A collective.

    Args:
        model: A whole model, the same on every process.
        mesh: One-dimensional.

    Returns:
        A function, a collective too, that returns the model as it is then as a plain one, whole and on the CPU.
    """
    values = {id(parameter): nn.Parameter(parameter.detach().to("meta")) for parameter in model.parameters()}
    plain = deepcopy(model, values)  # without values: deepcopy takes what its memo holds for copies made already
    for block in find_blocks(model):
        fully_shard(block.module, mesh=mesh)
    fully_shard(model, mesh=mesh)

    @torch.no_grad()
    def gather() -> PreTrainedModel:
        for empty, part in zip(plain.parameters(), model.parameters(), strict=True):
            whole = part.full_tensor() if isinstance(part, DTensor) else part
            torch.utils.swap_tensors(empty, nn.Parameter(whole.detach().cpu(), part.requires_grad))  # ties stay ties
        return plain.cpu()

    return gather

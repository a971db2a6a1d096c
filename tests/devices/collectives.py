"""Cases of ``cases.py``: as one of several processes, each tensor that is sent lies on the device, as nccl wants it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from devices import cases, parts
from devices.device import NAME, on_device, on_host
from tiny import tiny_batches, tiny_model
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.analysis.magnitudes import Magnitudes
from mlprune.distributed import broadcast_tensor

sent: list[str] = []  # kinds of collectives


@contextmanager
def one_of_several() -> Iterator[None]:
    """While open, the package takes itself for one of several processes; the others send nothing of their own."""

    def on_device_only(kind: str, *tensors: Tensor) -> None:
        sent.append(kind)
        if any(tensor.device.type != NAME for tensor in tensors):
            raise RuntimeError(f"{kind}: no backend type associated with device type cpu")

    def all_gather(gathered: list[Tensor], tensor: Tensor, *_: Any, **__: Any) -> None:
        on_device_only("all_gather", *gathered, tensor)
        gathered[0].copy_(tensor)

    def all_gather_object(gathered: list[Any], value: Any) -> None:
        sent.append("all_gather_object")
        gathered[:] = [value]

    replaced = {
        "is_initialized": lambda: True,
        "get_world_size": lambda group=None: 1,
        "get_rank": lambda group=None: 0,
        "barrier": lambda **_: None,
        "broadcast": lambda tensor, src=None, **_: on_device_only("broadcast", tensor),
        "all_gather": all_gather,
        "all_gather_object": all_gather_object,
        "broadcast_object_list": lambda values, **_: None,
    }
    with ExitStack() as stack:
        for name, function in replaced.items():
            stack.enter_context(patch.object(torch.distributed, name, function))
        stack.enter_context(patch("mlprune.distributed.world_size", lambda: 2))
        yield


def alone(family: str, run: Callable[[PreTrainedModel], Any]) -> tuple[Any, Any, dict[str, Tensor], dict[str, Tensor]]:
    """Run something on the device only."""
    model = on_device(tiny_model(family))
    found = on_host(run(model))
    return found, found, {}, {}


def collectives(family: str) -> None:
    """Pruning, removing experts, units and blocks, and interventions send tensors of the device only."""
    sent.clear()
    with one_of_several():
        try:
            broadcast_tensor(torch.ones(1))
        except RuntimeError:
            sent.clear()
        else:
            raise AssertionError("a tensor of the CPU is sent")
        with patch.object(cases, "both", alone), patch.multiple(parts, both=alone, DEVICES=(NAME, NAME)):
            for case in (cases.pruning, parts.experts, parts.smaller, parts.interventions, parts.counts):
                case(family)
        magnitudes = Magnitudes(on_device(tiny_model(family)))
        magnitudes.add(tiny_batches(family, [9])[0])
        magnitudes.reduce()
    assert {"broadcast", "all_gather", "all_gather_object"} <= set(sent), sent


CASES = [collectives]

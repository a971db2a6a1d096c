"""python tests/devices/faults.py: each fault is planted, and seen caught on the second device."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from devices.reads import own_reads
from devices.second_device import NAME, host_reads, second_device
from tiny import tiny_batches, tiny_model
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.pruning import Calibration, Pruner, Wanda, calibrating, prune_blocks, prune_model
from mlprune.pruning.statistics import ENERGY

BATCHES = tiny_batches("llama", [5, 7])


class Planted(Wanda):
    """Wanda, with something more done to its scores."""

    def __init__(self, fault: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fault = fault

    def score(self, *args: Any) -> Tensor:
        return self.fault(super().score(*args))


def tiny() -> PreTrainedModel:
    return tiny_model("llama", num_hidden_layers=1).to(NAME)


def written(scores: Tensor) -> Tensor:
    """A running sum that stayed on the CPU."""
    torch.zeros(()).add_(scores.sum())
    return scores


REFUSED = {  # fault, and what an accelerator says of it
    "a vector without .to": (lambda scores: scores * torch.ones(scores.shape[-1]), "on the same device"),
    "a scalar of the CPU among others": (
        lambda scores: scores + torch.stack([scores.sum(), torch.tensor(0.0)])[1],
        "on the same device",
    ),
    "a scalar of the CPU written to": (written, "on the same device"),
    "a dtype that is missing": (lambda scores: scores.double(), "has no torch.float64"),
}


def prune(importance: Wanda) -> str:
    """Prune on the second device and return the error that ends it; empty if none does."""
    try:
        prune_model(tiny(), BATCHES, importance=importance)
    except (RuntimeError, TypeError) as error:
        return str(error)
    return ""


def refused() -> None:
    """A fault is an error of its own kind."""
    for name, (fault, says) in REFUSED.items():
        found = prune(Planted(fault))
        assert says in found, f"{name}: {found or 'was not refused'}"


def allowed() -> None:
    """Neither Wanda itself nor a scalar of the CPU that is read entry by entry is a fault."""
    for harmless in (lambda scores: scores, lambda scores: scores * torch.tensor(2.0)):
        found = prune(Planted(harmless))
        assert not found, found


def waiting() -> None:
    """A read of the device for each batch is counted, at its line."""

    def total(x: Tensor, where: Any) -> Tensor:
        assert float(x.abs().sum().item()) > 0
        return ENERGY.total(x, where)

    counts = []
    for statistic in (ENERGY, replace(ENERGY, total=total)):
        importance = Wanda()
        importance.needs = statistic
        model = tiny()
        with calibrating(model):
            step = next(iter(prune_blocks(Calibration(model, BATCHES, pruner=Pruner(importance)))))
            host_reads.clear()
            step.gather()
        counts.append(own_reads().total())
    assert counts[0] == 0
    assert counts[1] >= len(BATCHES)


if __name__ == "__main__":
    with second_device(without_float64=True):
        for check in (refused, allowed, waiting):
            check()
            print(check.__name__, "passed", flush=True)

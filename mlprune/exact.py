"""The base of every statistic and metric: float64 stays float64, and processes add up to the last bit alike."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from mlprune.distributed import meet

NARROW = (torch.bfloat16, torch.float16)  # dtypes that round what a model computes
WITHOUT_FLOAT64 = {"mps"}  # kinds of devices


def accumulator_dtype(device: torch.device | str) -> torch.dtype:
    """Return float64 where the device has it, else float32, as on Apple's MPS.

    Example:
        >>> accumulator_dtype("cpu")
        torch.float64
    """
    return torch.float32 if torch.device(device).type in WITHOUT_FLOAT64 else torch.float64


@contextmanager
def full_float32() -> Iterator[None]:
    """While open, products of float32 matrices are not rounded to TF32 or bfloat16, whatever was allowed elsewhere.

    Some containers allow TF32, with three digits, for all programs; statistics and solvers need the others.

    Example:
        >>> torch.set_float32_matmul_precision("high")
        >>> with full_float32():
        ...     torch.backends.cuda.matmul.fp32_precision
        'ieee'
        >>> torch.backends.cuda.matmul.fp32_precision
        'tf32'
        >>> torch.set_float32_matmul_precision("highest")
    """
    backends: list[Any] = [torch.backends.cuda, torch.backends.mkldnn]
    kinds = [backend.matmul for backend in backends]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


class ExactMetric(Metric):
    """A torchmetrics Metric whose states keep their dtype when the module that owns it is cast.

    ``trainer.precision: bf16-true`` casts all modules; a sum of squares in bfloat16 would be useless.

    Example:
        >>> class Total(ExactMetric):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        ...     def update(self, value):
        ...         self.total += value
        ...     def compute(self):
        ...         return self.total
        >>> nn.ModuleList([Total()]).to(torch.bfloat16)[0].total.dtype
        torch.float64
    """

    full_state_update = False

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # a process without data must send an empty tensor of the state's own dtype
        for name, default in self._defaults.items():
            if isinstance(default, list) and not getattr(self, name):
                setattr(self, name, [self.empty_state(name)])
        meet()
        super()._sync_dist(*args, **kwargs)

    def empty_state(self, name: str) -> Tensor:
        """Return a ``cat`` state's part that holds nothing, in its shape and dtype."""
        return torch.zeros(0, dtype=accumulator_dtype(self.device), device=self.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), exclude_state)


def column_sums(rows: Tensor) -> Tensor:
    """Return the sum of each column, (n, k) to (k,), in sorted order: the same bits in whatever order the rows came.

    Example:
        >>> column_sums(torch.tensor([[0.1, 1.0], [0.2, 2.0]], dtype=torch.float64))
        tensor([0.3000, 3.0000], dtype=torch.float64)
    """
    return torch.stack([column.sort().values.sum() for column in rows.T.contiguous()])

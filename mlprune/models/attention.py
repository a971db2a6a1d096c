"""Which kernels of attention run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_plans() -> Iterator[None]:
    """While open, attention on CUDA uses kernels that need no plan for each shape of a batch.

    cuDNN's, which PyTorch prefers on Hopper, makes one for every new shape, and here nearly every batch has its own:
    a quarter of a second each, on an H200 more than all else that pruning does.

    Example:
        >>> with without_plans():
        ...     torch.backends.cuda.cudnn_sdp_enabled()
        False
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)

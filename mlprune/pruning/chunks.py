"""How much is worked on at a time."""

from torch import Tensor

ELSEWHERE = 2**22  # values on an accelerator, where starting an operator takes longer than computing 10^5 of them


def chunk_rows(values: Tensor, in_cache: int) -> int:
    """Return how many rows an operator takes at a time, so that no copy of all is made; at least one.

    Args:
        values: (..., row length).
        in_cache: So many values fit in a CPU's cache, with what is made of them.

    Example:
        >>> import torch
        >>> chunk_rows(torch.zeros(9, 64), in_cache=256)
        4
    """
    return max((in_cache if values.device.type == "cpu" else ELSEWHERE) // max(values.shape[-1], 1), 1)

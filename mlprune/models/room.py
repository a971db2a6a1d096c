"""How much memory is free on a device, and how many tokens may be computed there at once."""

from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import nn

from mlprune.errors import UserError
from mlprune.models.blocks import Block, find_blocks, model_device
from mlprune.models.layers import find_layers

HOSTS = ("cpu",)  # devices that small batches keep busy, and whose memory they hardly touch
PART = 8  # a batch's activations, or its cache, may take an eighth of what is free
LEAST_TOKENS, MOST_TOKENS = 256, 1 << 16
MEMORY = Path("/proc/meminfo")


def free_memory(device: torch.device) -> float:
    """Return the bytes that are free on a device; infinity where that is unknown.

    Example:
        >>> free_memory(torch.device("cpu")) > 0
        True
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held by PyTorch
        return float(torch.cuda.mem_get_info(device)[0] + unused)
    lines = MEMORY.read_text().splitlines() if MEMORY.is_file() else []
    available = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return float("inf") if available is None else 1024.0 * int(available)


def token_budget(model: nn.Module, on_host: int, token_bytes: Callable[[], int] | None = None) -> int:
    """Return how many tokens a batch may hold: a power of two, as far as memory allows.

    It is determined once for a model, as it is first evaluated, so that what ran before changes no batch.

    Args:
        model: The model.
        on_host: The budget on a CPU, which gains nothing from more.
        token_bytes: Returns what a token takes; if omitted, its activations in one block.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> token_budget(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)), 1024)
        1024
    """
    if model_device(model).type in HOSTS:
        return on_host
    tokens = _room(model) / (activation_bytes(model) if token_bytes is None else token_bytes())
    return _power_of_two(min(max(tokens, LEAST_TOKENS), MOST_TOKENS))


def byte_budget(model: nn.Module, on_host: int, most: int) -> int:
    """Return how many bytes a batch's cache may take: a power of two, as far as memory allows.

    Args:
        model: The model.
        on_host: The budget on a CPU.
        most: The budget where memory is plenty.
    """
    return on_host if model_device(model).type in HOSTS else _power_of_two(max(min(_room(model), most), 1))


def activation_bytes(model: nn.Module) -> int:
    """Return what a token's activations take in one block if none is freed: inputs and outputs of all its layers.

    Of several experts one counts.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> activation_bytes(model)  # 4 to 12, 4 to 4, 4 to 16 and 16 to 4, float32
        256
    """
    if model not in _BYTES:
        sizes = []
        for block in _blocks(model):
            layers = block.layers.values()
            plain = [layer.matrix().shape for layer in layers if not layer.is_routed]
            routed = {layer.matrix().shape[-2:] for layer in layers if layer.is_routed}
            sizes.append(sum(sum(shape) for shape in (*plain, *routed)))
        _BYTES[model] = max([1, *sizes]) * next(model.parameters()).dtype.itemsize
    return _BYTES[model]


def _blocks(model: nn.Module) -> list[Block]:
    """The model's blocks; where none is found, its one block is the whole model."""
    try:
        return find_blocks(model)
    except UserError:
        return [Block("", model, find_layers(model, ""))]


def _room(model: nn.Module) -> float:
    if model not in _ROOM:
        _ROOM[model] = free_memory(model_device(model)) / PART
    return _ROOM[model]


def _power_of_two(number: float) -> int:
    return 1 << (int(number).bit_length() - 1)


_ROOM: WeakKeyDictionary[nn.Module, float] = WeakKeyDictionary()
_BYTES: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

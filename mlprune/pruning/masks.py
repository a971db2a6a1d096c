"""Masks on disk and on models.

File format: safetensors, key = layer path, value = ``numpy.packbits(mask.ravel(), bitorder="little")`` as uint8, and
the shapes as JSON in the header metadata under ``shapes``.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from mlprune.errors import UserError
from mlprune.files import whole_file
from mlprune.models.blocks import find_blocks

Masks = dict[str, Tensor]


def save_masks(masks: Mapping[str, Tensor], path: str | Path) -> None:
    """Write masks to a file, one bit a weight; the file appears only when complete.

    Args:
        masks: Layer path to bool tensor, True = kept.
        path: Target file.

    Raises:
        UserError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_masks({"fc": torch.tensor([[True, False]])}, f"{folder}/m.safetensors")
        ...     load_masks(f"{folder}/m.safetensors")
        {'fc': tensor([[ True, False]])}
    """
    packed = {name: np.packbits(mask.cpu().numpy().ravel(), bitorder="little") for name, mask in masks.items()}
    shapes = json.dumps({name: list(mask.shape) for name, mask in masks.items()})
    with whole_file(path) as partial:
        save_file(packed, partial, metadata={"shapes": shapes})


def load_masks(path: str | Path) -> Masks:
    """Read a file that :func:`save_masks` wrote.

    Raises:
        UserError: If the file does not exist or is not a mask file.

    Example:
        >>> load_masks("nowhere.safetensors")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: mask file 'nowhere.safetensors' does not exist
    """
    if not Path(path).is_file():
        raise UserError(f"mask file '{path}' does not exist")
    masks: Masks = {}
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        if "shapes" not in metadata:
            raise UserError(f"'{path}' is not a mask file: its header has no 'shapes'")
        for name, shape in json.loads(metadata["shapes"]).items():
            bits = np.unpackbits(file.get_tensor(name), count=int(np.prod(shape)), bitorder="little")
            masks[name] = torch.from_numpy(bits.astype(bool).reshape(shape))
    return masks


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero a model's weights in place where the masks are False.

    Args:
        model: The model the masks were made for.
        masks: Layer path to bool tensor, True = kept.

    Raises:
        UserError: If a layer is missing in the model or has another shape; then nothing is changed.

    Example:
        >>> model = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(2, 1))]))
        >>> apply_masks(model, {"0.0.0": torch.tensor([[True, False]])})
        >>> (model[0][0][0].weight != 0).tolist()
        [[True, False]]
    """
    layers = {path: layer for block in find_blocks(model) for path, layer in block.layers.items()}
    for path, mask in masks.items():
        if path not in layers:
            raise UserError(f"the model has no prunable layer '{path}'")
        if mask.shape != layers[path].matrix().shape:
            shape = tuple(layers[path].matrix().shape)
            raise UserError(f"mask of {path} has shape {tuple(mask.shape)}; the layer needs {shape}")
    for path, mask in masks.items():
        layers[path].zero(mask)

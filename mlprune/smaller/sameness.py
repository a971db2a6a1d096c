"""Whether a narrower model is what the whole one is without what was removed, on a few tokens."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.models.checkpoint import read_checkpoint
from mlprune.models.layers import Layer
from mlprune.models.loading import ModelSource
from mlprune.models.probe import probe_inputs

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}  # of logits, relative to their spread
WIDE_TOLERANCE = 0.1  # of narrower dtypes


@contextmanager
def without(layers: Mapping[str, Layer], inputs: Mapping[str, Tensor], biases: Mapping[str, Tensor]) -> Iterator[None]:
    """While open, layers read zeros in place of some inputs, and give something more.

    Args:
        layers: Path to layer.
        inputs: Path of a layer to the inputs that it reads as zeros.
        biases: Path of a layer to what is added to its outputs, (out_features,).
    """

    def silence(index: Tensor) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (args[0].index_fill(-1, index.to(args[0].device), 0), *args[1:])

        return hook

    def shift(bias: Tensor) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return output + bias.to(output)

        return hook

    with ExitStack() as stack:
        for path, index in inputs.items():
            stack.callback(layers[path].module.register_forward_pre_hook(silence(index)).remove)
        for path, bias in biases.items():
            stack.callback(layers[path].module.register_forward_hook(shift(bias)).remove)
        yield


@torch.no_grad()
def probe_logits(model: PreTrainedModel) -> Tensor:
    """Return a model's logits for a few tokens, float32 on the CPU."""
    logits: Tensor = model(**probe_inputs(model)).logits
    return logits.float().cpu()


def check_same(source: ModelSource, folder: Path, expected: Tensor) -> None:
    """Load a narrower model, which thus fits its configuration, and compare its logits with those it must have.

    Args:
        source: The whole model, whose dtype counts.
        folder: The narrower one.
        expected: Logits of a few tokens.

    Raises:
        UserError: If they differ by more than rounding.
    """
    dtype = source.checkpoint.dtype if source.dtype == "auto" else getattr(torch, source.dtype)
    model = read_checkpoint(folder, source.trust_remote_code, **_attention(source)).load(dtype)
    found = probe_logits(model)
    spread = (expected - expected.mean()).norm().clamp(min=1e-30)
    error = float((found - expected).norm() / spread)
    if not error <= TOLERANCE.get(dtype, WIDE_TOLERANCE):
        raise UserError(
            f"{type(model).__name__} uses its heads or units in a way that is not known: with fewer of them its logits "
            f"differ by {error:.1%} of their spread from what the whole model gives without them; its widths stay"
        )


def _attention(source: ModelSource) -> dict[str, Any]:
    return {"attn_implementation": source.attn_implementation} if source.attn_implementation else {}

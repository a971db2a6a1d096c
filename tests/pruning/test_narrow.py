"""Layers of one input, one output or both, in models of one block, on one prompt of one token."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from mlprune.errors import UserError
from mlprune.pruning import (
    OWL,
    RIA,
    AlphaPruning,
    ContrastiveWanda,
    Magnitude,
    NofM,
    Random,
    SparseGPT,
    Unstructured,
    Wanda,
    prune_model,
)

IMPORTANCES = [Wanda(), Wanda(variant=True), ContrastiveWanda(), Magnitude(), Random(), RIA(), SparseGPT()]
PATTERNS = [
    Unstructured(0.5),
    Unstructured(0.9, scope="layer"),
    Unstructured(0.5, drop="highest"),
    Unstructured(0.0),
    NofM(1, 2),
]
ALLOCATIONS = [None, OWL(), AlphaPruning()]
LAYERS = [(1, 1), (1, 4), (4, 1), (2, 1)]


def named(value: Any) -> str:
    return type(value).__name__


def narrow_model(layers: list[tuple[int, int]], blocks: int = 1) -> LlamaForCausalLM:
    """A model whose blocks have linear layers of the given (inputs, outputs) after their own."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=4,
        intermediate_size=1,
        num_hidden_layers=blocks,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=16,
    )
    model = LlamaForCausalLM(config).eval()
    for block in model.model.layers:
        block.mlp.narrow = nn.ModuleList([nn.Linear(*shape) for shape in layers])
        forward = block.mlp.forward

        def widened(x: torch.Tensor, mlp: nn.Module = block.mlp, forward: Any = forward) -> torch.Tensor:
            return forward(x) + sum(layer(x[..., : layer.in_features]).mean() for layer in mlp.narrow)

        block.mlp.forward = widened
    return model


@pytest.mark.parametrize("allocation", ALLOCATIONS, ids=named)
@pytest.mark.parametrize("pattern", PATTERNS, ids=named)
@pytest.mark.parametrize("importance", IMPORTANCES, ids=named)
@pytest.mark.parametrize("tokens", [1, 3])
def test_narrow_layers(importance: Any, pattern: Any, allocation: Any, tokens: int) -> None:
    refused = allocation is not None and not isinstance(pattern, Unstructured)
    refused |= getattr(importance, "variant", False) and (isinstance(pattern, NofM) or pattern.scope == "layer")
    refused |= (
        isinstance(importance, SparseGPT | Wanda)
        and getattr(pattern, "drop", "") == "highest"
        and (isinstance(importance, SparseGPT) or importance.variant)
    )
    refused |= isinstance(importance, SparseGPT) and isinstance(allocation, OWL)
    of_pairs = isinstance(pattern, NofM)
    model = narrow_model([(2, 1)] if of_pairs else LAYERS)
    groups = ["mt", "code"] if isinstance(importance, ContrastiveWanda) else ["mt"]
    batches = [{"input_ids": torch.tensor([[2, 3, 4][:tokens]]), "group": group} for group in groups]
    exclude = [r"down_proj"] if of_pairs else None  # it has one input, which no pair divides
    settings = {"importance": importance, "pattern": pattern, "allocation": allocation, "exclude": exclude}
    if refused:
        with pytest.raises(UserError):
            prune_model(model, batches, **settings)
        return
    masks = prune_model(model, batches, **settings)
    for path, mask in masks.items():
        weight = model.get_submodule(path).weight
        assert mask.shape == weight.shape
        assert bool((weight[~mask] == 0).all())
        if allocation is None and pattern.sparsity == 0.5 and not getattr(importance, "variant", False):
            assert int((~mask).sum()) == mask.shape[0] * (mask.shape[1] // 2), path


def test_a_pattern_that_does_not_fit_one_input_is_refused() -> None:
    with pytest.raises(UserError, match=r"down_proj has 1 inputs, which 2 does not divide"):
        prune_model(narrow_model([]), [{"input_ids": torch.tensor([[2]])}], pattern=NofM(1, 2))

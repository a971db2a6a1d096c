"""2:4 weights are what PyTorch's semi-structured format holds; on a GPU, where one is, the logits stay the same."""

import pytest
import torch
from benchmarks.bench_semi_structured import TOLERANCE, is_two_of_four, to_semi_structured
from tiny import tiny_model
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

from mlprune.models.blocks import find_blocks
from mlprune.pruning import Magnitude, NofM, prune_model

WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}


def pruned(dtype: torch.dtype) -> torch.nn.Module:
    model = tiny_model("llama", dtype, **WIDE)
    prune_model(model, [], importance=Magnitude(), pattern=NofM(2, 4))
    return model


def test_pruned_weights_survive_the_format() -> None:
    matrices = [layer.matrix() for block in find_blocks(pruned(torch.float16)) for layer in block.layers.values()]
    assert all(map(is_two_of_four, matrices))
    for weight in matrices[:7]:
        assert torch.equal(
            sparse_semi_structured_to_dense_cutlass(*sparse_semi_structured_from_dense_cutlass(weight)), weight
        )
    assert not is_two_of_four(torch.ones(64, 64))
    assert not is_two_of_four(torch.zeros(64, 40))


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
    reason="needs an NVIDIA GPU from Ampere on",
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_stay_the_same_on_a_gpu(dtype: torch.dtype) -> None:
    model = pruned(dtype).cuda()
    ids = torch.arange(20, 84, device="cuda").view(2, 32)
    with torch.no_grad():
        expected = model(ids).logits
        converted = to_semi_structured(model)
        found = model(ids).logits
    assert len(converted) == sum(len(block.layers) for block in find_blocks(tiny_model("llama", **WIDE)))
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())

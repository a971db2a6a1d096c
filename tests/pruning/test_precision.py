"""Products of float32 matrices, where a program allows a device to round them."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny import tiny_batches, tiny_model

from mlprune.pruning import SparseGPT, prune_model
from mlprune.pruning.importance import Decision
from mlprune.pruning.sums import sum_of_outer_products

KINDS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)


@pytest.fixture(params=["high", "medium"])
def rounding(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """As NVIDIA's containers and some trainers set it for a whole program."""
    torch.set_float32_matmul_precision(request.param)
    yield [kind.fp32_precision for kind in KINDS]
    torch.set_float32_matmul_precision("highest")


def test_statistics_and_solvers_round_nothing(rounding: list[str]) -> None:
    seen = []

    class Watched(SparseGPT):
        def decide(self, *args: Any) -> Decision:
            seen.append([kind.fp32_precision for kind in KINDS])
            return super().decide(*args)

    prune_model(tiny_model("llama", num_hidden_layers=1), tiny_batches("llama", [5]), importance=Watched())
    assert seen == [["ieee", "ieee"]] * 7
    assert rounding[0] == "tf32"
    assert [kind.fp32_precision for kind in KINDS] == rounding  # models compute as they were told to


def test_gram_matrices_are_exact(rounding: list[str]) -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    found = sum_of_outer_products(x)
    torch.testing.assert_close(found, x.double().T @ x.double(), rtol=0, atol=1e-4)

"""The restated published procedure, which benchmarks time, gives our masks: both follow the same rule."""

import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_batches, tiny_model

from mlprune.models.blocks import find_blocks
from mlprune.pruning import Unstructured, Wanda, prune_model


@pytest.mark.parametrize("family", ["xglm", "llama", "bloom"])
def test_published_procedure_gives_the_same_masks(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    monkeypatch.delitem(sys.modules, "published", raising=False)
    from published import published_wanda

    batches = tiny_batches(family, [12, 7, 15])  # its mean over prompts is of sums over tokens: all tokens weigh alike
    model = tiny_model(family)
    stack = find_blocks(model)[0].stack
    theirs = published_wanda(model, list(model.get_submodule(stack)), stack, [b["input_ids"] for b in batches], 0.3)
    ours = prune_model(tiny_model(family), batches, Wanda(), Unstructured(0.3))
    assert ours.keys() == theirs.keys()
    different = sum(int((mask != theirs[path]).sum()) for path, mask in ours.items())
    assert different <= 0.0002 * sum(mask.numel() for mask in ours.values())
    assert torch.equal(*(next(iter(masks.values())) for masks in (ours, theirs)))

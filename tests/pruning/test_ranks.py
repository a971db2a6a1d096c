"""Two processes give the masks of one, also when the second has no batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny import tiny_batches, tiny_model
from torch import Tensor

from mlprune.batching import deal
from mlprune.pruning import (
    ADMM,
    ALPS,
    GBLM,
    GRAM,
    Calibration,
    ContrastiveWanda,
    DSnoT,
    Pruner,
    RegionalGradient,
    SparseGPT,
    Unstructured,
    Wanda,
    calibrating,
    prune_blocks,
)
from mlprune.pruning.prune import reform
from mlprune.pruning.reap import ExpertPruner

CASES: list[tuple[str, Any, str, int]] = [
    (family, importance, propagate, num_prompts)
    for family, importance, propagate in [
        ("llama", Wanda(), "pruned"),
        ("llama", ContrastiveWanda("mt", "code"), "layer"),
        ("m2m100", Wanda(), "layer"),
        ("mt5", Wanda(), "dense"),
        ("mixtral", Wanda(), "pruned"),
        ("gpt2", SparseGPT(), "layer"),
        ("mixtral", ADMM(), "pruned"),
        ("mt5", ALPS(), "layer"),
        ("llama", DSnoT(), "layer"),
        ("mixtral", DSnoT(), "pruned"),
        ("gpt2", GBLM(), "layer"),
        ("mixtral", RegionalGradient(), "pruned"),
    ]
    for num_prompts in (2, 1)
]


def pruned(rank: int, world_size: int, family: str, importance: Any, propagate: Any, num_prompts: int) -> Any:
    """Prune on one process of several and return masks and weights."""
    lengths = [9, 5, 7, 8][:num_prompts]
    batches = tiny_batches(family, lengths, group="mt") + tiny_batches(family, lengths[1:], seed=1, group="code")
    if isinstance(importance, ContrastiveWanda) and num_prompts == 1:
        batches += tiny_batches(family, [6], seed=1, group="code")
    model = tiny_model(family)
    formed = reform(batches, 10, equal_lengths=family == "mixtral")
    pruner = Pruner(importance, Unstructured(0.5))
    masks: dict[str, Tensor] = {}
    with calibrating(model):
        calibration = Calibration(
            model, deal(formed, rank, world_size), pruner=pruner, propagate=propagate, groups=["mt", "code"]
        )
        for step in prune_blocks(calibration):
            masks |= {path: report.mask for path, report in step.prune().items()}
    return masks, model.state_dict()


def without_experts(rank: int, world_size: int) -> Any:
    """Remove experts on one process of several, and return scores, choice and weights."""
    batches = tiny_batches("mixtral", [9, 5, 7], group="mt") + tiny_batches("mixtral", [8], seed=1, group="code")
    model = tiny_model("mixtral")
    with calibrating(model):
        pruner = ExpertPruner(model, deal(batches, rank, world_size), 0.5, all_groups=["mt", "code"])
        for block in range(len(pruner.blocks)):
            pruner.step(block)
        pruner.finish()
    means = {path: own.means for path, own in pruner.scores.items()}
    return means, pruner.kept, model.state_dict()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        cases = [pruned(rank, 2, *case) for case in CASES]
        torch.save([*cases, without_experts(rank, 2)], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{f}-{p}-{n}" for f, _, p, n in CASES])
def test_two_processes_equal_one(case: int, results: list[list[Any]]) -> None:
    masks, weights = pruned(0, 1, *CASES[case])
    for rank in (0, 1):
        other_masks, other_weights = results[rank][case]
        assert masks.keys() == other_masks.keys()
        for path, mask in masks.items():
            assert torch.equal(mask, other_masks[path]), (rank, path)
        if CASES[case][1].needs is not GRAM:  # whose new weights depend on the last bit of the sums
            assert all(torch.equal(weight, other_weights[name]) for name, weight in weights.items())
    first, second = (results[rank][case][1] for rank in (0, 1))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


def test_two_processes_remove_the_experts_of_one(results: list[list[Any]]) -> None:
    means, kept, weights = without_experts(0, 1)
    for rank in (0, 1):
        other_means, other_kept, other_weights = results[rank][-1]
        assert other_kept == kept
        for path, own in means.items():
            assert all(torch.equal(mean, other_means[path][group]) for group, mean in own.items())
        assert all(torch.equal(weight, other_weights[name]) for name, weight in weights.items())

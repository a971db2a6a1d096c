"""Communication between two processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mlprune.distributed import (
    barrier,
    broadcast_object,
    broadcast_tensor,
    gather_objects,
    launched_rank,
    rank,
    world_size,
)


def exchanged(rank_given: int) -> dict[str, Any]:
    """Call every function with what only this process has."""
    own = torch.tensor([rank_given, 7])
    barrier()
    return {
        "rank": rank(),
        "world_size": world_size(),
        "objects": gather_objects({"rank": rank_given, "set": {"a", None}}),
        "object": broadcast_object(f"version_{rank_given}"),
        "ints": broadcast_tensor(own).tolist(),
        "bools": broadcast_tensor(own == 0).tolist(),
        "view": broadcast_tensor(torch.stack([own, own]).T.double()).tolist(),
    }


def work(number: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    try:
        torch.save(exchanged(number), f"{folder}/{number}.pt")
    finally:
        dist.destroy_process_group()


def test_two_processes(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)
    results = [torch.load(tmp_path / f"{number}.pt", weights_only=False) for number in (0, 1)]
    expected = exchanged(0) | {"world_size": 2, "objects": [{"rank": k, "set": {"a", None}} for k in (0, 1)]}
    assert results == [expected, expected | {"rank": 1}]


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", "LOCAL_RANK"])
def test_before_processes_are_connected_the_launcher_tells(monkeypatch, variable: str) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launched_rank() == 0
    monkeypatch.setenv(variable, "3")
    assert launched_rank() == 3
    assert rank() == 0, "of a process that shares nothing with others"

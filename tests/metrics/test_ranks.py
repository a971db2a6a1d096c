"""Two processes give the figures of one to the last bit, also where one of them has no example."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mlprune.metrics import Accuracy, BitsPerChar, RankC, Translation
from mlprune.metrics.states import single_process

SENTENCES = ["the cat sat on the mat", "a dog ran away from it", "no", "we went home by the river", "it is late"]
SHARES = {"even": [[0, 2, 4], [1, 3]], "reversed": [[4, 3], [2, 1, 0]], "one empty": [[0, 1, 2, 3, 4], []]}


def figures(chosen: list[int]) -> list[Any]:
    """Feed the chosen examples, one by one, to every metric."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    metrics = [RankC(), Accuracy(), BitsPerChar(), Translation("en")]
    for i in chosen:
        metrics[0].update(first[i : i + 1], second[i : i + 1])
        metrics[1].update([{"label": int(first[i].argmax()), "prediction": int(second[i].argmax())}])
        metrics[2].update([{"log_prob": -float(first[i, 0]), "chars": i + 1}])
        metrics[3].update([{"output": SENTENCES[i], "reference": SENTENCES[0]}])
    return [float(metrics[0].compute()), *(metric.compute() for metric in metrics[1:])]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        alone = single_process(Accuracy())
        alone.update([{"label": "a", "prediction": "a"}] * (rank + 1))
        found = {name: figures(share[rank]) for name, share in SHARES.items()} | {"alone": alone.compute()["n"]}
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("share", SHARES)
def test_figures_do_not_depend_on_the_processes(results: list[dict[str, Any]], share: str) -> None:
    assert results[0][share] == results[1][share] == figures([0, 1, 2, 3, 4])


def test_what_is_read_back_is_measured_by_each_process_alone(results: list[dict[str, Any]]) -> None:
    assert [own["alone"] for own in results] == [1, 2]

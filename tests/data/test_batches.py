"""How evaluation is dealt to processes: every batch once, and as much work to each, however small the sets are."""

from types import SimpleNamespace
from typing import Any

import pytest
from tiny import tiny_tokenizer

from mlprune.data.corpora import Bundled
from mlprune.datamodule import PruningDataModule
from mlprune.evaluation.tasks import CandidateTask

LANGUAGES = ["en", "fr", "es", "zh", "hi", "sw"]


def dealt(data: PruningDataModule, rank: int, world_size: int) -> list[Any]:
    trainer: Any = SimpleNamespace(global_rank=rank, world_size=world_size)
    data.join(trainer)
    return [batch for loader in data.test_dataloader() for batch in loader if batch.examples]


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("limit", [3, 20])
def test_processes_have_as_much_to_read(limit: int, world_size: int) -> None:
    nli = CandidateTask("nli", LANGUAGES, Bundled("nli"), "xnli", limit=limit)
    data = PruningDataModule(tasks=[nli, CandidateTask("reviews", LANGUAGES, Bundled("reviews"), "marc")])
    data.read_examples(tiny_tokenizer())
    every = dealt(data, 0, 1)
    parts = [dealt(data, rank, world_size) for rank in range(world_size)]

    def keys(batches: list[Any]) -> list[Any]:
        return sorted((batch.task.name, batch.lang, *batch.positions) for batch in batches)

    assert keys([batch for part in parts for batch in part]) == keys(every)
    work = [sum(batch.num_chars for batch in part) for part in parts]
    assert max(work) - min(work) <= max(batch.num_chars for batch in every)

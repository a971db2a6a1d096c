"""Reading a configuration takes work in proportion to its length."""

from typing import Any

import pytest
from counting import growth

from mlprune.cli.parser import OneLineParser
from mlprune.evaluation.tasks import Task


def tasks_of(count: int) -> list[dict[str, Any]]:
    corpus = {"class_path": "mlprune.data.corpora.Bundled", "init_args": {"name": "nli"}}
    options = {"template": "xnli", "languages": ["en", "fr"], "corpus": corpus}
    path = "mlprune.evaluation.tasks.CandidateTask"
    return [{"class_path": path, "init_args": {"name": f"nli{i}", **options}} for i in range(count)]


def languages_of(count: int) -> list[dict[str, Any]]:
    (task,) = tasks_of(1)
    return [task | {"init_args": task["init_args"] | {"languages": ["en"] * count}}]


@pytest.mark.parametrize(("make", "size"), [(tasks_of, 4), (languages_of, 100)])
def test_reading_and_writing_a_list_is_linear(make: Any, size: int) -> None:
    parser = OneLineParser(exit_on_error=False)
    parser.add_argument("--tasks", type=list[Task])

    def read(count: int) -> None:
        found = parser.parse_object({"tasks": make(count)})
        assert len(make(count)) == len(found.tasks)
        parser.dump(found)

    assert growth(read, size) < 2.1

"""run.json: what each start of a run was, kept beside those it resumes, and never in the way of a run."""

import json
from pathlib import Path

import pytest

from mlprune.errors import UserError
from mlprune.runs.journal import JOURNAL, Journal, read_starts


def test_a_resumed_run_keeps_its_earlier_starts(tmp_path: Path) -> None:
    first = Journal("fit --config a")
    with first.phase("evaluating the dense model"):
        pass
    with pytest.raises(RuntimeError), first.phase("pruning"):
        raise RuntimeError("killed")
    first.write(tmp_path)
    second = Journal("fit --resume RUN", tmp_path)
    with second.phase("pruning") as entry:
        entry["blocks"] = 3
    second.write(tmp_path)
    starts = read_starts(tmp_path)
    assert [start["command"] for start in starts] == ["fit --config a", "fit --resume RUN"]
    assert [[phase["name"] for phase in start["phases"]] for start in starts] == [
        ["evaluating the dense model"],
        ["pruning"],
    ]
    assert starts[1]["phases"][0]["blocks"] == 3
    assert all(start["date"].endswith("+00:00") for start in starts)


@pytest.mark.parametrize("content", ["{", "[]", '{"starts": 3}', '{"starts": [3]}', '{"schema_version": 99}'])
def test_a_damaged_one_is_named_but_stops_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(UserError, match=r"run\.json"):
        read_starts(tmp_path)
    Journal("fit", tmp_path).write(tmp_path)
    assert len(json.loads((tmp_path / JOURNAL).read_text())["starts"]) == 1


def test_a_folder_without_one_says_nothing(tmp_path: Path) -> None:
    assert read_starts(tmp_path) == []

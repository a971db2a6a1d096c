"""A language at exactly 0% or 100%: the run ends with its results, its comparison and its report."""

import json
from pathlib import Path
from typing import Any

from tiny_runs import RUN, write_config


def one_sided_task(folder: Path, name: str, gold: int) -> dict[str, Any]:
    """A task whose rows all have the same right label, which a tiny model always or never gives."""
    rows = "".join(json.dumps({"text": f"row {i}", "gold": gold}) + "\n" for i in range(24))
    for lang in ("en", "fr"):
        (folder / f"{name}.{lang}.jsonl").write_text(rows)
    corpus = {
        "class_path": "mlprune.data.corpora.LocalFiles",
        "init_args": {"path": f"{folder}/{name}.{{lang}}.jsonl"},
    }
    settings = {
        "name": name,
        "languages": ["en", "fr"],
        "template": "{text} is {label}",
        "verbalizer": {"a": "zz", "b": "e"},
        "label_column": "gold",
        "labels": {"0": "a", "1": "b"},
        "corpus": corpus,
    }
    return {"class_path": "mlprune.evaluation.tasks.CandidateTask", "init_args": settings}


def test_a_run_with_languages_at_0_and_100_percent(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    tasks = [one_sided_task(tmp_path, "first", 0), one_sided_task(tmp_path, "second", 1)]
    status, _, err = mlprune("fit", "--config", write_config(tmp_path, tiny_folder, data={"tasks": tasks}))
    assert status == 0, err
    figures = json.loads((RUN / "results.json").read_text())["tasks"]
    accuracies = {row["accuracy"]: row["ci95"] for task in figures.values() for row in task.values()}
    assert set(accuracies) == {0.0, 1.0}
    assert accuracies[0.0][0] == 0.0
    assert accuracies[1.0][1] == 1.0
    assert (RUN / "comparison.json").is_file()
    assert (RUN / "report.html").is_file()

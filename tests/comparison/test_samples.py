"""Runs of lm-evaluation-harness, compared from the samples that it wrote: with each other, and with runs of ours."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlprune.errors import UserError
from mlprune.evaluation.compare import compare, main
from mlprune.files import write_json

STAMP = "2026-11-01T00-00-00.000000"


def sample(doc_id: int, right: bool, prompt: str = "p") -> dict[str, Any]:
    """A line of a multiple-choice task as the harness writes it: numbers of answers as text."""
    scores = [["-1.0", "True"], ["-2.0", "False"]] if right else [["-2.0", "False"], ["-1.0", "True"]]
    return {
        "doc_id": doc_id,
        "doc": {},
        "target": "0",
        "arguments": {},
        "resps": [[own] for own in scores],
        "filtered_resps": scores,
        "filter": "none",
        "metrics": ["acc", "brier_score"],
        "doc_hash": str(doc_id),
        "prompt_hash": f"{prompt}{doc_id}",
        "target_hash": "0",
        "acc": float(right),
        "brier_score": "(0, array([0.5, 0.5]))",
    }


def write_samples(folder: Path, task: str, samples: list[dict[str, Any]]) -> Path:
    model = folder / "some__model"
    model.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(own) + "\n" for own in samples)
    (model / f"samples_{task}_{STAMP}.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """French gets better on 4 of 30 documents; Swahili does not change."""
    for name, wrong in (("a", range(8)), ("b", ())):
        french = [sample(i, i % 2 == 1 and i not in wrong) for i in range(30)]
        write_samples(tmp_path / name, "belebele_fra_Latn", french)
        write_samples(tmp_path / name, "belebele_swh_Latn", [sample(i, i % 3 == 0) for i in range(30)])
    return tmp_path / "a", tmp_path / "b"


def row_of(comparison: dict[str, Any], language: str) -> dict[str, Any]:
    (row,) = (row for row in comparison["differences"] if row["language"] == language and row["metric"] == "acc")
    return row


def test_samples_of_two_models(runs: tuple[Path, Path], capsys: pytest.CaptureFixture, caplog: Any) -> None:
    comparison = compare(*runs, systems=("a", "b"))
    row = row_of(comparison, "fr")
    assert (row["task"], row["before"], row["after"], row["n"]) == ("belebele", 11 / 30, 0.5, 30)
    assert row["p"] == 2 * 0.5**4  # four changed, all for the better
    assert row["changed"] == pytest.approx(4 / 30)
    assert row_of(comparison, "sw")["p"] == 1.0
    assert row_of(comparison, "average")["clusters"] == 30  # documents of one number count once
    assert "metric 'brier_score' is left out" in caplog.text
    assert main([str(runs[0]), str(runs[1])]) == 0
    assert "| French | 36.7 | 50.0 | +13.3 |" in capsys.readouterr().out


def test_other_prompts_are_refused_by_name(runs: tuple[Path, Path]) -> None:
    write_samples(runs[1], "belebele_swh_Latn", [sample(i, True, "q" if i == 3 else "p") for i in range(30)])
    with pytest.raises(UserError, match=r"belebele.sw, example 3: the runs differ in its prompt_hash"):
        compare(*runs)


def test_a_run_of_ours_against_samples(runs: tuple[Path, Path], tmp_path: Path) -> None:
    from mlprune.comparison import TaskRecords
    from mlprune.metrics import HarnessMean

    records = [
        {
            "id": f"{i}",
            "doc_id": i,
            "harness_task": "belebele_fra_Latn",
            "prompt_hash": f"p{i}",
            "target_hash": "0",
            "values": {"acc": 0.0},
            "best": 1,
            "group": str(i // 10),
        }
        for i in range(30)
    ]
    (tmp_path / "ours" / "predictions").mkdir(parents=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "ours" / "predictions" / "reading.fr.jsonl").write_text(lines)
    measured = TaskRecords("reading", {"fr": []}, {"fr": [HarnessMean("acc", answer="best")]}).to_json()
    write_json(tmp_path / "ours" / "results.json", {"schema_version": 2, "measured_by": {"reading": measured}})
    ours = tmp_path / "ours" / "predictions"
    for first, second, sign in ((runs[1], ours, -1), (ours, runs[1], 1)):
        row = row_of(compare(first, second), "fr")
        assert (row["task"], row["delta"], row["n"], row["clusters"]) == ("reading", sign * 0.5, 30, 3)
        assert row["changed"] == 0.5


@pytest.mark.parametrize(
    ("line", "words"),
    [("{", "cannot be read as samples"), ('{"doc_id": 0}', "cannot be read as samples"), ("[]", "cannot be read as")],
)
def test_damaged_samples_are_one_line(runs: tuple[Path, Path], line: str, words: str) -> None:
    (file,) = runs[0].rglob("samples_belebele_fra_Latn*")
    file.write_text(line)
    with pytest.raises(UserError, match=words):
        compare(*runs)


def test_samples_of_several_models_in_one_folder(runs: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="holds samples of several models; give one of"):
        compare(runs[0].parent, runs[1])


def test_files_of_the_harness_itself(tmp_path: Path) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason='needs the extra "interop"')
    from lm_eval.loggers import EvaluationTracker

    assert lm_eval
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    tracker.general_config_tracker.model_name_sanitized = "tiny"
    tracker.general_config_tracker.model_name = "tiny"
    asked = {"resps": [[(-1.0, True)], [(-2.0, False)]], "arguments": [("a", "b")] * 2}
    samples = [sample(i, i % 2 == 0) | asked for i in range(4)]
    results = {"results": {}, "configs": {"xnli_fr": {}}, "higher_is_better": {"xnli_fr": {"acc": True}}}
    tracker.save_results_aggregated(results=results, samples={"xnli_fr": samples})
    tracker.save_results_samples(task_name="xnli_fr", samples=samples)
    row = row_of(compare(tmp_path / "out", tmp_path / "out"), "fr")
    assert (row["task"], row["before"], row["n"]) == ("xnli", 0.5, 4)


def test_more_than_two_systems(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for task in ("belebele_fra_Latn", "belebele_swh_Latn"):
        write_samples(tmp_path / "c", task, [sample(i, True) for i in range(30)])
    folders = [str(runs[0]), str(runs[1]), str(tmp_path / "c")]
    assert main([*folders, "--json", str(tmp_path / "all.json")]) == 0
    text = capsys.readouterr().out
    assert "average difference, row minus column (95% CI; p, Holm)" in text
    assert text.count("Outside English") + text.count("On average over languages") == 2
    found = json.loads((tmp_path / "all.json").read_text())
    assert found["systems"] == folders
    assert {(row["reference"], row["system"]) for row in found["differences"]} == {
        (folders[0], own) for own in folders[1:]
    }
    (french,) = (r for r in found["differences"] if (r["system"], r["language"]) == (folders[1], "fr"))
    assert french["p"] == 2 * 0.5**4
    # two languages of two systems: four tests of one task and measure, of which this one is third
    assert french["p_holm"] == pytest.approx(2 * french["p"])
    pairs = [(row["reference"], row["system"]) for row in found["matrix"]]
    assert pairs == [(folders[0], folders[1]), (folders[0], folders[2]), (folders[1], folders[2])]

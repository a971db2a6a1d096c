"""A user's own task and metric, named in YAML, stand everywhere that figures do; no line of the package knows them."""

import ast
import csv
import json
import re
import string
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import ROOT, RUN, tiny_config

from mlprune.evaluation.compare import main
from mlprune.metrics import Accuracy, BitsPerChar, ExpectedRankC, RankC, Translation
from mlprune.report import read_run, render

LANGUAGES = ("en", "fr", "sw")
OWN = {
    "class_path": "my_task.Questions",
    "init_args": {
        "path": "questions.{lang}.jsonl",
        "languages": list(LANGUAGES),
        "metric": {"class_path": "my_task.SpanF1"},
    },
}
CHARACTERS = {
    "class_path": "mlprune.metrics.TextMetric",
    "init_args": {"metric": {"class_path": "torchmetrics.text.CharErrorRate"}},
}


def documented() -> str:
    """The file that the documents tell a user to write."""
    text = (ROOT / "mlprune/evaluation/README.md").read_text(encoding="utf-8")
    return next(code for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) if "class SpanF1" in code)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[tuple[Path, str]]:
    """A whole experiment on the user's task, in the test's folder, and what it printed."""
    from mlprune.cli import main as command

    folder = tmp_path_factory.mktemp("own")
    (folder / "my_task.py").write_text(documented(), encoding="utf-8")
    for lang in LANGUAGES:
        rows = [{"question": f"Question {i} in {lang}?", "gold": " ".join(string.printable[:95])} for i in range(22)]
        (folder / f"questions.{lang}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    translation = {"languages": ["fr", "sw"], "limit": 3, "shots": 1, "max_chars": 60, "max_new_tokens": 4}
    translation |= {"metrics": [CHARACTERS]}
    tasks = [OWN, {"class_path": "mlprune.evaluation.tasks.TranslationTask", "init_args": translation}]
    config = tiny_config(tiny_folder)
    config["data"]["tasks"] = tasks
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setattr("sys.argv", ["main.py"])
        out = tmp_path_factory.mktemp("out") / "out.txt"
        with out.open("w") as file:
            patch.setattr("sys.stdout", file)
            assert command(["fit", "--config", "run.yaml"]) == 0
        patch.undo()
        patch.syspath_prepend(folder)
        yield folder / RUN, out.read_text()
    sys.modules.pop("my_task", None)


def test_results_have_its_figures(run: tuple[Path, str]) -> None:
    results = json.loads((run[0] / "results.json").read_text())
    rows = [row for row in results["figures"] if row["metric"] == "span_f1"]
    assert [row["language"] for row in rows] == [*LANGUAGES, "average", "average_all"]
    for row in rows:
        assert row["task"] == "questions"
        assert row["system"] == "pruned"
        assert 0 < row["low"] <= row["value"] <= row["high"] <= 100
        assert row["higher_is_better"] is True
    records = [json.loads(line) for line in (run[0] / "predictions/questions.fr.jsonl").read_text().splitlines()]
    from my_task import SpanF1

    metric = SpanF1()
    metric.update(records)
    assert rows[1]["value"] == pytest.approx(float(metric.compute()["span_f1"]))
    assert rows[1]["n"] == rows[1]["clusters"] == 22


def test_the_comparison_has_interval_and_p(run: tuple[Path, str]) -> None:
    comparison = json.loads((run[0] / "comparison.json").read_text())
    rows = [row for row in comparison["differences"] if row["metric"] == "span_f1"]
    assert [row["language"] for row in rows] == [*LANGUAGES, "average", "average_all"]
    for row in rows:
        assert row["low"] <= row["delta"] <= row["high"]
        assert 0 < row["p"] <= row["p_holm"] <= 1
        assert 0 < row["changed"] <= 1
    assert "questions span F1 by" in comparison["headline"]
    with (run[0] / "comparison.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["metric"] == "span_f1"]
    assert [float(line["p"]) for line in lines] == [row["p"] for row in rows]


def test_it_stands_wherever_figures_do(run: tuple[Path, str]) -> None:
    folder, out = run
    assert "questions: span F1" in out
    assert "## questions: span F1" in (folder / "comparison.md").read_text()
    tables = (folder / "comparison.tex").read_text()
    assert r"\caption{questions: span F1}" in tables
    assert tables.count(r"\toprule") == tables.count(r"\bottomrule") == tables.count(r"\begin{table}")
    page = (folder / "report.html").read_text()
    assert page.count("questions: span F1") >= 3  # comparison, chart, figures
    assert "Generated answers" in page
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0}).Reload()
    for system in ("dense", "pruned"):
        own = EventAccumulator(str(folder / "systems" / system)).Reload()
        assert len(own.Scalars("questions/fr/span_f1")) == 1
    assert "headline/questions/span_f1/change" in events.Tags()["scalars"]
    shown = [
        events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("results", "comparison")
    ]
    assert all("## questions: span F1" in text for text in shown)


def test_compare_measures_it_again(run: tuple[Path, str], capsys: pytest.CaptureFixture) -> None:
    assert main([str(run[0]), str(run[0])]) == 0
    text = capsys.readouterr().out
    assert "## questions: span F1" in text
    assert "Outside English, no prediction changed" in text


def test_compare_leaves_out_what_it_cannot_import(
    run: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    (folder / "predictions").mkdir(parents=True)
    for file in (run[0] / "predictions").iterdir():
        (folder / "predictions" / file.name).write_bytes(file.read_bytes())
    (folder / "results.json").write_text((run[0] / "results.json").read_text().replace("my_task.", "gone."))
    assert main([str(folder), str(folder)]) == 0
    assert "task 'questions' is left out: metric 'gone.SpanF1' cannot be made: No module named 'gone'" in caplog.text


def test_a_torchmetrics_class_needs_yaml_only(run: tuple[Path, str]) -> None:
    comparison = json.loads((run[0] / "comparison.json").read_text())
    rows = [row for row in comparison["differences"] if row["metric"] == "char_error_rate"]
    assert [row["language"] for row in rows] == ["fr", "sw", "average"]
    assert {(row["task"], row["higher_is_better"]) for row in rows} == {("translation", False)}
    assert set(comparison["translation"]) == {"fr-en", "sw-en"}  # what schema 1 had is as it was


def test_the_report_needs_neither_task_nor_metric(run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_task", None)  # cannot be imported
    assert "questions: span F1" in render([read_run(run[0])])


# -- no other line knows a metric's name --------------------------------------------------------------------------

NAMES = {
    measure.name for metric in (Accuracy, BitsPerChar, ExpectedRankC, RankC, Translation) for measure in metric.measures
}
NAMES |= {measure.title for metric in (BitsPerChar, ExpectedRankC, RankC, Translation) for measure in metric.measures}
PACKAGE = ROOT / "mlprune"
KNOW = ("metrics", "evaluation/tasks", "comparison/schema1.py", "studies/endpoint.py")  # the last as a default


def strings(path: Path) -> list[str]:
    """All strings of a file but docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


@pytest.mark.parametrize("path", [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("templates/report*")], ids=str)
def test_no_other_file_knows_a_metric(path: Path) -> None:
    if str(path.relative_to(PACKAGE)).startswith(KNOW):
        return
    found = strings(path) if path.suffix == ".py" else [path.read_text(encoding="utf-8")]
    known = {name for text in found for name in NAMES if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}
    assert not known

"""Tasks of lm-evaluation-harness in a whole experiment: their figures stand wherever figures do."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness_tasks import write_tasks
from tiny_runs import RUN, tiny_config

from mlprune.report import read_run, render

pytest.importorskip("lm_eval", reason='needs the extra "interop": pip install "mlprune[interop]"')

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
NAMES = ("choice", "several", "written", "texts")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[tuple[Path, str]]:
    """A run's folder, and what the experiment printed."""
    import datasets

    from mlprune.cli import main as command

    folder = tmp_path_factory.mktemp("harness")
    for lang in ("fr", "sw"):
        write_tasks(folder, lang)
    shared = {"languages": ["fr", "sw"], "include_path": "tasks", "aligned": True}
    config = tiny_config(tiny_folder)
    config["data"]["tasks"] = [
        {"class_path": "mlprune.evaluation.tasks.LmEval", "init_args": shared | {"tasks": name + "_{lang}"}}
        for name in NAMES
    ]
    config["data"]["limit"] = 8
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["main.py"])
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        assert command(["fit", "--config", "run.yaml"]) == 0
        yield folder / RUN, str(folder)


def rows(folder: Path, name: str, key: str) -> list[dict[str, Any]]:
    content = json.loads((folder / name).read_text())
    found: list[dict[str, Any]] = content[key]
    return found


def test_figures_are_rows(run: tuple[Path, str]) -> None:
    figures = rows(run[0], "results.json", "figures")
    found = {(row["task"], row["language"], row["metric"]): row for row in figures}
    accuracy = found["choice", "fr", "acc"]
    assert (accuracy["n"], accuracy["unit"], accuracy["higher_is_better"]) == (8, "%", True)
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert ("choice", "fr-sw", "rankc") in found
    assert not found["texts", "average", "word_perplexity"]["higher_is_better"]
    assert found["texts", "sw", "bits_per_byte"]["value"] > 0
    assert ("written", "fr", "exact_match,first") in found


def test_dense_and_pruned_are_compared(run: tuple[Path, str]) -> None:
    differences = rows(run[0], "comparison.json", "differences")
    keys = {(row["task"], row["language"], row["metric"]) for row in differences}
    assert {("choice", "fr", "acc"), ("choice", "average", "acc"), ("texts", "sw", "word_perplexity")} <= keys
    assert all(row["p"] is not None and 0 < row["p"] <= 1 for row in differences if row["metric"] == "acc")
    perplexity = next(row for row in differences if row["metric"] == "word_perplexity")
    assert perplexity["before"] != perplexity["after"]
    with (run[0] / "comparison.csv").open(encoding="utf-8") as file:
        assert {row["metric"] for row in csv.DictReader(file)} >= {"acc", "brier_score", "exact_match,first"}


def test_the_report_shows_them(run: tuple[Path, str]) -> None:
    page = render([read_run(run[0])])
    assert "choice: acc, %" in page
    assert "texts: word_perplexity, lower is better" in page


def test_the_harness_finds_the_same_for_the_pruned_model(run: tuple[Path, str], tmp_path: Path) -> None:
    import sys

    from mlprune.evaluation.harness import main

    arguments = ["--model", "mlprune", "--model_args", f"pretrained={run[0] / 'pruned'},dtype=float32"]
    arguments += ["--tasks", "several_fr,several_sw", "--include_path", f"{run[1]}/tasks", "--limit", "8"]
    arguments += ["--output_path", str(tmp_path), "--log_samples", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", ["lm_eval", *arguments])
        assert main() == 0
    (file,) = tmp_path.rglob("results_*.json")
    found = json.loads(file.read_text())["results"]
    ours = {row["language"]: row for row in rows(run[0], "results.json", "figures") if row["task"] == "several"}
    for lang in ("fr", "sw"):
        assert ours[lang]["metric"] == "acc"
        assert ours[lang]["value"] == found[f"several_{lang}"]["acc,none"]

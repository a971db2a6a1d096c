"""A sweep: one dense calibration, each sparsity evaluated as a run of its own would be."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import RUN, write_config

from mlprune.callbacks import PruningCallback
from mlprune.comparison import read_differences
from mlprune.comparison.schema1 import read_line
from mlprune.errors import UserError

LEVELS = [0.1, 0.5]


def comparison_of(run: Path) -> dict:
    return json.loads((run / "comparison.json").read_text())


def test_every_sparsity_is_what_a_run_of_its_own_gives(mlprune, tiny_folder: Path, tmp_path: Path) -> None:
    pruning = {"propagate": "dense"}
    swept = write_config(tmp_path, tiny_folder, name="sweep.yaml", pruning=pruning | {"sweep": LEVELS})
    status, out, err = mlprune("fit", "--config", swept, "--trainer.default_root_dir", tmp_path / "swept")
    assert status == 0, err
    assert "Run folder" in out
    folder = tmp_path / "swept" / "lightning_logs" / "version_0"
    pattern = {"class_path": "mlprune.pruning.Unstructured", "init_args": {"sparsity": 0.5}}
    alone = write_config(tmp_path, tiny_folder, name="alone.yaml", pruning=pruning | {"pattern": pattern})
    status, _, err = mlprune("fit", "--config", alone, "--trainer.default_root_dir", tmp_path / "alone")
    assert status == 0, err
    other = tmp_path / "alone" / "lightning_logs" / "version_0"

    for name in ("nli.fr.jsonl", "reviews.sw.jsonl", "perplexity.en.jsonl"):
        assert (folder / "predictions.dense" / name).read_bytes() == (other / "predictions.dense" / name).read_bytes()
        own = folder / "recipes" / "pruned-sparsity-0.5" / "seed-0" / "select.0" / "predictions" / name
        assert own.read_bytes() == (other / "predictions" / name).read_bytes()
    own, expected = load_file(folder / "statistics.safetensors"), load_file(other / "statistics.safetensors")
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[key], expected[key]) for key in own)
    rows = list(csv.DictReader((folder / "study.csv").open(encoding="utf-8")))
    assert {float(row["sparsity"]) for row in rows} == set(LEVELS)
    expected = {(row.task, row.language, row.measure.name): row for row in read_differences(comparison_of(other))}
    own = {(row["task"], row["language"], row["metric"]): row for row in rows if row["sparsity"] == "0.5"}
    assert own.keys() == expected.keys()
    for key, row in expected.items():
        assert replace(read_line(own[key]), system="pruned") == row, key
    assert (folder / "figures" / "sweep.png").stat().st_size > 1000
    assert (folder / "report.html").is_file()
    assert not (folder / ".unfinished").exists()


def test_an_interrupted_sweep_goes_on(mlprune, tiny_folder: Path, tmp_path: Path, monkeypatch) -> None:
    from mlprune.evaluation.tasks import CandidateTask
    from mlprune.pruning import Calibration

    config = write_config(tmp_path, tiny_folder, pruning={"propagate": "dense", "sweep": [0.2, 0.4, 0.6]})
    asked: list[str] = []
    predict, limit = CandidateTask.predict, 1000

    def some(self, model, tokenizer, lang, examples):
        asked.extend(example.id for example in examples)
        if len(asked) > limit:
            raise KeyboardInterrupt
        return predict(self, model, tokenizer, lang, examples)

    monkeypatch.setattr(CandidateTask, "predict", some)
    assert mlprune("fit", "--config", config, "--trainer.default_root_dir", "whole")[0] == 0
    an_evaluation = len(asked) // 4
    asked.clear()
    limit = int(2.5 * an_evaluation)  # dense, 0.2, and half of 0.4
    with pytest.raises(SystemExit):
        mlprune("fit", "--config", config, "--trainer.default_root_dir", "broken")
    asked.clear()
    limit = 1000
    monkeypatch.setattr(Calibration, "show", None)  # the dense model is not calibrated again
    status, _, err = mlprune("fit", "--resume", Path("broken", RUN))
    assert status == 0, err
    assert len(asked) < 1.6 * an_evaluation
    whole, broken = (sorted(Path(folder, RUN).rglob("*.json*")) for folder in ("whole", "broken"))
    whole, broken = (
        [file for file in files if file.name not in ("inputs.json", "run.json")] for files in (whole, broken)
    )
    assert [file.relative_to("whole") for file in whole] == [file.relative_to("broken") for file in broken]
    assert all(a.read_text() == b.read_text() for a, b in zip(whole, broken, strict=True))
    assert Path("whole", RUN, "study.csv").read_bytes() == Path("broken", RUN, "study.csv").read_bytes()


@pytest.mark.parametrize("levels", [[], [0.2, 0.2], [0.2, 0.2000001], [0.5, 0.3, 0.29999999]])
def test_sparsities_that_share_a_folder_are_refused(levels: list[float]) -> None:
    with pytest.raises(UserError, match="each once"):
        PruningCallback(propagate="dense", sweep=levels)

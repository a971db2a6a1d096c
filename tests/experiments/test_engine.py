"""The Engine from Python: what it returns, dense results that are there already, and what loading the package costs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import ROOT, RUN, write_config

from mlprune import Engine
from mlprune.callbacks import PruningCallback, RunCallback
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.evaluation.tasks import PerplexityTask

OPTIONS = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}


def data(**settings: Any) -> PruningDataModule:
    return PruningDataModule(tasks=[PerplexityTask(["en", "fr"], limit=3)], num_prompts=3, max_tokens=80, **settings)


def test_loading_the_package_loads_neither_torch_nor_lightning() -> None:
    code = "import sys, mlprune; assert not {'torch', 'lightning', 'transformers'} & set(sys.modules); mlprune.Engine"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_readmes_lines_end_in_a_comparison(tmp_path: Path, tiny_folder: Path, monkeypatch, capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = next(block for block in blocks if "Engine(" in block)
    assert len([line for line in lines.splitlines() if line]) == 5
    monkeypatch.chdir(tmp_path)
    exec(lines.replace('"demo"', repr(str(tiny_folder))), {})
    headline = json.loads((tmp_path / RUN / "comparison.json").read_text())["headline"]
    assert capsys.readouterr().out.splitlines()[-1] == headline


def test_hooks_see_the_run(tmp_path: Path, tiny_folder: Path) -> None:
    seen: list[Any] = []

    class Listener(RunCallback):
        def on_block_pruned(self, run, block, reports, seconds) -> None:
            seen.append(("block", block, len(reports), seconds > 0))

        def on_evaluated(self, run, system, results) -> None:
            seen.append((system, sorted(results["perplexity"])))

        def on_run_end(self, run) -> None:
            seen.append(("end", (run.folder / "comparison.json").is_file()))

    engine = Engine(str(tiny_folder), data(), callbacks=[Listener()], default_root_dir=tmp_path, **OPTIONS)
    comparison = engine.experiment()
    assert comparison == json.loads((tmp_path / "mlprune_run" / "comparison.json").read_text())
    blocks = [("block", block, 7, True) for block in range(3)]
    assert seen == [("dense", ["en", "fr"]), *blocks, ("pruned", ["en", "fr"]), ("end", True)]


def test_evaluate_and_prune_alone(tmp_path: Path, tiny_folder: Path) -> None:
    results = Engine(str(tiny_folder), data(), default_root_dir=tmp_path / "a", **OPTIONS).evaluate()
    assert results["perplexity"]["fr"]["n"] == 3
    engine = Engine(str(tiny_folder), data(), PruningCallback(propagate="layer"), default_root_dir=tmp_path, **OPTIONS)
    engine.prune()
    assert engine.run.outcome.sparsity == pytest.approx(0.285, abs=0.01)
    assert (tmp_path / "mlprune_run" / "pruned").is_dir()


@pytest.mark.parametrize("source", ["fit", "test"])
def test_dense_results_of_another_run(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch, source: str) -> None:
    from mlprune.evaluation.tasks import CandidateTask

    config = write_config(tmp_path, tiny_folder)
    assert mlprune(source, "--config", config, "--trainer.default_root_dir", "first")[0] == 0
    asked: list[str] = []
    predict = CandidateTask.predict
    monkeypatch.setattr(
        CandidateTask, "predict", lambda self, *a: asked.extend(e.id for e in a[3]) or predict(self, *a)
    )
    pattern = ["--pruning.pattern", "Unstructured", "--pruning.pattern.sparsity", "0.5"]
    flags = ["fit", "--config", config, "--trainer.default_root_dir", "second", *pattern]
    status, _, err = mlprune(*flags, "--dense", Path("first", RUN))
    assert status == 0, err
    once = len(asked)
    assert mlprune(*flags)[0] == 0
    assert len(asked) == 3 * once  # the other evaluated the dense model too
    first, second = (Path("second/lightning_logs", name) for name in ("version_0", "version_1"))
    for name in ("results.dense.json", "results.json", "comparison.json"):
        whole, taken = (json.loads((run / name).read_text()) for run in (second, first))
        for content in (whole, taken):
            content.pop("config_hash", None)  # --dense is another setting
        assert whole == taken, name


def test_dense_results_of_something_else_are_refused_by_name(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder, data={"limit": 3})
    assert mlprune("test", "--config", config)[0] == 0
    for flags, words in (
        (["--model.dtype", "bfloat16"], "model settings"),
        (["--data.limit", "2"], "task nli, examples en"),
        (["--dense", "nowhere"], "no results of a dense model there"),
    ):
        status, _, err = mlprune("fit", "--config", config, "--dense", RUN, *flags)
        assert (status, err.count("\n")) == (2, 1), err
        assert words in err
    status, _, err = mlprune("test", "--config", config, "--dense", RUN)
    assert (status, err.count("\n")) == (2, 1), err
    assert "--dense goes with fit" in err


def test_interventions_and_the_callback_are_the_same(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    features = {2: list(range(20))}
    own = {"class_path": "mlprune.interventions.FeatureAblation", "init_args": {"features": features}}
    callback = {"class_path": "mlprune.callbacks.FeatureAblation", "init_args": {"features": features}}
    sections = {
        "plain": {},
        "own": {"model": {"interventions": [own]}},
        "callback": {"trainer": {"accelerator": "cpu", "devices": 1, "callbacks": [callback]}},
    }
    scores = {}
    for name, section in sections.items():
        config = write_config(tmp_path, tiny_folder, **section)
        status, _, err = mlprune("test", "--config", config, "--trainer.default_root_dir", name)
        assert status == 0, err
        scores[name] = (Path(name) / RUN / "predictions" / "reviews.fr.jsonl").read_text()
    assert scores["own"] == scores["callback"]
    assert scores["own"] != scores["plain"]


def test_trainer_and_options_do_not_mix() -> None:
    from lightning.pytorch import Trainer

    with pytest.raises(UserError, match="max_epochs"):
        Engine("demo", trainer=Trainer(accelerator="cpu", logger=False), max_epochs=1)

"""A killed run resumes where it stopped, and ends as if nothing had happened."""

import json
import os
import shlex
import signal
from pathlib import Path

import pytest
from tiny_runs import RUN, assert_same_run, start, write_config


def killer(stage: str, batch: int, how: str = "SIGKILL") -> dict:
    return {
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "callbacks": [
                {
                    "class_path": "kill_once.KillOnce",
                    "init_args": {"stage": stage, "batch": batch, "marker": "killed", "how": how},
                }
            ],
        }
    }


@pytest.mark.parametrize(("stage", "batch"), [("validation", 2), ("calibration", 4), ("test", 5)])
def test_fit_survives_a_kill(mlprune, tmp_path: Path, tiny_folder: Path, stage: str, batch: int) -> None:
    whole = tmp_path / "whole"
    broken = tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    config = write_config(broken, tiny_folder, **killer(stage, batch))
    assert start(broken, "fit", "--config", config).returncode == -signal.SIGKILL
    assert not (broken / RUN / "results.json").exists()
    again = start(broken, "fit", "--resume", RUN)
    assert again.returncode == 0, again.stderr
    os.chdir(whole)
    assert mlprune("fit", "--config", write_config(whole, tiny_folder))[0] == 0
    assert_same_run(whole / RUN, broken / RUN)
    assert not (broken / RUN / ".unfinished").exists()


@pytest.mark.parametrize("propagate", ["pruned", "dense", "layer"])
@pytest.mark.parametrize("importance", ["Wanda", "SparseGPT", "ALPS", "DSnoT"])
def test_finished_blocks_are_not_decided_again(
    mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch, propagate: str, importance: str
) -> None:
    from mlprune.pruning import Calibration, Pruner

    pruning = {"propagate": propagate, "importance": {"class_path": f"mlprune.pruning.{importance}"}}
    config = write_config(tmp_path, tiny_folder, pruning=pruning)
    assert mlprune("validate", "--config", config, "--trainer.default_root_dir", "whole")[0] == 0
    decided: list[str] = []
    prune_layer = Pruner.prune_layer

    def until_the_last_block(self, layer, statistics):
        decided.append(layer.path)
        if ".2." in layer.path:
            raise KeyboardInterrupt
        return prune_layer(self, layer, statistics)

    monkeypatch.setattr(Pruner, "prune_layer", until_the_last_block)
    with pytest.raises(SystemExit):
        mlprune("validate", "--config", config, "--trainer.default_root_dir", "broken")
    monkeypatch.setattr(Pruner, "prune_layer", lambda *a: decided.append(a[1].path) or prune_layer(*a))
    seen: list[int] = []
    show = Calibration.show
    monkeypatch.setattr(
        Calibration, "show", lambda self, block, *a, **k: seen.append(block) or show(self, block, *a, **k)
    )
    decided.clear()
    status, _, err = mlprune("validate", "--resume", Path("broken", RUN))
    assert status == 0, err
    assert {path.split(".")[2] for path in decided} == {"2"}
    assert set(seen) <= {2}
    for name in ("masks.safetensors", "pruned/model.safetensors"):
        assert Path("whole", RUN, name).read_bytes() == Path("broken", RUN, name).read_bytes(), name


def test_finished_examples_are_not_evaluated_again(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch) -> None:
    from mlprune.evaluation.tasks import CandidateTask

    config = write_config(tmp_path, tiny_folder)
    assert mlprune("test", "--config", config, "--trainer.default_root_dir", "whole")[0] == 0
    evaluated: list[tuple] = []
    predict = CandidateTask.predict

    def some(self, model, tokenizer, lang, examples):
        evaluated.extend((self.name, lang, example.id) for example in examples)
        if len(evaluated) > 20:
            raise KeyboardInterrupt
        return predict(self, model, tokenizer, lang, examples)

    monkeypatch.setattr(CandidateTask, "predict", some)
    with pytest.raises(SystemExit):
        mlprune("test", "--config", config, "--trainer.default_root_dir", "broken")
    first = list(evaluated)
    evaluated.clear()
    evaluated_twice = lambda self, *a: evaluated.extend((self.name, a[2], e.id) for e in a[3]) or predict(self, *a)  # noqa: E731
    monkeypatch.setattr(CandidateTask, "predict", evaluated_twice)
    assert mlprune("test", "--resume", Path("broken", RUN))[0] == 0
    kept = [example for example in first if example not in evaluated]
    assert len(kept) >= 10
    a, b = (json.loads(Path(folder, RUN, "results.json").read_text()) for folder in ("whole", "broken"))
    assert a == b


def test_ctrl_c_says_how_to_resume(tmp_path: Path, tiny_folder: Path) -> None:
    folder = tmp_path / "a folder with a long name that no console of eighty columns has room for, with spaces"
    folder.mkdir()
    config = write_config(folder, tiny_folder, **killer("calibration", 5, "SIGINT"))
    run = start(folder, "validate", "--config", config)
    assert run.returncode not in (0, -signal.SIGINT)
    assert "Traceback" not in run.stderr
    hint = run.stderr.splitlines()[-1]
    program, script, *command = shlex.split(hint.partition("resume with: ")[2])
    assert (program, Path(script).name, command[:2]) == ("python", "main.py", ["validate", "--resume"])
    assert start(folder, *command).returncode == 0


def test_what_cannot_be_resumed(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    assert mlprune("validate", "--config", config)[0] == 0
    for args, words in (
        (["validate", "--resume", "nowhere"], "no config.yaml"),
        (["validate", "--resume"], "needs the folder"),
        (["--resume", RUN, "validate"], "after the subcommand"),
        (["validate", "--resume", RUN], "complete"),
    ):
        status, _, err = mlprune(*args)
        assert (status, err.count("\n")) == (2, 1)
        assert words in err
    (RUN / ".unfinished").mkdir()
    status, _, err = mlprune("validate", "--resume", RUN, "--data.num_prompts", 3)
    assert (status, err.count("\n")) == (2, 1)
    assert "data.num_prompts was 5" in err

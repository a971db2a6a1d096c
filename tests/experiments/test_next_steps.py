"""What an experiment says at its end: a sentence a task, and commands that work as they are printed."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from tiny_runs import RUN, tiny_config

from mlprune.callbacks.pruning import PruningCallback
from mlprune.experiments.next_steps import next_steps
from mlprune.pruning import NofM, Random

PERPLEXITY = {
    "class_path": "mlprune.evaluation.tasks.PerplexityTask",
    "init_args": {"languages": ["en", "fr"], "rows": "0-5"},
}


def commands(out: str) -> list[list[str]]:
    """The commands that are printed, without the program."""
    printed = out.partition("What to try next:")[2].splitlines()
    return [shlex.split(line)[2:] for line in printed if line.startswith("    ")]


def test_the_printed_commands_run(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = tiny_config(tiny_folder, data={"tasks": [PERPLEXITY]})
    config["pruning"] = {"pattern": {"class_path": "mlprune.pruning.Unstructured", "init_args": {"sparsity": 0.6}}}
    Path("run.yaml").write_text(yaml.safe_dump(config))
    status, out, err = mlprune("fit", "--config", "run.yaml")
    assert status == 0, err
    said = json.loads((RUN / "comparison.json").read_text())["sentences"]
    assert len(said) == 1
    assert said[0] in " ".join(out.split())
    found = commands(out)
    assert [command[:3] for command in found] == [["fit", "--config", str(RUN / "config.yaml")]] * 3
    assert [command[3] for command in found] == ["--dense", "--dense", "--seed_everything"]
    for number, command in enumerate(found, start=1):
        status, _, err = mlprune(*command)
        assert status == 0, err
        settings = yaml.safe_load(Path(f"lightning_logs/version_{number}/config.yaml").read_text())
        flag, value = command[-2:]
        assert str(_value(settings, flag)).replace(" ", "") == value


def _value(settings: dict, flag: str) -> object:
    for name in flag.removeprefix("--").split("."):
        settings = settings[name]
    return settings["class_path"] if isinstance(settings, dict) else settings


class _Stub:
    """What next_steps needs of a run that is over."""

    def __init__(self, folder: Path, epochs: int = 0) -> None:
        self.folder = folder
        self.module = type("Module", (), {"smaller": []})
        self.data = type("Data", (), {"seed": 4})
        self.trains = bool(epochs)
        self.trainer = type("Trainer", (), {"max_epochs": epochs})


@pytest.mark.parametrize(
    ("pruning", "epochs", "flags"),
    [
        (PruningCallback(), 0, r"--pruning.propagate dense --pruning.sweep '\[0.375,0.45,0.525\]'"),
        (PruningCallback(pattern=NofM(2, 4)), 0, r"--pruning.pattern mlprune.pruning.Unstructured .*sparsity 0.5"),
        (PruningCallback(), 3, r"--trainer.max_epochs 6"),
        (PruningCallback(Random()), 0, r"--pruning.importance mlprune.pruning.Wanda"),
        (None, 0, r"--seed_everything 5"),
    ],
)
def test_they_fit_how_the_run_pruned(pruning, epochs: int, flags: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    steps = next_steps(_Stub(tmp_path, epochs), pruning, [])
    assert len(steps) == (3 if pruning else 1)
    assert any(re.search(flags, command) for _, command in steps)


def test_nothing_is_printed_that_could_not_run(tmp_path: Path) -> None:
    assert next_steps(_Stub(tmp_path), PruningCallback(), []) == []

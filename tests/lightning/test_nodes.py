"""Two nodes, started by torchrun's and SLURM's variables, and what happens where one of them fails."""

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodes import NODES, one_process, run, slurm, torchrun
from tiny_runs import RUN, assert_same_run, bundled_task, write_config

from mlprune.datamodule import PruningDataModule
from mlprune.evaluation.tasks import CandidateTask
from mlprune.experiments import experiment
from mlprune.runs.unfinished import Unfinished

pytestmark = pytest.mark.slow
SHORT = ("lightning.pytorch.strategies.DDPStrategy", "--trainer.strategy.timeout", "0:00:04")
TASKS = [bundled_task("nli", ["en", "fr"], limit=6)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    return write_config(tmp_path_factory.mktemp("nodes"), tiny_folder, data={"tasks": TASKS, "num_prompts": 3})


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    """The run of one process."""
    return one_process(tmp_path_factory.mktemp("one"), "fit", "--config", config)


@pytest.mark.parametrize("launcher", [torchrun, slurm])
def test_two_nodes_give_the_bits_of_one_process(tmp_path: Path, config: Path, one: Path, launcher: Any) -> None:
    nodes = run(tmp_path, "fit", "--config", config, *NODES, "ddp", launcher=launcher)
    assert [node.status for node in nodes] == [0, 0], nodes
    assert_same_run(one, tmp_path / RUN)


def test_processes_of_a_study_decide_together_from_the_first(tmp_path: Path, one: Path, tiny_folder: Path) -> None:
    """Also where none of them evaluates the dense model, and so connects them."""
    data, study = {"tasks": TASKS, "num_prompts": 3}, {"recipes": {"a": {"pattern.sparsity": 0.5}}}
    config = write_config(tmp_path, tiny_folder, data=data, pruning={"propagate": "dense"}, study=study)
    nodes = run(tmp_path, "fit", "--config", config, "--dense", one, *NODES, "ddp")
    assert [node.status for node in nodes] == [0, 0], nodes
    first, _ = nodes
    assert "taking the dense model's results from" in first.err
    assert (tmp_path / RUN / "study.json").is_file()
    assert [path.parent.name for path in (tmp_path / RUN / "recipes").rglob("results.json")] == ["select.0"]


def on_second_batch(act: Callable[[], object]) -> Callable[[], None]:
    """Have a process do something when it evaluates its second batch."""

    def prepare() -> None:
        predict, calls = CandidateTask.predict, []

        def predicting(*args: Any) -> Any:
            calls.append(args)
            if len(calls) == 2:
                act()
            return predict(*args)

        CandidateTask.predict = predicting  # type: ignore[method-assign]

    return prepare


def full_disk() -> None:
    def add_records(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "elsewhere/records.jsonl")

    Unfinished.add_records = add_records  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (on_second_batch(lambda: os.kill(os.getpid(), signal.SIGKILL)), "is gone"),
        (on_second_batch(lambda: time.sleep(10)), "did not answer for 4 s"),
        (full_disk, "is gone"),
    ],
    ids=["killed", "late", "full disk"],
)
def test_a_node_that_fails_ends_the_other(tmp_path: Path, config: Path, fault: Any, says: str) -> None:
    begun = time.monotonic()
    first, second = run(tmp_path, "test", "--config", config, *NODES, *SHORT, faults={1: fault})
    lines = [line for line in first.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, first.err
    assert says in lines[0]
    assert f"--resume {tmp_path / RUN}" in lines[0]
    assert "Traceback" not in first.err + second.err
    assert first.status == 1
    assert first.at - begun < 60
    assert not (tmp_path / RUN / "results.json").exists()
    nodes = run(tmp_path, "test", "--resume", RUN)
    assert [node.status for node in nodes] == [0, 0], nodes
    assert json.loads((tmp_path / RUN / "results.json").read_text())["tasks"]["nli"]["fr"]["n"] == 6


def test_a_node_that_never_connects(tmp_path: Path, config: Path) -> None:
    """It dies while it reads, before the processes know each other."""

    def prepare() -> None:
        PruningDataModule.read_examples = lambda *args: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]

    first, _ = run(tmp_path, "test", "--config", config, *NODES, *SHORT, faults={1: prepare})
    lines = [line for line in first.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, first.err
    assert "did not answer for" in lines[0]
    assert lines[0].endswith(f"--resume {tmp_path / RUN}")
    assert (first.status, "Traceback" in first.err) == (1, False)


def out_of_memory() -> None:
    raise MemoryError


def interrupted_while_comparing() -> None:
    experiment.compare_with_dense = lambda run: os.kill(os.getpid(), signal.SIGTERM)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("command", "number", "fault", "says"),
    [
        ("test", 1, on_second_batch(out_of_memory), "error: out of memory; lower data.max_batch_tokens"),
        ("fit", 0, interrupted_while_comparing, "interrupted; resume with: "),
    ],
)
def test_of_processes_on_one_machine_one_says_why_they_end(
    tmp_path: Path, config: Path, command: str, number: int, fault: Any, says: str
) -> None:
    ended = run(tmp_path, command, "--config", config, *NODES, "ddp", faults={number: fault}, are_apart=False)
    lines = [line for process in ended for line in process.err.splitlines() if line.startswith(("error", "interrupt"))]
    assert len(lines) == 1, ended
    assert lines[0].startswith(says)
    assert lines[0].endswith(f"--resume {tmp_path / RUN}")
    assert all(process.status for process in ended)
    assert "Traceback" not in ended[0].err + ended[1].err

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

from mlprune.evaluation.tasks import CandidateTask
from mlprune.runs.unfinished import Unfinished

pytestmark = pytest.mark.slow
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
    strategy = ("lightning.pytorch.strategies.DDPStrategy", "--trainer.strategy.timeout", "0:00:04")
    begun = time.monotonic()
    first, second = run(tmp_path, "test", "--config", config, *NODES, *strategy, faults={1: fault})
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

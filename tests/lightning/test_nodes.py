"""Two nodes, started by torchrun's and SLURM's variables, and what happens where one of them fails.

Processes are forked from this one, which has imported everything; each thinks that it is on a machine of its own. Forks
of a process that has used torch.distributed would wait for one another forever, so these tests are run in a process of
their own, by ``test_processes.py``.
"""

import errno
import json
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tiny_runs import RUN, assert_same_run, write_config

from mlprune.cli import main
from mlprune.evaluation.tasks import CandidateTask
from mlprune.runs.unfinished import Unfinished

pytestmark = pytest.mark.slow
TIMEOUT_S = 100
NODES = ("--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.strategy")
TASKS = [
    {
        "class_path": "mlprune.evaluation.tasks.CandidateTask",
        "init_args": {
            "name": "nli",
            "template": "xnli",
            "languages": ["en", "fr"],
            "limit": 6,
            "corpus": {"class_path": "mlprune.data.corpora.Bundled", "init_args": {"name": "nli"}},
        },
    }
]


class Ended(NamedTuple):
    status: int
    err: str
    at: float


def torchrun(rank: int, port: int) -> dict[str, str]:
    """What ``torchrun --nnodes 2 --nproc-per-node 1`` sets."""
    return {
        "TORCHELASTIC_RUN_ID": "17",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "GROUP_RANK": str(rank),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }


def slurm(rank: int, port: int) -> dict[str, str]:
    """What ``srun --nodes 2 --ntasks-per-node 1`` sets."""
    values = {
        "JOB_ID": "17",
        "JOB_NAME": "prune",
        "NTASKS": "2",
        "NTASKS_PER_NODE": "1",
        "NNODES": "2",
        "JOB_NUM_NODES": "2",
        "PROCID": str(rank),
        "LOCALID": "0",
        "NODEID": str(rank),
        "NODELIST": "127.0.0.1",
    }
    return {f"SLURM_{name}": value for name, value in values.items()} | {"MASTER_PORT": str(port)}


def start(folder: Path, args: Sequence[object], variables: Mapping[str, str], before: Callable[[], None]) -> int:
    """Fork a process that runs the command line in a folder, with its errors in a file of its own."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.chdir(folder)
        file = os.open(folder / f"{os.getpid()}.err", os.O_CREAT | os.O_WRONLY)
        for number in (1, 2):
            os.dup2(file, number)
        sys.stdout = sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1)
        sys.argv = ["main.py"]
        for name in [name for name in os.environ if name.startswith("SLURM")]:
            del os.environ[name]
        os.environ.update(variables)
        before()
        status = main([str(arg) for arg in args])
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def run(
    folder: Path,
    *args: object,
    launcher: Callable[[int, int], dict[str, str]] = torchrun,
    faults: Mapping[int, Callable[[], None]] = {},
) -> list[Ended]:
    """Run two nodes, some with a fault, and return how they ended; none may be left."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]

    def before(rank: int) -> None:
        platform.node = lambda: f"node{rank}"  # type: ignore[method-assign]
        faults.get(rank, lambda: None)()

    pids = [start(folder, args, launcher(rank, port), lambda rank=rank: before(rank)) for rank in range(2)]
    ended: dict[int, tuple[int, float]] = {}
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while len(ended) < 2 and time.monotonic() < deadline:
            for pid in set(pids) - ended.keys():
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    ended[pid] = os.waitstatus_to_exitcode(status), time.monotonic()
            time.sleep(0.05)
    finally:
        for pid in set(pids) - ended.keys():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    errors = [(folder / f"{pid}.err").read_text() for pid in pids]
    assert len(ended) == 2, errors
    return [Ended(*ended[pid][:1], error, ended[pid][1]) for pid, error in zip(pids, errors, strict=True)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    return write_config(tmp_path_factory.mktemp("nodes"), tiny_folder, data={"tasks": TASKS, "num_prompts": 3})


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("one")
    pid = start(folder, ["fit", "--config", config], {}, lambda: None)
    assert os.waitpid(pid, 0)[1] == 0, (folder / f"{pid}.err").read_text()
    return folder / RUN


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

"""Two nodes on one machine, started by torchrun's or SLURM's variables.

Processes are forked from this one, which has imported everything; each thinks that it is on a machine of its own. Forks
of a process that has used torch.distributed would wait for one another forever, so tests with them are run in a process
of their own, by ``test_processes.py``.
"""

import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tiny_runs import RUN, free_port

from mlprune.cli import main

TIMEOUT_S = 100
NODES = ("--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.strategy")


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
    are_apart: bool = True,
) -> list[Ended]:
    """Run two nodes, some with a fault, and return how they ended; none may be left.

    If they are not apart, each knows that the other is on its machine.
    """
    port = free_port()

    def before(rank: int) -> None:
        if are_apart:
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


def one_process(folder: Path, *args: object) -> Path:
    """Run one process, which must end well, and return its run's folder."""
    pid = start(folder, args, {}, lambda: None)
    assert os.waitpid(pid, 0)[1] == 0, (folder / f"{pid}.err").read_text()
    return folder / RUN

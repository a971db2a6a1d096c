"""The callback that ends a process when another of its run is gone, with one line that says which."""

import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningModule, Trainer
from torch.distributed import DistError

from mlprune.callbacks.base import RunCallback
from mlprune.distributed import PeerGone, gather_objects, world_size
from mlprune.errors import UserError, first_line
from mlprune.files import file_name
from mlprune.runs.folder import UNFINISHED, resume_hint
from mlprune.text import visible

EVERY_S = 0.5
GRACE_S = 2.0  # for a process to say itself what went wrong, where all fail together
DISCONNECTED = re.compile(r"gloo|NCCL|pair closure|Connection (closed|reset|refused)|Broken pipe|Socket", re.IGNORECASE)
LATE = re.compile(r"time[d -]*out\D*(\d+) ?(ms|seconds)|Timeout\(ms\)=(\d+)", re.IGNORECASE)
UNMET = re.compile("failed to (listen|bind)|EADDRINUSE|cannot be retrieved|getaddrinfo|resolve", re.IGNORECASE)
REPORTED = "reported"  # beginning of the name of an empty file


class Peers(RunCallback):
    """Watches the processes of a run on this machine; one that was killed would leave the others waiting for it.

    Without it they wait for a timeout, and end in tracebacks of the library that connects them.

    Args:
        subcommand: fit, validate or test, for the hint how to resume.
    """

    def __init__(self, subcommand: str) -> None:
        self.subcommand = subcommand
        self._pids: dict[int, int] = {}  # rank to process, of those on this machine, once all are connected
        self._is_connected = False
        self._parent: dict[int, int] = {}  # rank to process, if Lightning started this one from it
        self._is_over = threading.Event()
        self._ending = threading.Lock()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Watch all processes of this machine, once they are connected."""
        if self._is_connected or world_size() == 1:
            return
        found = enumerate(gather_objects((location(), os.getpid())))
        self._pids = {number: pid for number, (place, pid) in found if place == location() and is_alive(pid)}
        self._is_connected = True

    def part(self) -> None:
        """Stop watching, as the processes no longer wait for each other."""
        self._is_over.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop watching when this process ends by itself."""
        if isinstance(exception, KeyboardInterrupt | SystemExit | UserError):
            self._is_over.set()
        if isinstance(exception, KeyboardInterrupt) and self.run.writes:
            self.is_first_to_report()

    def is_first_to_report(self) -> bool:
        """Mark that this process reports why the run ends; return whether no other on this machine has.

        What is known to one is often only a consequence to the others.
        """
        if not self.run.has_folder or self.run.trainer.world_size == 1:
            return True
        try:
            (self.run.folder / UNFINISHED / f"{REPORTED}.{file_name(location())}").touch(exist_ok=False)
        except FileExistsError:
            return False
        except FileNotFoundError:  # the first process has refused the run, and removed its folder
            return 0 not in self._pids
        except OSError:
            return True
        return True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the others, and take an error of the connection for what it is: another process that is gone."""
        self._is_over.clear()
        if self.run.writes:
            for earlier in (self.run.folder / UNFINISHED).glob(f"{REPORTED}.*"):
                earlier.unlink(missing_ok=True)
        if self.run.trainer.world_size > 1:
            self._parent = self._find_parent()
            threading.Thread(target=self._watch, name="mlprune-peers", daemon=True).start()
        try:
            yield
        except (RuntimeError, PeerGone) as error:
            if self.run.trainer.world_size > 1 and not isinstance(error, UserError) and is_disconnection(error):
                self._is_over.wait(GRACE_S)
                self._end(str(error))
            raise
        finally:
            self._is_over.set()
            self._is_connected = False

    def _find_parent(self) -> dict[int, int]:
        trainer = self.run.trainer
        environment = trainer._accelerator_connector.cluster_environment
        is_child = trainer.local_rank and isinstance(environment, LightningEnvironment)
        return {trainer.global_rank - trainer.local_rank: os.getppid()} if is_child else {}

    def _children(self) -> list[subprocess.Popen[bytes]]:
        """The processes that Lightning started from this one."""
        found: list[subprocess.Popen[bytes]] = getattr(self.run.trainer.strategy.launcher, "procs", [])
        return found

    def end_children(self) -> None:
        """Kill the processes that Lightning started from this one, which would wait for it."""
        for child in self._children():
            child.kill()

    def _gone(self) -> list[int]:
        first = self.run.trainer.global_rank + 1
        children = {first + place: child.pid for place, child in enumerate(self._children())}
        known = {**self._parent, **children, **self._pids}
        return [number for number, pid in known.items() if not is_alive(pid)]

    def _watch(self) -> None:
        while not self._is_over.wait(EVERY_S):
            for thread in threading.enumerate():
                if thread.name == "child-process-observer":
                    vars(thread)["_run"] = lambda: True  # Lightning's, which kills all processes without a word
            if self._gone() and not self._is_over.wait(GRACE_S):
                self._end()

    def _end(self, error: str = "") -> None:
        """End this process at once; the first to know says why."""
        self._ending.acquire()  # two threads may come here; the second must not end it before the first has spoken
        gone, world = self._gone(), self.run.trainer.world_size
        if self.is_first_to_report():
            line = f"error: {reason_to_end(gone, world, error)}"
            if self.run.has_folder and self.run.folder.is_dir():
                line += f"; {resume_hint(self.run.folder, self.subcommand)}"
            print(visible(line), file=sys.stderr, flush=True)
        self.end_children()
        os._exit(1)  # the main thread may wait for the other without end


def is_disconnection(error: BaseException) -> bool:
    """Whether an error says that another process cannot be reached.

    Example:
        >>> is_disconnection(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
        True
        >>> is_disconnection(RuntimeError("shapes differ"))
        False
    """
    return isinstance(error, DistError | PeerGone) or bool(DISCONNECTED.search(str(error)))


def reason_to_end(gone: list[int], world: int, error: str) -> str:
    """Say which processes are gone, late or cannot be met.

    Args:
        gone: Ranks of those on this machine that have ended.
        world: How many there are.
        error: What the library that connects them said.

    Example:
        >>> reason_to_end([], 2, "The server socket has failed to listen on any local network address. EADDRINUSE")
        'the processes cannot meet at MASTER_ADDR and MASTER_PORT: The server socket has failed to listen on ...'
    """
    if not gone and UNMET.search(error):
        return f"the processes cannot meet at MASTER_ADDR and MASTER_PORT: {first_line(RuntimeError(error))}"
    if not gone and (late := LATE.search(error)):
        seconds = int(late[1] or late[3]) / (1 if late[2] == "seconds" else 1000)
        return (
            f"a process elsewhere did not answer for {seconds:.0f} s (it is late, hangs or is gone); the strategy's "
            "timeout gives it more"
        )
    named = f"process {', '.join(map(str, gone))} of {world}" if gone else "a process elsewhere"
    return f"{named} is gone (killed, out of memory, or ended by the error that it reported)"


def location() -> str:
    """Return what tells this machine, or container, from others, of which several may have one name.

    Example:
        >>> location() == location()
        True
    """
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    numbers = [boot.read_text().strip() if boot.is_file() else "", os.readlink(space) if space.is_symlink() else ""]
    return ".".join([platform.node(), *numbers])


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine runs; one that ended and was not waited for does not.

    Example:
        >>> is_alive(os.getpid())
        True
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:  # there is no /proc, or not this process any more
        return not Path("/proc/self/stat").is_file()
    except ProcessLookupError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")

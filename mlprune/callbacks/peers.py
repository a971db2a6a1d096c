"""The callback that ends a process when another of its run is gone, with one line that says which."""

import os
import platform
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer

from mlprune.callbacks.base import RunCallback
from mlprune.distributed import PeerGone, gather_objects, rank, world_size
from mlprune.errors import UserError
from mlprune.runs.folder import resume_hint
from mlprune.text import visible

EVERY_S = 0.5
GRACE_S = 2.0  # for a process to say itself what went wrong, where all fail together
DISCONNECTED = re.compile(r"gloo|NCCL|Connection (closed|reset|refused)|Broken pipe|Socket", re.IGNORECASE)
LATE = re.compile(r"time[d -]*out\D*(\d+) ?ms|Timeout\(ms\)=(\d+)", re.IGNORECASE)


class Peers(RunCallback):
    """Watches the processes of a run on this machine; one that was killed would leave the others waiting for it.

    Without it they wait for a timeout, and end in tracebacks of the library that connects them.

    Args:
        subcommand: fit, validate or test, for the hint how to resume.
    """

    def __init__(self, subcommand: str) -> None:
        self.subcommand = subcommand
        self._pids: dict[int, int] = {}  # rank to process, of those that can be seen from here
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to watch, once the processes are connected."""
        if self._thread is not None or world_size() == 1:
            return
        here = platform.node()
        found = enumerate(gather_objects((here, os.getpid())))
        self._pids = {number: pid for number, (node, pid) in found if node == here and is_alive(pid)}
        for thread in threading.enumerate():
            if thread.name == "child-process-observer":
                vars(thread)["_run"] = lambda: True  # Lightning's, which kills all processes without a word
        self._thread = threading.Thread(target=self._watch, name="mlprune-peers", daemon=True)
        self._thread.start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop watching when this process ends by itself."""
        if isinstance(exception, KeyboardInterrupt | SystemExit | UserError):
            self._is_over.set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take an error of the connection for what it is: another process that is gone."""
        self._is_over.clear()
        try:
            yield
        except (RuntimeError, PeerGone) as error:
            if world_size() > 1 and not isinstance(error, UserError) and DISCONNECTED.search(str(error)):
                self._is_over.wait(GRACE_S)
                self._end(str(error))
            raise
        finally:
            self._is_over.set()
            self._thread = None

    def _gone(self) -> list[int]:
        return [number for number, pid in self._pids.items() if not is_alive(pid)]

    def _watch(self) -> None:
        while not self._is_over.wait(EVERY_S):
            if self._gone() and not self._is_over.wait(GRACE_S):
                self._end()

    def _end(self, error: str = "") -> None:
        """End this process at once; the first of those that are left says why."""
        gone = self._gone()
        if rank() == min(number for number in range(world_size()) if number not in gone):
            line = f"error: {_reason(gone, error)}; {resume_hint(self.run.folder, self.subcommand)}"
            print(visible(line), file=sys.stderr, flush=True)
        os._exit(1)  # the main thread may wait for the other without end


def _reason(gone: list[int], error: str) -> str:
    """Say which processes are gone, or late, from what the library that connects them said."""
    if not gone and (late := LATE.search(error)):
        seconds = int(late[1] or late[2]) / 1000
        return (
            f"a process elsewhere did not answer for {seconds:.0f} s (it is late, hangs or is gone); the strategy's "
            "timeout gives it more"
        )
    named = f"process {', '.join(map(str, gone))} of {world_size()}" if gone else "a process elsewhere"
    return f"{named} is gone (killed, out of memory, or ended by the error that it reported)"


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
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] not in ("Z", "X")

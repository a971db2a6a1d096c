"""Resident memory of a process, as Linux counts it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def resident(key: str, pid: int | str = "self") -> float:
    """Memory in GiB: VmRSS now, VmHWM at its peak, RssAnon without mapped files; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith(key)), 0.0)


def peak_above(run: Callable[[], Any]) -> float:
    """Run it and return how far the peak of this process' memory rose above what it had, in GiB.

    ``getrusage`` would not do: a child starts with the peak of the process that started it.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before

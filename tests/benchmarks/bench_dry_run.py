"""How close ``--dry-run`` comes to what then happens: seconds of every phase, peak memory and disk.

python tests/benchmarks/bench_dry_run.py [--share 1.0] [--model demo]

With the tasks of configs/demo.yaml, or a share of their rows. The estimate and the run follow one another in processes
of their own, on one thread, and seconds are the processor's, so that other programs do not count.
"""

import argparse
import json
import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).parents[2] / "configs" / "demo.yaml"


def flags(share: float) -> list[str]:
    """The options that leave a share of the demo's rows."""
    import yaml

    tasks = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["data"]["tasks"]
    for task in tasks:
        own = task["init_args"]
        own["limit"] = max(round(share * (own.get("limit") or _rows(own))), 2)
    return ["fit", "--config", str(CONFIG), "--data.tasks", json.dumps(tasks)]


def _rows(own: dict[str, Any]) -> int:
    first, last = map(int, own["rows"].split("-"))
    return last - first + 1


def estimated(args: list[str]) -> dict[str, float]:
    """Seconds by phase, memory and disk as a dry run says."""
    time.perf_counter = time.process_time
    from mlprune.cli.command import MlpruneCLI

    seen: dict[str, float] = {}

    def keep(found: Any) -> list[Any]:
        for caption, parts in found.phases.items():
            name = caption.partition(" ")[0].strip(",")
            seen[name] = sum(cost.seconds for cost in parts.values())
            print(caption, {task: round(cost.seconds, 1) for task, cost in parts.items()}, file=sys.stderr)
        seen.update(total=found.total.seconds, memory=found.memory / 2**30, disk=found.disk / 2**30)
        return []

    sys.modules["mlprune.cli.command"].estimate_tables = keep  # type: ignore[attr-defined]
    MlpruneCLI([*args, "--dry-run"])
    return seen | {"itself": time.process_time()}


def happened(args: list[str]) -> dict[str, float]:
    """The same of the run itself."""
    from mlprune.cli import main
    from mlprune.log import log

    marks: list[tuple[str, float]] = []

    def mark(record: logging.LogRecord) -> bool:
        if re.match(r"\(\d+/\d+\) \w+ing", message := record.getMessage()):
            marks.append((message.partition(") ")[2], time.process_time()))
        return True

    log.addFilter(mark)
    assert main(args) == 0
    end = time.process_time()
    seen = {"starting": marks[0][1], "total": end}
    for (caption, start), (_, stop) in zip(marks, [*marks[1:], ("", end)], strict=True):
        name = caption.partition(" ")[0]
        seen[name] = seen.get(name, 0.0) + stop - start
    files = sum(file.stat().st_size for file in Path("lightning_logs").rglob("*") if file.is_file())
    return seen | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "disk": files / 2**30}


def child(what: str, args: list[str]) -> dict[str, float]:
    """Run one side in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        command = [sys.executable, __file__, "--child", what, str(out), *args]
        subprocess.run(command, cwd=folder, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        found: dict[str, float] = json.loads(out.read_text())
        return found


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        what, out, *args = sys.argv[2:]
        Path(out).write_text(json.dumps((estimated if what == "estimated" else happened)(args)))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--model", default="demo")
    given = parser.parse_args()
    args = [*flags(given.share), "--model.name", given.model]
    sides = [child(what, args) for what in ("estimated", "happened")]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        before, after = (side.get(name) for side in sides)
        ratio = f"{before / after:6.2f}" if before and after else ""
        print(f"{name:12}", *(f"{value:9.2f}" if value is not None else " " * 9 for value in (before, after)), ratio)


if __name__ == "__main__":
    main()

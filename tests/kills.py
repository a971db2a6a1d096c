"""Kill runs of every kind at random moments, resume them, and compare every file with that of a run without a break.

    python tests/kills.py FOLDER [--kills 40] [--seed 0]

A moment is a call that opens, makes, renames or removes a file of the run (Python's audit events count them): between
two of them the disk stays as it is but for what is being written, and the disk is all that a resumed run sees. Each run
is a fork of this process, which has imported everything.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from mlprune.cli.libraries import keep_files_in_cache

keep_files_in_cache()  # as the command line does before it imports anything

from tiny import tiny_model  # noqa: E402
from tiny_runs import RUN, bundled_task, write_config  # noqa: E402
from tokenizer_kinds import CAUSAL  # noqa: E402

from mlprune.cli import main  # noqa: E402
from mlprune.runs.folder import CONFIG, UNFINISHED  # noqa: E402

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
TRAINER = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
ANALYSIS = {"class_path": "mlprune.callbacks.FeatureAnalysis"}
TRIM = {"class_path": "mlprune.smaller.TrimVocabulary", "init_args": {"languages": ["fr"], "others": [], "limit": 0}}
FEWER = {"class_path": "mlprune.smaller.RemoveBlocks", "init_args": {"count": 1, "limit": 0}}
TEXTS = {
    "class_path": "mlprune.evaluation.tasks.PerplexityTask",
    "init_args": {"languages": ["fr"], "limit": 3},
}
REVIEWS = bundled_task("reviews", ["fr"], rows="0-7")
STUDY = {
    "endpoint": {"tasks": ["reviews"], "languages": ["fr"]},
    "select": {"rows": "0-3"},
    "confirm": {"rows": "4-7", "top": 1},
    "recipes": {"wanda": {}, "ria": {"importance": "mlprune.pruning.RIA", "propagate": "pruned"}},
    "controls": False,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "fit": ("fit", {}),
    "sweep": ("fit", {"pruning": {"propagate": "dense", "sweep": [0.2, 0.4]}}),
    "streaming": ("validate", {"pruning": {"streaming": True}}),
    "training": ("fit", {"trainer": {"max_epochs": 3, "enable_checkpointing": True, "log_every_n_steps": 1}}),
    "analysis": ("validate", {"trainer": {"callbacks": [ANALYSIS]}}),
    "study": ("fit", {"data": {"tasks": [REVIEWS]}, "pruning": {"propagate": "dense"}, "study": STUDY}),
    "smaller": ("fit", {"model": {"smaller": [TRIM, FEWER]}, "data": {"tasks": [TEXTS]}}),
}
WHERE = {"smaller": "lightning_logs/version_0/smaller"}  # else anywhere in the run's folder
OF_THE_MOMENT = ("events.out.tfevents", "systems/", "report.html", "run.json", "checkpoints/")  # these hold times


import_module("mlprune.cli.command")  # now, so that no fork needs seconds for it


def run_once(folder: Path, *args: object, kill_at: int | None = None, where: str = "lightning_logs") -> tuple[int, int]:
    """Run the command line in a fork, in a folder; return its status (negative: the signal) and the count of moments.

    Args:
        folder: The working folder; ``log`` in it gets what is printed.
        args: The command line.
        kill_at: Number of the moment at which the process is killed.
        where: Part of the paths whose moments count.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status, count = 1, 0
        with contextlib.suppress(BaseException):
            os.chdir(folder)
            log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)

            def hook(event: str, arguments: tuple[Any, ...]) -> None:
                nonlocal count
                if event in EVENTS and where in str(arguments[0]):
                    count += 1
                    if count == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            try:
                status = main([str(arg) for arg in args])
            except SystemExit as ended:
                status = int(ended.code or 0)
            except BaseException:
                import traceback

                traceback.print_exc()
        os.write(writer, str(count).encode())
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        count = int(pipe.read() or 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), count


def content(run: Path) -> dict[str, Any]:
    """What a run's folder holds, without what depends on the time."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        name = str(file.relative_to(run))
        if name == "layers.csv":
            with file.open(newline="") as rows:
                found[name] = [{**row, "seconds": ""} for row in csv.DictReader(rows)]
        elif not name.startswith(OF_THE_MOMENT):
            found[name] = file.read_bytes().replace(str(run).encode(), b"RUN")  # the smaller model's name is its path
    return found


def survive(folder: Path, kind: str, moment: int, expected: dict[str, Any]) -> str:
    """Kill a run at a moment and resume it; return what went wrong, or nothing."""
    subcommand, _ = KINDS[kind]
    folder.mkdir()
    config, where = folder.parent / f"{kind}.yaml", WHERE.get(kind, "lightning_logs")
    status, _ = run_once(folder, subcommand, "--config", config, kill_at=moment, where=where)
    if status != -signal.SIGKILL:
        return f"ended with {status} before it was killed"
    run = folder / RUN
    if (run / UNFINISHED).is_dir() and (run / CONFIG).is_file():
        status, _ = run_once(folder, subcommand, "--resume", RUN)
    elif not (run / CONFIG).is_file():  # killed before it had a folder of its own
        for path in (folder / "lightning_logs").glob("*"):
            path.rename(path.with_name("killed"))
        status, _ = run_once(folder, subcommand, "--config", config)
    if status != 0:
        return f"the resumed run ended with {status}: {(folder / 'log').read_text()[-600:]}"
    found = content(run)
    return ", ".join(sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)))


def kill_runs(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill ``kills`` runs, of each kind in turn; of as many kinds."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model"
    tokenizer = CAUSAL["Llama 3"].make()
    special = {"bos_token_id": 1, "eos_token_id": 2}
    tiny_model("llama", max_position_embeddings=2048, vocab_size=len(tokenizer), **special).save_pretrained(model)
    tokenizer.save_pretrained(model)
    generator, failures, moments = random.Random(seed), [], {}
    expected: dict[str, dict[str, Any]] = {}
    kinds = list(KINDS)[:kills]
    for kind in kinds:
        subcommand, sections = KINDS[kind]
        trainer = {"trainer": TRAINER | sections.get("trainer", {})}
        config = write_config(folder, model.resolve(), name=f"{kind}.yaml", **(sections | trainer))
        whole = folder / kind
        whole.mkdir()
        where = WHERE.get(kind, "lightning_logs")
        status, moments[kind] = run_once(whole, subcommand, "--config", config, where=where)
        assert status == 0, (whole / "log").read_text()
        expected[kind] = content(whole / RUN)
    for number in range(kills):
        kind = kinds[number % len(kinds)]
        moment = generator.randint(1, moments[kind])
        wrong = survive(folder / f"{kind}-{moment}-{number}", kind, moment, expected[kind])
        if wrong:
            failures.append({"kind": kind, "moment": moment, "what": wrong})
    return {"kills": kills, "moments": moments, "failures": failures}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps(kill_runs(arguments.folder.resolve(), arguments.kills, arguments.seed), indent=2))

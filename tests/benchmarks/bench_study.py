"""A study of many recipes beside as many separate runs: minutes on the clock and processor time of both.

python tests/benchmarks/bench_study.py [--recipes 20] [--rows 100] [--confirm 20] [--separate 1] [--processes 2]

The recipes are scores at several sparsities from one dense calibration, the tasks the bundled reviews and inference in
six languages; each process has one thread. A separate run is ``fit`` on the same rows; a few are measured and
multiplied. With fewer rows or recipes than the target's, its time is extrapolated: what does not depend on rows, and
the rest by the number of questions.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mlprune.studies.selection import rounds

ROOT = Path(__file__).parents[2]
LANGUAGES = ["en", "fr", "es", "zh", "hi", "sw"]
SCORES = ("Wanda", "RIA", "Magnitude", "Random")
SPARSITIES = (0.02, 0.05, 0.1, 0.15, 0.2)
TARGET = {"recipes": 20, "rows": 100, "confirm": 20}
TASKS = {"reviews": "marc", "nli": "xnli"}


def config(args: argparse.Namespace) -> dict[str, Any]:
    """The study's configuration."""
    kind, corpus = "mlprune.evaluation.tasks.CandidateTask", "mlprune.data.corpora.Bundled"
    tasks = [
        {
            "class_path": kind,
            "init_args": {
                **{
                    "name": name,
                    "template": template,
                    "languages": LANGUAGES,
                    "rows": f"0-{args.rows + args.confirm - 1}",
                    "ranking_only": True,  # accuracy and margins need no more
                },
                "corpus": {"class_path": corpus, "init_args": {"name": name}},
            },
        }
        for name, template in TASKS.items()
    ]
    recipes = [{"importance": score, "pattern.sparsity": sparsity} for sparsity in SPARSITIES for score in SCORES]
    select = {
        "rows": f"0-{args.rows - 1}",
        "metric": "accuracy",
        "screen": {"reviews": args.screen, "nli": args.screen},
    }
    return {
        "model": {"name": args.model, "dtype": args.dtype},
        "data": {"num_prompts": 12, "tasks": tasks},
        "pruning": {"propagate": "dense", "save_model": False},
        "study": {
            "endpoint": {"metric": "accuracy", "languages": LANGUAGES},
            "select": select,
            "confirm": {"rows": f"{args.rows}-{args.rows + args.confirm - 1}", "top": 3},
            "recipes": {f"recipe {number}": own for number, own in enumerate(recipes[: args.recipes])},
            "controls": False,
        },
    }


class Took(NamedTuple):
    """Seconds that a run took."""

    clock: float
    processor: float

    def times(self, factor: float) -> "Took":
        return Took(self.clock * factor, self.processor * factor)

    def __str__(self) -> str:
        return f"{self.clock / 60:.1f} minutes ({self.processor / 60:.1f} of processor time)"


def run(folder: Path, content: dict[str, Any], processes: int) -> tuple[Took, Path]:
    """Run ``fit`` on so many processes of one thread each; return its seconds and its folder."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    start, before = time.perf_counter(), _processor()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]  # waits for all
    options = {"config": file, "trainer.accelerator": "cpu", "trainer.devices": processes}
    options |= {"trainer.default_root_dir": folder}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, *launcher, str(ROOT / "main.py"), "fit", *words]
    subprocess.run(command, check=True, env=environment)
    took = Took(time.perf_counter() - start, _processor() - before)
    return took, folder / "lightning_logs" / "version_0"


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def phases_of(folder: Path) -> dict[str, float]:
    """Seconds of each phase, as the run's journal has them."""
    (start,) = json.loads((folder / "run.json").read_text(encoding="utf-8"))["starts"]
    return {phase["name"]: phase["seconds"] for phase in start["phases"]}


def questions(recipes: int, rows: int, confirm: int, share: float) -> int:
    """How many questions a study asks: the dense model's, those of all rounds, and those of the chosen recipes."""
    cells = len(LANGUAGES) * len(TASKS)
    top = min(3, recipes)
    asked, seen = 0.0, 0
    for step in rounds(recipes, rows, top):
        asked += step.recipes * (step.rows - seen) * (1 - share)
        seen = step.rows
    return round(cells * (rows + confirm + asked + top * (confirm + share * rows)))


def main() -> None:
    """Measure the study and some separate runs, and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in TARGET.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--separate", type=int, default=1, help="how many separate runs are measured")
    parser.add_argument("--screen", type=float, default=0.04, help="margin from which on rows are screened")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    content = config(args)
    with tempfile.TemporaryDirectory() as place:
        took, found = run(_folder(place, "study"), content, args.processes)
        study = json.loads((found / "study.json").read_text(encoding="utf-8"))
        screening, phases = study["screening"], phases_of(found)
        print("seconds of the study's phases:", {name: round(value, 1) for name, value in phases.items()})
        print(f"screening: {screening}")
        asked = questions(args.recipes, args.rows, args.confirm, screening["share"])
        print(f"study of {args.recipes} recipes, {args.processes} processes: {took}, {asked} questions", flush=True)
        recipes = list(content["study"]["recipes"].values())[: args.separate]
        alone = [
            run(_folder(place, f"separate-{number}"), separate(content, recipe), args.processes)[0]
            for number, recipe in enumerate(recipes)
        ]
    if alone:
        mean = Took(*(sum(parts) / len(alone) for parts in zip(*alone, strict=True)))
        print(f"a separate run: {mean} (mean of {len(alone)})")
        print(f"{args.recipes} of them: {mean.times(args.recipes)} (multiplied)")
    whole = questions(*TARGET.values(), screening["share"])
    if whole != asked:
        working = sum(value for name, value in phases.items() if name != "comparing") / sum(phases.values())
        total = took.times(1 - working + working * whole / asked)
        print(f"{TARGET['recipes']} recipes on {TARGET['rows']} + {TARGET['confirm']} rows: {total} (extrapolated)")


def separate(content: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """The configuration of one recipe's own run."""
    pattern = {"class_path": "Unstructured", "init_args": {"sparsity": recipe["pattern.sparsity"]}}
    pruning = {**content["pruning"], "importance": recipe["importance"], "pattern": pattern}
    return {**{name: part for name, part in content.items() if name != "study"}, "pruning": pruning}


def _folder(place: str, name: str) -> Path:
    folder = Path(place) / name
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()

"""What a study keeps of every evaluation: a folder a recipe, seed and part of the rows."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from mlprune.comparison.reading import measured_tasks, read_predictions, read_results
from mlprune.comparison.records import TaskRecords
from mlprune.errors import UserError
from mlprune.metrics import Record
from mlprune.studies.rows import Examples, Ids

RECIPES, RESULTS, PREDICTIONS = "recipes", "results.json", "predictions"
Rights = Mapping[tuple[str, str], Mapping[str, int]]  # task and language to id to the right candidate's position


@dataclass(frozen=True)
class Store:
    """The evaluations of one study.

    Args:
        folder: The run's folder.
    """

    folder: Path

    def place(self, recipe: str, seed: int, part: str) -> Path:
        """Return the folder of an evaluation.

        Args:
            recipe: The recipe's folder.
            seed: The calibration seed.
            part: Name of the part of the rows.
        """
        return self.folder / RECIPES / recipe / f"seed-{seed}" / part

    def has(self, recipe: str, seed: int, part: str) -> bool:
        """Return whether an evaluation is complete."""
        return (self.place(recipe, seed, part) / RESULTS).is_file()

    def keep(self, recipe: str, seed: int, part: str) -> None:
        """Move the run's last evaluation to its place."""
        move_evaluation(self.folder, self.place(recipe, seed, part))

    def forget(self, recipe: str, seeds: Iterable[int], parts: Iterable[str]) -> None:
        """Remove a recipe's evaluations on some parts of the rows, where there are any."""
        for seed, part in product(seeds, parts):
            shutil.rmtree(self.place(recipe, seed, part), ignore_errors=True)

    def records(self, recipe: str, seed: int, parts: Sequence[str]) -> list[TaskRecords]:
        """Return the records of a recipe on some parts of the rows, which are complete."""
        return joined([read_tasks(self.place(recipe, seed, part) / PREDICTIONS) for part in parts])


def move_evaluation(folder: Path, target: Path) -> None:
    """Move an evaluation from the run's folder; its results come last, since they mark it as done."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in (PREDICTIONS, RESULTS):
        (folder / name).rename(target / name)


def read_tasks(predictions: Path) -> list[TaskRecords]:
    """Return an evaluation's records with what measures them."""
    return measured_tasks(read_predictions(predictions), read_results(predictions).get("measured_by", {}))


def check_covered(dense: Path, examples: Mapping[str, Examples], parts: Iterable[Ids]) -> None:
    """Raise UserError if another run's dense results lack rows that a study evaluates.

    Args:
        dense: Its predictions.
        examples: Task to language to examples.
        parts: The rows.
    """
    known = {
        task.task: {lang: {r["id"] for r in rows} for lang, rows in task.records.items()} for task in read_tasks(dense)
    }
    for task, ids in (item for part in parts for item in part.items()):
        wanted = set(ids)
        for lang, rows in examples[task].items():
            there = known.get(task, {}).get(lang, set())
            if missing := [row.id for row in rows if row.id in wanted and row.id not in there]:
                raise UserError(
                    f"--dense '{dense.parent}' lacks row '{missing[0]}' of task '{task}', language '{lang}', which the "
                    "study evaluates; leave --dense out"
                )


def joined(parts: Sequence[Sequence[TaskRecords]]) -> list[TaskRecords]:
    """Return the records of several parts of the rows as those of one evaluation."""
    found: dict[str, TaskRecords] = {}
    for task in (task for part in parts for task in part):
        before = found.get(task.task, replace(task, records={}))
        languages = dict.fromkeys([*before.records, *task.records])
        records = {lang: [*before.records.get(lang, []), *task.records.get(lang, [])] for lang in languages}
        found[task.task] = replace(task, records=records)
    return list(found.values())


def paired(dense: Sequence[TaskRecords], pruned: Sequence[TaskRecords]) -> tuple[list[TaskRecords], list[TaskRecords]]:
    """Return two evaluations' records of the examples that the second has, in the order of the first."""
    by_task = {task.task: task for task in pruned}
    first, second = [], []
    for task in (task for task in dense if task.task in by_task):
        there: dict[str, dict[Any, Record]] = {
            lang: {record["id"]: record for record in rows} for lang, rows in by_task[task.task].records.items()
        }
        kept = {lang: [r for r in rows if r["id"] in there.get(lang, {})] for lang, rows in task.records.items()}
        kept = {lang: rows for lang, rows in kept.items() if rows}
        first.append(replace(task, records=kept))
        second.append(
            replace(task, records={lang: [there[lang][r["id"]] for r in rows] for lang, rows in kept.items()})
        )
    return first, second

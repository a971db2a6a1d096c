"""Screening: rows that the dense model answers by so wide a margin that no recipe is expected to turn them.

They are not asked while recipes are chosen, and count as answered as before. The chosen recipes are asked them at last,
so that a margin that was too narrow is seen.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlprune.comparison.records import TaskRecords
from mlprune.evaluation.recheck import margin_of
from mlprune.metrics import Record
from mlprune.studies.rows import Ids

SCREENED = "screened"  # the part of the rows that is asked at last
Rows = dict[str, dict[str, list[str]]]  # task to language to ids


@dataclass(frozen=True)
class Screen:
    """What is not asked.

    Args:
        margin: By how much the dense model's best candidate leads, at least, in the units of its scores; or this by
            task, others being asked in full.
        parts: The parts of the rows that choose.
        is_over: Whether recipes are chosen, so that what the chosen ones were asked at last counts.
    """

    margin: float | Mapping[str, float]
    parts: Mapping[str, Ids]
    is_over: bool = False

    def rows(self, dense: Sequence[TaskRecords]) -> Rows:
        """Return the rows that are not asked; of each part, task and language at least one is.

        Args:
            dense: The dense model's records.

        Example:
            >>> rows = [{"id": str(i), "scores": [0.0, float(i)]} for i in range(4)]
            >>> Screen(1.5, {"select.0": {"nli": ["0", "1", "2"]}}).rows([TaskRecords("nli", {"fr": rows}, {})])
            {'nli': {'fr': ['2']}}
        """
        found: Rows = {}
        for task in dense:
            least = self.margin.get(task.task, math.inf) if isinstance(self.margin, Mapping) else self.margin
            for lang, records in task.records.items():
                margins = {str(record["id"]): margin_of(record) for record in records}
                for part in self.parts.values():
                    kept = {row: margins[row] or 0.0 for row in part.get(task.task, ()) if row in margins}
                    nearest = min(kept, key=lambda row: kept[row], default=None)
                    wide = [row for row, margin in kept.items() if margin >= least and row != nearest]
                    found.setdefault(task.task, {}).setdefault(lang, []).extend(wide)
        return found

    def has_rows(self, dense: Sequence[TaskRecords]) -> bool:
        """Return whether there are rows that are not asked."""
        return any(ids for languages in self.rows(dense).values() for ids in languages.values())

    def asked(self, part: str, ids: Ids, dense: Sequence[TaskRecords]) -> Rows:
        """Return the rows of a part that are asked.

        Args:
            part: Name of the part; :data:`SCREENED` for what is not asked before the end.
            ids: Task to the ids of the part.
            dense: The dense model's records.
        """
        left_out, languages = self.rows(dense), {task.task: list(task.records) for task in dense}
        if part == SCREENED:
            return {task: left_out[task] for task in ids if any(left_out[task].values())}
        unasked = {task: {lang: set(rows) for lang, rows in found.items()} for task, found in left_out.items()}
        return {
            task: {lang: [row for row in rows if row not in unasked[task][lang]] for lang in languages[task]}
            for task, rows in ids.items()
        }

    def completed(self, records: Sequence[TaskRecords], dense: Sequence[TaskRecords], ids: Ids) -> list[TaskRecords]:
        """Return a recipe's records of some rows, with the dense model's where it was not asked.

        Args:
            records: The recipe's records.
            dense: The dense model's.
            ids: Task to the ids of the rows.
        """
        left_out, by_task = self.rows(dense), {task.task: task for task in dense}
        found = []
        for task in records:
            wanted, kept = set(ids.get(task.task, ())), {}
            for lang, rows in by_task[task.task].records.items():
                by_id = {record["id"]: record for record in task.records.get(lang, [])}
                unasked = set(left_out[task.task][lang])
                pairs = [(row, by_id.get(row["id"])) for row in rows if row["id"] in wanted]
                kept[lang] = [mine or row for row, mine in pairs if mine is not None or row["id"] in unasked]
            found.append(replace(task, records=kept))
        return found


Pairs = Iterable[tuple[Sequence[TaskRecords], Sequence[TaskRecords]]]


def screening_report(screen: Screen, chose: Pairs, asked: Pairs) -> dict[str, Any]:
    """Return what study.json says of screening.

    Args:
        screen: What was not asked.
        chose: The dense model's records and those of a recipe, of the rows that it was asked to be chosen by.
        asked: The same of the rows that chosen recipes were asked at last.

    Returns:
        ``margin``; ``share`` of the rows that were not asked; ``largest_turned``: task to the largest margin of an
        answer that a recipe turned; of what chosen recipes were asked at last ``asked`` and ``turned``.
    """
    total = left_out = 0
    turned: dict[str, float] = {}  # by task
    wanted = {(task, row) for part in screen.parts.values() for task, ids in part.items() for row in ids}
    for dense, pruned in chose:
        names = {task.task for task in pruned}
        for task in (task for task in dense if task.task in names):
            total += sum((task.task, row["id"]) in wanted for rows in task.records.values() for row in rows)
            left_out += sum(map(len, screen.rows([task])[task.task].values()))
        _keep_largest(turned, _margins(dense, pruned))
    last = [found for pair in asked for found in _margins(*pair)]
    _keep_largest(turned, last)
    return {
        "margin": screen.margin,
        "share": left_out / max(total, 1),
        "largest_turned": turned,
        "asked": len(last),
        "turned": sum(is_turned for _, _, is_turned in last),
    }


def _keep_largest(turned: dict[str, float], found: Iterable[tuple[str, float, bool]]) -> None:
    for task, margin, is_turned in found:
        if is_turned:
            turned[task] = max(turned.get(task, 0.0), margin)


def _margins(dense: Sequence[TaskRecords], pruned: Sequence[TaskRecords]) -> Iterator[tuple[str, float, bool]]:
    """Of every row that a recipe was asked its task, the dense model's margin, and whether its answer is another."""
    by_task = {task.task: task for task in dense}
    for task in pruned:
        for lang, rows in task.records.items():
            before: dict[Any, Record] = {record["id"]: record for record in by_task[task.task].records[lang]}
            for row in rows:
                reference = before[row["id"]]
                yield task.task, margin_of(reference) or 0.0, reference.get("prediction") != row.get("prediction")

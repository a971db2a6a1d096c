"""Rows kept apart: which examples choose recipes and which judge them, disjoint by content."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlprune.errors import UserError
from mlprune.evaluation.tasks import Task
from mlprune.evaluation.tasks.base import in_task
from mlprune.evaluation.tasks.candidate_example import CandidateExample
from mlprune.evaluation.tasks.selection import NamedRows, Selection

Examples = Mapping[str, Sequence[Any]]  # language to examples
Ids = dict[str, list[str]]  # task to ids of examples, over all languages
SHORTEST = 12  # characters of a calibration text that is looked for in examples
LONGEST_PHRASE = 30  # characters of a text that may stand in both by chance


@dataclass(frozen=True)
class Part:
    """Examples that are evaluated together: those of a round of the selection, or those of the confirmation.

    Args:
        name: ``select.0``, ``select.1``, ... or ``confirm``.
        ids: Task to ids.
    """

    name: str
    ids: Ids


def named_ids(task: Task, examples: Examples, rows: NamedRows | None) -> list[str]:
    """Return the ids of a task's examples that ``rows`` names, in order.

    Args:
        task: The task.
        examples: All its examples.
        rows: Positions among them, ids or a share, as a task's ``rows``; None for all.

    Raises:
        UserError: If a row does not exist.
    """
    ids = list(dict.fromkeys(example.id for rows in examples.values() for example in rows))
    with in_task(task.name):
        return Selection(rows=rows).choose(ids, ids, getattr(task, "group_size", 1))


def in_rounds(ids: Ids, shares: Sequence[float], seed: int) -> list[Part]:
    """Deal the selection rows to the rounds that first look at them, at random and alike in all languages.

    Args:
        ids: All selection rows.
        shares: Share of the rows that has been seen at the end of each round; the last is 1.
        seed: Seed of the order.

    Example:
        >>> [part.ids for part in in_rounds({"nli": ["a", "b", "c", "d"]}, [0.5, 1.0], seed=0)]
        [{'nli': ['a', 'c']}, {'nli': ['b', 'd']}]
    """
    parts = [Part(f"select.{number}", {}) for number in range(len(shares))]
    for task, chosen in ids.items():
        order = random.Random(f"{seed}:{task}").sample(chosen, len(chosen))
        start = 0
        for part, share in zip(parts, shares, strict=True):
            end = max(round(share * len(chosen)), 1)
            dealt = set(order[start:end])
            part.ids[task] = [row_id for row_id in chosen if row_id in dealt]
            start = end
    return parts


def content(example: Any) -> tuple[str, ...]:
    """Return the texts of an example, whatever its id: two of equal content are one row twice.

    Of candidates it is the row's own text: neither another template nor another label makes another row of it.

    Example:
        >>> from mlprune.evaluation.tasks.candidate_example import CandidateExample
        >>> content(CandidateExample("0", ("Fine. Bad", "Fine. Good"), ("-", "+"), 1, ranges=(((0, 5),), ((0, 5),))))
        ('Fine.',)
    """
    if isinstance(example, CandidateExample):
        parts = zip(example.candidates, example.own_text(), strict=True)
        pieces = [text[start:end] for text, ranges in parts for start, end in ranges]
        return tuple(dict.fromkeys(_texts(pieces)))
    found: list[str] = []
    for name, value in sorted(vars(example).items()):
        if name not in ("id", "group", "category"):
            found += _texts(value)
    return tuple(found)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [" ".join(value.split())]
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in _texts(part)]
    return [text for part in value for text in _texts(part)] if isinstance(value, list | tuple) else [str(value)]


def check_disjoint(examples: Mapping[str, Examples], select: Ids, confirm: Ids) -> None:
    """Raise UserError if rows that choose are among those that judge, by id or by content.

    Args:
        examples: Task to language to examples.
        select: Rows that choose.
        confirm: Rows that judge.
    """
    for task in select.keys() & confirm.keys():
        if shared := sorted(set(select[task]) & set(confirm[task])):
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            raise UserError(
                f"study.select.rows and study.confirm.rows: both have row '{shared[0]}'{more} of task '{task}'; rows "
                "that judge must not have chosen"
            )
        chosen, judging = set(select[task]), set(confirm[task])
        for lang, rows in examples[task].items():
            by_content = {content(example): example.id for example in rows if example.id in chosen}
            for example in rows:
                if example.id in judging and (twin := by_content.get(content(example))) is not None:
                    raise UserError(
                        f"study.select.rows and study.confirm.rows: rows '{twin}' and '{example.id}' of task '{task}', "
                        f"language '{lang}', are the same text; rows that judge must not have chosen"
                    )


def check_calibration(
    examples: Mapping[str, Examples], ids: Iterable[Ids], prompts: Mapping[str, Sequence[str]]
) -> None:
    """Raise UserError if a calibration text stands in a row that chooses or judges, or such a row in one.

    Args:
        examples: Task to language to examples.
        ids: The rows.
        prompts: Calibration group to the texts in its prompts.
    """
    wanted: dict[str, set[str]] = {}
    for part in ids:
        for task, names in part.items():
            wanted.setdefault(task, set()).update(names)
    texts = {
        " ".join(text.split()): group
        for group, found in prompts.items()
        for text in found
        if len(text.strip()) >= SHORTEST
    }
    for task, chosen in wanted.items():
        for lang, rows in examples[task].items():
            for example in (example for example in rows if example.id in chosen):
                parts = content(example)
                whole, longer = "\n".join(parts), [part for part in parts if len(part) > LONGEST_PHRASE]
                overlaps = (text for text in texts if text in whole or any(part in text for part in longer))
                if found := next(overlaps, None):
                    how = "holds" if found in whole else "stands in"
                    raise UserError(
                        f"study: row '{example.id}' of task '{task}', language '{lang}', {how} a calibration text of "
                        f"group '{texts[found]}' ({found[:40]!r}); calibrate on other rows"
                    )

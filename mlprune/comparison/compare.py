"""Two systems' predictions compared, example by example."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlprune.comparison import schema1
from mlprune.comparison.controls import control_rows, controls_of
from mlprune.comparison.difference import Difference
from mlprune.comparison.headline import headline, sentences
from mlprune.comparison.reading import System, measured_tasks, read_systems
from mlprune.comparison.records import TaskRecords
from mlprune.comparison.rows import corrected, differences_of
from mlprune.errors import UserError
from mlprune.log import log
from mlprune.metrics import Record
from mlprune.metrics.measure import AVERAGE
from mlprune.runs.reading import SCHEMA_VERSION

Comparison = dict[str, Any]


def compare(before: Path, after: Path, seed: int = 0, systems: tuple[str, str] = ("dense", "pruned")) -> Comparison:
    """Compare two predictions folders.

    Args:
        before: Predictions of the first system, or a folder of ``samples_*.jsonl`` of lm-evaluation-harness.
        after: Of the second.
        seed: Seed of resampling and swapping.
        systems: What they are called.

    Returns:
        Content of comparison.json: ``differences``, a row each (:class:`Difference`), ``sentences``, a plain one a
        task, ``headline``, the same as one text, ``systems``, ``controls``, rows of the first system with constants
        (:mod:`mlprune.comparison.controls`), ``constants``, and the sections of schema 1.

    Raises:
        UserError: If there are no predictions, or the runs have no example in common or differ in one's data.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record = '{"id": "0", "label": "neutral", "prediction": "neutral", "scores": [1, 2, 0]}'
        ...     _ = Path(folder, "xnli.fr.jsonl").write_text(record)
        ...     comparison = compare(Path(folder), Path(folder))
        >>> comparison["differences"][0]["delta"], comparison["differences"][0]["n"]
        (0.0, 1)
    """
    first, second = read_systems((before, after))
    found = _compared(first, second, systems, seed)
    rows, tasks = corrected(found.rows), [task.task for task in found.shared if task.headline]
    return {
        "schema_version": SCHEMA_VERSION,
        "systems": list(systems),
        **schema1.comparison_sections(found.shared, rows),
        "headline": headline(rows, tasks, found.controls),
        "sentences": sentences(rows, tasks, found.controls),
        "differences": [row.to_json() for row in rows],
        "controls": [row.to_json() for row in found.controls],
        "constants": found.constants,
    }


def compare_all(folders: Sequence[Path], systems: Sequence[str], seed: int = 0) -> Comparison:
    """Compare several systems: all with the first, and the averages of every pair.

    Holm's correction is over all systems, besides languages and tasks.

    Args:
        folders: Their predictions, as :func:`compare` takes them.
        systems: What they are called.
        seed: Seed of resampling and swapping.

    Returns:
        ``systems``, ``headlines``, one of each system but the first, ``differences``, rows of all with the first,
        ``controls``, rows of the first with constants, and ``matrix``, rows of the averages over languages of every
        pair.

    Raises:
        UserError: As :func:`compare`.
    """
    loaded = read_systems(folders)
    pairs = {
        (i, j): _compared(loaded[i], loaded[j], (systems[i], systems[j]), seed, controlled=i == 0)
        for i, j in itertools.combinations(range(len(loaded)), 2)
    }
    tasks = {task.task for pair in pairs.values() for task in pair.shared if task.headline}
    with_first = corrected([row for (i, _), pair in pairs.items() if i == 0 for row in pair.rows])
    averages = corrected([row for pair in pairs.values() for row in pair.rows if row.language == AVERAGE])
    controls = {systems[j]: pair.controls for (i, j), pair in pairs.items() if i == 0}
    own_rows = {name: [row for row in with_first if row.system == name] for name in systems[1:]}
    return {
        "schema_version": SCHEMA_VERSION,
        "systems": list(systems),
        "headlines": [headline(differences, tasks, controls[name]) for name, differences in own_rows.items()],
        "differences": [row.to_json() for row in with_first],
        "controls": [row.to_json() for rows in controls.values() for row in rows],
        "matrix": [row.to_json() for row in averages],
    }


@dataclass
class _Pair:
    """Two systems: their differences, uncorrected; what the first has in common with the second; its controls."""

    rows: list[Difference] = field(default_factory=list)
    shared: list[TaskRecords] = field(default_factory=list)
    controls: list[Difference] = field(default_factory=list)
    constants: list[dict[str, Any]] = field(default_factory=list)


def _compared(before: System, after: System, systems: tuple[str, str], seed: int, controlled: bool = True) -> _Pair:
    """Compare two systems, also with the first under constants if asked for."""
    predictions, measured = zip(before, after, strict=True)
    for task in sorted(predictions[0].keys() ^ predictions[1].keys()):
        log.warning("%s: only in %s", task, systems[0] if task in predictions[0] else systems[1])
    sides = [measured_tasks(side, measured[0] | measured[1]) for side in predictions]
    after_by_task = {task.task: task for task in sides[1]}
    found = _Pair()
    for first in sides[0]:
        if first.task in after_by_task:
            pair = shared_records(first, after_by_task[first.task], systems)
            if pair[0].records:
                found.shared.append(pair[0])
                found.rows += differences_of(*pair, systems, seed)
                controls = controls_of(*pair, seed) if controlled else []
                found.controls += control_rows(*pair, controls, systems, seed)
                found.constants += [{"task": first.task, **entry} for each in controls for entry in each.to_json()]
    if not found.rows:
        raise UserError(f"'{systems[0]}' and '{systems[1]}' have no example in common; evaluate both on the same tasks")
    return found


def shared_records(before: TaskRecords, after: TaskRecords, systems: Sequence[str]) -> tuple[TaskRecords, TaskRecords]:
    """Return both systems' records of the examples that both have, in one order, and measured alike.

    Raises:
        UserError: If they differ in what comes with the data, such as an example's label.
    """
    for lang in sorted(before.records.keys() ^ after.records.keys()):
        log.warning("%s.%s: only in %s", before.task, lang, systems[0] if lang in before.records else systems[1])
    pairs = {lang: _pairs(before, after, lang) for lang in before.records if lang in after.records}
    sides = [{lang: [pair[i] for pair in rows] for lang, rows in pairs.items() if rows} for i in (0, 1)]
    return replace(before, records=sides[0]), replace(before, records=sides[1])


def _pairs(before: TaskRecords, after: TaskRecords, lang: str) -> list[tuple[Record, Record]]:
    """Pair a language's records by id."""
    by_id = {record["id"]: record for record in after.records[lang]}
    first = before.records[lang]
    pairs = [(_grouped(record, by_id[record["id"]]), by_id[record["id"]]) for record in first if record["id"] in by_id]
    where = f"{before.task}.{lang}"
    given = {key for metric in before.metrics[lang] for key in getattr(metric, "given", ())}
    for one, other in pairs:
        for key in sorted(given):
            if one.get(key) != other.get(key):
                raise UserError(
                    f"{where}, example {one['id']}: the runs differ in its {key}; compare runs on the same data"
                )
    if len(pairs) < max(len(first), len(by_id)):
        log.warning("%s: %d and %d examples, of which %d are in both runs", where, len(first), len(by_id), len(pairs))
    return pairs


def _grouped(record: Record, other: Record) -> Record:
    """The record with its group, which a run of an older version does not have."""
    return record if "group" in record or "group" not in other else record | {"group": other["group"]}

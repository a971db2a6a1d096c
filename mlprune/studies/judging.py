"""From the records that a study keeps to evidence: what each recipe gained on the rows that choose and that judge."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mlprune.comparison.difference import Difference
from mlprune.comparison.records import TaskRecords
from mlprune.comparison.rows import corrected, differences_of
from mlprune.errors import UserError, did_you_mean
from mlprune.metrics import RightProbability
from mlprune.studies.decision import Shift
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.evidence import Evidence, evidence_of
from mlprune.studies.rows import Ids
from mlprune.studies.screening import SCREENED, Screen, screening_report
from mlprune.studies.selection import Round, best
from mlprune.studies.shift import shifts_of
from mlprune.studies.store import PREDICTIONS, Store, joined, paired, read_tasks

SOFT = RightProbability.measures[0].name


@dataclass(frozen=True)
class Entry:
    """A recipe as study.json has it.

    Args:
        name: Its name.
        folder: Name of its folder.
        seeds: Its calibration seeds.
        values: Its values of the grid's keys.
        differs: What differs from the configuration.
        dense: Folder of the dense model's results, within the run's; the run's own if empty.
        control: The recipe that it is a control of.
        endpoint: The ``tasks`` and ``languages`` that decide for it, where they are not those of the study.
        left_out: Tasks that it is not evaluated on, since its interventions do not work with them.
    """

    name: str
    folder: str
    seeds: list[int]
    values: Mapping[str, Any] = field(default_factory=dict)
    differs: Mapping[str, Any] = field(default_factory=dict)
    dense: str = ""
    control: str | None = None
    endpoint: Mapping[str, list[str]] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    def tasks(self, deciding: Sequence[str]) -> Sequence[str]:
        """Return the tasks that decide for it, given those of the study."""
        return self.endpoint.get("tasks", deciding)

    def rows(self, ids: Ids, deciding: Sequence[str]) -> Ids:
        """Return the rows that it is evaluated on: of the tasks that decide, those that decide for it; none left out.

        Args:
            ids: Task to ids.
            deciding: The tasks that decide in the study.
        """
        wanted = self.tasks(deciding)
        known = {task: rows for task, rows in ids.items() if task not in self.left_out}
        return {task: rows for task, rows in known.items() if task in wanted or task not in deciding}

    def to_json(self) -> dict[str, Any]:
        """Return the entry as study.json has it."""
        return asdict(self)


@dataclass(frozen=True)
class Judge:
    """Reads a study's records and says what recipes gained.

    Args:
        store: The evaluations.
        endpoint: What decides; None where nothing was declared.
        metric: What recipes are chosen by; None for the soft score where there is one.
        seed: Seed of resampling and swapping.
        against: The recipe that the others are judged against; None for the dense model.
        screen: What recipes were not asked, if anything.
    """

    store: Store
    endpoint: Endpoint | None
    metric: str | None = None
    seed: int = 0
    against: Entry | None = None
    screen: Screen | None = None
    _read: dict[tuple[str, ...], list[TaskRecords]] = field(default_factory=dict, repr=False)  # each file once

    def dense(self, entry: Entry) -> list[TaskRecords]:
        """Return the dense model's records, of the model that a recipe prunes."""
        key = (entry.dense,)
        if key not in self._read:
            folder = self.store.folder / entry.dense / PREDICTIONS if entry.dense else None
            self._read[key] = read_tasks(folder or self.store.folder / "predictions.dense")
        return self._read[key]

    def records(self, entry: Entry, seed: int, parts: Sequence[str]) -> list[TaskRecords]:
        """Return a recipe's records with one calibration seed, on some parts of the rows."""
        key = (entry.folder, str(seed), *parts)
        if key not in self._read:
            self._read[key] = self._completed(entry, seed, parts, self.store.records(entry.folder, seed, parts))
        return self._read[key]

    def _completed(
        self, entry: Entry, seed: int, parts: Sequence[str], records: list[TaskRecords]
    ) -> list[TaskRecords]:
        """A recipe's records with those of rows that it was not asked."""
        screen = self.screen
        if screen is None or not set(parts) <= set(screen.parts):
            return records
        if screen.is_over and self.store.has(entry.folder, seed, SCREENED):
            records = joined([records, self.store.records(entry.folder, seed, [SCREENED])])
        ids: Ids = {}
        for part in parts:
            for task, rows in screen.parts[part].items():
                ids.setdefault(task, []).extend(rows)
        return screen.completed(records, self.dense(entry), ids)

    def screening(self, entries: Sequence[Entry], seen: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
        """Return what study.json says of the rows that recipes were not asked.

        Args:
            entries: All recipes.
            seen: Recipe to the parts that it was evaluated on to be chosen.
        """
        if self.screen is None:
            return None
        runs = [(entry, seed) for entry in entries for seed in entry.seeds]
        chose = [(self.dense(entry), self.store.records(entry.folder, seed, seen[entry.name])) for entry, seed in runs]
        asked = [
            (self.dense(entry), self.store.records(entry.folder, seed, [SCREENED]))
            for entry, seed in runs
            if self.store.has(entry.folder, seed, SCREENED)
        ]
        return screening_report(self.screen, chose, asked)

    def differences(self, entry: Entry, seed: int, parts: Sequence[str]) -> list[Difference]:
        """Return all measures of one calibration seed against dense, by task and language."""
        pair = paired(self.dense(entry), self.records(entry, seed, parts))
        rows = [
            row
            for one, two in zip(*pair, strict=True)
            for row in differences_of(one, two, ("dense", entry.name), self.seed)
        ]
        return corrected(rows)

    @property
    def reference(self) -> str:
        """The name of what recipes are judged against."""
        return self.against.name if self.against is not None else "dense"

    def sides(self, entry: Entry, parts: Sequence[str]) -> list[tuple[list[TaskRecords], list[TaskRecords]]]:
        """Return for each calibration seed the reference's records and the recipe's, on some parts of the rows."""
        if self.against is None:
            return [paired(self.dense(entry), self.records(entry, seed, parts)) for seed in entry.seeds]
        return self._against(self.against, entry, parts)

    def _against(
        self, other: Entry, entry: Entry, parts: Sequence[str]
    ) -> list[tuple[list[TaskRecords], list[TaskRecords]]]:
        """Another recipe's records and a recipe's; seed by seed where the other has as many."""
        others = {seed: self.records(other, seed, parts) for seed in other.seeds}
        return [
            paired(others.get(seed, others[other.seeds[0]]), self.records(entry, seed, parts)) for seed in entry.seeds
        ]

    def endpoint_of(self, entry: Entry) -> Endpoint:
        """Return what decides for a recipe."""
        assert self.endpoint is not None
        return self.endpoint.narrowed(entry.endpoint)

    def evidence(self, entry: Entry, parts: Sequence[str]) -> list[Evidence]:
        """Return what a recipe did to the study's endpoint on some parts of the rows."""
        return self._evidence(self.sides(entry, parts), self.endpoint_of(entry), entry.name, self.reference)

    def _evidence(
        self, sides: Sequence[tuple[list[TaskRecords], list[TaskRecords]]], endpoint: Endpoint, name: str, other: str
    ) -> list[Evidence]:
        references, pruned = [one for one, _ in sides], [two for _, two in sides]
        return evidence_of(references[0], pruned, endpoint, name, other, self.seed, references)

    def shifts(self, entry: Entry, parts: Sequence[str]) -> Sequence[Shift | None]:
        """Return what constants explain of each piece of a recipe's evidence; None where there are none."""
        return shifts_of(self.sides(entry, parts), self.endpoint_of(entry), entry.name, self.seed, self.reference)

    def beyond(self, entry: Entry, control: Entry, parts: Sequence[str]) -> list[Evidence]:
        """Return what a recipe is beyond one of its controls, of each piece of its evidence."""
        return self._evidence(self._against(control, entry, parts), self.endpoint_of(entry), entry.name, control.name)

    def gain(self, entry: Entry, parts: Sequence[str]) -> float:
        """Return by how much a recipe is better than the reference in what recipes are chosen by."""
        decides = self.endpoint_of(entry)
        endpoint = replace(decides, metric=self.metric or SOFT, average=True)
        sides = self.sides(entry, parts)
        if self.metric is None:
            soft = [(with_soft(one), with_soft(two)) for one, two in sides]
            if soft[0][0]:
                sides = soft
            else:
                endpoint = replace(endpoint, metric=decides.metric)
        row = self._evidence(sides, endpoint, entry.name, self.reference)[0].row
        return (row.delta or 0.0) * (-1 if row.measure.higher_is_better is False else 1)


def against_of(entries: Sequence[Entry], endpoint: Endpoint | None) -> Entry | None:
    """Return the recipe that the others are judged against; None for the dense model.

    Args:
        entries: All recipes.
        endpoint: What decides.

    Raises:
        UserError: If there is no such recipe, or no other.
    """
    if endpoint is None or endpoint.against is None:
        return None
    name, by_name = endpoint.against, {entry.name: entry for entry in entries}
    if name not in by_name:
        hint = did_you_mean(name, by_name)
        raise UserError(f"study.endpoint.against: '{name}' is not a recipe; give one of {', '.join(by_name)}{hint}")
    if len(by_name) == 1:
        raise UserError(f"study.endpoint.against: '{name}' is the only recipe; give study.recipes another one")
    return by_name[name]


def with_soft(tasks: Sequence[TaskRecords]) -> list[TaskRecords]:
    """Return the tasks whose records say which candidate is right, measured by its probability too."""
    found = []
    for task in tasks:
        if all("right" in record for rows in task.records.values() for record in rows):
            metrics = {lang: [*task.metrics[lang], RightProbability()] for lang in task.records}
            found.append(replace(task, metrics=metrics))
    return found


def next_round(
    left: Sequence[Entry], gains: Mapping[str, float], plan: Sequence[Round], number: int, top: int
) -> list[Entry]:
    """Return the entries that enter the round after one, or that are chosen after the last.

    Args:
        left: The entries that were in the round.
        gains: Name to gain.
        plan: All rounds.
        number: Which round it was.
        top: How many are chosen.
    """
    count = plan[number + 1].recipes if number + 1 < len(plan) else top
    by_name = {entry.name: entry for entry in left}
    return [by_name[name] for name in best({entry.name: gains[entry.name] for entry in left}, count)]

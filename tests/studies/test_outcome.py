"""What a study concludes from records: controls and constants beside every claim, whatever decides it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlprune.comparison.records import TaskRecords
from mlprune.metrics import Accuracy, BitsPerChar, LabelShares
from mlprune.present.study import leaderboard
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.judging import Entry, Judge
from mlprune.studies.outcome import Outcome, conclude
from mlprune.studies.shift import fitted_evidence
from mlprune.studies.store import Store

LABELS = ["bad", "good", "mixed"]
LANGUAGES = ["en", "fr", "sw"]
ROWS = 60
BIAS = 2.5  # of the dense model, toward its last label


def scored(num_labels: int, bias: float, skill: float = 0.0, task: str = "reviews") -> TaskRecords:
    """A task with a fixed set of labels, answered by a model with a bias and some skill."""
    labels, records = LABELS[:num_labels], {}
    for lang in LANGUAGES:
        records[lang] = []
        for i in range(ROWS):
            draw = random.Random(f"{i}:{lang}")
            scores = [draw.gauss(1.5 + skill if k == i % num_labels else 0.0, 1) for k in range(num_labels)]
            scores[-1] += bias
            chosen = labels[scores.index(max(scores))]
            records[lang].append(
                {"id": str(i), "label": labels[i % num_labels], "prediction": chosen, "scores": scores}
            )
    return TaskRecords(task, records, {lang: [Accuracy(), LabelShares(labels)] for lang in LANGUAGES}, pivot="en")


def unlabelled(task: TaskRecords, name: str) -> TaskRecords:
    """The same with the rows' own texts as candidates."""
    return replace(task, task=name, metrics={lang: [Accuracy()] for lang in LANGUAGES})


READ = TaskRecords("reading", {"fr": [{"id": "0", "log_prob": -4.0, "chars": 2}]}, {"fr": [BitsPerChar()]})


class KnownJudge(Judge):
    """Reads records that are in memory, alike on all parts of the rows."""

    known: Mapping[str, Sequence[TaskRecords]] = {}

    def dense(self, entry: Entry) -> list[TaskRecords]:
        return list(self.known["dense"])

    def records(self, entry: Entry, seed: int, parts: Sequence[str]) -> list[TaskRecords]:
        return list(self.known[entry.name])


def concluded(sides: Mapping[str, Sequence[TaskRecords]], parts: Sequence[str] = (), **endpoint: Any) -> Outcome:
    """What is concluded of recipes by name; one that is called after another with a colon is a control of it."""
    judge = KnownJudge(Store(Path()), Endpoint(**endpoint))
    object.__setattr__(judge, "known", sides)
    entries = [
        Entry(name, name, [0], control=name.partition(":")[0] if ":" in name else None)
        for name in sides
        if name != "dense"
    ]
    return conclude(judge, entries, parts, chosen=[entry.name for entry in entries if entry.control is None])


@pytest.mark.parametrize(("num_labels", "metric"), [(2, "accuracy"), (2, "balanced_accuracy"), (3, "accuracy")])
def test_a_shift_of_labels_is_told_from_skill_beside_tasks_without_labels(num_labels: int, metric: str) -> None:
    sides = {
        name: [scored(num_labels, *how), READ]
        for name, how in {"dense": (BIAS,), "shift": (0.0,), "skill": (BIAS, 1.5)}.items()
    }
    claims = concluded(sides, metric=metric).claims
    assert {claim.recipe: claim.verdict for claim in claims} == {"shift": "a shift of labels", "skill": "helped"}
    assert claims[0].confirmation.shift.matched.row.measure.name == metric


def test_an_average_with_rows_own_candidates_is_shifted_where_there_are_labels() -> None:
    still = unlabelled(scored(2, BIAS), "copa")
    sides = {"dense": [scored(2, BIAS), still], "shift": [scored(2, 0.0), still]}
    (claim,) = concluded(sides).claims
    assert (claim.confirmation.evidence.row.task, claim.verdict) == ("reviews+copa", "a shift of labels")
    claims = concluded(sides, average=False).claims
    assert [claim.confirmation.shift is None for claim in claims] == [False, False, True, True]
    assert concluded({name: [still] for name in sides}).claims[0].confirmation.shift is None


@pytest.mark.parametrize("parts", [(), ("select.0",)], ids=["nothing chose", "chosen"])
def test_controls_stand_beside_every_claim_of_its_own(parts: Sequence[str]) -> None:
    sides = {name: [scored(2, bias)] for name, bias in (("dense", BIAS), ("shift", 0.0), ("shift: random", 1.0))}
    outcome = concluded(sides, parts, average=False)
    beside = [(one.control.row.system, one.control.row.language, one.beyond.row.language) for one in outcome.controls]
    names = ["shift: random", "dense with fitted constants", "dense with fitted constants by language"]
    assert beside == [(name, lang, lang) for name in names for lang in ("fr", "sw")]
    random_scores = [line.row.language for line in outcome.lines if line.role == "control" and line.seed == "all"]
    assert random_scores == ["fr", "sw"]
    table = next(table for table in leaderboard(outcome.to_json()) if table.title.startswith("Controls"))
    assert table.columns[:2] == ("control", "where")
    matched = {row[1] for row in table.rows if row[0] == "dense with matched constants"}
    assert matched == {"reviews, fr", "reviews, sw"}
    assert len(table.rows) == 2 * (1 + len(names))


def test_constants_are_fitted_where_a_language_has_no_rows_that_choose() -> None:
    judged = [scored(2, BIAS)]
    chose = [replace(judged[0], records={lang: judged[0].records[lang] for lang in ("en", "fr")})]
    ((pooled, _),) = fitted_evidence(judged, chose, Endpoint())
    assert pooled[0].row.system == "dense with fitted constants"
    assert pooled[0].row.delta > 0
    assert len(fitted_evidence(judged, judged, Endpoint())) == 2

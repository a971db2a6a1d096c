"""Screening: which rows are not asked, what stands in for their answers, and what is said of it."""

from typing import Any

from mlprune.comparison.records import TaskRecords
from mlprune.metrics import Accuracy
from mlprune.studies.screening import SCREENED, Screen, screening_report

MARGINS = {"fr": [0.1, 3.0, 1.0, 2.0], "sw": [5.0, 4.0, 0.2, 0.3]}
PARTS = {"select.0": {"nli": ["0", "1"]}, "select.1": {"nli": ["2", "3"]}}
SCREEN = Screen(2.0, PARTS)


def answers(
    lang: str, turned: tuple[str, ...] = (), only: tuple[str, ...] = ("0", "1", "2", "3")
) -> list[dict[str, Any]]:
    """Records with the margins above, of which some answers are turned."""
    return [
        {"id": str(i), "label": "a", "prediction": "b" if str(i) in turned else "a", "scores": [margin, 0.0]}
        for i, margin in enumerate(MARGINS[lang])
        if str(i) in only
    ]


def task(**records: list[dict[str, Any]]) -> list[TaskRecords]:
    return [TaskRecords("nli", records, {lang: [Accuracy()] for lang in records})]


DENSE = task(fr=answers("fr"), sw=answers("sw"))


def test_each_part_and_language_keeps_its_nearest_row() -> None:
    assert SCREEN.rows(DENSE) == {"nli": {"fr": ["1", "3"], "sw": ["0"]}}
    assert SCREEN.asked("select.0", PARTS["select.0"], DENSE) == {"nli": {"fr": ["0"], "sw": ["1"]}}
    assert SCREEN.asked(SCREENED, PARTS["select.0"], DENSE) == {"nli": {"fr": ["1", "3"], "sw": ["0"]}}
    assert SCREEN.has_rows(DENSE)
    assert not Screen(9.0, PARTS).has_rows(DENSE)
    assert Screen({"nli": 2.0}, PARTS).rows(DENSE) == SCREEN.rows(DENSE)
    assert not Screen({"reviews": 2.0}, PARTS).has_rows(DENSE)


def test_answers_that_were_not_asked_are_those_of_the_dense_model() -> None:
    own = task(fr=answers("fr", ("0",), ("0",)), sw=answers("sw", (), ("1",)))
    (found,) = SCREEN.completed(own, DENSE, PARTS["select.0"])
    said = {lang: [(row["id"], row["prediction"]) for row in rows] for lang, rows in found.records.items()}
    assert said == {"fr": [("0", "b"), ("1", "a")], "sw": [("0", "a"), ("1", "a")]}


def test_the_report_says_what_was_turned() -> None:
    chose = task(fr=answers("fr", ("0", "2"), ("0", "2")), sw=answers("sw", (), ("1", "2", "3")))
    asked = task(fr=answers("fr", ("3",), ("1", "3")), sw=answers("sw", (), ("0",)))
    assert screening_report(SCREEN, [(DENSE, chose)], []) == {
        **{"margin": 2.0, "share": 3 / 8, "largest_turned": {"nli": 1.0}},
        **{"asked": 0, "turned": 0},
    }
    found = screening_report(SCREEN, [(DENSE, chose)], [(DENSE, asked)])
    assert (found["largest_turned"], found["asked"], found["turned"]) == ({"nli": 2.0}, 3, 1)

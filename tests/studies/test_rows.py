"""Rows are kept apart by what they say, whatever task, template, label or longer text holds them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mlprune.errors import UserError
from mlprune.evaluation.tasks.candidate_example import CandidateExample
from mlprune.studies.looks import hash_of
from mlprune.studies.rows import check_calibration, check_disjoint

SENTENCE = "The library opens at nine in the morning."
REVIEW = CandidateExample("0", (f"{SENTENCE} Bad", f"{SENTENCE} Good"), ("bad", "good"), 1, ranges=(((0, 41),),) * 2)
OTHERS = {
    "another id": replace(REVIEW, id="7"),
    "another label": replace(REVIEW, id="7", label=0),
    "another template": CandidateExample("7", (f"Say: {SENTENCE}",), ("-",), 0, ranges=(((5, 46),),)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_same_text_is_the_same_row(other: str) -> None:
    example = OTHERS[other]
    rows = {"reviews": {"en": [REVIEW, example]}}
    assert hash_of(rows, {"reviews": ["0"]}) == hash_of(rows, {"reviews": ["7"]})
    with pytest.raises(UserError, match="rows '0' and '7' of task 'reviews', language 'en', are the same text"):
        check_disjoint(rows, {"reviews": ["0"]}, {"reviews": ["7"]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("opens at nine in the", "holds a calibration text of group 'mt'"),
        (f"First. {SENTENCE} Then it closes.", "stands in a calibration text of group 'mt'"),
        ("The library opens at ten.", ""),
    ],
)
@pytest.mark.parametrize("example", [REVIEW, SimpleNamespace(id="0", text=SENTENCE, given="")], ids=["review", "text"])
def test_calibration_texts_are_kept_apart_too(text: str, said: str, example: object) -> None:
    def check() -> None:
        check_calibration({"task": {"en": [example]}}, [{"task": ["0"]}], {"mt": ["Short.", text]})

    if not said:
        check()
        return
    with pytest.raises(UserError, match=said):
        check()

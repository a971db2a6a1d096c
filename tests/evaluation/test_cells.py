"""What tasks do with cells: text is used unchanged; anything else is refused, naming row and column."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlprune.data.corpora import LocalFiles
from mlprune.data.demonstrations import MonolingualDemonstrations
from mlprune.errors import UserError
from mlprune.evaluation.tasks import (
    CandidateTask,
    ClozeTask,
    Marc,
    PawsX,
    PerplexityTask,
    TranslationTask,
    Xcopa,
    Xnli,
    XStoryCloze,
    XWinograd,
)

OWN = {"verbalizer": {"y": "oui", "n": "non"}, "label_column": "label"}
STORY = {f"input_sentence_{i}": "A." for i in range(1, 5)} | {"sentence_quiz1": "B.", "sentence_quiz2": "C."}


def corpus(folder: Path, *rows: dict[str, Any], languages: tuple[str, ...] = ("fr",)) -> LocalFiles:
    for lang in languages:
        (folder / f"x.{lang}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return LocalFiles(f"{folder}/x.{{lang}}.jsonl")


def texts_used(folder: Path, *cells: Any) -> list[str]:
    rows = corpus(folder, *({"text": cell, "label": "y"} for cell in cells))
    examples = CandidateTask("q", ["fr"], rows, "[{text}] {label}", **OWN).examples("fr")
    return [example.candidates[0].removesuffix("] oui").removeprefix("[") for example in examples]


@pytest.mark.parametrize(
    "cells",
    [
        ["2019-05-12", "2020-01-01"],
        ["2019-05-12", "hier"],
        ["2019-05-12T10:00:00", "2019-05-12T10:00:00"],
        ["007", "1e5"],
        ["null", "NaN", "None", "NA"],
        [' a "b" ', "a\u2028b\u00a0?", "a\tb\r\nc\x00d", "\u200fא\u200e", "\ufeffx", "{text} {0}"],
    ],
)
def test_text_is_asked_as_it_stands(cells: list[str], tmp_path: Path) -> None:
    assert texts_used(tmp_path, *cells) == cells


@pytest.mark.parametrize("cell", [{"fr": "un"}, ["un"], 1984, 1.5, True, float("nan"), "\ud800"], ids=repr)
def test_what_is_no_text_is_refused_by_row_and_column(cell: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 2 of .*x\.fr\.jsonl.*: text ") as error:
        texts_used(tmp_path, "un", cell)
    assert "\n" not in str(error.value)


PREMISE = {"premise": "P.", "choice1": "A", "choice2": "B", "question": "cause", "label": 0}
TASKS: dict[str, tuple[Callable[[LocalFiles], Any], dict[str, Any]]] = {
    "candidates": (
        lambda rows: CandidateTask("q", ["fr"], rows, "{text} {label}", **OWN),
        {"text": 5, "label": "y"},
    ),
    "prompt": (lambda rows: ClozeTask("z", ["fr"], rows), {"prompt": 5, "answer": "a", "candidates": ["a", "b"]}),
    "answer": (
        lambda rows: ClozeTask("z", ["fr"], rows),
        {"prompt": "<mask>.", "answer": 1990, "candidates": ["1990", "1991"]},
    ),
    "cloze": (
        lambda rows: ClozeTask("z", ["fr"], rows),
        {"prompt": "En <mask>.", "answer": "1990", "candidates": [1990, 1991]},
    ),
    "translation": (lambda rows: TranslationTask(["fr"], corpus=rows), {"text": 5}),
    "nested": (lambda rows: TranslationTask(["fr"], corpus=rows), {"text": {"fr": "a", "en": "b"}}),
    "perplexity": (lambda rows: PerplexityTask(["fr"], corpus=rows), {"text": 5}),
    "paws-x": (lambda rows: PawsX(["fr"], corpus=rows), {"sentence1": 1, "sentence2": "b", "label": 1}),
    "marc": (lambda rows: Marc(["fr"], corpus=rows), {"text": 5, "stars": 5}),
    "xnli": (lambda rows: Xnli(["fr"], corpus=rows), {"premise": "a", "hypothesis": 5, "label": 0}),
    "story": (lambda rows: XStoryCloze(["fr"], corpus=rows), STORY | {"sentence_quiz2": 5, "answer_right_ending": 1}),
    "winograd": (
        lambda rows: XWinograd(["fr"], corpus=rows),
        {"sentence": "A _ b.", "option1": 5, "option2": "c", "answer": "1"},
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_numbers_and_dicts_are_refused_by_every_task(name: str, tmp_path: Path) -> None:
    make, row = TASKS[name]
    with pytest.raises(UserError, match="row 1 ") as error:
        make(corpus(tmp_path, row, languages=("fr", "en"))).examples("fr")
    assert "\n" not in str(error.value)


def test_numbers_are_refused_by_xcopa(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 1 of .*x\.it\.jsonl.*: premise is 5; quote it as text"):
        Xcopa(["it"], corpus=corpus(tmp_path, PREMISE | {"premise": 5}, languages=("it",))).examples("it")


def test_candidates_that_look_like_dates(tmp_path: Path) -> None:
    row = {"prompt": "Né le <mask>.", "answer": "1990-01-01", "candidates": ["1990-01-01", "1991-02-03"]}
    (example,) = ClozeTask("z", ["fr"], corpus(tmp_path, row)).examples("fr")
    assert example.candidates[example.label] == "Né le 1990-01-01."


def test_a_column_of_translations_is_read_by_language(tmp_path: Path) -> None:
    rows = [{"translation": {"fr": f"Un {i}.", "en": f"One {i}."}} for i in range(3)]
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = LocalFiles(f"{tmp_path}/both.jsonl")
    task = TranslationTask(["fr"], corpus=both)
    task.check()
    assert [(e.source, e.reference) for e in task.examples("fr")] == [(f"Un {i}.", f"One {i}.") for i in range(3)]
    prompts = MonolingualDemonstrations("en", corpus=both, shots=1, separator="\n").prompts(None, 1, 0)  # type: ignore[arg-type]
    assert prompts[0].text.startswith("English: One ")


def test_numbers_in_messages_count_from_one(tmp_path: Path) -> None:
    rows = corpus(tmp_path, {"text": "un", "label": "y"}, {"text": "deux", "label": "maybe"})
    with pytest.raises(UserError, match=r"row 2 of .*: label 'maybe' is not a label"):
        CandidateTask("q", ["fr"], rows, "{text} {label}", **OWN).examples("fr")

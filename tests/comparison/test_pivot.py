"""The pivot: what RankC compares with and averages leave out; English unless a task says another, and always named."""

import re

import pytest

from mlprune.comparison import Difference, differences_of, read_figures
from mlprune.comparison.headline import headline, sentences
from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation.results import summarize, task_records
from mlprune.evaluation.tasks import CandidateTask, PerplexityTask, Task, TranslationTask
from mlprune.metrics import Measure, Record
from mlprune.present import comparison_tables, figure_tables


def answered(task: Task, shift: int) -> dict[str, list[Record]]:
    """Made-up answers to a task's rows, which differ with the shift."""
    names = ["entailment", "neutral", "contradiction"]

    def record(number: int, place: int) -> Record:
        scores = [float((number + place + shift + k) % 3) for k in range(3)]
        prediction = names[scores.index(max(scores))]
        return {"id": str(number), "label": names[number % 3], "scores": scores, "prediction": prediction}

    return {lang: [record(number, place) for number in range(30)] for place, lang in enumerate(task.languages)}


def test_reports_say_which_it_is() -> None:
    task = CandidateTask("nli", ["en", "fr", "sw"], Bundled("nli"), "xnli", pivot="fr")
    before, after = (answered(task, shift) for shift in (0, 1))
    results = summarize([task], {("nli", lang): records for lang, records in before.items()}, "dense")
    assert set(results["rankc"]["nli"]) == {"fr-en", "fr-sw"}
    assert list(results["average"]["nli"]) == ["non_fr"]
    rows = {(row.measure.name, row.language): row for row in read_figures(results)}
    mean = (rows["accuracy", "en"].value + rows["accuracy", "sw"].value) / 2
    assert rows["accuracy", "average"].value == pytest.approx(mean)
    assert rows["accuracy", "average"].pivot == "fr"
    labels = [row[0] for table in figure_tables({"dense": read_figures(results)}) for row in table.rows]
    assert labels[3:5] == ["average without French", "average"]
    assert {"French and English", "French and Swahili"} < set(labels)

    found = differences_of(task_records(task, before), task_records(task, after), ("dense", "pruned"))
    assert headline(found, []).startswith("Outside French, pruning changed nli accuracy by ")
    assert [row[0] for row in comparison_tables(found)[0].rows][3:] == ["average without French", "average"]


@pytest.mark.parametrize(
    ("languages", "pivot", "found"),
    [
        (["fr", "en"], None, "en"),
        (["fra_Latn", "eng_Latn"], None, "eng_Latn"),
        (["fr", "sw"], None, None),
        (["fr", "en", "zh-Hant"], "zh-Hant", "zh-Hant"),
    ],
)
def test_english_where_none_is_given(languages: list[str], pivot: str | None, found: str | None) -> None:
    task = CandidateTask("nli", languages, Bundled("nli"), "xnli", pivot=pivot)
    others = [lang for lang in languages if lang != (found or languages[0])]
    assert task.pivot == found
    assert task.pairs() == [(found or languages[0], lang) for lang in others]
    assert TranslationTask(["sw", "es"], target_lang="fr").pivot is None  # its average is over all directions


def test_a_pivot_is_one_of_the_tasks_languages() -> None:
    words = "task 'perplexity': pivot 'zh' is not among its languages; it has en, zh-Hant"
    with pytest.raises(UserError, match=re.escape(words)):
        PerplexityTask(["en", "zh-Hant"], pivot="zh")


def average(task: str, pivot: str | None) -> Difference:
    return Difference("pruned", "dense", task, "average", Measure("f1"), 0.5, 0.5, 0.0, n=9, changed=0.0, pivot=pivot)


def test_a_headline_says_outside_of_what_each_average_is() -> None:
    english, french, none = average("a", "en"), average("b", "fr"), average("c", None)
    outside = "Outside English, no prediction changed after pruning: "
    assert sentences([english, none], []) == [f"{outside}a (n = 9).", f"{outside}c (n = 9)."]
    two = "Outside English, no prediction changed after pruning: a (n = 9). Outside French, no prediction changed"
    assert headline([english, french], []).startswith(two)
    whole = Difference("pruned", "dense", "c", "fr", Measure("f1"), 0.5, 0.5, 0.0)  # the average of c has French
    assert "On average over languages, no prediction changed after pruning: c" in headline([french, none, whole], [])


def test_older_results_leave_english_out() -> None:
    entries = {lang: {"accuracy": 0.5, "n": 2} for lang in ("en", "fr")}
    old = {"tasks": {"nli": entries}, "average": {"nli": {"non_en": {"accuracy": 0.5}}}}
    assert [row.pivot for row in read_figures(old)] == [None, None, "en"]

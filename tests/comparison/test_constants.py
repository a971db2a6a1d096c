"""Constants on the scores of labels: matched exactly, fitted as well as any, and gains that are nothing else."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlprune.comparison import TaskRecords, compare, differences_of, read_controls, read_differences
from mlprune.comparison.choices import choose, cuts
from mlprune.comparison.controls import control_rows, controls_of, cross_fitted, explained, fitted, matched
from mlprune.comparison.fitting import fitted_constants
from mlprune.comparison.headline import headline
from mlprune.comparison.labelled import labelled
from mlprune.comparison.matching import matched_constants
from mlprune.comparison.rows import corrected
from mlprune.data.corpora import Bundled
from mlprune.evaluation.results import summarize
from mlprune.evaluation.tasks import CandidateTask
from mlprune.files import write_json
from mlprune.metrics import Accuracy, label_metrics
from mlprune.present import COMPARISON_FILES
from mlprune.report.answer import answer, findings

LABELS = ["negative", "neutral", "positive"]


# -- algorithms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 4, 7])
def test_any_counts_of_labels_are_matched_exactly(k: int) -> None:
    for seed in range(40):
        generator = np.random.default_rng([k, seed])
        n = int(generator.integers(1, 120))
        scores = generator.normal(size=(n, k)) * generator.uniform(0.1, 3) + generator.normal(size=k) * 3
        counts = np.bincount(generator.choice(k, n, p=generator.dirichlet(np.full(k, 0.5))), minlength=k)
        constants = matched_constants(scores, scores.argmax(1), counts)
        assert np.bincount(choose(scores, constants, scores.argmax(1)), minlength=k).tolist() == counts.tolist()
        assert constants[0] == 0


def test_shares_that_are_matched_already_need_no_constants() -> None:
    scores = np.random.default_rng(0).normal(size=(50, 3))
    own = scores.argmax(1)
    assert not matched_constants(scores, own, np.bincount(own, minlength=3)).any()
    assert not fitted_constants(scores, own, own).any()


@pytest.mark.parametrize("seed", range(20))
def test_equal_scores_leave_the_closest_counts_there_are(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = np.round(generator.normal(size=(30, 2)), 1)
    own = scores.argmax(1)
    wanted = int(generator.integers(0, 31))
    constants = matched_constants(scores, own, np.array([30 - wanted, wanted]))
    reachable = {own.sum(), *cuts(np.sort(scores[:, 0] - scores[:, 1]))[1]}
    off = abs(int(choose(scores, constants, own).sum()) - wanted)
    assert off == min(abs(int(count) - wanted) for count in reachable)


@pytest.mark.parametrize("seed", range(10))
def test_two_labels_are_fitted_as_well_as_any_constant_does_and_by_the_smallest(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores, right = generator.normal(size=(40, 2)), generator.integers(0, 2, 40)
    own = scores.argmax(1)
    tried = np.append(cuts(np.sort(scores[:, 0] - scores[:, 1]))[0], 0.0)
    hits = [int((choose(scores, np.array([0, one]), own) == right).sum()) for one in tried]
    smallest = min(abs(one) for one, count in zip(tried, hits, strict=True) if count == max(hits))
    constants = fitted_constants(scores, own, right)
    assert int((choose(scores, constants, own) == right).sum()) == max(hits)
    assert abs(constants[1]) == pytest.approx(smallest)


def test_three_labels_are_fitted_nearly_as_well_as_any_constants_do() -> None:
    missed = []
    for seed in range(10):
        generator = np.random.default_rng(seed)
        scores = generator.normal(size=(25, 3))
        right = (scores + generator.normal(size=(25, 3)) + generator.normal(size=3)).argmax(1)
        own, grid = scores.argmax(1), np.linspace(-4, 4, 41)
        best = max(
            int((choose(scores, np.array([0, *pair]), own) == right).sum()) for pair in itertools.product(grid, grid)
        )
        found = choose(scores, fitted_constants(scores, own, right), own)
        missed.append(best - int((found == right).sum()))
    assert max(missed) <= 1
    assert sum(missed) <= 2


# -- planted effects ----------------------------------------------------------------------------------------------


def system(shift: float, skill: float, labels: list[str], n: int = 200, noise: float = 0.0) -> TaskRecords:
    """A system whose scores tell the right label with some skill, from which the last label takes or gets a bias."""
    k, records = len(labels), {}
    for place, lang in enumerate(("en", "fr", "sw")):
        generator = np.random.default_rng([7, place])
        right = generator.integers(0, k, n)
        scores = generator.normal(size=(n, k)) + skill * np.eye(k)[right]
        scores[:, -1] += shift
        scores += noise * np.random.default_rng([9, place]).normal(size=(n, k))
        records[lang] = [
            {"id": str(i), "label": labels[gold], "scores": row.tolist(), "prediction": labels[int(row.argmax())]}
            for i, (gold, row) in enumerate(zip(right, scores, strict=True))
        ]
    metrics = {lang: [Accuracy(), *label_metrics(labels)] for lang in records}
    return TaskRecords("reviews", records, metrics, pivot="en")


def said(before: TaskRecords, after: TaskRecords) -> str:
    systems = ("dense", "pruned")
    rows = control_rows(before, after, controls_of(before, after), systems)
    return headline(corrected(differences_of(before, after, systems)), ["reviews"], rows)


SETS = pytest.mark.parametrize("labels", [LABELS[::2], LABELS], ids=["two labels", "three labels"])


@SETS
def test_a_wrong_bias_that_a_constant_mends_is_a_shift_of_labels(labels: list[str]) -> None:
    biased, mended = system(1.5, 1.0, labels), system(0.3, 1.0, labels, noise=0.05)
    text = said(biased, mended)
    assert "a shift of labels (dense with matched constants" in text
    assert text.count("points") == 3, "the gain, what constants gain, and what is beyond them"
    by_language = (
        r"; a shift of labels in English \(\+1\d\.\d\) and Swahili \(\+1\d\.\d\), p \(Holm\) at most 0\.00\d; "
    )
    assert re.search(by_language + "no clear change in French", text)
    rows = differences_of(biased, mended, ("dense", "pruned"))
    (gain,) = (row for row in rows if (row.measure.name, row.language) == ("accuracy", "average"))
    assert gain.low > 0, "without the control it would be called a gain"


@SETS
def test_a_recipe_that_truly_helps_is_a_gain(labels: list[str]) -> None:
    text = said(system(0.5, 1.0, labels), system(0.0, 2.0, labels))
    assert re.search(r": it helped; better in .*, p \(Holm\) ", text)
    assert "a shift of labels" not in text


@SETS
def test_where_nothing_helps_it_is_too_few_to_tell_and_says_what_could_be_told(labels: list[str]) -> None:
    text = said(system(0.5, 1.0, labels), system(0.5, 1.0, labels, noise=0.05))
    assert "too few to tell (detectable at 80% power: " in text
    assert "a shift of labels" not in text
    assert text.endswith("; no clear change in any of 3 languages.")


def test_a_bias_of_one_language_alone_is_a_shift_as_well() -> None:
    dense, mended = system(0.0, 1.0, LABELS[::2]), system(0.0, 1.0, LABELS[::2])
    for lang, shift in (("fr", 2.0), ("sw", -2.0)):  # pooled, nothing is shifted
        dense.records[lang] = system(shift, 1.0, LABELS[::2]).records[lang]
    text = said(dense, mended)
    assert "a shift of labels (dense with matched constants by language" in text


def test_a_loss_is_a_loss() -> None:
    assert re.search(
        r": it hurt; worse in all 3 languages: English \(-\d+.\d\), .*, p \(Holm\) (at most 0\.\d{3}|below 0\.001)\.$",
        said(system(0.0, 2.0, LABELS), system(0.0, 1.0, LABELS)),
    )


# -- controls -----------------------------------------------------------------------------------------------------


@SETS
@pytest.mark.parametrize("by_language", [False, True])
def test_matched_constants_give_the_other_systems_shares(labels: list[str], by_language: bool) -> None:
    dense, other = system(1.0, 1.0, labels), system(-0.5, 1.0, labels)
    found = matched(dense, other, by_language)
    groups = [[lang] for lang in dense.records] if by_language else [list(dense.records)]
    for group in groups:
        counts = [
            [sum(row["prediction"] == label for lang in group for row in own.records[lang]) for label in labels]
            for own in (found.records, other)
        ]
        assert counts[0] == counts[1]
    assert [entry["language"] for entry in found.constants] == (list(dense.records) if by_language else ["all"])
    assert all(entry["constants"][labels[0]] == 0 for entry in found.constants)


def test_no_row_chooses_the_constants_it_is_judged_by() -> None:
    dense = system(1.5, 1.0, LABELS[::2], n=60)
    other = [dict(row) for row in dense.records["fr"]]
    before = cross_fitted(dense, by_language=True).records.records["fr"]
    for place in range(0, 60, 7):
        other[place] |= {"label": "negative" if other[place]["label"] == "positive" else "positive"}
        changed = TaskRecords("reviews", dense.records | {"fr": other}, dense.metrics, pivot="en")
        after = cross_fitted(changed, by_language=True).records.records["fr"]
        assert after[place]["prediction"] == before[place]["prediction"]


def test_fitted_constants_mend_a_bias_and_are_dealt_by_cluster() -> None:
    dense = system(1.5, 1.0, LABELS)
    control = cross_fitted(dense)
    assert len(control.constants) == 5
    (row,) = (
        row for row in control_rows(dense, dense, [control], ("dense", "pruned"))[::2] if row.language == "average"
    )
    assert row.low > 0
    elsewhere = fitted(dense, system(1.5, 1.0, LABELS, n=500))
    assert elsewhere.constants[0]["constants"]["positive"] == pytest.approx(-1.5, abs=0.6)


def test_one_cluster_cannot_be_cross_fitted() -> None:
    dense = system(1.0, 1.0, LABELS[::2], n=1)
    assert [control.name for control in controls_of(dense, dense)] == [
        "matched constants",
        "matched constants by language",
    ]


def test_labels_in_another_order_are_the_same_labels() -> None:
    dense = system(1.0, 1.0, LABELS)
    rows = [row | {"scores": row["scores"][::-1]} for row in dense.records["fr"]]
    metrics = dense.metrics | {"fr": [Accuracy(), *label_metrics(LABELS[::-1])]}
    turned = TaskRecords("reviews", dense.records | {"fr": rows}, metrics, pivot="en")
    assert np.array_equal(labelled(turned).scores["fr"], labelled(dense).scores["fr"])
    control = matched(turned, system(0.0, 1.0, LABELS))
    for row, own in zip(control.records.records["fr"], rows, strict=True):
        assert LABELS[::-1][int(np.argmax(row["scores"]))] == row["prediction"]
        assert row["id"] == own["id"]


@pytest.mark.parametrize(
    "change",
    [{"scores": [1.0]}, {"scores": None}, {"scores": [0.0, None]}, {"scores": [0.0, -np.inf]}, {"prediction": "?"}],
    ids=str,
)
def test_records_that_are_not_of_these_labels_have_no_controls(change: dict[str, Any]) -> None:
    dense = system(0.0, 1.0, LABELS[::2], n=5)
    dense.records["fr"][3] |= change
    assert controls_of(dense, dense) == []


def test_candidates_of_the_rows_own_have_no_constants() -> None:
    dense = system(0.0, 1.0, LABELS[::2], n=5)
    own = TaskRecords("copa", dense.records, {lang: [Accuracy()] for lang in dense.records}, pivot="en")
    assert controls_of(own, own) == []


def test_a_gain_beyond_constants_is_not_explained() -> None:
    dense, better = system(1.0, 1.0, LABELS), system(0.0, 2.0, LABELS)
    rows = control_rows(dense, better, controls_of(dense, better), ("dense", "pruned"))
    (gain,) = (
        row
        for row in differences_of(dense, better, ("dense", "pruned"))
        if (row.measure.name, row.language) == ("accuracy", "average")
    )
    assert explained(gain, rows) is None
    assert explained(gain, []) is None


def test_a_comparison_has_its_controls_in_all_files(tmp_path: Path) -> None:
    task = CandidateTask("reviews", ["en", "fr", "sw"], Bundled("reviews"), "marc")
    for name, own in (("a", system(1.5, 1.0, LABELS[::2])), ("b", system(0.3, 1.0, LABELS[::2], noise=0.05))):
        folder = tmp_path / name / "predictions"
        folder.mkdir(parents=True)
        for lang, rows in own.records.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"reviews.{lang}.jsonl").write_text(lines)
        records = {("reviews", lang): rows for lang, rows in own.records.items()}
        write_json(tmp_path / name / "results.json", summarize([task], records, name))
    found = compare(tmp_path / "a" / "predictions", tmp_path / "b" / "predictions")
    assert "a shift of labels" in found["headline"]
    pairs = [row for pair in read_controls(found) for row in pair]
    (task_found,) = findings(read_differences(found), ["reviews"], pairs)
    assert task_found.word == "A shift of labels"
    assert "Dense with matched constants changes by " in task_found.text
    assert answer([task_found]) == "No: the gain is nothing but a shift of labels on reviews."
    names = {row["system"] for row in found["controls"]} - {"pruned"}
    kinds = ("matched constants", "fitted constants")
    assert names == {f"dense with {kind}{by}" for kind in kinds for by in ("", " by language")}
    assert {entry["control"] for entry in found["constants"]} == {name.removeprefix("dense with ") for name in names}
    for render in COMPARISON_FILES.values():
        text = render(found)
        assert "matched constants by language" in text
        assert "balanced accuracy" in text

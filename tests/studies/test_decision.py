"""What a study claims: chosen on some rows, judged on others, and a shift of labels is called that."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from mlprune.comparison.records import TaskRecords
from mlprune.metrics import Accuracy, RankC
from mlprune.studies.decision import Confirmation, Shift, decide
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.evidence import Evidence, evidence_of
from mlprune.studies.selection import best, rounds, select

ROWS = 60


def records(right: dict[str, np.ndarray], task: str = "reviews") -> TaskRecords:
    """A task on which each language has some rows right."""
    rows = {
        lang: [{"id": str(i), "label": "a", "prediction": "a" if hit else "b"} for i, hit in enumerate(own)]
        for lang, own in right.items()
    }
    return TaskRecords(task, rows, {lang: [Accuracy()] for lang in rows}, pivot="en")


def answers(share: float, *changed: int) -> np.ndarray:
    """The first share of rows is right, but for some that are the other way round."""
    right = np.arange(ROWS) < share * ROWS
    right[list(changed)] ^= True
    return right


DENSE = [records({lang: answers(0.5) for lang in ("en", "fr", "sw")})]


def recipe(*won: int) -> list[TaskRecords]:
    return [records({"en": answers(0.5), "fr": answers(0.5, *won), "sw": answers(0.5, *won)})]


def evidence(*seeds: list[TaskRecords], dense: list[TaskRecords] = DENSE, **endpoint) -> list[Evidence]:
    return evidence_of(dense, seeds, Endpoint(**endpoint), "wanda")


def test_an_average_without_english_has_rows_of_one_id_as_one_cluster() -> None:
    (found,) = evidence(recipe(*range(30, 42)))
    assert found.row.delta == pytest.approx(12 / ROWS)
    assert (found.row.n, found.row.clusters, found.row.language) == (2 * ROWS, ROWS, "average")
    assert found.row.p == 2 / 2**12  # the two languages are swapped together
    (english,) = evidence(recipe(*range(30, 42)), languages=["en"])
    assert (english.row.delta, english.row.p, english.row.language) == (0.0, 1.0, "en")


def test_each_language_is_a_claim_of_its_own_without_the_average() -> None:
    found = evidence(recipe(*range(30, 36)), average=False)
    assert [own.row.language for own in found] == ["fr", "sw"]
    claims = decide([Confirmation(own) for own in found], 5).claims
    assert [claim.p_holm for claim in claims] == [4 / 2**6, 4 / 2**6]


def test_tasks_are_averaged_as_samples_of_their_own() -> None:
    dense = [*DENSE, records({"fr": answers(0.5)}, "copa")]
    found = evidence([*recipe(*range(30, 36)), records({"fr": answers(0.5)}, "copa")], dense=dense)[0]
    assert found.row.delta == pytest.approx((0.1 + 0.1 + 0) / 3)
    assert (found.row.task, found.row.clusters) == ("reviews+copa", 2 * ROWS)
    assert evidence(*[[own] for own in recipe(30)], tasks=["reviews"])[0].row.task == "reviews"


def test_seeds_are_a_second_source_of_variance() -> None:
    alike = evidence(recipe(*range(30, 42)), recipe(*range(31, 43)), recipe(*range(32, 44)))[0]
    apart = evidence(recipe(*range(30, 58)), recipe(*range(30, 37)), recipe(30))[0]
    assert alike.row.delta == pytest.approx(apart.row.delta)
    assert alike.seeds_deviation == pytest.approx(0.0)
    assert alike.clear
    assert apart.row.clear
    assert not apart.clear, "rows alone cannot tell how another calibration would do"
    assert decide([Confirmation(apart)], 1).claims[0].verdict == "too few to tell"
    assert apart.detectable > alike.detectable


def test_a_measure_of_pairs_may_be_the_endpoint() -> None:
    def scored(task: TaskRecords) -> TaskRecords:
        rows = {
            lang: [own | {"scores": [i % 3, 1, i % 2]} for i, own in enumerate(kept)]
            for lang, kept in task.records.items()
        }
        return TaskRecords("nli", rows, task.metrics, [RankC()], [("en", "fr"), ("en", "sw")], "en")

    side = [scored(DENSE[0])]
    (found,) = evidence(side, dense=side, metric="rankc", languages=["en-fr"])
    assert (found.row.language, found.row.delta, found.row.measure.name) == ("en-fr", 0.0, "rankc")


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [(range(30, 45), "helped"), (range(15), "hurt"), ((30, 31, 0), "too few to tell")],
    ids=lambda value: str(value),
)
def test_the_sentence_says_what_the_interval_and_the_p_value_say(changed, verdict: str) -> None:
    decision = decide([Confirmation(evidence(recipe(*changed))[0])], 8)
    assert decision.claims[0].verdict == verdict
    assert decision.sentence.startswith("Of 8 recipes, 1 was judged once")
    assert verdict in decision.sentence
    assert ("detectable" in decision.sentence) == (verdict == "too few to tell")


def test_many_of_which_nothing_can_be_told_are_listed_in_one_clause() -> None:
    null, clear = evidence(recipe(30, 31, 0))[0], evidence(recipe(*range(30, 45)))[0]
    sentence = decide([Confirmation(own) for own in (null, null, clear, null, null)], 5).sentence
    assert "it helped; too few to tell: wanda, wanda, wanda, wanda (detectable at 80% power: " in sentence
    assert sentence.endswith(" points or less).")
    assert sentence.count("changed reviews accuracy") == 1
    other = replace(null, row=replace(null.row, task="copa", language="fr"))
    sentence = decide([Confirmation(found) for found in (null, null, null, other)], 4).sentence
    assert "too few to tell: wanda on reviews, wanda on reviews, wanda on reviews, wanda on copa in fr" in sentence


@pytest.mark.parametrize(("beyond", "verdict"), [((), "a shift of labels"), (tuple(range(45, 60)), "helped")])
def test_a_gain_that_constants_give_is_a_shift_of_labels(beyond: tuple[int, ...], verdict: str) -> None:
    shifted, own = recipe(*range(30, 45)), recipe(*range(30, 45), *beyond)
    matched = evidence(shifted)[0]
    (rest,) = evidence(own, dense=shifted)
    decision = decide([Confirmation(evidence(own)[0], Shift(matched, rest))], 1)
    assert decision.claims[0].verdict == verdict
    assert ("constants" in decision.sentence) == (verdict == "a shift of labels")


def test_a_look_again_is_said_and_holm_is_over_all_that_was_confirmed() -> None:
    one = evidence(recipe(*range(30, 36)))[0]  # p = 2 / 2**6
    assert decide([Confirmation(one)], 9).claims[0].verdict == "helped"
    again = decide([Confirmation(one), Confirmation(one)], 9, looks=3)
    assert [claim.verdict for claim in again.claims] == ["too few to tell"] * 2
    assert "looked at 3 times" in again.sentence
    assert "too small" in again.sentence


@pytest.mark.parametrize(("recipes", "rows", "top"), [(20, 100, 3), (3, 40, 3), (7, 8, 1), (1, 1, 1), (64, 1000, 1)])
def test_halving_ends_on_all_rows_with_a_few_times_the_chosen(recipes: int, rows: int, top: int) -> None:
    plan = rounds(recipes, rows, top)
    assert (plan[0].recipes, plan[-1].rows) == (recipes, rows)
    assert all(a.recipes >= b.recipes and a.rows < b.rows for a, b in itertools.pairwise(plan))
    assert all(step.recipes >= top or recipes < top for step in plan)
    assert sum(step.recipes * step.rows for step in plan) <= recipes * rows * max(len(plan), 1)


def test_selection_takes_the_best_of_what_it_has_seen() -> None:
    generator = np.random.default_rng(0)
    gains = {f"recipe {i}": generator.normal(0.01 * i, 0.001, 64) for i in range(16)}
    assert select(gains, 3) == ["recipe 15", "recipe 14", "recipe 13"]
    late = {name: np.concatenate([np.full(16, -1.0), own[16:] + 9]) for name, own in [("recipe 0", gains["recipe 0"])]}
    assert "recipe 0" not in select(gains | late, 3), "it is out after the first round"
    assert best({"a": float("nan"), "b": -1.0}, 2) == ["b", "a"]

"""Accuracy and its Wilson interval, against scipy and by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest

from mlprune.metrics import Accuracy, mcnemar_exact, wilson_interval


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 7), (8, 10), (50, 100), (999, 1000), (333, 1000)])
def test_wilson_interval_is_scipys(correct: int, n: int) -> None:
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    assert wilson_interval(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("n", range(1, 200))
def test_wilson_interval_holds_the_proportion_and_stays_a_share(n: int) -> None:
    for correct in (0, 1, n - 1, n):
        low, high = wilson_interval(correct, n)
        assert 0 <= low <= correct / n <= high <= 1


def test_counts_add_up() -> None:
    metric = Accuracy()
    metric.update([{"label": "a", "prediction": answer} for answer in "aab"])
    metric.update([{"label": "b", "prediction": "a"}])
    assert metric.compute() == {"accuracy": 0.5, "n": 4, "ci95": list(wilson_interval(2, 4))}


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_example_has_no_accuracy() -> None:
    assert Accuracy().compute() == {"n": 0}


def test_how_examples_were_scored_is_counted() -> None:
    metric = Accuracy()
    metric.update([{"label": "a", "prediction": "a"} | flag for flag in ({}, {"tokens_cut": 3}, {"joined": True})])
    assert metric.compute().items() >= {"truncated": 1, "joined": 1, "n": 3}.items()


def systems(lost: int, won: int, same: int = 20) -> tuple[np.ndarray, np.ndarray]:
    a = np.array([True] * lost + [False] * won + [True, False] * same)
    b = np.array([False] * lost + [True] * won + [True, False] * same)
    return a, b


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (0, 5), (5, 15), (15, 5), (40, 44)])
def test_mcnemar_is_the_sign_test_of_what_changed(lost: int, won: int) -> None:
    expected = binomtest(won, lost + won).pvalue if lost + won else 1.0
    assert mcnemar_exact(*systems(lost, won)) == pytest.approx(expected)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_exact(*systems(1, 5)) == pytest.approx(2 * (1 + 6) / 2**6)

"""Accuracy and its Wilson interval, against scipy and by hand."""

import pytest
import torch
from scipy.stats import binomtest

from mlprune.metrics import Accuracy, wilson_interval


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
    metric.update(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
    metric.update(torch.tensor([2]), torch.tensor([0]))
    assert metric.compute() == {"accuracy": 0.5, "n": 4, "ci95": list(wilson_interval(2, 4))}


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_example_has_no_accuracy() -> None:
    assert Accuracy().compute() == {"n": 0}

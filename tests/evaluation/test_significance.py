"""Paired tests against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from mlprune.evaluation.significance import holm, mcnemar_exact, paired_bootstrap, stratified_bootstrap


def systems(lost: int, won: int, same: int = 20) -> tuple[np.ndarray, np.ndarray]:
    a = np.array([True] * lost + [False] * won + [True, False] * same)
    b = np.array([False] * lost + [True] * won + [True, False] * same)
    return a, b


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (0, 5), (5, 15), (15, 5), (40, 44)])
def test_mcnemar_is_the_sign_test_of_what_changed(lost: int, won: int) -> None:
    expected = stats.binomtest(won, lost + won).pvalue if lost + won else 1.0
    assert mcnemar_exact(*systems(lost, won)) == pytest.approx(expected)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_exact(*systems(1, 5)) == pytest.approx(2 * (1 + 6) / 2**6)


def test_bootstrap_is_scipys() -> None:
    difference = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], size=400, p=[0.1, 0.7, 0.2])
    low, high = paired_bootstrap(difference, num_resamples=5000)
    expected = stats.bootstrap((difference,), np.mean, n_resamples=5000, method="percentile", rng=0).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_bootstrap_is_seeded() -> None:
    difference = np.random.default_rng(0).normal(size=50)
    assert paired_bootstrap(difference, seed=1) == paired_bootstrap(difference, seed=1)
    assert paired_bootstrap(difference, seed=1) != paired_bootstrap(difference, seed=2)


def test_average_over_languages_is_narrower_than_one_language() -> None:
    generator = np.random.default_rng(0)
    languages = [generator.choice([-1.0, 0.0, 1.0], size=300, p=[0.1, 0.75, 0.15]) for _ in range(4)]
    one = np.diff(paired_bootstrap(languages[0]))
    average = np.diff(stratified_bootstrap(languages))
    assert average / one == pytest.approx(1 / 2, abs=0.1)
    low, high = stratified_bootstrap(languages)
    assert low < np.mean([language.mean() for language in languages]) < high


def test_holm_by_hand() -> None:
    # 0.005 * 4, 0.01 * 3, then 0.03 * 2 and 0.04 * 1, which may not be below the one before
    assert holm([0.04, 0.005, 0.03, 0.01]) == pytest.approx([0.06, 0.02, 0.06, 0.03])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []

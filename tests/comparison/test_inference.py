"""Intervals that cover what they should, p values by hand and against scipy, and inputs that say nothing."""

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from simulated import Mean, simulate

from mlprune.comparison.clusters import strata
from mlprune.comparison.inference import Estimate, Target, holm, intervals, p_values, resamples
from mlprune.comparison.pools import Pool, RecomputedPool, SummedPool, make_pools
from mlprune.comparison.records import Channel


def channel(values: np.ndarray, clusters: np.ndarray | None = None) -> Channel:
    return Channel("fr", Mean(), values, np.arange(len(values)) if clusters is None else clusters)


def target(num_clusters: int, channels: tuple[int, ...] = (0,)) -> Target:
    everything = np.arange(num_clusters)
    return Target("fr", list(channels), everything, [everything])


def interval_of(values: np.ndarray, seed: int = 0) -> tuple[float, float] | None:
    (pool,) = make_pools([[channel(values)]], len(values))
    return intervals(Estimate(pool), [target(len(values))], np.zeros(len(values), int), seed)["mean"][0]


def p_of(before: np.ndarray, after: np.ndarray, clusters: np.ndarray | None = None, pool: type[Pool] = SummedPool):
    num = len(before) if clusters is None else int(clusters.max()) + 1
    pools = [pool([channel(values, clusters)], num) for values in (before, after)]
    return p_values(*pools, [target(num)], seed=0)["mean"][0]


# -- intervals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlated", [True, False])
@pytest.mark.parametrize("num_clusters", [12, 40, 200])
def test_coverage_of_the_average_over_languages(num_clusters: int, correlated: bool) -> None:
    found = simulate(2_000, num_clusters, correlated)
    bounds = np.array(intervals(Estimate(found.after, found.before), found.targets, found.stratum, seed=0)["mean"])
    assert 0.93 <= np.mean((bounds[:, 0] <= 0.05) & (bounds[:, 1] >= 0.05)) <= 0.97


def test_coverage_of_one_systems_figure() -> None:
    found = simulate(1_000, 60, correlated=True, num_languages=3)
    bounds = np.array(intervals(Estimate(found.after), found.targets, found.stratum, seed=0)["mean"])
    true = 0.15 + 0.75 / 2
    assert 0.93 <= np.mean((bounds[:, 0] <= true) & (bounds[:, 1] >= true)) <= 0.97


def test_coverage_where_rows_share_a_premise() -> None:
    found = simulate(1_000, 40, correlated=True, num_languages=1, rows=3)
    bounds = np.array(intervals(Estimate(found.after, found.before), found.targets, found.stratum, seed=0)["mean"])
    assert 0.93 <= np.mean((bounds[:, 0] <= 0.05) & (bounds[:, 1] >= 0.05)) <= 0.97


def test_languages_that_flip_together_have_a_wider_average() -> None:
    widths = {}
    for correlated in (True, False):
        found = simulate(50, 200, correlated)
        bounds = np.array(intervals(Estimate(found.after, found.before), found.targets, found.stratum, 0)["mean"])
        widths[correlated] = np.diff(bounds).mean()
    # variance of a mean of two, whose correlation is .8 * .8
    assert widths[True] / widths[False] == pytest.approx(np.sqrt(1 + 0.64), rel=0.05)


def test_bootstrap_is_scipys_but_for_the_width_of_a_t_interval() -> None:
    values = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], size=400, p=[0.1, 0.7, 0.2])
    expected = stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=0).confidence_interval
    assert interval_of(values) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_few_clusters_have_the_t_interval_of_their_values() -> None:
    values = np.random.default_rng(0).normal(size=19)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval_of(values) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_samples_that_share_nothing_are_resampled_by_themselves() -> None:
    stratum = strata([np.arange(3), np.arange(3, 10)], 10)
    for weights in resamples(stratum, 20, seed=0):
        assert (weights[:, :3].sum(1) == 3).all()
        assert (weights[:, 3:].sum(1) == 7).all()


def test_intervals_are_seeded() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert interval_of(values, seed=1) == interval_of(values, seed=1)
    assert interval_of(values, seed=1) != interval_of(values, seed=2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "expected"),
    [([], None), ([0.5], None), ([0.5, 0.5], (0.5, 0.5)), ([0.5] * 30, (0.5, 0.5)), ([np.nan, 1.0], None)],
)
def test_what_says_nothing_has_a_defined_answer(values: list[float], expected: tuple[float, float] | None) -> None:
    assert interval_of(np.array(values)) == expected
    assert interval_of(np.array(values), seed=5) == expected


# -- p values -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num", [2, 5, 14])
def test_every_assignment_is_gone_through(num: int) -> None:
    generator = np.random.default_rng(num)
    before, after = generator.normal(size=(2, num))
    means = [np.mean(signs * (after - before)) for signs in itertools.product((1, -1), repeat=num)]
    assert p_of(before, after) == np.mean(np.abs(means) >= abs(means[0]) - 1e-12)


@pytest.mark.parametrize(("lost", "won"), [(0, 3), (2, 9), (7, 7)])
def test_of_right_and_wrong_answers_it_is_the_sign_test(lost: int, won: int) -> None:
    before = np.array([1.0] * lost + [0.0] * won + [1.0, 0.0] * 300)
    after = np.array([0.0] * lost + [1.0] * won + [1.0, 0.0] * 300)
    assert p_of(before, after) == pytest.approx(stats.binomtest(won, lost + won).pvalue)


def test_drawn_assignments_come_close_and_are_never_zero() -> None:
    generator = np.random.default_rng(0)
    before = generator.normal(size=60)
    after = before + generator.normal(0.15, 0.5, size=60)
    expected = stats.permutation_test((after, before), lambda x, y: np.mean(x - y), permutation_type="samples", rng=0)
    assert p_of(before, after) == pytest.approx(expected.pvalue, abs=0.02)
    assert p_of(before, before + 1) == 1 / 10_000


def test_clusters_are_swapped_as_a_whole() -> None:
    clusters = np.repeat(np.arange(5), 3)
    before, after = np.zeros(15), np.ones(15)
    assert p_of(before, after, clusters) == 2 / 2**5
    assert p_of(before, after) == pytest.approx(1 / 10_000, abs=1e-3)


def test_exchangeable_systems_are_told_apart_once_in_twenty() -> None:
    found = simulate(300, 60, correlated=True, worse=0.15, better=0.15)
    p = np.array(p_values(found.before, found.after, found.targets, seed=0)["mean"])
    assert 0.01 <= np.mean(p <= 0.05) <= 0.09  # three standard errors of 300 draws


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pool", [SummedPool, RecomputedPool])
def test_nothing_changed(pool: type[Pool]) -> None:
    assert p_of(np.ones(30), np.ones(30), pool=pool) == 1.0
    assert p_of(np.array([1.0]), np.array([1.0]), pool=pool) == 1.0


def test_a_metric_that_does_not_add_up_has_the_same_answers() -> None:
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=(2, 8))
    assert p_of(before, after, pool=RecomputedPool) == p_of(before, after)
    weights = next(resamples(np.zeros(8, int), 5, seed=0))
    sides = [kind([channel(before)], 8) for kind in (SummedPool, RecomputedPool)]
    drawn = [Estimate(pool).drawn(weights)["mean"] for pool in sides]
    assert drawn[0] == pytest.approx(drawn[1])
    left_out = [Estimate(pool).without(np.array([0, 3]))["mean"] for pool in sides]
    assert left_out[0] == pytest.approx(left_out[1])


def test_100_000_examples_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SummedPool, "num_resamples", 60)  # as many pieces as one likes: they go one by one
    monkeypatch.setattr(SummedPool, "num_swaps", 200)
    before = np.random.default_rng(0).integers(0, 2, 100_000).astype(float)
    after = np.where(np.random.default_rng(1).random(100_000) < 0.2, 1 - before, before)
    pools = make_pools([[channel(before)], [channel(after)]], 100_000)
    tracemalloc.start()
    try:
        intervals(Estimate(pools[1], pools[0]), [target(100_000)], np.zeros(100_000, int), seed=0)
        p_values(*pools, [target(100_000)], seed=0)
        assert tracemalloc.get_traced_memory()[1] < 150 * 2**20
    finally:
        tracemalloc.stop()


def test_holm_by_hand() -> None:
    # 0.005 * 4, 0.01 * 3, then 0.03 * 2 and 0.04 * 1, which may not be below the one before
    assert holm([0.04, 0.005, 0.03, 0.01]) == pytest.approx([0.06, 0.02, 0.06, 0.03])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []

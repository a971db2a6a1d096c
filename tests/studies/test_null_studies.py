"""Studies of recipes that do nothing claim something rarely; planted effects are found, and a shift is called that."""

import pytest
from scipy.stats import binom
from simulated_studies import Plan, study, verdicts

STUDIES = 40  # the full number, 2,000, is for tests/benchmarks/bench_claims.py


def claims(plan: Plan, studies: int) -> list[set[str]]:
    return [verdicts(study(0, number, plan)) for number in range(studies)]


def test_null_recipes_are_rarely_claimed() -> None:
    any_claim = sum(map(bool, claims(Plan(rows=50), STUDIES)))
    assert any_claim <= binom.ppf(0.999, STUDIES, 0.05)


@pytest.mark.parametrize(
    ("plan", "verdict", "least"),
    [(Plan(skill=1.5, rows=50), "helped", 8), (Plan(bias=2.5), "a shift of labels", 5)],
    ids=["a recipe helps", "dense is biased"],
)
def test_what_is_planted_is_found_and_nothing_else(plan: Plan, verdict: str, least: int) -> None:
    found = claims(plan, 10)
    assert sum(verdict in own for own in found) >= least
    assert sum(bool(own - {verdict}) for own in found) <= 1

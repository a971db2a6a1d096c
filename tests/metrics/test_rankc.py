"""RankC against the original script's values, the pruning paper's script's, and by hand."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from mlprune.errors import UserError
from mlprune.metrics import RankC, expected_rankc, rankc_each

REFERENCE = np.load(Path(__file__).parent.parent / "references" / "rankc.npz")


def scores(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = (torch.from_numpy(REFERENCE[f"{name}_scores{i}"]) for i in (1, 2))
    return first, second


@pytest.mark.parametrize("name", ["c3", "bmlama"])
@pytest.mark.parametrize("weighting", ["softmax", "norm1", "norm2"])
def test_is_the_original_scripts(name: str, weighting: str) -> None:
    first, second = scores(name)
    each = rankc_each(first, second, weighting)
    np.testing.assert_allclose(each.numpy(), REFERENCE[f"{name}_orig_{weighting}_each"], atol=1e-12)
    metric = RankC(weighting)
    for start in range(0, 200, 70):
        metric.update(first[start : start + 70], second[start : start + 70])
    assert float(metric.compute()) == pytest.approx(float(REFERENCE[f"{name}_orig_{weighting}"]), abs=1e-12)


@pytest.mark.parametrize("name", ["c3", "bmlama"])
@pytest.mark.parametrize("order", ["descending", "ascending"])
def test_both_orders_of_the_paper(name: str, order: str) -> None:
    metric = RankC(order=order)
    metric.update(*scores(name))
    assert float(metric.compute()) == pytest.approx(float(REFERENCE[f"{name}_paper_{order}"]), abs=1e-12)


def test_by_hand() -> None:
    # top-1 sets share nothing, top-2 sets one of two, top-3 sets all; the weights are those of softmax(3, 2, 1)
    weights = np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum()
    value = rankc_each(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[1.0, 3.0, 2.0]]))
    assert float(value) == pytest.approx(weights @ [0, 1 / 2, 1])


def test_ties_keep_candidate_order() -> None:
    tied, sorted_ = torch.zeros(1, 4), torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    for order in ("descending", "ascending"):
        assert float(rankc_each(tied, sorted_ if order == "descending" else -sorted_, order=order)) == 1.0


def test_missing_candidates_change_nothing() -> None:
    first, second = torch.tensor([[0.1, 0.5, 0.3]]), torch.tensor([[0.4, 0.2, 0.3]])
    padding = torch.full((1, 2), torch.nan)
    for order in ("descending", "ascending"):
        padded = rankc_each(torch.cat([first, padding], 1), torch.cat([second, padding], 1), order=order)
        assert float(padded) == float(rankc_each(first, second, order=order))


@pytest.mark.parametrize("weighting", ["softmax", "norm1", "norm2"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_expectation_is_the_mean_over_all_rankings(count: int, weighting: str) -> None:
    rankings = torch.tensor(list(permutations(range(count)))).double()
    mean = rankc_each(rankings[:1].expand_as(rankings), rankings, weighting).mean()
    assert expected_rankc(count, weighting) == pytest.approx(float(mean))


def test_order_of_examples_changes_no_bit() -> None:
    first, second = scores("bmlama")
    values = set()
    for seed in range(5):
        order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
        metric = RankC()
        for part in order.split(7 + seed):
            metric.update(first[part], second[part])
        values.add(float(metric.compute()))
    assert len(values) == 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_example_is_nan() -> None:
    assert RankC().compute().isnan()


def test_mistakes() -> None:
    with pytest.raises(UserError, match="weighting 'linear' is not allowed; give softmax, norm1 or norm2"):
        RankC("linear")
    with pytest.raises(UserError, match="order 'best' is not allowed; give descending or ascending"):
        RankC(order="best")
    with pytest.raises(UserError, match="the same candidates"):
        RankC().update(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(UserError, match="the same candidates"):
        RankC().update(torch.tensor([[1.0, torch.nan]]), torch.tensor([[1.0, 2.0]]))

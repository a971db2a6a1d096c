"""Scores, patterns and allocations against values worked by hand."""

import logging

import pytest
import torch
from tiny import tiny_batches, tiny_model
from torch import nn

from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.pruning import (
    ADMM,
    ALPS,
    OWL,
    RIA,
    AlphaPruning,
    ContrastiveWanda,
    DSnoT,
    Importance,
    LayerStatistics,
    Magnitude,
    NofM,
    Pruner,
    Random,
    SparseGPT,
    Unstructured,
    Wanda,
    prune_from_statistics,
    prune_model,
)
from mlprune.pruning.allocation import hill_exponent
from mlprune.pruning.patterns import keep_by_share, keep_highest
from mlprune.pruning.sparsegpt import inverse_factor


def statistics(**energies: list[float]) -> LayerStatistics:
    means = {group: torch.tensor(energy, dtype=torch.float64) for group, energy in energies.items()}
    return LayerStatistics(means, {group: torch.tensor(1) for group in energies})


# -- scores -----------------------------------------------------------------------------------------------------------


def test_wanda_is_magnitude_times_norm() -> None:
    score = Wanda().score(torch.tensor([[1.0, -2.0], [3.0, 0.5]]), statistics(mt=[9.0, 4.0]), "fc")
    assert score.tolist() == [[3.0, 4.0], [9.0, 1.0]]


def test_wanda_pools_groups_by_tokens() -> None:
    means = {"a": torch.tensor([4.0]), "b": torch.tensor([1.0])}
    pooled = LayerStatistics(means, {"a": torch.tensor(1), "b": torch.tensor(3)})
    assert Wanda().score(torch.tensor([[2.0]]), pooled, "fc").item() == pytest.approx(2 * (7 / 4) ** 0.5)


def test_wanda_in_bfloat16_scores_in_float32() -> None:
    assert Wanda().score(torch.ones(1, 2, dtype=torch.bfloat16), statistics(mt=[2.0, 3.0]), "fc").dtype == torch.float32


def test_contrastive_divides_by_the_dropped_norm() -> None:
    score = ContrastiveWanda("mt", "code").score(
        torch.tensor([[1.0, -2.0]]), statistics(mt=[9.0, 4.0], code=[4.0, 16.0]), "fc"
    )
    assert score.tolist() == [[4.5, 2.0]]


def test_contrastive_of_silent_features() -> None:
    weight = torch.tensor([[1.0, 1.0, 0.0]])
    score = ContrastiveWanda("mt", "code").score(weight, statistics(mt=[4.0, 0.0, 4.0], code=[0.0, 0.0, 0.0]), "fc")
    assert torch.isfinite(score).all()
    assert score[0, 0] > 1e30  # divided by the smallest normal float32
    assert score[0, 1:].tolist() == [0.0, 0.0]


def test_ria() -> None:
    # |W| = [[1, 3], [1, 1]]: columns 2 and 4, rows 4 and 2; norms 4 and 1, to the power 1/2
    score = RIA().score(torch.tensor([[-1.0, 3.0], [1.0, -1.0]]), statistics(mt=[16.0, 1.0]), "fc")
    assert score.tolist() == [[(1 / 2 + 1 / 4) * 2, 3 / 4 + 3 / 4], [(1 / 2 + 1 / 2) * 2, 1 / 4 + 1 / 2]]


def test_random_depends_on_seed_and_path_only() -> None:
    weight = torch.zeros(4, 4)
    score = Random(1).score(weight, None, "a")
    assert torch.equal(score, Random(1).score(weight + 1, None, "a"))
    assert not torch.equal(score, Random(2).score(weight, None, "a"))
    assert not torch.equal(score, Random(1).score(weight, None, "b"))


# -- SparseGPT --------------------------------------------------------------------------------------------------------


def slow_sparsegpt(weight: torch.Tensor, gram: torch.Tensor, sparsity: float, columns: int) -> torch.Tensor:
    """The rule as published: factor of the inverse, blocks of columns, errors pushed to the right; per row here."""
    hessian = 2 * gram + 0.01 * (2 * gram).diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    left = weight.double().clone()
    for start in range(0, left.shape[1], columns):
        end = min(start + columns, left.shape[1])
        scores = left[:, start:end] ** 2 / upper.diagonal()[start:end] ** 2
        count = int(end * sparsity) - int(start * sparsity)
        gone = scores.argsort(dim=1, stable=True)[:, :count] + start
        for column in range(start, end):
            rows = (gone == column).any(1)
            error = torch.where(rows, left[:, column], 0.0) / upper[column, column]
            left[:, column:] -= error[:, None] * upper[column, column:]
            left[rows, column] = 0
    return left


def test_sparsegpt_follows_the_published_rule() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 20, generator=generator)
    x = torch.randn(100, 20, generator=generator, dtype=torch.float64)
    gram = x.T @ x / 100
    stats = LayerStatistics({"mt": gram}, {"mt": torch.tensor(100)})
    decision = SparseGPT(columns=8).decide(weight, stats, "fc", Unstructured(0.45), 0.45)
    expected = slow_sparsegpt(weight, gram, 0.45, 8)
    assert torch.equal(decision.mask, expected != 0)
    assert (~decision.mask).sum(1).tolist() == [9] * 6
    torch.testing.assert_close(decision.weight, expected.float(), rtol=1e-4, atol=1e-4)


def test_sparsegpt_does_less_damage_than_wanda() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(8, 32, generator=generator)
    x = torch.randn(200, 32, generator=generator) @ torch.randn(32, 32, generator=generator)
    stats = LayerStatistics({"mt": (x.T @ x / 200).double()}, {"mt": torch.tensor(200)})
    for pattern in (Unstructured(0.5), Unstructured(0.5, scope="layer"), NofM(2, 4), NofM(1, 4)):
        wanda = Wanda().decide(weight, stats, "fc", pattern, pattern.sparsity).mask
        decision = SparseGPT(columns=8).decide(weight, stats, "fc", pattern, pattern.sparsity)
        assert float((~decision.mask).float().mean()) == pattern.sparsity
        assert (decision.weight[~decision.mask] == 0).all()
        damage = ((x @ decision.weight.T - x @ weight.T) ** 2).sum()
        assert damage < 0.9 * ((x @ (weight * wanda).T - x @ weight.T) ** 2).sum()


def test_damping_recovers_from_a_singular_matrix(caplog: pytest.LogCaptureFixture) -> None:
    gram = torch.ones(4, 4, dtype=torch.float64) - 1e-6 * torch.eye(4, dtype=torch.float64)
    with caplog.at_level(logging.WARNING):
        factor = inverse_factor(gram, 0.0, "fc")
    assert torch.isfinite(factor).all()
    assert "fc: Gram matrix is not positive definite; damped by" in caplog.text


def test_sparsegpt_prunes_silent_inputs() -> None:
    gram = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    stats = LayerStatistics({"mt": gram}, {"mt": torch.tensor(5)})
    decision = SparseGPT().decide(torch.tensor([[0.1, 9.0]]), stats, "fc", Unstructured(0.5), 0.5)
    assert decision.mask.tolist() == [[True, False]]


def test_sparsegpt_on_a_model_changes_kept_weights() -> None:
    model, dense = tiny_model("gpt2"), tiny_model("gpt2")
    masks = prune_model(model, tiny_batches("gpt2", [20, 30]), SparseGPT(), Unstructured(0.5))
    layers, before = find_blocks(model)[0].layers, find_blocks(dense)[0].layers
    for path, layer in layers.items():
        assert (layer.matrix()[~masks[path]] == 0).all()
        assert not torch.equal(layer.matrix()[masks[path]], before[path].matrix()[masks[path]])


# -- patterns ---------------------------------------------------------------------------------------------------------

SCORES = torch.tensor([[4.0, 1.0, 3.0, 2.0, 9.0], [5.0, 5.0, 5.0, 5.0, 5.0]])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (Unstructured(0.5), [[1, 0, 1, 0, 1], [0, 0, 1, 1, 1]]),
        (Unstructured(0.39), [[1, 0, 1, 1, 1], [0, 1, 1, 1, 1]]),
        (Unstructured(0.5, drop="highest"), [[0, 1, 1, 1, 0], [0, 0, 1, 1, 1]]),
        (Unstructured(0.5, scope="layer"), [[0, 0, 0, 0, 1], [0, 1, 1, 1, 1]]),
        (Unstructured(0.0), [[1] * 5] * 2),
        (NofM(1, 5), [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]),
        (NofM(4, 5), [[1, 0, 1, 1, 1], [0, 1, 1, 1, 1]]),
    ],
)
def test_patterns(pattern: Unstructured | NofM, expected: list[list[int]]) -> None:
    assert pattern.mask(SCORES, pattern.sparsity).int().tolist() == expected


@pytest.mark.parametrize("sparsity", [0.1, 0.29, 0.3, 0.57, 0.9])
def test_rows_lose_the_floor(sparsity: float) -> None:
    mask = Unstructured(sparsity).mask(torch.randn(7, 64), sparsity)
    assert (~mask).sum(1).tolist() == [int(64 * sparsity)] * 7


def test_selection_equals_a_stable_sort() -> None:
    scores = torch.randint(0, 6, (50, 40)).float()
    for count in (0, 1, 13, 39):
        gone = scores.sort(dim=1, stable=True).indices[:, :count]
        expected = torch.ones_like(scores, dtype=torch.bool).scatter_(1, gone, False)
        assert torch.equal(keep_highest(scores, count), expected)


def test_share_of_the_row_total() -> None:
    # half of 8 weights: 0.4 of each row's total prunes 4 + 2; two steps of bisection do not change that
    scores = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 14.0]])
    mask = keep_by_share(scores, 0.5)
    assert mask.int().tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]
    assert int((~mask).sum()) == 4


# -- allocation -------------------------------------------------------------------------------------------------------


class TwoBlocks(nn.Module):
    def __init__(self, first: torch.Tensor, second: torch.Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(*w.shape[::-1], bias=False)) for w in (first, second)])
        for block, weight in zip(self.layers, (first, second), strict=True):
            block[0].weight.data = weight.clone()


def test_owl_keeps_more_where_outliers_are() -> None:
    plain, peaked = torch.ones(1, 20), torch.ones(1, 20)
    peaked[0, :2] = 100.0  # 2 of 20 scores exceed 5 times the mean of 10.9
    blocks = find_blocks(TwoBlocks(plain, peaked))
    sparsities = OWL().sparsities(blocks, Magnitude(), 0.5, None)
    assert sparsities == {"layers.0.0": pytest.approx(0.5 + 0.08), "layers.1.0": pytest.approx(0.5 - 0.08)}


def test_alpha_pruning_maps_exponents_to_the_range() -> None:
    light, heavy = torch.diag(torch.tensor([2.0, 2.0, 1.0, 1.0])), torch.diag(torch.tensor([8.0, 8.0, 1.0, 1.0]))
    assert hill_exponent(light) > hill_exponent(heavy)
    sparsities = AlphaPruning(spread=0.3).sparsities(find_blocks(TwoBlocks(light, heavy)), Magnitude(), 0.5, None)
    assert sparsities == {"layers.0.0": pytest.approx(0.65), "layers.1.0": pytest.approx(0.35)}


@pytest.mark.parametrize("allocation", [OWL(), AlphaPruning()])
@pytest.mark.parametrize("family", ["llama", "mixtral", "mt5"])
def test_allocations_keep_the_mean(family: str, allocation: OWL | AlphaPruning) -> None:
    masks = prune_model(
        tiny_model(family), tiny_batches(family, [30, 20]), Wanda(), Unstructured(0.5), allocation, exclude=[r"\.0\."]
    )
    assert not any(".0." in path for path in masks)
    pruned = sum(int((~mask).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert pruned == pytest.approx(0.5, abs=0.03)


# -- what goes together, and what does not ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Unstructured(1.0), "sparsity 1.0 is not allowed; give 0 <= sparsity < 1"),
        (lambda: Unstructured(-0.1), "sparsity -0.1 is not allowed"),
        (lambda: Unstructured(0.3, scope="column"), "scope 'column' is not allowed; give 'row' or 'layer'"),
        (lambda: Unstructured(0.3, drop="all"), "drop 'all' is not allowed"),
        (lambda: NofM(4, 4), "kept 4 of 4 is not allowed; give 1 <= kept < of"),
        (lambda: NofM(0, 4), "kept 0 of 4 is not allowed"),
        (lambda: ContrastiveWanda("mt", "mt"), "keep and drop are both 'mt'"),
        (lambda: RIA(-1), "exponent -1 is not allowed"),
        (lambda: SparseGPT(damping=-1), "damping -1"),
        (lambda: OWL(threshold=0), "threshold 0"),
        (lambda: AlphaPruning(spread=1.0), "spread 1.0 is not allowed"),
        (lambda: Pruner(Wanda(variant=True), NofM()), r"Wanda\(variant=True\)"),
        (lambda: Pruner(Wanda(variant=True), Unstructured(0.3, drop="highest")), r"Wanda\(variant=True\)"),
        (lambda: Pruner(SparseGPT(), Unstructured(0.3, drop="highest")), "SparseGPT prunes lowest scores"),
        (lambda: Pruner(Wanda(), NofM(), OWL()), "OWL gives every layer its own sparsity"),
        (lambda: Pruner(Wanda(), NofM(), AlphaPruning()), "AlphaPruning gives every layer its own sparsity"),
        (lambda: Pruner(ALPS(), Unstructured(0.3), OWL()), "OWL counts outlying scores, which ALPS"),
        (lambda: Pruner(SparseGPT(), Unstructured(0.3), OWL()), "OWL counts outlying scores"),
        (lambda: Pruner(include=["("]), "include: '\\(' is not a regular expression"),
    ],
)
def test_refused_at_construction(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["nowhere"]}, "include: 'nowhere' matches no layer; layers are named like 'model.layers.0"),
        ({"exclude": ["nowhere"]}, "exclude: 'nowhere' matches no layer"),
        ({"exclude": ["."]}, "leave no layer to prune"),
        ({"pattern": NofM(3, 7)}, "has 32 inputs, which 7 does not divide"),
        ({"importance": ContrastiveWanda("mt", "code")}, "needs the group 'mt'; there are default"),
        ({"propagate": "sideways"}, "propagate 'sideways' is not allowed; give one of pruned, dense, layer"),
        ({"batches": []}, "Wanda needs calibration batches; none were given"),
    ],
)
def test_refused_for_the_model(options: dict, message: str) -> None:
    model = tiny_model("llama")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        prune_model(model, **({"batches": tiny_batches("llama", [5])} | options))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_nothing_prunable_is_named() -> None:
    with pytest.raises(UserError, match=r"Linear: nothing to prune; looked for an nn.ModuleList"):
        find_blocks(nn.Linear(2, 2))


def test_damaged_weights_are_named() -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"model.layers.1.mlp.up_proj: weights hold NaN or Inf"):
        prune_model(model, tiny_batches("llama", [5]))


def test_quantized_weights_are_refused() -> None:
    model = tiny_model("llama")
    packed = model.model.layers[2].mlp.up_proj.weight.to(torch.int8)
    model.model.layers[2].mlp.up_proj.weight = nn.Parameter(packed, requires_grad=False)
    with pytest.raises(UserError, match=r"2\.mlp\.up_proj: weights are torch\.int8; prune the model, then quantize it"):
        prune_model(model, tiny_batches("llama", [5]))


def test_include_and_exclude_choose_layers() -> None:
    chosen = {"include": ["mlp"], "exclude": ["down_proj", r"\.2\."]}
    masks = prune_model(tiny_model("llama"), tiny_batches("llama", [5]), **chosen)
    assert sorted(masks) == [f"model.layers.{k}.mlp.{name}_proj" for k in (0, 1) for name in ("gate", "up")]


@pytest.mark.parametrize("importance", [Wanda(), Wanda(variant=True), ContrastiveWanda("mt", "code"), Magnitude(),
                                        Random(), RIA(), SparseGPT(), ALPS(), ADMM(), DSnoT()])  # fmt: skip
@pytest.mark.parametrize("propagate", ["pruned", "dense", "layer"])
def test_every_method_reaches_the_sparsity(importance: object, propagate: str) -> None:
    batches = tiny_batches("llama", [20, 30], group="mt") + tiny_batches("llama", [25], seed=1, group="code")
    model = tiny_model("llama")
    masks = prune_model(model, batches, importance, Unstructured(0.5), propagate=propagate)
    layers = {path: layer for block in find_blocks(model) for path, layer in block.layers.items()}
    assert masks.keys() == layers.keys()
    for path, mask in masks.items():
        assert float((~mask).float().mean()) == pytest.approx(0.5, abs=0.02)
        assert (layers[path].matrix()[~mask] == 0).all()


@pytest.mark.parametrize("kind", [Wanda, RIA, SparseGPT, ADMM, ALPS, DSnoT], ids=lambda kind: kind.__name__)
def test_a_score_looks_at_the_groups_it_names(kind: type[Importance]) -> None:
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    loud, quiet = (torch.randn(40, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    loud = loud * torch.arange(1, 9)
    needs = kind().needs
    assert needs is not None

    def seen(**groups: torch.Tensor) -> LayerStatistics:
        means = {name: needs.total(x.double(), None) / len(x) for name, x in groups.items()}
        return LayerStatistics(means, {name: torch.tensor(len(x)) for name, x in groups.items()}, needs)

    def mask(importance: Importance, statistics: LayerStatistics) -> torch.Tensor:
        layer = torch.nn.Linear(8, 6)
        layer.weight.data = weight.clone()
        model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Sequential(layer)]))
        return prune_from_statistics(model, {"0.0.0": statistics}, Pruner(importance, Unstructured(0.5)))["0.0.0"]

    both = seen(mt=loud, code=quiet)
    assert torch.equal(mask(kind(group="mt"), both), mask(kind(), seen(mt=loud)))
    assert torch.equal(mask(kind(groups=["code"]), both), mask(kind(), seen(code=quiet)))
    assert torch.equal(mask(kind(groups=["mt", "code"]), both), mask(kind(), both))
    with pytest.raises(UserError, match="not both"):
        kind(group="mt", groups=["mt"])
    with pytest.raises(UserError, match=f"{kind.__name__} needs the group 'xx'"):
        Pruner(kind(group="xx")).check_groups(["mt"])


def test_another_method_refines_the_groups_of_the_first() -> None:
    assert DSnoT(Wanda(group="mt")).groups == DSnoT(group="mt").groups == ("mt",)
    with pytest.raises(UserError, match="one of them"):
        DSnoT(Wanda(group="mt"), group="code")

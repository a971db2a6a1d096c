"""ALPS and ADMM: the published codes' masks and weights, slow restatements, the best masks there are, odd layers."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from mlprune.errors import UserError
from mlprune.pruning import (
    ADMM,
    ALPS,
    GRAM,
    Importance,
    LayerStatistics,
    NofM,
    Pattern,
    Pruner,
    SparseGPT,
    Unstructured,
    Wanda,
    prune_model,
)

REFERENCES = Path(__file__).parent.parent / "references"
SHAPES = ("64x32", "32x64", "48x96")
LAYER = Unstructured(0.5, scope="layer")
PATTERNS = [Unstructured(0.5), Unstructured(0.7, scope="layer"), NofM(2, 4), NofM(1, 4), NofM(4, 8)]


def layer(shape: str) -> tuple[Tensor, Tensor]:
    """The weights and inputs (tokens, in_features) of a reference."""
    file = np.load(REFERENCES / "layers" / f"{shape}.npz")
    weight = torch.from_numpy(file["W"])
    return weight, torch.from_numpy(file["X"]).float().reshape(-1, weight.shape[1])


def random_layer(seed: int, out_features: int = 8, in_features: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(in_features, in_features, generator=generator)
    inputs = torch.randn(200, in_features, generator=generator) @ mix
    return torch.randn(out_features, in_features, generator=generator), inputs


def seen(x: Tensor) -> LayerStatistics:
    return LayerStatistics({"mt": GRAM.total(x, None) / len(x)}, {"mt": torch.tensor(len(x))})


def damage(x: Tensor, weight: Tensor, changed: Tensor) -> float:
    x, weight, changed = x.double(), weight.double(), changed.double()
    return float((x @ (weight - changed).T).square().sum() / (x @ weight.T).square().sum())


# -- the published codes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("importance", "pattern", "file", "wrong"),
    [
        (ADMM(), NofM(2, 4), "admm/n24", 0),
        (ADMM(), Unstructured(0.5), "admm/u50_per_out", 0),
        (ADMM(published=True), LAYER, "admm/u50", 0),
        (ALPS(), LAYER, "alps/u50", 0.001),
        (ALPS(), NofM(2, 4), "alps/n24", 0.001),
    ],
)
def test_published_masks_and_weights(
    importance: Importance, pattern: Pattern, file: str, wrong: float, shape: str
) -> None:
    weight, x = layer(shape)
    expected = np.load(REFERENCES / f"{file}.npz")
    mask, changed = torch.from_numpy(expected[f"{shape}_mask"]), torch.from_numpy(expected[f"{shape}_weight"])
    decision = importance.decide(weight, seen(x), "fc", pattern, pattern.sparsity)
    assert int((decision.mask != mask).sum()) <= wrong * mask.numel()
    same_rows = (decision.mask == mask).all(1)
    torch.testing.assert_close(decision.weight[same_rows], changed[same_rows], atol=2e-5, rtol=0)
    assert damage(x, weight, decision.weight) == pytest.approx(float(expected[f"{shape}_error"]), rel=1e-3)


@pytest.mark.parametrize(
    ("importance", "file", "wrong"), [(ADMM(published=True), "admm", 0), (ALPS(), "alps", 0.015)], ids=["admm", "alps"]
)
def test_published_masks_of_a_model(importance: Importance, file: str, wrong: float) -> None:
    model = AutoModelForCausalLM.from_pretrained(REFERENCES / "llama", dtype=torch.float32).eval()
    ids = torch.from_numpy(np.load(REFERENCES / "llama" / "calib.npz")["mt_eq_ids"])
    masks = prune_model(model, [{"input_ids": ids}], importance, LAYER)
    expected = np.load(REFERENCES / file / "llama_u50.npz")
    different = sum(int((torch.from_numpy(expected[path]) != mask).sum()) for path, mask in masks.items())
    assert different <= wrong * sum(mask.numel() for mask in masks.values())
    if not wrong:
        with torch.no_grad():
            logits = model(ids[:2]).logits[:, -4:]
        torch.testing.assert_close(logits, torch.from_numpy(expected["logits"]), atol=1e-3, rtol=0)


def test_the_schedule_is_followed_over_the_whole_layer() -> None:
    """As its README says of the schedule used as intended: 106, 136 and 232 entries are others."""
    for shape, others in zip(SHAPES, (106, 136, 232), strict=True):
        weight, x = layer(shape)
        mask = torch.from_numpy(np.load(REFERENCES / "admm" / "u50.npz")[f"{shape}_mask"])
        assert int((ADMM().decide(weight, seen(x), "fc", LAYER, 0.5).mask != mask).sum()) == others


# -- against slow ones ------------------------------------------------------------------------------------------------


def best_damage(x: Tensor, weight: Tensor, num_kept: int) -> float:
    """The least damage to one row's output that any ``num_kept`` inputs can give, each fitted exactly."""
    wanted = x.double() @ weight.double()
    found = []
    for kept in combinations(range(x.shape[1]), num_kept):
        inputs = x.double()[:, kept]
        found.append((inputs @ torch.linalg.lstsq(inputs, wanted[:, None]).solution).squeeze(1) - wanted)
    return min(float(rest.square().sum() / wanted.square().sum()) for rest in found)


def test_much_nearer_to_the_best_mask_than_sparsegpt() -> None:
    """Damage over the least there can be: 1.9 with ALPS and 1.8 with ADMM, 4.3 with SparseGPT (geometric means)."""
    logs: dict[str, list[float]] = {"ALPS": [], "ADMM": [], "SparseGPT": []}
    for seed in range(20):
        weight, x = random_layer(seed, out_features=1, in_features=8)
        best = best_damage(x, weight[0], 4)
        for importance in (ALPS(), ADMM(), SparseGPT(columns=4)):
            changed = importance.decide(weight, seen(x), "fc", Unstructured(0.5), 0.5).weight
            logs[type(importance).__name__].append(math.log(damage(x, weight, changed) / best))
    assert min(min(found) for found in logs.values()) > -1e-3
    means = {name: math.exp(sum(found) / len(found)) for name, found in logs.items()}
    assert max(means["ALPS"], means["ADMM"]) < 0.6 * means["SparseGPT"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("importance", [ADMM(), ALPS()], ids=["admm", "alps"])
def test_less_damage_than_the_same_mask_or_wandas(importance: Importance, pattern: Pattern) -> None:
    for seed in range(5):
        weight, x = random_layer(seed)
        decision = importance.decide(weight, seen(x), "fc", pattern, pattern.sparsity)
        wanda = Wanda().decide(weight, seen(x), "fc", pattern, pattern.sparsity).mask
        assert decision.weight is not None
        assert (decision.weight[~decision.mask] == 0).all()
        least = damage(x, weight, decision.weight)
        assert least < damage(x, weight, weight * decision.mask)
        assert least < damage(x, weight, weight * wanda)


def test_alps_fits_the_kept_weights() -> None:
    weight, x = random_layer(3)
    decision = ALPS(damping=0).decide(weight, seen(x), "fc", Unstructured(0.5), 0.5)
    gram = x.double().T @ x.double()
    for row, kept in enumerate(decision.mask):  # eight weights: ten steps are enough
        best = torch.linalg.solve(gram[kept][:, kept], (gram @ weight[row].double())[kept])
        torch.testing.assert_close(decision.weight[row, kept].double(), best, rtol=0.02, atol=0.02)


def slow_admm(weight: Tensor, x: Tensor, sparsity: float) -> Tensor:
    """The rule with its schedule over the whole layer, in float64."""
    gram, weight = x.double().T @ x.double(), weight.double()
    norms = gram.diagonal().sqrt()
    gram = gram / norms / norms[:, None]
    gram = gram + 0.1 * torch.eye(len(gram), dtype=gram.dtype)
    dense = left = weight * norms
    multipliers, inverse = torch.zeros_like(left), torch.linalg.inv(gram + torch.eye(len(gram), dtype=gram.dtype))
    for step in range(1, 21):
        if step <= 15:
            count = int(weight.numel() * (sparsity - sparsity * (1 - step / 15) ** 3))
            order = (left + multipliers).abs().flatten().argsort(stable=True)
            mask = torch.ones(weight.numel(), dtype=torch.bool)
            mask[order[:count]] = False
            mask = mask.reshape(weight.shape)
        pruned = (left + multipliers) * mask
        multipliers = multipliers + left - pruned
        left = (dense @ gram + pruned - multipliers) @ inverse
    return (left + multipliers) * mask / norms


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_admm_equals_the_rule_step_by_step(sparsity: float) -> None:
    weight, x = random_layer(7)
    decision = ADMM().decide(weight, seen(x), "fc", Unstructured(sparsity, scope="layer"), sparsity)
    expected = slow_admm(weight, x, sparsity)
    assert torch.equal(decision.mask, expected != 0)
    torch.testing.assert_close(decision.weight.double(), expected, rtol=1e-4, atol=1e-4)


# -- odd layers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("importance", [ADMM(), ALPS()], ids=["admm", "alps"])
class TestOddLayers:
    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_pattern_is_exact(self, importance: Importance, pattern: Pattern) -> None:
        weight, x = random_layer(0)
        mask = importance.decide(weight, seen(x), "fc", pattern, pattern.sparsity).mask
        if isinstance(pattern, NofM):
            assert (mask.reshape(-1, pattern.of).sum(1) == pattern.kept).all()
        elif pattern.scope == "row":
            assert (~mask).sum(1).tolist() == [8] * 8
        else:
            assert int((~mask).sum()) == int(128 * 0.7)

    def test_silent_inputs_go_first(self, importance: Importance) -> None:
        weight, x = random_layer(1)
        x[:, ::4] = 0
        decision = importance.decide(weight, seen(x), "fc", Unstructured(0.25), 0.25)
        assert not decision.mask[:, ::4].any()
        kept_anyway = importance.decide(weight, seen(x), "fc", Unstructured(0.1), 0.1)
        assert torch.isfinite(kept_anyway.weight).all()

    def test_inputs_that_are_copies(self, importance: Importance) -> None:
        weight, x = random_layer(2)
        x[:, 1] = x[:, 0]
        decision = importance.decide(weight, seen(x), "fc", NofM(2, 4), 0.5)
        assert torch.isfinite(decision.weight).all()
        assert damage(x, weight, decision.weight) < 0.5

    @pytest.mark.parametrize("scale", [1e-15, 1e15])
    def test_scale_of_inputs_does_not_matter(self, importance: Importance, scale: float) -> None:
        weight, x = random_layer(3)
        plain = importance.decide(weight, seen(x.double()), "fc", LAYER, 0.5)
        scaled = importance.decide(weight, seen(x.double() * scale), "fc", LAYER, 0.5)
        assert torch.equal(scaled.mask, plain.mask)
        torch.testing.assert_close(scaled.weight, plain.weight, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize(("pattern", "kept"), [(Unstructured(0.5), 3), (LAYER, 2)])
    def test_one_input(self, importance: Importance, pattern: Pattern, kept: int) -> None:
        weight = torch.tensor([[3.0], [-1.0], [2.0]])
        decision = importance.decide(weight, seen(torch.ones(5, 1)), "fc", pattern, 0.5)
        assert int(decision.mask.sum()) == kept
        if decision.weight is not None:
            torch.testing.assert_close(decision.weight, weight * decision.mask)

    def test_nothing_to_prune_leaves_the_weights(self, importance: Importance) -> None:
        weight, x = random_layer(4)
        decision = importance.decide(weight, seen(x), "fc", Unstructured(0.0), 0.0)
        assert decision.mask.all()
        assert decision.weight is None

    def test_half_precision_stays_finite(self, importance: Importance) -> None:
        weight, x = random_layer(5)
        x[:, 1] = x[:, 0] * 1e-7  # fitted, it would need a weight of 1e7
        decision = importance.decide(weight.half(), seen(x), "fc", NofM(1, 4), 0.75)
        assert decision.weight.dtype == torch.float16
        assert torch.isfinite(decision.weight).all()

    def test_highest_scores_are_refused(self, importance: Importance) -> None:
        with pytest.raises(UserError, match=r"(ADMM|ALPS) prunes lowest scores; use it with drop='lowest'"):
            Pruner(importance, Unstructured(0.5, drop="highest"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ADMM(schedule=21), "ADMM: iterations 20, schedule 21, damping 0.1 not allowed; give 1 <= schedule"),
        (lambda: ADMM(damping=-1), "damping -1 not allowed"),
        (lambda: ALPS(penalty=0), r"ALPS: damping 0.01, penalty 0, iterations 300 not allowed; give damping >= 0"),
        (lambda: ALPS(iterations=0), "iterations 0 not allowed"),
    ],
)
def test_refused_at_construction(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()

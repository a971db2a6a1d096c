"""Several groups, such as languages, in one score: how they are pooled, how they differ, when inputs are active."""

import copy
from typing import Any

import pytest
import torch
from tiny import MIXTURES, tiny_batches, tiny_model
from torch import Tensor

from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.pruning import (
    ADMM,
    ALPS,
    ENERGY,
    GBLM,
    RIA,
    ContrastiveWanda,
    DSnoT,
    Importance,
    LayerStatistics,
    Magnitude,
    NofM,
    Pool,
    Pruner,
    Random,
    RegionalGradient,
    SparseGPT,
    Unstructured,
    Wanda,
    activation_probability,
    collect_statistics,
    joined,
    prune_from_statistics,
    prune_model,
)

ALL: tuple[Pool, ...] = ("tokens", "mean", "max", "worst")
LANGUAGES = ("en", "fr", "sw")


def by_hand(pool: Pool, means: list[Tensor], tokens: list[int]) -> Tensor:
    """What one language after the other gives; those without a token are left out."""
    heard = [(mean, count) for mean, count in zip(means, tokens, strict=True) if count]
    if pool == "tokens":
        return sum(mean * count for mean, count in heard) / sum(count for _, count in heard)
    if pool == "mean":
        return sum(mean for mean, _ in heard) / len(heard)
    if pool == "max":
        return torch.stack([mean for mean, _ in heard]).max(0).values
    level = sum(mean.mean() for mean, _ in heard) / len(heard)
    return torch.stack([mean / mean.mean() for mean, _ in heard]).max(0).values * level


def batches(family: str = "llama") -> list[dict[str, Any]]:
    """Prompts of three languages, one of which has more tokens than the others together."""
    lengths = {"en": [23, 19], "fr": [7], "sw": [5, 3]}
    return [
        batch for i, lang in enumerate(LANGUAGES) for batch in tiny_batches(family, lengths[lang], seed=i, group=lang)
    ]


@pytest.mark.parametrize("pool", ALL)
def test_pooled_by_hand(pool: Pool) -> None:
    generator = torch.Generator().manual_seed(0)
    means = [torch.rand(6, generator=generator, dtype=torch.float64) * scale for scale in (1, 20, 0.1)]
    tokens = [40, 10, 4]

    def seen(means: list[Tensor], tokens: list[Any]) -> LayerStatistics:
        counts = {lang: torch.tensor(count) for lang, count in zip(LANGUAGES, tokens, strict=True)}
        return LayerStatistics(dict(zip(LANGUAGES, means, strict=True)), counts).pooled_by(pool)

    torch.testing.assert_close(seen(means, tokens).pooled(), by_hand(pool, means, tokens))
    experts = [torch.stack([mean, mean * 0 if lang == "fr" else mean.flip(0)]) for lang, mean in zip(LANGUAGES, means)]
    stacked = seen(experts, [[count, 0 if lang == "fr" else count] for lang, count in zip(LANGUAGES, tokens)])
    torch.testing.assert_close(stacked.pooled()[0], by_hand(pool, means, tokens))
    unheard = by_hand(pool, [mean.flip(0) for mean in means], [40, 0, 4])
    torch.testing.assert_close(stacked.pooled()[1], unheard)
    torch.testing.assert_close(stacked.of_expert(1).pooled(), unheard)
    assert torch.equal(seen(means, tokens).only(["sw"]).pooled(), means[2])
    torch.testing.assert_close(stacked.variance()[0], torch.stack(means).var(0, correction=0))
    two = torch.stack([means[0], means[2]]).flip(1)
    torch.testing.assert_close(stacked.variance()[1], two.var(0, correction=0))


@pytest.mark.parametrize("kind", [Wanda, RIA], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("pool", ALL)
def test_one_calibration_serves_every_pool(kind: Any, pool: Pool) -> None:
    model = tiny_model("llama")
    statistics = collect_statistics(model, batches(), Pruner())
    path, own = next(iter(statistics.items()))
    weight = find_blocks(model)[0].layers[path].matrix()
    energies = by_hand(pool, list(own.means.values()), [int(count) for count in own.tokens.values()])
    alone = LayerStatistics({"all": energies}, {"all": torch.tensor(1)})
    expected = kind().score(weight, alone, path)
    torch.testing.assert_close(kind(pool=pool).score(weight, own, path), expected)
    masks = prune_from_statistics(copy.deepcopy(model), statistics, Pruner(kind(pool=pool), Unstructured(0.5)))
    assert torch.equal(masks[path], Unstructured(0.5).mask(expected, 0.5))
    direct = prune_model(model, batches(), kind(pool=pool), Unstructured(0.5), propagate="dense")
    assert all(torch.equal(direct[path], masks[path]) for path in masks)


def test_the_pools_differ_and_may_look_at_some_groups() -> None:
    masks = []
    for importance in (*(Wanda(pool=pool) for pool in ALL), Wanda(groups=["fr", "sw"], pool="max")):
        pruned = prune_model(tiny_model("llama"), batches(), importance, Unstructured(0.5))
        masks.append(torch.cat([mask.flatten() for mask in pruned.values()]))
    assert all(not torch.equal(a, b) for i, a in enumerate(masks) for b in masks[:i])


@pytest.mark.parametrize("pool", ALL)
@pytest.mark.parametrize(
    "kind", [SparseGPT, ALPS, ADMM, DSnoT, Magnitude, Random, GBLM, RegionalGradient], ids=lambda kind: kind.__name__
)
def test_pools_that_a_method_has_not_are_refused(kind: type[Importance], pool: Pool) -> None:
    allowed = ("tokens", "mean") if kind in (SparseGPT, ALPS, ADMM) else ("tokens",)
    if pool in allowed:
        kind(pool=pool)
    else:
        with pytest.raises(UserError, match=rf"{kind.__name__}: pool '{pool}' is not allowed; give one of tokens"):
            kind(pool=pool)


def test_other_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="pool 'median' is not allowed; give one of tokens, mean, max, worst"):
        Wanda(pool="median")
    with pytest.raises(TypeError):
        ContrastiveWanda(pool="max")
    gram = {lang: torch.eye(2) for lang in LANGUAGES}
    seen = LayerStatistics(gram, {lang: torch.tensor(1) for lang in LANGUAGES}, pool="max")
    with pytest.raises(UserError, match="Gram matrices have none to compare"):
        seen.pooled()


def test_gram_matrices_of_languages_weigh_alike() -> None:
    own = collect_statistics(tiny_model("llama"), batches(), Pruner(SparseGPT()))
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    path = next(path for path, seen in own.items() if seen.means["en"].shape[-1] == 32)
    alike = LayerStatistics({"all": sum(own[path].means.values()) / 3}, {"all": torch.tensor(1)})
    found = SparseGPT(pool="mean").decide(weight, own[path], path, NofM(2, 4), 0.5)
    expected = SparseGPT().decide(weight, alike, path, NofM(2, 4), 0.5)
    assert torch.equal(found.mask, expected.mask)
    torch.testing.assert_close(found.weight, expected.weight)


def test_a_mask_is_refined_after_any_pool() -> None:
    first = Wanda(pool="worst")
    masks = [
        prune_model(tiny_model("llama"), batches(), importance, Unstructured(0.5), propagate="dense")
        for importance in (first, DSnoT(first, cycles=0), DSnoT(cycles=0))
    ]
    assert all(torch.equal(masks[0][path], masks[1][path]) for path in masks[0])
    assert any(not torch.equal(masks[0][path], masks[2][path]) for path in masks[0])


@pytest.mark.parametrize("family", ["llama", "gpt2", "mt5", *MIXTURES])
def test_activation_probabilities_are_shares_of_tokens(family: str) -> None:
    active, large = activation_probability(), activation_probability(0.5, absolute=True)

    class Probabilities(Importance):
        needs = joined(ENERGY, active, large)

        def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
            raise AssertionError("nothing is pruned")

    model = tiny_model(family)
    found = collect_statistics(model, batches(family), Pruner(Probabilities()))
    energies = collect_statistics(model, batches(family), Pruner(Wanda()))
    assert found.keys() == energies.keys()
    seen: dict[str, list[Tensor]] = {}
    plain = {
        path: layer
        for block in find_blocks(model)
        for path, layer in block.layers.items()
        if not layer.is_experts and not layer.is_routed
    }
    handles = [
        layer.module.register_forward_pre_hook(
            lambda module, args, path=path: seen.setdefault(path, []).append(args[0].flatten(0, -2))
        )
        for path, layer in plain.items()
    ]
    for batch in (batch for batch in batches(family) if batch["group"] == "en"):
        with torch.no_grad():
            model(**{name: value for name, value in batch.items() if name != "group"})
    for handle in handles:
        handle.remove()
    assert len(plain) > 5
    for path, parts in seen.items():
        x = torch.cat(parts)
        torch.testing.assert_close(found[path].part(active).of("en"), (x > 0).double().mean(0))
        torch.testing.assert_close(found[path].part(large).of("en"), (x.abs() > 0.5).double().mean(0))
    for path, own in found.items():
        torch.testing.assert_close(own.energies().pooled(), energies[path].pooled())
        shares = torch.stack(list(own.part(active).means.values()))
        assert ((shares >= 0) & (shares <= 1)).all()


def test_a_score_of_variance_and_probability_is_a_few_lines() -> None:
    active = activation_probability()

    class Steady(Importance):
        needs = joined(ENERGY, active)

        def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
            assert statistics is not None
            spread = statistics.energies().variance().sqrt()
            return (weight.abs() * statistics.part(active).pooled() / (1 + spread)).float()

    masks = prune_model(tiny_model("xglm"), batches("xglm"), Steady(), Unstructured(0.5))
    wanda = prune_model(tiny_model("xglm"), batches("xglm"), Wanda(), Unstructured(0.5))
    assert all(int(mask.sum()) * 2 == mask.numel() for mask in masks.values())
    assert any(not torch.equal(masks[path], wanda[path]) for path in masks)

    class Alone(Steady):
        needs = active

    with pytest.raises(UserError, match="activation probabilities above 0 have no energies; gather both"):
        prune_model(tiny_model("xglm"), batches("xglm"), Alone(), Unstructured(0.5))

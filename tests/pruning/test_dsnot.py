"""DSnoT: the published code's masks, the rule row by row, statistics by prompt, and what it is put on top of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import FAMILIES, MIXTURES, tiny_batches, tiny_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.pruning import (
    ALPS,
    OWL,
    RIA,
    ContrastiveWanda,
    DSnoT,
    Importance,
    LayerStatistics,
    Magnitude,
    NofM,
    Pattern,
    Pruner,
    Random,
    SparseGPT,
    Unstructured,
    Wanda,
    collect_statistics,
    prune_from_statistics,
    prune_model,
)
from mlprune.pruning.moments import PROMPT_MOMENTS, prompt_moments, sum_and_variance

REFERENCES = Path(__file__).parent.parent / "references"
SHAPES = ("64x32", "32x64", "48x96")


def seen(prompts: Tensor) -> LayerStatistics:
    """The statistics of prompts, (prompts, tokens, in_features)."""
    tokens = prompts.shape[0] * prompts.shape[1]
    total = torch.stack([prompt_moments(prompt) for prompt in prompts]).sum(0)
    return LayerStatistics({"mt": total / tokens}, {"mt": torch.tensor(tokens)}, PROMPT_MOMENTS)


def layer(shape: str) -> tuple[Tensor, LayerStatistics]:
    """A reference's weight and statistics; those of the widest are as the published code had them."""
    if shape in SHAPES:
        file = np.load(REFERENCES / "layers" / f"{shape}.npz")
        return torch.from_numpy(file["W"]), seen(torch.from_numpy(file["X"]).float())
    file = np.load(REFERENCES / "dsnot" / "stats.npz")
    scaler, total, variance = (torch.from_numpy(file[f"{shape}_{name}"]) for name in ("scaler", "sum", "var"))
    moments = torch.stack([scaler, total, variance, torch.ones_like(total)])
    return torch.from_numpy(file[f"{shape}_W"]), LayerStatistics(
        {"mt": moments.double() / 32}, {"mt": torch.tensor(16 * 32)}, PROMPT_MOMENTS
    )


def random_layer(seed: int, out_features: int = 6, in_features: int = 24) -> tuple[Tensor, LayerStatistics]:
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randn(5, 7, in_features, generator=generator) + torch.randn(in_features, generator=generator)
    return torch.randn(out_features, in_features, generator=generator), seen(prompts)


# -- the published code -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_published_statistics(shape: str) -> None:
    file = np.load(REFERENCES / "dsnot" / "stats.npz")
    total, variance = sum_and_variance(layer(shape)[1].pooled())
    torch.testing.assert_close(total.float(), torch.from_numpy(file[f"{shape}_sum"]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variance.float(), torch.from_numpy(file[f"{shape}_var"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "shape", "cycles", "pattern"),
    [(f"{name}_c5", shape, 5, pattern) for name, pattern in (("u50", Unstructured(0.5)), ("n24", NofM(2, 4)))
     for shape in SHAPES]
    + [("wide_u50_c50", "24x256", 50, Unstructured(0.5)), ("wide_n24_c50", "24x256", 50, NofM(2, 4))],
)  # fmt: skip
def test_published_masks(file: str, shape: str, cycles: int, pattern: Pattern) -> None:
    weight, statistics = layer(shape)
    expected = torch.from_numpy(np.load(REFERENCES / "dsnot" / f"{file}.npz")[shape])
    assert torch.equal(DSnoT(cycles=cycles).decide(weight, statistics, "fc", pattern, 0.5).mask, expected)
    assert not torch.equal(Wanda().decide(weight, statistics, "fc", pattern, 0.5).mask, expected)


def test_published_masks_of_a_model() -> None:
    model = AutoModelForCausalLM.from_pretrained(REFERENCES / "llama", dtype=torch.float32).eval()
    ids = torch.from_numpy(np.load(REFERENCES / "llama" / "calib.npz")["mt_eq_ids"])
    masks = prune_model(model, [{"input_ids": ids}], DSnoT(cycles=5), Unstructured(0.5))
    expected = np.load(REFERENCES / "dsnot" / "llama_u50_c5_noskip.npz")
    assert not [path for path, mask in masks.items() if not torch.equal(mask, torch.from_numpy(expected[path]))]
    with torch.no_grad():
        torch.testing.assert_close(
            model(ids[:2]).logits[:, -4:], torch.from_numpy(expected["logits"]), atol=1e-4, rtol=0
        )


# -- the rule, row by row ---------------------------------------------------------------------------------------------


def slow_row(
    weight: Tensor, statistics: LayerStatistics, first: Tensor, method: DSnoT, group: int | None
) -> list[bool]:
    """The rule for one row, in plain Python."""
    energy, _, _, _ = moments = statistics.pooled()
    total, variance = sum_and_variance(moments)
    adds = (weight.double() * total).tolist()
    growth = [a / max(float(v), 1e-38) ** method.power for a, v in zip(adds, variance, strict=True)]
    cost = (weight.abs() * energy.float().sqrt()).tolist()
    kept = first.tolist()
    to_regrow = [j for j, is_kept in enumerate(kept) if not is_kept]
    to_prune = [j for j, is_kept in enumerate(kept) if is_kept]
    error = sum(adds[j] for j in to_regrow)
    for _ in range(method.cycles):
        if abs(error) <= method.threshold or not to_regrow:
            break
        up = error > 0
        grown = (max if up else min)(to_regrow, key=lambda j: growth[j])
        if group is None:
            fit = [j for j in to_prune if (adds[j] < 0 if up else adds[j] > 0)]
        else:
            fit = [j for j in to_prune if j // group == grown // group]
        if not fit:
            break
        gone = min(fit, key=lambda j: cost[j])
        after = error + adds[gone] - adds[grown]
        if (method.same_sign or group) and (after > 0) != (error > 0):
            break
        error, kept[grown], kept[gone] = after, True, False
        to_regrow.remove(grown)
        to_prune.remove(gone)
    return kept


@pytest.mark.parametrize("method", [DSnoT(), DSnoT(threshold=5, power=0.5), DSnoT(same_sign=True), DSnoT(cycles=2)])
@pytest.mark.parametrize("pattern", [Unstructured(0.5), Unstructured(0.7, scope="layer"), NofM(2, 4), NofM(1, 4)])
def test_equals_the_rule_row_by_row(method: DSnoT, pattern: Any) -> None:
    moved = 0
    for seed in range(4):
        weight, statistics = random_layer(seed)
        first = Wanda().decide(weight, statistics, "fc", pattern, pattern.sparsity).mask
        mask = method.decide(weight, statistics, "fc", pattern, pattern.sparsity).mask
        group = pattern.of if isinstance(pattern, NofM) else None
        expected = [slow_row(w, statistics, m, method, group) for w, m in zip(weight, first, strict=True)]
        assert mask.tolist() == expected
        assert mask.sum(1).tolist() == first.sum(1).tolist()
        if group is not None:
            assert torch.equal(mask.reshape(-1, group).sum(1), first.reshape(-1, group).sum(1))
        moved += int((mask != first).sum())
    assert moved > 0


def test_error_is_within_the_threshold_or_candidates_ran_out() -> None:
    weight, statistics = random_layer(0, out_features=50, in_features=400)
    total, _ = sum_and_variance(statistics.pooled())
    first, mask = (
        method.decide(weight, statistics, "fc", Unstructured(0.5), 0.5).mask for method in (Wanda(), DSnoT(cycles=500))
    )
    before, after = ((weight.double() * total * ~own).sum(1).abs() for own in (first, mask))
    assert after.mean() < 0.2 * before.mean()


# -- statistics by prompt ---------------------------------------------------------------------------------------------


def dense_moments(family: str, batches: list[dict], max_tokens: int) -> dict[str, LayerStatistics]:
    from mlprune.pruning.prune import form_batches

    model, pruner = tiny_model(family), Pruner(DSnoT())
    formed = form_batches(model, batches, max_tokens, pruner.importance.needs)
    return collect_statistics(model, formed, pruner)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_batch_are_prompts(family: str) -> None:
    """Padded together or alone, of one length or not."""
    batches = tiny_batches(family, [6, 9, 9, 4])
    together, alone = (dense_moments(family, batches, tokens) for tokens in (1000, 1))
    assert together.keys() == alone.keys()
    for path, statistics in alone.items():
        torch.testing.assert_close(together[path].pooled(), statistics.pooled(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", MIXTURES)
def test_experts_see_prompts(family: str) -> None:
    found = dense_moments(family, tiny_batches(family, [6, 9, 9]), 1000)
    experts = next(own for path, own in found.items() if path.endswith("experts.down_proj"))
    prompts = experts.pooled()[:, 3, 0] * experts.total_tokens()
    assert all(round(float(count)) in (0, 1, 2, 3) for count in prompts)
    assert round(float(prompts.max())) > 1
    torch.testing.assert_close(prompts, prompts.round())


def test_experts_of_padded_batches_are_refused() -> None:
    batch = {"input_ids": torch.randint(2, 50, (3, 5))}
    with pytest.raises(UserError, match="its inputs do not show which prompt they are of; form batches of one prompt"):
        prune_model(tiny_model("mixtral"), [batch], DSnoT(), count_padding=True)


# -- on top of others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pattern", [Unstructured(0.5), NofM(2, 4)], ids=["unstructured", "2of4"])
def test_every_family_keeps_the_counts_and_the_weights(family: str, pattern: Pattern) -> None:
    batches = tiny_batches(family, [20, 30, 20])
    model, dense = tiny_model(family), tiny_model(family)
    masks = prune_model(model, batches, DSnoT(), pattern, propagate="dense")
    first = prune_model(tiny_model(family), batches, Wanda(), pattern, propagate="dense")
    size = pattern.of if isinstance(pattern, NofM) else -1
    for path, mask in masks.items():
        kept, expected = (own.unflatten(-1, (-1, size) if size > 0 else (1, -1)).sum(-1) for own in (mask, first[path]))
        assert torch.equal(kept, expected), path
    assert sum(int((masks[path] != mask).sum()) for path, mask in first.items()) > 0
    weights = {path: layer for block in find_blocks(model) for path, layer in block.layers.items()}
    for path, layer in ((path, layer) for block in find_blocks(dense) for path, layer in block.layers.items()):
        assert torch.equal(weights[path].matrix(), layer.matrix() * masks[path]), path


@pytest.mark.parametrize(
    "first",
    [Wanda(variant=True), Magnitude(), Random(1), RIA(), ContrastiveWanda("mt", "code"), SparseGPT(), ALPS(), DSnoT()],
    ids=lambda first: type(first).__name__,
)
def test_after_any_first_mask(first: Importance) -> None:
    batches = tiny_batches("llama", [20, 30], group="mt") + tiny_batches("llama", [25], seed=1, group="code")
    dense, model = tiny_model("llama"), tiny_model("llama")
    masks = prune_model(model, batches, DSnoT(first), Unstructured(0.5), propagate="dense")
    expected = prune_model(tiny_model("llama"), batches, first, Unstructured(0.5), propagate="dense")
    unmoved = prune_model(tiny_model("llama"), batches, DSnoT(first, cycles=0), Unstructured(0.5), propagate="dense")
    different = sum(int((unmoved[path] != mask).sum()) for path, mask in expected.items())
    assert different <= (20 if first.needs is not None else 0)  # Gram matrices add up prompt by prompt
    assert all(torch.equal(masks[path].sum(1), mask.sum(1)) for path, mask in unmoved.items())
    assert isinstance(first, DSnoT) or any(not torch.equal(masks[path], mask) for path, mask in unmoved.items())
    path = "model.layers.0.mlp.up_proj"
    assert torch.equal(model.get_submodule(path).weight, dense.get_submodule(path).weight * masks[path])


def test_statistics_of_another_kind_are_refused() -> None:
    model, batches = tiny_model("llama"), tiny_batches("llama", [9])
    energies = collect_statistics(model, batches, Pruner(Wanda()))
    with pytest.raises(UserError, match="DSnoT needs moments of prompts; the statistics are energies: calibrate with"):
        prune_from_statistics(model, energies, Pruner(DSnoT()))
    moments = collect_statistics(model, batches, Pruner(DSnoT()))
    with pytest.raises(UserError, match="SparseGPT needs Gram matrices; the statistics are moments of prompts"):
        prune_from_statistics(model, moments, Pruner(SparseGPT()))
    with pytest.raises(UserError, match="needs moments of prompts and Gram matrices; the statistics are moments"):
        prune_from_statistics(model, moments, Pruner(DSnoT(SparseGPT())))
    assert prune_from_statistics(model, moments, Pruner(Wanda()))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_inputs_that_do_not_vary(value: float) -> None:
    weight, _ = random_layer(0)
    prompts = torch.randn(4, 1, 24, generator=torch.Generator().manual_seed(0))  # a token a prompt: no variance
    prompts[:, :, ::3] = value
    mask = DSnoT().decide(weight, seen(prompts), "fc", Unstructured(0.5), 0.5).mask
    assert (~mask).sum(1).tolist() == [12] * 6


def test_one_input() -> None:
    statistics = seen(torch.ones(2, 3, 1))
    mask = DSnoT().decide(torch.tensor([[3.0], [1.0]]), statistics, "fc", Unstructured(0.5, scope="layer"), 0.5).mask
    assert mask.tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DSnoT(cycles=-1), "DSnoT: cycles -1, threshold 0.1, power 1.0 not allowed; give 0 or more for each"),
        (lambda: Pruner(DSnoT(), Unstructured(0.5, drop="highest")), "DSnoT prunes lowest scores; use it with drop="),
        (lambda: Pruner(DSnoT(Wanda(variant=True)), NofM()), r"Wanda\(variant=True\) prunes the lowest scores of each"),
        (lambda: Pruner(DSnoT(SparseGPT()), Unstructured(0.5), OWL()), "OWL counts outlying scores"),
        (
            lambda: prune_model(tiny_model("llama"), tiny_batches("llama", [4]), DSnoT(), NofM(2, 5)),
            "5 does not divide",
        ),
    ],
)
def test_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()

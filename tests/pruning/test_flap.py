"""FLAP against the numbers of its published code, and its variance against torch's."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from mlprune.models.layers import Layer
from mlprune.pruning import FLAP, LayerStatistics, Pruner, collect_statistics
from mlprune.pruning.moments import TOKEN_MOMENTS, token_moments, variance_of
from mlprune.smaller.units import lost_output

FOLDER = Path(__file__).parents[1] / "references" / "flap"
PUBLISHED = np.load(FOLDER / "wifv.npz")
IDS = torch.from_numpy(PUBLISHED["ids"].astype("int64"))
READERS = {"o": "self_attn.o_proj", "down": "mlp.down_proj"}
LAYERS = [(kind, block) for kind in READERS for block in range(3)]


@cache
def model() -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(FOLDER)


@cache
def statistics() -> dict[str, LayerStatistics]:
    batches = [{"input_ids": row[None]} for row in IDS]
    return collect_statistics(model(), batches, Pruner(FLAP(), include=["o_proj", "down_proj"]))


@cache
def inputs() -> dict[tuple[str, int], Tensor]:
    """What each reader sees of every prompt, (24, 32, in_features)."""
    seen: dict[tuple[str, int], Tensor] = {}
    handles = [
        module_of(kind, block).register_forward_pre_hook(lambda _, args, key=(kind, block): seen.update({key: args[0]}))
        for kind, block in LAYERS
    ]
    with torch.no_grad():
        model()(IDS)
    for handle in handles:
        handle.remove()
    return seen


def module_of(kind: str, block: int) -> torch.nn.Linear:
    return model().get_submodule(f"model.layers.{block}.{READERS[kind]}")


def seen_at(kind: str, block: int) -> LayerStatistics:
    return statistics()[f"model.layers.{block}.{READERS[kind]}"]


def published_variance(x: Tensor) -> Tensor:
    """The running update as published: the new mean in place of the old one, the first prompt left out."""
    mean, found = x[0].mean(0), torch.zeros(x.shape[-1])
    for number, prompt in enumerate(x[1:], start=1):
        mean = (mean * number + prompt.mean(0)) / (number + 1)
        found = found * (number - 1) / number + (prompt - mean).square().sum(0) / (number + 1)
    return found


def with_variance(variance: Tensor) -> LayerStatistics:
    moments = torch.stack([variance.double(), torch.zeros(len(variance), dtype=torch.float64)])
    return LayerStatistics({"default": moments}, {"default": torch.tensor(1)}, TOKEN_MOMENTS)


@pytest.mark.parametrize(("kind", "block"), LAYERS)
def test_scores_are_those_of_the_published_code(kind: str, block: int) -> None:
    weight, seen = module_of(kind, block).weight.data, with_variance(published_variance(inputs()[kind, block]))
    scores = FLAP().score(weight, seen, "layer")
    metric = torch.from_numpy(PUBLISHED[f"metric_{kind}_{block}"])
    torch.testing.assert_close(FLAP().grouped(scores, 1), metric, rtol=1e-5, atol=0)
    if kind == "o":
        torch.testing.assert_close(FLAP().grouped(scores, 128), metric.square().view(4, 128).mean(1), rtol=2e-5, atol=0)


@pytest.mark.parametrize(("kind", "block"), LAYERS)
def test_moments_are_those_of_all_tokens(kind: str, block: int) -> None:
    found, x = seen_at(kind, block).pooled(), inputs()[kind, block].flatten(0, 1).double()
    torch.testing.assert_close(variance_of(found), x.var(0, correction=0), rtol=1e-4, atol=1e-12)
    published = torch.from_numpy(PUBLISHED[f"mean_{kind}_{block}"]).double()
    torch.testing.assert_close(found[1], published, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ratio", ["r20", "r50"])
def test_the_same_units_are_kept_but_for_the_published_update(ratio: str) -> None:
    moved, moved_as_published = 0, 0
    for block in range(3):
        weight = module_of("down", block).weight.data
        kept = torch.from_numpy(PUBLISHED[f"{ratio}_neurons_{block}"])
        ours, published = (
            FLAP().grouped(FLAP().score(weight, seen, "layer"), 1).argsort(descending=True)[: int(kept.sum())]
            for seen in (seen_at("down", block), with_variance(published_variance(inputs()["down", block])))
        )
        moved += int((~kept[ours]).sum())
        moved_as_published += int((~kept[published]).sum())
    assert moved <= 2
    assert moved_as_published == 0


@pytest.mark.parametrize("ratio", ["r20", "r50"])
@pytest.mark.parametrize(("kind", "block"), LAYERS)
def test_biases_are_those_of_the_published_code(ratio: str, kind: str, block: int) -> None:
    names = {"o": ("heads", 128), "down": ("neurons", 1)}
    what, size = names[kind]
    gone = torch.from_numpy(~PUBLISHED[f"{ratio}_{what}_{block}"]).repeat_interleave(size).nonzero().flatten()
    layer = Layer("layer", module_of(kind, block))
    found = lost_output(layer, seen_at(kind, block), gone).float()
    torch.testing.assert_close(found, torch.from_numpy(PUBLISHED[f"{ratio}_bias_{kind}_{block}"]), rtol=1e-5, atol=1e-5)


def test_groups_are_pooled_as_everywhere() -> None:
    first, second = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[7.0, 4.0], [7.0, 0.0]])
    means = {name: token_moments(x) / 2 for name, x in (("fr", first), ("sw", second))}
    seen = LayerStatistics(means, {name: torch.tensor(2) for name in means}, TOKEN_MOMENTS)
    weight = torch.ones(1, 2)

    def variances(**options: object) -> list[float]:
        return FLAP(**options).score(weight, seen, "layer").square()[0].tolist()

    assert variances(group="fr") == pytest.approx([1.0, 0.0])
    assert variances() == pytest.approx(torch.cat([first, second]).var(0, correction=0).tolist())
    assert variances(pool="max") == pytest.approx([1.0, 4.0])

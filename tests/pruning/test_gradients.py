"""Gradient scores against plain backward passes, however prompts are batched, and what they go together with."""

from typing import Any

import pytest
import torch
from tiny import FAMILIES, tiny_batches, tiny_model
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.models.experts import experts_one_by_one
from mlprune.models.layers import Layer
from mlprune.pruning import (
    GBLM,
    DSnoT,
    Importance,
    LayerStatistics,
    NextToken,
    Pruner,
    RegionalGradient,
    TranslationLoss,
    Unstructured,
    Wanda,
    collect_statistics,
    prune_from_statistics,
    prune_model,
    prune_streaming,
)
from mlprune.pruning.prune import form_batches

LENGTHS = [9, 4, 7]
SEVERAL = ["llama", "gpt2", "xglm", "bloom", "gemma3", "mixtral", "mt5"]


def layers_of(model: nn.Module) -> dict[str, Layer]:
    return {path: layer for block in find_blocks(model) for path, layer in block.layers.items()}


def measured(family: str, importance: Importance) -> dict[str, LayerStatistics]:
    model = tiny_model(family)
    batches = form_batches(model, tiny_batches(family, LENGTHS), 100, importance.needs)
    return collect_statistics(model, batches, Pruner(importance))


def squares(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The squared gradients of a loss by all matrices, as (..., out_features, in_features)."""
    layers = layers_of(model)
    found = torch.autograd.grad(loss, [layer.stored for layer in layers.values()], allow_unused=True)
    plain = {
        path: torch.zeros_like(layer.stored) if own is None else own
        for (path, layer), own in zip(layers.items(), found, strict=True)
    }
    return {path: (own.mT if layers[path].transposed else own).double() ** 2 for path, own in plain.items()}


def region_norms(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """The sum of the blocks' output norms, each on inputs without a graph, so that gradients stay in their block."""
    norms, handles = [], []

    def cut(module: nn.Module, args: Any, kwargs: Any) -> Any:
        args = tuple(value.detach() if isinstance(value, Tensor) else value for value in args)
        return args, {name: value.detach() if isinstance(value, Tensor) else value for name, value in kwargs.items()}

    def look(module: nn.Module, args: Any, output: Any) -> None:
        norms.append((output if isinstance(output, Tensor) else output[0]).norm())

    for block in find_blocks(model):
        handles.append(block.module.register_forward_pre_hook(cut, with_kwargs=True))
        handles.append(block.module.register_forward_hook(look))
    model(**inputs, use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(norms).sum()


def cross_entropy(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    ids = inputs.get("decoder_input_ids", inputs["input_ids"])
    log_probs = model(**inputs, use_cache=False).logits[0].log_softmax(-1)
    return -torch.stack([log_probs[t, ids[0, t + 1]] for t in range(ids.shape[1] - 1)]).mean()


# -- plain backward passes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SEVERAL)
@pytest.mark.parametrize(
    ("importance", "loss"), [(RegionalGradient(), region_norms), (GBLM(), cross_entropy)], ids=["region", "model"]
)
def test_gradients_are_those_of_single_prompts(family: str, importance: Importance, loss: Any) -> None:
    found, model = measured(family, importance), tiny_model(family)
    layers = layers_of(model)
    expected = {path: torch.zeros(layer.matrix().shape, dtype=torch.float64) for path, layer in layers.items()}
    with experts_one_by_one(model):
        for batch in tiny_batches(family, LENGTHS):
            inputs = {name: value for name, value in batch.items() if name != "group"}
            for path, own in squares(model, loss(model, inputs)).items():
                expected[path] += own / len(LENGTHS)
    assert found.keys() == expected.keys()
    for path, own in expected.items():
        moments = found[path].pooled()
        prompts = moments[..., 1, 0] * found[path].total_tokens()
        torch.testing.assert_close(prompts, torch.full_like(prompts, len(LENGTHS)))
        got = moments[..., 2:, :] / moments[..., 1:2, :]
        torch.testing.assert_close(got, own, rtol=2e-4, atol=1e-6 * float(own.max()))
        assert float(own.max()) > 0


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_score_is_norm_and_gradient_of_a_prompt(family: str) -> None:
    importance, model, layers = RegionalGradient(alpha=3.0), tiny_model(family), layers_of(tiny_model(family))
    seen: dict[str, list[Tensor]] = {path: [] for path in layers}
    for path in layers:
        model.get_submodule(path).register_forward_pre_hook(lambda module, args, path=path: seen[path].append(args[0]))
    gradients = [
        squares(model, region_norms(model, {"input_ids": batch["input_ids"]}))
        for batch in tiny_batches(family, LENGTHS)
    ]
    for path, statistics in measured(family, importance).items():
        norm = torch.stack([x[0].double().square().sum(0) for x in seen[path]]).mean(0).sqrt()
        root = torch.stack([own[path] for own in gradients]).mean(0).sqrt()
        expected = layers[path].matrix().abs() * (norm + 3.0 * root)
        got = importance.score(layers[path].matrix(), statistics, path)
        torch.testing.assert_close(got.double(), expected.double(), rtol=1e-3, atol=1e-5)


def test_without_weight_the_score_ranks_as_wanda() -> None:
    batches = tiny_batches("llama", LENGTHS)
    plain = prune_model(tiny_model("llama"), batches, Wanda())
    for importance in (RegionalGradient(alpha=0), GBLM(scale=0)):
        masks = prune_model(tiny_model("llama"), batches, importance)
        assert all(torch.equal(mask, plain[path]) for path, mask in masks.items())
    assert any(
        not torch.equal(mask, plain[path])
        for path, mask in prune_model(tiny_model("llama"), batches, RegionalGradient()).items()
    )


def test_losses_ask_for_different_weights() -> None:
    batches = tiny_batches("llama", [40, 30])
    for batch in batches:
        batch["input_ids"][0, 15] = 1  # the end of the first sentence
    masks = [
        prune_model(tiny_model("llama"), batches, GBLM(loss), Unstructured(0.5))
        for loss in (NextToken(), TranslationLoss(), TranslationLoss(separator_id=1))
    ]
    assert any(not torch.equal(mask, masks[1][path]) for path, mask in masks[0].items())
    assert all(torch.equal(mask, masks[2][path]) for path, mask in masks[1].items())


def test_statistics_know_of_which_loss_they_are() -> None:
    batches = [batch | {"group": "mt"} for batch in tiny_batches("llama", LENGTHS)]
    model = tiny_model("llama")
    found = collect_statistics(model, batches, Pruner(GBLM()))
    masks = prune_from_statistics(tiny_model("llama"), found, Pruner(GBLM()))  # another object of the same loss
    expected = prune_model(model, batches, GBLM(), propagate="dense")
    assert all(torch.equal(mask, expected[path]) for path, mask in masks.items())
    for other in (GBLM(TranslationLoss()), RegionalGradient()):
        with pytest.raises(UserError, match=r"needs gradients of .*; the statistics are gradients of NextToken\(\)"):
            prune_from_statistics(model, found, Pruner(other))


def test_translation_loss_counts_translations() -> None:
    model, ids = tiny_model("llama"), torch.tensor([[5, 6, 1, 7, 8, 1, 9, 1, 4, 3]])
    losses = NextToken().losses(model, {"input_ids": ids})
    expected = losses[[2, 3, 4, 7, 8]].mean()  # predict 7, 8 and their end; 4 and 3
    torch.testing.assert_close(TranslationLoss()(model, {"input_ids": ids}), expected)
    with pytest.raises(UserError, match="a prompt of 2 tokens holds no second sentence; raise max_tokens"):
        TranslationLoss()(model, {"input_ids": ids[:, :2]})


# -- how prompts come -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("importance", [RegionalGradient(), GBLM()])
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_batching_does_not_matter(family: str, importance: Importance) -> None:
    singles = tiny_batches(family, [6, 4])
    ids, mask = torch.zeros(2, 7, dtype=torch.int64), torch.zeros(2, 7, dtype=torch.int64)
    for row, batch in enumerate(singles):
        ids[row, : batch["input_ids"].shape[1]], mask[row, : batch["input_ids"].shape[1]] = batch["input_ids"], 1
    one = prune_model(tiny_model(family), singles, importance)
    other = prune_model(tiny_model(family), [{"input_ids": ids, "attention_mask": mask}], importance)
    assert all(torch.equal(own, other[path]) for path, own in one.items())


def test_counted_padding_is_part_of_its_prompt() -> None:
    ids = torch.cat([batch["input_ids"] for batch in tiny_batches("llama", [6, 6])])
    ids[1, 4:] = 0
    together = prune_model(tiny_model("llama"), [{"input_ids": ids}], RegionalGradient(), count_padding=True)
    alone = [{"input_ids": row[None]} for row in ids]
    apart = prune_model(tiny_model("llama"), alone, RegionalGradient(), count_padding=True)
    assert all(torch.equal(mask, apart[path]) for path, mask in together.items())


@pytest.mark.parametrize("importance", [RegionalGradient(), GBLM()])
def test_the_model_is_left_as_it_was(importance: Importance) -> None:
    model = tiny_model("llama")
    model.model.embed_tokens.weight.requires_grad_(False)
    before = {name: own.requires_grad for name, own in model.named_parameters()}
    prune_model(model, tiny_batches("llama", [5]), importance)
    assert {name: own.requires_grad for name, own in model.named_parameters()} == before
    assert all(own.grad is None for own in model.parameters())


# -- what goes together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("importance", [RegionalGradient(), GBLM()])
def test_every_family(family: str, importance: Importance) -> None:
    masks = prune_model(tiny_model(family), tiny_batches(family, [9, 6]), importance, Unstructured(0.5))
    assert masks.keys() == layers_of(tiny_model(family)).keys()
    pruned = sum(int((~mask).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert pruned == pytest.approx(0.5, abs=0.02)


def test_with_propagate_layer() -> None:
    batches = tiny_batches("llama", LENGTHS)
    masks = prune_model(tiny_model("llama"), batches, GBLM(), Unstructured(0.5), propagate="layer")
    assert all(float((~mask).float().mean()) == 0.5 for mask in masks.values())
    with pytest.raises(UserError, match="propagate 'layer' prunes layers before RegionalGradient can see their block"):
        prune_model(tiny_model("llama"), batches, RegionalGradient(), propagate="layer")


def test_refused() -> None:
    batches = tiny_batches("llama", LENGTHS)
    with pytest.raises(UserError, match=r"RegionalGradient: alpha -1.0 is not allowed; give 0 or more"):
        RegionalGradient(alpha=-1.0)
    with pytest.raises(UserError, match=r"gradients of NextToken\(\) are not gathered beside other statistics"):
        DSnoT(first=GBLM())
    with pytest.raises(UserError, match="streaming: GBLM needs the gradients of the whole model"):
        prune_streaming("nowhere", "there", batches, Pruner(GBLM()))
    with torch.inference_mode(), pytest.raises(UserError, match="inference_mode true keeps no gradients"):
        prune_model(tiny_model("llama"), batches, RegionalGradient())
    bert = BertForMaskedLM(BertConfig(vocab_size=258, hidden_size=16, num_attention_heads=2, num_hidden_layers=2,
                                      intermediate_size=16))  # fmt: skip
    with pytest.raises(UserError, match="BertForMaskedLM lets tokens attend to later ones, so it predicts no next"):
        prune_model(bert, batches, GBLM())

"""Masks of every family against a slow, straightforward implementation; padding and batching change nothing."""

import pytest
import torch
from slow_reference import slow_wanda, sorted_mask
from tiny import FAMILIES, MIXTURES, tiny_batches, tiny_model
from transformers import GptOssConfig, GptOssForCausalLM

from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks
from mlprune.pruning import (
    ADMM,
    ALPS,
    Calibration,
    Importance,
    NofM,
    Pruner,
    Unstructured,
    Wanda,
    calibrating,
    prune_model,
)
from mlprune.pruning.steps import prune_blocks

LENGTHS = [9, 4, 7, 9, 12]
SPARSITY = 0.4


def repadded(batches: list[dict], side: str, per_batch: int) -> list[dict]:
    """Put prompts into padded batches, the pads being real tokens' ids so that counting one would show."""
    out = []
    for start in range(0, len(batches), per_batch):
        part = batches[start : start + per_batch]
        batch = {"group": "default"}
        for name in [name for name in part[0] if name.endswith("input_ids")]:
            width = max(prompt[name].shape[1] for prompt in part)
            ids, mask = torch.full((len(part), width), 7), torch.zeros(len(part), width, dtype=torch.int64)
            for row, prompt in enumerate(part):
                length = prompt[name].shape[1]
                where = slice(width - length, width) if side == "left" else slice(0, length)
                ids[row, where], mask[row, where] = prompt[name][0], 1
            batch[name], batch[name.replace("input_ids", "attention_mask")] = ids, mask
        out.append(batch)
    return out


def assert_same(masks: dict, expected: dict) -> None:
    assert masks.keys() == expected.keys()
    for path, mask in masks.items():
        assert torch.equal(mask, expected[path]), path


@pytest.mark.parametrize("propagate", ["pruned", "dense", "layer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_slow_reference(family: str, dtype: torch.dtype, propagate: str) -> None:
    if propagate == "layer" and family in MIXTURES:
        with pytest.raises(UserError, match=r"propagate 'layer' cannot wait .* at experts .*; use 'pruned' or 'dense'"):
            prune_model(tiny_model(family, dtype), tiny_batches(family, [3]), propagate="layer")
        return
    batches = tiny_batches(family, LENGTHS)
    slow, fast = tiny_model(family, dtype), tiny_model(family, dtype)
    expected, _ = slow_wanda(family, slow, batches, SPARSITY, propagate)
    masks = prune_model(fast, batches, Wanda(), Unstructured(SPARSITY), propagate=propagate, max_batch_tokens=1)
    assert_same(masks, expected)
    for name, weight in slow.state_dict().items():
        assert torch.equal(weight, fast.state_dict()[name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_masks_equal_slow_reference_but_for_near_ties(family: str) -> None:
    batches = tiny_batches(family, LENGTHS)
    expected, scores = slow_wanda(family, tiny_model(family), batches, SPARSITY)
    masks = prune_model(tiny_model(family), batches, Wanda(), Unstructured(SPARSITY))
    assert masks.keys() == expected.keys()
    for path, mask in masks.items():
        threshold = scores[path].masked_fill(~expected[path], float("inf")).amin(-1, keepdim=True)
        distance = (scores[path] - threshold).abs() / threshold
        assert distance[mask != expected[path]].le(1e-4).all(), path


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_batch_size_change_nothing(family: str) -> None:
    batches = tiny_batches(family, LENGTHS)
    masks = prune_model(tiny_model(family), batches, Wanda(), Unstructured(SPARSITY))
    for side, per_batch in (("left", 5), ("right", 5), ("left", 2), ("right", 3)):
        other = prune_model(tiny_model(family), repadded(batches, side, per_batch), Wanda(), Unstructured(SPARSITY))
        assert_same(other, masks)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_inside_a_batch_leaves_energies(family: str) -> None:
    """The prompts' own forward passes and one padded batch give the same masks but for rounding."""
    batches = tiny_batches(family, [3, 9])
    apart = prune_model(tiny_model(family), batches, Wanda(), Unstructured(SPARSITY), max_batch_tokens=1)
    together = prune_model(tiny_model(family), batches, Wanda(), Unstructured(SPARSITY), max_batch_tokens=1000)
    wrong = sum(int((apart[path] != together[path]).sum()) for path in apart)
    assert wrong <= 0.0005 * sum(mask.numel() for mask in apart.values())


@pytest.mark.parametrize("importance", [ALPS(), ADMM()], ids=["alps", "admm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_methods_that_change_weights_on_every_family(family: str, importance: Importance) -> None:
    model = tiny_model(family)
    before = {path: layer.matrix().clone() for block in find_blocks(model) for path, layer in block.layers.items()}
    masks = prune_model(model, tiny_batches(family, [40, 50]), importance, NofM(2, 4))
    for path, layer in ((path, layer) for block in find_blocks(model) for path, layer in block.layers.items()):
        matrix, mask = layer.matrix(), masks[path]
        groups = mask.unflatten(-1, (-1, 4)).sum(-1)
        assert ((groups == 2) | mask.all(-1, keepdim=True)).all(), path  # an expert without tokens stays dense
        assert (matrix[~mask] == 0).all(), path
        assert torch.isfinite(matrix).all(), path
        assert not torch.equal(matrix[mask], before[path][mask]), path


def test_state_is_restored() -> None:
    model = tiny_model("llama").train()
    model.config.use_cache = True
    prune_model(model, tiny_batches("llama", [5]))
    assert model.training
    assert model.config.use_cache
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("family", MIXTURES)
def test_expert_without_tokens_stays_dense_and_says_so(family: str, caplog: pytest.LogCaptureFixture) -> None:
    # one token chooses two experts of four: two see nothing
    batches = tiny_batches(family, [1])
    masks = prune_model(tiny_model(family), batches, Wanda(), Unstructured(SPARSITY))
    experts = [mask for path, mask in masks.items() if path.endswith("gate_up_proj")]
    assert all(int(mask.all(-1).all(-1).sum()) == 2 for mask in experts)
    assert "no calibration token was routed to this expert; left dense" in caplog.text


@pytest.mark.parametrize("family", MIXTURES)
def test_routers_are_never_pruned(family: str) -> None:
    paths = [path for block in find_blocks(tiny_model(family)) for path in block.layers]
    assert any(path.endswith("experts.down_proj") for path in paths)
    assert not any(path.endswith(("gate", "router")) for path in paths)


@pytest.mark.parametrize("family", ["mt5", "m2m100"])
def test_encoder_blocks_come_first(family: str) -> None:
    stacks = [block.stack for block in find_blocks(tiny_model(family))]
    assert ["encoder" in stack for stack in stacks] == [True] * 3 + [False] * 3


def routed_llama() -> torch.nn.Module:
    """A model whose feed-forward parts see the first two tokens of a batch only, as experts see chosen ones."""
    model = tiny_model("llama")
    for block in model.model.layers:
        block.mlp.register_forward_pre_hook(lambda module, args: (args[0].flatten(0, 1)[:2][None],))
        block.mlp.register_forward_hook(lambda module, args, output: 0 * output.sum())
    return model


def test_routed_linear_layers_get_batches_without_padding() -> None:
    """A mask over all tokens would not fit what they see, so only prompts of one length share a batch."""
    together, apart = (
        prune_model(routed_llama(), tiny_batches("llama", [3, 5]), max_batch_tokens=size) for size in (2048, 1)
    )
    assert all(torch.equal(together[path], mask) for path, mask in apart.items())


def test_padding_that_a_layer_cannot_see_is_refused() -> None:
    model, padded = routed_llama(), repadded(tiny_batches("llama", [3, 5]), "right", per_batch=2)
    with calibrating(model), pytest.raises(UserError, match="a layer sees 2 inputs for 10 tokens, so padding cannot"):
        list(prune_blocks(Calibration(model, padded, pruner=Pruner())))


def test_experts_stored_inputs_first_have_masks_outputs_first() -> None:
    """GPT-OSS keeps (experts, in, out); keys, shapes and scores are those of every other model."""
    sizes = {"hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["full_attention"]}
    config = GptOssConfig(vocab_size=64, num_key_value_heads=2, head_dim=8, **sizes, **experts)
    torch.manual_seed(0)
    model = GptOssForCausalLM(config).eval()
    module = model.model.layers[0].mlp.experts
    torch.nn.init.normal_(module.gate_up_proj)
    torch.nn.init.normal_(module.down_proj)
    before = module.gate_up_proj.detach().transpose(1, 2).clone()
    seen = []
    ids = torch.randint(0, 64, (1, 40))

    def look(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        seen.append((*args, *kwargs.values()))

    handle = module.register_forward_pre_hook(look, with_kwargs=True)
    with torch.no_grad():
        model(input_ids=ids)
    handle.remove()
    hidden, chosen = seen[0][0].reshape(-1, 32), seen[0][1]
    masks = prune_model(model, [{"input_ids": ids}], Wanda(), Unstructured(0.5))
    mask = masks["model.layers.0.mlp.experts.gate_up_proj"]
    assert mask.shape == (4, 48, 32)
    assert masks["model.layers.0.mlp.experts.down_proj"].shape == (4, 32, 24)
    assert torch.equal(module.gate_up_proj.transpose(1, 2) == 0, ~mask)
    for expert in range(4):
        tokens = hidden[(chosen == expert).any(-1)].double()
        score = before[expert].abs() * tokens.square().mean(0).float().sqrt()
        assert torch.equal(mask[expert], sorted_mask(score, 0.5))

"""What pruning sees: experts under whatever name and layout they are kept, and how much of the model that is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from slow_reference import sorted_mask
from tiny import HIDDEN, tiny_batches, tiny_model
from torch import Tensor, nn
from transformers import (
    CpmAntConfig,
    CpmAntForCausalLM,
    JetMoeConfig,
    JetMoeForCausalLM,
    LEDConfig,
    LEDForConditionalGeneration,
    Llama4ForCausalLM,
    Llama4TextConfig,
    PreTrainedModel,
)

from mlprune.errors import UserError
from mlprune.evaluation import score_candidate_ids
from mlprune.models.blocks import find_blocks
from mlprune.pruning import (
    Magnitude,
    NofM,
    Pruner,
    Unstructured,
    Wanda,
    apply_masks,
    collect_statistics,
    load_masks,
    prune_from_statistics,
    prune_model,
    prune_streaming,
)

EXPERTS, INNER = 4, 24
COMMON = {"vocab_size": 258, "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_key_value_heads": 2,
          "intermediate_size": 64, "num_local_experts": EXPERTS}  # fmt: skip


def jetmoe() -> PreTrainedModel:
    torch.manual_seed(0)
    return JetMoeForCausalLM(JetMoeConfig(**COMMON, kv_channels=8, num_experts_per_tok=2)).eval()


def llama4() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = COMMON | {"num_attention_heads": 4, "head_dim": 8, "intermediate_size_mlp": 64, "num_experts_per_tok": 1}
    model = Llama4ForCausalLM(Llama4TextConfig(**sizes, attention_chunk_size=64)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 3:
            nn.init.normal_(parameter, std=0.1)
    return model


class Mixture(nn.Module):
    """Experts written by hand, in one of several ways, with a router of no telling name."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first = nn.Parameter(torch.randn(EXPERTS, INNER, HIDDEN) / 6)
        self.second = nn.Parameter(torch.randn(EXPERTS, HIDDEN, INNER) / 5)
        if kind in ("matmul", "bmm"):  # stored inputs first
            self.first, self.second = (nn.Parameter(w.detach().mT.clone()) for w in (self.first, self.second))
        self.choose = nn.Linear(HIDDEN, EXPERTS, bias=False)
        self.seen: list[tuple[int, Tensor, Tensor]] = []  # expert, its inputs, and its inner activations

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        chosen = self.choose(flat).argmax(-1)
        out = getattr(self, self.kind)(flat, nn.functional.one_hot(chosen, EXPERTS).to(x.dtype))
        for expert in range(EXPERTS):
            own = flat[chosen == expert]
            up = self.first[expert] if self.kind in ("matmul", "bmm") else self.first[expert].T
            self.seen.append((expert, own, (own @ up).relu()))
        return out.view_as(x)

    def linear(self, x: Tensor, gates: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for expert, rows in enumerate(gates.bool().unbind(1)):
            inner = nn.functional.linear(x[rows], self.first[expert]).relu()
            out[rows] = nn.functional.linear(inner, self.second[expert])
        return out

    def matmul(self, x: Tensor, gates: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for expert, rows in enumerate(gates.bool().unbind(1)):
            out[rows] = (x[rows] @ self.first[expert]).relu() @ self.second[expert]
        return out

    def bmm(self, x: Tensor, gates: Tensor) -> Tensor:
        inner = torch.bmm(gates.T[:, :, None] * x, self.first).relu()
        return torch.bmm(inner, self.second).sum(0)

    def einsum(self, x: Tensor, gates: Tensor) -> Tensor:
        inner = torch.einsum("ent,eit->eni", gates.T[:, :, None] * x, self.first).relu()
        return torch.einsum("eni,eti->ent", inner, self.second).sum(0)


def by_hand(kind: str) -> PreTrainedModel:
    model = tiny_model("llama")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for block in model.model.layers:
            block.mlp = Mixture(kind)
    return model


class Hidden(nn.Module):
    """A feed-forward part whose two matrices are in one parameter that no rule finds."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.randn(2, 2, 32, 64) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.matrices.flatten(0, 1)[:2].unbind(0)
        return torch.einsum("btf,hf->bth", torch.einsum("bth,hf->btf", x, first).relu(), second)


def half_hidden() -> PreTrainedModel:
    model = tiny_model("llama")
    for block in model.model.layers:
        block.mlp = Hidden()
    return model


def expected_masks(weights: Tensor, inputs: dict[int, list[Tensor]], sparsity: float) -> Tensor:
    """Wanda's masks of experts, each on the tokens it was shown; all kept where it was shown none."""
    masks = []
    for expert, weight in enumerate(weights):
        x = torch.cat(inputs[expert]).double()
        score = weight.abs() * x.square().mean(0).float().sqrt()
        masks.append(sorted_mask(score, sparsity) if len(x) else torch.ones_like(score, dtype=torch.bool))
    return torch.stack(masks)


@pytest.mark.parametrize("kind", ["linear", "matmul", "bmm", "einsum"])
def test_experts_are_scored_on_their_own_inputs_however_they_are_computed(kind: str) -> None:
    model = by_hand(kind)
    batches = tiny_batches("llama", [20, 9])
    mixture = model.model.layers[0].mlp
    weights = [w.detach().clone() for w in (mixture.first, mixture.second)]
    if kind in ("matmul", "bmm"):
        weights = [w.mT for w in weights]
    for batch in batches:
        model(**{name: batch[name] for name in ("input_ids", "attention_mask")})
    shown: list[dict[int, list[Tensor]]] = [{e: [] for e in range(EXPERTS)} for _ in weights]
    for expert, *inputs in mixture.seen:
        for side, x in zip(shown, inputs, strict=True):
            side[expert].append(x.detach())
    masks = prune_model(model, batches, Wanda(), Unstructured(0.4), propagate="dense", exclude=["self_attn"])
    assert sorted(path for path in masks if "layers.0" in path) == [
        "model.layers.0.mlp.first",
        "model.layers.0.mlp.second",
    ]
    for name, weight, inputs in zip(("first", "second"), weights, shown, strict=True):
        mask = masks[f"model.layers.0.mlp.{name}"]
        wrong = mask != expected_masks(weight, inputs, 0.4)
        assert wrong.float().mean() <= 0.002, name  # the block before pruning ran in batches of other shapes
        stored = getattr(mixture, name)
        assert torch.equal((stored.mT if kind in ("matmul", "bmm") else stored) == 0, ~mask)


def test_experts_are_found_by_structure() -> None:
    masks = prune_model(jetmoe(), tiny_batches("llama", [20]))
    assert {path: tuple(mask.shape) for path, mask in masks.items() if path.startswith("model.layers.1.")} == {
        "model.layers.1.self_attention.kv_proj": (32, 32),
        "model.layers.1.self_attention.experts.input_linear.weight": (4, 16, 32),
        "model.layers.1.self_attention.experts.output_linear.weight": (4, 32, 16),
        "model.layers.1.mlp.input_linear.weight": (4, 128, 32),
        "model.layers.1.mlp.output_linear.weight": (4, 32, 64),
    }


def test_experts_multiplied_all_at_once_have_masks_outputs_first() -> None:
    model = llama4()
    experts = model.model.layers[0].feed_forward.experts
    up, shown = experts.gate_up_proj.detach().mT.clone(), []
    handle = experts.register_forward_pre_hook(lambda module, args: shown.append(args[0].view(EXPERTS, -1, HIDDEN)))
    batches = tiny_batches("llama", [20])
    model(input_ids=batches[0]["input_ids"])
    handle.remove()
    inputs = {expert: [x[(x != 0).any(-1)]] for expert, x in enumerate(shown[0])}
    masks = prune_model(model, batches, Wanda(), Unstructured(0.4), propagate="dense")
    assert "model.layers.0.feed_forward.router" not in masks
    assert masks["model.layers.0.feed_forward.experts.down_proj"].shape == (EXPERTS, HIDDEN, 64)
    assert torch.equal(masks["model.layers.0.feed_forward.experts.gate_up_proj"], expected_masks(up, inputs, 0.4))


def all_ways(model: Callable[[], PreTrainedModel], folder: Path, **options: Any) -> list[Callable[[], Any]]:
    """Every way to prune, in memory and streaming, at once and from statistics."""
    batches = tiny_batches("llama", [20, 9])
    model().save_pretrained(folder / "dense")

    def from_statistics() -> dict[str, Tensor]:
        statistics = collect_statistics(model(), batches, Pruner(**options))
        return prune_from_statistics(model(), statistics, Pruner(**options))

    def streaming() -> dict[str, Tensor]:
        path = folder / "masks.safetensors"
        prune_streaming(
            folder / "dense", folder / "out", batches, Pruner(**options), propagate="dense", masks_path=path
        )
        return load_masks(path)

    return [lambda: prune_model(model(), batches, propagate="dense", **options), from_statistics, streaming]


@pytest.mark.parametrize("model", [jetmoe, llama4])
def test_every_way_to_prune_gives_the_same_masks(model: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    first, *others = (way() for way in all_ways(model, tmp_path))
    for masks in others:
        assert masks.keys() == first.keys()
        assert all(torch.equal(mask, first[path]) for path, mask in masks.items())
    fresh = model()
    apply_masks(fresh, first)
    layers = {path: layer for block in find_blocks(fresh) for path, layer in block.layers.items()}
    assert all(not layers[path].matrix()[~mask].any() for path, mask in first.items())


def test_no_calibration_and_other_patterns_know_the_orientation() -> None:
    masks = prune_model(llama4(), importance=Magnitude(), pattern=NofM(2, 4))
    mask = masks["model.layers.0.feed_forward.experts.gate_up_proj"]
    assert mask.shape == (EXPERTS, 128, HIDDEN)
    assert (mask.unflatten(-1, (-1, 4)).sum(-1) == 2).all()


def test_a_model_of_which_less_than_half_is_seen_is_refused_before_anything_is_pruned() -> None:
    model = half_hidden()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    batches = tiny_batches("llama", [20])
    told = r"only 27% of the blocks' matrices can be scored; not seen: model.layers.0.mlp.matrices \(8192 weights\), .*"
    for way in (
        lambda: prune_model(model, batches),
        lambda: prune_model(model, importance=Magnitude()),
        lambda: collect_statistics(model, batches, Pruner()),
    ):
        with pytest.raises(UserError, match=told):
            way()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_layers_that_no_forward_runs_are_not_seen() -> None:
    model = tiny_model("llama")
    for block in model.model.layers:
        block.mlp.spare = nn.Linear(512, 512)
    with pytest.raises(UserError, match=r"only \d% of the blocks' matrices can be scored; not seen: .*mlp.spare"):
        prune_model(model, tiny_batches("llama", [20]))
    masks = prune_model(model, tiny_batches("llama", [20]), exclude=["spare"])
    assert len(masks) == 21


@pytest.mark.parametrize("options", [{"include": ["self_attn"]}, {"exclude": ["mlp"]}, {"exclude": ["matrices"]}])
def test_what_include_and_exclude_leave_out_need_not_be_seen(options: dict, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="mlprune"):
        masks = prune_model(half_hidden(), tiny_batches("llama", [20]), **options)
    assert all("self_attn" in path for path in masks)
    assert "scored 27.3% of the blocks' matrices" in caplog.text


def test_an_exclusion_that_leaves_the_unseen_in_does_not_help() -> None:
    with pytest.raises(UserError, match="of the blocks' matrices can be scored"):
        prune_model(half_hidden(), tiny_batches("llama", [20]), exclude=["q_proj"])


def test_experts_without_tokens_count_as_seen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="mlprune"):
        prune_model(jetmoe(), tiny_batches("llama", [1]))
    assert "no calibration token was routed to this expert; left dense" in caplog.text
    assert "scored 100.0% of the blocks' matrices" in caplog.text


def test_positions_that_a_model_adds_are_told_from_tokens() -> None:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}  # fmt: skip
    model = LEDForConditionalGeneration(LEDConfig(vocab_size=258, attention_window=8, **sizes)).eval()
    batches = tiny_batches("mt5", [9])
    with pytest.raises(UserError, match=r"its blocks see 32 positions for 31 tokens; .* set count_padding: true"):
        prune_model(model, batches)
    prune_model(model, batches, count_padding=True)


def test_a_model_that_looks_ahead_is_refused() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "dim_head": 8, "dim_ff": 64, "num_hidden_layers": 2}
    model = CpmAntForCausalLM(CpmAntConfig(vocab_size=258, prompt_length=4, prompt_types=3, **sizes)).eval()
    with pytest.raises(UserError, match="lets tokens attend to later ones"):
        score_candidate_ids(model, [[[5, 6, 7, 8], [5, 6, 7, 9]]])

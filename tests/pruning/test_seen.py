"""What pruning sees: experts under whatever name they are kept, and how much of the model that is."""

import pytest
import torch
from tiny import tiny_batches, tiny_model
from torch import nn
from transformers import CpmAntConfig, CpmAntForCausalLM, JetMoeConfig, JetMoeForCausalLM, PreTrainedModel

from mlprune.errors import UserError
from mlprune.evaluation import score_candidate_ids
from mlprune.pruning import prune_model

JETMOE = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "num_key_value_heads": 2, "kv_channels": 8,
          "intermediate_size": 64, "num_local_experts": 4, "num_experts_per_tok": 2}  # fmt: skip


class Hidden(nn.Module):
    """A feed-forward part whose two matrices are in one parameter that no rule finds."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.randn(2, 2, 32, 64) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.matrices.flatten(0, 1)[:2].unbind(0)
        return torch.einsum("btf,hf->bth", torch.einsum("bth,hf->btf", x, first).relu(), second)


def jetmoe() -> PreTrainedModel:
    torch.manual_seed(0)
    return JetMoeForCausalLM(JetMoeConfig(**JETMOE)).eval()


def half_hidden() -> PreTrainedModel:
    model = tiny_model("llama")
    for block in model.model.layers:
        block.mlp = Hidden()
    return model


def test_experts_are_found_by_structure() -> None:
    masks = prune_model(jetmoe(), tiny_batches("llama", [20]))
    assert {path: tuple(mask.shape) for path, mask in masks.items() if path.startswith("model.layers.1.")} == {
        "model.layers.1.self_attention.kv_proj": (32, 32),
        "model.layers.1.self_attention.experts.input_linear.weight": (4, 16, 32),
        "model.layers.1.self_attention.experts.output_linear.weight": (4, 32, 16),
        "model.layers.1.mlp.input_linear.weight": (4, 128, 32),
        "model.layers.1.mlp.output_linear.weight": (4, 32, 64),
    }


def test_a_model_of_which_less_than_half_is_seen_is_refused() -> None:
    told = r"only 27% of the blocks' matrices can be scored; not seen: model.layers.0.mlp.matrices \(8192 weights\), .*"
    with pytest.raises(UserError, match=told):
        prune_model(half_hidden(), tiny_batches("llama", [20]))


def test_a_model_that_looks_ahead_is_refused() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "dim_head": 8, "dim_ff": 64, "num_hidden_layers": 2}
    model = CpmAntForCausalLM(CpmAntConfig(vocab_size=258, prompt_length=4, prompt_types=3, **sizes)).eval()
    with pytest.raises(UserError, match="lets tokens see those after them"):
        score_candidate_ids(model, [[[5, 6, 7, 8], [5, 6, 7, 9]]])

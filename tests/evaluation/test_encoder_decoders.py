"""Encoder-decoder models of many kinds give what a plain forward gives, or are refused for the true reason."""

from typing import Any

import pytest
import torch
from tiny import tiny_tokenizer
from transformers import (
    NllbMoeConfig,
    NllbMoeForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
)
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig

from mlprune.evaluation import score_candidates

SPECIAL = {"vocab_size": 258, "pad_token_id": 0, "eos_token_id": 1}
T5 = SPECIAL | {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
GEMMA = {"vocab_size": 258, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
         "num_hidden_layers": 2, "intermediate_size": 64}  # fmt: skip
MOE = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
       "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_sparse_step": 1,
       "decoder_sparse_step": 1, "num_experts": 4, "bos_token_id": 1, "decoder_start_token_id": 1}  # fmt: skip


def t5(**start: int) -> PreTrainedModel:
    return T5ForConditionalGeneration(T5Config(**T5, **start))


def t5gemma(pad: int) -> PreTrainedModel:
    sides = {side: T5GemmaModuleConfig(**GEMMA, pad_token_id=pad) for side in ("encoder", "decoder")}
    return T5GemmaForConditionalGeneration(T5GemmaConfig(**sides, **SPECIAL | {"pad_token_id": pad, "bos_token_id": 2}))


def nllb_moe() -> PreTrainedModel:
    return NllbMoeForConditionalGeneration(NllbMoeConfig(**SPECIAL | MOE))


MODELS: dict[str, tuple[Any, int]] = {  # how to build it, and what its decoder starts from
    "t5": (lambda: t5(decoder_start_token_id=0), 0),
    "t5_by_default": (t5, 0),
    "t5gemma": (lambda: t5gemma(0), 2),
    "t5gemma_pad_5": (lambda: t5gemma(5), 2),
    "nllb_moe": (nllb_moe, 1),
}


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_a_plain_forward(name: str) -> None:
    make, start = MODELS[name]
    torch.manual_seed(0)
    model, tokenizer = make().eval(), tiny_tokenizer()
    found = score_candidates(model, tokenizer, [["Yes", "No way"]], ["Is it?"])
    context = tokenizer("Is it?")["input_ids"]
    for column, text in enumerate(["Yes", "No way"]):
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([context]),
                decoder_input_ids=torch.tensor([[start, *ids[:-1]]]),
                decoder_attention_mask=torch.ones(1, len(ids), dtype=torch.int64),  # the start token may be the pad's
            ).logits[0]
        expected = logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].mean()
        assert found[0, column] == pytest.approx(float(expected), abs=1e-5)

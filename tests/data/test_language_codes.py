"""Calibration of models that translate: the encoder reads the source language's code, the decoder the target's."""

from typing import Any

import pytest
from tiny import tiny_model
from tokenizer_kinds import TRANSLATING, mbart
from transformers import MBartTokenizer

from mlprune.data.demonstrations import TranslationDemonstrations
from mlprune.datamodule import PruningDataModule


def prompts_of(model, tokenizer, target: str = "sw") -> tuple[list[list[int]], list[list[int]], list[tuple[str, str]]]:
    demonstrations = {"mt": TranslationDemonstrations("fr", target, shots=2, separator=" ")}
    data = PruningDataModule(demonstrations, num_prompts=3, max_tokens=400)
    data.choose_prompts(tokenizer)
    encoder = data.prompts(model, tokenizer)["mt"]
    rows = [row for batch in data.calibration_batches(model, tokenizer) for row in zip(*unpadded(batch), strict=True)]
    decoders = {tuple(ids): decoder for ids, decoder in rows}
    return encoder, [decoders[tuple(ids)] for ids in encoder], [prompt.sides for prompt in data.chosen["mt"]]


def unpadded(batch: dict[str, Any]) -> list[list[list[int]]]:
    """The prompts of a batch: what the encoder reads, and what the decoder reads."""
    pairs = (("input_ids", "attention_mask"), ("decoder_input_ids", "decoder_attention_mask"))
    return [[row[mask == 1].tolist() for row, mask in zip(batch[ids], batch[name], strict=True)] for ids, name in pairs]


@pytest.mark.parametrize("name", TRANSLATING)
def test_prompts_are_in_their_languages(name: str) -> None:
    kind = TRANSLATING[name]
    tokenizer = kind.make()
    code = {name: tokenizer.convert_tokens_to_ids(name) for name in (*kind.lead, *kind.target_lead, "fra_Latn")}
    model = tiny_model("m2m100", vocab_size=len(tokenizer) + 120, decoder_start_token_id=2)
    for encoder, decoder, sides in zip(*prompts_of(model, tokenizer), strict=True):
        source, target = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in sides)
        behind = [2, code["fra_Latn"]] if name == "NLLB, legacy" else [2]
        assert encoder == [*(code[token] for token in kind.lead), *source, *behind]
        assert decoder == [2, *(code[token] for token in kind.target_lead), *target]


def test_mbart_starts_from_the_code() -> None:
    tokenizer = mbart(MBartTokenizer)
    code = tokenizer.lang_code_to_id
    model = tiny_model("m2m100", vocab_size=len(tokenizer), decoder_start_token_id=code["ro_RO"])
    encoders, decoders, sides = prompts_of(model, tokenizer, "es")
    source, target = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in sides[0])
    assert encoders[0] == [*source, 2, code["fr_XX"]]
    assert decoders[0] == [code["es_XX"], *target]

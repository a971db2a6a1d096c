"""What is no calibration batch is refused by one line, before the model is touched."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from mlprune.errors import UserError
from mlprune.pruning import Magnitude, Pruner, collect_statistics, prune_experts, prune_model, score_experts

IDS = torch.tensor([[3, 1, 4]])


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([IDS], "batches: number 1 is a Tensor; give dicts"),
        (["Il pleut."], "batches: number 1 is a str; give dicts"),
        ([{"input_ids": IDS}, [3, 1, 4]], "batches: number 2 is a list; give dicts"),
        ("Il pleut.", "batches is one str; give a list"),
        (IDS, "batches is one Tensor; give a list"),
        ({"input_ids": IDS}, "batches is one dict; give a list"),
        (3, "batches is one int; give a list"),
        ([{"ids": IDS}], "number 1 has no input_ids, only ids"),
        ([{"input_ids": [[3, 1, 4]]}], "number 1 has input_ids of type list"),
        ([{"input_ids": IDS.float()}], r"number 1 has input_ids float32 \(1, 3\)"),
        ([{"input_ids": IDS[0]}], r"number 1 has input_ids int64 \(3,\)"),
        ([{"input_ids": IDS, "attention_mask": IDS[:, :2]}], r"has an attention mask \(1, 2\) for input_ids \(1, 3\)"),
    ],
)
def test_what_is_no_batch_is_refused(batches: Any, words: str) -> None:
    model = tiny_model("llama")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(UserError, match=words) as error:
        prune_model(model, batches)
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize(
    ("family", "call"),
    [
        ("llama", prune_model),
        ("llama", lambda model, batches: collect_statistics(model, batches, Pruner())),
        ("mixtral", prune_experts),
        ("mixtral", score_experts),
    ],
    ids=["prune_model", "collect_statistics", "prune_experts", "score_experts"],
)
def test_everything_that_takes_batches_refuses_alike(family: str, call: Callable[..., Any]) -> None:
    model = tiny_model(family)
    ended = iter([{"input_ids": IDS}])
    list(ended)
    for batches, words in (
        (["Il pleut."], "number 1 is a str; give dicts"),
        ({"input_ids": IDS}, "batches is one dict"),
        (ended, "calibration batches; none were given"),
    ):
        with pytest.raises(UserError, match=words):
            call(model, batches)


@pytest.mark.parametrize(("family", "call"), [("llama", prune_model), ("mixtral", prune_experts)])
def test_padding_alone_is_refused(family: str, call: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="batches have no tokens: attention_mask is 0 everywhere"):
        call(tiny_model(family), [{"input_ids": IDS, "attention_mask": torch.zeros_like(IDS)}])


def test_what_a_tokenizer_gives_is_taken() -> None:
    texts = ["Il pleut.", "Il fait beau."]
    given = tiny_tokenizer()(texts, padding=True, return_tensors="pt")
    plain = {name: given[name] for name in ("input_ids", "attention_mask")}
    masks = [prune_model(tiny_model("llama"), (batch for batch in [one])) for one in (given, plain)]
    assert all(torch.equal(mask, masks[1][path]) for path, mask in masks[0].items())
    assert prune_model(tiny_model("llama"), [], importance=Magnitude())

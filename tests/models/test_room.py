"""Batch budgets by what is free on a device."""

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from mlprune.evaluation.generation import generate
from mlprune.evaluation.scoring import score_candidates
from mlprune.models import room
from mlprune.models.room import activation_bytes, byte_budget, free_memory, token_budget

TEXTS = [[f"Il pleut {'fort ' * (k % 5)}. It {answer}" for answer in ("is wet", "rains")] for k in range(12)]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The CPU in the place of an accelerator with so many free bytes."""
    found = {"bytes": 0.0}
    monkeypatch.setattr(room, "HOSTS", ())
    monkeypatch.setattr(room, "free_memory", lambda device: found["bytes"])
    return found


@pytest.mark.parametrize(
    ("gib", "tokens"), [(0.0, 256), (0.001, 256), (0.01, 512), (0.25, 1 << 14), (0.49, 1 << 14), (80, 1 << 16)]
)
def test_a_power_of_two_within_an_eighth_of_what_is_free(free: dict[str, float], gib: float, tokens: int) -> None:
    model = tiny_model("llama")  # 32 wide, attention 32 and 16, 64 in between: 1,920 bytes a token
    free["bytes"] = gib * 2**30
    assert activation_bytes(model) == 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert token_budget(model, 7) == tokens
    free["bytes"] = 2.0**40
    assert token_budget(model, 7) == tokens  # what ran before changes no batch


def test_a_cache_takes_no_more_than_its_limit(free: dict[str, float]) -> None:
    for own, expected in ((3 << 20, 1 << 18), (1 << 40, 1 << 31), (0, 1)):
        free["bytes"] = float(own)
        assert byte_budget(tiny_model("llama"), 7, 1 << 31) == expected


def test_figures_are_the_same_whatever_is_free(free: dict[str, float]) -> None:
    found = []
    for own in (0.0, 1e8, float("inf")):
        free["bytes"], model = own, tiny_model("llama")
        texts = [continued.text for continued in generate(model, tiny_tokenizer(), [a for a, _ in TEXTS], 3)]
        found.append((score_candidates(model, tiny_tokenizer(), TEXTS), texts))
    for scores, texts in found[1:]:
        torch.testing.assert_close(scores, found[0][0], rtol=0, atol=1e-5)
        assert texts == found[0][1]


def test_a_cpu_has_a_budget_of_its_own() -> None:
    assert token_budget(tiny_model("llama"), 7) == 7
    assert byte_budget(tiny_model("llama"), 7, 9) == 7


def test_memory_that_pytorch_keeps_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert free_memory(torch.device("cuda")) == 130

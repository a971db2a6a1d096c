"""A long text takes memory in proportion to its length: it is run in parts, and its scores are the same."""

from typing import Any

import pytest
import torch
from plain_scores import plain_scores
from tiny import tiny_model, tiny_tokenizer

from mlprune.evaluation import generate, prefixes, score_candidate_ids, score_candidates
from mlprune.evaluation.prefixes import prefix_tree
from mlprune.models.blocks import find_blocks

TEXT = "Long texts have many words, of which none is new. "
POSITIONS: dict[str, dict[str, int]] = {
    "llama": {"max_position_embeddings": 2048},
    "gemma3": {"max_position_embeddings": 2048},
    "gpt2": {"n_positions": 2048},
    "bloom": {},
}


@pytest.mark.parametrize("family", POSITIONS)
def test_attention_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    monkeypatch.setattr(prefixes, "MAX_SEGMENT", 64)
    model = tiny_model(family, **POSITIONS[family])
    score_candidates(model, tiny_tokenizer(), [["a b"]])  # probes the model
    tokens: list[int] = []

    def count(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        tokens.append(hidden.shape[0] * hidden.shape[1])

    find_blocks(model)[0].module.register_forward_pre_hook(count, with_kwargs=True)
    long = tiny_tokenizer()(TEXT * 6).input_ids
    ids = [[[*long, 70, 71], [*long, 72]]]
    scores = score_candidate_ids(model, ids)
    assert max(tokens) <= 2 * 64  # the ends of both candidates together
    assert sum(tokens) <= len(long) + 4  # each token once
    assert torch.allclose(scores, torch.tensor(plain_scores(model, ids)), atol=1e-4)
    (continuation,) = generate(model, tiny_tokenizer(), [TEXT * 6], max_new_tokens=9)
    assert continuation.text == _whole(model).strip()


def _whole(model: Any) -> str:
    ids = tiny_tokenizer()(TEXT * 6, return_tensors="pt").input_ids
    found = model.generate(ids, max_new_tokens=9, do_sample=False, attention_mask=torch.ones_like(ids))
    return tiny_tokenizer().decode(found[0, ids.shape[1] :], skip_special_tokens=True)


def test_parts_follow_one_another_unless_the_model_cannot_go_on() -> None:
    text = tuple(range(5000))
    levels, ends = prefix_tree([text, (*text[:3000], 7)])
    assert [[(node.start, node.end) for node in level] for level in levels] == [
        [(0, 2048)],
        [(2048, 3000)],
        [(3000, 3001), (3000, 5000)],
    ]
    assert [token for node in ends[text].path() for token in node.tokens] == list(text)
    levels, _ = prefix_tree([text], min_saved=None)
    assert [[node.end for node in level] for level in levels] == [[5000]]

"""Scores are those of a plain forward of every full text, whatever is shared, batched or padded on the way."""

import copy
import functools
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_scores import plain_log_probs, plain_scores
from tiny import VOCABULARY, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel, PreTrainedModel

from mlprune.errors import UserError
from mlprune.evaluation import forward, score_candidate_ids, score_candidates, targets
from mlprune.evaluation.forward import hidden_states
from mlprune.evaluation.model_kinds import causal
from mlprune.evaluation.shared import sharing_of

CAUSAL = {
    "xglm": ("xglm", {}),
    "gpt2": ("gpt2", {}),
    "bloom": ("bloom", {}),
    "llama": ("llama", {}),
    "mistral": ("mistral", {}),
    "qwen3": ("qwen3", {}),
    "gemma3, window 4": ("gemma3", {}),
    "gemma3, window 200": ("gemma3", {"sliding_window": 200}),
    "gemma3, window 30": ("gemma3", {"sliding_window": 30}),
    "gemma3, capped logits": ("gemma3", {"final_logit_softcapping": 0.5}),
    "opt": ("opt", {}),
    "gpt_neox": ("gpt_neox", {}),
    "mpt": ("mpt", {}),
    "mixtral": ("mixtral", {}),
}
TEXTS = [
    ["The sun is warm. It is good", "The sun is warm. It is very bad", "The sun is warm. No"],
    ["The sun is warm. So we walk by the river until noon", "The sun is warm. So?"],
    ["a", "another beginning", "one more of them, longer than the others by far", "x"],
    ["Il pleut, n'est-ce pas ? Oui", "Il pleut, n'est-ce pas ? Non"],
]


def random_ids(seed: int = 0) -> list[list[list[int]]]:
    """Examples that share long and short beginnings, within and between them, and some that share none."""
    generator = torch.Generator().manual_seed(seed)

    def some(count: int) -> list[int]:
        return torch.randint(2, VOCABULARY, (count,), generator=generator).tolist()

    premise, other = some(40), some(23)
    return [
        [premise + some(5), premise + some(9), premise + some(5)],
        [premise + some(12), premise + some(1)],
        [premise[:20] + some(7), some(30), some(2)],
        [other + some(3), other + some(3), other + some(3), other + some(3)],
        [some(2)],
        [premise, premise + some(4)],
    ]


def assert_close(scores: torch.Tensor, expected: list[list[float]]) -> None:
    for row, values in zip(scores, expected, strict=True):
        torch.testing.assert_close(row[: len(values)], torch.tensor(values), atol=1e-4, rtol=0)
        assert row[len(values) :].isnan().all()


@pytest.mark.parametrize("name", CAUSAL)
def test_equals_a_plain_forward(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "VOCABULARY_SLICE", 100)  # so that the tiny vocabulary takes three
    family, changes = CAUSAL[name]
    model, ids = tiny_model(family, **changes), random_ids()
    expected = plain_scores(model, ids)
    for batch_size in (None, 1, 3):
        assert_close(score_candidate_ids(model, ids, batch_size=batch_size), expected)


@pytest.mark.parametrize("name", ["xglm", "gpt2", "bloom", "llama", "qwen3", "gemma3, window 4", "mpt"])
def test_prefixes_are_shared(name: str) -> None:
    family, changes = CAUSAL[name]
    assert sharing_of(tiny_model(family, **changes)).min_saved is not None


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_order_of_examples_and_candidates_does_not_matter(family: str) -> None:
    model, ids = tiny_model(family), random_ids()
    expected = plain_scores(model, ids)
    assert_close(score_candidate_ids(model, ids[::-1]), expected[::-1])
    turned = score_candidate_ids(model, [example[::-1] for example in ids])
    assert_close(turned, [row[::-1] for row in expected])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["xglm", "bloom", "gemma3"])
def test_padding_side_does_not_matter(family: str, side: str) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.padding_side = side
    model = tiny_model(family)
    ids = [[tokenizer(text)["input_ids"] for text in example] for example in TEXTS[:2]]
    assert_close(score_candidates(model, tokenizer, TEXTS[:2]), plain_scores(model, ids))


@pytest.mark.parametrize("family", ["mt5", "m2m100"])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_encoder_decoder_equals_a_plain_forward(family: str, batch_size: int | None) -> None:
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    contexts = ["A question", "A much longer question than that", "x", "A question"]
    ids = [[tokenizer(text)["input_ids"] for text in example] for example in TEXTS]
    expected = plain_scores(model, ids, [tokenizer(context)["input_ids"] for context in contexts])
    assert_close(score_candidates(model, tokenizer, TEXTS, contexts, batch_size=batch_size), expected)


def test_values_of_the_published_code() -> None:
    folder = Path(__file__).parent.parent / "references" / "xglm"
    model = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    known = np.load(folder / "likelihood.npz")
    lengths = known["lengths"].tolist()
    ids = [
        [candidate[:length].tolist() for candidate, length in zip(example, row, strict=True)]
        for example, row in zip(known["ids"], lengths, strict=True)
    ]
    for normalization, expected in (
        ("sum", known["sum_logprob"]),
        ("paper", known["official_average"]),
        ("token", known["sum_logprob"] / (known["lengths"] - 1)),
    ):
        scores = score_candidate_ids(model, ids, normalization=normalization)
        np.testing.assert_allclose(scores.numpy(), expected, atol=1e-4 if normalization != "sum" else 2e-3, rtol=0)


def test_normalizations() -> None:
    model, ids = tiny_model("gpt2"), [[[5, 6, 7, 8], [5, 6, 9]]]
    sums = [sum(plain_log_probs(model, candidate)) for candidate in ids[0]]
    for normalization, divisors in (("sum", (1, 1)), ("token", (3, 2)), ("paper", (4, 3))):
        expected = [[total / divisor for total, divisor in zip(sums, divisors, strict=True)]]
        assert_close(score_candidate_ids(model, ids, normalization=normalization), expected)


def test_given_tokens_are_not_scored() -> None:
    model, ids = tiny_model("llama"), random_ids()
    given = [[max(len(candidate) - 2, 1) for candidate in example] for example in ids]
    expected = [
        [float(np.mean(plain_log_probs(model, c)[start - 1 :])) for c, start in zip(example, starts, strict=True)]
        for example, starts in zip(ids, given, strict=True)
    ]
    assert_close(score_candidate_ids(model, ids, given=given), expected)


@pytest.mark.parametrize("normalization", ["token", "sum", "paper"])
def test_ranking_only_keeps_the_ranking(normalization: str) -> None:
    model, ids = tiny_model("qwen3"), random_ids()
    full = score_candidate_ids(model, ids, normalization=normalization)
    ranked = score_candidate_ids(model, ids, normalization=normalization, ranking_only=True)
    assert torch.equal(full.nan_to_num(-1e9).argsort(), ranked.nan_to_num(-1e9).argsort())
    same_lengths = ranked[3] - full[3]  # four candidates that share 23 tokens: the shared part is left out
    assert same_lengths.max() - same_lengths.min() < 1e-4
    assert same_lengths.min() > 0.1


def test_small_memory_for_prefixes_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny_model("gemma3"), random_ids()
    expected = score_candidate_ids(model, ids)
    monkeypatch.setattr(causal, "TREE_CACHE_BYTES", 1)  # one example a chunk
    monkeypatch.setattr(targets, "HEAD_ROWS", 3)
    torch.testing.assert_close(score_candidate_ids(model, ids), expected, atol=1e-4, rtol=0, equal_nan=True)


def test_mode_and_settings_come_back() -> None:
    model = copy.deepcopy(tiny_model("llama")).train()
    score_candidate_ids(model, [[[5, 6, 7]]])
    assert model.training
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_bfloat16_is_summed_in_float32() -> None:
    model, ids = copy.deepcopy(tiny_model("llama")).to(torch.bfloat16), random_ids()
    expected = torch.tensor(plain_scores(model, ids[:1])[0])
    torch.testing.assert_close(score_candidate_ids(model, ids)[0, :3], expected, atol=5e-2, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gptj", "phi"])  # the last two have a bias
def test_the_head_of_a_narrow_model_works_in_float32(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family, dtype)
    model.get_output_embeddings().weight.data *= 8  # logits of some size, as those of trained models
    ids = list(range(5, 25))
    with torch.no_grad():
        hidden = hidden_states(model, {"input_ids": torch.tensor([ids[:-1]]), "use_cache": False})[0]
        head = model.get_output_embeddings()
        logits = hidden.double() @ head.weight.double().t()
        logits = logits if head.bias is None else logits + head.bias.double()
        rounded = head(hidden).double()
    rows, targets = torch.arange(len(ids) - 1), torch.tensor(ids[1:])
    expected = float(logits.log_softmax(-1)[rows, targets].sum())
    (found,) = score_candidate_ids(model, [[ids]], normalization="sum")[0].tolist()
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-4)
    assert found != pytest.approx(float(rounded.log_softmax(-1)[rows, targets].sum()), rel=1e-6, abs=1e-4)


def altered_after_its_head(family: str, change: Callable[[torch.Tensor], torch.Tensor]) -> PreTrainedModel:
    """A model that does something to its logits after its head."""
    model = copy.deepcopy(tiny_model(family))
    plain = model.forward

    def altered(*args: Any, **options: Any) -> Any:
        output = plain(*args, **options)
        output.logits = change(output.logits)
        return output

    model.forward = functools.update_wrapper(altered, plain)
    return model


WRITTEN = [["It is good", "It is bad"], ["Yes", "No it is"]]
RARE = list(range(VOCABULARY - 8, VOCABULARY))


@pytest.mark.parametrize("low", [float("-inf"), torch.finfo(torch.float32).min, -1e9, -1e4])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_tokens_that_a_bias_bars_change_nothing_else(low: float, scale: float) -> None:
    model = altered_after_its_head("phi", lambda logits: logits * scale)
    model.lm_head.bias.data[RARE] = low
    assert torch.allclose(
        score_candidates(model, tiny_tokenizer(), WRITTEN),
        torch.tensor(plain_scores(model, [tiny_tokenizer()(texts)["input_ids"] for texts in WRITTEN])),
        atol=1e-5,
    )
    with (
        pytest.raises(UserError, match=r"candidate 0 is not finite \(-inf\)") if low == float("-inf") else nullcontext()
    ):
        score_candidate_ids(model, [[[5, RARE[0]]]])


def barred(logits: torch.Tensor, low: float) -> torch.Tensor:
    logits[..., RARE] = low
    return logits


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: barred(logits, float("-inf")),
        lambda logits: barred(logits, -1e9),
        lambda logits: logits**3,
        lambda logits: logits + torch.linspace(-1, 1, VOCABULARY),
    ],
    ids=["-Inf", "-1e9", "cube", "offset"],
)
def test_a_model_that_changes_its_logits_after_its_head_is_refused(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    with pytest.raises(UserError, match="logits are not its head's output"):
        score_candidates(altered_after_its_head("llama", change), tiny_tokenizer(), WRITTEN)


def test_no_examples() -> None:
    assert score_candidate_ids(tiny_model("gpt2"), []).shape == (0, 0)


def test_too_long() -> None:
    model = tiny_model("gpt2", n_positions=16)
    ids = [[[5] * 10, [6] * 17], [[7] * 4]]
    with pytest.raises(UserError, match=r"example 0 has 17 tokens; the model takes 16; .*too_long: truncate"):
        score_candidate_ids(model, ids)
    scores = score_candidate_ids(model, ids, too_long="truncate")
    assert_close(scores, plain_scores(model, [[[5] * 9, [6] * 16], [[7] * 4]]))


def test_truncation_is_told(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("gpt2", n_positions=16)
    score_candidate_ids(model, [[[5] * 10, [6] * 18], [[7] * 4], [[8] * 17]], too_long="truncate")
    assert "2 of 3 examples were too long for the model: up to 2 tokens cut" in caplog.text


def test_longrope_ends_where_positions_begin_to_depend_on_the_batch() -> None:
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0}
    model = tiny_model("llama", rope_parameters=rope | {"original_max_position_embeddings": 40})
    ids = [[[5, 6] * 20, [5] * 3], [[7] * 4]]
    assert_close(score_candidate_ids(model, ids), plain_scores(model, ids))
    with pytest.raises(UserError, match="example 0 has 41 tokens; the model takes 40"):
        score_candidate_ids(model, [[[5] * 41]])


def test_a_model_that_looks_ahead_is_refused() -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = BertConfig(vocab_size=VOCABULARY, initializer_range=1.0, **sizes)
    torch.manual_seed(0)
    with pytest.raises(UserError, match="BertLMHeadModel lets tokens attend to later ones"):
        score_candidate_ids(BertLMHeadModel(config).eval(), [[[5, 6, 7]]])


def test_no_limit_without_position_table() -> None:
    assert score_candidate_ids(tiny_model("bloom"), [[[5] * 700]]).isfinite().all()


def test_mistakes() -> None:
    causal, encoder_decoder, tokenizer = tiny_model("gpt2"), tiny_model("mt5"), tiny_tokenizer()
    with pytest.raises(UserError, match="contexts are for encoder-decoder models"):
        score_candidates(causal, tokenizer, [["a text"]], contexts=["a context"])
    with pytest.raises(UserError, match="give contexts for its encoder"):
        score_candidates(encoder_decoder, tokenizer, [["a text"]])
    with pytest.raises(UserError, match="normalization 'mean' is not allowed; give one of token, sum, paper"):
        score_candidates(causal, tokenizer, [["a text"]], normalization="mean")
    with pytest.raises(UserError, match="example 0, candidate 1: 0 tokens leave none to score"):
        score_candidates(causal, tokenizer, [["a text", ""]])
    with pytest.raises(UserError, match="candidates are texts; give a list of texts for each example"):
        score_candidates(causal, tokenizer, ["Yes", "No"])
    with pytest.raises(UserError, match="2 contexts for 1 examples; give one for each"):
        score_candidates(encoder_decoder, tokenizer, [["a text"]], contexts=["one", "another"])
    with pytest.raises(UserError, match="example 0: its context has no tokens"):
        score_candidates(encoder_decoder, tokenizer, [["a text"]], contexts=[""])
    with pytest.raises(UserError, match="batch_size 0 is not allowed; give at least 1"):
        score_candidates(causal, tokenizer, [["a text"]], batch_size=0)
    with pytest.raises(UserError, match=f"token 999 is not in the model's vocabulary of {VOCABULARY}"):
        score_candidate_ids(causal, [[[5, 999]]])
    with pytest.raises(UserError, match="too_long 'cut' is not allowed; give error or truncate"):
        score_candidates(causal, tokenizer, [["a text"]], too_long="cut")


def test_sums_of_exponentials_are_those_of_torch_to_the_bit() -> None:
    logits = 30 * torch.randn(40, 700, generator=torch.Generator().manual_seed(0))
    logits[1], logits[2, 5], logits[3, :600], logits[4, 7] = -torch.inf, torch.inf, -torch.inf, torch.nan
    expected = logits.logsumexp(-1)
    assert forward._log_sum_exp(logits).numpy().tobytes() == expected.numpy().tobytes()

"""The model ``mlprune`` of lm-evaluation-harness answers as its own ``hf`` does."""

from typing import Any

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError

pytest.importorskip("lm_eval", reason='needs the extra "interop": pip install "mlprune[interop]"')

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
FAMILIES = ("llama", "gemma3", "bloom", "xglm", "mt5")
PAIRS = [
    ("The river is", " wide"),
    ("The river is", " wider than the other one"),
    ("The river is ", "wide"),  # the blank moves to what follows
    ("", "An empty context"),
    ("", "x"),
    ("word " * 80, "too long for the model"),
    ("Il pleut \n ", "ici"),
]


def requests(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [
        Instance(kind, {}, own, 0, metadata=("task", i, 1))  # type: ignore[arg-type]
        for i, own in enumerate(arguments)
    ]


def both(family: str, **options: Any) -> tuple[Any, Any]:
    from lm_eval.models.huggingface import HFLM

    from mlprune.evaluation.harness.model import HarnessModel

    model, tokenizer = tiny_model(family), tokenizer_with_start() if options else tiny_tokenizer()
    ours = HarnessModel(model, tokenizer, **options)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, softmax_dtype="float64", **options), ours


def tokenizer_with_start() -> PreTrainedTokenizerBase:
    """The tiny tokenizer with a beginning token, which it puts before texts if told so."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    core = tiny_tokenizer().backend_tokenizer
    copy = type(core).from_str(core.to_str())
    copy.no_padding()  # else its padding token is remembered
    copy.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=copy, bos_token="</s>", eos_token="</s>", unk_token="<pad>")


@pytest.mark.parametrize("family", FAMILIES)
def test_log_likelihoods(family: str) -> None:
    theirs, ours = both(family)
    pairs = PAIRS if family != "mt5" else [pair for pair in PAIRS if pair[0]]
    asked = requests("loglikelihood", pairs)
    expected, found = (lm.loglikelihood(asked, disable_tqdm=True) for lm in (theirs, ours))
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


@pytest.mark.parametrize("start", [True, False])
def test_log_likelihoods_with_and_without_a_beginning_token(start: bool) -> None:
    theirs, ours = both("llama", add_bos_token=start)
    asked = requests("loglikelihood", [*PAIRS, ("</s>The river", " is")])
    expected, found = (lm.loglikelihood(asked, disable_tqdm=True) for lm in (theirs, ours))
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)


def test_what_greedy_search_writes_is_greedy() -> None:
    theirs, ours = both("llama")
    (text,) = ours.generate_until(requests("generate_until", [("The river is", {"until": [], "max_gen_toks": 1})]))
    asked = requests("loglikelihood", [("The river is", text), ("The river is", "~" if text != "~" else "!")])
    for lm in (theirs, ours):
        assert [greedy for _, greedy in lm.loglikelihood(asked, disable_tqdm=True)] == [True, False]


@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom"])
def test_rolling_log_likelihoods(family: str) -> None:
    theirs, ours = both(family)
    asked = requests("loglikelihood_rolling", [("One short text.",), ("A text of many windows. " * 30,)])
    expected, found = (lm.loglikelihood_rolling(asked, disable_tqdm=True) for lm in (theirs, ours))
    assert found == pytest.approx(expected, abs=1e-3)  # sums over 720 tokens


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("until", [["\n"], [" ", "e"], []])
def test_generation(family: str, until: list[str]) -> None:
    theirs, ours = both(family)
    arguments = [(text, {"until": until, "max_gen_toks": 12, "do_sample": False}) for text, _ in PAIRS if text]
    expected, found = (
        [lm.generate_until(requests("generate_until", [own]), disable_tqdm=True)[0] for own in arguments]
        for lm in (theirs, ours)
    )
    if family == "mt5":  # to whose max_gen_toks the harness adds the length of what the encoder reads
        expected = [text if other.startswith(text) else "" for text, other in zip(found, expected, strict=True)]
    assert found == expected
    assert ours.generate_until(requests("generate_until", arguments), disable_tqdm=True) == expected


def test_the_tokenizer_is_left_as_it_was() -> None:
    from mlprune.evaluation.harness.model import HarnessModel

    tokenizer = tokenizer_with_start()
    assert tokenizer.pad_token is None
    ours = HarnessModel(tiny_model("llama"), tokenizer)
    ours.generate_until(requests("generate_until", [("a", {"until": ["b"], "max_gen_toks": 2})] * 2), disable_tqdm=True)
    assert tokenizer.pad_token is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"do_sample": True, "temperature": 0.7}, "do_sample True is not allowed"),
        ({"repetition_penalty": 1.2}, "repetition_penalty cannot be had"),
    ],
)
def test_what_is_not_plain_search_is_refused(options: dict[str, Any], words: str) -> None:
    _, ours = both("llama")
    asked = requests("generate_until", [("a", {"until": ["b"], "max_gen_toks": 2, **options})])
    with pytest.raises(UserError, match=words):
        ours.generate_until(asked, disable_tqdm=True)


def test_options_that_do_nothing_are_refused() -> None:
    from mlprune.evaluation.harness.model import HarnessModel

    with pytest.raises(UserError, match=r"model_args: parallelize is not allowed with --model mlprune"):
        HarnessModel(tiny_model("llama"), tiny_tokenizer(), parallelize=True)


def test_it_is_registered() -> None:
    from lm_eval.api.registry import get_model

    from mlprune.evaluation.harness.model import HarnessModel

    assert get_model("mlprune") is HarnessModel


def test_texts_without_tokens_are_refused() -> None:
    _, ours = both("llama")
    with pytest.raises(UserError, match="what follows a context has no tokens"):
        ours.loglikelihood(requests("loglikelihood", [("a", "")]), disable_tqdm=True)
    assert torch.is_grad_enabled()

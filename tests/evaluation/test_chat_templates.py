"""Chat templates: options reach them, figures do not depend on the day, and a template that fails is one line."""

from copy import deepcopy

import pytest
from tiny import tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation import chat
from mlprune.evaluation.encoding import chat_prompt
from mlprune.evaluation.tasks import CandidateTask, TranslationTask, Xnli

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
THINKS = (
    TURNS
    + "{% if add_generation_prompt %}<assistant>"
    + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)


def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def test_options_reach_the_template() -> None:
    task = TranslationTask(
        ["fr"], limit=2, shots=1, chat_template=True, chat_template_options={"enable_thinking": False}
    )
    (prompt,) = task.prompts(tokenizer_with(THINKS), "fr", ["Il pleut."])
    assert prompt.endswith("<assistant><think></think>")


@pytest.mark.parametrize("cls", [CandidateTask, Xnli, TranslationTask])
def test_options_without_a_chat_template_are_refused(cls: type) -> None:
    given = {CandidateTask: ("nli", ["fr"], Bundled("nli"), "xnli"), Xnli: (["fr"],), TranslationTask: (["fr"],)}
    with pytest.raises(UserError, match=r"chat_template_options .* chat_template: true"):
        cls(*given[cls], chat_template_options={"enable_thinking": False})


@pytest.mark.xfail(strict=True, reason="the option is passed to the tokenizer, which ignores it")
def test_template_options_among_the_tokenizers_are_refused(mlprune, tiny_folder) -> None:
    status, _, err = mlprune(
        "validate", "--model.name", tiny_folder, "--model.tokenizer_options", '{"enable_thinking": false}'
    )
    assert status != 0
    assert "tokenizer_options.enable_thinking" in err
    assert "chat_template_options" in err


def test_the_date_is_fixed() -> None:
    tokenizer = tokenizer_with("Today: {{ strftime_now('%d %b %Y') }} " + TURNS)
    assert chat_prompt(tokenizer, [], "2 + 2?") == "Today: 01 Jan 2025 <user>2 + 2?"


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}" + TURNS,
        "{% for m in messages %}{{ m.role }",
        "{{ messages.nothing.here }}",
        "{{ 1 / 0 }}",
        "{{ messages.append(1) }}" + "{{ ''.__class__.__mro__ }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10 ** 12 }}",
    ],
    ids=["raises", "syntax", "undefined", "division", "unsafe", "long text", "no end", "memory"],
)
def test_a_template_that_fails_is_one_line(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "TIMEOUT_S", 1.0)
    with pytest.raises(UserError, match="chat template") as error:
        chat_prompt(tokenizer_with(template), [], "2 + 2?")
    assert "\n" not in str(error.value)

"""Chat templates: options reach them, figures do not depend on the day, and a template that fails is one line."""

import random
import resource
import sys
from copy import deepcopy
from datetime import date
from pathlib import Path

import pytest
from tiny import save_tiny, tiny_model, tiny_tokenizer
from tiny_runs import write_config
from transformers import PreTrainedTokenizerFast

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation import chat_template
from mlprune.evaluation.chat import Chat
from mlprune.evaluation.tasks import CandidateTask, TranslationTask, Xnli
from mlprune.models.loading import ModelSource

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


def test_template_options_among_the_tokenizers_are_refused(mlprune, tiny_folder) -> None:
    status, _, err = mlprune(
        "validate", "--model.name", tiny_folder, "--model.tokenizer_options", '{"enable_thinking": false}'
    )
    assert status != 0
    assert "tokenizer_options.enable_thinking" in err
    assert "chat_template_options" in err


def test_the_date_is_fixed() -> None:
    tokenizer = tokenizer_with("Today: {{ strftime_now('%d %b %Y') }} " + TURNS)
    assert Chat(True).prompt(tokenizer, [], "2 + 2?") == "Today: 01 Jan 2025 <user>2 + 2?"


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
    monkeypatch.setattr(chat_template, "TIMEOUT_S", 1.0)
    with pytest.raises(UserError, match="chat template") as error:
        Chat(True).prompt(tokenizer_with(template), [], "2 + 2?")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["2024-02-30", "today", 5])
def test_the_date_must_be_a_day(value: object) -> None:
    with pytest.raises(
        UserError, match=f"chat_template_options.date '{value}' is not allowed; give a date such as 2025"
    ):
        TranslationTask(["fr"], chat_template=True, chat_template_options={"date": value})


@pytest.mark.parametrize("value", ["2026-03-09", date(2026, 3, 9)])  # as YAML reads it without quotes
def test_another_date(value: object) -> None:
    tokenizer = tokenizer_with("{{ strftime_now('%A %d %B %Y') }}, {{ date is defined }}{{ messages[0].content }}")
    assert Chat(True, {"date": value}).prompt(tokenizer, [], "?") == "Monday 09 March 2026, False?"
    assert Chat(True).prompt(tokenizer, [], "?") == "Wednesday 01 January 2025, False?"


def test_chance_in_a_template_is_the_same_each_time() -> None:
    tokenizer = tokenizer_with("{{ range(10**4) | random }} {{ lipsum(1) }}" + TURNS)
    state = random.getstate()
    assert Chat(True).prompt(tokenizer, [], "?") == Chat(True).prompt(tokenizer, [], "?")
    assert random.getstate() == state


@pytest.mark.parametrize("name", ["enable_thinkin", "bos", "max_length", "padding", "return_dict", "self"])
def test_options_that_the_template_does_not_read_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"chat_template_options.{name} has no effect"):
        Chat(True, {name: False}).prompt(tokenizer_with(THINKS), [], "?")


PARTS = (
    "{% for m in messages %}{{ m.role }}: "
    "{% for part in m.content | selectattr('type', 'equalto', 'text') %}{{ part.text }} {% endfor %}{% endfor %}"
)


def test_a_template_that_reads_parts_of_messages_is_given_parts() -> None:
    """As in multimodal models; they render nothing for plain text, which would lose the question."""
    assert (
        Chat(True).prompt(tokenizer_with(PARTS), [("1 + 1?", "2")], "2 + 2?")
        == "user: 1 + 1? assistant: 2 user: 2 + 2? "
    )


@pytest.mark.parametrize(
    ("template", "lost"),
    [
        ("{{ messages[-1].content }}", r"1 \+ 1\?"),
        ("{{ messages[0].content }}{{ messages[1].content }}", r"2 \+ 2\?"),
        ("{% for m in messages %}{{ m.text }}{% endfor %}", r"1 \+ 1\?"),
        ("{% for m in messages %}{{ m.content[:3] }}{% endfor %}", r"1 \+ 1\?"),
    ],
    ids=["no solved examples", "no question", "another key", "cut"],
)
def test_a_template_that_leaves_out_what_is_asked_is_refused(template: str, lost: str) -> None:
    with pytest.raises(UserError, match=f"chat template omits the prompt's '{lost}'"):
        Chat(True).prompt(tokenizer_with(template), [("1 + 1?", "2")], "2 + 2?")


def test_what_the_task_decides_is_no_option() -> None:
    with pytest.raises(UserError, match=r"chat_template_options.add_generation_prompt is not allowed"):
        TranslationTask(["fr"], chat_template=True, chat_template_options={"add_generation_prompt": False})


def test_limits_end_with_the_rendering() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS), sys.gettrace()
    Chat(True).prompt(tokenizer_with(TURNS), [], "?")
    with pytest.raises(UserError, match="takes more than 1 GiB"):
        Chat(True).prompt(tokenizer_with("{{ 'x' * 10 ** 10 }}"), [], "?")
    assert (resource.getrlimit(resource.RLIMIT_AS), sys.gettrace()) == before


def test_a_template_is_tried_before_any_weights_are_loaded(mlprune, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    tiny_model("llama").config.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").touch()  # no weights: loading them would fail otherwise
    tokenizer_with("{{ raise_exception('no chat today') }}").save_pretrained(tmp_path / "model")
    init = {"languages": ["fr"], "limit": 2, "shots": 1, "chat_template": True}
    tasks = [{"class_path": "mlprune.evaluation.tasks.TranslationTask", "init_args": init}]
    config = write_config(tmp_path, tmp_path / "model", data={"tasks": tasks})
    status, _, err = mlprune("test", "--config", config)
    assert status != 0
    assert err.strip().endswith(
        "error: task 'translation', language 'fr': the tokenizer's chat template fails: no chat today"
    )


OPTIONS_THAT_DO_NOTHING = {"padding_sid": "left", "use_fast": False, "add_eos": True, "mood": "calm"}


@pytest.mark.parametrize("name", OPTIONS_THAT_DO_NOTHING)
def test_tokenizer_options_that_do_nothing_are_refused(tmp_path: Path, name: str) -> None:
    save_tiny(tmp_path)
    with pytest.raises(UserError, match=rf"model.tokenizer_options.{name} does nothing to \w+"):
        ModelSource(str(tmp_path), tokenizer_options={name: OPTIONS_THAT_DO_NOTHING[name]}).load_tokenizer()


def test_variables_of_the_template_are_found_by_name(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    tokenizer_with(TURNS + "{{ mood }}").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"tokenizer_options.mood is for a chat template.*chat_template_options"):
        ModelSource(str(tmp_path), tokenizer_options={"mood": "calm"}).load_tokenizer()


def test_tokenizer_options_that_work(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    options = {"add_eos_token": True, "padding_side": "left", "model_max_length": 99, "eos_token": "<pad>"}
    tokenizer = ModelSource(str(tmp_path), tokenizer_options=options).load_tokenizer()
    assert tokenizer("a")["input_ids"][-1] == tokenizer.convert_tokens_to_ids("<pad>")

"""Continuations are those of plain ``generate`` on the full prompts, and every end has a reason."""

import copy

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.evaluation import generate
from mlprune.evaluation.generation import Continuation
from mlprune.evaluation.stopping import cut_at

SHOTS = "French: Le chat dort.\nEnglish: The cat sleeps.\nFrench: Il pleut.\nEnglish: It rains.\n"
PROMPTS = [
    f"{SHOTS}French: {source}\nEnglish:" for source in ("Le soleil", "Une maison rouge", "Oui", "Une maison bleue")
]
NEVER = ("\N{SNOWMAN}\N{SNOWMAN}\N{SNOWMAN}",)


def plain(model: PreTrainedModel, prompt: str, max_new_tokens: int, num_beams: int) -> list[int]:
    """One full prompt, no padding, no cache from elsewhere."""
    tokenizer = tiny_tokenizer()
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        pad_token_id=0,
    )
    return output[0, 1 if model.config.is_encoder_decoder else ids.shape[1] :].tolist()


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("family", ["xglm", "gpt2", "bloom", "llama", "gemma3", "qwen3", "mt5", "mixtral"])
def test_is_plain_generate(family: str, num_beams: int) -> None:
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    found = generate(model, tokenizer, PROMPTS, 12, NEVER, num_beams)
    for prompt, continuation in zip(PROMPTS, found, strict=True):
        expected = tokenizer.decode(plain(model, prompt, 12, num_beams), skip_special_tokens=True)
        assert continuation.text == expected.strip()


@pytest.mark.parametrize("family", ["llama", "mt5"])
def test_order_and_number_of_prompts_do_not_matter(family: str) -> None:
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    together = generate(model, tokenizer, PROMPTS, 8, NEVER)
    assert generate(model, tokenizer, PROMPTS[::-1], 8, NEVER) == together[::-1]
    assert [generate(model, tokenizer, [prompt], 8, NEVER)[0] for prompt in PROMPTS] == together


class Scripted:
    """Makes a model generate given texts, whatever the prompt."""

    def __init__(self, model: PreTrainedModel, texts: list[str], prompts: list[str]) -> None:
        self.tokenizer = tiny_tokenizer()
        lengths = [len(self.tokenizer(prompt)["input_ids"]) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: (-lengths[i], i))  # the longest prompt comes first
        self.scripts = [self.tokenizer(texts[i])["input_ids"] for i in order]
        self.step = 0
        self.handle = model.get_output_embeddings().register_forward_hook(self.write)

    def write(self, module: torch.nn.Module, args: tuple, logits: torch.Tensor) -> torch.Tensor:
        if len(logits) == len(self.scripts):
            for row, script in enumerate(self.scripts):
                logits[row, -1] = 0
                logits[row, -1, (script + [self.tokenizer.eos_token_id] * 99)[self.step]] = 100
            self.step += 1
        return logits


TEXTS = {
    " A house.\nFrench: more": ("A house.", "\n"),
    "\n\n A house\nmore": ("A house", "\n"),
    " A house. French: more": ("A house.", "French:"),
    " A house": ("A house", "end"),
    " A very long house that does not end": ("A very long house that does no", "length"),
    "": ("", "end"),
}


def test_every_end_has_its_reason() -> None:
    model, tokenizer = copy.deepcopy(tiny_model("llama")), tiny_tokenizer()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    prompts = [PROMPTS[0]] * len(TEXTS)
    generate(model, tokenizer, prompts[:1], 1)  # what is found out about a model is found out before it is scripted
    Scripted(model, list(TEXTS), prompts)
    found = generate(model, tokenizer, prompts, 31, ("\n", "French:", "English:"))
    assert [(one.text, one.stopped) for one in found] == list(TEXTS.values())


@pytest.mark.parametrize("ends", [None, 37, [37, 38]])
def test_the_tokenizers_end_token_ends_whatever_the_generation_config_says(ends: object) -> None:
    """A chat model's turn ends with the tokenizer's, which a base model's generation_config does not have."""
    model, tokenizer = copy.deepcopy(tiny_model("llama")), tiny_tokenizer()
    model.generation_config.eos_token_id = ends
    generate(model, tokenizer, PROMPTS[:1], 1)
    Scripted(model, [" A house.</s>user Hello"], PROMPTS[:1])
    assert generate(model, tokenizer, PROMPTS[:1], 30) == [Continuation("A house.", "end")]
    assert model.generation_config.eos_token_id == ends


def test_generation_ends_early() -> None:
    model, tokenizer = copy.deepcopy(tiny_model("llama")), tiny_tokenizer()
    generate(model, tokenizer, PROMPTS[:1], 1)
    scripted = Scripted(model, ["ab\ncd", "a\nb"], PROMPTS[:2])
    generate(model, tokenizer, PROMPTS[:2], 60)
    assert scripted.step <= 4


def test_cut_at_the_first_stop() -> None:
    assert cut_at("One English: two\n", ["\n", "English:"]) == ("One", "English:")


def test_too_long() -> None:
    with pytest.raises(
        UserError, match=r"example 0: its prompt has \d+ tokens and may grow by 200; the model takes 256"
    ):
        generate(tiny_model("gpt2"), tiny_tokenizer(), PROMPTS, 200)


def test_no_prompts() -> None:
    assert generate(tiny_model("gpt2"), tiny_tokenizer(), []) == []


# -- a checkpoint's generation_config -------------------------------------------------------------------------------

ADDED = {
    "repetition_penalty": 1.5,
    "no_repeat_ngram_size": 2,
    "encoder_repetition_penalty": 1.5,
    "encoder_no_repeat_ngram_size": 2,
    "min_new_tokens": 1,
    "exponential_decay_length_penalty": (1, 1.5),
    "sequence_bias": [[[70], 5.0]],
    "guidance_scale": 1.5,
    "max_time": 1e-9,
    "stop_strings": ["e"],
    "num_return_sequences": 2,
}


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", ADDED)
@pytest.mark.parametrize("family", ["llama", "mt5"])
def test_search_is_plain_whatever_the_checkpoint_adds(
    family: str, name: str, num_beams: int, caplog: pytest.LogCaptureFixture
) -> None:
    model, tokenizer = copy.deepcopy(tiny_model(family)), tiny_tokenizer()
    expected = generate(model, tokenizer, PROMPTS, 12, NEVER, num_beams)
    setattr(model.generation_config, name, ADDED[name])
    for _ in range(2):
        assert generate(model, tokenizer, PROMPTS, 12, NEVER, num_beams) == expected
    assert getattr(model.generation_config, name) == ADDED[name]  # it is saved with the checkpoint
    assert caplog.text.count(name) == 1


@pytest.mark.parametrize("name", ["suppress_tokens", "begin_suppress_tokens", "bad_words_ids"])
def test_tokens_that_a_checkpoint_never_writes_stay_unwritten(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = copy.deepcopy(tiny_model("llama")), tiny_tokenizer()
    first = plain(model, PROMPTS[0], 1, 1)[0]
    setattr(model.generation_config, name, [[first]] if name == "bad_words_ids" else [first])
    (found,) = generate(model, tokenizer, PROMPTS[:1], 1, NEVER)
    assert found.text == tokenizer.decode(plain(model, PROMPTS[0], 1, 1)).strip()
    assert found.text != tokenizer.decode([first]).strip()
    assert f"{name} {[[first]] if name == 'bad_words_ids' else [first]}" in caplog.text


def test_sampling_settings_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = copy.deepcopy(tiny_model("llama")), tiny_tokenizer()
    expected = generate(model, tokenizer, PROMPTS, 6, NEVER)
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.9, top_k=20)
    assert generate(model, tokenizer, PROMPTS, 6, NEVER) == expected
    assert not caplog.text


def test_settings_that_do_nothing_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    model = copy.deepcopy(tiny_model("llama"))
    nothing = {"repetition_penalty": 1.0, "diversity_penalty": 0.0, "num_beam_groups": 1, "min_length": 0}
    model.generation_config.update(**nothing, no_repeat_ngram_size=0, remove_invalid_values=False)
    generate(model, tiny_tokenizer(), PROMPTS[:1], 1, NEVER)
    assert not caplog.text

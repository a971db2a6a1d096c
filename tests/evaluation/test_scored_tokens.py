"""What is scored, token by token: a plain forward of what a person would write for each kind of tokenizer.

Expected ids are those of the text without special tokens, after the kind's leading ones, without the code under test.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from plain_scores import plain_log_probs
from tiny import tiny_model
from tokenizer_kinds import CAUSAL, TRANSLATING, Kind, mbart
from transformers import MBartTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.corpora import Bundled, LocalFiles
from mlprune.errors import UserError
from mlprune.evaluation import generate, score_candidates
from mlprune.evaluation.tasks import CandidateTask, PerplexityTask, TranslationTask, XStoryCloze

TEXTS = ["Is it raining? Yes.", "Il pleut à Genève", "y", "它 是 红 的。", "Line one\nline two", "  two blanks "]
STORIES = [  # the last of the four sentences, and the two endings: of several tokens, of one, in another script
    ("The children ran home.", "They were wet.", "They were dry!"),
    ("The right letter is:", "B", "C"),
    ("雨 下 了。", "我们 回家。", "我们 出去。"),
]


@cache
def tokenizer_and_model(name: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    tokenizer = (CAUSAL | TRANSLATING)[name].make()
    return tokenizer, tiny_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512)


def own_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The text's tokens and no others."""
    if hasattr(tokenizer, "_tokenizer"):
        return tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
    return tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))


def lead_ids(tokenizer: PreTrainedTokenizerBase, lead: tuple[str, ...]) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in lead]


def summed(model: PreTrainedModel, ids: list[int], start: int) -> float:
    """The log-probability of the tokens from a position on."""
    return sum(plain_log_probs(model, ids)[start - 1 :])


@pytest.mark.parametrize("name", CAUSAL)
def test_texts(name: str) -> None:
    tokenizer, model = tokenizer_and_model(name)
    lead = lead_ids(tokenizer, CAUSAL[name].lead)
    rows = [[*lead, *own_ids(tokenizer, text)] for text in TEXTS]
    start = max(len(lead), 1)
    kept = [(text, ids) for text, ids in zip(TEXTS, rows, strict=True) if len(ids) > start]
    assert len(kept) >= 4  # without a beginning, one token has nothing before it
    found = score_candidates(model, tokenizer, [[text] for text, _ in kept])[:, 0]
    expected = [summed(model, ids, start) / (len(ids) - start) for _, ids in kept]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_answers_after_a_question(name: str, tmp_path: Path) -> None:
    tokenizer, model = tokenizer_and_model(name)
    lead = lead_ids(tokenizer, CAUSAL[name].lead)
    rows = [
        {f"input_sentence_{i}": sentence for i in range(1, 5)}
        | {"sentence_quiz1": first, "sentence_quiz2": second, "answer_right_ending": 1}
        for sentence, first, second in STORIES
    ]
    (tmp_path / "s.en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = XStoryCloze(["en"], corpus=LocalFiles(f"{tmp_path}/s.{{lang}}.jsonl"))  # sums of the ending's tokens
    records = task.predict(model, tokenizer, "en", task.examples("en"))
    for record, (sentence, *endings) in zip(records, STORIES, strict=True):
        assert "joined" not in record
        question = " ".join([sentence] * 4)
        prompt_ids = [*lead, *own_ids(tokenizer, question)]
        for score, ending in zip(record["scores"], endings, strict=True):
            ids = [*lead, *own_ids(tokenizer, f"{question} {ending}")]
            assert ids[: len(prompt_ids)] == prompt_ids  # so that the ending's tokens are those after it
            assert len(ids) > len(prompt_ids)
            assert score == pytest.approx(summed(model, ids, len(prompt_ids)), abs=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_perplexity_scores_every_token_of_the_text(name: str, tmp_path: Path) -> None:
    tokenizer, model = tokenizer_and_model(name)
    lead = lead_ids(tokenizer, CAUSAL[name].lead)
    lead = lead or [tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
    texts = [text for text in TEXTS if text.strip() == text]
    (tmp_path / "t.en.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    task = PerplexityTask(["en"], corpus=LocalFiles(f"{tmp_path}/t.{{lang}}.jsonl"))
    for record, text in zip(task.predict(model, tokenizer, "en", task.examples("en")), texts, strict=True):
        ids = [*lead, *own_ids(tokenizer, text)]
        assert record["log_prob"] == pytest.approx(summed(model, ids, len(lead)), abs=1e-3)


@pytest.mark.parametrize("name", CAUSAL)
def test_prompts_are_continued_not_ended(name: str) -> None:
    tokenizer, model = tokenizer_and_model(name)
    prompts = ["French: Il pleut.\nEnglish:", "French: Oui.\nEnglish:"]
    found = generate(model, tokenizer, prompts, 8, stop=["\N{SNOWMAN}"])
    for prompt, continuation in zip(prompts, found, strict=True):
        ids = torch.tensor([[*lead_ids(tokenizer, CAUSAL[name].lead), *own_ids(tokenizer, prompt)]])
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
        )
        expected = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        assert continuation.text == expected.strip()


@pytest.mark.parametrize("name", ["end token behind", "Llama 2 with add_eos_token", "T5", "XGLM", "WordPiece"])
def test_an_end_token_in_the_text_itself_is_scored(name: str) -> None:
    tokenizer, model = tokenizer_and_model(name)
    lead = lead_ids(tokenizer, CAUSAL[name].lead)
    text = f"It rains {tokenizer.eos_token}"
    ids = [*lead, *own_ids(tokenizer, text)]
    assert ids[-1] == tokenizer.eos_token_id
    start = max(len(lead), 1)
    (found,) = score_candidates(model, tokenizer, [[text]], normalization="sum")[:, 0].tolist()
    assert found == pytest.approx(summed(model, ids, start), abs=1e-4)


# -- tokenizers that know languages ---------------------------------------------------------------------------------


def seq2seq(tokenizer: PreTrainedTokenizerBase, **changes: object) -> PreTrainedModel:
    # M2M-100 does not count its language codes
    settings = {"vocab_size": len(tokenizer) + 120, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return tiny_model("m2m100", decoder_start_token_id=2, **(settings | changes))


def decoder_log_probs(model: PreTrainedModel, context: list[int], decoder: list[int]) -> list[float]:
    """Log p of each token of the decoder's input given those before it."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([context]), decoder_input_ids=torch.tensor([decoder])).logits[0]
    log_probs = logits.log_softmax(-1)
    return [float(log_probs[t, token]) for t, token in enumerate(decoder[1:])]


def source_ids(tokenizer: PreTrainedTokenizerBase, kind: Kind, name: str, text: str) -> list[int]:
    behind = [tokenizer.eos_token_id, *(lead_ids(tokenizer, ("fra_Latn",)) if name == "NLLB, legacy" else [])]
    return [*lead_ids(tokenizer, kind.lead), *own_ids(tokenizer, text), *behind]


@pytest.mark.parametrize("name", TRANSLATING)
def test_the_languages_asked_are_read_and_written(name: str) -> None:
    kind = TRANSLATING[name]
    tokenizer = kind.make()
    model = seq2seq(tokenizer)
    before = tokenizer.src_lang
    task = TranslationTask(["fr"], target_lang="sw", limit=2, shots=1, max_chars=60, max_new_tokens=5, separator=" ")
    examples = task.examples("fr")
    records = task.predict(model, tokenizer, "fr", examples)
    assert tokenizer.src_lang == before
    prompts = task.prompts(tokenizer, "fr", [example.source for example in examples])
    for record, prompt in zip(records, prompts, strict=True):
        output = model.generate(
            input_ids=torch.tensor([source_ids(tokenizer, kind, name, prompt)]),
            forced_bos_token_id=lead_ids(tokenizer, kind.target_lead)[0],
            max_new_tokens=6,
            do_sample=False,
        )
        assert output[0, :2].tolist() == [2, *lead_ids(tokenizer, kind.target_lead)]
        text = tokenizer.decode(output[0, 2:], skip_special_tokens=True).strip()
        assert record["output"] == min((text.split(mark)[0].strip() for mark in ("\n", " ", "French:")), key=len)


@pytest.mark.parametrize("name", TRANSLATING)
def test_candidates_follow_the_language_code(name: str) -> None:
    kind = TRANSLATING[name]
    tokenizer = kind.make()
    model = seq2seq(tokenizer)
    tokenizer.src_lang, tokenizer.tgt_lang = kind_codes(name, "fr"), kind_codes(name, "sw")
    found = score_candidates(model, tokenizer, [["Ndiyo", "Hapana, sivyo"]], contexts=["Il pleut ?"])
    lead = [2, *lead_ids(tokenizer, kind.target_lead)]
    for score, answer in zip(found[0].tolist(), ("Ndiyo", "Hapana, sivyo"), strict=True):
        values = decoder_log_probs(
            model, source_ids(tokenizer, kind, name, "Il pleut ?"), [*lead, *own_ids(tokenizer, answer)]
        )[len(lead) - 1 :]
        assert score == pytest.approx(sum(values) / len(values), abs=1e-4)


def kind_codes(name: str, lang: str) -> str:
    flores = {"fr": "fra_Latn", "sw": "swh_Latn"}
    return {"M2M-100, slow": lang, "mBART-50": {"fr": "fr_XX", "sw": "sw_KE"}[lang]}.get(name, flores[lang])


@pytest.mark.parametrize("name", TRANSLATING)
def test_a_task_asks_in_its_rows_language(name: str) -> None:
    kind = TRANSLATING[name]
    tokenizer = kind.make()
    model = seq2seq(tokenizer, max_position_embeddings=512)
    task = CandidateTask("nli", ["fr"], Bundled("nli"), "xnli", limit=2)
    examples = task.examples("fr")
    code = lead_ids(tokenizer, kind.lead) or lead_ids(tokenizer, ("fra_Latn",))
    for record, example in zip(task.predict(model, tokenizer, "fr", examples), examples, strict=True):
        for score, answer in zip(record["scores"], example.answers, strict=True):
            decoder = [2, *code, *own_ids(tokenizer, answer)]
            context = source_ids(tokenizer, kind, name, example.question)
            values = decoder_log_probs(model, context, decoder)[1:]
            assert score == pytest.approx(sum(values) / len(values), abs=1e-4)


def test_mbart_starts_from_the_language_code() -> None:
    tokenizer = mbart(MBartTokenizer)
    code = tokenizer.lang_code_to_id
    model = seq2seq(tokenizer)
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = code["ro_RO"]
    tokenizer.src_lang, tokenizer.tgt_lang = "fr_XX", "de_DE"
    context = [*own_ids(tokenizer, "Il pleut"), 2, code["fr_XX"]]
    values = decoder_log_probs(model, context, [code["de_DE"], *own_ids(tokenizer, "Es regnet")])
    (found,) = score_candidates(model, tokenizer, [["Es regnet"]], contexts=["Il pleut"])[0].tolist()
    assert found == pytest.approx(sum(values) / len(values), abs=1e-4)
    output = model.generate(
        input_ids=torch.tensor([context]), decoder_start_token_id=code["de_DE"], max_new_tokens=5, do_sample=False
    )
    (continuation,) = generate(model, tokenizer, ["Il pleut"], 5, stop=["\N{SNOWMAN}"])
    assert continuation.text == tokenizer.decode(output[0, 1:], skip_special_tokens=True).strip()


@pytest.mark.parametrize(
    "task", [lambda: PerplexityTask(["fr", "yo"]), lambda: TranslationTask(["fr"], target_lang="yo")]
)
def test_a_language_that_the_tokenizer_does_not_know_is_refused_by_name(task) -> None:
    with pytest.raises(
        UserError, match=r"^task '\w+', language '\w+': language 'yo' \(Yoruba\): MBart50Tokenizer has no"
    ):
        task().check_tokenizer(mbart_50())


def mbart_50() -> PreTrainedTokenizerBase:
    return TRANSLATING["mBART-50"].make()


def test_a_target_language_must_be_set() -> None:
    tokenizer = mbart_50()
    with pytest.raises(UserError, match="its tgt_lang is not set"):
        score_candidates(seq2seq(tokenizer), tokenizer, [["Oui"]], contexts=["Il pleut ?"])

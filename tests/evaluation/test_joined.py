"""A token that holds the question's end and the answer's beginning never ends a run: the row is scored and counted."""

import json
import logging
from pathlib import Path

import pytest
from plain_scores import plain_log_probs
from tiny import EOS, PAD, tiny_model
from tokenizer_kinds import CAUSAL
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mlprune.data.corpora import LocalFiles
from mlprune.evaluation.encoding import encode_candidates
from mlprune.evaluation.tasks import XStoryCloze

MERGES = [("Ġ", "C"), (":", "ĠC")]  # ": C" is one token


def joining_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([PAD, EOS, *alphabet, *(a + b for a, b in MERGES)])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=EOS, bos_token=EOS)


def test_the_answer_is_encoded_alone_and_the_row_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    story = {f"input_sentence_{i}": f"Part {i}:" for i in range(1, 5)}
    endings = (("Good.", "Bad."), ("C", "D"))
    rows = [story | {"sentence_quiz1": a, "sentence_quiz2": b, "answer_right_ending": 1} for a, b in endings]
    (tmp_path / "s.sw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = XStoryCloze(["sw"], corpus=LocalFiles(f"{tmp_path}/s.{{lang}}.jsonl"))
    tokenizer = joining_tokenizer()
    model = tiny_model("llama", vocab_size=len(tokenizer))
    with caplog.at_level(logging.WARNING, logger="mlprune"):
        records = task.predict(model, tokenizer, "sw", task.examples("sw"))
    question = tokenizer("Part 1: Part 2: Part 3: Part 4:")["input_ids"]
    for record, answers in zip(records, endings, strict=True):
        for score, answer in zip(record["scores"], answers, strict=True):
            said = tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
            values = plain_log_probs(model, question + said)[-len(said) :]
            assert score == pytest.approx(sum(values), abs=1e-5)  # this task takes sums
    assert [record.get("joined", False) for record in records] == [False, True]
    metric = task.metric("sw")
    metric.update(records)
    assert metric.compute()["joined"] == 1
    assert caplog.text.count("row 2 of ") == 1


LOSSY = ("WordPiece", "WordPiece, cased, bare", "WordLevel")  # whose ids do not say where blanks were


@pytest.mark.parametrize("name", CAUSAL)
def test_answers_encoded_alone_read_as_in_the_whole(name: str) -> None:
    """Words that go on, scripts without spaces, and a blank that the answer begins with."""
    tokenizer = CAUSAL[name].make()
    for question, answer in (("La pluie", "s"), ("它是", "红的"), ("Oui,", " B")):
        (ids,), ((given,),), (joined,) = encode_candidates(tokenizer, [[(question + answer, question)]])
        expected = [
            *tokenizer.convert_tokens_to_ids(list(CAUSAL[name].lead)),
            *tokenizer(question, add_special_tokens=False)["input_ids"],
        ]
        whole = [
            *expected[: len(CAUSAL[name].lead)],
            *tokenizer(question + answer, add_special_tokens=False)["input_ids"],
        ]
        assert ids[0][:given] == expected
        assert joined == (whole[: len(expected)] != expected)
        if not joined:
            assert ids[0] == whole
        elif name not in LOSSY:
            assert tokenizer.decode(ids[0]) == tokenizer.decode(whole)


def test_all_candidates_of_such_a_row_are_treated_alike() -> None:
    tokenizer = joining_tokenizer()
    (ids,), (given,), (joined,) = encode_candidates(tokenizer, [[("A: C", "A:"), ("A: D", "A:"), ("A: CC", "A:")]])
    assert joined
    assert [tokenizer.convert_ids_to_tokens(one[start:]) for one, start in zip(ids, given, strict=True)] == [
        ["ĠC"],
        ["Ġ", "D"],
        ["ĠC", "C"],
    ]

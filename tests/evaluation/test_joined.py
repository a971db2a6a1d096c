"""A token that holds the question's end and the answer's beginning never ends a run: the row is scored and counted."""

import json
import logging
from pathlib import Path

import pytest
from plain_scores import plain_log_probs
from tiny import EOS, PAD, tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mlprune.data.corpora import LocalFiles
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
    task.update(metric, records)
    assert metric.compute()["joined"] == 1
    assert caplog.text.count("row 1") == 1

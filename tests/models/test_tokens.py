"""Tokenizers that lack something, and embeddings that are smaller than they think."""

import pytest
from tiny import VOCABULARY, tiny_tokenizer

from mlprune.errors import UserError
from mlprune.models.tokens import encode, pad_token_id, separator_text


class Bare:
    """A tokenizer without any special token."""

    pad_token_id = eos_token_id = bos_token_id = unk_token_id = None
    eos_token = None


def test_a_pad_token_is_found_whatever_is_missing() -> None:
    tokenizer = Bare()
    assert pad_token_id(tokenizer) == 0
    tokenizer.unk_token_id = 3
    assert pad_token_id(tokenizer) == 3
    tokenizer.eos_token_id = 0
    assert pad_token_id(tokenizer) == 0
    tokenizer.pad_token_id = 7
    assert pad_token_id(tokenizer) == 7


def test_the_separator_is_the_end_token_or_what_you_say() -> None:
    assert separator_text(tiny_tokenizer(), "eos") == "</s>"
    assert separator_text(Bare(), "\n") == "\n"
    with pytest.raises(UserError, match="the tokenizer has no end-of-text token; give the text itself"):
        separator_text(Bare(), "eos")


def test_ids_beyond_the_embedding_are_refused() -> None:
    ids = encode(tiny_tokenizer(), "Habari?", VOCABULARY)
    assert tiny_tokenizer().decode(ids) == "Habari?"
    with pytest.raises(UserError, match=r"gives id \d+ .*, but the model's embedding has 50 rows"):
        encode(tiny_tokenizer(), "Habari?", 50)

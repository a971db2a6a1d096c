"""Trimmed tokenizers of every kind: texts of kept tokens are split as before, and all others still come back."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import CAUSAL, FURTHER, TRANSLATING
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mlprune.data.corpora import Bundled
from mlprune.models.language_tokens import language_ids
from mlprune.smaller.pieces import pieces_of
from mlprune.smaller.usage import tokens_used

KINDS = {
    name: kind
    for name, kind in {**CAUSAL, **TRANSLATING, **FURTHER}.items()
    if name
    in {"GPT-2", "Qwen", "BLOOM", "Llama 2", "Gemma", "XGLM", "WordPiece", "NLLB",
        "M2M-100, slow", "mBART-50", *FURTHER}
}  # fmt: skip
TEXTS = {lang: [row["text"] for row in Bundled("parallel").rows(lang)] for lang in ("fr", "sw", "en", "hi", "zh")}
CHOSEN = [*TEXTS["fr"][:8], *TEXTS["sw"][:8]]


@cache
def trimmed(name: str) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase, dict[int, int]]:
    """A tokenizer as it is loaded, the trimmed one as it is loaded, and from old ids to new ones."""
    before, after = Path(mkdtemp()), Path(mkdtemp())
    KINDS[name].make().save_pretrained(before)
    tokenizer = AutoTokenizer.from_pretrained(before)
    pieces = pieces_of(tokenizer)
    kept = pieces.complete(tokens_used(tokenizer, {"fr and sw": CHOSEN})["fr and sw"].used)
    new = {old: place for place, old in enumerate(sorted(kept))}
    pieces.write(after, new)
    return tokenizer, AutoTokenizer.from_pretrained(after), new


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, verbose=False)["input_ids"]


@pytest.mark.parametrize("name", KINDS)
def test_texts_of_kept_tokens_are_split_as_before(name: str) -> None:
    before, after, new = trimmed(name)
    assert len(new) < len({*before.get_vocab().values(), *new, *language_ids(before)})
    assert all([new[i] for i in ids(before, text)] == ids(after, text) for text in CHOSEN)
    kept = [text for own in TEXTS.values() for text in own if new.keys() >= set(ids(before, text))]
    assert len(kept) > len(CHOSEN)
    assert all([new[i] for i in ids(before, text)] == ids(after, text) for text in kept)


def known(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """What comes back of a text."""
    return tokenizer.decode(ids(tokenizer, text), clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("name", KINDS)
def test_other_texts_come_back_in_smaller_pieces(name: str) -> None:
    before, after, new = trimmed(name)
    texts = [text for own in TEXTS.values() for text in own[:12] if not new.keys() >= set(ids(before, text))]
    assert texts
    for text in texts:
        assert known(before, text) == known(after, text)
        assert len(ids(before, text)) <= len(ids(after, text))


@pytest.mark.parametrize("name", KINDS)
def test_special_tokens_keep_their_meaning(name: str) -> None:
    before, after, new = trimmed(name)
    for key, token in before.special_tokens_map.items():
        assert after.special_tokens_map[key] == token
    for token, index in {
        **before.get_added_vocab(),
        **dict(zip(before.all_special_tokens, before.all_special_ids)),
    }.items():
        assert after.convert_tokens_to_ids(token) == new[index]
    if before.chat_template:
        turns = [{"role": "user", "content": CHOSEN[0]}]
        prompts = [tokenizer.apply_chat_template(turns, tokenize=False) for tokenizer in (before, after)]
        assert prompts[0] == prompts[1]
        assert [new[i] for i in ids(before, prompts[0])] == ids(after, prompts[1])


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_made_texts_of_kept_tokens_are_split_as_before(name: str, data: st.DataObject) -> None:
    before, after, new = trimmed(name)
    kept = [before.decode([index]) for index in new if index not in before.all_special_ids]
    part = st.sampled_from(kept) | st.sampled_from(" ".join(CHOSEN).split(" ")) | st.text(max_size=3)
    text = "".join(data.draw(st.lists(part | st.just(" "), max_size=12)))
    split = ids(before, text)
    if new.keys() >= set(split):
        assert [new[i] for i in split] == ids(after, text)
    else:
        assert known(before, text) == known(after, text) or before.unk_token_id in ids(after, text)

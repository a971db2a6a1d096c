"""Tokenizers that write a language code beside a text (NLLB, M2M-100, mBART): which code, and where it stands.

Such a tokenizer has ``src_lang`` and ``tgt_lang``, and switches its special tokens between the two sides.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.languages import Language, is_language, language

CODE = re.compile(r"(__)?[a-z]{2,3}(_[A-Z][A-Za-z]{1,3})?(__)?")  # fra_Latn, fr, fr_XX, __fr__


def has_languages(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer marks texts with a language code.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> has_languages(ByT5Tokenizer())
        False
    """
    return all(hasattr(tokenizer, name) for name in ("src_lang", "tgt_lang", "set_src_lang_special_tokens"))


def language_codes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the codes that a tokenizer knows, as its ``src_lang`` takes them.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> language_codes(ByT5Tokenizer())
        []
    """
    if not has_languages(tokenizer):
        return []
    if known := getattr(tokenizer, "lang_code_to_id", None):
        return list(known)
    return [token for token in sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}) if _is_code(token)]


def language_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the ids of a tokenizer's language codes.

    Example:
        >>> from transformers import NllbTokenizer
        >>> tokenizer = NllbTokenizer()
        >>> tokenizer.convert_tokens_to_ids("fra_Latn") in language_ids(tokenizer)
        True
    """
    if known := getattr(tokenizer, "lang_code_to_id", None):
        return set(known.values())
    ids: Any = tokenizer.convert_tokens_to_ids(language_codes(tokenizer))
    return set(ids)


def _is_code(token: str) -> bool:
    return CODE.fullmatch(token) is not None


def language_code(tokenizer: PreTrainedTokenizerBase, lang: str) -> str | None:
    """Return a tokenizer's own code of a language, or None if it has no codes at all.

    Args:
        tokenizer: Any tokenizer.
        lang: ISO 639-1 code.

    Raises:
        UserError: If the tokenizer has codes, and none for this language.

    Example:
        >>> from transformers import NllbTokenizer
        >>> language_code(NllbTokenizer(), "fr")
        'fra_Latn'
    """
    codes = language_codes(tokenizer)
    if not codes:
        return None
    wanted = language(lang)
    ranked = sorted((rank, code) for code in codes if (rank := _rank(code, wanted)) is not None)
    if not ranked:
        raise UserError(
            f"language '{lang}' ({wanted.name}): {type(tokenizer).__name__} has no code for it among its {len(codes)}"
        )
    return ranked[0][1]


def _rank(code: str, wanted: Language) -> int | None:
    """How well a code fits a language: 0 best, None not at all."""
    plain = code.strip("_")
    forms = (
        plain == wanted.flores,
        plain == wanted.code,
        plain.split("_")[0] == wanted.primary,
        plain == wanted.flores[:3],
        is_language(plain.split("_")[0]) and language(plain.split("_")[0]).flores == wanted.flores,  # nb, no
    )
    return forms.index(True) if any(forms) else None


@contextmanager
def between(tokenizer: PreTrainedTokenizerBase, source_lang: str, target_lang: str) -> Iterator[None]:
    """While open, a tokenizer that knows languages reads the one and writes the other.

    Args:
        tokenizer: Any tokenizer; one without language codes is left alone.
        source_lang: ISO 639-1 code of the encoder's texts.
        target_lang: ISO 639-1 code of the decoder's.

    Raises:
        UserError: If it has no code for one of them.

    Example:
        >>> from transformers import NllbTokenizer
        >>> tokenizer = NllbTokenizer()
        >>> with between(tokenizer, "fr", "sw"):
        ...     tokenizer.src_lang, tokenizer.tgt_lang
        ('fra_Latn', 'swh_Latn')
        >>> tokenizer.src_lang
        'eng_Latn'
    """
    codes = [language_code(tokenizer, lang) for lang in (source_lang, target_lang)]
    if None in codes:
        yield
        return
    before = tokenizer.src_lang, tokenizer.tgt_lang
    _set(tokenizer, *codes)
    try:
        yield
    finally:
        _set(tokenizer, *before)


def _set(tokenizer: PreTrainedTokenizerBase, source: str | None, target: str | None) -> None:
    """Set the target first: where it has a setter of its own, the special tokens are those of what was set last."""
    if target is not None or tokenizer.tgt_lang is not None:
        tokenizer.tgt_lang = target
    tokenizer.src_lang = source

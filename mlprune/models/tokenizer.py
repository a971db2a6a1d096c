"""Loading a tokenizer, and checking that it reproduces the run's texts."""

import pickle
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast
from weakref import WeakSet

import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mlprune.errors import UserError, reason_of
from mlprune.log import log
from mlprune.models.config import REMOTE_CODE
from mlprune.models.folder import read_object

WHOLE = ("tokenizer.json", "tekken.json")  # each says all that is needed
JSON = ("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
SAMPLED_TEXTS, SAMPLED_CHARS = 16, 400
MODEL_RULES = ("unk_token", "fuse_unk", "byte_fallback", "ignore_merges", "max_input_chars_per_word")
MAX_LOST, MAX_FOREIGN, MAX_UNKNOWN, MAX_CHARS_PER_TOKEN = 0.5, 0.1, 0.5, 40

_AS_SAVED: WeakSet[PreTrainedTokenizerBase] = WeakSet()  # tokenizers whose rules are those of their tokenizer.json


def load_tokenizer(location: str, name: str, options: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """Load a tokenizer.

    Args:
        location: Folder or hub id.
        name: What the user calls it.
        options: Arguments of ``AutoTokenizer.from_pretrained``.

    Raises:
        UserError: If it cannot be loaded, or has no vocabulary.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, **options)
    except Exception as error:  # tokenizers of a hundred kinds raise what they like
        raise _explained(Path(location), name, error) from error
    if Path(location).is_dir():
        _check_vocabulary(tokenizer, Path(location), options)
    return tokenizer


def _explained(folder: Path, name: str, error: Exception) -> UserError:
    """Name the file that is at fault, where that can be found out."""
    reason = reason_of(error)
    for file in JSON:
        if (folder / file).is_file():
            try:
                read_object(folder / file)
            except UserError as damaged:
                return damaged
    if "trust_remote_code" in reason or "custom code" in reason:
        return UserError(f"tokenizer of model.name '{name}' {REMOTE_CODE}")
    if (folder / "tokenizer.json").is_file():
        try:
            tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as unreadable:  # the library raises plain Exception
            return UserError(
                f"'{folder / 'tokenizer.json'}' cannot be read by tokenizers {tokenizers.__version__} "
                f"({str(unreadable)[:120]}); update tokenizers if the file is newer, else download it again"
            )
    return UserError(f"tokenizer of model.name '{name}' cannot be loaded: {reason[:240]}")


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path, options: Mapping[str, Any]) -> None:
    """Refuse a tokenizer that was made without the files of its vocabulary, and so knows no words."""
    wanted = {key: file for key, file in type(tokenizer).vocab_files_names.items() if "config" not in key}
    if not wanted or any(key in options for key in wanted) or any((folder / file).is_file() for file in WHOLE):
        return
    there = {key for key, file in wanted.items() if (folder / file).is_file()}
    if not there or ("merges_file" in wanted and "merges_file" not in there):
        missing = ", ".join(file for key, file in wanted.items() if key not in there)
        raise UserError(f"tokenizer in '{folder}' has no vocabulary: {missing} is missing; download it too")


def check_words(tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Iterable[str]]) -> None:
    """Check that a tokenizer reproduces the words of a run's texts, up to case, width and whitespace.

    A few texts of each kind are looked at. A kind that it cannot encode, such as a script that the tokenizer does not
    know, is one warning; if it can encode none, the tokenizer is refused.

    Args:
        tokenizer: The tokenizer.
        texts: What the texts are, such as ``nli, sw``, to some of them.

    Raises:
        UserError: If it raises, or can encode none of the kinds.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> check_words(ByT5Tokenizer(), {"nli, sw": ["Habari ya asubuhi?"]})
    """
    faults = {}
    for kind, given in texts.items():
        sample = _sample(given)
        if sample:
            faults[kind] = _fault(tokenizer, kind, sample)
    broken = {kind: fault for kind, fault in faults.items() if fault}
    if not broken:
        _warn_of_other_rules(tokenizer, [text for given in texts.values() for text in _sample(given)])
        return
    kind, fault = next(iter(broken.items()))
    if len(broken) == len(faults):
        raise UserError(
            f"the tokenizer cannot encode the run's texts ({kind}): {fault}; check the files of its vocabulary"
        )
    log.warning("the tokenizer can hardly encode %s (%s): results there mean little", "; ".join(broken), fault)


def _warn_of_other_rules(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> None:
    """Warn if a tokenizer's class replaces the rules in tokenizer.json with its own, as some do.

    A large file takes a second to read, so it is read once where the rules are the same.
    """
    file = Path(tokenizer.name_or_path) / "tokenizer.json"
    if not tokenizer.is_fast or tokenizer in _AS_SAVED or not file.is_file():
        return
    saved = tokenizers.Tokenizer.from_file(str(file))
    saved.no_padding()
    saved.no_truncation()
    other = sum(
        saved.encode(text, add_special_tokens=False).ids
        != tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for text in texts
    )
    if other:
        log.warning(
            "%s splits %d of %d texts differently from '%s', which its model may have been trained with; "
            "PreTrainedTokenizerFast as tokenizer_class in tokenizer_config.json uses the file as it is",
            type(tokenizer).__name__,
            other,
            len(texts),
            file,
        )
    elif _rules(saved) == _rules(cast("Any", tokenizer).backend_tokenizer):
        _AS_SAVED.add(tokenizer)


def _rules(backend: tokenizers.Tokenizer) -> tuple[object, ...]:
    """How a tokenizer splits texts, but for its vocabulary, which its class takes from the file."""
    settings = [getattr(backend.model, name, None) for name in MODEL_RULES]
    added = backend.get_added_tokens_decoder()
    try:
        return type(backend.model), *settings, added, pickle.dumps((backend.normalizer, backend.pre_tokenizer))
    except Exception:  # tokenizers raises this for rules in Python, which no file has
        return ()


def _sample(texts: Iterable[str]) -> list[str]:
    """Texts from all over, cut to a length, of those that have a word in them."""
    found = [text[:SAMPLED_CHARS] for text in texts if re.search(r"\w", text)]
    step = max(len(found) // SAMPLED_TEXTS, 1)
    return found[::step][:SAMPLED_TEXTS]


def _fault(tokenizer: PreTrainedTokenizerBase, kind: str, texts: list[str]) -> str:
    """Return what is wrong with how texts are encoded, or nothing."""
    total = tokens = unknown = pieces = lost = written = foreign = 0
    unknown_id = getattr(tokenizer, "unk_token_id", None)
    for text in texts:
        try:
            ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            known = [token for token in ids if token != unknown_id]
            back = _letters(str(tokenizer.decode(known, clean_up_tokenization_spaces=False)))
        except Exception as error:  # tokenizers of a hundred kinds raise what they like
            reason = reason_of(error)
            raise UserError(f"the tokenizer fails on {kind}, {text[:30]!r}: {reason[:200]}") from error
        given, words = _letters(text), _pieces(text)
        total, tokens, unknown = total + len(text), tokens + len(ids), unknown + len(ids) - len(known)
        pieces, lost = pieces + len(words), lost + sum(word not in back for word in words)
        written, foreign = written + len(back), foreign + (Counter(back) - Counter(given)).total()
    if not tokens or total / tokens > MAX_CHARS_PER_TOKEN:
        return f"{total} characters are {tokens} tokens"
    if unknown > MAX_UNKNOWN * tokens:
        return f"{unknown} of {tokens} tokens are unknown"
    if lost > MAX_LOST * pieces or foreign > MAX_FOREIGN * written:
        return f"{texts[0][:30]!r} comes back as {_example(tokenizer, texts[0])!r}"
    return ""


def _example(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    return str(tokenizer.decode(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]))[:40]


def _letters(text: str) -> str:
    """A text without what tokenizers may change: case, accents, width, and every kind of space.

    Example:
        >>> _letters("Ça va,  Ｗorld?")
        'cava,world?'
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(filter(_is_letter, folded))


@cache
def _is_letter(sign: str) -> bool:
    category = unicodedata.category(sign)
    return category[0] not in "ZC" and category != "Mn"


def _pieces(text: str) -> list[str]:
    """Stretches of a few letters; shorter ones in scripts without spaces, where a rare sign spoils its neighbors.

    Example:
        >>> _pieces("Habari yako?")
        ['haba', 'ri', 'yako']
    """
    words = [word for part in text.split() for word in re.findall(r"[^\W_]+", _letters(part))]
    sizes = [4 if len(word) <= 12 else 2 for word in words]
    return [word[i : i + size] for word, size in zip(words, sizes, strict=True) for i in range(0, len(word), size)]

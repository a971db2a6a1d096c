"""The content of tokenizer.json: which tokens need one another, and the same tokenizer with fewer tokens."""

from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from mlprune.errors import UserError
from mlprune.smaller.merges import BYTE, ranked

MODELS = ("BPE", "Unigram", "WordPiece", "WordLevel")
Content = dict[str, Any]


def check_model(content: Content) -> None:
    """Refuse a kind of tokenizer of which is not known what its tokens need.

    Raises:
        UserError: If it is none of ``MODELS``.
    """
    kind = content["model"].get("type")
    if kind not in MODELS:
        raise UserError(f"tokenizer of kind {kind}: tokens of {', '.join(MODELS)} tokenizers can be trimmed")


def vocabulary(content: Content) -> dict[str, int]:
    """Return every token that texts are split into, with its id; added tokens may be others.

    Example:
        >>> vocabulary({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.0]]}})
        {'<unk>': 0, 'a': 1}
    """
    vocab = content["model"]["vocab"]
    if isinstance(vocab, list):
        return {piece: place for place, (piece, _) in enumerate(vocab)}
    return dict(vocab)


def indispensable(content: Content) -> set[int]:
    """Return the ids of tokens without which some text could no longer be written.

    These are added tokens, the unknown token, bytes, and, where no bytes stand in for unknown characters, every single
    character; of Unigram also the pieces whose scores decide those of what is unknown.
    """
    vocab, model = vocabulary(content), content["model"]
    kept = {entry["id"] for entry in content["added_tokens"]}
    kept |= {vocab[token] for token in _unknown(content) if token in vocab}
    named = {token for token in vocab if BYTE.fullmatch(token)}
    alphabet = set(ByteLevel.alphabet()) if _is_byte_level(content) else set()
    kept |= {vocab[token] for token in named | (alphabet & vocab.keys())}
    if not (model.get("byte_fallback") and len(named) == 256) and not alphabet:
        prefix, suffix = _affixes(model)
        kept |= {index for token, index in vocab.items() if len(token.removeprefix(prefix).removesuffix(suffix)) == 1}
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        kept |= {scores.index(min(scores)), scores.index(max(scores))}
    return kept


def _unknown(content: Content) -> list[str]:
    model = content["model"]
    if model["type"] == "Unigram":
        return [] if model["unk_id"] is None else [model["vocab"][model["unk_id"]][0]]
    return [model["unk_token"]] if model.get("unk_token") else []


def _is_byte_level(content: Content) -> bool:
    """Whether texts are split into bytes before they are split into tokens."""
    return any(
        part.get("type") == "ByteLevel" for key in ("normalizer", "pre_tokenizer") for part in _parts(content[key])
    )


def _parts(step: Any) -> list[Content]:
    """The single steps of a normalizer, pre-tokenizer or post-processor, which may be a sequence of them."""
    if not step:
        return []
    below = [step.get(name) or [] for name in ("normalizers", "pretokenizers", "processors")]
    return [step, *(part for parts in below for inner in parts for part in _parts(inner))]


def _affixes(model: Content) -> tuple[str, str]:
    return model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""


def _pairs(model: Content) -> list[tuple[str, str]]:
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    return [(first, second) for first, second in pairs]


def with_derivations(content: Content, kept: Iterable[int]) -> set[int]:
    """Return ids with those of the tokens that their merges pass through; the same ids for other kinds than BPE.

    Args:
        content: The tokenizer.
        kept: Ids of tokens.
    """
    kept = set(kept)
    if content["model"]["type"] != "BPE":
        return kept
    vocab, (prefix, suffix) = vocabulary(content), _affixes(content["model"])
    merges = ranked(_pairs(content["model"]), prefix=prefix, suffix=suffix)
    paths = (merges.path(token) for token, index in vocab.items() if index in kept)
    return kept | {vocab[token] for path in paths for token in path if token in vocab}


def with_fewer_tokens(content: Content, new: Mapping[int, int]) -> Content:
    """Return a tokenizer that has only some of the tokens, under other ids.

    Args:
        content: The tokenizer.
        new: Id of each kept token to its new one, in the same order.

    Example:
        >>> model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3}, "merges": [["a", "b"], ["b", "c"]]}
        >>> content = {"model": model, "added_tokens": [], "post_processor": None, "padding": None}
        >>> with_fewer_tokens(content, {0: 0, 1: 1, 3: 2})["model"]
        {'type': 'BPE', 'vocab': {'a': 0, 'b': 1, 'ab': 2}, 'merges': [['a', 'b']]}
    """
    model = dict(content["model"])
    if model["type"] == "Unigram":
        model["vocab"] = [entry for place, entry in enumerate(model["vocab"]) if place in new]
        model["unk_id"] = new.get(model["unk_id"])
    else:
        model["vocab"] = {token: new[index] for token, index in model["vocab"].items() if index in new}
    if model["type"] == "BPE":
        product, vocab = ranked([], prefix=_affixes(model)[0]).product, model["vocab"]
        model["merges"] = [
            [first, second]
            for first, second in _pairs(model)
            if first in vocab and second in vocab and product(first, second) in vocab
        ]
    cut = {**content, "model": model}
    cut["added_tokens"] = [{**entry, "id": new[entry["id"]]} for entry in content["added_tokens"]]
    cut["post_processor"] = _renumbered(content["post_processor"], new)
    if content["padding"]:
        cut["padding"] = {**content["padding"], "pad_id": new[content["padding"]["pad_id"]]}
    return cut


def _renumbered(step: Any, new: Mapping[int, int]) -> Any:
    """A post-processor with other ids."""
    if not step:
        return step
    changed = dict(step)
    if step.get("type") == "Sequence":
        changed["processors"] = [_renumbered(inner, new) for inner in step["processors"]]
    if isinstance(step.get("special_tokens"), dict):
        changed["special_tokens"] = {
            name: {**entry, "ids": [new[index] for index in entry["ids"]]}
            for name, entry in step["special_tokens"].items()
        }
    for name in ("sep", "cls"):  # of BERT and RoBERTa
        if name in step:
            token, index = step[name]
            changed[name] = [token, new[index]]
    return changed


def ids_in_template(content: Content) -> set[int]:
    """Return the ids that a post-processor puts around texts."""
    found = set()
    for step in _parts(content["post_processor"]):
        found |= {index for entry in (step.get("special_tokens") or {}).values() for index in entry["ids"]}
        found |= {step[name][1] for name in ("sep", "cls") if name in step}
    if content["padding"]:
        found.add(content["padding"]["pad_id"])
    return found

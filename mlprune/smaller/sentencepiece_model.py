"""SentencePiece models: which pieces need one another, and the same model with fewer pieces."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers.convert_slow_tokenizer import import_protobuf

from mlprune.smaller.merges import scored

NORMAL, UNIGRAM, BPE = 1, 1, 2  # as sentencepiece numbers types of pieces and models


def read_model(file: Path) -> Any:
    """Return a SentencePiece model as its protobuf message."""
    library: Any = import_protobuf()
    return library.ModelProto.FromString(file.read_bytes())


def indispensable(model: Any) -> set[str]:
    """Return the pieces without which some text could no longer be written.

    These are all but normal pieces (control, bytes, user-defined), every single character where no bytes stand in, and
    the pieces whose scores decide those of what is unknown or user-defined.
    """
    normal = [piece for piece in model.pieces if piece.type == NORMAL]
    kept = {piece.piece for piece in model.pieces if piece.type != NORMAL}
    if not model.trainer_spec.byte_fallback:
        kept |= {piece.piece for piece in normal if len(piece.piece) == 1}
    ends = (function(normal, key=lambda piece: piece.score).piece for function in (min, max) if normal)
    return kept | set(ends)


def with_derivations(model: Any, kept: Collection[str]) -> set[str]:
    """Return pieces with those that their merges pass through; the same pieces of a Unigram model.

    Args:
        model: The model.
        kept: Pieces.
    """
    if model.trainer_spec.model_type != BPE:
        return set(kept)
    merges = scored({piece.piece: piece.score for piece in model.pieces})
    known = {piece.piece for piece in model.pieces}
    return {*kept, *(passed for piece in kept for passed in merges.path(piece) if passed in known)}


def write_model(model: Any, kept: Collection[str], file: Path) -> None:
    """Write a model that has only some of its pieces, in the same order.

    Args:
        model: The model, which is changed.
        kept: Pieces that stay.
        file: Where to.
    """
    pieces = [piece for piece in model.pieces if piece.piece in kept]
    copies = [type(piece).FromString(piece.SerializeToString()) for piece in pieces]
    del model.pieces[:]
    model.pieces.extend(copies)
    for place, piece in enumerate(copies):
        for name in ("unk", "bos", "eos", "pad"):
            if piece.piece == getattr(model.trainer_spec, f"{name}_piece") and piece.type != NORMAL:
                setattr(model.trainer_spec, f"{name}_id", place)
    model.trainer_spec.vocab_size = len(copies)
    file.write_bytes(model.SerializeToString())

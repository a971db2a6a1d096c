"""A tokenizer's tokens: which must be kept together, and writing the tokenizer with fewer of them."""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.models.folder import read_object
from mlprune.models.language_tokens import language_ids
from mlprune.smaller import sentencepiece_model, tokenizer_json

NewIds = Mapping[int, int]  # id of every kept token to its new one, in the same order


class Pieces(ABC):
    """The tokens of a tokenizer.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def complete(self, used: Collection[int]) -> set[int]:
        """Return ids with those of every token that the tokenizer needs besides.

        These are special and added tokens, bytes (or, without them, single characters), and the tokens that merges
        pass through.

        Args:
            used: Ids of tokens that are to be kept.
        """
        tokenizer = self.tokenizer
        special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values(), *language_ids(tokenizer)}
        return self._complete({*used, *special})

    @abstractmethod
    def _complete(self, kept: set[int]) -> set[int]:
        """Return ids with those of tokens that every text or the given tokens need."""

    def write(self, folder: Path, new: NewIds) -> None:
        """Write the tokenizer with fewer tokens, and everything else as it is.

        Args:
            folder: An existing folder.
            new: Which tokens it has, under which ids.
        """
        self.tokenizer.save_pretrained(folder)
        self._cut(folder, new)

    @abstractmethod
    def _cut(self, folder: Path, new: NewIds) -> None:
        """Take tokens out of the files that were saved."""


class FastPieces(Pieces):
    """Tokens of a tokenizer that is a ``tokenizer.json``."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer)
        core: Any = tokenizer
        self.content = json.loads(core.backend_tokenizer.to_str())
        tokenizer_json.check_model(self.content)

    def _complete(self, kept: set[int]) -> set[int]:
        always = tokenizer_json.indispensable(self.content) | tokenizer_json.ids_in_template(self.content)
        return tokenizer_json.with_derivations(self.content, kept | always)

    def _cut(self, folder: Path, new: NewIds) -> None:
        cut = tokenizer_json.with_fewer_tokens(self.content, new)
        (folder / "tokenizer.json").write_text(json.dumps(cut, ensure_ascii=False), encoding="utf-8")


class SentencePieces(Pieces):
    """Tokens of a tokenizer written in Python over SentencePiece models, with a vocabulary in JSON or without."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer)
        given: Any = tokenizer
        files = {name: Path(path) for name in tokenizer.vocab_files_names if (path := getattr(given, name, None))}
        self.models = {path.name: sentencepiece_model.read_model(path) for path in files.values() if _is_model(path)}
        vocabularies = [path for path in files.values() if path.suffix == ".json"]
        if not self.models or len(vocabularies) > 1:
            raise _unknown(tokenizer)
        self.vocab: dict[str, int] = read_object(vocabularies[0]) if vocabularies else self._numbers()

    def _numbers(self) -> dict[str, int]:
        """Each piece's number in the one model, which must be its id."""
        pieces = [piece.piece for model in self.models.values() for piece in model.pieces]
        known = self.tokenizer.get_vocab()
        if len(self.models) > 1 or any(known.get(piece, place) != place for place, piece in enumerate(pieces)):
            raise _unknown(self.tokenizer)
        return {piece: place for place, piece in enumerate(pieces)}

    def _complete(self, kept: set[int]) -> set[int]:
        tokens = {token for token, index in self.vocab.items() if index in kept}
        for model in self.models.values():
            tokens |= sentencepiece_model.with_derivations(model, tokens | sentencepiece_model.indispensable(model))
        return kept | {self.vocab[token] for token in tokens if token in self.vocab}

    def _cut(self, folder: Path, new: NewIds) -> None:
        for path in [path for path in folder.iterdir() if path.suffix in (".json", ".model", ".spm")]:
            if path.name in self.models:
                self._cut_model(path, new)
            elif path.name == "tokenizer_config.json":
                self._cut_config(path, new)
            elif path.name != "special_tokens_map.json":  # token to id
                content = {token: new[index] for token, index in read_object(path).items() if index in new}
                path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def _cut_model(self, path: Path, new: NewIds) -> None:
        model = sentencepiece_model.read_model(path)
        kept = {piece.piece for piece in model.pieces if self.vocab.get(piece.piece) is None}
        kept |= {token for token, index in self.vocab.items() if index in new}
        sentencepiece_model.write_model(model, kept, path)

    @staticmethod
    def _cut_config(path: Path, new: NewIds) -> None:
        content = read_object(path)
        added = content.get("added_tokens_decoder", {})
        content["added_tokens_decoder"] = {str(new[int(index)]): entry for index, entry in added.items()}
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _is_model(path: Path) -> bool:
    return path.suffix in (".model", ".spm") and path.is_file()


def _unknown(tokenizer: PreTrainedTokenizerBase) -> UserError:
    return UserError(
        f"{type(tokenizer).__name__} has no vocabulary that can be trimmed; that is a tokenizer.json, or one "
        "SentencePiece model whose pieces' numbers are the ids"
    )


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> Pieces:
    """Return the tokens of a tokenizer.

    Args:
        tokenizer: Any tokenizer.

    Raises:
        UserError: If it is of a kind that cannot be trimmed, such as one that reads bytes.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> pieces_of(ByT5Tokenizer())
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: ByT5Tokenizer has no vocabulary that can be trimmed; that is a tokenizer.json, ...
    """
    return FastPieces(tokenizer) if tokenizer.is_fast else SentencePieces(tokenizer)

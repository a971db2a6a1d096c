"""Which tokens texts use, and how much text is enough to find them."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

BATCH = 1000  # texts that are tokenized at a time
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


@dataclass
class Usage:
    """The tokens of one language's texts.

    Every other text is held out, so that it can be told how many of its tokens the others have.

    Args:
        num_texts: How many texts there are.
        num_chars: How many characters.
        num_tokens: How many tokens, those that the tokenizer puts around texts included.
        used: Ids of the tokens of all texts, also as they are after a space.
        first: Id to the position of the first text that has it, among those that are not held out.
        held_out: Id to its number in the held-out texts.
    """

    num_texts: int = 0
    num_chars: int = 0
    num_tokens: int = 0
    used: set[int] = field(default_factory=set)
    first: dict[int, int] = field(default_factory=dict)
    held_out: Counter[int] = field(default_factory=Counter)

    def add(self, text: str, ids: Sequence[int], after_space: Sequence[int]) -> None:
        """Count one text."""
        place, is_held_out = divmod(self.num_texts, 2)
        self.num_texts += 1
        self.num_chars += len(text)
        self.num_tokens += len(ids)
        self.used.update(ids, after_space)
        if is_held_out:
            self.held_out.update(ids)
        else:
            for index in ids:
                self.first.setdefault(index, place)

    def found_in(self, share: float) -> set[int]:
        """Return the tokens of the first texts that are not held out."""
        limit = share * ((self.num_texts + 1) // 2)
        return {index for index, place in self.first.items() if place < limit}

    def coverage(self, kept: set[int]) -> float | None:
        """Return the share of the held-out texts' tokens that are among some; None without such texts."""
        total = self.held_out.total()
        return sum(count for index, count in self.held_out.items() if index in kept) / total if total else None


@dataclass(frozen=True)
class CoveragePoint:
    """What a part of the texts tells about the held-out ones.

    Args:
        share: Of the texts that are not held out.
        num_tokens: Tokens that this part of all languages' texts uses.
        coverage: Language to the share of its held-out texts' tokens that are among them.
    """

    share: float
    num_tokens: int
    coverage: dict[str, float | None]


def tokens_used(
    tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Iterable[str]], seed: int = 0
) -> dict[str, Usage]:
    """Tokenize texts, as they are and as they are after a space, where prompts have them.

    Args:
        tokenizer: The tokenizer.
        texts: Language, or what else texts are, to texts.
        seed: Seed of the order in which texts are taken.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> usage = tokens_used(ByT5Tokenizer(), {"fr": ["ab", "ba"]})["fr"]
        >>> usage.num_texts, usage.num_tokens, usage.coverage(usage.found_in(1.0))
        (2, 6, 1.0)
    """
    found = {}
    for name, given in texts.items():
        usage, ordered = Usage(), [text for text in dict.fromkeys(given) if text]  # a repeated text is no evidence
        random.Random(seed).shuffle(ordered)
        for batch in _batches(ordered):
            plain, spaced = token_ids(tokenizer, batch), token_ids(tokenizer, [f" {text}" for text in batch])
            for text, ids, after_space in zip(batch, plain, spaced, strict=True):
                usage.add(text, ids, after_space)
        found[name] = usage
    return found


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of texts, with what the tokenizer puts around them."""
    ids: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    return ids


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), BATCH):
        yield texts[start : start + BATCH]


def coverage_curve(usage: Mapping[str, Usage]) -> list[CoveragePoint]:
    """Return how far parts of the texts cover the tokens of held-out ones: where it is flat, more text adds little.

    Args:
        usage: Language to its texts' tokens.
    """
    points = []
    for share in SHARES:
        found: set[int] = set().union(*(part.found_in(share) for part in usage.values()))
        points.append(CoveragePoint(share, len(found), {name: part.coverage(found) for name, part in usage.items()}))
    return points

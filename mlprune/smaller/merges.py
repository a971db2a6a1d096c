"""How byte-pair merges build a token: the tokens in between, which its reader needs too."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
Rank = Callable[[str, str], float | None]  # of a merge of two tokens, lowest first; None where there is none


@dataclass(frozen=True)
class Merges:
    """The merges of a byte-pair vocabulary.

    Args:
        rank: Rank of merging two tokens.
        prefix: What continuing tokens begin with, and their merges remove.
        suffix: What the last token of a word ends with.
    """

    rank: Rank
    prefix: str = ""
    suffix: str = ""

    def product(self, first: str, second: str) -> str:
        """Return what two tokens become.

        Example:
            >>> Merges(lambda first, second: None, prefix="##").product("un", "##do")
            'undo'
        """
        return first + second.removeprefix(self.prefix)

    def path(self, token: str) -> set[str]:
        """Return all tokens that merging a token's characters passes through, itself included.

        The same happens inside any text that has the token, since none of its merges crosses the token's borders.

        Args:
            token: The token.

        Returns:
            Nothing if merging does not lead to the token.

        Example:
            >>> ranks = {("a", "b"): 0, ("ab", "c"): 1}
            >>> merges = Merges(lambda first, second: ranks.get((first, second)))
            >>> sorted(merges.path("abc")), merges.path("bc")
            (['a', 'ab', 'abc', 'b', 'c'], set())
        """
        parts = self._symbols(token)
        passed = set(parts)
        while len(parts) > 1:
            ranks = [self.rank(first, second) for first, second in pairwise(parts)]
            found = [(rank, place) for place, rank in enumerate(ranks) if rank is not None]
            if not found:
                return set()
            _, place = min(found)
            parts[place : place + 2] = [self.product(parts[place], parts[place + 1])]
            passed.add(parts[place])
        return passed if parts == [token] else set()

    def _symbols(self, token: str) -> list[str]:
        """What a token is merged from: characters, or bytes by name."""
        whole = token
        continues = bool(self.prefix) and whole.startswith(self.prefix)
        ends = bool(self.suffix) and whole.endswith(self.suffix) and whole != self.suffix
        whole = whole.removeprefix(self.prefix) if continues else whole
        whole = whole.removesuffix(self.suffix) if ends else whole
        parts = BYTE.findall(whole) if BYTE.sub("", whole) == "" else list(whole)
        parts = [part if place == 0 and not continues else self.prefix + part for place, part in enumerate(parts)]
        if ends and parts:
            parts[-1] += self.suffix
        return parts


def ranked(merges: Sequence[tuple[str, str]], **affixes: str) -> Merges:
    """Return the merges of a list, first ones first.

    Example:
        >>> ranked([("a", "b")]).path("ab") == {"a", "b", "ab"}
        True
    """
    ranks = {pair: place for place, pair in enumerate(merges)}
    return Merges(lambda first, second: ranks.get((first, second)), **affixes)


def scored(scores: Mapping[str, float]) -> Merges:
    """Return the merges of a SentencePiece model: any two pieces that are a piece together, the best of these first.

    Example:
        >>> scored({"a": -2.0, "b": -3.0, "ab": -1.0}).path("ab") == {"a", "b", "ab"}
        True
    """

    def rank(first: str, second: str) -> float | None:
        score = scores.get(first + second)
        return None if score is None else -score

    return Merges(rank)

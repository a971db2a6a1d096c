"""Marks: which tokens of a forward pass belong to the task's own text, for interventions that change only those.

A marked token is written as the complement of its id (``~id``, which is negative) until it reaches the model. So texts
that share their tokens but not their marks share no prefix, and what runs once is changed alike for all.

Shapes: B texts, T tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

Ranges = Sequence[tuple[int, int]]  # of characters: start and end


@dataclass
class Marks:
    """What interventions know about the forward pass that is running.

    Args:
        task: Name of the task.
        lang: Language of its texts.
    """

    task: str = ""
    lang: str = ""

    @property
    def tokens(self) -> Tensor | None:
        """The marked tokens, bool (B, T), of the pass that asks; None in passes that are no text of a task."""
        return _TOKENS.get()


_TOKENS: ContextVar[Tensor | None] = ContextVar("tokens", default=None)  # several passes may run side by side


_MARKS: WeakKeyDictionary[nn.Module, Marks] = WeakKeyDictionary()


def marks_of(model: nn.Module) -> Marks | None:
    """Return a model's marks; None if no intervention asks for any.

    Example:
        >>> marks_of(nn.Linear(1, 1)) is None
        True
    """
    return _MARKS.get(model)


@contextmanager
def watched_marks(model: nn.Module) -> Iterator[Marks]:
    """While open, texts of tasks are marked, for an intervention that reads the marks.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> with watched_marks(model) as marks:
        ...     marks is marks_of(model)
        True
    """
    known = _MARKS.get(model)
    marks = _MARKS[model] = known or Marks()
    try:
        yield marks
    finally:
        if known is None:
            del _MARKS[model]


@contextmanager
def marking(
    model: nn.Module, tokens: Tensor | None = None, task: str | None = None, lang: str | None = None
) -> Iterator[None]:
    """While open, forward passes are of these tokens, task or language; without effect if nobody reads the marks.

    Args:
        model: The model.
        tokens: bool (B, T), on any device.
        task: Name of the task; as before if omitted.
        lang: Language; as before if omitted.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> with watched_marks(model) as marks, marking(model, lang="fr"):
        ...     marks.lang
        'fr'
    """
    marks = marks_of(model)
    if marks is None:
        yield
        return
    before, found = (marks.task, marks.lang), _TOKENS.set(tokens)
    marks.task, marks.lang = task or marks.task, lang or marks.lang
    try:
        yield
    finally:
        marks.task, marks.lang = before
        _TOKENS.reset(found)


def token_id(token: int) -> int:
    """Return the id of a token, marked or not.

    Example:
        >>> token_id(~7), token_id(7)
        (7, 7)
    """
    return token if token >= 0 else ~token


def mark(tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int], ranges: Ranges) -> list[int]:
    """Return a text's ids with those marked that hold characters of some ranges.

    Where the tokenizer does not say which characters a token holds, or the ids are not its own for the whole text, as
    many tokens precede a range as its beginning has when encoded alone.

    Args:
        tokenizer: The model's tokenizer.
        text: The text.
        ids: Its ids, after leading special tokens if there are any.
        ranges: Where the characters are in the text; blanks at their ends do not count.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> [token < 0 for token in mark(ByT5Tokenizer(), "ab c", [100, 101, 35, 102], [(1, 3)])]
        [False, True, False, False]
    """
    places = [_stripped(text, *characters) for characters in ranges]
    encoded = tokenizer(text, verbose=False, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    lead = len(ids) - len(encoded["input_ids"])
    if tokenizer.is_fast and lead >= 0 and list(ids[lead:]) == list(encoded["input_ids"]):
        marked = [
            lead + i
            for i, (start, end) in enumerate(encoded["offset_mapping"])
            if any(max(start, first) < min(max(end, start + 1), last) for first, last in places)
        ]
    else:
        before = max(lead, 0)
        edges = [[before + _count(tokenizer, text[:edge].rstrip()) for edge in place] for place in places]
        marked = [i for start, end in edges for i in range(start, min(end, len(ids)))]
    found = list(ids)
    for i in set(marked):
        found[i] = ~found[i]
    return found


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def _count(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return len(tokenizer(text, verbose=False, add_special_tokens=False)["input_ids"]) if text else 0

"""From texts to token ids: where the scored part of a candidate begins, which token precedes it, and chat prompts.

Special tokens that the tokenizer adds are never scored: those before a text are given, those after it (``</s>``) are
left out, since the answer continues the question. Special tokens in the text itself are scored.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.evaluation.chat_template import render_chat

PROBES = ("a", "1", ".", "é", "我")  # any vocabulary has one of them


class TextEncoder:
    """Tokenizes texts that continue: with the tokenizer's leading special tokens, without the trailing ones.

    Args:
        tokenizer: The model's tokenizer.
        target: Encode the decoder's text, where the tokenizer distinguishes source and target.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> encoder = TextEncoder(ByT5Tokenizer())  # which ends texts with </s>, id 1
        >>> encoder("Yes"), encoder.lead, encoder.trail
        ([92, 104, 118], [], [1])
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, target: bool = False) -> None:
        self.tokenizer = tokenizer
        self.side = "text_target" if target else "text"
        self.lead, self.trail = self._special_tokens()

    def __call__(self, text: str, special_tokens: bool = True) -> list[int]:
        """Return a text's token ids, with or without leading special tokens."""
        return [*(self.lead if special_tokens else []), *self._ids(text, special_tokens=False)]

    def after(self, before: list[int], text: str, whole: list[int]) -> list[int]:
        """Encode a text alone, so that it decodes as in the whole text after the preceding ids.

        Args:
            before: Ids of the preceding text.
            text: The text, including leading blanks.
            whole: Ids of both, encoded together.
        """
        expected = self.tokenizer.decode(whole)
        line = self(f"\n{text}", special_tokens=False)
        start = self("\n", special_tokens=False)
        forms = [self(text, special_tokens=False), self(text.lstrip(), special_tokens=False)]
        if line[: len(start)] == start:  # without the blank that some tokenizers prepend
            forms.append(line[len(start) :])
        return next((ids for ids in forms if self.tokenizer.decode([*before, *ids]) == expected), forms[0])

    def _ids(self, text: str, special_tokens: bool) -> list[int]:
        ids = self.tokenizer(**{self.side: text}, verbose=False, add_special_tokens=special_tokens)["input_ids"]
        return list(ids)

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """Special tokens that the tokenizer puts before and after any text."""
        for probe in PROBES:
            plain, full = (self._ids(probe, special_tokens) for special_tokens in (False, True))
            if plain:
                break
        size = len(plain)
        starts = [i for i in range(len(full) - size + 1) if full[i : i + size] == plain]
        return (full[: starts[0]], full[starts[0] + size :]) if starts else ([], [])


class Encoded(NamedTuple):
    """Candidates as token ids.

    Args:
        ids: For each example its candidates.
        given: For each candidate how many of its first tokens are not scored.
        joined: For each example whether a token spans its question and an answer.
    """

    ids: list[list[list[int]]]
    given: list[list[int]]
    joined: list[bool]


def encode_candidates(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[tuple[str, str]]],
    start_token: bool = False,
    special_tokens: bool = True,
) -> Encoded:
    """Tokenize full texts and find how many of their first tokens are given.

    The given part is tokenized by itself without trailing blanks, which belong to the next word, and as many tokens of
    the full text are not scored, as in lm-evaluation-harness. A chat template's trailing newline stays.

    Where a token spans the given part and what follows, all candidates of the example are scored with the rest
    encoded alone, after the tokens of the given part; the harness scores whatever is at that position.

    Args:
        tokenizer: The model's tokenizer.
        texts: For each example its candidates: the full text, and its given beginning (or empty).
        start_token: Put the tokenizer's beginning (or end) token, instead of those it adds itself, before texts without
            a given part, so that the whole text is scored, as in lm-evaluation-harness.
        special_tokens: Whether the tokenizer adds its special tokens; false where a chat template already did.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> encode_candidates(ByT5Tokenizer(), [[("Yes", ""), ("No", "")]], special_tokens=False)
        Encoded(ids=[[[92, 104, 118], [81, 114]]], given=[[1, 1]], joined=[False])
        >>> encode_candidates(ByT5Tokenizer(), [[("Yes", "")]], start_token=True).ids
        [[[1, 92, 104, 118]]]
    """
    encoder = TextEncoder(tokenizer)
    first = start_id(tokenizer) if start_token else None
    before: dict[str, list[int]] = {}  # the given part to its ids

    def encode(text: str, begin: str) -> list[int]:
        if begin.strip() or first is None:
            return encoder(text, special_tokens)
        ids = encoder(text, special_tokens=False)
        return ids if ids[:1] == [first] else [first, *ids]

    encoded = Encoded([], [], [])
    for example in texts:
        for _, begin in example:
            if begin.strip() and begin not in before:
                before[begin] = encoder(begin.rstrip() if special_tokens else begin, special_tokens)
        ids = [encode(text, begin) for text, begin in example]
        starts = [before.get(begin, []) for _, begin in example]
        joined = any(one[: len(start)] != start for one, start in zip(ids, starts, strict=True))
        if joined:
            answers = [text[len(begin.rstrip() if special_tokens else begin) :] for text, begin in example]
            ids = [
                [*start, *encoder.after(start, answer, one)]
                for one, start, answer in zip(ids, starts, answers, strict=True)
            ]
        unscored = max(len(encoder.lead), 1) if special_tokens and first is None else 1
        encoded.ids.append(ids)
        encoded.given.append([len(start) or unscored for start in starts])
        encoded.joined.append(joined)
    return encoded


def with_start(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Encoded:
    """Tokenize texts, starting with the beginning (or end) token where the tokenizer adds no special token itself.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> with_start(ByT5Tokenizer(), ["Yes"])
        Encoded(ids=[[[1, 92, 104, 118]]], given=[[1]], joined=[False])
    """
    encoder = TextEncoder(tokenizer)
    lead = encoder.lead or [start_id(tokenizer)]
    ids = [[[*lead, *encoder(text, special_tokens=False)]] for text in texts]
    return Encoded(ids, [[len(lead)] for _ in texts], [False for _ in texts])


def start_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the tokenizer's beginning token, else of its end token.

    Raises:
        UserError: If the tokenizer has neither.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> start_id(ByT5Tokenizer())
        1
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise UserError("the tokenizer has neither a beginning nor an end token, so the first token cannot be scored")


def chat_prompt(
    tokenizer: PreTrainedTokenizerBase,
    solved: Sequence[tuple[str, str]],
    question: str,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Return the prompt text that the assistant's answer follows.

    Args:
        tokenizer: A tokenizer with a chat template.
        solved: Questions and answers of earlier turns.
        question: The question.
        options: Template variables besides the messages, such as ``{"enable_thinking": False}``.

    Raises:
        UserError: If the tokenizer has no chat template, or it fails.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> tokenizer = ByT5Tokenizer()
        >>> tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}; {% endfor %}assistant:"
        >>> chat_prompt(tokenizer, [("2 + 2?", "4")], "3 + 3?")
        'user: 2 + 2?; assistant: 4; user: 3 + 3?; assistant:'
    """
    pairs = [*solved, (question, "")]
    turns = [(role, text.strip()) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    return render_chat(tokenizer, [{"role": role, "content": text} for role, text in turns[:-1]], options or {})

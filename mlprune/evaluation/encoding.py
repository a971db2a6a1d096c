"""Tokenizing candidates: where the scored part begins, the token that may stand before it, and chat prompts."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError


def encode_candidates(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[tuple[str, str]]],
    start_token: bool = False,
    special_tokens: bool = True,
) -> tuple[list[list[list[int]]], list[list[int]]]:
    """Tokenize full texts and find how many of their first tokens are given.

    The given part is tokenized by itself without its last blanks, which belong to the word that follows, and its number
    of tokens is cut off the full text's, as lm-evaluation-harness does. A chat template's last line end stays.

    Args:
        tokenizer: The model's tokenizer.
        texts: For each example its candidates: the full text, and the part it begins with that is given (or empty).
        start_token: Put the tokenizer's beginning (or end) token, in place of those it adds itself, before texts of
            which nothing is given, so that all of the text is scored; as lm-evaluation-harness does.
        special_tokens: Whether the tokenizer adds its special tokens; not where a chat template has put all there are.

    Returns:
        Token ids, and the number of given tokens, at least 1.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> encode_candidates(ByT5Tokenizer(), [[("Yes", ""), ("No", "")]], special_tokens=False)
        ([[[92, 104, 118], [81, 114]]], [[1, 1]])
        >>> encode_candidates(ByT5Tokenizer(), [[("Yes", "")]], start_token=True)
        ([[[1, 92, 104, 118]]], [[1]])
    """
    first = start_id(tokenizer) if start_token else None

    def encode(text: str, start: int | None = None) -> list[int]:
        special = special_tokens and start is None
        ids = tokenizer(text, verbose=False, add_special_tokens=special)["input_ids"]
        return ids if start is None or ids[:1] == [start] else [start, *ids]

    ids: list[list[list[int]]] = []
    given: list[list[int]] = []
    known: dict[str, int] = {}
    for example in texts:
        for _, begin in example:
            if begin not in known:
                part = begin.rstrip() if special_tokens else begin
                known[begin] = max(len(encode(part)), 1) if begin.strip() else 1
        ids.append([encode(text, None if begin.strip() else first) for text, begin in example])
        given.append([known[begin] for _, begin in example])
    return ids, given


def with_start(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenize a text, with the beginning (or end) token first where the tokenizer itself puts no special token there.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> with_start(ByT5Tokenizer(), "Yes")
        [1, 92, 104, 118, 1]
    """
    ids = tokenizer(text, verbose=False)["input_ids"]
    return ids if ids[:1] and ids[0] in tokenizer.all_special_ids else [start_id(tokenizer), *ids]


def start_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token texts begin with: the beginning token, else the end token.

    Raises:
        UserError: If the tokenizer has neither.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> start_id(ByT5Tokenizer())
        1
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise UserError("the tokenizer has neither a beginning nor an end token, so the first token cannot be scored")


def chat_prompt(tokenizer: PreTrainedTokenizerBase, solved: Sequence[tuple[str, str]], question: str) -> str:
    """Return the text after which the assistant answers.

    Args:
        tokenizer: A tokenizer with a chat template.
        solved: Questions and answers that come before.
        question: The question.

    Raises:
        UserError: If the tokenizer has no chat template.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> tokenizer = ByT5Tokenizer()
        >>> tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}; {% endfor %}assistant:"
        >>> chat_prompt(tokenizer, [("2 + 2?", "4")], "3 + 3?")
        'user: 2 + 2?; assistant: 4; user: 3 + 3?; assistant:'
    """
    if not tokenizer.chat_template:
        raise UserError("chat_template: true needs a tokenizer with a chat template; this one has none")
    turns = [(role, text.strip()) for pair in solved for role, text in zip(("user", "assistant"), pair, strict=True)]
    messages = [{"role": role, "content": text} for role, text in [*turns, ("user", question.strip())]]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

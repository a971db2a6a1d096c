"""Where a continuation ends: at the end token, or before a stop text."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria


class StopTexts(StoppingCriteria):
    """A row is done once its continuation holds a stop text.

    Args:
        tokenizer: The model's tokenizer.
        stop: The texts.
        after_blanks: Whether they count only after a continuation's leading blanks.
        start: Position of the first new token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], after_blanks: bool, start: int) -> None:
        self.tokenizer = tokenizer
        self.stop = stop
        self.after_blanks = after_blanks
        self.start = start

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.start :])
        texts = [text.lstrip() if self.after_blanks else text for text in texts]
        done = [any(stop in text for stop in self.stop) for text in texts]
        return torch.tensor(done, device=input_ids.device)


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end a continuation: those of the generation_config and of the tokenizer.

    A chat model ends its turn with the tokenizer's end token; if the generation_config lacks it, text after the turn
    would count as part of the answer.
    """
    given = model.generation_config.eos_token_id
    ids = given if isinstance(given, list) else [given]
    return {token for token in [*ids, tokenizer.eos_token_id] if token is not None}


def until_end(tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    """Drop the padding after the end token.

    Example:
        >>> until_end([5, 6, 1, 0, 0], ends={1})
        [5, 6, 1]
    """
    last = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return list(tokens[: last + 1])


def cut_at(text: str, stop: Sequence[str]) -> tuple[str, str]:
    """Cut a continuation before the first stop text, after dropping leading blanks; return it and the stop text.

    Example:
        >>> cut_at(" Hello.\\nFrench: Bonjour", ["\\n", "French:"])
        ('Hello.', '\\n')
        >>> cut_at(" Hello.", ["\\n"])
        ('Hello.', '')
    """
    text = text.lstrip()
    found = min(((text.index(mark), mark) for mark in stop if mark in text), default=(len(text), ""))
    return text[: found[0]].strip(), found[1]

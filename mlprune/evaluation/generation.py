"""Continuing few-shot prompts: what the prompts share runs once, and a stop is a rule, not luck."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from mlprune.errors import UserError
from mlprune.evaluation.forward import hidden_states
from mlprune.evaluation.lengths import max_length
from mlprune.models.blocks import model_device
from mlprune.models.tokens import pad_token_id


class _StopTexts(StoppingCriteria):
    """A row is done once its continuation holds a stop text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, start: int, stop: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.start = start
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.start :])
        done = [any(stop in text.lstrip() for stop in self.stop) for text in texts]
        return torch.tensor(done, device=input_ids.device)


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int = 64,
    stop: Sequence[str] = ("\n",),
    num_beams: int = 1,
) -> list[str]:
    """Continue prompts, greedily or by beam search.

    Args:
        model: A causal model.
        tokenizer: Its tokenizer.
        prompts: Texts; a prefix of tokens that all share is run once.
        max_new_tokens: Longest continuation, in tokens.
        stop: Texts that end a continuation; it is cut before the first of them.
        num_beams: 1 for greedy search.

    Returns:
        Continuations without prompts and surrounding blanks.

    Raises:
        UserError: If a prompt and its continuation do not fit into the model.
    """
    if not prompts:
        return []
    ids = [tokenizer(prompt, verbose=False)["input_ids"] for prompt in prompts]
    limit = max_length(model)
    longest = max(map(len, ids)) + max_new_tokens
    if limit is not None and longest > limit:
        raise UserError(f"a prompt needs {longest} tokens with its continuation; the model takes {limit}")
    shared = _shared_prefix(model, ids, longest, num_beams)
    device = model_device(model)
    pad = pad_token_id(tokenizer)
    width = max(map(len, ids))
    # padding stands between the shared prefix and each prompt's own end
    rows = torch.tensor([seq[:shared] + [pad] * (width - len(seq)) + seq[shared:] for seq in ids], device=device)
    mask = torch.tensor([[1] * shared + [0] * (width - len(s)) + [1] * (len(s) - shared) for s in ids], device=device)
    options = {}
    if shared:
        cache = DynamicCache(config=model.config)
        prefix = rows[:1, :shared]
        hidden_states(model, {"input_ids": prefix, "past_key_values": cache, "use_cache": True})
        cache.batch_repeat_interleave(len(prompts))
        options["past_key_values"] = cache
    output = model.generate(
        input_ids=rows,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        top_k=None,
        top_p=None,
        temperature=None,
        pad_token_id=pad,
        stopping_criteria=StoppingCriteriaList([_StopTexts(tokenizer, width, stop)]),
        **options,
    )
    texts = tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
    return [cut_at(text, stop) for text in texts]


def cut_at(text: str, stop: Sequence[str]) -> str:
    """Cut a continuation before the first stop text, leading blanks dropped first.

    Example:
        >>> cut_at(" Hello.\\nFrench: Bonjour", ["\\n", "French:"])
        'Hello.'
    """
    text = text.lstrip()
    ends = [text.find(mark) for mark in stop if mark in text]
    return text[: min(ends)].strip() if ends else text.strip()


def _shared_prefix(model: PreTrainedModel, ids: list[list[int]], longest: int, num_beams: int) -> int:
    """How many tokens may run once for all: none where padding in between would shift a sliding window."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if num_beams > 1 or len(ids) < 2 or (window is not None and longest + 64 > window):
        return 0
    return len(os.path.commonprefix([sequence[:-1] for sequence in ids]))

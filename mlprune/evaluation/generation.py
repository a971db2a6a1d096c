"""Continuing many prompts that share solved examples: what they share runs once, and all start from its cache.

Decoding itself is transformers' ``generate``, so that the output is what it gives on the full prompts by plain search.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from mlprune.errors import ExampleError, UserError, reason_of
from mlprune.evaluation.encoder_decoder import decoder_start
from mlprune.evaluation.encoding import TextEncoder
from mlprune.evaluation.lengths import TooLong, check_too_long, max_length
from mlprune.evaluation.padding import pad, together
from mlprune.evaluation.plain_search import RefuseNonFinite, plain_search
from mlprune.evaluation.prefixes import prefix_tree
from mlprune.evaluation.shared import PrefixCache, run_tree, sharing_of
from mlprune.log import log
from mlprune.models.blocks import model_device
from mlprune.models.decoder_start import decoder_start_of
from mlprune.models.language_tokens import has_languages
from mlprune.models.tokens import pad_token_id

BATCH_TOKENS = {"cpu": 1 << 14}  # cached tokens of the prompts that are decoded together
BATCH_TOKENS_ELSEWHERE = 1 << 16
UNCACHED: WeakSet[PreTrainedModel] = WeakSet()  # models whose own cache fails them (xLSTM of some sizes)


@dataclass(frozen=True)
class Search:
    """How texts are continued: see :func:`generate`.

    Args:
        max_new_tokens: Longest continuation, in tokens.
        num_beams: 1 for greedy search.
        too_long: What to do with a prompt that leaves no room for it.
        batch_size: At most so many prompts in a batch; a token budget alone decides if omitted.

    Raises:
        UserError: If a value is not allowed.

    Example:
        >>> Search(num_beams=4).max_new_tokens
        64
    """

    max_new_tokens: int = 64
    num_beams: int = 1
    too_long: TooLong = "error"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for key in ("max_new_tokens", "num_beams", "batch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"{key} {value} is not allowed; give at least 1")
        check_too_long(self.too_long)


@dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt.

    Args:
        text: The continuation without the stop text and surrounding blanks.
        stopped: The stop text that ended it, ``end`` for the end token, or ``length`` for neither.
        tokens_cut: How many tokens its prompt lost, as it was too long.

    Example:
        >>> Continuation("It rains.", stopped="\\n").text
        'It rains.'
    """

    text: str
    stopped: str
    tokens_cut: int = 0


class _StopTexts(StoppingCriteria):
    """A row is done once its continuation holds a stop text, after the blanks it begins with or anywhere."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, start: int, stop: Sequence[str], after_blanks: bool) -> None:
        self.tokenizer = tokenizer
        self.start = start
        self.stop = stop
        self.after_blanks = after_blanks

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.start :])
        texts = [text.lstrip() if self.after_blanks else text for text in texts]
        done = [any(stop in text for stop in self.stop) for text in texts]
        return torch.tensor(done, device=input_ids.device)


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int = 64,
    stop: Sequence[str] = ("\n",),
    num_beams: int = 1,
    special_tokens: bool = True,
    too_long: TooLong = "error",
    batch_size: int | None = None,
) -> list[Continuation]:
    """Continue prompts, greedily or by beam search.

    Args:
        model: A causal model, or an encoder-decoder model whose encoder reads the prompts.
        tokenizer: Its tokenizer; one that knows languages reads its ``src_lang`` and writes its ``tgt_lang``.
        prompts: Texts; what they begin with in common runs once.
        max_new_tokens: Longest continuation, in tokens.
        stop: Texts that end a continuation; it is cut before the first of them. Blanks at its beginning do not count.
        num_beams: 1 for greedy search.
        special_tokens: Whether the tokenizer adds its special tokens; not where a chat template already has.
        too_long: What to do with a prompt that leaves no room for its continuation: ``error``, or ``truncate`` to drop
            tokens at its beginning, after the first.
        batch_size: At most so many prompts in a batch; a token budget alone decides if omitted.

    Raises:
        UserError: If a prompt and its continuation do not fit into the model, or its logits are not finite.

    Example:
        >>> from transformers import ByT5Tokenizer, GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=384)).eval()
        >>> found = generate(model, ByT5Tokenizer(), ["French: Il pleut.\\nEnglish:"], max_new_tokens=3)
        >>> len(found)
        1
    """
    if model.config.is_encoder_decoder:
        ids = [tokenizer(prompt, verbose=False, add_special_tokens=special_tokens)["input_ids"] for prompt in prompts]
    else:
        encoder = TextEncoder(tokenizer)
        ids = [encoder(prompt, special_tokens) for prompt in prompts]
    Search(max_new_tokens, num_beams, too_long, batch_size)
    ids, cut = _fit(model, ids, max_new_tokens, too_long)
    ends = _end_ids(model, tokenizer)
    found = continue_ids(model, tokenizer, ids, max_new_tokens, stop, num_beams, batch_size)
    texts = [_finish(tokenizer, tokens, stop, ends) for tokens in found]
    return [replace(text, tokens_cut=over) for text, over in zip(texts, cut, strict=True)]


@torch.no_grad()
def continue_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[list[int]],
    max_new_tokens: int,
    stop: Sequence[str],
    num_beams: int = 1,
    batch_size: int | None = None,
    after_blanks: bool = True,
) -> list[list[int]]:
    """Continue prompts of token ids, greedily or by beam search; see :func:`generate`.

    Args:
        model: As there.
        tokenizer: As there.
        ids: Token ids of the prompts, or of what the encoder reads, with room for what follows.
        max_new_tokens: As there.
        stop: Texts after which nothing more is needed.
        num_beams: As there.
        batch_size: As there.
        after_blanks: Whether stop texts count only after the blanks that a continuation begins with.

    Returns:
        What was written after each prompt, up to the end token or beyond the first stop text.

    Raises:
        UserError: If the logits are not finite.

    Example:
        >>> from transformers import ByT5Tokenizer, GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=384)).eval()
        >>> len(continue_ids(model, ByT5Tokenizer(), [[70, 71, 72]], max_new_tokens=1, stop=[])[0])
        1
    """
    device = model_device(model)
    budget = BATCH_TOKENS.get(device.type, BATCH_TOKENS_ELSEWHERE)
    longest = max(map(len, ids), default=0) + max_new_tokens
    rows = min(max(budget // (longest * num_beams), 1), batch_size or len(ids))
    results: dict[int, list[int]] = {}
    for part in together(model, ids, rows):
        found = _continue(model, tokenizer, [ids[i] for i in part], max_new_tokens, stop, num_beams, after_blanks)
        results |= dict(zip(part, found, strict=True))
    return [results[i] for i in range(len(ids))]


def _fit(
    model: PreTrainedModel, ids: list[list[int]], max_new_tokens: int, too_long: TooLong
) -> tuple[list[list[int]], list[int]]:
    """Make room for continuations; return the prompts and how many tokens each lost."""
    limit = max_length(model)
    if limit is None:
        return ids, [0] * len(ids)
    room = limit if model.config.is_encoder_decoder else limit - max_new_tokens
    over = [max(len(prompt) - room, 0) for prompt in ids]
    for i, (prompt, drop) in enumerate(zip(ids, over, strict=True)):
        if drop and (too_long == "error" or room < 2):
            raise ExampleError(
                i,
                f"its prompt has {len(prompt)} tokens and may grow by {max_new_tokens}; the model takes {limit}; "
                "use fewer shots, a smaller max_new_tokens, or too_long: truncate",
            )
    if any(over):
        count = sum(drop > 0 for drop in over)
        log.warning("%d of %d prompts were too long for the model: up to %d tokens cut", count, len(ids), max(over))
    return [[*prompt[:1], *prompt[1 + drop :]] for prompt, drop in zip(ids, over, strict=True)], over


def _continue(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: list[list[int]],
    max_new_tokens: int,
    stop: Sequence[str],
    num_beams: int,
    after_blanks: bool,
) -> list[list[int]]:
    width = max(map(len, ids))
    padding = pad_token_id(tokenizer)
    padded = pad(model, ids, padding)
    options: dict[str, Any] = {}
    sharing = None if model.config.is_encoder_decoder else sharing_of(model)
    if sharing is not None and sharing.min_saved is not None and width > 1:
        options["past_key_values"] = _prefilled(model, ids, sharing.cache_bytes, num_beams)
    start = width
    if model.config.is_encoder_decoder:
        options |= _decoder_options(model, tokenizer, len(ids))
        start = options["decoder_input_ids"].shape[1]
    ends = _end_ids(model, tokenizer)
    options |= {
        **padded,
        "max_new_tokens": max_new_tokens,
        "num_beams": num_beams,
        "pad_token_id": padding,
        "eos_token_id": sorted(ends) or None,
        "logits_processor": LogitsProcessorList([RefuseNonFinite()]),
        "stopping_criteria": StoppingCriteriaList([_StopTexts(tokenizer, start, stop, after_blanks)]),
    }
    with plain_search(model, num_beams):
        output = _search(model, options)
    return [_until_end(tokens, ends) for tokens in output[:, start:].tolist()]


def _until_end(tokens: list[int], ends: set[int]) -> list[int]:
    """Leave out what fills a row after its end token."""
    last = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: last + 1]


def _search(model: PreTrainedModel, options: dict[str, Any]) -> Tensor:
    """Run ``generate``; without a cache, slower, if the architecture's own cache fails."""
    search = cast("Callable[..., Tensor]", model.generate)
    try:
        if model not in UNCACHED:
            return search(**options)
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # architectures raise what they like
        log.warning(
            "%s: decoding with a cache fails (%s); it runs without one", type(model).__name__, reason_of(error)[:100]
        )
        UNCACHED.add(model)
    try:
        return search(**{name: value for name, value in options.items() if name != "past_key_values"}, use_cache=False)
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UserError(f"{type(model).__name__} cannot continue texts: {reason_of(error)[:200]}") from error


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end a continuation: those of the generation_config and the tokenizer's own.

    A chat model's turn ends with the tokenizer's; where the generation_config lacks that one, what the model writes
    after its turn would be taken for a part of the translation.
    """
    given = model.generation_config.eos_token_id
    ids = given if isinstance(given, list) else [given]
    return {token for token in [*ids, tokenizer.eos_token_id] if token is not None}


def _decoder_options(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int) -> dict[str, Any]:
    """What the decoder starts from: its start token, and the target language where the tokenizer knows languages."""
    start, lead = decoder_start(model, tokenizer) if has_languages(tokenizer) else (None, [])
    start = decoder_start_of(model) if start is None else start
    ids = torch.tensor([[start, *lead]] * count, device=model_device(model))
    return {"decoder_start_token_id": start, "decoder_input_ids": ids}


def _prefilled(model: PreTrainedModel, ids: list[list[int]], cache_bytes: int, num_beams: int) -> DynamicCache:
    """Run all prompts but for their last tokens, what they share once."""
    inputs = [tuple(prompt[:-1]) for prompt in ids]
    levels, ends = prefix_tree(inputs)
    prefixes = PrefixCache(keep_all=True)
    for _ in run_tree(model, levels, cache_bytes, prefixes=prefixes):
        pass
    cache, _ = prefixes.up_to([(ends[run], len(run)) for run in inputs])
    if num_beams > 1:
        cache.batch_repeat_interleave(num_beams)
    return cache


def _finish(tokenizer: PreTrainedTokenizerBase, tokens: list[int], stop: Sequence[str], ends: set[int]) -> Continuation:
    last = next((i for i, token in enumerate(tokens) if token in ends), None)
    decoded = tokenizer.decode(tokens[:last], skip_special_tokens=True)
    assert isinstance(decoded, str)
    text, mark = cut_at(decoded, stop)
    return Continuation(text, mark or ("length" if last is None else "end"))


def cut_at(text: str, stop: Sequence[str]) -> tuple[str, str]:
    """Cut a continuation before the first stop text, leading blanks dropped first; return it and the stop text.

    Example:
        >>> cut_at(" Hello.\\nFrench: Bonjour", ["\\n", "French:"])
        ('Hello.', '\\n')
        >>> cut_at(" Hello.", ["\\n"])
        ('Hello.', '')
    """
    text = text.lstrip()
    found = min(((text.index(mark), mark) for mark in stop if mark in text), default=(len(text), ""))
    return text[: found[0]].strip(), found[1]

"""Continuing many prompts that share solved examples: the shared prefix runs once, and all start from its cache.

Decoding is transformers' ``generate``, so the output is the same as for the full prompts with plain search.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteriaList

from mlprune.errors import ExampleError, UserError, is_out_of_memory, reason_of
from mlprune.evaluation.lengths import TooLong, max_length
from mlprune.evaluation.model_kinds import ModelKind, model_kind
from mlprune.evaluation.options import Search
from mlprune.evaluation.padding import pad, together
from mlprune.evaluation.plain_search import RefuseNonFinite, plain_search
from mlprune.evaluation.shared import sharing_of
from mlprune.evaluation.stopping import StopTexts, cut_at, end_ids, until_end
from mlprune.log import log
from mlprune.models.attention import without_plans
from mlprune.models.blocks import model_device
from mlprune.models.room import activation_bytes, token_budget
from mlprune.models.tokens import pad_token_id

HOST_TOKENS = 1 << 14  # cached tokens of the prompts that are decoded together
UNCACHED: WeakSet[PreTrainedModel] = WeakSet()  # models that fail with their own cache (xLSTM of some sizes)


@dataclass(frozen=True)
class Continuation:
    """What a model generated after a prompt.

    Args:
        text: The continuation without the stop text and surrounding blanks.
        stopped: The stop text that ended it, ``end`` for the end token, or ``length`` for neither.
        tokens_cut: How many tokens were cut from its prompt, which was too long.

    Example:
        >>> Continuation("It rains.", stopped="\\n").text
        'It rains.'
    """

    text: str
    stopped: str
    tokens_cut: int = 0


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
        prompts: Texts; shared prefixes run once.
        max_new_tokens: Longest continuation, in tokens.
        stop: Texts that end a continuation, which is cut before the first of them; leading blanks are ignored.
        num_beams: 1 for greedy search.
        special_tokens: Whether the tokenizer adds its special tokens; false where a chat template already did.
        too_long: What to do with a prompt that leaves no room for its continuation: ``error``, or ``truncate`` to drop
            tokens after its first one.
        batch_size: At most this many prompts in a batch; a token budget alone decides if omitted.

    Raises:
        UserError: If a prompt and its continuation do not fit into the model, or its logits are not finite.

    Example:
        >>> from transformers import ByT5Tokenizer, GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=384)).eval()
        >>> found = generate(model, ByT5Tokenizer(), ["French: Il pleut.\\nEnglish:"], max_new_tokens=3)
        >>> len(found)
        1
    """
    search = Search(max_new_tokens, num_beams, too_long, batch_size)
    kind = model_kind(model)
    ids, cut = _fit(model, kind, kind.prompt_ids(tokenizer, prompts, special_tokens), search)
    found = continue_ids(model, tokenizer, ids, max_new_tokens, stop, num_beams, batch_size)
    ends = end_ids(model, tokenizer)
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
        ids: Token ids of the prompts (or of the encoder's texts), with room for the continuation.
        max_new_tokens: As there.
        stop: Texts after which generation may stop.
        num_beams: As there.
        batch_size: As there.
        after_blanks: Whether stop texts count only after a continuation's leading blanks.

    Returns:
        The token ids generated after each prompt, up to the end token or past the first stop text.

    Raises:
        UserError: If the logits are not finite.

    Example:
        >>> from transformers import ByT5Tokenizer, GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=384)).eval()
        >>> len(continue_ids(model, ByT5Tokenizer(), [[70, 71, 72]], max_new_tokens=1, stop=[])[0])
        1
    """
    kind = model_kind(model)
    budget = token_budget(model, HOST_TOKENS, lambda: max(sharing_of(model).cache_bytes, activation_bytes(model)))
    longest = max(map(len, ids), default=0) + max_new_tokens
    rows = min(max(budget // (longest * num_beams), 1), batch_size or len(ids))
    stopping = partial(StopTexts, tokenizer, stop, after_blanks)
    results: dict[int, list[int]] = {}
    for part in together(ids, rows, kind.mixes_lengths(model)):
        found = _continue(model, kind, tokenizer, [ids[i] for i in part], max_new_tokens, num_beams, stopping)
        results |= dict(zip(part, found, strict=True))
    return [results[i] for i in range(len(ids))]


def _fit(
    model: PreTrainedModel, kind: ModelKind, ids: list[list[int]], search: Search
) -> tuple[list[list[int]], list[int]]:
    """Make room for continuations; return the prompts and how many tokens were cut from each."""
    limit = max_length(model)
    if limit is None:
        return ids, [0] * len(ids)
    room = kind.prompt_limit(limit, search.max_new_tokens)
    over = [max(len(prompt) - room, 0) for prompt in ids]
    for i, (prompt, drop) in enumerate(zip(ids, over, strict=True)):
        if drop and (search.too_long == "error" or room < 2):
            raise ExampleError(
                i,
                f"its prompt has {len(prompt)} tokens and may grow by {search.max_new_tokens}; the model takes "
                f"{limit}; use fewer shots, a smaller max_new_tokens, or too_long: truncate",
            )
    if any(over):
        count = sum(drop > 0 for drop in over)
        log.warning("%d of %d prompts were too long for the model: up to %d tokens cut", count, len(ids), max(over))
    return [[*prompt[:1], *prompt[1 + drop :]] for prompt, drop in zip(ids, over, strict=True)], over


@without_plans()
def _continue(
    model: PreTrainedModel,
    kind: ModelKind,
    tokenizer: PreTrainedTokenizerBase,
    ids: list[list[int]],
    max_new_tokens: int,
    num_beams: int,
    stopping: Callable[[int], StopTexts],
) -> list[list[int]]:
    padding, ends = pad_token_id(tokenizer), end_ids(model, tokenizer)
    options, start = kind.generation_options(model, tokenizer, ids, num_beams)
    options |= {
        **pad(ids, padding, kind.padding_side, model_device(model)),
        "max_new_tokens": max_new_tokens,
        "num_beams": num_beams,
        "pad_token_id": padding,
        "eos_token_id": sorted(ends) or None,
        "logits_processor": LogitsProcessorList([RefuseNonFinite()]),
        "stopping_criteria": StoppingCriteriaList([stopping(start)]),
    }
    with plain_search(model, num_beams):
        output = _search(model, options)
    return [until_end(tokens, ends) for tokens in output[:, start:].tolist()]


def _search(model: PreTrainedModel, options: dict[str, Any]) -> Tensor:
    """Run ``generate``, without a cache (slower) if the architecture's cache fails."""
    search = cast("Callable[..., Tensor]", model.generate)
    try:
        if model not in UNCACHED:
            return search(**options)
    except UserError:
        raise
    except Exception as error:  # architectures raise anything
        if is_out_of_memory(error):
            raise
        log.warning(
            "%s: decoding with a cache fails (%s); it runs without one", type(model).__name__, reason_of(error)[:100]
        )
        UNCACHED.add(model)
    try:
        return search(**{name: value for name, value in options.items() if name != "past_key_values"}, use_cache=False)
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(f"{type(model).__name__} cannot continue texts: {reason_of(error)[:200]}") from error


def _finish(tokenizer: PreTrainedTokenizerBase, tokens: list[int], stop: Sequence[str], ends: set[int]) -> Continuation:
    last = next((i for i, token in enumerate(tokens) if token in ends), None)
    decoded = tokenizer.decode(tokens[:last], skip_special_tokens=True)
    assert isinstance(decoded, str)
    text, mark = cut_at(decoded, stop)
    return Continuation(text, mark or ("length" if last is None else "end"))

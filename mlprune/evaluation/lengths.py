"""How long texts may be for a model, and what happens to longer ones: an error, or truncation, which is counted."""

from collections.abc import Sequence
from typing import Literal, get_args

from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.log import log

TooLong = Literal["error", "truncate"]
# models with ALiBi or relative positions, whose configs mention a maximum all the same
UNLIMITED = ("bloom", "mpt", "t5", "mt5", "umt5", "longt5")


def check_too_long(value: str) -> None:
    """Raise UserError unless a setting ``too_long`` is known."""
    if value not in get_args(TooLong):
        raise UserError(f"too_long '{value}' is not allowed; give {' or '.join(get_args(TooLong))}")


def max_length(model: PreTrainedModel) -> int | None:
    """Return the model's maximum number of tokens, or None if positions are unlimited (ALiBi, T5).

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> max_length(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, n_positions=32)))
        32
    """
    if model.config.model_type in UNLIMITED:
        return None
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        # longer texts change the rotation of all positions, also for shorter texts in the batch
        original: int = rope["original_max_position_embeddings"]
        return original
    limit = getattr(config, "max_position_embeddings", None)
    return limit if limit is not None and limit > 0 else None  # XLNet says -1


def tokens_over(
    model: PreTrainedModel, ids: Sequence[Sequence[Sequence[int]]], contexts: Sequence[Sequence[int]] | None = None
) -> list[int]:
    """Return by how many tokens each example's longest candidate, or its context, exceeds the model's maximum.

    Args:
        model: The model.
        ids: For each example its candidates' token ids.
        contexts: For each example the encoder's ids.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, n_positions=4))
        >>> tokens_over(model, [[[1, 2, 3, 4, 5, 6], [1]], [[1, 2]]])
        [2, 0]
    """
    limit = max_length(model)
    longest = [max(map(len, example), default=0) for example in ids]
    if contexts is not None:
        longest = [max(length, len(context)) for length, context in zip(longest, contexts, strict=True)]
    return [0 if limit is None else max(length - limit, 0) for length in longest]


def fit(
    model: PreTrainedModel,
    ids: Sequence[Sequence[Sequence[int]]],
    first: Sequence[Sequence[int]],
    too_long: TooLong = "error",
) -> tuple[list[list[list[int]]], list[list[int]]]:
    """Make every candidate fit into the model.

    Args:
        model: The model.
        ids: For each example its candidates' token ids.
        first: For each candidate the position of its first scored token.
        too_long: ``error``; or ``truncate``: all candidates of an example lose as many tokens as the longest one must,
            after their first token, which may be a special token.

    Returns:
        Token ids and positions, with tokens dropped.

    Raises:
        UserError: If a candidate has no token to score, or is too long and may not be truncated.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, n_positions=4))
        >>> fit(model, [[[1, 2, 3, 4, 5, 6], [1, 2, 3, 4]]], [[3, 3]], "truncate")
        ([[[1, 4, 5, 6], [1, 4]]], [[1, 1]])
    """
    limit = max_length(model)
    fitted, starts, cut = [], [], []
    for i, (example, begin, drop) in enumerate(zip(ids, first, tokens_over(model, ids), strict=True)):
        if drop and too_long == "error":
            raise UserError(
                f"example {i} has {max(map(len, example))} tokens; the model takes {limit}; "
                "shorten the texts or set too_long: truncate"
            )
        fitted.append([[*candidate[:1], *candidate[1 + drop :]] for candidate in example])
        starts.append([max(start - drop, min(start, 1)) for start in begin])
        if drop:
            cut.append(drop)
        for j, (candidate, start) in enumerate(zip(fitted[-1], starts[-1], strict=True)):
            if len(candidate) <= start:
                raise UserError(f"example {i}, candidate {j}: {len(example[j])} tokens leave none to score")
    if cut:
        log.warning("%d of %d examples were too long for the model: up to %d tokens cut", len(cut), len(ids), max(cut))
    return fitted, starts

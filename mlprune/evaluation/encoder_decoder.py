"""Encoder-decoder models: contexts run through the encoder once, candidates through the decoder.

Shapes: B pairs of a context and a candidate, T tokens of the candidates, H hidden size.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from mlprune.batching import token_batches
from mlprune.errors import UserError
from mlprune.evaluation.encoding import TextEncoder
from mlprune.evaluation.forward import hidden_states
from mlprune.models.blocks import model_device
from mlprune.models.decoder_start import decoder_start_of
from mlprune.models.language_tokens import has_languages, language_ids
from mlprune.models.room import token_budget

HOST_TOKENS = 2048  # so few keep a CPU busy

Pair = tuple[tuple[int, ...], tuple[int, ...]]


class DecoderStart(NamedTuple):
    """What a decoder reads before the text that it generates.

    Args:
        start: Its start token; None for the one in the model's config.
        lead: Given tokens after it, such as the target language's code.
    """

    start: int | None
    lead: list[int]


def decoder_start(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> DecoderStart:
    """Determine how the decoder's text must begin.

    A code of the target language stands first in the text (NLLB, M2M-100, mBART-50), or, where the tokenizer writes it
    last and the model's config names no other token, is what the decoder starts from (mBART).

    Args:
        model: An encoder-decoder model.
        tokenizer: Its tokenizer, set to a target language where it knows any.

    Raises:
        UserError: If the tokenizer knows languages and is set to none.
    """
    if not has_languages(tokenizer):
        return DecoderStart(None, TextEncoder(tokenizer, target=True).lead)
    if tokenizer.tgt_lang is None:
        raise UserError(f"{type(tokenizer).__name__}: its tgt_lang is not set, so the decoder's language is not known")
    encoder, codes = TextEncoder(tokenizer, target=True), language_ids(tokenizer)
    found = [token for token in [*encoder.lead, *encoder.trail] if token in codes]
    if not found or found[0] in encoder.lead:
        return DecoderStart(None, encoder.lead)
    if (named := getattr(model.config, "decoder_start_token_id", None)) is None or named in codes:
        return DecoderStart(found[0], encoder.lead)
    return DecoderStart(None, [*encoder.lead, found[0]])


def encode_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, answers: Sequence[Sequence[str]]
) -> tuple[list[list[list[int]]], list[list[int]], int | None]:
    """Tokenize the candidates that a decoder is scored on.

    Args:
        model: An encoder-decoder model.
        tokenizer: Its tokenizer.
        answers: For each example its candidates.

    Returns:
        Token ids, for each candidate how many of its first tokens are given, and the decoder's start
        token, or None for its config's.

    Raises:
        UserError: If the tokenizer knows languages and is set to none.
    """
    start, lead = decoder_start(model, tokenizer)
    encoder = TextEncoder(tokenizer, target=True)
    ids = [[[*lead, *encoder(answer, special_tokens=False)] for answer in example] for example in answers]
    return ids, [[len(lead)] * len(example) for example in answers], start


def decoder_hidden(
    model: PreTrainedModel, pairs: Sequence[Pair], batch_size: int | None = None, start: int | None = None
) -> Iterator[tuple[list[int], Tensor]]:
    """Run pairs of a context and a candidate.

    Args:
        model: An encoder-decoder model.
        pairs: Token ids of the encoder's and the decoder's text; position t of the decoder predicts its token t.
        batch_size: At most this many pairs per batch; a token budget alone decides if omitted.
        start: The decoder's start token; the one in the model's config if omitted.

    Raises:
        UserError: If the model does not define its decoder's start token.

    Yields:
        Positions of a batch in ``pairs``, and what the output head would receive, (B, T, H), padded on the right.
    """
    start = decoder_start_of(model) if start is None else start
    device = model_device(model)
    budget = token_budget(model, HOST_TOKENS)
    by_context: dict[tuple[int, ...], list[int]] = {}
    for i, (context, _) in enumerate(pairs):
        by_context.setdefault(context, []).append(i)
    contexts = list(by_context)
    costs = [max(len(c), sum(len(pairs[i][1]) for i in by_context[c])) for c in contexts]
    for batch in token_batches(costs, budget):
        encoded = _encode(model, [contexts[i] for i in batch], device)
        rows = [(row, i) for row, at in enumerate(batch) for i in by_context[contexts[at]]]
        step = batch_size or len(rows)
        for low in range(0, len(rows), step):
            part = rows[low : low + step]
            yield (
                [i for _, i in part],
                _decode(model, encoded, [row for row, _ in part], [pairs[i][1] for _, i in part], start),
            )


def _encode(
    model: PreTrainedModel, contexts: list[tuple[int, ...]], device: torch.device
) -> tuple[BaseModelOutput, Tensor, Tensor]:
    width = max(map(len, contexts))
    ids = torch.tensor([[*context, *[0] * (width - len(context))] for context in contexts], device=device)
    mask = torch.tensor([[1] * len(context) + [0] * (width - len(context)) for context in contexts], device=device)
    return model.get_encoder()(input_ids=ids, attention_mask=mask), ids, mask


def _decode(
    model: PreTrainedModel,
    encoded: tuple[BaseModelOutput, Tensor, Tensor],
    rows: list[int],
    candidates: list[tuple[int, ...]],
    start: int,
) -> Tensor:
    output, ids, mask = encoded
    states = output.last_hidden_state
    assert states is not None
    width = max(map(len, candidates))
    # each token is predicted from those before it, the first from the start token; none sees the padding on the right
    shifted = [[start, *ids[:-1], *[start] * (width - len(ids))] for ids in candidates]
    inputs = {
        "encoder_outputs": type(output)(last_hidden_state=states[rows]),  # some models need their own output class
        "input_ids": ids[rows],  # not encoded again, but without them FSMT's decoder is not causal
        "attention_mask": mask[rows],
        "decoder_input_ids": torch.tensor(shifted, device=states.device),
        "decoder_attention_mask": torch.ones(len(rows), width, dtype=torch.int64, device=states.device),
        "use_cache": False,
    }
    return hidden_states(model, inputs)

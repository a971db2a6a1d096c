"""Encoder-decoder models: contexts run through the encoder once, candidates through the decoder.

Shapes: B pairs of a context and a candidate, T tokens of the candidates, H hidden size.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from mlprune.batching import token_batches
from mlprune.errors import UserError
from mlprune.evaluation.forward import hidden_states
from mlprune.models.blocks import model_device

BATCH_TOKENS = {"cpu": 2048}
BATCH_TOKENS_ELSEWHERE = 16384

Pair = tuple[tuple[int, ...], tuple[int, ...]]


def decoder_hidden(
    model: PreTrainedModel, pairs: Sequence[Pair], batch_size: int | None = None
) -> Iterator[tuple[list[int], Tensor]]:
    """Run pairs of a context and a candidate.

    Args:
        model: An encoder-decoder model.
        pairs: Token ids of the encoder's and the decoder's text; position t of the decoder predicts its token t.
        batch_size: At most so many pairs in a batch; a token budget alone decides if omitted.

    Raises:
        UserError: If the model does not say what its decoder starts from.

    Yields:
        Positions of a batch in ``pairs``, and what the output head would receive, (B, T, H), padded on the right.
    """
    if model.config.decoder_start_token_id is None:
        raise UserError(f"{type(model).__name__}: its config has no decoder_start_token_id; set it in config.json")
    device = model_device(model)
    budget = BATCH_TOKENS.get(device.type, BATCH_TOKENS_ELSEWHERE)
    by_context: dict[tuple[int, ...], list[int]] = {}
    for i, (context, _) in enumerate(pairs):
        by_context.setdefault(context, []).append(i)
    contexts = list(by_context)
    costs = [max(len(c), sum(len(pairs[i][1]) for i in by_context[c])) for c in contexts]
    for batch in token_batches(costs, budget):
        encoded = _encode(model, [contexts[i] for i in batch], device)
        rows = [(row, i) for row, at in enumerate(batch) for i in by_context[contexts[at]]]
        step = batch_size or len(rows)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            yield (
                [i for _, i in part],
                _decode(model, encoded, [row for row, _ in part], [pairs[i][1] for _, i in part]),
            )


def _encode(model: PreTrainedModel, contexts: list[tuple[int, ...]], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, contexts))
    ids = torch.tensor([[*context, *[0] * (width - len(context))] for context in contexts], device=device)
    mask = torch.tensor([[1] * len(context) + [0] * (width - len(context)) for context in contexts], device=device)
    return model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state, mask


def _decode(
    model: PreTrainedModel, encoded: tuple[Tensor, Tensor], rows: list[int], candidates: list[tuple[int, ...]]
) -> Tensor:
    states, mask = encoded
    width = max(map(len, candidates))
    # each token is predicted from those before it, the first from the start token; padding to the right is seen by none
    start = model.config.decoder_start_token_id
    shifted = [[start, *ids[:-1], *[start] * (width - len(ids))] for ids in candidates]
    inputs = {
        "encoder_outputs": BaseModelOutput(last_hidden_state=states[rows]),
        "attention_mask": mask[rows],
        "decoder_input_ids": torch.tensor(shifted, device=states.device),
        "use_cache": False,
    }
    return hidden_states(model, inputs)

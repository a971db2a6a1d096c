"""The token that an encoder-decoder model's decoder starts from, where no language decides it."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mlprune.errors import UserError


def decoder_start_of(model: PreTrainedModel) -> int:
    """Return the token that the decoder reads first.

    It is the one that generation or the model names; else the one that the model itself puts before labels; else T5's,
    whose documentation says padding; else the one that generation falls back on, the beginning of a sequence.

    Args:
        model: An encoder-decoder model; its weights are not used.

    Raises:
        UserError: If the model does not say, or names a token that it does not have.

    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
        >>> decoder_start_of(T5ForConditionalGeneration(T5Config(vocab_size=9, pad_token_id=3, **sizes)))
        3
    """
    named = [getattr(c, "decoder_start_token_id", None) for c in (model.generation_config, model.config)]
    start = next((token for token in named if token is not None), None)
    start = _before_labels(model) if start is None else start
    if start is None:
        raise UserError(f"{type(model).__name__}: its config has no decoder_start_token_id; set it in config.json")
    embedding: nn.Module = getattr(model.get_decoder(), "embed_tokens", None) or model.get_input_embeddings()
    assert isinstance(embedding.weight, Tensor)
    rows = embedding.weight.shape[0]
    if not 0 <= start < rows:
        raise UserError(f"{type(model).__name__}: decoder_start_token_id {start} is not in its vocabulary of {rows}")
    return int(start)


def _before_labels(model: PreTrainedModel) -> int | None:
    """What the model puts before labels, unless that depends on them (mBART: their last token, a language's code)."""
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        return None
    try:
        first = {int(shift(torch.tensor([labels]))[0, 0]) for labels in ([11, 12, 13], [11, 12, 14])}
    except (AttributeError, ValueError, TypeError):  # it misses decoder_start_token_id itself
        return _pad_of_t5(model)
    return first.pop() if len(first) == 1 else None


def _pad_of_t5(model: PreTrainedModel) -> int | None:
    is_t5 = hasattr(model, "_shift_right") and hasattr(model.config, "relative_attention_num_buckets")
    return model.config.pad_token_id if is_t5 else None

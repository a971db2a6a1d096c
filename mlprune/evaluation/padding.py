"""Batching prompts of unequal lengths: whether and on which side padding changes nothing."""

from collections.abc import Iterator, Sequence
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from mlprune.evaluation.causality import probe_text
from mlprune.evaluation.forward import hidden_states
from mlprune.models.split import abreast

PADS = 3
_NEUTRAL: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def left_padding_is_neutral(model: PreTrainedModel) -> bool:
    """Determine, once per model, whether padding before a text leaves a causal model's output unchanged.

    It does not for models that count positions from the start of the batch, or recurrent ones that read the padding.

    Args:
        model: A causal model.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> left_padding_is_neutral(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval())
        True
    """
    if model not in _NEUTRAL:
        ids = probe_text(model, 7, seed=2)
        with torch.no_grad():
            alone, padded = abreast(model, [partial(_last, model, ids, pads) for pads in (0, PADS)])
        tolerance = 5e-2 if model.dtype.itemsize < 4 else 1e-3
        _NEUTRAL[model] = bool((alone - padded).abs().max() <= tolerance * alone.abs().max())
    return _NEUTRAL[model]


def _last(model: PreTrainedModel, ids: Tensor, pads: int) -> Tensor:
    """What the output head receives at the last token of a text, as ``generate`` would run it."""
    places = torch.arange(-pads, ids.shape[1], device=ids.device)[None]
    inputs = {
        "input_ids": torch.cat([ids.new_zeros(1, pads), ids], dim=1),
        "attention_mask": (places >= 0).long(),
        "position_ids": places.clamp(min=0),
        "use_cache": False,
    }
    return hidden_states(model, inputs if pads else {"input_ids": ids, "use_cache": False})[0, -1].float()


def together(ids: Sequence[Sequence[int]], rows: int, mixes_lengths: bool) -> Iterator[list[int]]:
    """Yield batches of prompts as positions, the longest first.

    Args:
        ids: Token ids of the prompts.
        rows: Maximum number of prompts in a batch.
        mixes_lengths: Whether a batch may have prompts of unequal lengths.

    Example:
        >>> list(together([[1], [1, 2], [3]], rows=2, mixes_lengths=False))
        [[1], [0, 2]]
    """
    order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
    part: list[int] = []
    for i in order:
        if part and (len(part) == rows or not (mixes_lengths or len(ids[i]) == len(ids[part[0]]))):
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def pad(ids: Sequence[Sequence[int]], token: int, side: str, device: torch.device) -> dict[str, Tensor]:
    """Return ``input_ids`` and ``attention_mask``.

    Args:
        ids: Token ids of B prompts.
        token: The padding token.
        side: Padding side, ``left`` or ``right``.
        device: Device of the tensors.

    Returns:
        Both int64 (B, T).
    """
    texts = [torch.tensor(prompt, device=device) for prompt in ids]
    masks = [torch.ones_like(text) for text in texts]
    return {
        "input_ids": pad_sequence(texts, batch_first=True, padding_value=token, padding_side=side),
        "attention_mask": pad_sequence(masks, batch_first=True, padding_side=side),
    }

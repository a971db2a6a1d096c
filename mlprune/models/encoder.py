"""Whether a language model continues a text, or reads one and writes another: decided here and nowhere else."""

from collections.abc import Sequence
from typing import Any


def has_encoder(model: Any) -> bool:
    """Return whether a model has an encoder besides its decoder.

    Args:
        model: A transformers model, or its configuration.

    Example:
        >>> from transformers import GPT2Config, T5Config
        >>> has_encoder(GPT2Config()), has_encoder(T5Config())
        (False, True)
    """
    return bool(getattr(model, "config", model).is_encoder_decoder)


def mask_names(model: Any, stacks: Sequence[str]) -> list[str]:
    """Return by which input each place of a model knows padding.

    Args:
        model: A transformers model.
        stacks: Of each place the stack of blocks, in order; the first is the encoder's if there is one.

    Example:
        >>> from transformers import GPT2Config, T5Config
        >>> mask_names(T5Config(), ["encoder", "decoder"]), mask_names(GPT2Config(), ["h"])
        (['attention_mask', 'decoder_attention_mask'], ['attention_mask'])
    """
    in_decoder = has_encoder(model)
    return ["decoder_attention_mask" if in_decoder and stack != stacks[0] else "attention_mask" for stack in stacks]

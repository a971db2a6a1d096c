"""Whether a language model continues a text, or reads one and writes another: decided here and nowhere else."""

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

"""The two kinds of language models in evaluation: one place decides, the rest calls methods."""

from typing import Any

from mlprune.evaluation.model_kinds.base import CandidateTexts, ModelKind, Request
from mlprune.evaluation.model_kinds.causal import Causal
from mlprune.evaluation.model_kinds.encoder_decoder import EncoderDecoder
from mlprune.models.encoder import has_encoder

__all__ = ["CandidateTexts", "ModelKind", "Request", "model_kind"]


def model_kind(model: Any) -> ModelKind:
    """Return a model's kind.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model_kind(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))).padding_side
        'left'
    """
    return EncoderDecoder() if has_encoder(model) else Causal()

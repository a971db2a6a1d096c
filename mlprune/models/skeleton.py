"""A model without its weights: its modules and their shapes, from the configuration alone."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.initialization import no_init_weights

from mlprune.errors import UserError
from mlprune.models.loading import ModelSource
from mlprune.models.streaming import parameters_on_meta


def skeleton(source: ModelSource) -> PreTrainedModel:
    """Return a model whose parameters are on the meta device, so that settings can be checked before it is loaded.

    Args:
        source: The model.

    Raises:
        UserError: If it cannot be built.
    """
    options: dict[str, Any] = {"dtype": getattr(torch, source.dtype)} if source.dtype != "auto" else {}
    if source.attn_implementation:
        options["attn_implementation"] = source.attn_implementation
    trusted = {"trust_remote_code": source.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source.location, revision=source.revision or "main", **trusted)
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with parameters_on_meta(), no_init_weights():
            return auto.from_config(config, **trusted, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"model.name '{source.name}' cannot be built: {str(error).strip().splitlines()[0]}") from error

"""Low-rank adapters for recovery training, through peft (extra ``lora``)."""

from typing import Any

from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.models.encoder import has_encoder


def check_lora(options: dict[str, Any] | None) -> None:
    """Raise UserError if adapters are requested and peft is missing or does not know an option."""
    if options is None:
        return
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise UserError('model.lora needs peft; run: pip install "mlprune[lora]"') from error
    try:
        rank = LoraConfig(task_type="CAUSAL_LM", **options).r
    except (TypeError, ValueError) as error:
        raise UserError(f"model.lora {options}: {error}") from error
    if not isinstance(rank, int) or rank < 1:
        raise UserError(f"model.lora: r {rank!r} is not allowed; give at least 1")


def add_lora(model: PreTrainedModel, options: dict[str, Any]) -> Any:
    """Freeze a model and put adapters on its linear layers.

    Args:
        model: The pruned model.
        options: Arguments of ``peft.LoraConfig`` such as ``r`` and ``lora_alpha``; all linear layers if none are named.

    Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models".
    """
    from peft import LoraConfig, get_peft_model

    kind = "SEQ_2_SEQ_LM" if has_encoder(model) else "CAUSAL_LM"
    return get_peft_model(model, LoraConfig(**{"task_type": kind, "target_modules": "all-linear"} | options))


def merge_lora(model: Any) -> PreTrainedModel:
    """Add the adapters to the weights and return the plain model; its pruned weights are no longer zero."""
    merged: PreTrainedModel = model.merge_and_unload()
    return merged

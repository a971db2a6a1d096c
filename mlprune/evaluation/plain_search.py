"""Search as it is named: a checkpoint's generation_config may ask for more, which changes what "greedy" means."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel

from mlprune.errors import NOT_FINITE, UserError
from mlprune.log import log

# what is left out, by its value that does nothing
NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
    "sequence_bias": None,
    "watermarking_config": None,
    "remove_invalid_values": False,
    "penalty_alpha": None,
    "dola_layers": None,
    "prompt_lookup_num_tokens": None,
    "num_return_sequences": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "constraints": None,
    "force_words_ids": None,
    "stop_strings": None,
    "max_time": None,
    "token_healing": False,
}
# tokens that the checkpoint never writes; BART's and Marian's figures are not theirs without
KEPT = ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens")
SAMPLING = {"do_sample": False, "top_k": None, "top_p": None, "temperature": None}

_TOLD: WeakKeyDictionary[PreTrainedModel, list[str]] = WeakKeyDictionary()


def plain_search(model: PreTrainedModel) -> dict[str, Any]:
    """Return arguments that make a model's ``generate`` plain greedy or beam search, and warn, once a model, of others.

    Penalties, lengths, biases and the like in its generation_config are left out. Tokens that it says are never to be
    written stay unwritten.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> model.generation_config.repetition_penalty = 1.3
        >>> plain_search(model)["repetition_penalty"]
        1.0
    """
    asked, known = model.generation_config, vars(GenerationConfig())  # type: ignore[no-untyped-call]
    neutral = {name: value for name, value in NEUTRAL.items() if name in known}
    left_out = [name for name, value in neutral.items() if getattr(asked, name, None) not in (None, value, known[name])]
    kept = [name for name in KEPT if getattr(asked, name, None)]
    told = [f"{name} {getattr(asked, name)}" for name in [*left_out, *kept]]
    if told and _TOLD.get(model) != told:
        _TOLD[model] = told
        _warn(type(model).__name__, told[: len(left_out)], told[len(left_out) :])
    return neutral | SAMPLING


def _warn(name: str, left_out: list[str], kept: list[str]) -> None:
    parts = [f"translations are searched for without {', '.join(left_out)}"] if left_out else []
    parts += [f"tokens are never written by {', '.join(kept)}"] if kept else []
    log.warning("generation_config of %s: %s", name, "; ".join(part[:300] for part in parts))


class RefuseNonFinite(LogitsProcessor):
    """Ends a search whose logits are NaN or infinite: its next token would mean nothing."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not torch.isfinite(scores.amax(-1)).all():  # a NaN or +Inf anywhere, or nothing but -Inf
            raise UserError(f"the model's logits are not finite; {NOT_FINITE}")
        return scores

"""Search as it is named: a checkpoint's generation_config may ask for more, which changes what "greedy" means."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel

from mlprune.errors import NOT_FINITE, UserError
from mlprune.log import log

ROLES = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
         "forced_eos_token_id")  # fmt: skip
UNWRITTEN = ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens")  # Marian would write its padding without
BEAMS = ("length_penalty", "early_stopping")
# what else would change a search; all of it is left out, and so is what only sampling reads
CHANGES = ("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
           "min_length", "min_new_tokens", "exponential_decay_length_penalty", "guidance_scale", "sequence_bias",
           "watermarking_config", "remove_invalid_values", "renormalize_logits", "penalty_alpha", "dola_layers",
           "prompt_lookup_num_tokens", "num_return_sequences", "num_beam_groups", "diversity_penalty", "constraints",
           "force_words_ids", "stop_strings", "max_time", "token_healing")  # fmt: skip
NEUTRAL_AT_1 = ("repetition_penalty", "encoder_repetition_penalty", "guidance_scale", "num_return_sequences",
                "num_beam_groups")  # fmt: skip

_TOLD: WeakKeyDictionary[PreTrainedModel, tuple[str, str]] = WeakKeyDictionary()


@contextmanager
def plain_search(model: PreTrainedModel, num_beams: int = 1) -> Iterator[None]:
    """While open, a model's ``generate`` is plain greedy or beam search; what its generation_config adds is warned of.

    Penalties, biases, shortest lengths and the like are left out. Tokens that are never to be written stay unwritten,
    and beam search keeps its length penalty.

    Args:
        model: The model; its generation_config is restored.
        num_beams: 1 for greedy search.

    Raises:
        UserError: If the generation_config is not valid.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> model.generation_config.repetition_penalty = 1.3
        >>> with plain_search(model):
        ...     print(model.generation_config.repetition_penalty)
        None
    """
    asked = model.generation_config
    _warn(model, asked)
    names = [*ROLES, *UNWRITTEN, *(BEAMS if num_beams > 1 else ())]
    kept = {name: getattr(asked, name) for name in names if getattr(asked, name, None) is not None}
    try:
        model.generation_config = GenerationConfig(**kept)
    except (TypeError, ValueError) as error:
        raise UserError(f"generation_config of {type(model).__name__} is not valid: {str(error)[:200]}") from error
    try:
        yield
    finally:
        model.generation_config = asked


def _warn(model: PreTrainedModel, asked: GenerationConfig) -> None:
    """Say once a model what is left out, and which tokens are not written."""
    parts = [
        [f"{name} {getattr(asked, name)}"[:200] for name in names if _does_something(name, getattr(asked, name, None))]
        for names in (CHANGES, UNWRITTEN)
    ]
    told = ", ".join(parts[0]), ", ".join(parts[1])
    if any(told) and _TOLD.get(model) != told:
        _TOLD[model] = told
        texts = [f"left out of the search: {told[0]}"] if told[0] else []
        texts += [f"tokens are never written: {told[1]}"] if told[1] else []
        log.warning("generation_config of %s: %s", type(model).__name__, "; ".join(texts))


def _does_something(name: str, value: object) -> bool:
    return value is not None and value is not False and value != (1 if name in NEUTRAL_AT_1 else 0)


class RefuseNonFinite(LogitsProcessor):
    """Ends a search whose logits are NaN or infinite: its next token would mean nothing."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not torch.isfinite(scores.amax(-1)).all():  # a NaN or +Inf anywhere, or nothing but -Inf
            raise UserError(f"the model's logits are not finite; {NOT_FINITE}")
        return scores

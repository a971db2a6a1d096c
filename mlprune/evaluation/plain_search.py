"""Plain greedy or beam search, whatever the checkpoint's generation_config would add."""

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
UNWRITTEN = (
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
)  # without these, Marian would generate padding
BEAMS = ("length_penalty", "early_stopping")
# other settings that change a search; they are dropped, as are those for sampling only
CHANGES = ("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
           "min_length", "min_new_tokens", "exponential_decay_length_penalty", "guidance_scale", "sequence_bias",
           "watermarking_config", "remove_invalid_values", "renormalize_logits", "penalty_alpha", "dola_layers",
           "prompt_lookup_num_tokens", "num_return_sequences", "num_beam_groups", "diversity_penalty", "constraints",
           "force_words_ids", "stop_strings", "max_time", "token_healing")  # fmt: skip
NEUTRAL_AT_1 = ("repetition_penalty", "encoder_repetition_penalty", "guidance_scale", "num_return_sequences",
                "num_beam_groups")  # fmt: skip

_WARNED: WeakKeyDictionary[PreTrainedModel, tuple[str, str]] = WeakKeyDictionary()


@contextmanager
def plain_search(model: PreTrainedModel, num_beams: int = 1) -> Iterator[None]:
    """Inside this context ``generate`` is plain greedy or beam search; settings that are dropped cause a warning.

    Penalties, biases, minimum lengths and the like are dropped. Suppressed tokens stay suppressed, and beam search
    keeps its length penalty.

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
    given = model.generation_config
    _warn(model, given)
    names = [*ROLES, *UNWRITTEN, *(BEAMS if num_beams > 1 else ())]
    kept = {name: getattr(given, name) for name in names if getattr(given, name, None) is not None}
    try:
        model.generation_config = GenerationConfig(**kept)
    except (TypeError, ValueError) as error:
        raise UserError(f"generation_config of {type(model).__name__} is not valid: {str(error)[:200]}") from error
    try:
        yield
    finally:
        model.generation_config = given


def _warn(model: PreTrainedModel, given: GenerationConfig) -> None:
    """Warn once per model about dropped settings and suppressed tokens."""
    parts = [
        [f"{name} {getattr(given, name)}"[:200] for name in names if _has_effect(name, getattr(given, name, None))]
        for names in (CHANGES, UNWRITTEN)
    ]
    dropped, suppressed = ", ".join(parts[0]), ", ".join(parts[1])
    if (dropped or suppressed) and _WARNED.get(model) != (dropped, suppressed):
        _WARNED[model] = (dropped, suppressed)
        texts = [f"left out of the search: {dropped}"] if dropped else []
        texts += [f"tokens are never written: {suppressed}"] if suppressed else []
        log.warning("generation_config of %s: %s", type(model).__name__, "; ".join(texts))


def _has_effect(name: str, value: object) -> bool:
    return value is not None and value is not False and value != (1 if name in NEUTRAL_AT_1 else 0)


class RefuseNonFinite(LogitsProcessor):
    """Ends a search whose logits are NaN or infinite: its next token would be meaningless."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not torch.isfinite(scores.amax(-1)).all():  # any NaN or +Inf, or only -Inf
            raise UserError(f"the model's logits are not finite; {NOT_FINITE}")
        return scores
